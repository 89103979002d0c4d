/* trace.h - the trace extension: of every so many requests of a model, one leaves a line with its times in the log.
 *
 * Settings are global, and per model where a model has some of its own; nothing is written to files that a client
 * names. Any thread. */
#ifndef PS_SERVER_TRACE_H
#define PS_SERVER_TRACE_H

#include "base/log.h"
#include "server/core.h"
#include "server/stats.h"

typedef struct ps_trace ps_trace;

typedef struct ps_trace_settings {
    bool timestamps; /* trace_level: OFF or TIMESTAMPS */
    int64_t rate;    /* one of so many requests; at least 1 */
    int64_t count;   /* traces left; -1: no end */
} ps_trace_settings;

/* Bits of ps_trace_change. */
enum { PS_TRACE_LEVEL = 1, PS_TRACE_RATE = 2, PS_TRACE_COUNT = 4 };

/* `clear` gives members back to the global settings, or to the initial ones. */
typedef struct ps_trace_change {
    unsigned set, clear;
    ps_trace_settings values;
} ps_trace_change;

ps_status ps_trace_create(ps_alloc_state *alloc, const ps_log *log, ps_trace **ret, ps_error *err);
void ps_trace_free(ps_trace *trace); /* NULL is allowed */
/* model NULL: the global settings. */
void ps_trace_get(ps_trace *trace, const char *model, ps_trace_settings *ret);
ps_status ps_trace_update(ps_trace *trace, const char *model, const ps_trace_change *change, ps_error *err);
/* After every run. Costs one load while nothing is traced. */
void ps_trace_request(ps_trace *trace, const ps_infer *infer, const ps_stats_sample *sample);

#endif
