/* bound.c - what no scheduler exceeds on a trace, however much it knew of the future. Batches take their mean times. */
#include <math.h>
#include <stdlib.h>

#include "sim.h"

#define SLOT_NS 2.5e8 /* of device time that has a price of its own */
#define STEPS 120
#define MAX_SLOTS 4096

/* ---- the device as a fluid ---- */

/* As if requests were a fluid that the device takes in at the rate of its most efficient batch: what waits for longer
 * than the longest target is lost, and nothing else is. */
static double fluid_bound(const sim_model *models, const double *unit, double longest, const sim_trace *t,
                          double warm) {
    double queue = 0, done = 0, last = 0, end = t->seconds * 1e9 + longest;
    for (size_t i = 0; i <= t->n; i++) {
        double now = i < t->n ? (double)t->arrivals[i].ns : end;
        if (now < warm) continue;
        double served = fmin(queue, now - (last > warm ? last : warm));
        queue -= served;
        done += served;
        last = now;
        if (i < t->n) queue = fmin(queue + unit[t->arrivals[i].model] * models[t->arrivals[i].model].weight, longest);
    }
    return done;
}

/* ---- batches of what really came ---- */

/* Arrivals of one model, and, for each number of them left, what the best batches of those make. */
typedef struct batches {
    const sim_model *model;
    double *at, *best;
    uint16_t *taken; /* size of the first one's batch; 0: it is left out */
    size_t n;
    double value; /* of a request */
} batches;

/* Prices of the device's time by slots, and what batches at these prices use of each. A batch that starts in time runs
 * within [first arrival, first arrival + target]; it pays the cheapest slot there: less than it would have to. */
typedef struct market {
    double price[MAX_SLOTS], used[MAX_SLOTS];
    size_t n;
    double from;
} market;

static size_t slot_of(const market *k, double ns) {
    double i = (ns - k->from) / SLOT_NS;
    return i <= 0 ? 0 : i >= (double)(k->n - 1) ? k->n - 1 : (size_t)i;
}

static size_t cheapest(const market *k, double from, double until) {
    size_t best = slot_of(k, from), end = slot_of(k, until);
    for (size_t i = best + 1; i <= end; i++)
        if (k->price[i] < k->price[best]) best = i;
    return best;
}

/* Batches of consecutive arrivals are enough: whatever others hold can be exchanged so that every span shrinks. A batch
 * of b holds what came within target - l(b). */
static double best_batches(batches *m, const double *time, const market *k) {
    m->best[m->n] = 0;
    for (size_t i = m->n; i-- > 0;) {
        double price = k->price[cheapest(k, m->at[i], m->at[i] + m->model->target_ns)];
        m->best[i] = m->best[i + 1];
        m->taken[i] = 0;
        for (uint32_t b = 1; b <= m->model->max_batch && i + b <= m->n; b++) {
            double span = m->at[i + b - 1] - m->at[i];
            if (span + time[b] > m->model->target_ns) {
                if (span > m->model->target_ns) break;
                continue;
            }
            double sum = m->best[i + b] + b * m->value - time[b] * price;
            if (sum <= m->best[i]) continue;
            m->best[i] = sum;
            m->taken[i] = (uint16_t)b;
        }
    }
    return m->best[0];
}

static void add_use(const batches *m, const double *time, market *k) {
    for (size_t i = 0; i < m->n; i += m->taken[i] ? m->taken[i] : 1)
        if (m->taken[i]) k->used[cheapest(k, m->at[i], m->at[i] + m->model->target_ns)] += time[m->taken[i]];
}

static batches collect(const sim_model *models, int model, const sim_trace *t, double warm, double unit) {
    batches m = { .model = &models[model], .value = unit * models[model].weight };
    m.at = calloc(t->n + 1, sizeof *m.at);
    m.best = calloc(t->n + 1, sizeof *m.best);
    m.taken = calloc(t->n + 1, sizeof *m.taken);
    for (size_t i = 0; i < t->n && m.at; i++)
        if (t->arrivals[i].model == model && (double)t->arrivals[i].ns >= warm) m.at[m.n++] = (double)t->arrivals[i].ns;
    return m;
}

static void release(batches *m) {
    free(m->at);
    free(m->best);
    free(m->taken);
}

/* Lagrangian duality: at any prices, what all models would make, each for itself, and the price of all time bound what
 * they can make together. Prices follow use; the least bound counts. */
static double market_bound(batches *models, int n, const sim_trace *t, double warm, double longest) {
    double(*time)[PS_PROFILE_MAX_BATCH + 1] = calloc((size_t)n, sizeof *time), least = INFINITY;
    market *k = calloc(1, sizeof *k);
    bool ok = time && k;
    for (int m = 0; ok && m < n; m++) {
        ok = models[m].at && models[m].best && models[m].taken;
        for (uint32_t b = 1; ok && b <= models[m].model->max_batch; b++)
            time[m][b] = sim_time_ns(models[m].model, b);
    }
    if (ok) {
        k->from = warm;
        k->n = (size_t)ceil((t->seconds * 1e9 + longest - warm) / SLOT_NS);
        if (k->n > MAX_SLOTS) k->n = MAX_SLOTS; /* the last is longer then, see below */
    }
    double last_slot = ok ? t->seconds * 1e9 + longest - warm - SLOT_NS * (double)(k->n - 1) : 0;
    for (int step = 0; ok && step < STEPS; step++) {
        double sum = 0;
        for (size_t i = 0; i < k->n; i++) {
            k->used[i] = 0;
            sum += k->price[i] * (i + 1 < k->n ? SLOT_NS : last_slot);
        }
        for (int m = 0; m < n; m++) {
            sum += best_batches(&models[m], time[m], k);
            add_use(&models[m], time[m], k);
        }
        least = fmin(least, sum);
        double pace = 0.5 / sqrt(1 + step);
        for (size_t i = 0; i < k->n; i++) {
            double room = i + 1 < k->n ? SLOT_NS : last_slot;
            k->price[i] = fmax(0, k->price[i] + pace * fmax(-1, fmin(1, (k->used[i] - room) / room)));
        }
    }
    free(k);
    free(time);
    return least;
}

double sim_bound_ns(const sim_model *models, int n_models, const sim_trace *t, double warm_seconds) {
    double unit[SIM_MAX_MODELS], longest = 0, warm = warm_seconds * 1e9;
    batches each[SIM_MAX_MODELS];
    for (int m = 0; m < n_models; m++) {
        unit[m] = sim_unit_ns(&models[m], models[m].target_ns);
        longest = fmax(longest, models[m].target_ns);
        each[m] = collect(models, m, t, warm, unit[m]);
    }
    double fluid = fluid_bound(models, unit, longest, t, warm), priced = market_bound(each, n_models, t, warm, longest);
    for (int m = 0; m < n_models; m++)
        release(&each[m]);
    return fmin(fluid, priced);
}
