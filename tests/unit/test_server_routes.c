/* The route table, percent decoding, and names and paths of a repository. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/http/handlers.h"
#include "server/http/routes.h"
#include "server/repository_path.h"

static ps_alloc_state alloc;

static ps_exchange route(const char *method, const char *path) {
    static ps_http http;
    ps_exchange x = { .http = &http };
    http.alloc = &alloc;
    ps_str_init(&x.reply, &alloc);
    ps_route(&x, method, path);
    ps_str_release(&x.reply);
    return x;
}

static void test_matches(void **state) {
    static const struct {
        const char *method, *path;
        ps_handler handler;
        const char *model, *version;
    } cases[] = {
        { "GET", "/v2", ps_handle_server, "", "" },
        { "HEAD", "/v2/health/live", ps_handle_live, "", "" },
        { "GET", "/v2/health/ready", ps_handle_ready, "", "" },
        { "GET", "/v2/models/stats", ps_handle_all_stats, "", "" },
        { "GET", "/v2/models/a", ps_handle_metadata, "a", "" },
        { "GET", "/v2/models/a/versions/12", ps_handle_metadata, "a", "12" },
        { "GET", "/v2/models/a/ready", ps_handle_model_ready, "a", "" },
        { "GET", "/v2/models/a/versions/1/ready", ps_handle_model_ready, "a", "1" },
        { "GET", "/v2/models/a/config", ps_handle_config, "a", "" },
        { "GET", "/v2/models/a/versions/1/stats", ps_handle_stats, "a", "1" },
        { "POST", "/v2/models/a/versions/canary/infer", ps_handle_infer, "a", "canary" },
        { "GET", "/metrics", ps_handle_metrics, "", "" },
        { "GET", "/v2/models/a/traffic", ps_handle_traffic, "a", "" },
        { "POST", "/v2/models/a/traffic", ps_handle_traffic_update, "a", "" },
        { "POST", "/v2/models/a%20b%2Fc%C3%A9/infer", ps_handle_infer, "a b/c\xc3\xa9", "" },
        { "POST", "/v2/models/versions/versions/versions/infer", ps_handle_infer, "versions", "versions" },
        { "POST", "/v2/repository/index", ps_handle_index, "", "" },
        { "POST", "/v2/repository/models/a/load", ps_handle_load, "a", "" },
        { "POST", "/v2/repository/models/a/unload", ps_handle_unload, "a", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ps_exchange x = route(cases[i].method, cases[i].path);
        if (x.handler != cases[i].handler) fail_msg("%s %s finds the wrong handler", cases[i].method, cases[i].path);
        assert_string_equal(x.model, cases[i].model);
        assert_string_equal(x.version, cases[i].version);
    }
}

static void test_no_match(void **state) {
    static const char *const paths[] = { "",
                                         "/",
                                         "/v2/",
                                         "/v2/models",
                                         "/v2/models/",
                                         "/v2/models//infer",
                                         "/v2/models/a/infer/",
                                         "/v2/models/a%/infer",
                                         "/v2/models/a%0/infer",
                                         "/v2/models/a%zz/infer",
                                         "/v2/models/a%00b/infer",
                                         "/v2/models/a/versions//infer",
                                         "/v2/models/a/versions/12345678901234567890123456789012"
                                         "34567890123456789012345678901234/infer",
                                         "/V2",
                                         "v2",
                                         "*" };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ps_exchange x = route("POST", paths[i]);
        if (x.handler || x.code != 404) fail_msg("'%s' is served", paths[i]);
    }
}

static void test_wrong_method(void **state) {
    ps_exchange x = route("GET", "/v2/models/a/infer");
    assert_null(x.handler);
    assert_int_equal(x.code, 405);
    assert_string_equal(x.allow, "POST");
    x = route("DELETE", "/v2/models/a");
    assert_int_equal(x.code, 405);
    assert_string_equal(x.allow, "GET, HEAD");
}

static void test_long_name(void **state) {
    char path[1024] = "/v2/models/";
    memset(path + 11, 'a', PS_MODEL_NAME_MAX);
    assert_non_null(route("GET", path).handler);
    memset(path + 11, 'a', PS_MODEL_NAME_MAX + 1);
    assert_null(route("GET", path).handler);
}

static void check_name(const char *path, const char *want) {
    char *name = ps_model_name_of_path(&alloc, path);
    assert_string_equal(name, want);
    ps_free(&alloc, name);
}

static void test_names(void **state) {
    check_name("resnet.onnx", "resnet");
    check_name("/a/resnet.onnx", "resnet");
    check_name("/a/resnet", "resnet");
    check_name("/a/resnet/", "resnet");
    check_name("/a/resnet/model.onnx", "resnet");
    check_name("/a/resnet/12/model.onnx", "resnet");
    check_name("/a/resnet/12/model.pt2", "resnet");
    check_name("/a/resnet.pt2", "resnet");
    check_name("12/model.onnx", "12");
    check_name("model.onnx", "model");
    check_name(".onnx", ".onnx");
    assert_true(ps_model_name_valid("a b.c-\xc3\xa9"));
    assert_false(ps_model_name_valid(""));
    assert_false(ps_model_name_valid(".hidden"));
    assert_false(ps_model_name_valid("a/b"));
    assert_false(ps_model_name_valid("a\\b"));
    assert_false(ps_model_name_valid("a\nb"));
    assert_false(ps_model_name_valid("a\x7f"));
    assert_false(ps_model_name_valid("\xff"));
    assert_int_equal(alloc.bytes, 0);
}

static void test_status_table(void **state) {
    static const ps_status all[] = {
#define VALUE(name, value, text) PS_##name,
        PS_STATUS_MAP(VALUE)
#undef VALUE
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int http = ps_status_http(all[i]);
        assert_true(all[i] == PS_OK ? http == 200 : http >= 400 && http < 600);
    }
    assert_int_equal(ps_status_http(PS_NOT_FOUND), 404);
    assert_int_equal(ps_status_http(PS_SHAPE), 400);
    assert_int_equal(ps_status_http(PS_UNAVAILABLE), 503);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),   cmocka_unit_test(test_no_match), cmocka_unit_test(test_wrong_method),
        cmocka_unit_test(test_long_name), cmocka_unit_test(test_names),    cmocka_unit_test(test_status_table),
    };
    ps_alloc_state_init(&alloc, NULL);
    return cmocka_run_group_tests_name("server_routes", tests, NULL, NULL);
}
