/* metrics.c - the route of Prometheus. */
#include "server/metrics.h"
#include "server/http/handlers.h"

void ps_handle_metrics(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_metrics_write(x->http->options.repository, x->http->options.engine, &x->reply, &err);
    x->type = PS_METRICS_TYPE;
    if (status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, status, &err);
}
