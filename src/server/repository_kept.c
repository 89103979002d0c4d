/* repository_kept.c - what the repository keeps for the server after this one: what was loaded and unloaded by hand,
 * and, while a model's file is being loaded, that it is.
 *
 * A process that ends in the middle of a load leaves the second behind. The next one tries again, once; then the file
 * is left out until it changes or is loaded by hand, so that a model that makes the server crash does not do so for
 * ever. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "server/json_reader.h"
#include "server/json_text.h"
#include "server/repository_int.h"

#define MAX_KEPT ((size_t)64 << 20) /* bytes: a million names, and some */

enum { TRIES = 2 };

char *ps_repository_kept_path(ps_repository *repo, const char *kind, const char *path) {
    char *real = NULL, name[64];
    if (ps_path_real(repo->alloc, path, &real, NULL) == PS_OK) path = real;
    ps_snprintf(name, sizeof name, "%s-%016" PRIx64 ".json", kind, ps_hash_bytes(path, strlen(path), 0));
    ps_free(repo->alloc, real);
    return ps_path_join(repo->alloc, repo->state, name);
}

static void warn(const ps_repository *repo, const char *event, const ps_error *err) {
    char quoted[sizeof err->msg + 16];
    ps_log_line(&repo->log, PS_LOG_WARN, "event=%s reason=%s", event, ps_log_quote(err->msg, quoted, sizeof quoted));
}

/* Text of a file that is there and can be read; NULL: else. */
static char *read_kept(ps_repository *repo, const char *path, size_t *ret_size) {
    ps_error err = PS_ERROR_INIT;
    char *text;
    if (!path || !ps_file_exists(path)) return NULL;
    if (ps_file_read(repo->alloc, path, MAX_KEPT, &text, ret_size, &err) == PS_OK) return text;
    warn(repo, "state_unread", &err);
    return NULL;
}

/* ---- by hand ---- */

typedef struct by_hand {
    ps_repository *repo;
    bool loaded; /* the list that is being read */
} by_hand;

static ps_status read_names(ps_json *r, by_hand *to, ps_error *err) {
    ps_json_iter it;
    ps_string none;
    const char *name;
    bool more;
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &none, &more, err));
        if (!more) return PS_OK;
        PS_TRY(ps_json_cstring(r, &name, err));
        ps_entry *e = ps_repository_find(to->repo, name);
        if (!e || e->listed) continue; /* gone from the folder, or the command line's */
        if (to->loaded)
            e->loaded = true;
        else
            e->unloaded = true;
    }
}

static ps_status read_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    by_hand *to = ctx;
    to->loaded = ps_json_key_is(key, "loaded");
    if (!to->loaded && !ps_json_key_is(key, "unloaded")) return ps_json_skip(r, err);
    return read_names(r, to, err);
}

void ps_repository_recall(ps_repository *repo) {
    char *path = repo->state && repo->dir ? ps_repository_kept_path(repo, "repository", repo->dir) : NULL, *text;
    ps_error err = PS_ERROR_INIT;
    by_hand to = { repo, false };
    size_t size;
    if ((text = read_kept(repo, path, &size))) {
        ps_arena arena;
        ps_json r;
        ps_arena_init(&arena, repo->alloc);
        ps_json_init(&r, text, size, &arena);
        ps_status status = ps_json_object(&r, read_member, &to, &err);
        for (size_t i = 0; status != PS_OK && i < repo->sorted.size; i++) /* half a list is none */
            repo->sorted.data[i]->loaded = repo->sorted.data[i]->unloaded = false;
        if (status != PS_OK) warn(repo, "state_unread", &err);
        ps_arena_release(&arena);
    }
    ps_free(repo->alloc, text);
    ps_free(repo->alloc, path);
}

/* With the lock held. *ret_any: there are any such. */
static void write_names(const ps_repository *repo, const char *key, bool loaded, bool *ret_any, ps_str *out) {
    bool first = true;
    ps_str_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < repo->sorted.size; i++) {
        const ps_entry *e = repo->sorted.data[i];
        if (e->listed || e->gone || !(loaded ? e->loaded : e->unloaded)) continue;
        if (!first) ps_str_char(out, ',');
        ps_json_write_string(out, e->name);
        first = false;
    }
    ps_str_char(out, ']');
    *ret_any |= !first;
}

void ps_repository_keep(ps_repository *repo) {
    bool any = false;
    ps_str text;
    ps_error err = PS_ERROR_INIT;
    if (!repo->state || !repo->dir) return;
    char *path = ps_repository_kept_path(repo, "repository", repo->dir);
    ps_str_init(&text, repo->alloc);
    ps_str_append(&text, "{\"folder\":");
    ps_json_write_string(&text, repo->dir);
    ps_mutex_lock(&repo->lock);
    write_names(repo, "loaded", true, &any, &text);
    write_names(repo, "unloaded", false, &any, &text);
    ps_mutex_unlock(&repo->lock);
    ps_str_append(&text, "}\n");
    ps_status status = path && !text.failed ? PS_OK : PS_FAIL_NOMEM(&err, "the repository's state");
    if (status == PS_OK && any) status = ps_dir_create(repo->state, 0700, &err);
    if (status == PS_OK && any) status = ps_file_write(path, text.data, text.size, 0600, &err);
    if (status == PS_OK && !any) (void)ps_file_remove(path);
    if (status != PS_OK) warn(repo, "state_unwritten", &err);
    ps_str_release(&text);
    ps_free(repo->alloc, path);
}

/* ---- loads that the process did not survive ---- */

static ps_status read_times(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    ps_load_mark *m = ctx;
    if (ps_json_key_is(key, "size")) return ps_json_uint(r, &m->size, err);
    if (ps_json_key_is(key, "changed_ns")) return ps_json_int(r, &m->changed_ns, err);
    if (ps_json_key_is(key, "times")) return ps_json_int(r, &m->times, err);
    return ps_json_skip(r, err);
}

/* How often the process ended while it loaded this very file. What cannot be read counts as never. */
static int64_t times_before(ps_repository *repo, const ps_load_mark *now) {
    ps_load_mark before = { 0 };
    size_t size;
    char *text = read_kept(repo, now->path, &size);
    ps_arena arena;
    ps_json r;
    if (!text) return 0;
    ps_arena_init(&arena, repo->alloc);
    ps_json_init(&r, text, size, &arena);
    bool known = ps_json_object(&r, read_times, &before, NULL) == PS_OK;
    ps_arena_release(&arena);
    ps_free(repo->alloc, text);
    return known && before.size == now->size && before.changed_ns == now->changed_ns ? before.times : 0;
}

static void write_mark(ps_repository *repo, const ps_load_mark *m, const char *file) {
    ps_error err = PS_ERROR_INIT;
    ps_str text;
    ps_str_init(&text, repo->alloc);
    ps_str_append(&text, "{\"file\":");
    ps_json_write_string(&text, file);
    ps_str_printf(&text, ",\"size\":%" PRIu64 ",\"changed_ns\":%" PRId64 ",\"times\":%" PRId64 "}\n", m->size,
                  m->changed_ns, m->times);
    ps_status status = text.failed ? PS_FAIL_NOMEM(&err, "the repository's state")
                                   : ps_dir_create(repo->state, 0700, &err);
    if (status == PS_OK) status = ps_file_note(m->path, text.data, text.size, 0600, &err);
    if (status != PS_OK && !repo->unmarked) warn(repo, "state_unwritten", &err);
    repo->unmarked |= status != PS_OK; /* once is enough: it would be said at each load */
    ps_str_release(&text);
}

ps_status ps_load_mark_set(ps_repository *repo, const ps_entry *e, const char *file, ps_load_mark *m, ps_error *err) {
    *m = (ps_load_mark) { 0 };
    if (!repo->state || !repo->options.served.cache || !ps_file_stat(file, &m->size, &m->changed_ns)) return PS_OK;
    m->path = ps_repository_kept_path(repo, "loading", file);
    if (!m->path) return PS_FAIL_NOMEM(err, "the repository's state");
    int64_t before = e->by_hand ? 0 : times_before(repo, m);
    if (before >= TRIES) {
        ps_free(repo->alloc, m->path);
        m->path = NULL;
        return PS_FAIL(err, INTERNAL,
                       "model '%s' is quarantined: the server ended %" PRId64
                       " times while it loaded this file; a load request, or another file, gives it another try",
                       e->name, before);
    }
    m->times = before + 1;
    write_mark(repo, m, file);
    return PS_OK;
}

void ps_load_mark_clear(ps_repository *repo, ps_load_mark *m) {
    if (m->path) (void)ps_file_remove(m->path);
    ps_free(repo->alloc, m->path);
    m->path = NULL;
}
