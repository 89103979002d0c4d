#include "server/http/exchange.h"

#include <string.h>
#include <strings.h>

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

bool ps_exchange_is_photo(const ps_exchange *x, bool *ret_known) {
    const char *type = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t n = type ? strcspn(type, "; \t") : 0;
    *ret_known =
        (n == 10 && strncasecmp(type, "image/jpeg", n) == 0) || (n == 9 && strncasecmp(type, "image/png", n) == 0);
    return n > 6 && strncasecmp(type, "image/", 6) == 0;
}

void ps_exchange_suspend(ps_exchange *x) {
    x->suspended = true;
    MHD_suspend_connection(x->connection);
}

void ps_exchange_resume(ps_exchange *x) {
    MHD_resume_connection(x->connection);
}
