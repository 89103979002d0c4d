/* log_filter.h - the logging extension: which lines of the server reach the engine's log. Any thread. */
#ifndef PS_SERVER_LOG_FILTER_H
#define PS_SERVER_LOG_FILTER_H

#include <stdatomic.h>

#include "base/log.h"

#define PS_LOG_MAX_VERBOSE 1000

typedef struct ps_log_filter {
    ps_log to;
    atomic_bool info, warning, error;
    atomic_int verbose; /* above 0: what is said at debug level passes as info */
} ps_log_filter;

/* Everything passes at first, as it is. Returns the log to write to; `filter` must live as long. */
ps_log ps_log_filter_init(ps_log_filter *filter, const ps_log *to);

#endif
