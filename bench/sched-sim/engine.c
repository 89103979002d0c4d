/* engine.c - the event loop: arrivals, batches that end, times at which the scheduler wants to be asked again. */
#include <math.h>
#include <stdlib.h>

#include "sim.h"

#define FAST 2.0 /* mean length of a phase between slow ones, in those */

typedef struct slot {
    ps_sched_batch batch;
    int64_t end, ready; /* ready: for the next batch */
    double ns;
    bool busy;
} slot;

typedef struct run {
    const sim_model *models;
    int n_models;
    const sim_trace *trace;
    const sim_config *config;
    ps_alloc_state alloc;
    ps_sched *sched;
    ps_sched_model *model[SIM_MAX_MODELS];
    ps_sched_tenant *tenant[SIM_MAX_TENANTS];
    double unit[SIM_MAX_MODELS];
    ps_sched_request *requests; /* one for each arrival */
    slot slots[PS_SCHED_MAX_SLOTS];
    uint32_t n_slots;
    sim_random random, phases;
    bool slow;
    int64_t now, wake, phase_end;
    double *latency; /* ms, of the counted answers */
    size_t n_latency;
    sim_result *result;
} run;

static const sim_arrival *arrival_of(const run *r, const ps_sched_request *q) {
    return &r->trace->arrivals[q - r->requests];
}

static bool counts(const run *r, const sim_arrival *a) {
    return (double)a->ns >= r->config->warm_seconds * 1e9;
}

typedef enum outcome { OFFERED, GOOD, LATE, REFUSED, DROPPED } outcome;

static void add(sim_count *c, outcome what) {
    uint64_t *at[] = { &c->offered, &c->good, &c->late, &c->refused, &c->dropped };
    ++*at[what];
}

static void count(run *r, const sim_arrival *a, outcome what) {
    if (!counts(r, a)) return;
    add(&r->result->all, what);
    add(&r->result->model[a->model], what);
    add(&r->result->tenant[a->tenant], what);
    if (a->priority) add(&r->result->urgent, what);
    double value = r->unit[a->model] * r->models[a->model].weight;
    if (what == OFFERED) r->result->offered_ns += value;
    if (what == GOOD) r->result->good_ns += value;
}

static void take_dropped(run *r) {
    for (ps_sched_request *q = ps_sched_take_dropped(r->sched), *next; q; q = next) {
        next = q->next;
        count(r, arrival_of(r, q), DROPPED);
    }
}

static void arrive(run *r, size_t index) {
    const sim_arrival *a = &r->trace->arrivals[index];
    const sim_model *m = &r->models[a->model];
    ps_sched_request *q = &r->requests[index];
    q->arrival_ns = a->ns;
    q->deadline_ns = r->config->deadlines ? a->ns + (int64_t)m->target_ns : 0;
    q->items = 1;
    q->priority = a->priority;
    q->tenant = r->tenant[a->tenant];
    count(r, a, OFFERED);
    ps_sched_verdict v = ps_sched_admit(r->sched, r->model[a->model], q, r->now);
    if (v.reason != PS_SCHED_OK) count(r, a, REFUSED);
    take_dropped(r);
}

static void answer(run *r, slot *s) {
    ps_sched_complete(r->sched, &s->batch, (int64_t)s->ns, r->now);
    for (ps_sched_request *q = s->batch.first; q; q = q->next) {
        const sim_arrival *a = arrival_of(r, q);
        double ns = (double)(r->now - a->ns);
        count(r, a, ns <= r->models[a->model].target_ns ? GOOD : LATE);
        if (counts(r, a)) r->latency[r->n_latency++] = ns * 1e-6;
    }
    s->busy = false;
    s->ready = r->now + (int64_t)r->config->between_ns;
    take_dropped(r);
}

/* Phases depend on the seed and the time alone: all policies meet the same. */
static double pace(run *r) {
    if (!(r->config->slow > 1)) return 1;
    while (r->phase_end <= r->now) {
        r->slow = !r->slow;
        r->phase_end -= (int64_t)(log(sim_uniform(&r->phases)) * r->config->phase_ns * (r->slow ? 1 : FAST));
    }
    return r->slow ? r->config->slow : 1;
}

static double draw_time(run *r, const sim_model *m, uint32_t items) {
    double ns = sim_time_ns(m, items) * exp(m->noise * sim_normal(&r->random)) * pace(r);
    return m->spikes > 0 && sim_uniform(&r->random) < m->spikes ? ns * m->spike_factor : ns;
}

static const sim_model *model_of(const run *r, const ps_sched_batch *b) {
    for (int i = 0; i < r->n_models; i++) {
        if (r->model[i] == b->model) return &r->models[i];
    }
    return NULL;
}

static void start(run *r, slot *s) {
    s->busy = true;
    s->ns = draw_time(r, model_of(r, &s->batch), s->batch.items);
    s->end = r->now + (int64_t)s->ns;
    if ((double)r->now < r->config->warm_seconds * 1e9) return;
    r->result->batches++;
    r->result->mean_batch += s->batch.items;
    r->result->busy += s->ns * 1e-9;
    uint32_t bin = 0;
    while (s->batch.items > 1u << bin)
        bin++;
    r->result->sizes[bin]++;
}

static slot *free_slot(run *r) {
    for (uint32_t i = 0; i < r->n_slots; i++) {
        if (!r->slots[i].busy && r->slots[i].ready <= r->now) return &r->slots[i];
    }
    return NULL;
}

static int64_t next_ready(const run *r) {
    int64_t first = INT64_MAX;
    for (uint32_t i = 0; i < r->n_slots; i++) {
        const slot *s = &r->slots[i];
        if (!s->busy && s->ready > r->now && s->ready < first) first = s->ready;
    }
    return first;
}

static void dispatch(run *r) {
    r->wake = next_ready(r);
    for (slot *s; (s = free_slot(r)) != NULL;) {
        int64_t until = INT64_MAX;
        ps_sched_action action = ps_sched_next(r->sched, r->now, &s->batch, &until);
        take_dropped(r);
        if (action == PS_SCHED_RUN) {
            start(r, s);
            continue;
        }
        if (action != PS_SCHED_WAIT) return;
        if (until <= r->now) until = r->now + 1;
        if (until < r->wake) r->wake = until;
        return;
    }
}

/* The batch that ends first; NULL: none runs. */
static slot *first_end(run *r) {
    slot *first = NULL;
    for (uint32_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i].busy && (!first || r->slots[i].end < first->end)) first = &r->slots[i];
    }
    return first;
}

static void loop(run *r) {
    const sim_trace *t = r->trace;
    size_t i = 0;
    for (;;) {
        slot *ending = first_end(r);
        int64_t arrival = i < t->n ? t->arrivals[i].ns : INT64_MAX, end = ending ? ending->end : INT64_MAX;
        int64_t next = arrival < end ? arrival : end;
        if (r->wake < next) next = r->wake;
        if (next == INT64_MAX) break;
        r->now = next;
        if (next == end)
            answer(r, ending);
        else if (next == arrival)
            arrive(r, i++);
        dispatch(r);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(run *r) {
    sim_result *s = r->result;
    s->seconds = r->trace->seconds - r->config->warm_seconds;
    if (s->batches) s->mean_batch /= (double)s->batches;
    s->busy /= s->seconds * r->n_slots;
    if (!r->n_latency) return;
    qsort(r->latency, r->n_latency, sizeof *r->latency, by_value);
    s->p50_ms = r->latency[r->n_latency / 2];
    s->p99_ms = r->latency[(size_t)(0.99 * (double)(r->n_latency - 1))];
    for (size_t i = 0; i < r->n_latency; i++)
        s->mean_ms += r->latency[i] / (double)r->n_latency;
}

static ps_status set_up(run *r, ps_error *err) {
    const sim_config *c = r->config;
    ps_sched_options o = { .policy = c->policy, .slots = c->slots, .max_queue = c->max_queue };
    PS_TRY(ps_sched_create(&r->alloc, &o, &r->sched, err));
    for (int i = 0; i < r->n_models; i++) {
        const sim_model *m = &r->models[i];
        uint32_t most = c->max_batch && c->max_batch < m->max_batch ? c->max_batch : m->max_batch;
        ps_sched_model_options mo = {
            .max_batch = most, .weight = m->weight, .target_ns = (int64_t)m->target_ns, .knobs = c->knobs[i]
        };
        PS_TRY(ps_sched_add_model(r->sched, &mo, &r->model[i], err));
        r->unit[i] = sim_unit_ns(m, m->target_ns);
    }
    for (int i = 0; i < SIM_MAX_TENANTS; i++) {
        if (c->tenant_weight[i] > 0) PS_TRY(ps_sched_add_tenant(r->sched, c->tenant_weight[i], &r->tenant[i], err));
    }
    r->n_slots = c->slots ? c->slots : 1;
    r->requests = calloc(r->trace->n + 1, sizeof *r->requests);
    r->latency = calloc(r->trace->n + 1, sizeof *r->latency);
    if (!r->requests || !r->latency) return PS_FAIL_NOMEM(err, "a simulation");
    return PS_OK;
}

ps_status sim_run(const sim_model *models, int n_models, const sim_trace *t, const sim_config *config, sim_result *ret,
                  ps_error *err) {
    static const sim_result nothing;
    run *r = calloc(1, sizeof *r);
    if (!r) return PS_FAIL_NOMEM(err, "a simulation");
    *ret = nothing;
    *r = (run) { .models = models,
                 .n_models = n_models,
                 .trace = t,
                 .config = config,
                 .wake = INT64_MAX,
                 .random = { config->seed },
                 .phases = { config->seed + 1000 },
                 .slow = true, /* the first phase is the other one */
                 .result = ret };
    ps_alloc_state_init(&r->alloc, NULL);
    ps_status status = set_up(r, err);
    if (status == PS_OK) {
        loop(r);
        summarise(r);
    }
    ps_sched_free(r->sched);
    free(r->requests);
    free(r->latency);
    free(r);
    return status;
}
