/* cache.c - the cache on disk as users of the library see it. */
#include "base/cache.h"

#include "runtime/runtime_int.h"

static ps_status list_entries(ps_engine *e, ps_cache *cache, void (*fn)(void *ctx, const ps_cache_info *info),
                              void *ctx, ps_error *err) {
    ps_cache_entry *entries = NULL;
    size_t n = 0;
    ps_arena arena;
    ps_arena_init(&arena, &e->alloc);
    const ps_status status = ps_cache_list(cache, &arena, &entries, &n, err);
    for (size_t i = 0; i < n && status == PS_OK; i++) {
        const ps_cache_info info = { sizeof info,       entries[i].kind,  entries[i].version,
                                     entries[i].target, entries[i].bytes, entries[i].last_used_ns };
        fn(ctx, &info);
    }
    ps_arena_release(&arena);
    return status;
}

ps_status ps_engine_cache_list(ps_engine *e, void (*fn)(void *ctx, const ps_cache_info *info), void *ctx, char *folder,
                               size_t folder_size, ps_error *err) {
    ps_cache *cache = NULL;
    PS_TRY(ps_engine_cache(e, &cache, err));
    if (folder) ps_snprintf(folder, folder_size, "%s", ps_cache_dir(cache));
    const ps_status status = list_entries(e, cache, fn, ctx, err);
    return status;
}

ps_status ps_engine_cache_clear(ps_engine *e, size_t *ret_removed, ps_error *err) {
    ps_cache *cache = NULL;
    if (ret_removed) *ret_removed = 0;
    PS_TRY(ps_engine_cache(e, &cache, err));
    const ps_status status = ps_cache_clear(cache, ret_removed, err);
    return status;
}
