/* log.h - key=value lines to the engine's sink. Library folders log at debug only; the server and tools log once, at
 * the place that decides. */
#ifndef PS_BASE_LOG_H
#define PS_BASE_LOG_H

#include "polestar/engine.h"

typedef struct ps_log {
    ps_log_fn fn; /* NULL: silent */
    void *ctx;
} ps_log;

void ps_log_line(const ps_log *log, ps_log_level level, const char *fmt, ...) PS_PRINTF(3, 4);
/* Quotes value for a key=value line if it holds spaces, quotes or control characters; buf is returned. */
const char *ps_log_quote(const char *value, char *buf, size_t size);

/* The log of an engine, valid as long as it; implemented by runtime. */
const ps_log *ps_engine_log(const ps_engine *engine);

#endif
