/* queue.h - the requests of one bucket, in the order in which they want to run: a skip list that knows positions.
 *
 * Order: class (rank), then order_ns, then arrival here (serial). Insertion, removal, position and "the k-th" take
 * O(log n) steps; taking k from the front O(k). The links are members of the request. */
#ifndef PS_SCHED_QUEUE_H
#define PS_SCHED_QUEUE_H

#include "sched/sched.h"

typedef struct ps_sched_queue {
    ps_sched_request *link[PS_SCHED_QUEUE_LEVELS]; /* of the place before the first */
    uint32_t width[PS_SCHED_QUEUE_LEVELS];         /* steps along the lowest level that a link spans */
    ps_sched_request *oldest, *newest;             /* by the time at which they came here */
    uint32_t count;
    uint64_t items;
    uint32_t random;
} ps_sched_queue;

void ps_sched_queue_init(ps_sched_queue *q, uint32_t seed);
void ps_sched_queue_insert(ps_sched_queue *q, ps_sched_request *r);
void ps_sched_queue_remove(ps_sched_queue *q, ps_sched_request *r);
/* Changes its place; its age stays. */
void ps_sched_queue_move(ps_sched_queue *q, ps_sched_request *r, int64_t order_ns);
/* How many are before it, in the queue or not. */
uint32_t ps_sched_queue_before(const ps_sched_queue *q, const ps_sched_request *r);
/* How many are before the first of that class whose order_ns is at least so much. */
uint32_t ps_sched_queue_before_order(const ps_sched_queue *q, uint32_t rank, int64_t order_ns);
/* position < count */
ps_sched_request *ps_sched_queue_at(const ps_sched_queue *q, uint32_t position);
/* Takes `n` requests from `position` on out, linked by `next`, NULL at the end. */
ps_sched_request *ps_sched_queue_take(ps_sched_queue *q, uint32_t position, uint32_t n);

#endif
