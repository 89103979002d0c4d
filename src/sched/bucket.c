/* bucket.c - a model's shapes: a hash table of buckets, of which the longest unused gives way to a new one. */
#include "sched/sched_int.h"

static uint32_t slot_of(const ps_sched_model *m, uint64_t shape) {
    return (uint32_t)((shape * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & m->table_mask;
}

ps_sched_bucket *ps_sched_bucket_find(const ps_sched_model *m, uint64_t shape) {
    ps_sched_bucket *b = m->table[slot_of(m, shape)];
    while (b && b->shape != shape)
        b = b->chain;
    return b;
}

static void free_bucket(ps_sched_model *m, ps_sched_bucket *b) {
    ps_alloc_state *alloc = m->sched->alloc;
    ps_sched_bucket **at = &m->table[slot_of(m, b->shape)];
    while (*at != b)
        at = &(*at)->chain;
    *at = b->chain;
    if (m->last == b) m->last = NULL;
    m->n_buckets--;
    ps_profile_clear(&b->profile, alloc);
    ps_free(alloc, b);
}

void ps_sched_bucket_free_all(ps_sched_model *m) {
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        while (m->table[i])
            free_bucket(m, m->table[i]);
    }
}

/* The one that was idle for longest; NULL: none is. */
static ps_sched_bucket *longest_idle(const ps_sched_model *m) {
    ps_sched_bucket *oldest = NULL;
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        for (ps_sched_bucket *b = m->table[i]; b; b = b->chain) {
            if (b->held == 0 && (!oldest || b->used_ns < oldest->used_ns)) oldest = b;
        }
    }
    return oldest;
}

/* Keeps to max_shapes, but for shapes that requests have: these are no more than a queue holds, and what runs. After a
 * time of many shapes two go for each that comes. */
static void forget_idle(ps_sched_model *m) {
    for (int i = 0; i < 2 && m->n_buckets >= m->max_shapes; i++) {
        ps_sched_bucket *idle = longest_idle(m);
        if (!idle) return;
        free_bucket(m, idle);
    }
}

static double ratio(uint64_t a, uint64_t b) {
    return a && b ? (double)a / (double)b : 1;
}

/* A new shape starts with what the shape nearest to it in work has learned. */
static void guess_profile(const ps_sched_model *m, ps_sched_bucket *b) {
    const ps_sched_bucket *near = NULL;
    double nearest = 0;
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        for (const ps_sched_bucket *o = m->table[i]; o; o = o->chain) {
            double off = ratio(o->work, b->work);
            if (off < 1) off = 1 / off;
            if (!o->profile.known || (near && off >= nearest)) continue;
            near = o;
            nearest = off;
        }
    }
    if (near) ps_profile_guess(&b->profile, &near->profile, ratio(b->work, near->work));
}

ps_sched_bucket *ps_sched_bucket_get(ps_sched_model *m, uint64_t shape, uint64_t work, int64_t now) {
    ps_alloc_state *alloc = m->sched->alloc;
    ps_sched_bucket *b = ps_sched_bucket_find(m, shape);
    if (b) {
        b->used_ns = now;
        return b;
    }
    forget_idle(m);
    b = ps_alloc_zero(alloc, sizeof *b);
    if (!b || !ps_profile_init(&b->profile, alloc, m->max_batch)) {
        ps_free(alloc, b);
        return NULL;
    }
    b->model = m;
    b->shape = shape;
    b->work = work;
    b->used_ns = now;
    ps_sched_queue_init(&b->queue, (uint32_t)(shape ^ shape >> 32));
    guess_profile(m, b);
    ps_sched_bucket **slot = &m->table[slot_of(m, shape)];
    b->chain = *slot;
    *slot = b;
    m->n_buckets++;
    return b;
}
