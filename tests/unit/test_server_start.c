/* Starting and stopping: options, ports, and out of memory at every allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "polestar/polestar.h"

static atomic_long left; /* allocations that still succeed */

static void *limited_alloc(void *ctx, size_t size, size_t align) {
    void *block = NULL;
    if (atomic_fetch_sub(&left, 1) <= 0 || posix_memalign(&block, align, size ? size : 1) != 0) return NULL;
    return block;
}

static void limited_free(void *ctx, void *ptr, size_t size) {
    free(ptr);
}

static ps_engine *make_engine(void) {
    static const ps_allocator limited = { limited_alloc, limited_free, NULL };
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_engine *engine;
    options.allocator = &limited;
    options.threads = 2;
    options.cache_dir = "";
    atomic_store(&left, 1 << 30);
    assert_int_equal(ps_engine_create(&options, &engine, NULL), PS_OK);
    return engine;
}

static ps_status start_and_stop(ps_engine *engine, const ps_server_options *options, ps_error *err) {
    ps_server *server = NULL;
    ps_status status = ps_server_start(engine, options, &server, err);
    if (status == PS_OK) {
        assert_true(ps_server_http_port(server) > 0);
        assert_true(ps_server_grpc_port(server) != 0);
        ps_server_stop(server);
        ps_server_free(server);
    }
    return status;
}

static ps_server_options good_options(void) {
    static const ps_server_model models[] = { { "missing", "/does/not/exist.onnx" }, { NULL, PS_TEST_DATA } };
    ps_server_options options = PS_SERVER_OPTIONS_INIT;
    options.http_port = 0;
    options.grpc_port = 0;
    options.runners = 2;
    options.models = models;
    options.model_count = 2;
    options.model_repository = PS_TEST_DATA;
    return options;
}

static void test_start_and_stop(void **state) {
    ps_engine *engine = make_engine();
    size_t before = ps_engine_memory(engine, NULL);
    ps_server_options options = good_options();
    ps_error err = PS_ERROR_INIT;
    if (start_and_stop(engine, &options, &err) != PS_OK) fail_msg("%s", err.msg);
    options.http_threads = 4;
    options.host = "::1";
    (void)start_and_stop(engine, &options, &err); /* a machine may have no IPv6 */
    assert_int_equal(ps_engine_memory(engine, NULL), before);
    ps_engine_free(engine);
}

static void check_refused(ps_engine *engine, const ps_server_options *options, const char *part) {
    ps_error err = PS_ERROR_INIT;
    assert_int_not_equal(start_and_stop(engine, options, &err), PS_OK);
    if (!strstr(err.msg, part)) fail_msg("'%s' does not say '%s'", err.msg, part);
}

static void test_refusals(void **state) {
    static const ps_server_model twice[] = { { "a", "x" }, { NULL, "dir/a.onnx" } }, bad[] = { { "a/b", "x" } },
                                 none[] = { { "a", NULL } };
    ps_engine *engine = make_engine();
    ps_server_options options = good_options();
    options.model_repository = "/does/not/exist";
    check_refused(engine, &options, "/does/not/exist");
    options = good_options();
    options.host = "no host";
    check_refused(engine, &options, "no host");
    options = good_options();
    options.http_port = 70000;
    check_refused(engine, &options, "70000");
    options = good_options();
    options.size = 3;
    check_refused(engine, &options, "size");
    options = good_options();
    options.models = twice;
    check_refused(engine, &options, "two models");
    options.models = bad;
    options.model_count = 1;
    check_refused(engine, &options, "a/b");
    options.models = none;
    check_refused(engine, &options, "no path");
    ps_engine_free(engine);
}

static void test_port_in_use(void **state) {
    ps_engine *engine = make_engine();
    ps_server_options options = good_options();
    ps_server *first;
    assert_int_equal(ps_server_start(engine, &options, &first, NULL), PS_OK);
    options.http_port = ps_server_http_port(first);
    check_refused(engine, &options, "cannot listen on 127.0.0.1");
    options.http_port = 0;
    options.grpc_port = ps_server_grpc_port(first);
    if (options.grpc_port > 0) check_refused(engine, &options, "for gRPC: Address already in use");
    ps_server_free(first);
    ps_engine_free(engine);
}

static void test_out_of_memory(void **state) {
    ps_engine *engine = make_engine();
    size_t before = ps_engine_memory(engine, NULL);
    ps_server_options options = good_options();
    ps_status status = PS_NO_MEMORY;
    for (long n = 0; status != PS_OK; n++) {
        ps_error err = PS_ERROR_INIT;
        assert_true(n < 5000);
        atomic_store(&left, n);
        status = start_and_stop(engine, &options, &err);
        if (status != PS_OK && status != PS_NO_MEMORY) fail_msg("%ld allocations: %s", n, err.msg);
        assert_int_equal(ps_engine_memory(engine, NULL), before);
    }
    atomic_store(&left, 1 << 30);
    ps_engine_free(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_and_stop),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("server_start", tests, NULL, NULL);
}
