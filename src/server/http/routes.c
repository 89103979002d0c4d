#include "server/http/routes.h"

#include <string.h>

#include "server/http/handlers.h"

typedef struct route {
    const char *method, *pattern; /* {m} and {v} stand for a model (or a region) and a version */
    ps_handler handler;
} route;

/* The first match wins, so "stats" below /v2/models is no model. What comes most often stands first. */
static const route routes[] = {
    { "POST", "/v2/models/{m}/infer", ps_handle_infer },
    { "POST", "/v2/models/{m}/versions/{v}/infer", ps_handle_infer },
    { "GET", "/v2/health/live", ps_handle_live },
    { "GET", "/v2/health/ready", ps_handle_ready },
    { "GET", "/v2", ps_handle_server },
    { "GET", "/metrics", ps_handle_metrics },
    { "GET", "/v2/models/stats", ps_handle_all_stats },
    { "GET", "/v2/models/{m}", ps_handle_metadata },
    { "GET", "/v2/models/{m}/versions/{v}", ps_handle_metadata },
    { "GET", "/v2/models/{m}/ready", ps_handle_model_ready },
    { "GET", "/v2/models/{m}/versions/{v}/ready", ps_handle_model_ready },
    { "GET", "/v2/models/{m}/config", ps_handle_config },
    { "GET", "/v2/models/{m}/versions/{v}/config", ps_handle_config },
    { "GET", "/v2/models/{m}/stats", ps_handle_stats },
    { "GET", "/v2/models/{m}/versions/{v}/stats", ps_handle_stats },
    { "GET", "/v2/models/{m}/traffic", ps_handle_traffic },
    { "POST", "/v2/models/{m}/traffic", ps_handle_traffic_update },
    { "POST", "/v2/repository/index", ps_handle_index },
    { "POST", "/v2/repository/models/{m}/load", ps_handle_load },
    { "POST", "/v2/repository/models/{m}/unload", ps_handle_unload },
    { "GET", "/v2/systemsharedmemory/status", ps_handle_shm_status },
    { "GET", "/v2/systemsharedmemory/region/{m}/status", ps_handle_shm_status },
    { "POST", "/v2/systemsharedmemory/region/{m}/register", ps_handle_shm_register },
    { "POST", "/v2/systemsharedmemory/unregister", ps_handle_shm_unregister },
    { "POST", "/v2/systemsharedmemory/region/{m}/unregister", ps_handle_shm_unregister },
    { "GET", "/v2/cudasharedmemory/status", ps_handle_cuda_status },
    { "GET", "/v2/cudasharedmemory/region/{m}/status", ps_handle_cuda_status },
    { "POST", "/v2/cudasharedmemory/region/{m}/register", ps_handle_cuda_register },
    { "POST", "/v2/cudasharedmemory/unregister", ps_handle_cuda_unregister },
    { "POST", "/v2/cudasharedmemory/region/{m}/unregister", ps_handle_cuda_unregister },
    { "GET", "/v2/trace/setting", ps_handle_trace },
    { "POST", "/v2/trace/setting", ps_handle_trace_update },
    { "GET", "/v2/models/{m}/trace/setting", ps_handle_trace },
    { "POST", "/v2/models/{m}/trace/setting", ps_handle_trace_update },
    { "GET", "/v2/logging", ps_handle_logging },
    { "POST", "/v2/logging", ps_handle_logging_update },
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool ps_percent_decode(const char *text, size_t size, char *buf, size_t room) {
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < size ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || used + 1 >= room) return false;
        buf[used++] = c;
    }
    buf[used] = '\0';
    return used > 0;
}

/* One pattern segment against one path segment. */
static bool match_segment(const char *pattern, size_t pattern_size, const char *text, size_t size, ps_exchange *x) {
    if (pattern_size == 3 && memcmp(pattern, "{m}", 3) == 0)
        return ps_percent_decode(text, size, x->model, sizeof x->model);
    if (pattern_size == 3 && memcmp(pattern, "{v}", 3) == 0)
        return ps_percent_decode(text, size, x->version, sizeof x->version);
    return pattern_size == size && memcmp(pattern, text, size) == 0;
}

/* Characters up to the next '/' or the end. */
static size_t segment(const char *p) {
    size_t n = 0;
    while (p[n] && p[n] != '/')
        n++;
    return n;
}

static bool match(const char *pattern, const char *path, ps_exchange *x) {
    x->model[0] = x->version[0] = '\0';
    while (*pattern == '/' && *path == '/') {
        size_t n = segment(++pattern), m = segment(++path);
        if (!match_segment(pattern, n, path, m, x)) return false;
        pattern += n;
        path += m;
    }
    return !*pattern && !*path;
}

/* 405: the path is right for other methods. */
static void wrong_method(ps_exchange *x, const char *method, const char *path, bool get, bool post) {
    char text[256];
    x->allow = get && post ? "GET, HEAD, POST" : get ? "GET, HEAD" : "POST";
    ps_snprintf(text, sizeof text, "%.16s is not allowed on %.160s: use %s", method, path,
                get && post ? "GET or POST"
                : get       ? "GET"
                            : "POST");
    ps_exchange_error(x, 405, text);
}

void ps_route(ps_exchange *x, const char *method, const char *path) {
    char text[256];
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    bool get = false, post = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!match(routes[i].pattern, path, x)) continue;
        if (strcmp(routes[i].method, wanted) == 0) {
            x->handler = routes[i].handler;
            return;
        }
        *(strcmp(routes[i].method, "GET") == 0 ? &get : &post) = true;
    }
    x->model[0] = x->version[0] = '\0';
    if (get || post) {
        wrong_method(x, method, path, get, post);
        return;
    }
    ps_snprintf(text, sizeof text, "there is nothing at %.16s %.160s", method, path);
    ps_exchange_error(x, 404, text);
}
