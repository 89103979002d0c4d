#include "server/http/gather.h"

#include "base/os.h"
#include "server/http/exchange.h"
#include "server/runner.h"

#define RESTED_NS 15000 /* off the processor, since the last pause: less is no sleep */

/* NULL: there are too many. */
static ps_gatherer *find(ps_http *http, uintptr_t daemon) {
    for (int i = 0; i < PS_MAX_GATHERERS; i++) {
        ps_gatherer *g = &http->gatherers[i];
        uintptr_t owner = atomic_load_explicit(&g->daemon, memory_order_relaxed);
        if (!owner && atomic_compare_exchange_strong(&g->daemon, &owner, daemon)) return g;
        if (owner == daemon) return g;
    }
    return NULL;
}

void ps_gather(ps_http *http, struct MHD_Connection *connection) {
    const bool crowded = ps_runner_is_crowded(http->options.runner);
    ps_ticker_slow(http->ticker, crowded);
    if (!crowded) return;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_DAEMON);
    ps_gatherer *g = info ? find(http, (uintptr_t)info->daemon) : NULL;
    if (!g) return;
    const int64_t cpu = ps_thread_cpu_ns();
    if (ps_clock_ns() - g->wall_ns < cpu - g->cpu_ns + RESTED_NS) return;
    ps_sleep_ns(PS_GATHER_NS);
    g->wall_ns = ps_clock_ns();
    g->cpu_ns = ps_thread_cpu_ns();
}
