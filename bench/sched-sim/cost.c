/* cost.c - what the scheduler's calls cost on this machine: the only part that reads a clock.
 *
 * Six models of equal load with queues of a given depth; each round admits what the batch before took, so that the
 * depth stays; under overload without deadlines, so that most are late. Requests lie apart in memory, as a server's do,
 * and are used in a shuffled order. */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "sched/sched_int.h"
#include "sim.h"

enum { MODELS = 6, ROUNDS = 20000, APART = 1024 };

/* Medians, ns, the clock's own cost taken off: on a machine with other work the mean tells of that. */
typedef struct cost {
    double admit, decide, next, complete;
    double requests; /* a batch; mean */
} cost;

typedef enum call { ADMIT, DECIDE, NEXT, COMPLETE, CALLS } call;

typedef struct samples {
    uint32_t ns[CALLS][ROUNDS];
    size_t n[CALLS];
} samples;

static void add(samples *s, call what, int64_t start) {
    int64_t ns = ps_clock_ns() - start;
    s->ns[what][s->n[what]++ % ROUNDS] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int by_time(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double median(samples *s, call what, double own) {
    size_t n = s->n[what] < ROUNDS ? s->n[what] : ROUNDS;
    if (n == 0) return 0;
    qsort(s->ns[what], n, sizeof **s->ns, by_time);
    return (double)s->ns[what][n / 2] - own;
}

typedef struct bench {
    ps_alloc_state alloc;
    ps_sched *sched;
    ps_sched_model *model[MODELS];
    char *memory;
    ps_sched_request **spare;
    size_t n_spare;
    sim_random random;
    bool overload;
} bench;

static void admit_one(bench *b, int m, int64_t now, samples *to) {
    ps_sched_request *r = b->spare[--b->n_spare];
    double slack = 5e9 * (1 + sim_uniform(&b->random));
    *r = (ps_sched_request) { .arrival_ns = now, .items = 1, .deadline_ns = b->overload ? 0 : now + (int64_t)slack };
    int64_t start = ps_clock_ns();
    ps_sched_verdict v = ps_sched_admit(b->sched, b->model[m], r, now);
    add(to, ADMIT, start);
    if (v.reason != PS_SCHED_OK) b->spare[b->n_spare++] = r;
}

static void give_back(bench *b, ps_sched_request *first) {
    for (ps_sched_request *r = first, *next; r; r = next) {
        next = r->next;
        size_t at =
            (size_t)(sim_uniform(&b->random) * (double)b->n_spare); /* any place: no pattern for the prefetcher */
        b->spare[b->n_spare++] = b->spare[at];
        b->spare[at] = r;
    }
}

static double clock_cost(void) {
    int64_t start = ps_clock_ns();
    for (int i = 0; i < 100000; i++)
        ps_clock_ns();
    return (double)(ps_clock_ns() - start) / 100001;
}

static double start_and_finish(bench *b, int64_t *now, samples *to) {
    ps_sched_batch batch;
    ps_sched_choice choice = { .until_ns = 0 };
    int64_t until, start = ps_clock_ns();
    if (b->sched->active) b->sched->policy->choose(b->sched, *now, &choice);
    add(to, DECIDE, start);
    start = ps_clock_ns();
    ps_sched_action action = ps_sched_next(b->sched, *now, &batch, &until);
    add(to, NEXT, start);
    give_back(b, ps_sched_take_dropped(b->sched));
    if (action != PS_SCHED_RUN) return 0;
    int64_t ns = (int64_t)(3.9e6 + 3e5 * batch.items);
    *now += ns;
    start = ps_clock_ns();
    ps_sched_complete(b->sched, &batch, ns, *now);
    add(to, COMPLETE, start);
    give_back(b, batch.first);
    return batch.requests;
}

static void run(bench *b, uint32_t depth, samples *s, cost *ret) {
    int64_t now = 1000000000;
    double requests = 0, own = clock_cost();
    for (int m = 0; m < MODELS; m++)
        for (uint32_t i = 0; i < depth; i++)
            admit_one(b, m, now, s);
    s->n[ADMIT] = 0;
    for (int round = 0; round < ROUNDS; round++) {
        requests += start_and_finish(b, &now, s);
        for (int m = 0; m < MODELS; m++) {
            ps_sched_stats stats;
            for (ps_sched_model_stats(b->model[m], &stats); stats.queued < depth; stats.queued++) {
                admit_one(b, m, now, s);
                give_back(b, ps_sched_take_dropped(b->sched));
            }
        }
    }
    *ret = (cost) { median(s, ADMIT, own), median(s, DECIDE, own), median(s, NEXT, own), median(s, COMPLETE, own),
                    requests / ROUNDS };
}

static bool set_up(bench *b, size_t requests) {
    ps_sched_options o = { .max_queue = 1 << 20 };
    ps_sched_model_options mo = { .target_ns = 100000000 };
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&b->alloc, NULL);
    b->random.state = 7;
    b->memory = malloc(requests * APART);
    b->spare = malloc(requests * sizeof *b->spare);
    if (!b->memory || !b->spare || ps_sched_create(&b->alloc, &o, &b->sched, &err) != PS_OK) return false;
    for (int m = 0; m < MODELS; m++) {
        if (ps_sched_add_model(b->sched, &mo, &b->model[m], &err) != PS_OK) return false;
        for (uint32_t size = 1; size <= 32; size *= 2)
            ps_sched_seed(b->sched, b->model[m], 0, 1, size, 100, (int64_t)(3.9e6 + 3e5 * size), 30000, &err);
    }
    for (size_t i = 0; i < requests; i++)
        b->spare[b->n_spare++] = (ps_sched_request *)(void *)(b->memory + i * APART);
    return true;
}

static void tear_down(bench *b) {
    for (int m = 0; m < MODELS && b->sched; m++) {
        ps_sched_remove_model(b->sched, b->model[m]);
        ps_sched_take_dropped(b->sched);
    }
    ps_sched_free(b->sched);
    free(b->memory);
    free(b->spare);
}

int sim_cost(void) {
    static const uint32_t depths[] = { 1, 8, 32, 256, 2048 };
    printf("median cost of a call, ns: six models with `depth` requests each; next is deciding again and taking the "
           "batch out\n"
           "depth overload |  admit decide   next  complete | requests a batch | next and complete, a request\n");
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        for (int overload = 0; overload < 2; overload++) {
            bench b = { .overload = overload };
            cost c;
            samples *s = calloc(1, sizeof *s);
            if (!s || !set_up(&b, (size_t)depths[i] * MODELS + 64)) return 1;
            run(&b, depths[i], s, &c);
            tear_down(&b);
            free(s);
            printf("%5u %8s | %6.0f %6.0f %6.0f %9.0f | %16.1f | %6.0f\n", depths[i], overload ? "yes" : "no", c.admit,
                   c.decide, c.next, c.complete, c.requests, c.requests > 0 ? (c.next + c.complete) / c.requests : 0);
        }
    }
    return 0;
}
