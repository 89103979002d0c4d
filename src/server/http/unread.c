#include "server/http/unread.h"

#include <stddef.h>
#include <string.h>

#include "base/os.h"
#include "server/http/handlers.h"
#include "server/runner.h"

static bool contains(const char *text, size_t size, const char *word) {
    const size_t n = strlen(word);
    for (const char *end = text + size; (text = memchr(text, *word, (size_t)(end - text))) != NULL; text++) {
        if ((size_t)(end - text) < n) return false;
        if (memcmp(text, word, n) == 0) return true;
    }
    return false;
}

/* Has the request no claim to be answered before others, or not at all? Its JSON part says so, in front of the raw
 * tensors; a photo has none. What only may be a claim, such as a key with an escape, is read, which is never wrong. */
static bool is_plain(const ps_exchange *x, const char *data, size_t size) {
    static const char *const claims[] = { "\"timeout\"", "\"priority\"", "\"sequence_id\"", "\\" };
    bool known;
    if (!x->has_json_size) return ps_exchange_is_photo(x, &known);
    if (x->json_size > size) return false;
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++)
        if (contains(data, x->json_size, claims[i])) return false;
    return true;
}

/* With a reference to its model. Otherwise it is read; it may have been counted as one that comes. */
static ps_served *find_late(ps_exchange *x, const char *data, size_t size) {
    ps_error ignored = PS_ERROR_INIT;
    ps_served *served;
    if (x->handler != ps_handle_infer || atomic_load(&x->http->draining)) return NULL;
    if (x->content_length == UINT64_MAX || x->content_length < PS_UNREAD_LEAST) return NULL;
    if (x->coding != PS_CODING_IDENTITY || !is_plain(x, data, size)) return NULL;
    const char *version = *x->version ? x->version : NULL;
    if (ps_repository_peek(x->http->options.repository, x->model, version, &served, &ignored) != PS_OK) return NULL;
    if (ps_runner_defers(x->http->options.runner, served, &x->coming)) return served;
    x->counted = true;
    ps_served_release(served);
    return NULL;
}

static void read_on(ps_exchange *x) {
    ps_watch_disown(x->watched);
    ps_exchange_resume(x);
}

static void over(ps_wait *w) {
    read_on((ps_exchange *)((char *)w - offsetof(ps_exchange, unread)));
}

static bool give_up(void *ctx) {
    ps_exchange *x = ctx;
    atomic_store(&x->infer.abandoned, true); /* first: it may be about to wait */
    return ps_runner_undefer(x->http->options.runner, &x->unread);
}

/* The daemon will see that its client is gone. */
static void left(void *ctx) {
    ps_exchange_resume(ctx);
}

static void wait_unread(ps_exchange *x, const ps_served *served) {
    ps_runner *runner = x->http->options.runner;
    x->unread = (ps_wait) { .over = over, .given_up = &x->infer.abandoned };
    MHD_suspend_connection(x->connection);
    const bool there = ps_watch_own(x->watched, &(ps_watch_owner) { give_up, left, x });
    bool waits = there && ps_runner_defer(runner, served, &x->unread);
    if (!waits || (atomic_load(&x->http->draining) && ps_runner_undefer(runner, &x->unread))) read_on(x);
}

bool ps_unread_leave(ps_exchange *x, const char *data, size_t size) {
    if (x->body_total || x->counted) return false;
    if (x->left_ns) { /* there is time for it now */
        x->unread_ns = ps_clock_ns() - x->left_ns;
        x->counted = true;
        ps_runner_comes(x->http->options.runner, x->left_for, &x->coming);
        return false;
    }
    ps_served *served = find_late(x, data, size);
    if (!served) return false;
    x->left_ns = ps_clock_ns();
    x->left_for = served;
    ps_watch_rest(x->watched);
    wait_unread(x, served);
    ps_served_release(served);
    return true;
}

void ps_unread_came(ps_exchange *x) {
    if (x->counted) ps_runner_came(x->http->options.runner, &x->coming);
    x->counted = false;
}

void ps_unread_end(ps_exchange *x) {
    ps_unread_came(x);
    const bool ran = x->infer.sample.total != 0;
    if (x->left_ns && !ran) ps_runner_read_next(x->http->options.runner, x->left_for);
}
