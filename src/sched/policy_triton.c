/* policy_triton.c - the rule of Triton Inference Server's dynamic batcher.
 *
 * The largest preferred size that the queue can fill runs at once; otherwise everything waits until the oldest request
 * has waited for knobs.delay_ns, and then runs. Without preferred sizes the largest batch is the one that is preferred.
 * What waited for longer than knobs.timeout_ns is dropped (timeout_action REJECT). */
#include "sched/sched_int.h"

static uint32_t preferred(const ps_sched_bucket *b, uint32_t items) {
    const ps_sched_knobs *k = b->model->knobs;
    uint32_t best = items >= b->model->max_batch ? b->model->max_batch : 0;
    for (int i = 0; i < PS_SCHED_MAX_PREFERRED && k->preferred[i]; i++) {
        if (k->preferred[i] <= items && k->preferred[i] <= b->model->max_batch) best = k->preferred[i];
    }
    return best;
}

static void ready(ps_sched *s, ps_sched_bucket *b, int64_t now, uint32_t *ret_items, int64_t *ret_until_ns) {
    const ps_sched_knobs *k = b->model->knobs;
    ps_sched_drop_waited(s, b, now, k->timeout_ns);
    if (b->queue.count == 0) return;
    *ret_items = preferred(b, b->queue.items);
    if (*ret_items) return;
    int64_t until = b->queue.oldest->arrival_ns + k->delay_ns;
    if (now >= until)
        *ret_items = b->model->max_batch;
    else
        *ret_until_ns = until;
}

static void choose(ps_sched *s, int64_t now, ps_sched_choice *ret) {
    ps_sched_choose_oldest(s, now, ready, ret);
}

const ps_sched_policy ps_sched_policy_triton = { "triton", false, NULL, choose, NULL };
