/* stats.h - counters of one served model, in the terms of the v2 statistics extension. Thread-safe. */
#ifndef PS_SERVER_STATS_H
#define PS_SERVER_STATS_H

#include "base/str.h"
#include "base/thread.h"

typedef struct ps_duration {
    uint64_t count, ns;
} ps_duration;

#define PS_STATS_SIZES 64 /* batch sizes told apart; larger ones that come late count as the last */

typedef struct ps_stats_size {
    uint64_t items; /* of the batch; 0: unused */
    ps_duration input, infer, output;
} ps_stats_size;

/* What the counters hold at one moment. */
typedef struct ps_stats_values {
    uint64_t last_inference_ms; /* since 1970; 0: never */
    uint64_t inferences, executions;
    ps_duration success, fail, queue, input, infer, output;
    ps_stats_size sizes[PS_STATS_SIZES]; /* in order of their first use */
} ps_stats_values;

typedef struct ps_stats {
    ps_mutex lock;
    ps_stats_values values; /* guarded by lock */
} ps_stats;

/* Durations of one request in nanoseconds, and what it counts for. */
typedef struct ps_stats_sample {
    int64_t total, queue, input, infer, output;
    uint32_t items; /* of the request */
    uint32_t batch; /* of the run, for one of its requests; 0 for the others */
} ps_stats_sample;

bool ps_stats_init(ps_stats *stats);
void ps_stats_destroy(ps_stats *stats);
void ps_stats_success(ps_stats *stats, const ps_stats_sample *sample);
void ps_stats_fail(ps_stats *stats, int64_t total_ns);
ps_stats_values ps_stats_get(ps_stats *stats);
/* Goes on from what an earlier one counted. */
void ps_stats_resume(ps_stats *stats, const ps_stats_values *values);
/* One element of "model_stats", of a model that holds so much memory, but for the closing brace: others add members of
 * their own. */
void ps_stats_write(ps_stats *stats, const char *name, const char *version, const char *device, size_t bytes,
                    ps_str *out);

#endif
