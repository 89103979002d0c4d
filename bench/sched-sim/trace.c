/* trace.c - when requests come. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

const char *const sim_families[] = { "poisson", "onoff", "diurnal", "bursts", "inversion", "hog", NULL };

double sim_uniform(sim_random *r) {
    r->state += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */
    uint64_t z = r->state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return ((double)(z >> 11) + 0.5) / 9007199254740992.0;
}

double sim_normal(sim_random *r) {
    return sqrt(-2 * log(sim_uniform(r))) * cos(6.283185307179586 * sim_uniform(r));
}

static bool put(sim_trace *t, size_t *room, sim_arrival a) {
    if (t->n == *room) {
        size_t more = *room ? 2 * *room : 4096;
        sim_arrival *grown = realloc(t->arrivals, more * sizeof *grown);
        if (!grown) return false;
        t->arrivals = grown;
        *room = more;
    }
    t->arrivals[t->n++] = a;
    return true;
}

typedef struct maker {
    sim_trace *t;
    size_t room;
    sim_random random;
    const sim_model *model;
    int m;
    double rate, seconds;
} maker;

/* Shape of the rate over time, with mean 1. */
static double at_rate(const char *family, double t, double seconds) {
    if (strcmp(family, "onoff") == 0) return fmod(t, 2) < 1 ? 1.6 : 0.4;
    if (strcmp(family, "diurnal") == 0) return 1 - 0.9 * cos(6.283185307179586 * t / (seconds / 2));
    return 1;
}

/* Poisson with a changing rate, by thinning. */
static bool make_thinned(maker *k, const char *family, double share, sim_arrival as) {
    double most = 2 * k->rate * share;
    for (double t = 0; most > 0;) {
        t -= log(sim_uniform(&k->random)) / most;
        if (t >= k->seconds) break;
        if (sim_uniform(&k->random) * 2 > at_rate(family, t, k->seconds)) continue;
        as.ns = (int64_t)(t * 1e9);
        if (!put(k->t, &k->room, as)) return false;
    }
    return true;
}

/* One more than a full batch at once, the next burst just when the straggler has begun to run; quiet between to keep
 * the mean. */
static bool make_bursts(maker *k, sim_arrival as) {
    double each = k->model->max_batch + 1.0, full = sim_time_ns(k->model, k->model->max_batch) * 1e-9;
    for (double t = sim_uniform(&k->random) * 0.1; t < k->seconds && k->rate > 0;) {
        for (int twice = 0; twice < 2; twice++) {
            for (int i = 0; i < (int)each; i++) {
                as.ns = (int64_t)((t + twice * (full * 1.05) + i * 1e-6) * 1e9);
                if (!put(k->t, &k->room, as)) return false;
            }
        }
        t += 2 * each / k->rate * (0.9 + 0.2 * sim_uniform(&k->random));
    }
    return true;
}

/* Nine tenths without a priority; one tenth that goes first. */
static bool make_inversion(maker *k, sim_arrival as) {
    if (!make_thinned(k, "poisson", 0.9, as)) return false;
    as.priority = 1;
    return make_thinned(k, "poisson", 0.1, as);
}

/* Tenant 0 sends seven tenths, three others a tenth each. */
static bool make_hog(maker *k, sim_arrival as) {
    for (uint16_t tenant = 0; tenant < 4; tenant++) {
        as.tenant = tenant;
        if (!make_thinned(k, "poisson", tenant ? 0.1 : 0.7, as)) return false;
    }
    return true;
}

static int by_time(const void *a, const void *b) {
    const sim_arrival *x = a, *y = b;
    if (x->ns != y->ns) return x->ns < y->ns ? -1 : 1;
    return (x->model > y->model) - (x->model < y->model);
}

ps_status sim_trace_make(const char *family, const sim_model *models, int n_models, const double *rate, double seconds,
                         uint64_t seed, sim_trace *ret, ps_error *err) {
    bool known = false, enough = true;
    for (int i = 0; sim_families[i]; i++)
        known = known || strcmp(sim_families[i], family) == 0;
    PS_FAIL_IF(!known, err, NOT_FOUND, "there is no family of traces '%s'", family);
    maker k = { .t = ret, .random = { seed }, .seconds = seconds };
    *ret = (sim_trace) { .seconds = seconds };
    for (int m = 0; m < n_models && enough; m++) {
        sim_arrival as = { .model = (uint16_t)m };
        k.model = &models[m];
        k.rate = rate[m];
        if (strcmp(family, "bursts") == 0)
            enough = make_bursts(&k, as);
        else if (strcmp(family, "inversion") == 0)
            enough = make_inversion(&k, as);
        else if (strcmp(family, "hog") == 0)
            enough = make_hog(&k, as);
        else
            enough = make_thinned(&k, family, 1, as);
    }
    if (!enough) return PS_FAIL_NOMEM(err, "a trace");
    qsort(ret->arrivals, ret->n, sizeof *ret->arrivals, by_time);
    return PS_OK;
}

ps_status sim_trace_read(const char *path, int n_models, sim_trace *ret, ps_error *err) {
    FILE *file = fopen(path, "r");
    PS_FAIL_IF(!file, err, IO, "%s cannot be opened", path);
    char line[256];
    size_t room = 0, number = 0;
    ps_status status = PS_OK;
    *ret = (sim_trace) { 0 };
    while (status == PS_OK && fgets(line, sizeof line, file)) {
        double t;
        unsigned model = 0, priority = 0, tenant = 0;
        number++;
        if (line[0] == '#' || line[0] == '\n') continue;
        int n = sscanf(line, "%lf%*[, \t]%u%*[, \t]%u%*[, \t]%u", &t, &model, &priority, &tenant);
        if (n < 1 || !(t >= 0 && t < 1e9) || (int)model >= n_models || tenant >= SIM_MAX_TENANTS)
            status = PS_FAIL(err, FORMAT, "%s: line %zu is no arrival", path, number);
        else if (!put(ret, &room, (sim_arrival) { (int64_t)(t * 1e9), (uint16_t)model, (uint16_t)tenant, priority, 0 }))
            status = PS_FAIL_NOMEM(err, "a trace");
        else if (t > ret->seconds)
            ret->seconds = t;
    }
    fclose(file);
    if (status == PS_OK && ret->n) qsort(ret->arrivals, ret->n, sizeof *ret->arrivals, by_time);
    return status;
}

void sim_trace_clear(sim_trace *t) {
    free(t->arrivals);
    *t = (sim_trace) { 0 };
}
