/* bound.c - what no scheduler exceeds on a trace, however much it knew of the future. Batches take their mean times.
 *
 * Let p(t) >= 0 be any price of the device's time. Batches run one at a time and in one piece, so that what the batches
 * of a schedule pay for their runs is together at most the integral of p. The schedule's value is therefore at most
 *
 *     integral of p  +  sum over models of the most that batches of this model can be worth, less what they pay,
 *
 * where each model is looked at by itself, and its batches may even overlap. That most is found by dynamic programming.
 * Any p gives a bound (Lagrangian duality); p follows use, to make it small. The linear program behind it is the one
 * indexed by time of Dyer and Wolsey (1990), with a variable for each "this batch starts now": that a run is in one
 * piece and whom it makes late, that batches are whole, and when each can be collected at the earliest is all in it. */
#include <math.h>
#include <stdlib.h>

#include "sim.h"

#define CELL_NS 2e6 /* of device time that has one price; any length gives a bound */
#define MAX_CELLS 16384.0
#define PACE 0.1    /* by which a price moves in a step; a device that is always full has the price 1 */
#define SLOWER 15.0 /* steps after which it is half of that */
#define ENOUGH 2e-4 /* less gained by PATIENCE steps: no more are made */
#define TOGETHER 32 /* neighbours whose prices move as one at first; half as many after REFINE steps, and so on */
enum { STEPS = 300, PATIENCE = 50, REFINE = 20 };

typedef struct market {
    double from, cell, per_ns; /* per_ns: cells */
    size_t n, longest;                   /* cells; those that a run can touch beyond the last */
    double *price, *spent, *used;        /* spent[i]: the price of all time before cell i */
    double *way, *force;                 /* of the search for prices: means of the excess, and of its square */
    float *least;                        /* of a model: [point][level][cell], the cheapest start in 2^level cells */
    size_t levels;
    uint8_t *level; /* of so many cells: the largest whose windows fit in */
} market;

/* Arrivals of one model, and, for each number of them left, what the best batches of those make. */
typedef struct batches {
    const sim_model *model;
    double *at, *best;
    uint16_t *taken; /* size of the first one's batch; 0: it is left out */
    size_t n;
    uint32_t max_batch;
    double value; /* of a request */
    uint32_t *born; /* the cell */
    double time[PS_PROFILE_MAX_BATCH + 1];
    uint16_t point[PS_PROFILE_MAX_BATCH + 1];
} batches;

static size_t cell_of(const market *k, double ns) {
    double i = (ns - k->from) * k->per_ns;
    return i <= 0 ? 0 : i >= (double)(k->n - 1) ? k->n - 1 : (size_t)i;
}

/* ---- runs ---- */

/* What a run pays that starts at the left edge of cell i, and one that ends at an edge. */
typedef struct run_price {
    size_t whole; /* cells */
    double rest, turn;
} run_price;

static run_price price_of(const market *k, double run) {
    size_t whole = (size_t)(run / k->cell);
    double rest = run - (double)whole * k->cell;
    return (run_price) { whole, rest, k->cell - rest };
}

static double from_edge(const market *k, run_price r, size_t i) {
    return k->spent[i + r.whole] + k->price[i + r.whole] * r.rest - k->spent[i];
}

static double until_edge(const market *k, run_price r, size_t i) {
    return k->spent[i + r.whole + 1] - k->spent[i] - k->price[i] * r.turn;
}

static float *row(const market *k, uint32_t point, size_t level) {
    return k->least + (point * k->levels + level) * k->n;
}

/* The point whose size is `size`, or is less: a larger batch pays at least as much. */
static uint32_t point_below(uint32_t size) {
    uint32_t point = ps_profile_point_of(size);
    return ps_profile_size_of(point) > size ? point - 1 : point;
}

/* The cheapest start in each cell, and in each 2^level from there on. What a run pays is linear in its start between
 * edges of cells at either end. Rounded down, so that the bound stays one. */
static void price_runs(market *k, const batches *m) {
    for (uint32_t point = 0; point <= point_below(m->max_batch); point++) {
        run_price r = price_of(k, m->time[ps_profile_size_of(point)]);
        float *cell = row(k, point, 0);
        double left = from_edge(k, r, 0);
        for (size_t i = 0; i < k->n; i++) {
            double right = from_edge(k, r, i + 1), turn = until_edge(k, r, i);
            double least = left < right ? left : right;
            cell[i] = (float)((least < turn ? least : turn) * (1 - 1e-6));
            left = right;
        }
        for (size_t level = 1; level < k->levels; level++) {
            const float *below = row(k, point, level - 1);
            float *here = row(k, point, level);
            size_t half = (size_t)1 << (level - 1);
            for (size_t i = 0; i < k->n; i++)
                here[i] = i + half < k->n && below[i + half] < below[i] ? below[i + half] : below[i];
        }
    }
}

static double cheapest(const market *k, uint32_t point, size_t first, size_t last) {
    size_t level = k->level[last - first + 1];
    const float *least = row(k, point, level);
    float a = least[first], b = least[last + 1 - ((size_t)1 << level)];
    return (double)(a < b ? a : b);
}

/* ---- one model at these prices ---- */

/* Batches of consecutive arrivals are enough: of two batches, the one that starts first can have the older requests,
 * and instead of one that is left out between two of a batch, the last one can be. */
static double best_batches(batches *m, const market *k) {
    double target = m->model->target_ns;
    m->best[m->n] = 0;
    for (size_t i = m->n; i-- > 0;) {
        m->best[i] = m->best[i + 1];
        m->taken[i] = 0;
        for (uint32_t b = 1; b <= m->max_batch && i + b <= m->n; b++) {
            double first = m->at[i + b - 1], last = m->at[i] + target - m->time[b];
            if (first > last) break;
            double pays = cheapest(k, m->point[b], m->born[i + b - 1], cell_of(k, last));
            double sum = m->best[i + b] + b * m->value - pays;
            if (sum <= m->best[i]) continue;
            m->best[i] = sum;
            m->taken[i] = (uint16_t)b;
        }
    }
    return m->best[0];
}

static void use(market *k, double start, double end) {
    for (size_t i = cell_of(k, start); start < end; i++) {
        double edge = k->from + k->cell * (double)(i + 1), until = edge < end ? edge : end;
        if (until > start) k->used[i < k->n ? i : k->n - 1] += until - start;
        start = until > start ? until : start;
    }
}

static void use_cheapest(market *k, uint32_t point, double run, size_t first, size_t last) {
    const float *cell = row(k, point, 0);
    size_t at = first;
    for (size_t i = first + 1; i <= last; i++) {
        if (cell[i] < cell[at]) at = i;
    }
    run_price r = price_of(k, run);
    double start = k->from + k->cell * (double)at, left = from_edge(k, r, at), turn = until_edge(k, r, at);
    double right = from_edge(k, r, at + 1);
    if (turn < left || right < left) start += turn < right ? r.turn : k->cell;
    use(k, start, start + run);
}

static void use_best(const batches *m, market *k) {
    for (size_t i = 0; i < m->n; i += m->taken[i] ? m->taken[i] : 1) {
        uint32_t b = m->taken[i];
        if (!b) continue;
        double last = m->at[i] + m->model->target_ns - m->time[b];
        use_cheapest(k, m->point[b], m->time[b], m->born[i + b - 1], cell_of(k, last));
    }
}

/* ---- prices ---- */

static double sum_up(market *k) {
    for (size_t i = 0; i < k->n; i++) {
        k->used[i] = 0;
        k->spent[i + 1] = k->spent[i] + k->price[i] * k->cell;
    }
    for (size_t i = k->n; i < k->n + k->longest; i++)
        k->spent[i + 1] = k->spent[i];
    return k->spent[k->n];
}

/* Cells of one price each for `together` neighbours, towards what their excess asks for: steps as of Kingma and Ba
 * (2015), because where much is asked for in one place the others need not wait. */
static void move_prices(market *k, size_t together, double pace, int step) {
    for (size_t i = 0; i < k->n; i += together) {
        size_t end = i + together < k->n ? i + together : k->n;
        double excess = 0;
        for (size_t j = i; j < end; j++)
            excess += k->used[j] / k->cell - 1;
        excess /= (double)(end - i);
        for (size_t j = i; j < end; j++) {
            k->way[j] += 0.3 * (excess - k->way[j]);
            k->force[j] += 0.05 * (excess * excess - k->force[j]);
            double force = k->force[j] / (1 - pow(0.95, step + 1));
            k->price[j] = fmax(0, k->price[j] + pace * k->way[j] / (sqrt(force) + 0.1));
        }
    }
}

/* The least of many: later ones gain little, and none can be too small. */
static double market_bound(market *k, batches *models, int n) {
    double least = INFINITY, before = INFINITY;
    for (int step = 0; step < STEPS; step++) {
        double sum = sum_up(k);
        for (int m = 0; m < n; m++) {
            price_runs(k, &models[m]);
            sum += best_batches(&models[m], k);
            use_best(&models[m], k);
        }
        least = fmin(least, sum);
        if (step % PATIENCE == PATIENCE - 1) {
            if (least > before * (1 - ENOUGH)) break;
            before = least;
        }
        size_t together = TOGETHER >> (step / REFINE < 5 ? step / REFINE : 5);
        move_prices(k, together, PACE / (1 + step / SLOWER), step);
    }
    return least;
}

/* ---- the device as a fluid ---- */

/* As if requests were a fluid that the device takes in at the rate of its most efficient batch, of the model with most
 * weight: what waits for longer than the longest target is lost, and nothing else is. Knows less than prices do, but
 * needs no search for them: where one model alone keeps the device full, these find the last percents slowly. */
static double fluid_bound(const batches *models, int n, double longest, const sim_trace *t, double warm) {
    double queue = 0, done = 0, last = warm, end = t->seconds * 1e9 + longest, weight = 0;
    for (int m = 0; m < n; m++)
        weight = fmax(weight, models[m].model->weight);
    for (size_t i = 0; i <= t->n; i++) {
        double now = i < t->n ? (double)t->arrivals[i].ns : end;
        if (now < warm) continue;
        double served = fmin(queue, (now - last) * weight);
        queue -= served;
        done += served;
        last = now;
        if (i < t->n) queue = fmin(queue + models[t->arrivals[i].model].value, longest * weight);
    }
    return done;
}

static bool open_market(market *k, double from, double until, double longest, uint32_t points) {
    k->from = from;
    k->cell = fmax(CELL_NS, (until - from) / MAX_CELLS);
    k->per_ns = 1 / k->cell;
    k->n = (size_t)ceil((until - from) / k->cell) + 1;
    k->longest = (size_t)(longest / k->cell) + 3;
    for (k->levels = 1; (size_t)1 << k->levels <= k->longest;)
        k->levels++;
    size_t all = k->n + k->longest + 1;
    k->price = calloc(all, sizeof *k->price);
    k->spent = calloc(all, sizeof *k->spent);
    k->used = calloc(all, sizeof *k->used);
    k->way = calloc(all, sizeof *k->way);
    k->force = calloc(all, sizeof *k->force);
    k->least = calloc(points * k->levels * k->n, sizeof *k->least);
    k->level = calloc(k->longest + 1, sizeof *k->level);
    for (size_t i = 2; k->level && i <= k->longest; i++)
        k->level[i] = (uint8_t)(k->level[i / 2] + 1);
    return k->level && k->price && k->spent && k->used && k->way && k->force && k->least;
}

static void close_market(market *k) {
    free(k->price);
    free(k->spent);
    free(k->used);
    free(k->way);
    free(k->force);
    free(k->least);
    free(k->level);
}

/* A batch may run with empty seats where a larger one is faster. */
static void set_times(batches *m) {
    m->max_batch = m->model->max_batch;
    for (uint32_t b = m->max_batch; b > 0; b--) {
        double t = sim_time_ns(m->model, b);
        m->point[b] = (uint16_t)point_below(b);
        m->time[b] = b < m->model->max_batch && m->time[b + 1] < t ? m->time[b + 1] : t;
        if (m->time[b] > m->model->target_ns && b > 1) m->max_batch = b - 1;
    }
}

static bool collect(const sim_model *models, int model, const sim_trace *t, double warm, batches *m) {
    m->model = &models[model];
    m->value = sim_unit_ns(m->model, m->model->target_ns) * m->model->weight;
    m->at = calloc(t->n + 1, sizeof *m->at);
    m->best = calloc(t->n + 1, sizeof *m->best);
    m->taken = calloc(t->n + 1, sizeof *m->taken);
    m->born = calloc(t->n + 1, sizeof *m->born);
    set_times(m);
    for (size_t i = 0; i < t->n && m->at; i++)
        if (t->arrivals[i].model == model && (double)t->arrivals[i].ns >= warm)
            m->at[m->n++] = (double)t->arrivals[i].ns;
    return m->at && m->best && m->taken && m->born;
}

double sim_bound_ns(const sim_model *models, int n_models, const sim_trace *t, double warm_seconds) {
    double longest = 0, warm = warm_seconds * 1e9, bound = INFINITY;
    batches *each = calloc((size_t)n_models, sizeof *each);
    uint32_t points = 0;
    market k = { 0 };
    bool ok = each != NULL;
    for (int m = 0; ok && m < n_models; m++) {
        ok = collect(models, m, t, warm, &each[m]);
        longest = fmax(longest, models[m].target_ns);
        uint32_t own = ps_profile_point_of(models[m].max_batch) + 1;
        points = own > points ? own : points;
    }
    ok = ok && open_market(&k, warm, t->seconds * 1e9 + longest, longest, points);
    for (int m = 0; ok && m < n_models; m++) {
        for (size_t i = 0; i < each[m].n; i++)
            each[m].born[i] = (uint32_t)cell_of(&k, each[m].at[i]);
    }
    if (ok) bound = fmin(market_bound(&k, each, n_models), fluid_bound(each, n_models, longest, t, warm));
    close_market(&k);
    for (int m = 0; each && m < n_models; m++) {
        free(each[m].at);
        free(each[m].best);
        free(each[m].taken);
        free(each[m].born);
    }
    free(each);
    return bound;
}
