/* cost.c - what the scheduler's calls cost on this machine: the only part that reads a clock.
 *
 * Six models of equal load with queues of a given depth; each round admits what the batch before took, so that the
 * depth stays. Requests lie apart in memory, as a server's do, and are used in a shuffled order. */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "sched/sched_int.h"
#include "sim.h"

enum { MODELS = 6, ROUNDS = 20000, APART = 1024 };

typedef struct cost {
    double admit, decide, next, complete; /* ns a call, the clock's own taken off */
    double requests;                      /* a batch */
} cost;

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

static void admit_one(bench *b, int m, int64_t now, cost *c) {
    ps_sched_request *r = b->spare[--b->n_spare];
    double slack = b->overload ? 5e7 + 5e7 * sim_uniform(&b->random) : 5e9 * (1 + sim_uniform(&b->random));
    *r = (ps_sched_request) { .arrival_ns = now, .items = 1, .deadline_ns = now + (int64_t)slack };
    int64_t start = ps_clock_ns();
    ps_sched_verdict v = ps_sched_admit(b->sched, b->model[m], r, now);
    c->admit += (double)(ps_clock_ns() - start);
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

static void run(bench *b, uint32_t depth, cost *ret) {
    int64_t now = 1000000000;
    cost c = { 0 }, ignored;
    double admits = 0;
    for (int m = 0; m < MODELS; m++)
        for (uint32_t i = 0; i < depth; i++)
            admit_one(b, m, now, &ignored);
    for (int round = 0; round < ROUNDS; round++) {
        ps_sched_batch batch;
        ps_sched_choice choice = { .until_ns = 0 };
        int64_t until, start = ps_clock_ns();
        if (b->sched->active) b->sched->policy->choose(b->sched, now, &choice);
        c.decide += (double)(ps_clock_ns() - start);
        start = ps_clock_ns();
        ps_sched_action action = ps_sched_next(b->sched, now, &batch, &until);
        c.next += (double)(ps_clock_ns() - start);
        give_back(b, ps_sched_take_dropped(b->sched));
        if (action == PS_SCHED_RUN) {
            int64_t ns = (int64_t)(3.9e6 + 3e5 * batch.items);
            now += ns;
            start = ps_clock_ns();
            ps_sched_complete(b->sched, &batch, ns, now);
            c.complete += (double)(ps_clock_ns() - start);
            c.requests += batch.requests;
            give_back(b, batch.first);
        }
        for (int m = 0; m < MODELS; m++) {
            ps_sched_stats stats;
            for (ps_sched_model_stats(b->model[m], &stats); stats.queued < depth; stats.queued++, admits++)
                admit_one(b, m, now, &c);
        }
    }
    double own = clock_cost();
    *ret = (cost) { c.admit / admits - own, c.decide / ROUNDS - own, c.next / ROUNDS - own, c.complete / ROUNDS - own,
                    c.requests / ROUNDS };
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
    printf(
        "cost of a call, ns: six models with `depth` requests each; next is deciding again and taking the batch out\n"
        "depth overload |  admit decide   next  complete | requests a batch | next and complete, a request\n");
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        for (int overload = 0; overload < 2; overload++) {
            bench b = { .overload = overload };
            cost c;
            if (!set_up(&b, (size_t)depths[i] * MODELS + 64)) return 1;
            run(&b, depths[i], &c);
            tear_down(&b);
            printf("%5u %8s | %6.0f %6.0f %6.0f %9.0f | %16.1f | %6.0f\n", depths[i], overload ? "yes" : "no", c.admit,
                   c.decide, c.next, c.complete, c.requests, c.requests > 0 ? (c.next + c.complete) / c.requests : 0);
        }
    }
    return 0;
}
