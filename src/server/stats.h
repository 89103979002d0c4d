/* stats.h - counters of one version of a model: those of the v2 statistics extension, and what they lack: failures by
 * reason, percentiles, loads and evictions.
 *
 * They belong to the version, not to what is loaded of it: reference counted, so that they survive evictions, unloads
 * and reloads. Thread-safe; counting takes no memory. */
#ifndef PS_SERVER_STATS_H
#define PS_SERVER_STATS_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/str.h"
#include "base/thread.h"
#include "server/durations.h"

typedef struct ps_duration {
    uint64_t count, ns;
} ps_duration;

/* Why a request got no answer. */
typedef enum ps_failure {
    PS_FAILURE_INVALID,      /* the request is wrong, or asks for what there is not */
    PS_FAILURE_QUEUE_FULL,   /* refused: too many wait already */
    PS_FAILURE_TOO_LATE,     /* refused: it could not have ended in time */
    PS_FAILURE_DEADLINE,     /* its time passed */
    PS_FAILURE_MEMORY,       /* there was none for it */
    PS_FAILURE_LOAD_TIMEOUT, /* its model was not loaded in time */
    PS_FAILURE_LOAD_FAILED,  /* its model cannot be loaded */
    PS_FAILURE_UNAVAILABLE,  /* the model was unloaded, or the server stopped */
    PS_FAILURE_CANCELLED,    /* the client gave it up */
    PS_FAILURE_INTERNAL,     /* the run failed */
    PS_FAILURES
} ps_failure;

/* "invalid_argument", "queue_full" … */
const char *ps_failure_name(ps_failure failure);
/* Of an error that says no more than that. */
ps_failure ps_failure_of(ps_status status);

#define PS_STATS_SIZES 64   /* batch sizes told apart; larger ones that come late count as the last */
#define PS_STATS_BATCHES 12 /* batches of 1, 2, 3-4, 5-8, ... 513-1024 and more rows */

typedef struct ps_stats_size {
    uint64_t items; /* of the batch; 0: unused */
    ps_duration input, infer, output;
} ps_stats_size;

/* What the counters hold at one moment. */
typedef struct ps_stats_values {
    uint64_t last_inference_ms, last_used_ms; /* since 1970: the last success, the last request; 0: never */
    uint64_t inferences, executions;
    ps_duration success, fail, queue, input, infer, output;
    uint64_t failures[PS_FAILURES];
    uint64_t batches[PS_STATS_BATCHES]; /* their sum is executions */
    uint64_t batch_rows;                /* of all of them */
    ps_duration load;                   /* those that succeeded, without waiting for room */
    uint64_t cached_loads, failed_loads, evictions;
    uint64_t peak_bytes;                 /* of what was loaded and is gone */
    ps_stats_size sizes[PS_STATS_SIZES]; /* in order of their first use */
} ps_stats_values;

/* Of requests that succeeded. HIT: their model was there; MISS: they waited for it to be loaded; TOTAL: both. */
typedef enum ps_latency {
    PS_LATENCY_QUEUE,
    PS_LATENCY_COMPUTE,
    PS_LATENCY_HIT,
    PS_LATENCY_MISS,
    PS_LATENCY_TOTAL
} ps_latency;

typedef struct ps_stats {
    atomic_int refs;
    ps_alloc_state *alloc;
    ps_mutex lock;
    ps_stats_values values; /* guarded by lock, like the next */
    ps_durations latency[PS_LATENCY_TOTAL];
} ps_stats;

/* Durations of one request in nanoseconds, and what it counts for. */
typedef struct ps_stats_sample {
    int64_t total, queue, input, infer, output;
    uint32_t items; /* of the request */
    uint32_t batch; /* of the run, for one of its requests; 0 for the others */
    bool missed;    /* it waited for its model to be loaded */
} ps_stats_sample;

ps_stats *ps_stats_create(ps_alloc_state *alloc); /* NULL: out of memory */
ps_stats *ps_stats_retain(ps_stats *stats);
void ps_stats_release(ps_stats *stats); /* NULL is allowed */

void ps_stats_success(ps_stats *stats, const ps_stats_sample *sample);
void ps_stats_fail(ps_stats *stats, ps_failure failure, int64_t total_ns);
/* Failures that were counted before there was anything to count them. */
void ps_stats_fail_before(ps_stats *stats, const ps_duration failures[PS_FAILURES]);
void ps_stats_loaded(ps_stats *stats, int64_t ns, bool from_cache);
void ps_stats_load_failed(ps_stats *stats);
void ps_stats_evicted(ps_stats *stats);
/* What was loaded held so much at most, and is gone. */
void ps_stats_held(ps_stats *stats, size_t peak_bytes);

ps_stats_values ps_stats_get(ps_stats *stats);
void ps_stats_latency(ps_stats *stats, ps_latency which, ps_durations *ret);

/* What the statistics say of the version besides its counters. */
typedef struct ps_stats_version {
    const char *name, *version;
    const char *state; /* as in the index */
    const char *device;
    size_t bytes, peak_bytes; /* that it holds, and held at most */
} ps_stats_version;

/* One element of "model_stats" but for the closing brace: others add members of their own. */
void ps_stats_write(ps_stats *stats, const ps_stats_version *of, ps_str *out);

#endif
