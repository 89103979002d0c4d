/* traffic.c - the routes of a model's traffic: what it is, and changing it. */
#include "server/http/handlers.h"

/* On its way to the keeper's thread. */
typedef struct change_job {
    ps_job job; /* first */
    ps_exchange *x;
    ps_traffic_change change;
} change_job;

void ps_handle_traffic(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_repository_write_traffic(x->http->options.repository, x->model, &x->reply, &err);
    if (status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, status, &err);
}

static void run_change(ps_job *job) {
    change_job *c = (change_job *)job;
    ps_exchange *x = c->x;
    ps_error err = PS_ERROR_INIT;
    ps_status status = ps_repository_change_traffic(x->http->options.repository, x->model, &c->change, &err);
    if (status == PS_OK)
        ps_handle_traffic(x);
    else
        ps_exchange_fail(x, status, &err);
    ps_free(x->http->alloc, c);
    ps_exchange_resume(x);
}

/* The reply comes when the change is on the disk. */
void ps_handle_traffic_update(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    change_job *c = ps_alloc_zero(x->http->alloc, sizeof *c);
    ps_status status = c ? ps_traffic_read(ps_exchange_body(x), x->body_size, false, x->http->alloc, &c->change, &err)
                         : PS_FAIL_NOMEM(&err, "a change of traffic");
    if (status == PS_OK) {
        c->job.run = run_change;
        c->x = x;
        ps_exchange_suspend(x);
        status = ps_pool_submit(x->http->options.keeper, &c->job, &err);
        if (status == PS_OK) return; /* the exchange is the keeper's now */
    }
    ps_exchange_fail(x, status, &err);
    if (x->suspended) ps_exchange_resume(x);
    ps_free(x->http->alloc, c);
}
