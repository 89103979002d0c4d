/* policy_linear.c - BentoML's adaptive batching: time = slope * n + offset, by least squares over the last 50 batches,
 * again every 5 seconds.
 *
 * With a free device and a queue that is not full it waits in ticks of 1 ms while n * (age of the newest + tick +
 * slope) is at most 0.95 of the mean wait so far. The front is dropped while its age + slope * n + offset reaches the
 * target. */
#include "sched/sched_int.h"

#define TICK_NS INT64_C(1000000)
#define REFIT_NS INT64_C(5000000000)
#define DECAY 0.95
#define FIRST_WAIT_NS 1e7
enum { SKIPPED = 2 };

/* Before the first fit: a thirtieth of the target each, twice for the slope. */
static void estimate(const ps_sched_bucket *b, double *slope, double *offset, double *wait) {
    const ps_sched_memory *m = &b->model->memory;
    double target = (double)ps_sched_target(b);
    *slope = m->fitted_ns ? m->slope : target / 15;
    *offset = m->fitted_ns ? m->offset : target / 30;
    *wait = m->fitted_ns ? m->wait_ns : FIRST_WAIT_NS;
}

static void ready(ps_sched *s, ps_sched_bucket *b, int64_t now, uint32_t *ret_items, int64_t *ret_until_ns) {
    double slope, offset, wait, target = (double)ps_sched_target(b);
    const ps_sched_queue *q = &b->queue;
    ps_sched_drop_waited(s, b, now, 0);
    estimate(b, &slope, &offset, &wait);
    while (q->count > 1 && b->model->memory.fitted_ns && q->oldest->deadline_ns &&
           (double)(now - q->oldest->arrival_ns) + slope * (double)q->items + offset >= target)
        ps_sched_drop(s, q->oldest, PS_SCHED_TOO_LATE);
    if (q->count == 0) return;
    double newest = (double)(now - q->newest->arrival_ns);
    if (b->model->memory.fitted_ns && q->items < b->model->max_batch &&
        (double)q->items * (newest + (double)TICK_NS + slope) <= wait * DECAY)
        *ret_until_ns = now + TICK_NS;
    else
        *ret_items = b->model->max_batch;
}

static void choose(ps_sched *s, int64_t now, ps_sched_choice *ret) {
    ps_sched_choose_oldest(s, now, ready, ret);
}

static void fit(ps_sched_memory *m, int64_t now) {
    uint32_t n = m->n_recent < PS_SCHED_RECENT ? m->n_recent : PS_SCHED_RECENT;
    double x = 0, t = 0, xx = 0, xt = 0, wait = 0;
    for (uint32_t i = 0; i < n; i++) {
        double items = (double)m->recent[i].items, ns = (double)m->recent[i].ns;
        x += items;
        t += ns;
        xx += items * items;
        xt += items * ns;
        wait += (double)m->recent[i].wait_ns;
    }
    double spread = n * xx - x * x;
    m->slope = spread > 0 ? (n * xt - x * t) / spread : t / x; /* one size only: as if there were no offset */
    if (m->slope < 1) m->slope = 1;
    m->offset = (t - m->slope * x) / n;
    if (m->offset < 0) m->offset = 0;
    m->wait_ns = wait / n;
    m->fitted_ns = now > 0 ? now : 1;
}

static void learn(ps_sched *s, const ps_sched_batch *batch, int64_t measured_ns, int64_t now) {
    ps_sched_memory *m = &batch->model->memory;
    if (++m->seen <= SKIPPED) return;
    uint32_t at = m->n_recent++ % PS_SCHED_RECENT;
    m->recent[at].items = (float)batch->items;
    m->recent[at].ns = (float)measured_ns;
    m->recent[at].wait_ns = (float)(batch->start_ns - batch->first->arrival_ns);
    if (!m->fitted_ns ? m->n_recent >= 3 : now - m->fitted_ns >= REFIT_NS) fit(m, now);
}

const ps_sched_policy ps_sched_policy_linear = { "linear", false, NULL, choose, learn };
