/* sim.h - a device, its models and their clients in virtual time, around the scheduler that the server uses.
 *
 * Nothing here waits or reads a clock, but for the cost of decisions (cost.c): a run is its trace, its configuration
 * and a seed, and gives the same numbers on every machine. */
#ifndef PS_SCHED_SIM_H
#define PS_SCHED_SIM_H

#include "base/error.h"
#include "sched/sched.h"

#define SIM_MAX_SIZES 64
#define SIM_MAX_MODELS 16
#define SIM_MAX_TENANTS 8

/* How long a batch takes: a table of sizes, straight lines between them. */
typedef struct sim_model {
    char name[48];
    uint32_t n, size[SIM_MAX_SIZES], max_batch;
    double ns[SIM_MAX_SIZES];
    double noise;                /* deviation of the logarithm of a batch's time */
    double spikes, spike_factor; /* share of batches that take so many times longer */
    double target_ns, weight;
} sim_model;

typedef struct sim_arrival {
    int64_t ns;
    uint16_t model, tenant;
    uint32_t priority, sequence; /* 0: none */
} sim_arrival;

typedef struct sim_trace {
    sim_arrival *arrivals;
    size_t n;
    double seconds;
} sim_trace;

typedef struct sim_config {
    const char *policy;
    ps_sched_knobs knobs[SIM_MAX_MODELS];
    uint32_t max_batch; /* 0: the model's */
    bool deadlines;     /* requests carry their model's target as a deadline */
    uint32_t slots, max_queue;
    double warm_seconds; /* arrivals before are not counted */
    uint64_t seed;
    double between_ns; /* from the end of a run until the device is ready for the next: answers are handed out */
    double slow;       /* above 1: the device takes so many times longer for a third of the time */
    double phase_ns;   /* mean of such a stretch of time, above 0 */
    double tenant_weight[SIM_MAX_TENANTS]; /* 0: no such tenant */
} sim_config;

typedef struct sim_count {
    uint64_t offered, good, late, refused, dropped;
} sim_count;

typedef struct sim_result {
    sim_count all, model[SIM_MAX_MODELS], tenant[SIM_MAX_TENANTS], urgent; /* urgent: of a priority above none */
    double seconds;                                                        /* counted */
    double offered_ns, good_ns; /* device time at full batches, by weight: of what was offered, of what was in time */
    double p50_ms, p99_ms, mean_ms, mean_batch, busy;
    uint64_t sizes[PS_SCHED_HISTOGRAM], batches;
} sim_result;

/* trace.c */
typedef struct sim_random {
    uint64_t state;
} sim_random;
double sim_uniform(sim_random *r); /* (0, 1) */
double sim_normal(sim_random *r);
extern const char *const sim_families[]; /* closed by NULL */
/* share[m] arrivals a second of each model on average. Unknown family: PS_NOT_FOUND. */
ps_status sim_trace_make(const char *family, const sim_model *models, int n_models, const double *rate, double seconds,
                         uint64_t seed, sim_trace *ret, ps_error *err);
/* One arrival a line: seconds, and then optionally the model's number, priority, tenant. */
ps_status sim_trace_read(const char *path, int n_models, sim_trace *ret, ps_error *err);
void sim_trace_clear(sim_trace *t);

/* model.c: latency tables */
double sim_time_ns(const sim_model *m, double size);
double sim_unit_ns(const sim_model *m, double longest_ns); /* least ns an item of batches that take no longer */
double sim_capacity(const sim_model *m);                   /* C = max b / l(b), 2 l(b) <= target; items a second */
int sim_models_builtin(sim_model *ret);                    /* count; the six */
/* {"name", "target_ms", "weight", "max_batch", "noise", "table": [[size, ms], ...]}, a list of them, or what
 * `polestar bench --json` prints. */
ps_status sim_models_read(const char *path, sim_model *ret, int *ret_n, ps_error *err);

/* bound.c */
/* What no scheduler can exceed: device time, at full batches, of requests in time. */
double sim_bound_ns(const sim_model *models, int n_models, const sim_trace *t, double warm_seconds);

/* exhaust.c: 1 if a bound is below the optimum of a small trace, or that below the default policy */
int sim_check_bound(void);

/* engine.c */
ps_status sim_run(const sim_model *models, int n_models, const sim_trace *t, const sim_config *config, sim_result *ret,
                  ps_error *err);

/* cost.c: what a decision costs on this machine */
int sim_cost(void);

#endif
