/* The cache on disk through the engine: list, clear, off, and a folder that is not safe to use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cache.h"
#include "polestar/polestar.h"
#include "test_temp_dir.h"

static ps_engine *open_engine(const char *cache_dir)
{
    ps_engine *e = NULL;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = cache_dir;
    assert_int_equal(ps_engine_create(&o, &e, NULL), PS_OK);
    return e;
}

static void put(ps_engine *e, const char *dir, const char *kind)
{
    ps_cache *cache = NULL;
    const ps_cache_key key = { kind, "digest", 6, "1.0", "AVX2" };
    assert_int_equal(ps_cache_open(ps_engine_alloc(e), dir, 0, &cache, NULL), PS_OK);
    assert_int_equal(ps_cache_put(cache, &key, "content", 7, NULL), PS_OK);
    ps_cache_close(cache);
}

typedef struct seen {
    size_t n;
    bool tune, weights;
} seen;

static void note(void *ctx, const ps_cache_info *info)
{
    seen *s = ctx;
    s->n++;
    if (strcmp(info->kind, "tune") == 0) s->tune = true;
    if (strcmp(info->kind, "weights") == 0) s->weights = true;
    assert_int_equal(info->size, sizeof *info);
    assert_string_equal(info->version, "1.0");
    assert_string_equal(info->target, "AVX2");
    assert_true(info->bytes > 7 && info->last_used_ns > 0);
}

static void test_list_and_clear(void **state)
{
    char dir[256], folder[256];
    seen s = { 0 };
    size_t removed = 0;
    assert_true(ps_test_temp_dir(dir, sizeof dir));
    ps_engine *e = open_engine(dir);
    put(e, dir, "tune");
    put(e, dir, "weights");
    assert_int_equal(ps_engine_cache_list(e, note, &s, folder, sizeof folder, NULL), PS_OK);
    assert_true(s.n == 2 && s.tune && s.weights);
    assert_string_equal(folder, dir);
    assert_int_equal(ps_engine_cache_clear(e, &removed, NULL), PS_OK);
    assert_int_equal(removed, 2);
    s = (seen){ 0 };
    assert_int_equal(ps_engine_cache_list(e, note, &s, NULL, 0, NULL), PS_OK);
    assert_int_equal(s.n, 0);
    ps_engine_free(e);
    ps_test_remove_tree(dir);
}

static void test_no_cache(void **state)
{
    char folder[16] = "?";
    size_t removed = 9;
    seen s = { 0 };
    ps_engine *e = open_engine("");
    assert_int_equal(ps_engine_cache_list(e, note, &s, folder, sizeof folder, NULL), PS_OK);
    assert_int_equal(s.n, 0);
    assert_string_equal(folder, "");
    assert_int_equal(ps_engine_cache_clear(e, &removed, NULL), PS_OK);
    assert_int_equal(removed, 0);
    ps_engine_free(e);
}

/* An unsafe folder is the cache's trouble, not the engine's. */
static void test_unsafe_folder(void **state)
{
    char dir[256];
    ps_error err = PS_ERROR_INIT;
    seen s = { 0 };
    assert_true(ps_test_temp_dir(dir, sizeof dir));
    assert_int_equal(chmod(dir, 0777), 0);
    ps_engine *e = open_engine(dir);
    assert_int_equal(ps_engine_cache_list(e, note, &s, NULL, 0, &err), PS_INVALID);
    assert_non_null(strstr(err.msg, dir));
    assert_int_equal(ps_engine_cache_clear(e, NULL, &err), PS_INVALID);
    ps_engine_free(e);
    ps_test_remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_and_clear),
        cmocka_unit_test(test_no_cache),
        cmocka_unit_test(test_unsafe_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
