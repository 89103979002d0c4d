/* policy_aimd.c - Clipper's batch size (NSDI 2017, section 4.3.1): one more after each full batch within the latency
 * objective, a tenth less after each that exceeded it. Batches start as soon as the device is free. */
#include "sched/sched_int.h"

static uint32_t limit_of(const ps_sched_model *m) {
    return m->memory.limit < 1 ? 1 : (uint32_t)m->memory.limit;
}

static void ready(ps_sched *s, ps_sched_bucket *b, int64_t now, uint32_t *ret_items, int64_t *ret_until_ns) {
    ps_sched_drop_waited(s, b, now, b->model->knobs->timeout_ns);
    *ret_items = limit_of(b->model);
}

static void choose(ps_sched *s, int64_t now, ps_sched_choice *ret) {
    ps_sched_choose_oldest(s, now, ready, ret);
}

static void learn(ps_sched *s, const ps_sched_batch *batch, int64_t measured_ns, int64_t now) {
    ps_sched_model *m = batch->model;
    double limit = limit_of(m);
    if (measured_ns > ps_sched_target(batch->bucket))
        m->memory.limit = limit * 0.9;
    else if (batch->items >= limit_of(m) && limit < m->max_batch)
        m->memory.limit = limit + 1;
}

const ps_sched_policy ps_sched_policy_aimd = { "aimd", false, NULL, choose, learn };
