/* cache.c - `polestar cache list` and `polestar cache clear`. */
#include <string.h>
#include <time.h>

#include "cli.h"

typedef struct cache_listing {
    json_t *entries;
    double bytes;
    bool text;
} cache_listing;

static void list_entry(void *ctx, const ps_cache_info *e) {
    cache_listing *l = ctx;
    char size[32], when[32] = "?";
    const time_t seconds = (time_t)(e->last_used_ns / 1000000000);
    struct tm t;
    if (gmtime_r(&seconds, &t)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &t);
    l->bytes += (double)e->bytes;
    json_array_append_new(l->entries, json_pack("{s:o, s:o, s:o, s:I, s:s}", "kind", cli_json_text(e->kind), "version",
                                                cli_json_text(e->version), "target", cli_json_text(e->target), "bytes",
                                                (json_int_t)e->bytes, "last_used", when));
    if (l->text)
        printf("%-16s %-10s %10s  %s  %s\n", e->kind, e->version, cli_bytes_text((double)e->bytes, size, sizeof size),
               when, e->target);
}

static int list_cache(const cli_args *args, ps_engine *engine) {
    cache_listing l = { json_array(), 0, !args->json };
    ps_error err = PS_ERROR_INIT;
    char folder[512], size[32];
    const ps_status status = ps_engine_cache_list(engine, list_entry, &l, folder, sizeof folder, &err);
    if (status != PS_OK) {
        json_decref(l.entries);
        return cli_fail_error(args, &err);
    }
    if (args->json)
        return cli_json_print(
            json_pack("{s:o, s:f, s:o}", "folder", cli_json_text(folder), "bytes", l.bytes, "entries", l.entries));
    printf("%zu entries, %s in %s\n", json_array_size(l.entries), cli_bytes_text(l.bytes, size, sizeof size), folder);
    json_decref(l.entries);
    return CLI_OK;
}

static int clear_cache(const cli_args *args, ps_engine *engine) {
    ps_error err = PS_ERROR_INIT;
    size_t removed = 0;
    if (ps_engine_cache_clear(engine, &removed, &err) != PS_OK) return cli_fail_error(args, &err);
    if (args->json) return cli_json_print(json_pack("{s:I}", "removed", (json_int_t)removed));
    printf("%zu entries removed\n", removed);
    return CLI_OK;
}

static int run_cache(const cli_args *args) {
    ps_engine *engine;
    const bool list = strcmp(args->words[0], "list") == 0;
    if (!list && strcmp(args->words[0], "clear") != 0)
        return cli_usage(args, "'%s' is neither list nor clear", args->words[0]);
    int code = cli_engine_open(args, NULL, NULL, &engine);
    if (code == CLI_OK) code = list ? list_cache(args, engine) : clear_cache(args, engine);
    ps_engine_free(engine);
    return code;
}

static const cli_option options[] = { CLI_OPT_JSON, CLI_OPT_END };

const cli_command cli_cache = {
    "cache",
    "list|clear",
    CLI_WORDS,
    "show or empty the cache on disk",
    "The cache holds what was tuned or compiled once; nothing in it is needed. It lies in $XDG_CACHE_HOME/polestar or "
    "~/.cache/polestar.",
    options,
    1,
    1,
    run_cache,
};
