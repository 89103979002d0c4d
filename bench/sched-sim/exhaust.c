/* exhaust.c - the bound beside the true optimum, where traces are small enough to try every schedule. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

enum { MODELS = 2, EACH = 4, TRACES = 300 };

typedef struct search {
    const sim_model *models;
    double at[MODELS][EACH], value[MODELS];
    double best;
} search;

/* Every set of requests that are left, of either model, as the next batch, started as early as it can be: a schedule
 * that starts one later gains nothing. */
static void try_all(search *s, double now, const unsigned *left, double so_far) {
    if (so_far > s->best) s->best = so_far;
    for (int m = 0; m < MODELS; m++) {
        for (unsigned set = 1; set < 1u << EACH; set++) {
            double first = INFINITY, last = now;
            uint32_t size = 0;
            if (set & ~left[m]) continue;
            for (int i = 0; i < EACH; i++) {
                if (!(set >> i & 1)) continue;
                first = fmin(first, s->at[m][i]);
                last = fmax(last, s->at[m][i]);
                size++;
            }
            double end = last + sim_time_ns(&s->models[m], size);
            if (size > s->models[m].max_batch || end > first + s->models[m].target_ns) continue;
            unsigned then[MODELS] = { left[0], left[1] };
            then[m] &= ~set;
            try_all(s, end, then, so_far + size * s->value[m]);
        }
    }
}

/* Two models whose batches make each other late. */
static void draw(sim_random *random, sim_model *models, sim_arrival *arrivals, search *s) {
    static const unsigned all[MODELS] = { (1u << EACH) - 1, (1u << EACH) - 1 };
    *s = (search) { .models = models };
    for (int m = 0; m < MODELS; m++) {
        double base = (1 + 9 * sim_uniform(random)) * 1e6, each = (0.2 + 4 * sim_uniform(random)) * 1e6;
        models[m] = (sim_model) { .n = 2, .size = { 1, 4 }, .max_batch = m ? 3 : 4, .weight = m ? 2 : 1 };
        models[m].ns[0] = base + each;
        models[m].ns[1] = base + 4 * each;
        models[m].target_ns = models[m].ns[0] * (1 + 2 * sim_uniform(random));
        s->value[m] = models[m].weight * sim_unit_ns(&models[m], models[m].target_ns);
        double now = 0;
        for (int i = 0; i < EACH; i++) {
            now += 6e6 * sim_uniform(random);
            arrivals[m * EACH + i] = (sim_arrival) { .ns = (int64_t)now, .model = (uint16_t)m };
            s->at[m][i] = (double)(int64_t)now;
        }
    }
    try_all(s, 0, all, 0);
}

static int by_time(const void *a, const void *b) {
    const sim_arrival *x = a, *y = b;
    return (x->ns > y->ns) - (x->ns < y->ns);
}

int sim_check_bound(void) {
    sim_random random = { 11 };
    sim_config c = { .policy = "deadline", .deadlines = true, .seed = 1 };
    ps_error err = PS_ERROR_INIT;
    double sum = 0;
    for (int i = 0; i < TRACES; i++) {
        sim_model models[MODELS];
        sim_arrival arrivals[MODELS * EACH];
        search s;
        sim_result r;
        draw(&random, models, arrivals, &s);
        qsort(arrivals, MODELS * EACH, sizeof *arrivals, by_time);
        sim_trace t = { arrivals, MODELS * EACH, (double)arrivals[MODELS * EACH - 1].ns * 1e-9 };
        double bound = sim_bound_ns(models, MODELS, &t, 0);
        if (sim_run(models, MODELS, &t, &c, &r, &err) != PS_OK) return 1;
        sum += s.best / bound;
        if (s.best <= bound * (1 + 1e-9) && r.good_ns <= s.best * (1 + 1e-9)) continue;
        printf("  trace %d: the policy makes %.6f ms, the best schedule %.6f, and the bound is %.6f\n", i,
               r.good_ns * 1e-6, s.best * 1e-6, bound * 1e-6);
        return 1;
    }
    printf("  %d traces with every schedule tried: the best one is %.3f of the bound on average, never above\n",
           TRACES, sum / TRACES);
    return 0;
}
