/* policy_fixed.c - batches of one size: knobs.batch, or less once the oldest request has waited for knobs.delay_ns. */
#include "sched/sched_int.h"

#define DEFAULT_DELAY_NS INT64_C(10000000)

static void ready(ps_sched *s, ps_sched_bucket *b, int64_t now, uint32_t *ret_items, int64_t *ret_until_ns) {
    const ps_sched_knobs *k = b->model->knobs;
    uint32_t size = k->batch && k->batch < b->model->max_batch ? k->batch : b->model->max_batch;
    ps_sched_drop_waited(s, b, now, k->timeout_ns);
    if (b->queue.count == 0) return;
    int64_t until = b->queue.oldest->arrival_ns + (k->delay_ns ? k->delay_ns : DEFAULT_DELAY_NS);
    if (b->queue.items >= size || now >= until)
        *ret_items = size;
    else
        *ret_until_ns = until;
}

static void choose(ps_sched *s, int64_t now, ps_sched_choice *ret) {
    ps_sched_choose_oldest(s, now, ready, ret);
}

const ps_sched_policy ps_sched_policy_fixed = { "fixed", false, NULL, choose, NULL };
