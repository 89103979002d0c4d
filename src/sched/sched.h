/* sched.h - which requests run next, together, on a device: batches, deadlines, admission, fair shares.
 *
 * Pure: no clock, no threads, no lock, no I/O. Every call takes the time, which must not go backwards, and the caller
 * holds one lock of its own for a scheduler and everything in it. So the same code runs in the server and in virtual
 * time (bench/sched_sim.c). Memory is taken when a scheduler, a model, a tenant or a new shape appears, never for a
 * request: a ps_sched_request is part of the caller's own.
 *
 *     ps_sched_admit ─ refused ──────────────────────────────► the caller's again, at once
 *          └ queued ─ ps_sched_cancel ───────────────────────► the caller's again, at once
 *               ├ ps_sched_next: dropped ─► ps_sched_take_dropped: the caller's again
 *               └ ps_sched_next: in a batch ─► the caller runs it ─► ps_sched_complete: the caller's again
 *
 * A worker's loop, under the lock: ps_sched_next; RUN: unlock, run, lock, ps_sched_complete; WAIT: sleep until the time
 * given or until something changes; IDLE: sleep until something changes. After any call here but cancel there may be
 * dropped requests to answer. */
#ifndef PS_SCHED_SCHED_H
#define PS_SCHED_SCHED_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/str.h"
#include "sched/profile.h"

#define PS_SCHED_MAX_SLOTS 64    /* batches at once */
#define PS_SCHED_MAX_PREFERRED 8 /* preferred batch sizes of the policy 'triton' */
#define PS_SCHED_QUEUE_LEVELS 6  /* of the skip list: 4 to the power of it requests are found in few steps */
#define PS_SCHED_HISTOGRAM 12    /* batches of 1, 2, 3-4, 5-8, ... 1025-2048 items */

typedef struct ps_sched ps_sched;
typedef struct ps_sched_model ps_sched_model;
typedef struct ps_sched_tenant ps_sched_tenant;
typedef struct ps_sched_bucket ps_sched_bucket;
typedef struct ps_sched_policy ps_sched_policy;
typedef struct ps_sched_request ps_sched_request;

/* Of requests that must run one after the other. Embedded in the caller's object; zero-initialised; must live as long
 * as a request with it is here. */
typedef struct ps_sched_sequence {
    ps_sched_request *first, *last; /* wait for their turn */
    bool busy;                      /* one is queued or runs */
} ps_sched_sequence;

typedef enum ps_sched_state {
    PS_SCHED_OUTSIDE, /* the caller's */
    PS_SCHED_QUEUED,
    PS_SCHED_BEHIND, /* an earlier request of its sequence is still here */
    PS_SCHED_RUNNING,
    PS_SCHED_DROPPED, /* waits for ps_sched_take_dropped */
} ps_sched_state;

typedef enum ps_sched_reason {
    PS_SCHED_OK,
    PS_SCHED_FULL,       /* a queue is at its limit */
    PS_SCHED_TOO_LATE,   /* it could not end by its deadline */
    PS_SCHED_TIMEOUT,    /* it waited for longer than the policy's queue timeout */
    PS_SCHED_NOT_LOADED, /* its model did not load in time */
    PS_SCHED_REMOVED,    /* its model is being removed */
    PS_SCHED_NO_MEMORY,  /* for a new shape */
    PS_SCHED_CANCELLED,  /* ps_sched_cancel */
    PS_SCHED_REASONS
} ps_sched_reason;

struct ps_sched_request {
    /* The caller's, unchanged (but `items`, of which 65,536 count at most) from ps_sched_admit until it has it back. */
    int64_t arrival_ns;
    int64_t deadline_ns; /* the answer's latest time; 0: none, the model's target steers instead and refuses nothing */
    uint64_t shape;      /* only equal ones share a batch */
    uint64_t work;       /* any measure of an item's size, to guess the time of new shapes; 0: unknown */
    uint32_t priority;   /* 1 first, then 2 and so on; 0, for none, after all others */
    uint32_t items;      /* extent of its batch dimension, at least 1 */
    ps_sched_tenant *tenant;     /* NULL: the one that everybody without a tenant shares */
    ps_sched_sequence *sequence; /* NULL: none */

    /* The scheduler's; `next`, `reason` and `expected_ns` are for the caller to read. */
    ps_sched_request *next; /* of a batch, of dropped ones */
    ps_sched_reason reason; /* why it was dropped */
    ps_sched_state state;
    int64_t expected_ns; /* the answer's time as predicted at admission; 0: nothing was known */
    ps_sched_bucket *bucket;
    int64_t due_ns;   /* deadline, or arrival + target; before that what the answer needs on its way */
    int64_t order_ns; /* place in the queue within its class: due_ns, later for what exceeds its tenant's share */
    uint64_t serial;
    float cost;    /* device time it was counted with, ns */
    uint32_t rank; /* class: 0 first */
    uint8_t level;
    bool late; /* moved behind those that can still be in time */
    ps_sched_request *older, *newer;
    ps_sched_request *link[PS_SCHED_QUEUE_LEVELS];
    uint32_t width[PS_SCHED_QUEUE_LEVELS];
};

/* What to run. Lives with the worker, from ps_sched_next to ps_sched_complete. */
typedef struct ps_sched_batch {
    ps_sched_model *model;
    uint64_t shape;
    ps_sched_request *first; /* linked by `next`, in order of the queue */
    uint32_t requests;
    uint32_t items; /* the worker lowers it where fewer ran than were to */
    bool cut;       /* the worker's: the run was stopped at its deadline, and would have taken longer */
    int64_t start_ns, predicted_ns; /* how long it will take; 0: nothing was known */

    ps_sched_bucket *bucket; /* the scheduler's, like all below */
    struct ps_sched_batch *before, *after;
    int64_t charged_ns;
} ps_sched_batch;

typedef enum ps_sched_action {
    PS_SCHED_IDLE, /* nothing can start until something changes: an admission, a completion, a model that loaded */
    PS_SCHED_WAIT, /* or until the time given */
    PS_SCHED_RUN,
} ps_sched_action;

typedef struct ps_sched_verdict {
    ps_sched_reason reason; /* PS_SCHED_OK: it is queued */
    int64_t finish_ns;      /* predicted; 0: nothing is known */
    int64_t retry_after_ns; /* of a refusal: when the same request would have been taken, from now */
} ps_sched_verdict;

/* Knobs of the policies that have any; the default policy has none. 0 is the default of each. */
typedef struct ps_sched_knobs {
    uint32_t batch;                             /* fixed: the size */
    uint32_t preferred[PS_SCHED_MAX_PREFERRED]; /* triton: ascending, closed by 0 */
    int64_t delay_ns;                           /* fixed, triton: longest wait for a full batch */
    int64_t timeout_ns;                         /* fixed, triton: longest time in the queue */
} ps_sched_knobs;

typedef struct ps_sched_options {
    const char *policy; /* NULL: "deadline" */
    uint32_t slots;     /* batches that run at once; 0: 1 */
    uint32_t max_queue; /* requests here, over all models, those that run not counted; 0: 4096 */
    int64_t ageing_ns;  /* whoever waited for longer goes first, whatever its class; 0: 10 s */
    ps_sched_knobs knobs;
} ps_sched_options;

typedef struct ps_sched_model_options {
    uint32_t max_batch;   /* items; 0: 32. 1 for a model that cannot be batched */
    uint32_t max_queue;   /* requests; 0: the scheduler's */
    uint32_t max_shapes;  /* profiles kept; 0: 256 */
    double weight;        /* share of the device beside other models; 0: 1 */
    int64_t target_ns;    /* latency that batches are made for; 0: max(100 ms, twice the time of a batch of one) */
    ps_sched_knobs knobs; /* all zero: the scheduler's */
} ps_sched_model_options;

typedef struct ps_sched_stats {
    uint64_t admitted, completed, batches, items;
    uint64_t refused[PS_SCHED_REASONS], dropped[PS_SCHED_REASONS]; /* dropped: those that were cancelled too */
    uint64_t on_time, late;                                        /* of the completed: by deadline, or by target */
    uint64_t queue_ns; /* sum over those that ran, of the time until their batch started */
    uint64_t run_ns;   /* sum over batches */
    uint64_t sizes[PS_SCHED_HISTOGRAM];
    uint32_t queued, running; /* now; requests, batches */
    uint32_t deferred;        /* now: the caller's to fill in */
    double weight;            /* of ps_sched_model_options */
    double error;             /* mean of |measured - predicted| / predicted, of the shape used last */
    double guard;             /* share by which predictions are raised against misses */
    double stretch;           /* of the device: time per time of a run; above 1 by what passes between two runs */
    int64_t transit_ns;       /* of the device: ps_sched_set_transit */
    int64_t target_ns;        /* in force for the shape used last */
} ps_sched_stats;

/* PS_NOT_FOUND for an unknown policy, whose names the sentence lists; PS_INVALID for options out of range. */
ps_status ps_sched_create(ps_alloc_state *alloc, const ps_sched_options *options, ps_sched **ret, ps_error *err);
/* No request is here any more. NULL is allowed. */
void ps_sched_free(ps_sched *s);
/* NULL after the last one. */
const char *ps_sched_policy_name(size_t index);

ps_status ps_sched_add_model(ps_sched *s, const ps_sched_model_options *options, ps_sched_model **ret, ps_error *err);
/* All that the model has queued becomes dropped ones (PS_SCHED_REMOVED); no batch of it runs any more, and none starts.
 * The model is freed. */
void ps_sched_remove_model(ps_sched *s, ps_sched_model *m);
ps_status ps_sched_add_tenant(ps_sched *s, double weight, ps_sched_tenant **ret, ps_error *err);
void ps_sched_remove_tenant(ps_sched *s, ps_sched_tenant *t); /* no request of it is here */

/* The model loads: requests are taken and wait, and none is refused for its deadline. Those still here at give_up_ns
 * are dropped (PS_SCHED_NOT_LOADED). Waiting for the load counts against no target. */
void ps_sched_pause(ps_sched *s, ps_sched_model *m, int64_t give_up_ns);
void ps_sched_resume(ps_sched *s, ps_sched_model *m, int64_t now_ns);

/* How long requests and answers are on their way between the client and here, both ways together, as the caller
 * measures it; 0, as at first: no time. Requests that are admitted from now on are planned to end so much before they
 * are due, but at most an eighth of the time until a deadline that was sent, or a quarter of the target. */
void ps_sched_set_transit(ps_sched *s, int64_t transit_ns);

/* PS_SCHED_OK: queued. Anything else: refused, and still the caller's. */
ps_sched_verdict ps_sched_admit(ps_sched *s, ps_sched_model *m, ps_sched_request *r, int64_t now_ns);
/* True: ps_sched_admit would refuse it for its deadline, and this has been its refusal, with *ret. False: it is not
 * here, and has not been counted; ps_sched_admit may refuse it all the same. Either way others that cannot be in time
 * any more may have been dropped. For callers to whom a request that is queued costs more than one that is not. */
bool ps_sched_refuses(ps_sched *s, ps_sched_model *m, ps_sched_request *r, int64_t now_ns, ps_sched_verdict *ret);
/* For callers to whom a request that waits costs something, such as memory; of the shape that the model was asked for
 * last. `coming` requests are going to be here before the next one. ps_sched_defers: true: without a deadline, an item
 * that comes now would be answered late; it counts as part of the load. ps_sched_has_room: what waits takes less than
 * half of the target. Where nothing is known there is room. */
bool ps_sched_defers(ps_sched *s, ps_sched_model *m, uint32_t coming, int64_t now_ns);
bool ps_sched_has_room(const ps_sched *s, const ps_sched_model *m, uint32_t coming);
/* True: it left, and is the caller's. False: it runs, or it was dropped and waits to be taken. */
bool ps_sched_cancel(ps_sched *s, ps_sched_request *r);
/* RUN fills *batch; WAIT fills *ret_until_ns. */
ps_sched_action ps_sched_next(ps_sched *s, int64_t now_ns, ps_sched_batch *batch, int64_t *ret_until_ns);
/* The batch ended, well or not. measured_ns 0: it teaches nothing (it failed, or was no plain run). Of a batch that was
 * cut it is the time until then, which is charged to its model, and teaches if it goes on so. Its requests are
 * the caller's; they stay linked from `first`. */
void ps_sched_complete(ps_sched *s, ps_sched_batch *batch, int64_t measured_ns, int64_t now_ns);
/* Those that were dropped since the last call, linked by `next`, with `reason`; NULL: none. */
ps_sched_request *ps_sched_take_dropped(ps_sched *s);

void ps_sched_model_stats(const ps_sched_model *m, ps_sched_stats *ret);
/* Predicted for a batch of that many items: mean and what a deadline must leave. 0, 0: the shape is not known. */
void ps_sched_predict(const ps_sched_model *m, uint64_t shape, uint32_t items, int64_t *ret_mean, int64_t *ret_high);
/* What a warm-up at load measured, twice or more: counts as `samples` samples of that mean. */
ps_status ps_sched_seed(ps_sched *s, ps_sched_model *m, uint64_t shape, uint64_t work, uint32_t items, uint32_t samples,
                        int64_t mean_ns, int64_t deviation_ns, ps_error *err);

/* What the model's profiles measured, as text (profile_text.c has its grammar), for the caller to keep and to give back
 * after a restart. What was measured since stays; text that breaks a rule changes nothing: PS_FORMAT. */
void ps_sched_write_profiles(const ps_sched_model *m, ps_str *out);
ps_status ps_sched_read_profiles(ps_sched *s, ps_sched_model *m, const char *text, size_t size, ps_error *err);

#endif
