/* sched.c - schedulers, models, tenants: what lives longer than a request. */
#include "sched/sched.h"

#include <string.h>

#include "sched/sched_int.h"

enum { MAX_QUEUE = 4096, MAX_BATCH = 32, MAX_SHAPES = 256, TABLE = 64, LIMIT = 1 << 24 };

#define AGEING_NS INT64_C(10000000000)

static const ps_sched_policy *const policies[] = {
    &ps_sched_policy_deadline, &ps_sched_policy_fixed,  &ps_sched_policy_triton,
    &ps_sched_policy_aimd,     &ps_sched_policy_linear,
};

enum { POLICIES = sizeof policies / sizeof *policies };

const char *ps_sched_policy_name(size_t index) {
    return index < POLICIES ? policies[index]->name : NULL;
}

static ps_status find_policy(const char *name, const ps_sched_policy **ret, ps_error *err) {
    for (size_t i = 0; i < POLICIES; i++) {
        if (name && strcmp(name, policies[i]->name) != 0) continue;
        *ret = policies[i];
        return PS_OK;
    }
    char names[128] = "";
    for (size_t i = 0, used = 0; i < POLICIES; i++) {
        ps_snprintf(names + used, sizeof names - used, i ? ", %s" : "%s", policies[i]->name);
        used = strlen(names);
    }
    return PS_FAIL(err, NOT_FOUND, "there is no batching policy '%s': the policies are %s", name, names);
}

static ps_status check_knobs(const ps_sched_knobs *k, ps_error *err) {
    PS_FAIL_IF(k->batch > PS_PROFILE_MAX_BATCH, err, INVALID, "a batch size of %u is above the limit of %d", k->batch,
               PS_PROFILE_MAX_BATCH);
    PS_FAIL_IF(k->delay_ns < 0 || k->timeout_ns < 0, err, INVALID,
               "a delay or timeout of a batching policy is negative");
    for (int i = 1; i < PS_SCHED_MAX_PREFERRED && k->preferred[i]; i++)
        PS_FAIL_IF(k->preferred[i] <= k->preferred[i - 1], err, INVALID,
                   "preferred batch sizes must ascend, and %u follows %u", k->preferred[i], k->preferred[i - 1]);
    return PS_OK;
}

ps_status ps_sched_create(ps_alloc_state *alloc, const ps_sched_options *options, ps_sched **ret, ps_error *err) {
    const ps_sched_policy *policy;
    PS_TRY(find_policy(options->policy, &policy, err));
    PS_TRY(check_knobs(&options->knobs, err));
    PS_FAIL_IF(options->slots > PS_SCHED_MAX_SLOTS, err, INVALID, "%u batches at once are more than the limit of %d",
               options->slots, PS_SCHED_MAX_SLOTS);
    PS_FAIL_IF(options->max_queue > LIMIT, err, INVALID, "a queue of %u requests is above the limit of %d",
               options->max_queue, LIMIT);
    PS_FAIL_IF(options->ageing_ns < 0, err, INVALID, "the ageing bound is negative");
    ps_sched *s = ps_alloc_zero(alloc, sizeof *s);
    if (!s) return PS_FAIL_NOMEM(err, "a scheduler");
    s->alloc = alloc;
    s->policy = policy;
    s->slots = options->slots ? options->slots : 1;
    s->max_queue = options->max_queue ? options->max_queue : MAX_QUEUE;
    s->ageing_ns = options->ageing_ns ? options->ageing_ns : AGEING_NS;
    s->knobs = options->knobs;
    s->everyone.weight = 1;
    s->dropped_end = &s->dropped;
    *ret = s;
    return PS_OK;
}

static void free_model(ps_sched *s, ps_sched_model *m) {
    ps_sched_bucket_free_all(m);
    *m->at = m->next;
    if (m->next) m->next->at = m->at;
    ps_free(s->alloc, m->table);
    ps_free(s->alloc, m);
}

void ps_sched_free(ps_sched *s) {
    if (!s) return;
    while (s->models)
        free_model(s, s->models);
    while (s->tenants)
        ps_sched_remove_tenant(s, s->tenants);
    ps_free(s->alloc, s);
}

static bool is_weight(double w) {
    return w >= 1e-3 && w <= 1e3;
}

static ps_status check_model(const ps_sched_model_options *o, ps_error *err) {
    PS_FAIL_IF(o->max_batch > PS_PROFILE_MAX_BATCH, err, INVALID, "a largest batch of %u is above the limit of %d",
               o->max_batch, PS_PROFILE_MAX_BATCH);
    PS_FAIL_IF(o->max_queue > LIMIT || o->max_shapes > LIMIT, err, INVALID,
               "a limit of %u queued requests or %u shapes is above %d", o->max_queue, o->max_shapes, LIMIT);
    PS_FAIL_IF(o->weight != 0 && !is_weight(o->weight), err, INVALID,
               "a model's weight of %g is not between 0.001 and 1000", o->weight);
    PS_FAIL_IF(o->target_ns < 0, err, INVALID, "a model's latency target is negative");
    return check_knobs(&o->knobs, err);
}

ps_status ps_sched_add_model(ps_sched *s, const ps_sched_model_options *options, ps_sched_model **ret, ps_error *err) {
    static const ps_sched_knobs none;
    PS_TRY(check_model(options, err));
    ps_sched_model *m = ps_alloc_zero(s->alloc, sizeof *m);
    if (!m) return PS_FAIL_NOMEM(err, "a model's queue");
    m->table = ps_alloc_zero(s->alloc, TABLE * sizeof *m->table);
    if (!m->table) {
        ps_free(s->alloc, m);
        return PS_FAIL_NOMEM(err, "a model's queue");
    }
    m->table_mask = TABLE - 1;
    m->sched = s;
    m->max_batch = options->max_batch ? options->max_batch : MAX_BATCH;
    m->max_queue = options->max_queue ? options->max_queue : s->max_queue;
    m->max_shapes = options->max_shapes ? options->max_shapes : MAX_SHAPES;
    m->weight = options->weight != 0 ? options->weight : 1;
    m->target_ns = options->target_ns;
    m->own_knobs = options->knobs;
    m->knobs = memcmp(&options->knobs, &none, sizeof none) != 0 ? &m->own_knobs : &s->knobs;
    m->next = s->models;
    m->at = &s->models;
    if (m->next) m->next->at = &m->next;
    s->models = m;
    *ret = m;
    return PS_OK;
}

/* True: something was dropped. A drop may let the next request of a sequence into a queue that was empty already. */
static bool drop_all(ps_sched *s, ps_sched_model *m) {
    bool any = false;
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        for (ps_sched_bucket *b = m->table[i]; b; b = b->chain) {
            any = any || b->queue.oldest;
            while (b->queue.oldest)
                ps_sched_drop(s, b->queue.oldest, PS_SCHED_REMOVED);
        }
    }
    return any;
}

void ps_sched_remove_model(ps_sched *s, ps_sched_model *m) {
    while (drop_all(s, m)) {
    }
    if (m->paused) s->paused_models--;
    free_model(s, m);
}

ps_status ps_sched_add_tenant(ps_sched *s, double weight, ps_sched_tenant **ret, ps_error *err) {
    PS_FAIL_IF(!is_weight(weight), err, INVALID, "a tenant's weight of %g is not between 0.001 and 1000", weight);
    ps_sched_tenant *t = ps_alloc_zero(s->alloc, sizeof *t);
    if (!t) return PS_FAIL_NOMEM(err, "a tenant");
    t->weight = weight;
    t->next = s->tenants;
    t->at = &s->tenants;
    if (t->next) t->next->at = &t->next;
    s->tenants = t;
    *ret = t;
    return PS_OK;
}

void ps_sched_remove_tenant(ps_sched *s, ps_sched_tenant *t) {
    *t->at = t->next;
    if (t->next) t->next->at = t->at;
    ps_free(s->alloc, t);
}

void ps_sched_set_transit(ps_sched *s, int64_t transit_ns) {
    s->transit_ns = transit_ns > 0 ? transit_ns : 0;
}

static double stretch(const ps_sched *s) {
    return s->ran_ns > 0 ? 1 + s->turn_ns / s->ran_ns : 1;
}

void ps_sched_model_stats(const ps_sched_model *m, ps_sched_stats *ret) {
    *ret = m->stats;
    ret->queued = m->queued;
    ret->running = m->running;
    ret->weight = m->weight;
    ret->guard = m->guard;
    ret->stretch = stretch(m->sched);
    ret->transit_ns = m->sched->transit_ns;
    ret->error = m->last ? m->last->profile.error : 0;
    ret->target_ns = m->last ? ps_sched_target(m->last) : m->target_ns;
}

void ps_sched_predict(const ps_sched_model *m, uint64_t shape, uint32_t items, int64_t *ret_mean, int64_t *ret_high) {
    const ps_sched_bucket *b = ps_sched_bucket_find(m, shape);
    bool valid = b && items >= 1 && items <= m->max_batch;
    *ret_mean = valid ? ps_profile_mean(&b->profile, items) : 0;
    *ret_high = valid ? ps_profile_high(&b->profile, items) : 0;
}

ps_status ps_sched_seed(ps_sched *s, ps_sched_model *m, uint64_t shape, uint64_t work, uint32_t items, uint32_t samples,
                        int64_t mean_ns, int64_t deviation_ns, ps_error *err) {
    PS_FAIL_IF(items < 1 || items > m->max_batch || samples < 1 || mean_ns < 1 || deviation_ns < 0, err, INVALID,
               "%u samples of %lld ns for a batch of %u tell nothing about a model of largest batch %u", samples,
               (long long)mean_ns, items, m->max_batch);
    ps_sched_bucket *b = ps_sched_bucket_get(m, shape, work, 0);
    if (!b) return PS_FAIL_NOMEM(err, "a model's profile");
    ps_profile_seed(&b->profile, items, samples, (double)mean_ns, (double)deviation_ns);
    m->last = b;
    return PS_OK;
}
