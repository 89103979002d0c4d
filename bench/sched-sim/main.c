/* main.c - sched_sim: every policy beside every other on the same traces (README.md). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { GRID = 108, OWN = 4 };
static const uint32_t grid_batch[] = { 1, 2, 4, 8, 16, 32 };
static const double grid_delay_ms[] = { 0, 1, 2, 5, 10, 20 };
static const double grid_timeout[] = { 0, 0.5, 1 }; /* of the target */
static const char *const own_policies[OWN] = { "deadline", "linear", "aimd", "fixed" };
static const double single_loads[] = { 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.2, 1.5, 2, 3 };
static const double several_loads[] = { 0.3, 0.6, 0.8, 1, 1.5, 2 };

typedef struct options {
    double seconds, warm;
    const char *model, *family, *models_file, *trace_file;
    double load, slow, phase_ms, between_us;
    FILE *csv;
    bool quick, verbose, own;
    int seeds;
    uint64_t seed;
} options;

typedef struct grid_best {
    double any, no_timeout; /* goodput as device time */
    int any_at, no_timeout_at;
} grid_best;

static void fail(const ps_error *err) {
    fprintf(stderr, "sched_sim: %s\n", err->msg);
    exit(1);
}

static void grid_config(int i, const sim_model *models, int n, sim_config *c) {
    int b = i / 18, d = i / 3 % 6, t = i % 3;
    c->policy = "triton";
    c->max_batch = grid_batch[b];
    c->deadlines = false;
    for (int m = 0; m < n; m++)
        c->knobs[m] = (ps_sched_knobs) { .preferred = { grid_batch[b] },
                                         .delay_ns = (int64_t)(grid_delay_ms[d] * 1e6),
                                         .timeout_ns = (int64_t)(grid_timeout[t] * models[m].target_ns) };
}

static void grid_name(int i, char *buf, size_t size) {
    const char *timeouts[] = { "none", "T/2", "T" };
    ps_snprintf(buf, size, "%u/%g ms/%s", grid_batch[i / 18], grid_delay_ms[i / 3 % 6], timeouts[i % 3]);
}

static void csv_row(const options *o, const char *who, const char *family, const char *model, double load,
                    const sim_result *r, double bound) {
    if (!o->csv) return;
    fprintf(o->csv, "\"%s\",%s,%s,%g,%llu,%llu,%llu,%llu,%llu,%.4f,%.4f,%.4f,%.3f,%.3f,%.3f,%.2f,%.4f", who, family,
            model, load, (unsigned long long)r->all.offered, (unsigned long long)r->all.good,
            (unsigned long long)r->all.late, (unsigned long long)r->all.refused, (unsigned long long)r->all.dropped,
            (double)r->all.good / r->seconds, r->good_ns / (r->offered_ns > 0 ? r->offered_ns : 1),
            bound > 0 ? r->good_ns / bound : 0, r->p50_ms, r->p99_ms, r->mean_ms, r->mean_batch, r->busy);
    for (int i = 0; i < PS_SCHED_HISTOGRAM; i++)
        fprintf(o->csv, ",%llu", (unsigned long long)r->sizes[i]);
    fprintf(o->csv, "\n");
}

static void csv_head(FILE *f) {
    fprintf(f, "policy,trace,model,load,offered,good,late,refused,dropped,goodput_per_s,good_of_offered,good_of_bound,"
               "p50_ms,p99_ms,mean_ms,mean_batch,busy");
    for (int i = 0; i < PS_SCHED_HISTOGRAM; i++)
        fprintf(f, ",batches_to_%d", 1 << i);
    fprintf(f, "\n");
}

static grid_best run_grid(const options *o, const sim_model *models, int n, const sim_trace *t, const sim_config *base,
                          const char *family, const char *label, double load, double bound) {
    grid_best best = { 0 };
    ps_error err = PS_ERROR_INIT;
    for (int i = 0; i < GRID && !o->own; i++) {
        if (o->quick && ((i / 3 % 6) == 1 || (i / 3 % 6) == 4)) continue;
        sim_config c = *base;
        sim_result r;
        char name[48], who[64];
        grid_config(i, models, n, &c);
        if (sim_run(models, n, t, &c, &r, &err) != PS_OK) fail(&err);
        grid_name(i, name, sizeof name);
        ps_snprintf(who, sizeof who, "triton %s", name);
        csv_row(o, who, family, label, load, &r, bound);
        if (r.good_ns > best.any) {
            best.any = r.good_ns;
            best.any_at = i;
        }
        if (i % 3 == 0 && r.good_ns > best.no_timeout) {
            best.no_timeout = r.good_ns;
            best.no_timeout_at = i;
        }
    }
    return best;
}

typedef struct verdicts {
    double least_low, least_over, least_rival, least_rival_over, least_bare, least_bound;
    double least_own, least_tenant;
} verdicts;

static void lower(double *least, double value) {
    if (value < *least) *least = value;
}

/* Of each model and tenant: the share of what was offered that was in time. */
static void print_parts(const char *who, const sim_model *models, int n, const sim_result *r) {
    printf("    %-9s", who);
    for (int m = 0; m < n; m++)
        printf(" %s %.3f", models[m].name, (double)r->model[m].good / fmax(1, (double)r->model[m].offered));
    for (int t = 1; t < SIM_MAX_TENANTS; t++) {
        if (r->tenant[t].offered)
            printf("%s%d %.3f", t == 1 ? " | tenants " : " ", t,
                   (double)r->tenant[t].good / (double)r->tenant[t].offered);
    }
    if (r->urgent.offered) printf(" | urgent %.3f", (double)r->urgent.good / (double)r->urgent.offered);
    printf("\n");
}

/* One trace, all policies: a line. soft: the default policy gets no deadlines. */
static void compare(const options *o, const sim_model *models, int n, const sim_trace *t, const char *family,
                    const char *label, double load, double capacity_ns, verdicts *v) {
    sim_config c = { .warm_seconds = o->warm, .seed = o->seed, .slow = o->slow, .phase_ns = 1e6 * o->phase_ms,
                     .between_ns = 1e3 * o->between_us };
    sim_result r[OWN], soft;
    ps_error err = PS_ERROR_INIT;
    for (int i = 0; i < SIM_MAX_TENANTS && strcmp(family, "hog") == 0; i++)
        c.tenant_weight[i] = i < 4;
    double bound = sim_bound_ns(models, n, t, o->warm), own_best = 0;
    for (int i = 0; i < OWN; i++) {
        c.policy = own_policies[i];
        c.deadlines = strcmp(c.policy, "fixed") != 0;
        if (sim_run(models, n, t, &c, &r[i], &err) != PS_OK) fail(&err);
        csv_row(o, c.policy, family, label, load, &r[i], bound);
        if (i > 0) own_best = fmax(own_best, r[i].good_ns);
    }
    c.policy = "deadline";
    c.deadlines = false;
    if (sim_run(models, n, t, &c, &soft, &err) != PS_OK) fail(&err);
    csv_row(o, "deadline, none sent", family, label, load, &soft, bound);
    grid_best best = run_grid(o, models, n, t, &c, family, label, load, bound);
    char name[48];
    grid_name(best.any_at, name, sizeof name);
    double good = r[0].good_ns, rival = fmax(best.any, own_best);
    printf("%-9s %-9s %4.1f | %5.3f %5.3f %5.3f | %5.3f %5.3f %5.3f | %5.3f %5.3f %5.3f | %6.1f %6.1f %5.1f | %s\n",
           label, family, load, good / r[0].offered_ns, capacity_ns > 0 ? good / capacity_ns : 0, good / bound,
           good / best.any, good / best.no_timeout, good / own_best, soft.good_ns / bound, soft.good_ns / best.any,
           soft.good_ns / best.no_timeout, r[0].p50_ms, r[0].p99_ms, r[0].mean_batch, name);
    for (int i = 0; i < OWN && o->verbose; i++)
        print_parts(own_policies[i], models, n, &r[i]);
    if (load <= 0.801) lower(&v->least_low, good / r[0].offered_ns);
    if (load > 1.4 && capacity_ns > 0) lower(&v->least_over, good / capacity_ns);
    lower(load > 1.4 ? &v->least_rival_over : &v->least_rival, good / rival);
    if (load > 1.4) lower(&v->least_bare, good / best.no_timeout);
    lower(&v->least_bound, good / bound);
    lower(&v->least_own, soft.good_ns / best.any);
    fflush(stdout);
}

static const verdicts fresh = { 9, 9, 9, 9, 9, 9, 9, 9 };

static void print_head(void) {
    printf("model     trace     load | of offered, C, bound | by best grid, no timeout, own | none sent: bound, grid, "
           "no timeout |"
           " p50 p99 ms batch | best of the grid: batch/delay/timeout\n");
}

static void run_single(const options *o, const sim_model *models, int n) {
    ps_error err = PS_ERROR_INIT;
    print_head();
    for (int m = 0; m < n; m++) {
        if (o->model && strcmp(o->model, models[m].name) != 0) continue;
        for (int f = 0; f < 2; f++) {
            const char *family = f ? "onoff" : "poisson";
            if (o->family && strcmp(o->family, family) != 0) continue;
            verdicts v = fresh;
            double capacity = sim_capacity(&models[m]);
            for (size_t i = 0; i < sizeof single_loads / sizeof *single_loads; i++) {
                double load = single_loads[i], rate = capacity * load;
                if (o->load > 0 && o->load != load) continue;
                sim_trace t;
                if (sim_trace_make(family, &models[m], 1, &rate, o->seconds, o->seed, &t, &err) != PS_OK) fail(&err);
                double capacity_ns = capacity * (o->seconds - o->warm) * sim_unit_ns(&models[m], models[m].target_ns);
                compare(o, &models[m], 1, &t, family, models[m].name, load, capacity_ns, &v);
                sim_trace_clear(&t);
            }
            printf("  %s %s: least up to 0.8 C %.3f of offered; from 1.5 C: %.3f of C, %.3f of best rival, %.3f of "
                   "best without "
                   "timeout; else %.3f of best rival; no deadlines sent: %.3f of the grid\n",
                   models[m].name, family, v.least_low, v.least_over, v.least_rival_over, v.least_bare, v.least_rival,
                   v.least_own);
        }
    }
}

static void run_several(const options *o, const sim_model *models, int n) {
    ps_error err = PS_ERROR_INIT;
    print_head();
    for (int f = 0; sim_families[f]; f++) {
        if (o->family && strcmp(o->family, sim_families[f]) != 0) continue;
        verdicts v = fresh;
        for (size_t i = 0; i < sizeof several_loads / sizeof *several_loads; i++) {
            double rate[SIM_MAX_MODELS];
            if (o->load > 0 && o->load != several_loads[i]) continue;
            for (int m = 0; m < n; m++)
                rate[m] = several_loads[i] / n * sim_capacity(&models[m]);
            sim_trace t;
            if (sim_trace_make(sim_families[f], models, n, rate, o->seconds, o->seed, &t, &err) != PS_OK) fail(&err);
            compare(o, models, n, &t, sim_families[f], "all", several_loads[i], 0, &v);
            sim_trace_clear(&t);
        }
        printf("  all %s: least %.3f of offered up to 0.8, %.3f of best rival (%.3f from 1.5), %.3f of the bound\n",
               sim_families[f], v.least_low, v.least_rival, v.least_rival_over, v.least_bound);
    }
}

static void run_recorded(const options *o, const sim_model *models, int n) {
    ps_error err = PS_ERROR_INIT;
    sim_trace t;
    verdicts v = fresh;
    if (sim_trace_read(o->trace_file, n, &t, &err) != PS_OK) fail(&err);
    print_head();
    compare(o, models, n, &t, "recorded", n == 1 ? models[0].name : "all", 0, 0, &v);
    sim_trace_clear(&t);
}

typedef struct check_line {
    const char *model, *family; /* NULL: all models */
    double load, of_offered, of_capacity, of_rival, slow, phase_ms;
} check_line;

enum { CHECK_SEEDS = 3 };

static bool reaches(const char *what, double value, double least) {
    if (least > 0) printf("  %s %.3f >= %.3f %s\n", value >= least ? "holds" : "FAILS", value, least, what);
    return value >= least;
}

/* Means over a few seeds: on a single trace of seconds the best rival is the luckiest one. */
static bool check_one(const options *common, const sim_model *set, int count, const check_line *l) {
    options own = *common, *o = &own;
    double rate[SIM_MAX_MODELS], capacity = sim_capacity(set), low = 0, over = 0, rival = 0;
    for (int m = 0; m < count; m++)
        rate[m] = l->load / count * sim_capacity(&set[m]);
    double capacity_ns = count == 1 ? capacity * (o->seconds - o->warm) * sim_unit_ns(set, set->target_ns) : 0;
    o->slow = l->slow;
    if (l->phase_ms > 0) o->phase_ms = l->phase_ms;
    for (; o->seed < common->seed + CHECK_SEEDS; o->seed++) {
        sim_trace t;
        ps_error err = PS_ERROR_INIT;
        verdicts v = fresh;
        if (sim_trace_make(l->family, set, count, rate, o->seconds, o->seed, &t, &err) != PS_OK) fail(&err);
        compare(o, set, count, &t, l->family, l->model ? l->model : "all", l->load, capacity_ns, &v);
        sim_trace_clear(&t);
        low += v.least_low / CHECK_SEEDS;
        over += v.least_over / CHECK_SEEDS;
        rival += (l->load > 1.4 ? v.least_rival_over : v.least_rival) / CHECK_SEEDS;
    }
    const bool offered = reaches("of what is offered", low, l->of_offered);
    const bool full = reaches("of C", over, l->of_capacity);
    return reaches("of the best rival", rival, l->of_rival) && offered && full;
}

/* The lines on a few traces; virtual time, so the same result everywhere. Margins: runs of 5 s are short. */
static int run_check(options *o, const sim_model *models, int n) {
    static const check_line lines[] = {
        { "mlp", "poisson", 0.8, 0.98, 0, 0.98, 1, 0 },    { "mlp", "poisson", 2, 0, 0.95, 0.98, 1, 0 },
        { "mlp", "onoff", 0.8, 0, 0, 1, 1, 0 },            { "minilm", "poisson", 0.8, 0.98, 0, 0.98, 1, 0 },
        { "minilm", "poisson", 1.5, 0, 0.95, 0.98, 1, 0 }, { "minilm", "poisson", 2, 0, 0, 0.96, 1.7, 0 },
        { "lstm", "poisson", 2, 0, 0, 0.97, 1.35, 200 },
        { NULL, "poisson", 0.8, 0, 0, 1, 1, 0 },           { NULL, "bursts", 1.5, 0, 0, 1, 1, 0 },
    };
    int failed = sim_check_bound();
    o->quick = true;
    o->seconds = 5;
    o->warm = 2;
    print_head();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const sim_model *set = models;
        int count = n;
        for (int m = 0; m < n && lines[i].model; m++) {
            if (strcmp(models[m].name, lines[i].model) != 0) continue;
            set = &models[m];
            count = 1;
        }
        if (!check_one(o, set, count, &lines[i])) failed = 1;
    }
    return failed;
}

int main(int argc, char **argv) {
    static sim_model models[SIM_MAX_MODELS];
    options o = { .seconds = 20, .warm = 3, .seed = 1, .phase_ms = 1000 };
    ps_error err = PS_ERROR_INIT;
    const char *part = "all";
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        o.quick = o.quick || strcmp(argv[i], "--quick") == 0;
        o.verbose = o.verbose || strcmp(argv[i], "--verbose") == 0;
        o.own = o.own || strcmp(argv[i], "--own") == 0;
        if (strcmp(argv[i], "--quick") == 0 || strcmp(argv[i], "--verbose") == 0 || strcmp(argv[i], "--own") == 0)
            continue;
        i++;
        if (strcmp(argv[i - 1], "--part") == 0)
            part = value;
        else if (strcmp(argv[i - 1], "--model") == 0)
            o.model = value;
        else if (strcmp(argv[i - 1], "--family") == 0)
            o.family = value;
        else if (strcmp(argv[i - 1], "--load") == 0)
            o.load = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--slow") == 0)
            o.slow = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--phase") == 0)
            o.phase_ms = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--between") == 0)
            o.between_us = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--seconds") == 0)
            o.seconds = strtod(value, NULL);
        else if (strcmp(argv[i - 1], "--seed") == 0)
            o.seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--models") == 0)
            o.models_file = value;
        else if (strcmp(argv[i - 1], "--trace") == 0)
            o.trace_file = value;
        else if (strcmp(argv[i - 1], "--csv") == 0)
            o.csv = fopen(value, "w");
        else {
            fprintf(stderr, "usage: sched_sim [--part single|several|cost|check] [--model NAME] [--family NAME] "
                            "[--load X] [--slow X] [--phase MS] [--between US] [--seconds S] "
                            "[--seed N] [--models FILE.json] [--trace FILE] [--csv FILE] [--quick] [--own] [--verbose]\n");
            return 2;
        }
    }
    if (!(o.phase_ms >= 1 && o.phase_ms <= 1e6 && o.between_us >= 0 && o.between_us <= 1e6)) {
        fprintf(stderr, "sched_sim: --phase is %g ms and --between %g us; from 1 and from 0 to 1000000 are possible\n",
                o.phase_ms, o.between_us);
        return 2;
    }
    int n = sim_models_builtin(models);
    if (o.models_file && sim_models_read(o.models_file, models, &n, &err) != PS_OK) fail(&err);
    if (strcmp(part, "check") == 0) return run_check(&o, models, n);
    if (o.csv) csv_head(o.csv);
    bool all = strcmp(part, "all") == 0;
    if (o.trace_file)
        run_recorded(&o, models, n);
    else {
        if (all || strcmp(part, "single") == 0) run_single(&o, models, n);
        if (all || strcmp(part, "several") == 0) run_several(&o, models, n);
    }
    if (!o.trace_file && (all || strcmp(part, "cost") == 0) && sim_cost() != 0) return 1;
    if (o.csv) fclose(o.csv);
    return 0;
}
