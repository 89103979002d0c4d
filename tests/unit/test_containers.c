/* Strings, arrays, maps, error sentences and log lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"
#include "test_alloc_fail.h"

static void test_sizes(void **state) {
    static const struct {
        const char *text;
        size_t size;
    } good[] = { { "1", 1 },     { "1234", 1234 }, { "500M", (size_t)500 << 20 }, { "2GiB", (size_t)2 << 30 },
                 { "3k", 3072 }, { "7B", 7 } };
    static const char *const bad[] = { "",   "0",   "M",  "1.5G",                 "-1",
                                       "1x", "1Mx", " 1", "99999999999999999999", "99999999999999T" };
    size_t size;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(ps_size_parse(good[i].text, &size));
        assert_int_equal(size, good[i].size);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ps_size_parse(bad[i], &size));
}

static void test_str(void **state) {
    ps_alloc_state a;
    ps_str s;
    ps_alloc_state_init(&a, NULL);
    ps_str_init(&s, &a);
    assert_string_equal(s.data, "");
    ps_str_printf(&s, "%s", "");
    ps_str_append(&s, "ab");
    ps_str_char(&s, 'c');
    ps_str_append_n(&s, "d\0e", 3);
    assert_int_equal(s.size, 6);
    assert_memory_equal(s.data, "abcd\0e", 7);
    ps_str_clear(&s);
    for (int i = 0; i < 1000; i++)
        ps_str_printf(&s, "%d,", i);
    assert_int_equal(s.size, 10 * 2 + 90 * 3 + 900 * 4);
    assert_false(s.failed);
    char *text = ps_str_take(&s);
    assert_memory_equal(text + s.size, "0,1,2,", 6);
    assert_string_equal(s.data, "");
    ps_free(&a, text);
    text = ps_str_take(&s); /* of nothing: an empty string all the same */
    assert_string_equal(text, "");
    ps_free(&a, text);
    ps_str_release(&s);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status str_scenario(ps_alloc_state *a, void *ctx) {
    ps_str s;
    ps_str_init(&s, a);
    for (int i = 0; i < 100; i++)
        ps_str_printf(&s, "item %d ", i);
    bool failed = s.failed;
    assert_int_equal(strlen(s.data), s.size);
    char *text = ps_str_take(&s);
    assert_true(failed == !text);
    ps_free(a, text);
    return failed ? PS_NO_MEMORY : PS_OK;
}

static ps_status vec_scenario(ps_alloc_state *a, void *ctx) {
    PS_VEC(int) v = { 0 };
    bool ok = true;
    for (int i = 0; i < 1000 && ok; i++)
        ok = ps_vec_push(a, &v, i);
    for (size_t i = 0; i < v.size; i++)
        assert_int_equal(v.data[i], (int)i);
    ps_vec_release(a, &v);
    return ok ? PS_OK : PS_NO_MEMORY;
}

enum { KEYS = 2000 };

static void make_key(char key[16], int i) {
    ps_snprintf(key, 16, "key%d", i * 7919);
}

static ps_status map_scenario(ps_alloc_state *a, void *ctx) {
    static char keys[KEYS][16];
    ps_map m;
    ps_map_init(&m, a);
    int n = 0;
    for (; n < KEYS; n++) {
        make_key(keys[n], n);
        if (!ps_map_put(&m, keys[n], keys[n])) break;
    }
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        make_key(key, i);
        assert_ptr_equal(ps_map_get(&m, key), i < n ? keys[i] : NULL);
    }
    ps_map_release(&m);
    return n == KEYS ? PS_OK : PS_NO_MEMORY;
}

static void test_allocation_failure(void **state) {
    assert_in_range(ps_test_sweep(str_scenario, NULL), 3, 100);
    assert_in_range(ps_test_sweep(vec_scenario, NULL), 3, 100);
    assert_in_range(ps_test_sweep(map_scenario, NULL), 3, 100);
}

/* Against a plain array as the oracle: random puts and removals. */
static void test_map_remove(void **state) {
    static char keys[KEYS][16];
    static void *expect[KEYS];
    ps_alloc_state a;
    ps_map m;
    ps_alloc_state_init(&a, NULL);
    ps_map_init(&m, &a);
    ps_map_remove(&m, "none");
    uint32_t random = 1;
    for (int i = 0; i < KEYS; i++)
        make_key(keys[i], i);
    for (int step = 0; step < 50000; step++) {
        random = random * 1664525 + 1013904223;
        int k = (int)(random >> 8) % KEYS;
        if (random >> 31) {
            expect[k] = &keys[step % KEYS];
            assert_true(ps_map_put(&m, keys[k], expect[k]));
        } else {
            ps_map_remove(&m, keys[k]);
            expect[k] = NULL;
        }
    }
    size_t n = 0;
    for (int i = 0; i < KEYS; i++) {
        assert_ptr_equal(ps_map_get(&m, keys[i]), expect[i]);
        n += expect[i] != NULL;
    }
    assert_int_equal(m.size, n);
    ps_map_release(&m);
    assert_int_equal(atomic_load(&a.bytes), 0);
}

static ps_status fails(ps_error *err) {
    PS_FAIL_IF(true, err, SHAPE, "Conv '%s': weight has %d input channels, input has %d", "c1\n", 64, 3);
    return PS_OK;
}

static void test_error(void **state) {
    ps_error err = PS_ERROR_INIT;
    assert_int_equal(fails(NULL), PS_SHAPE);
    assert_int_equal(fails(&err), PS_SHAPE);
    assert_int_equal(err.status, PS_SHAPE);
    assert_string_equal(err.msg, "Conv 'c1?': weight has 64 input channels, input has 3");
    assert_non_null(strstr(err.file, "test_containers.c"));
    ps_error_prefix(&err, "model '%s'", "m");
    assert_string_equal(err.msg, "model 'm': Conv 'c1?': weight has 64 input channels, input has 3");
    (void)PS_FAIL(&err, IO, "again: %s", err.msg);
    assert_memory_equal(err.msg, "again: model 'm'", 16);
    assert_string_equal(ps_status_text(PS_FORMAT), "malformed data");
    assert_string_equal(ps_status_name(PS_FORMAT), "FORMAT");
    assert_string_equal(ps_status_name((ps_status)12345), "UNKNOWN");
}

static void test_error_is_cut_between_characters(void **state) {
    char text[1200];
    for (int shift = 0; shift < 3; shift++) { /* three bytes a character: every phase of the cut */
        ps_error err = PS_ERROR_INIT;
        memset(text, 'x', sizeof text);
        for (int i = shift; i + 3 < (int)sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 3);
        text[sizeof text - 1] = 0;
        (void)PS_FAIL(&err, INVALID, "%s", text);
        size_t n = strlen(err.msg);
        assert_in_range(n, 505, 511);
        assert_string_equal(err.msg + n - 3, "...");
        assert_int_equal((unsigned char)err.msg[n - 4], 0xAC); /* the last byte of a whole character */
        ps_error_prefix(&err, "p");
        n = strlen(err.msg);
        assert_string_equal(err.msg + n - 3, "...");
    }
}

static void keep_line(void *ctx, ps_log_level level, const char *line) {
    ps_snprintf(ctx, 3000, "%d %s", (int)level, line);
}

static void test_log(void **state) {
    char got[3000] = "", buf[32];
    ps_log log = { keep_line, got };
    ps_log_line(NULL, PS_LOG_INFO, "x");
    ps_log_line(&(ps_log) { 0 }, PS_LOG_INFO, "x");
    ps_log_line(&log, PS_LOG_WARN, "model=%s", "a\nb");
    assert_string_equal(got, "1 model=a b");
    ps_log_line(&log, PS_LOG_INFO, "%03000d", 1);
    assert_string_equal(got + strlen(got) - 3, "...");
    assert_string_equal(ps_log_quote("plain", buf, sizeof buf), "plain");
    assert_string_equal(ps_log_quote("", buf, sizeof buf), "\"\"");
    assert_string_equal(ps_log_quote("a b", buf, sizeof buf), "\"a b\"");
    assert_string_equal(ps_log_quote("a\"\\\n\x01", buf, sizeof buf), "\"a\\\"\\\\\\n\\x01\"");
    assert_string_equal(ps_log_quote("a b c d", buf, 6), "\"a b\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_str),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_map_remove),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_error_is_cut_between_characters),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
