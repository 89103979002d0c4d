#include "server/http/exchange.h"

#include "server/json_text.h"

#define LEAST_PACKED 1024 /* smaller replies fit one packet as they are */

void ps_exchange_ok(ps_exchange *x) {
    if (x->reply.failed)
        ps_exchange_error(x, 503, "out of memory for a reply");
    else
        x->code = 200;
}

void ps_exchange_pack(ps_exchange *x) {
    if (x->accepts == PS_CODING_IDENTITY || x->reply.size < LEAST_PACKED || x->reply.failed) return;
    if (ps_coding_pack(&x->reply, x->accepts)) x->reply_coding = x->accepts;
}

void ps_exchange_error(ps_exchange *x, int code, const char *text) {
    ps_str_release(&x->reply);
    ps_str_init(&x->reply, x->http->alloc);
    x->reply_json_size = 0;
    x->type = NULL;
    x->reply_coding = PS_CODING_IDENTITY;
    x->code = code;
    ps_json_write_error(&x->reply, text);
}

void ps_exchange_fail(ps_exchange *x, ps_status status, const ps_error *err) {
    ps_exchange_error(x, ps_status_http(status), err->msg);
}

void ps_exchange_suspend(ps_exchange *x) {
    x->suspended = true;
    MHD_suspend_connection(x->connection);
}

void ps_exchange_resume(ps_exchange *x) {
    MHD_resume_connection(x->connection);
}
