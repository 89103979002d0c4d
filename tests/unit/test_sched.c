/* The scheduler in virtual time: what must hold on any trace with any policy, and each rule by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sched/sched.h"
#include "test_alloc_fail.h"

#define MS INT64_C(1000000)

static ps_alloc_state alloc;

static int setup(void **state) {
    ps_alloc_state_init(&alloc, NULL);
    return 0;
}

static int teardown(void **state) {
    return atomic_load(&alloc.bytes) != 0;
}

static ps_sched *create(const ps_sched_options *options) {
    ps_sched *s;
    ps_error err = PS_ERROR_INIT;
    if (ps_sched_create(&alloc, options, &s, &err) != PS_OK) fail_msg("%s", err.msg);
    return s;
}

static ps_sched_model *add_model(ps_sched *s, const ps_sched_model_options *options) {
    ps_sched_model *m;
    ps_error err = PS_ERROR_INIT;
    if (ps_sched_add_model(s, options, &m, &err) != PS_OK) fail_msg("%s", err.msg);
    return m;
}

/* Teaches 4 ms + 1 ms an item, so exactly that predictions have no doubt. */
static void teach(ps_sched *s, ps_sched_model *m, uint64_t shape) {
    for (uint32_t b = 1; b <= 32; b++)
        assert_int_equal(ps_sched_seed(s, m, shape, 1, b, 1000, (4 + b) * MS, 0, NULL), PS_OK);
}

/* ---- any trace, any policy ---- */

enum { REQUESTS = 3000, MODELS = 3, SEQUENCES = 6, SLOTS = 2, MAX_QUEUE = 200, MAX_SHAPES = 4 };

typedef enum where { NOWHERE, HERE, RUNS, DONE } where;

typedef struct item {
    ps_sched_request r; /* first */
    where at;
    int model, sequence; /* -1: none */
    uint32_t order;      /* within its sequence */
} item;

typedef struct world {
    ps_sched *s;
    ps_sched_model *m[MODELS];
    ps_sched_tenant *tenant[2];
    ps_sched_sequence sequence[SEQUENCES];
    uint32_t given[SEQUENCES], started[SEQUENCES]; /* order numbers */
    int running[SEQUENCES];
    ps_sched_batch batch[SLOTS];
    int64_t end[SLOTS]; /* 0: free */
    item *all;
    size_t n, here, answered, dropped, cancelled, refused;
    int64_t now;
    uint64_t random;
} world;

static const uint32_t max_batch[MODELS] = { 8, 32, 1 };

static uint32_t draw(world *w, uint32_t below) {
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w->random >> 33) % below;
}

static void took_dropped(world *w) {
    for (ps_sched_request *r = ps_sched_take_dropped(w->s), *next; r; r = next) {
        item *it = (item *)r;
        next = r->next;
        assert_int_equal(it->at, HERE); /* not lost, not answered before */
        if (r->reason == PS_SCHED_TOO_LATE) assert_true(r->deadline_ns != 0);
        assert_int_equal(r->state, PS_SCHED_OUTSIDE);
        it->at = DONE;
        w->here--;
        w->dropped++;
    }
}

static void admit_one(world *w) {
    item *it = &w->all[w->n++];
    it->model = (int)draw(w, MODELS);
    it->sequence = draw(w, 4) ? -1 : (int)(draw(w, SEQUENCES / MODELS) * MODELS) + it->model; /* of one model */
    it->r = (ps_sched_request) { .arrival_ns = w->now - (int64_t)draw(w, 100000),
                                 .deadline_ns = draw(w, 2) ? w->now + (int64_t)draw(w, 200) * MS - 10 * MS : 0,
                                 .shape = draw(w, 5),
                                 .work = draw(w, 100),
                                 .priority = draw(w, 3) ? 0 : draw(w, 4),
                                 .items = draw(w, 6) ? 1 : 1 + draw(w, 12),
                                 .tenant = draw(w, 3) ? w->tenant[draw(w, 2)] : NULL };
    if (it->sequence >= 0) {
        it->r.sequence = &w->sequence[it->sequence];
        it->order = ++w->given[it->sequence];
    }
    ps_sched_verdict v = ps_sched_admit(w->s, w->m[it->model], &it->r, w->now);
    if (v.reason == PS_SCHED_OK) {
        it->at = HERE;
        w->here++;
        took_dropped(w); /* it may have another's place */
        assert_true(w->here <= MAX_QUEUE);
        return;
    }
    it->at = DONE;
    w->refused++;
    if (v.reason == PS_SCHED_TOO_LATE)
        assert_true(it->r.deadline_ns != 0);
    else
        assert_true(v.reason == PS_SCHED_FULL && w->here >= MAX_QUEUE / 2);
}

static void cancel_one(world *w) {
    if (w->n == 0) return;
    item *it = &w->all[draw(w, 2) ? w->n - 1 - draw(w, w->n < 50 ? (uint32_t)w->n : 50) : draw(w, (uint32_t)w->n)];
    if (it->at == DONE || it->at == NOWHERE) return;
    bool left = ps_sched_cancel(w->s, &it->r);
    assert_int_equal(left, it->at == HERE);
    if (!left) return;
    it->at = DONE;
    w->here--;
    w->cancelled++;
}

static void start_one(world *w, int slot) {
    int64_t until;
    ps_sched_batch *b = &w->batch[slot];
    ps_sched_action action = ps_sched_next(w->s, w->now, b, &until);
    took_dropped(w);
    if (action != PS_SCHED_RUN) {
        if (action == PS_SCHED_WAIT) assert_true(until > w->now - 1);
        return;
    }
    uint32_t requests = 0, items = 0;
    int model = ((item *)b->first)->model;
    for (ps_sched_request *r = b->first; r; r = r->next) {
        item *it = (item *)r;
        assert_int_equal(it->at, HERE);
        assert_int_equal(it->model, model);
        assert_int_equal(r->shape, b->shape);
        it->at = RUNS;
        w->here--;
        requests++;
        items += r->items;
        if (it->sequence < 0) continue;
        assert_int_equal(w->running[it->sequence]++, 0);   /* one at a time, */
        assert_true(it->order > w->started[it->sequence]); /* in order */
        w->started[it->sequence] = it->order;
    }
    assert_ptr_equal(b->model, w->m[model]);
    assert_true(requests > 0);
    assert_int_equal(requests, b->requests);
    assert_int_equal(items, b->items);
    if (requests > 1) assert_true(items <= max_batch[model]);
    w->end[slot] = w->now + 1 + (int64_t)(2 + items) * MS / 2 * (90 + draw(w, 20)) / 100;
}

static void finish_one(world *w, int slot) {
    ps_sched_batch *b = &w->batch[slot];
    int64_t measured = draw(w, 10) ? w->end[slot] - b->start_ns : 0;
    w->now = w->end[slot];
    ps_sched_complete(w->s, b, measured, w->now);
    for (ps_sched_request *r = b->first; r; r = r->next) {
        item *it = (item *)r;
        assert_int_equal(it->at, RUNS);
        it->at = DONE;
        w->answered++;
        if (it->sequence >= 0) w->running[it->sequence]--;
    }
    w->end[slot] = 0;
    took_dropped(w);
}

/* The batch that ends next, or -1. */
static int first_end(const world *w) {
    int first = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (w->end[i] && (first < 0 || w->end[i] < w->end[first])) first = i;
    }
    return first;
}

static void step(world *w) {
    uint32_t what = draw(w, 100);
    if (what < 60 && w->n < REQUESTS) {
        w->now += draw(w, (uint32_t)(2 * MS));
        int ended = first_end(w);
        if (ended >= 0 && w->end[ended] < w->now) w->now = w->end[ended];
        admit_one(w);
    } else if (what < 65) {
        cancel_one(w);
    } else if (what < 66) {
        ps_sched_pause(w->s, w->m[draw(w, MODELS)], w->now + 50 * MS);
    } else if (what < 69) {
        ps_sched_resume(w->s, w->m[draw(w, MODELS)], w->now);
    } else if (first_end(w) >= 0) {
        finish_one(w, first_end(w));
    }
    for (int i = 0; i < SLOTS; i++) {
        if (!w->end[i]) start_one(w, i);
    }
    took_dropped(w);
}

/* Until nothing is left: what waits for a time gets it. */
static void drain(world *w) {
    for (int m = 0; m < MODELS; m++)
        ps_sched_resume(w->s, w->m[m], w->now);
    for (int tries = 0; w->here > 0 || first_end(w) >= 0; tries++) {
        assert_true(tries < 20 * REQUESTS);
        if (first_end(w) >= 0)
            finish_one(w, first_end(w));
        else
            w->now += MS;
        for (int i = 0; i < SLOTS; i++) {
            if (!w->end[i]) start_one(w, i);
        }
    }
}

static void check_stats(const world *w) {
    uint64_t admitted = 0, completed = 0, refused = 0, dropped = 0, cancelled = 0, items = 0, batches = 0, binned = 0;
    for (int m = 0; m < MODELS; m++) {
        ps_sched_stats stats;
        ps_sched_model_stats(w->m[m], &stats);
        admitted += stats.admitted;
        completed += stats.completed;
        items += stats.items;
        batches += stats.batches;
        for (int i = 0; i < PS_SCHED_REASONS; i++) {
            refused += stats.refused[i];
            *(i == PS_SCHED_CANCELLED ? &cancelled : &dropped) += stats.dropped[i];
        }
        for (int i = 0; i < PS_SCHED_HISTOGRAM; i++)
            binned += stats.sizes[i];
        assert_int_equal(stats.queued + stats.running, 0);
        assert_int_equal(stats.on_time + stats.late, stats.completed);
    }
    assert_int_equal(admitted + refused, w->n);
    assert_int_equal(completed, w->answered);
    assert_int_equal(dropped, w->dropped);
    assert_int_equal(cancelled, w->cancelled);
    assert_int_equal(refused, w->refused);
    assert_int_equal(completed + dropped + cancelled, admitted);
    assert_int_equal(binned, batches);
    assert_true(items >= completed);
}

static void run_world(const char *policy, uint64_t seed) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->all = calloc(REQUESTS, sizeof *w->all);
    assert_non_null(w->all);
    w->random = seed;
    w->now = 1000 * MS;
    ps_sched_options o = { .policy = policy, .slots = SLOTS, .max_queue = MAX_QUEUE, .ageing_ns = 300 * MS };
    o.knobs = (ps_sched_knobs) { .batch = 4, .preferred = { 2, 4 }, .delay_ns = 3 * MS, .timeout_ns = 400 * MS };
    w->s = create(&o);
    for (int m = 0; m < MODELS; m++) {
        ps_sched_model_options mo = { .max_batch = max_batch[m],
                                      .weight = m + 1,
                                      .max_shapes = MAX_SHAPES,
                                      .max_queue = m == 1 ? MAX_QUEUE / 2 : 0 };
        w->m[m] = add_model(w->s, &mo);
    }
    for (int t = 0; t < 2; t++)
        assert_int_equal(ps_sched_add_tenant(w->s, t + 1, &w->tenant[t], NULL), PS_OK);
    while (w->n < REQUESTS)
        step(w);
    drain(w);
    for (size_t i = 0; i < w->n; i++)
        assert_int_equal(w->all[i].at, DONE);
    check_stats(w);
    assert_true(w->answered > REQUESTS / 4);
    ps_sched_free(w->s);
    free(w->all);
    free(w);
}

static void test_any_trace(void **state) {
    const char *policy;
    for (size_t i = 0; (policy = ps_sched_policy_name(i)) != NULL; i++) {
        for (uint64_t seed = 1; seed <= 12; seed++)
            run_world(policy, seed * 7919 + i);
    }
}

/* ---- one rule at a time ---- */

typedef struct fixture {
    ps_sched *s;
    ps_sched_model *m;
    ps_sched_batch batch;
    int64_t until;
} fixture;

static fixture start(const char *policy, const ps_sched_model_options *model) {
    static const ps_sched_model_options plain = { .target_ns = 100 * MS };
    ps_sched_options o = { .policy = policy };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, model ? model : &plain);
    teach(f.s, f.m, 0);
    return f;
}

static ps_sched_request request(int64_t arrival, int64_t deadline) {
    return (ps_sched_request) { .arrival_ns = arrival, .deadline_ns = deadline, .items = 1 };
}

static void admit_ok(fixture *f, ps_sched_request *r) {
    assert_int_equal(ps_sched_admit(f->s, f->m, r, r->arrival_ns).reason, PS_SCHED_OK);
}

static void run_for(fixture *f, int64_t now, int64_t ns) {
    ps_sched_complete(f->s, &f->batch, ns, now + ns);
}

/* Nothing is waited for: an idle device takes what is there. */
static void test_idle_device_runs_at_once(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request r = request(5 * MS, 0);
    assert_int_equal(ps_sched_next(f.s, 5 * MS, &f.batch, &f.until), PS_SCHED_IDLE);
    admit_ok(&f, &r);
    assert_int_equal(ps_sched_next(f.s, 5 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 1);
    assert_int_equal(f.batch.predicted_ns, 5 * MS);
    ps_sched_request other = request(6 * MS, 0);
    admit_ok(&f, &other);
    assert_int_equal(ps_sched_next(f.s, 6 * MS, &(ps_sched_batch) { 0 }, &f.until), PS_SCHED_IDLE); /* one slot */
    run_for(&f, 5 * MS, 5 * MS);
    assert_int_equal(ps_sched_next(f.s, 10 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_ptr_equal(f.batch.first, &other);
    run_for(&f, 10 * MS, 5 * MS);
    ps_sched_free(f.s);
}

/* L(b) = 4 + b ms: with 12 ms left eight run, and the earliest deadlines are among them. */
static void test_largest_batch_in_time(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request r[20];
    int64_t now = 50 * MS;
    for (int i = 0; i < 20; i++) {
        r[i] = request(now, i == 13 ? now + 12 * MS + 1000 : now + (100 - i) * MS);
        admit_ok(&f, &r[i]);
    }
    assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 8);
    assert_ptr_equal(f.batch.first, &r[13]);
    for (int i = 0; i < 7; i++)
        assert_int_equal(r[19 - i].state, PS_SCHED_RUNNING);
    run_for(&f, now, 12 * MS);
    assert_int_equal(ps_sched_next(f.s, now + 12 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 12);
    run_for(&f, now + 12 * MS, 16 * MS);
    ps_sched_free(f.s);
}

/* A batch that has to start soonest, but takes so long that another model's requests would all be late behind it, waits
 * for theirs, which is short: then both are in time. */
static void test_short_batch_before_long(void **state) {
    static const ps_sched_model_options quick = { .target_ns = 15 * MS };
    fixture f = start(NULL, NULL);
    ps_sched_model *slow = f.m, *short_target = add_model(f.s, &quick);
    ps_sched_request r[20], q[30];
    int64_t now = 50 * MS;
    for (uint32_t b = 1; b <= 32; b++)
        assert_int_equal(ps_sched_seed(f.s, short_target, 0, 1, b, 1000, MS + b * 10000, 0, NULL), PS_OK);
    for (int i = 0; i < 20; i++) { /* 24 ms: to start within 2 ms */
        r[i] = request(now, now + 26 * MS);
        admit_ok(&f, &r[i]);
    }
    f.m = short_target;
    for (int i = 0; i < 30; i++) { /* 1.3 ms: to start within 13.7 ms */
        q[i] = request(now, now + 15 * MS);
        admit_ok(&f, &q[i]);
    }
    assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
    assert_ptr_equal(f.batch.model, short_target);
    assert_int_equal(f.batch.requests, 30);
    run_for(&f, now, 13 * MS / 10);
    assert_int_equal(ps_sched_next(f.s, now + 13 * MS / 10, &f.batch, &f.until), PS_SCHED_RUN);
    assert_ptr_equal(f.batch.model, slow);
    assert_int_equal(f.batch.requests, 20);
    run_for(&f, now + 13 * MS / 10, 24 * MS);
    ps_sched_free(f.s);
}

static void test_priority_before_deadline(void **state) {
    ps_sched_model_options one = { .max_batch = 1, .target_ns = 500 * MS };
    ps_sched_options o = { 0 };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &one);
    static const uint32_t priority[] = { 0, 2, 1, 3, 1, 0 };
    static const int expected[] = { 2, 4, 1, 3, 0, 5 };
    ps_sched_request r[6];
    for (int i = 0; i < 6; i++) {
        r[i] = request(MS + i, 0);
        r[i].priority = priority[i];
        admit_ok(&f, &r[i]);
    }
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ps_sched_next(f.s, (2 + i) * MS, &f.batch, &f.until), PS_SCHED_RUN);
        assert_ptr_equal(f.batch.first, &r[expected[i]]);
        run_for(&f, (2 + i) * MS, MS / 2);
    }
    ps_sched_free(f.s);
}

/* Behind a queue of known length the predicted end is known; only a deadline makes it a reason. */
static void test_admission(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request r[64], late, no_deadline, passed;
    int64_t now = 10 * MS;
    for (int i = 0; i < 64; i++) {
        r[i] = request(now, now + 1000 * MS);
        admit_ok(&f, &r[i]);
    }
    /* two full batches of 36 ms, and itself: 5 ms */
    late = request(now, now + 60 * MS);
    late.priority = 0;
    late.deadline_ns = now + 1001 * MS;
    ps_sched_verdict v = ps_sched_admit(f.s, f.m, &late, now);
    assert_int_equal(v.reason, PS_SCHED_OK);
    assert_true(v.finish_ns >= now + 77 * MS && v.finish_ns < now + 110 * MS);
    assert_true(ps_sched_cancel(f.s, &late));
    for (int i = 0; i < 64; i++)
        assert_true(ps_sched_cancel(f.s, &r[i]));
    for (int i = 0; i < 64; i++) {
        r[i] = request(now, now + 100 * MS);
        r[i].priority = 1;
        assert_int_equal(ps_sched_admit(f.s, f.m, &r[i], now).reason, PS_SCHED_OK);
    }
    late.deadline_ns = now + 60 * MS; /* before the two batches end */
    v = ps_sched_admit(f.s, f.m, &late, now);
    assert_int_equal(v.reason, PS_SCHED_TOO_LATE);
    assert_true(v.retry_after_ns > 10 * MS && v.retry_after_ns < 60 * MS);
    no_deadline = request(now, 0);
    assert_int_equal(ps_sched_admit(f.s, f.m, &no_deadline, now).reason, PS_SCHED_OK);
    passed = request(now - 5 * MS, now - MS);
    assert_int_equal(ps_sched_admit(f.s, f.m, &passed, now).reason, PS_SCHED_TOO_LATE);
    for (int i = 0; i < 64; i++)
        assert_true(ps_sched_cancel(f.s, &r[i]));
    assert_true(ps_sched_cancel(f.s, &no_deadline));
    ps_sched_free(f.s);
}

/* A question beforehand refuses what admission would, once, and leaves everything else as it is. */
static void test_refusal_beforehand(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_stats before, after;
    ps_sched_request r[64], soft = request(0, 0);
    ps_sched_verdict v = { .reason = PS_SCHED_OK };
    const int64_t now = 10 * MS;
    for (int i = 0; i < 64; i++) {
        r[i] = request(now, now + 100 * MS);
        r[i].priority = 1;
        assert_false(ps_sched_refuses(f.s, f.m, &r[i], now, &v));
        admit_ok(&f, &r[i]);
    }
    ps_sched_model_stats(f.m, &before);
    assert_int_equal(before.admitted, 64);
    ps_sched_request late = request(now, now + 60 * MS), passed = request(now - 5 * MS, now - MS);
    assert_false(ps_sched_refuses(f.s, f.m, &soft, now, &v));
    assert_int_equal(v.reason, PS_SCHED_OK);
    assert_true(ps_sched_refuses(f.s, f.m, &late, now, &v));
    assert_int_equal(v.reason, PS_SCHED_TOO_LATE);
    ps_sched_verdict same = ps_sched_admit(f.s, f.m, &late, now);
    assert_int_equal(same.reason, PS_SCHED_TOO_LATE);
    /* The first one counts as load by then: the second is told a little more. */
    assert_in_range(v.retry_after_ns, 10 * MS, 60 * MS);
    assert_in_range(same.retry_after_ns, v.retry_after_ns, 60 * MS);
    assert_true(ps_sched_refuses(f.s, f.m, &passed, now, &v));
    assert_int_equal(v.reason, PS_SCHED_TOO_LATE);
    ps_sched_model_stats(f.m, &after);
    assert_int_equal(after.refused[PS_SCHED_TOO_LATE] - before.refused[PS_SCHED_TOO_LATE], 3);
    assert_int_equal(after.admitted, 64);
    assert_int_equal(after.queued, 64);
    for (int i = 0; i < 64; i++)
        assert_true(ps_sched_cancel(f.s, &r[i]));
    ps_sched_free(f.s);
}

/* A full batch of 32 takes 36 ms, each that waits 1.125: with 56 before it a newcomer is done after 99. */
static void test_deferred(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request r[60];
    uint32_t n = 0, room = 0;
    for (; n < 60 && !ps_sched_defers(f.s, f.m, 0, 0); n++) {
        r[n] = request(0, 0);
        admit_ok(&f, &r[n]);
        room += ps_sched_has_room(f.s, f.m, 0);
    }
    assert_int_equal(n, 57);
    assert_int_equal(room, 44); /* 49.5 of 100 ms */
    assert_true(ps_sched_cancel(f.s, &r[--n]));
    assert_false(ps_sched_defers(f.s, f.m, 0, 0));
    assert_true(ps_sched_defers(f.s, f.m, 1, 0)); /* who is on its way is before it, too */
    while (n > 43)
        assert_true(ps_sched_cancel(f.s, &r[--n]));
    assert_true(ps_sched_has_room(f.s, f.m, 1));
    assert_false(ps_sched_has_room(f.s, f.m, 2));
    ps_sched_pause(f.s, f.m, 1000 * MS); /* who waits for a load is read meanwhile */
    assert_false(ps_sched_defers(f.s, f.m, 60, 0));
    assert_true(ps_sched_has_room(f.s, f.m, 60));
    while (n > 0)
        assert_true(ps_sched_cancel(f.s, &r[--n]));
    ps_sched_free(f.s);
}

/* Those that are late are answered behind it; what is not known yet, or is not predicted, is a reason for nothing. */
static void test_not_deferred(void **state) {
    fixture f = start(NULL, NULL), triton = start("triton", NULL);
    ps_sched_request r[57];
    for (int i = 0; i < 57; i++) {
        r[i] = request(0, 0);
        admit_ok(&f, &r[i]);
    }
    assert_true(ps_sched_defers(f.s, f.m, 0, 0));
    assert_int_equal(ps_sched_next(f.s, 99 * MS, &f.batch, &f.until), PS_SCHED_RUN); /* all others are late now */
    run_for(&f, 99 * MS, 4 * MS + f.batch.requests * MS);
    assert_false(ps_sched_defers(f.s, f.m, 0, 140 * MS));
    assert_false(ps_sched_has_room(f.s, f.m, 30)); /* but there are enough of them */
    assert_false(ps_sched_defers(triton.s, triton.m, 1000, 0));
    ps_sched_model *new_model = add_model(f.s, &(ps_sched_model_options) { .target_ns = 100 * MS });
    assert_false(ps_sched_defers(f.s, new_model, 1000, 140 * MS));
    assert_true(ps_sched_has_room(f.s, new_model, 1000));
    for (int i = 0; i < 57; i++)
        (void)ps_sched_cancel(f.s, &r[i]);
    ps_sched_free(f.s);
    ps_sched_free(triton.s);
}

/* A request each `gap_ns`, which has 110 ms and may say so. A batch of b takes base_ns + b * each_ns, `slower` times as
 * long in two of five fifths of a second, by turns. Times are not scattered: what is seen is the policy's doing. */
typedef struct stream {
    int64_t gap_ns, base_ns, each_ns;
    double slower;
    bool say;
} stream;

typedef struct tally {
    uint32_t offered, refused, dropped, in_time, late, batches, tight; /* tight: batches without a sixth of their run */
} tally;

static void admit_until(fixture *f, const stream *s, tally *t, int64_t *arrival, int64_t until) {
    enum { KEPT = 8192 };
    static ps_sched_request r[KEPT];
    for (; *arrival <= until; *arrival += s->gap_ns, t->offered++) {
        ps_sched_request *next = &r[t->offered % KEPT];
        assert_int_equal(next->state, PS_SCHED_OUTSIDE);
        *next = request(*arrival, s->say ? *arrival + 110 * MS : 0);
        t->refused += ps_sched_admit(f->s, f->m, next, *arrival).reason != PS_SCHED_OK;
    }
}

static tally flood(fixture *f, const stream *s, int64_t now, int64_t end) {
    int64_t arrival = now;
    tally t = { 0 };
    while (now < end) {
        admit_until(f, s, &t, &arrival, now);
        if (ps_sched_next(f->s, now, &f->batch, &f->until) != PS_SCHED_RUN) {
            now = arrival;
            continue;
        }
        double pace = now / (200 * MS) % 5 % 2 ? s->slower : 1;
        int64_t run = (int64_t)(pace * (double)(s->base_ns + f->batch.items * s->each_ns));
        t.batches++;
        t.tight += f->batch.first->arrival_ns + 110 * MS < now + run + run / 6;
        admit_until(f, s, &t, &arrival, now + run);
        for (const ps_sched_request *r = f->batch.first; r; r = r->next)
            *(r->arrival_ns + 110 * MS < now + run ? &t.late : &t.in_time) += 1;
        run_for(f, now, run);
        now += run;
        for (const ps_sched_request *r = ps_sched_take_dropped(f->s); r; r = r->next)
            t.dropped++;
    }
    return t;
}

/* Twice as many as can be answered: batches are full and begin with time to spare, so that few are late when the
 * machine becomes slower. Who is left out for that is mostly refused at once. */
static void test_spare(void **state) {
    static const ps_sched_model_options model = { .target_ns = 110 * MS, .max_batch = 32 };
    stream twice = { MS * 9 / 16, 4 * MS, MS, 1, true };
    fixture f = start(NULL, &model);
    flood(&f, &twice, MS, 1000 * MS);
    tally t = flood(&f, &twice, 1200 * MS, 4200 * MS);
    assert_true(t.in_time >= 31 * t.batches && t.late == 0 && t.tight == 0);
    assert_true(t.refused > 3 * t.dropped);
    twice.slower = 1.35;
    t = flood(&f, &twice, 6000 * MS, 9000 * MS);
    assert_true(t.in_time >= 2300); /* of 2347 that full batches hold; 2253 by due times alone, 149 late */
    assert_true(t.late <= 75);
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
}

/* While the device is full, who comes with time is not refused for the sake of those that a full batch will leave
 * out. */
static void test_left_out_are_not_before(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request tight[32], lost, later = request(MS, 71 * MS);
    for (int i = 0; i < 32; i++) { /* a batch of them takes 36 ms, and a fifth of it is not left */
        tight[i] = request(MS, 41 * MS);
        admit_ok(&f, &tight[i]);
    }
    for (int i = 0; i < 300; i++) {
        lost = request(MS, 2 * MS);
        assert_int_equal(ps_sched_admit(f.s, f.m, &lost, MS).reason, PS_SCHED_TOO_LATE);
    }
    admit_ok(&f, &later);
    ps_sched_request no_more = request(MS, 36 * MS); /* a full batch takes longer */
    assert_int_equal(ps_sched_admit(f.s, f.m, &no_more, MS).reason, PS_SCHED_TOO_LATE);
    assert_true(ps_sched_cancel(f.s, &later));
    for (int i = 0; i < 32; i++)
        assert_true(ps_sched_cancel(f.s, &tight[i]));
    ps_sched_free(f.s);
}

/* A larger batch than any before would be tried, but of the requests that wait none has the time. They are fewer than
 * their items. */
static void test_nothing_to_try(void **state) {
    ps_sched_options o = { 0 };
    ps_sched_model_options model = { .target_ns = 100 * MS };
    fixture f = { .s = create(&o) };
    ps_sched_request lost[20], r[2];
    f.m = add_model(f.s, &model);
    assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, 9, 1000, 20 * MS, 0, NULL), PS_OK);
    for (int i = 0; i < 2; i++) {
        r[i] = request(MS, 101 * MS);
        r[i].items = 9;
        admit_ok(&f, &r[i]);
    }
    for (int i = 0; i < 20; i++) { /* so many are lost that device time has its full price */
        lost[i] = request(70 * MS, 75 * MS);
        lost[i].items = 9;
        assert_int_equal(ps_sched_admit(f.s, f.m, &lost[i], 70 * MS).reason, PS_SCHED_TOO_LATE);
    }
    assert_int_equal(ps_sched_next(f.s, 76 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.items, 9);
    run_for(&f, 76 * MS, 20 * MS);
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
}

/* A server starts under load that says nothing, while the machine is slow: larger batches are tried though every front
 * is tight. It stayed with batches of one before, and answered a tenth of what it can. */
static void test_start_under_load(void **state) {
    static const ps_sched_model_options model = { .target_ns = 100 * MS, .max_batch = 32 };
    static const stream full = { MS * 5 / 4, 12 * MS, MS * 9 / 10, 1.35, false };
    for (int64_t from = 170 * MS; from < 210 * MS; from += 2 * MS) {
        ps_sched_options o = { 0 };
        fixture f = { .s = create(&o) };
        f.m = add_model(f.s, &model);
        tally t = flood(&f, &full, from, 4200 * MS);
        assert_true(t.in_time >= 0.8 * t.offered);
        ps_sched_remove_model(f.s, f.m);
        ps_sched_take_dropped(f.s);
        ps_sched_free(f.s);
    }
}

/* Of requests that come every 100 ms for `seconds`, each with 100 ms of time, how many run to their end if a run takes
 * so long; it is stopped at the deadline, as the server does. */
static int answered_in_time(fixture *f, int64_t *now, int seconds, int64_t run_ns) {
    int n = 0;
    for (int i = 0; i < seconds * 10; i++, *now += 100 * MS) {
        ps_sched_request r = request(*now, *now + 100 * MS);
        if (ps_sched_admit(f->s, f->m, &r, *now).reason != PS_SCHED_OK) continue;
        if (ps_sched_next(f->s, *now, &f->batch, &f->until) != PS_SCHED_RUN) {
            assert_null(ps_sched_take_dropped(f->s)->next);
            continue;
        }
        const bool whole = run_ns <= 100 * MS;
        f->batch.cut = !whole;
        run_for(f, *now, whole ? run_ns : 100 * MS);
        n += whole;
    }
    return n;
}

/* While another program has the machine, runs take half a second, and what has a deadline is refused. Once it is gone,
 * somebody has to find out; as long as it is not, trying costs one request a second. */
static void test_past_times_are_tried_again(void **state) {
    static const ps_sched_model_options alone = { .target_ns = 100 * MS, .max_batch = 1 };
    ps_sched_options o = { .policy = NULL };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &alone);
    ps_sched_stats before, after;
    int64_t now = 10 * MS;
    for (int i = 0; i < 40; i++, now += 500 * MS) {
        ps_sched_request slow = request(now, 0);
        admit_ok(&f, &slow);
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        run_for(&f, now, 500 * MS);
    }
    ps_sched_model_stats(f.m, &before);
    assert_int_equal(answered_in_time(&f, &now, 20, 500 * MS), 0);
    ps_sched_model_stats(f.m, &after);
    assert_in_range(after.admitted - before.admitted, 17, 20);
    assert_in_range(answered_in_time(&f, &now, 20, 5 * MS), 120, 200);
    assert_int_equal(answered_in_time(&f, &now, 20, 5 * MS), 200);
    ps_sched_free(f.s);
}

/* Runs that are stopped at their deadlines tell how long they take at least, whether nothing was known before or less:
 * then nobody is let in to be stopped as well, but one a second. They are charged, too: another model gets its half. */
static void test_stopped_runs_count(void **state) {
    static const ps_sched_model_options alone = { .target_ns = 100 * MS, .max_batch = 1 };
    for (int known = 0; known < 2; known++) {
        ps_sched_options o = { .policy = NULL };
        fixture f = { .s = create(&o) };
        f.m = add_model(f.s, &alone);
        ps_sched_stats stats;
        int64_t now = 10 * MS;
        if (known) assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, 1, 1000, 20 * MS, 0, NULL), PS_OK);
        assert_int_equal(answered_in_time(&f, &now, 3, 200 * MS), 0);
        ps_sched_model_stats(f.m, &stats);
        assert_in_range(stats.admitted, 1, 13); /* three in a row, five to be believed; one a second */
        assert_true(stats.run_ns >= 100 * MS * stats.batches);
        ps_sched_free(f.s);
    }
}

/* What cannot end in time is dropped before it runs; without a deadline it runs late instead. */
static void test_early_drop(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request hard = request(MS, 30 * MS), soft = request(MS, 0);
    admit_ok(&f, &hard);
    admit_ok(&f, &soft);
    int64_t now = 27 * MS; /* 3 ms left, and it takes 5 */
    assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 1);
    assert_ptr_equal(f.batch.first, &soft);
    assert_ptr_equal(ps_sched_take_dropped(f.s), &hard);
    assert_int_equal(hard.reason, PS_SCHED_TOO_LATE);
    assert_null(ps_sched_take_dropped(f.s));
    run_for(&f, now, 5 * MS);
    ps_sched_request very_late = request(MS, 0);
    assert_int_equal(ps_sched_admit(f.s, f.m, &very_late, 5000 * MS).reason, PS_SCHED_OK);
    assert_int_equal(ps_sched_next(f.s, 5000 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    run_for(&f, 5000 * MS, 5 * MS);
    ps_sched_free(f.s);
}

static void test_full_queue(void **state) {
    ps_sched_options o = { .max_queue = 5 };
    ps_sched_model_options small = { .max_queue = 3 }, plain = { 0 };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &small);
    ps_sched_model *other = add_model(f.s, &plain);
    ps_sched_request r[8];
    for (int i = 0; i < 8; i++) {
        r[i] = request(i + 1, 0);
        ps_sched_verdict v = ps_sched_admit(f.s, i < 4 ? f.m : other, &r[i], i + 1);
        bool full = i == 3 || i > 5;
        assert_int_equal(v.reason, full ? PS_SCHED_FULL : PS_SCHED_OK);
        if (full) assert_true(v.retry_after_ns > 0);
    }
    ps_sched_remove_model(f.s, f.m);
    int n = 0;
    for (ps_sched_request *q = ps_sched_take_dropped(f.s); q; q = q->next, n++)
        assert_int_equal(q->reason, PS_SCHED_REMOVED);
    assert_int_equal(n, 3);
    assert_true(ps_sched_cancel(f.s, &r[4]));
    assert_false(ps_sched_cancel(f.s, &r[4]));
    assert_true(ps_sched_cancel(f.s, &r[5]));
    ps_sched_free(f.s);
}

/* A model that loads: its requests wait, deadline or not, and have their whole target once it is there. */
static void test_loading(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request a = request(MS, 0), b = request(MS, 2000 * MS);
    ps_sched_pause(f.s, f.m, 1000 * MS);
    admit_ok(&f, &a);
    admit_ok(&f, &b);
    assert_int_equal(ps_sched_next(f.s, 2 * MS, &f.batch, &f.until), PS_SCHED_WAIT);
    assert_int_equal(f.until, 1000 * MS);
    ps_sched_resume(f.s, f.m, 500 * MS);
    assert_int_equal(ps_sched_next(f.s, 500 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 2);
    run_for(&f, 500 * MS, 6 * MS);
    ps_sched_stats stats;
    ps_sched_model_stats(f.m, &stats);
    assert_int_equal(stats.late, 0);
    ps_sched_pause(f.s, f.m, 1000 * MS);
    a = request(600 * MS, 0);
    admit_ok(&f, &a);
    assert_int_equal(ps_sched_next(f.s, 1000 * MS, &f.batch, &f.until), PS_SCHED_IDLE);
    assert_ptr_equal(ps_sched_take_dropped(f.s), &a);
    assert_int_equal(a.reason, PS_SCHED_NOT_LOADED);
    ps_sched_free(f.s);
}

static void test_sequence(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_sequence q = { 0 };
    ps_sched_request r[4], *expected[] = { &r[0], &r[2], &r[3] };
    for (int i = 0; i < 4; i++) {
        r[i] = request(MS + i, 0);
        r[i].sequence = &q;
        r[i].priority = (uint32_t)(4 - i); /* order of the sequence is above it */
        admit_ok(&f, &r[i]);
    }
    assert_true(ps_sched_cancel(f.s, &r[1]));
    for (int i = 0; i < 3; i++) {
        int64_t now = (10 + 10 * i) * MS;
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        assert_int_equal(f.batch.requests, 1);
        assert_ptr_equal(f.batch.first, expected[i]);
        run_for(&f, now, 5 * MS);
    }
    assert_false(q.busy);
    assert_null(q.first);
    ps_sched_free(f.s);
}

/* More of the first class than the device can do, for ever: the last class waits no longer than the bound and the
 * batches that it takes to reach it. */
static void test_ageing(void **state) {
    enum { N = 4000 };
    ps_sched_options o = { .ageing_ns = 300 * MS };
    ps_sched_model_options mo = { .max_batch = 2, .target_ns = 50 * MS };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_request *r = calloc(N, sizeof *r), low[3];
    assert_non_null(r);
    int64_t now = MS, waited[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        low[i] = request(now, 0);
        admit_ok(&f, &low[i]);
    }
    for (int i = 0; i < N; i++, now += MS) {
        r[i] = request(now, 0);
        r[i].priority = 1;
        admit_ok(&f, &r[i]);
        if (i % 4 != 3) continue; /* four come while two run */
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        for (ps_sched_request *q = f.batch.first; q; q = q->next) {
            if (q >= low && q < low + 3) waited[q - low] = now;
        }
        run_for(&f, now, 4 * MS - 1000);
    }
    for (int i = 0; i < 3; i++) {
        assert_true(waited[i] > 0);
        assert_true(waited[i] < 300 * MS + (i + 2) * 5 * 4 * MS); /* eight items of others, four batches, between two */
    }
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r);
}

/* One late request of its own kind (a shape, or a model) beside others that always have some in time, and fill the
 * device: it waits no longer than the bound, though nothing of its kind has run that it could be counted after. */
static void check_rare_kind(bool other_model, int floods) {
    enum { N = 4000 };
    ps_sched_options o = { .ageing_ns = 300 * MS };
    ps_sched_model_options mo = { .max_batch = 2, .target_ns = 50 * MS };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_model_options wide = { .max_batch = 32, .target_ns = 50 * MS };
    ps_sched_model *its = other_model ? add_model(f.s, &wide) : f.m; /* a batch of one wastes the device */
    ps_sched_request *r = calloc(N, sizeof *r), rare = request(MS, 0);
    assert_non_null(r);
    rare.shape = 7;
    int64_t now = 80 * MS, waited = 0;
    for (uint32_t b = 1; b <= 2; b++) {
        assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, b, 1000, (2 + b) * MS, 0, NULL), PS_OK);
        assert_int_equal(ps_sched_seed(f.s, its, 8, 1, b, 1000, (2 + b) * MS, 0, NULL), PS_OK);
    }
    for (uint32_t b = 1; b <= (other_model ? 32 : 2); b++)
        assert_int_equal(ps_sched_seed(f.s, its, 7, 1, b, 1000, (2 + b) * MS, 0, NULL), PS_OK);
    assert_int_equal(ps_sched_admit(f.s, its, &rare, now).reason, PS_SCHED_OK);
    for (int i = 0; i < N && !waited; i++, now += MS) {
        const bool second = floods > 1 && i % 2;
        r[i] = request(now, 0);
        r[i].priority = !other_model;
        r[i].shape = second ? 8 : 0;
        assert_int_equal(ps_sched_admit(f.s, second ? its : f.m, &r[i], now).reason, PS_SCHED_OK);
        if (i % 4 != 3) continue;
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        if (f.batch.first == &rare) waited = now - rare.arrival_ns;
        run_for(&f, now, 4 * MS - 1000);
    }
    assert_in_range(waited, 1, 300 * MS + 8 * MS);
    ps_sched_remove_model(f.s, f.m);
    if (other_model) ps_sched_remove_model(f.s, its);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r);
}

static void test_no_kind_starves(void **state) {
    check_rare_kind(false, 1);
    check_rare_kind(true, 1);
    check_rare_kind(true, 2);
}

/* Two models that both ask for all of the device get it by weight; within 5 %, the quantum's share of the run. */
static void test_shares_of_models(void **state) {
    ps_sched_options o = { 0 };
    ps_sched_model_options one = { .max_batch = 8, .weight = 1 }, three = { .max_batch = 8, .weight = 3 };
    fixture f = { .s = create(&o) };
    ps_sched_model *m[2] = { add_model(f.s, &one), add_model(f.s, &three) };
    enum { N = 8000 };
    ps_sched_request *r[2] = { calloc(N, sizeof **r), calloc(N, sizeof **r) };
    int64_t now = MS, time[2] = { 0 };
    size_t n[2] = { 0 };
    while (now < 7000 * MS) { /* a hundred quanta */
        for (int k = 0; k < 2; k++) {
            ps_sched_stats stats;
            for (ps_sched_model_stats(m[k], &stats); stats.queued < 40; stats.queued++) {
                r[k][n[k] % N] = request(now, 0);
                assert_int_equal(ps_sched_admit(f.s, m[k], &r[k][n[k]++ % N], now).reason, PS_SCHED_OK);
            }
        }
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        int64_t ns = (f.batch.model == m[0] ? 10 : 4) * MS + f.batch.items * MS / 2;
        time[f.batch.model == m[1]] += ns;
        run_for(&f, now, ns);
        now += ns;
    }
    double share = (double)time[1] / (double)time[0];
    if (share < 2.85 || share > 3.15) fail_msg("shares of device time are 1 : %g", share);
    for (int k = 0; k < 2; k++)
        ps_sched_remove_model(f.s, m[k]);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r[0]);
    free(r[1]);
}

/* Weights hold as well where requests have ten times the model's target: of sixty, of which a third can be in time,
 * those of the heavy tenant. */
static void test_shares_of_patient_tenants(void **state) {
    enum { SENT = 60 };
    static ps_sched_request r[SENT];
    static const ps_sched_model_options alone = { .target_ns = 100 * MS, .max_batch = 1 };
    ps_sched_options o = { .policy = NULL };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &alone);
    assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, 1, 1000, 50 * MS, 0, NULL), PS_OK);
    ps_sched_tenant *tenant[2];
    assert_int_equal(ps_sched_add_tenant(f.s, 1, &tenant[0], NULL), PS_OK);
    assert_int_equal(ps_sched_add_tenant(f.s, 8, &tenant[1], NULL), PS_OK);
    for (int i = 0; i < SENT; i++) {
        r[i] = request(MS, 1001 * MS);
        r[i].tenant = tenant[i % 2];
        ps_sched_admit(f.s, f.m, &r[i], MS);
    }
    uint32_t answered[2] = { 0 };
    for (int64_t now = MS; ps_sched_next(f.s, now, &f.batch, &f.until) == PS_SCHED_RUN; now += 50 * MS) {
        answered[f.batch.first->tenant == tenant[1]]++;
        run_for(&f, now, 50 * MS);
    }
    while (ps_sched_take_dropped(f.s)) {
    }
    assert_in_range(answered[0] + answered[1], 18, 20);
    assert_in_range(answered[0], 1, 6); /* the first, its share, and what the reserve leaves */
    ps_sched_free(f.s);
}

/* A tenant that sends five times what the device can do leaves another's modest requests alone. */
static void test_shares_of_tenants(void **state) {
    enum { N = 20000 };
    ps_sched_model_options mo = { .max_batch = 4, .target_ns = 100 * MS };
    ps_sched_options o = { 0 };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    for (uint32_t b = 1; b <= 4; b++)
        assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, b, 100, (4 + b) * MS, 0, NULL), PS_OK);
    ps_sched_tenant *hog, *modest;
    assert_int_equal(ps_sched_add_tenant(f.s, 1, &hog, NULL), PS_OK);
    assert_int_equal(ps_sched_add_tenant(f.s, 1, &modest, NULL), PS_OK);
    ps_sched_request *r = calloc(N, sizeof *r);
    assert_non_null(r);
    size_t sent = 0, good = 0, n = 0;
    int64_t end = 0;
    for (int64_t now = MS; now < 4000 * MS; now += MS / 2) { /* 500 a second can run */
        bool is_modest = now % (8 * MS) == 0;                /* 125 a second */
        for (int k = 0; k < (is_modest ? 2 : 1); k++) {
            r[n] = request(now, now + 100 * MS);
            r[n].tenant = k ? modest : hog;
            bool count = k && now > 500 * MS && now < 3800 * MS;
            sent += count;
            ps_sched_admit(f.s, f.m, &r[n++], now);
        }
        if (end && now >= end) {
            ps_sched_complete(f.s, &f.batch, end - f.batch.start_ns, end);
            for (ps_sched_request *q = f.batch.first; q; q = q->next)
                good += q->tenant == modest && end <= q->deadline_ns && q->arrival_ns > 500 * MS &&
                        q->arrival_ns < 3800 * MS;
            end = 0;
        }
        if (!end && ps_sched_next(f.s, now, &f.batch, &f.until) == PS_SCHED_RUN) end = now + (4 + f.batch.items) * MS;
        ps_sched_take_dropped(f.s);
    }
    if (good * 100 < sent * 95) fail_msg("%zu of %zu requests of the modest tenant were in time", good, sent);
    if (end) ps_sched_complete(f.s, &f.batch, 0, end);
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r);
}

static void test_shapes_do_not_mix(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_request r[6];
    for (int i = 0; i < 6; i++) {
        r[i] = request(MS + i, 0);
        r[i].shape = (uint64_t)i % 2;
        admit_ok(&f, &r[i]);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ps_sched_next(f.s, (2 + 20 * i) * MS, &f.batch, &f.until), PS_SCHED_RUN);
        if (f.batch.shape == 0) assert_int_equal(f.batch.requests, 3); /* the one that is known */
        run_for(&f, (2 + 20 * i) * MS, 7 * MS);
    }
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
}

/* A request of several items counts with all of them; one that is larger than any batch runs alone. */
static void test_items(void **state) {
    fixture f = start(NULL, NULL);
    static const uint32_t items[] = { 10, 10, 10, 10, 50 };
    ps_sched_request r[5];
    for (int i = 0; i < 5; i++) {
        r[i] = request(MS + i, 0);
        r[i].items = items[i];
        admit_ok(&f, &r[i]);
    }
    static const uint32_t expected[] = { 3, 1, 1 };
    for (int i = 0; i < 3; i++) {
        int64_t now = (2 + 200 * i) * MS;
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        assert_int_equal(f.batch.requests, expected[i]);
        run_for(&f, now, 30 * MS);
    }
    ps_sched_free(f.s);
}

/* Rows without elements cost nothing to send: their number is no measure of anything. */
static void test_very_many_items(void **state) {
    static const uint32_t items[] = { UINT32_MAX, 1, 3 };
    ps_sched_model_options mo = { .target_ns = 10000 * MS };
    ps_sched_options o = { .policy = NULL };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_request r[3];
    int done = 0;
    assert_int_equal(ps_sched_seed(f.s, f.m, 0, 1, 1, 1000, 5 * MS, 0, NULL), PS_OK);
    for (int i = 0; i < 3; i++) {
        r[i] = request(MS, 0);
        r[i].items = items[i];
        admit_ok(&f, &r[i]);
    }
    for (int64_t now = 2 * MS; done < 3; now += 5 * MS) {
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        assert_in_range(f.batch.items, 1, 1 << 20);
        done += (int)f.batch.requests;
        run_for(&f, now, 5 * MS);
    }
    ps_sched_free(f.s);
}

/* However many shapes wait: the first class, the earliest deadline and another model are seen, and a shape is no reason
 * to refuse. */
static void test_many_shapes(void **state) {
    enum { N = 1000 };
    ps_sched_model_options mo = { .target_ns = 10000 * MS };
    ps_sched_options o = { .policy = NULL };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_model *other = add_model(f.s, &mo);
    ps_sched_request *r = calloc(N, sizeof *r), urgent[3];
    assert_non_null(r);
    for (int i = 0; i < N; i++) {
        r[i] = request(MS, 0);
        r[i].shape = 100 + (uint64_t)i;
        admit_ok(&f, &r[i]);
    }
    for (int i = 100; i < N; i++)
        assert_true(ps_sched_cancel(f.s, &r[i]));
    for (int i = 0; i < 3; i++) {
        urgent[i] = request(2 * MS, i == 1 ? 200 * MS : i == 2 ? 300 * MS : 0);
        urgent[i].shape = (uint64_t)i;
        urgent[i].priority = i == 0;
        assert_int_equal(ps_sched_admit(f.s, i == 2 ? other : f.m, &urgent[i], 2 * MS).reason, PS_SCHED_OK);
    }
    int64_t now = 3 * MS;
    int seen = 0;
    for (int i = 0; i < 3; i++, now += 5 * MS) {
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        for (int k = 0; k < 3; k++)
            seen |= (f.batch.first == &urgent[k]) << k;
        run_for(&f, now, 5 * MS);
    }
    assert_int_equal(seen, 7);
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r);
}

static void test_triton(void **state) {
    ps_sched_model_options mo = { .max_batch = 8 };
    mo.knobs = (ps_sched_knobs) { .preferred = { 2, 4 }, .delay_ns = 10 * MS, .timeout_ns = 40 * MS };
    ps_sched_options o = { .policy = "triton" };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_request r[6];
    for (int i = 0; i < 6; i++)
        r[i] = request(MS, 0);
    admit_ok(&f, &r[0]);
    assert_int_equal(ps_sched_next(f.s, 2 * MS, &f.batch, &f.until), PS_SCHED_WAIT);
    assert_int_equal(f.until, 11 * MS);
    assert_int_equal(ps_sched_next(f.s, 11 * MS, &f.batch, &f.until), PS_SCHED_RUN); /* the delay is over */
    for (int i = 1; i < 6; i++)
        admit_ok(&f, &r[i]);
    run_for(&f, 11 * MS, MS);
    assert_int_equal(ps_sched_next(f.s, 12 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 4); /* the largest preferred size that five fill */
    run_for(&f, 12 * MS, MS);
    assert_int_equal(ps_sched_next(f.s, 42 * MS, &f.batch, &f.until), PS_SCHED_IDLE);
    assert_ptr_equal(ps_sched_take_dropped(f.s), &r[5]);
    assert_int_equal(r[5].reason, PS_SCHED_TIMEOUT);
    ps_sched_free(f.s);
}

static void test_fixed(void **state) {
    ps_sched_model_options mo = { .knobs = { .batch = 3, .delay_ns = 20 * MS } };
    ps_sched_options o = { .policy = "fixed" };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    ps_sched_request r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = request((1 + i) * MS, 0);
        admit_ok(&f, &r[i]);
        if (i < 2) assert_int_equal(ps_sched_next(f.s, (1 + i) * MS, &f.batch, &f.until), PS_SCHED_WAIT);
    }
    assert_int_equal(ps_sched_next(f.s, 4 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    assert_int_equal(f.batch.requests, 3);
    run_for(&f, 4 * MS, MS);
    assert_int_equal(ps_sched_next(f.s, 5 * MS, &f.batch, &f.until), PS_SCHED_WAIT);
    assert_int_equal(f.until, 24 * MS);
    assert_int_equal(ps_sched_next(f.s, 24 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    run_for(&f, 24 * MS, MS);
    ps_sched_free(f.s);
}

/* With a queue that never empties: the size grows one by one to where a batch takes the target, and stays about there.
 */
static void test_aimd(void **state) {
    ps_sched_model_options mo = { .max_batch = 64, .target_ns = 30 * MS };
    ps_sched_options o = { .policy = "aimd" };
    fixture f = { .s = create(&o) };
    f.m = add_model(f.s, &mo);
    enum { N = 64 * 200 };
    ps_sched_request *r = calloc(N, sizeof *r);
    assert_non_null(r);
    int64_t now = MS;
    size_t n = 0;
    for (int i = 0; i < 150; i++) {
        ps_sched_stats stats;
        for (ps_sched_model_stats(f.m, &stats); stats.queued < 64 && n < N; stats.queued++) {
            r[n] = request(now, 0);
            admit_ok(&f, &r[n++]);
        }
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        if (i < 20) assert_int_equal(f.batch.requests, i + 1);
        if (i > 40)
            assert_true(f.batch.requests >= 22 && f.batch.requests <= 28); /* 4 + b > 30 ms: b = 27, less a tenth */
        int64_t ns = (4 + f.batch.items) * MS;
        run_for(&f, now, ns);
        now += ns;
    }
    ps_sched_remove_model(f.s, f.m);
    ps_sched_take_dropped(f.s);
    ps_sched_free(f.s);
    free(r);
}

static void test_options(void **state) {
    ps_sched *s;
    ps_error err = PS_ERROR_INIT;
    ps_sched_options bad = { .policy = "best" };
    assert_int_equal(ps_sched_create(&alloc, &bad, &s, &err), PS_NOT_FOUND);
    assert_non_null(strstr(err.msg, "deadline, fixed, triton, aimd, linear"));
    bad = (ps_sched_options) { .slots = PS_SCHED_MAX_SLOTS + 1 };
    assert_int_equal(ps_sched_create(&alloc, &bad, &s, &err), PS_INVALID);
    bad = (ps_sched_options) { .knobs = { .preferred = { 4, 2 } } };
    assert_int_equal(ps_sched_create(&alloc, &bad, &s, &err), PS_INVALID);
    ps_sched_options good = { 0 };
    s = create(&good);
    ps_sched_model *m;
    ps_sched_tenant *t;
    static const ps_sched_model_options models[] = { { .max_batch = PS_PROFILE_MAX_BATCH + 1 },
                                                     { .weight = -1 },
                                                     { .target_ns = -1 },
                                                     { .knobs = { .delay_ns = -1 } } };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        assert_int_equal(ps_sched_add_model(s, &models[i], &m, &err), PS_INVALID);
    assert_int_equal(ps_sched_add_tenant(s, 0, &t, &err), PS_INVALID);
    ps_sched_free(s);
    ps_sched_free(NULL);
}

/* What an answer needs on its way is kept free before the deadline, and is no more than an eighth of the time, or a
 * quarter of the automatic target. */
static void test_transit(void **state) {
    fixture f = start(NULL, NULL);
    ps_sched_stats stats;
    int64_t now = 10 * MS;
    ps_sched_set_transit(f.s, 2 * MS);
    ps_sched_request fits = request(now, now + 17 * MS), tight = request(now, now + 6 * MS), slow = request(now, 0);
    ps_sched_request first = request(now, now + 100 * MS);
    admit_ok(&f, &first);
    assert_int_equal(first.due_ns, now + 98 * MS);
    assert_true(ps_sched_cancel(f.s, &first));
    assert_int_equal(ps_sched_admit(f.s, f.m, &tight, now).reason, PS_SCHED_OK); /* 5 ms, and an eighth of 6 */
    assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
    ps_sched_verdict v = ps_sched_admit(f.s, f.m, &fits, now); /* 5 ms until the device is free, 5 ms, 2 ms */
    assert_int_equal(v.reason, PS_SCHED_OK);
    assert_int_equal(v.finish_ns, now + 12 * MS);
    assert_true(ps_sched_cancel(f.s, &fits));
    fits.deadline_ns = now + 11 * MS;
    v = ps_sched_admit(f.s, f.m, &fits, now);
    assert_int_equal(v.reason, PS_SCHED_TOO_LATE);
    assert_true(v.retry_after_ns > 0);
    assert_int_equal(ps_sched_admit(f.s, f.m, &slow, now).reason, PS_SCHED_OK);
    assert_int_equal(slow.due_ns, now + 98 * MS);
    run_for(&f, now, 6 * MS - MS / 2);
    ps_sched_model_stats(f.m, &stats);
    assert_int_equal(stats.on_time, 1); /* by its deadline */
    assert_int_equal(stats.transit_ns, 2 * MS);
    assert_int_equal(ps_sched_next(f.s, now + 6 * MS, &f.batch, &f.until), PS_SCHED_RUN);
    run_for(&f, now + 6 * MS, 5 * MS);
    ps_sched_set_transit(f.s, 40 * MS);
    now += 20 * MS;
    fits = request(now, now + 80 * MS);
    slow = request(now, 0);
    admit_ok(&f, &fits);
    admit_ok(&f, &slow);
    assert_int_equal(fits.due_ns, now + 70 * MS);
    assert_int_equal(slow.due_ns, now + 75 * MS);
    assert_true(ps_sched_cancel(f.s, &fits) && ps_sched_cancel(f.s, &slow));
    ps_sched_free(f.s);
}

/* What passes between two runs is learnt, and counts where several are ahead; that nobody waited is no such time. */
static void test_time_between_runs(void **state) {
    ps_sched_model_options patient = { .target_ns = 1000 * MS };
    fixture f = start(NULL, &patient);
    ps_sched_request r[32 * 12];
    ps_sched_stats stats;
    int64_t now = 0;
    for (int i = 0; i < 32 * 8; i++) {
        r[i] = request(now, 0);
        admit_ok(&f, &r[i]);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
        assert_int_equal(f.batch.items, 32);
        run_for(&f, now, 36 * MS);
        now += 36 * MS + 9 * MS;
    }
    ps_sched_model_stats(f.m, &stats);
    double stretch = stats.stretch;
    assert_true(stretch > 1.08 && stretch < 1.25);
    now += 1000 * MS;
    r[0] = request(now, 0);
    admit_ok(&f, &r[0]);
    assert_int_equal(ps_sched_next(f.s, now, &f.batch, &f.until), PS_SCHED_RUN);
    run_for(&f, now, 5 * MS);
    ps_sched_model_stats(f.m, &stats);
    assert_true(stats.stretch == stretch);
    for (int i = 0; i < 32 * 4; i++) {
        r[i] = request(now, 0);
        admit_ok(&f, &r[i]);
    }
    ps_sched_request last = request(now, now + 1000 * MS);
    int64_t alone = 4 * 36 * MS + 5 * MS;
    int64_t finish = ps_sched_admit(f.s, f.m, &last, now).finish_ns - now;
    assert_true(finish > alone + (int64_t)((stretch - 1) * 3 * 36 * MS) && finish < alone * 3 / 2);
    for (int i = 0; i < 32 * 4; i++)
        assert_true(ps_sched_cancel(f.s, &r[i]));
    assert_true(ps_sched_cancel(f.s, &last));
    ps_sched_free(f.s);
}

/* ---- failing allocations ---- */

static ps_status scenario(ps_alloc_state *a, void *ctx) {
    ps_sched *s = NULL;
    ps_sched_model *m;
    ps_sched_tenant *t;
    ps_sched_options o = { 0 };
    ps_sched_model_options mo = { .max_shapes = 3 };
    ps_sched_request r[8];
    ps_status status = ps_sched_create(a, &o, &s, NULL);
    if (status == PS_OK) status = ps_sched_add_model(s, &mo, &m, NULL);
    if (status == PS_OK) status = ps_sched_add_tenant(s, 1, &t, NULL);
    for (int i = 0; status == PS_OK && i < 8; i++) {
        r[i] = request(i + 1, 0);
        r[i].shape = (uint64_t)i;
        r[i].tenant = t;
        ps_sched_verdict v = ps_sched_admit(s, m, &r[i], i + 1);
        if (v.reason == PS_SCHED_NO_MEMORY) {
            status = PS_NO_MEMORY;
        } else {
            ps_sched_batch batch;
            int64_t until;
            assert_int_equal(v.reason, PS_SCHED_OK);
            assert_int_equal(ps_sched_next(s, i + 1, &batch, &until), PS_SCHED_RUN);
            ps_sched_complete(s, &batch, 1000, i + 1001);
        }
    }
    ps_sched_free(s);
    return status;
}

static void test_failing_allocations(void **state) {
    assert_true(ps_test_sweep(scenario, NULL) >= 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_trace),
        cmocka_unit_test(test_idle_device_runs_at_once),
        cmocka_unit_test(test_largest_batch_in_time),
        cmocka_unit_test(test_short_batch_before_long),
        cmocka_unit_test(test_priority_before_deadline),
        cmocka_unit_test(test_admission),
        cmocka_unit_test(test_refusal_beforehand),
        cmocka_unit_test(test_past_times_are_tried_again),
        cmocka_unit_test(test_stopped_runs_count),
        cmocka_unit_test(test_early_drop),
        cmocka_unit_test(test_transit),
        cmocka_unit_test(test_time_between_runs),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_ageing),
        cmocka_unit_test(test_no_kind_starves),
        cmocka_unit_test(test_shares_of_models),
        cmocka_unit_test(test_shares_of_tenants),
        cmocka_unit_test(test_shares_of_patient_tenants),
        cmocka_unit_test(test_shapes_do_not_mix),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_not_deferred),
        cmocka_unit_test(test_spare),
        cmocka_unit_test(test_left_out_are_not_before),
        cmocka_unit_test(test_nothing_to_try),
        cmocka_unit_test(test_start_under_load),
        cmocka_unit_test(test_very_many_items),
        cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_triton),
        cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_aimd),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
