/* look.c - the buckets that a decision looks at, where more wait than it has time for. */
#include "sched/sched_int.h"

#define OLDEST (PS_SCHED_LOOK / 2)
#define MOST 256 /* that are gone through for urgent ones, after the oldest */

static int64_t due_of_front(const ps_sched_bucket *b) {
    const ps_sched_request *front = b->queue.link[0];
    return front->late ? PS_SCHED_NEVER : front->due_ns;
}

static bool is_more_urgent(const ps_sched_bucket *a, const ps_sched_bucket *b) {
    const uint32_t rank = a->queue.link[0]->rank, other = b->queue.link[0]->rank;
    if (a->model == b->model && rank != other) return rank < other;
    return due_of_front(a) < due_of_front(b);
}

/* The most urgent bucket of each model that has one behind `b`, that one included. Returns the models, linked. */
static ps_sched_model *find_urgent(ps_sched_bucket *b) {
    ps_sched_model *models = NULL;
    for (int i = 0; b && i < MOST; i++, b = b->next) {
        ps_sched_model *m = b->model;
        if (m->paused) continue;
        if (!m->urgent) {
            m->next_urgent = models;
            models = m;
        }
        if (!m->urgent || is_more_urgent(b, m->urgent)) m->urgent = b;
    }
    return models;
}

/* Into a list of n by urgency, which keeps at most `room`; returns how many there are then. */
static int insert(ps_sched_bucket **list, int n, int room, ps_sched_bucket *b) {
    int at = n;
    while (at > 0 && is_more_urgent(b, list[at - 1]))
        at--;
    if (at == room) return n;
    if (n == room) n--;
    for (int i = n; i > at; i--)
        list[i] = list[i - 1];
    list[at] = b;
    return n + 1;
}

int ps_sched_look(ps_sched *s, ps_sched_bucket **ret) {
    const int oldest = s->n_active > PS_SCHED_LOOK ? OLDEST : PS_SCHED_LOOK;
    ps_sched_bucket *b = s->active;
    int n = 0, urgent = 0;
    for (; b && n < oldest; b = b->next)
        if (!b->model->paused) ret[n++] = b;
    for (ps_sched_model *m = find_urgent(b), *next; m; m = next) {
        next = m->next_urgent;
        urgent = insert(ret + n, urgent, PS_SCHED_LOOK - n, m->urgent);
        m->urgent = NULL;
    }
    return n + urgent;
}
