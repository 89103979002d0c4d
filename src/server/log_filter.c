#include "server/log_filter.h"

static bool passes(const ps_log_filter *f, ps_log_level level) {
    switch (level) {
    case PS_LOG_ERROR: return atomic_load_explicit(&f->error, memory_order_relaxed);
    case PS_LOG_WARN: return atomic_load_explicit(&f->warning, memory_order_relaxed);
    case PS_LOG_INFO: return atomic_load_explicit(&f->info, memory_order_relaxed);
    default: return true;
    }
}

static void filter_line(void *ctx, ps_log_level level, const char *line) {
    const ps_log_filter *f = ctx;
    if (!passes(f, level)) return;
    if (level == PS_LOG_DEBUG && atomic_load_explicit(&f->verbose, memory_order_relaxed) > 0) level = PS_LOG_INFO;
    f->to.fn(f->to.ctx, level, line);
}

ps_log ps_log_filter_init(ps_log_filter *f, const ps_log *to) {
    f->to = *to;
    atomic_init(&f->info, true);
    atomic_init(&f->warning, true);
    atomic_init(&f->error, true);
    atomic_init(&f->verbose, 0);
    return (ps_log) { to->fn ? filter_line : NULL, f };
}
