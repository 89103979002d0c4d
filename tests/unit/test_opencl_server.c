/* A server whose models are on several OpenCL devices: where runs go, and what clients see when a device is lost. */
#include "opencl_lose.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "polestar/server.h"
#include "server/devices.h"
#include "test_temp_dir.h"

#define WAIT_S 30

static char folder[256], file[300], lines[1 << 16]; /* lines: of the log */
static ps_mutex log_lock;
static ps_engine *engine;
static ps_server *server;

static void keep_line(void *ctx, ps_log_level level, const char *line) {
    ps_mutex_lock(&log_lock);
    const size_t n = strlen(lines);
    ps_snprintf(lines + n, sizeof lines - n, "%s\n", line);
    ps_mutex_unlock(&log_lock);
}

static bool logged(const char *text) {
    ps_mutex_lock(&log_lock);
    const bool found = strstr(lines, text) != NULL;
    ps_mutex_unlock(&log_lock);
    return found;
}

static void wait_for(const char *text) {
    const int64_t until = ps_clock_ns() + WAIT_S * INT64_C(1000000000);
    while (!logged(text)) {
        if (ps_clock_ns() > until) fail_msg("no '%s' in the log:\n%s", text, lines);
        ps_sleep_ns(5000000);
    }
}

/* ---- a client ---- */

/* The status; *ret is the body, until the next call. */
static int request(const char *method, const char *path, const char *body, const char **ret) {
    static char reply[1 << 16];
    char head[512];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)ps_server_http_port(server)) };
    int status = 0;
    size_t n = 0;
    ssize_t got;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to) == 0);
    ps_snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                method, path, strlen(body));
    assert_true(write(s, head, strlen(head)) == (ssize_t)strlen(head));
    assert_true(write(s, body, strlen(body)) == (ssize_t)strlen(body));
    while ((got = read(s, reply + n, sizeof reply - 1 - n)) > 0)
        n += (size_t)got;
    close(s);
    reply[n] = 0;
    assert_int_equal(sscanf(reply, "HTTP/1.1 %d", &status), 1);
    const char *end = strstr(reply, "\r\n\r\n");
    *ret = end ? end + 4 : "";
    return status;
}

static int infer(const char **ret) {
    return request("POST", "/v2/models/m/infer",
                   "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,8],\"datatype\":\"FP32\",\"data\":[1,-2,3,4,5,6,7,8]}]}",
                   ret);
}

static void must_answer(void) {
    const char *body;
    const int status = infer(&body);
    if (status != 200 || !strstr(body, "[3.0,0.0,9.0,12.0,15.0,18.0,21.0,24.0]"))
        fail_msg("%d %s\n%s", status, body, lines);
}

static double metric(const char *name) {
    const char *body;
    char wanted[128];
    assert_int_equal(request("GET", "/metrics", "", &body), 200);
    ps_snprintf(wanted, sizeof wanted, "\n%s ", name);
    const char *at = strstr(body, wanted);
    if (!at) fail_msg("no metric %s in\n%s", name, body);
    return strtod(at + strlen(wanted), NULL);
}

/* ---- servers ---- */

static int tries; /* of the next server; 0: as usual */

static void start(const char *device, const ps_server_device_limit *limits, size_t n_limits) {
    const ps_server_model models[] = { { "m", file, NULL } };
    ps_error err = PS_ERROR_INIT;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    ps_server_options options = PS_SERVER_OPTIONS_INIT;
    o.cache_dir = "";
    o.threads = 1;
    o.log = keep_line;
    lines[0] = 0;
    assert_int_equal(ps_engine_create(&o, &engine, &err), PS_OK);
    options.http_port = 0;
    options.grpc_port = -1;
    options.runners = 2;
    options.models = models;
    options.model_count = 1;
    options.device = device;
    options.device_limits = limits;
    options.device_limit_count = n_limits;
    options.device_tries = tries;
    if (ps_server_start(engine, &options, &server, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_true(ps_server_wait_ready(server, WAIT_S * 1000));
}

static void stop(void) {
    ps_server_free(server);
    ps_engine_free(engine);
    atomic_store(&lose_gone[0], 0);
    atomic_store(&lose_gone[1], 0);
    atomic_store(&lose_refusals, 0);
}

static int setup(void **state) {
    (void)cmp_setup; /* of opencl_compare.h */
    (void)cmp_teardown;
    if (!ps_mutex_init(&log_lock) || !ps_test_temp_dir(folder, sizeof folder)) return -1;
    ps_snprintf(file, sizeof file, "%s/m.onnx", folder);
    onnx_write_model(file, 3);
    return 0;
}

static int teardown(void **state) {
    ps_test_remove_tree(folder);
    return 0;
}

/* ---- tests ---- */

/* A quiet server takes the first; each device's memory is counted, and limited by itself. */
static void test_memory_and_runs(void **state) {
    static const ps_server_device_limit limits[] = { { "opencl:1", 100000000 } };
    size_t bytes, limit;
    start("opencl:0,opencl:1", limits, 1);
    must_answer();
    assert_int_equal(ps_engine_device_memory(engine, "opencl:1", &bytes, &limit, NULL), PS_OK);
    assert_int_equal(limit, 100000000);
    assert_true(metric("polestar_device_memory_limit_bytes{device=\"opencl:1\"}") == 100000000);
    assert_true(metric("polestar_device_memory_limit_bytes{device=\"opencl:0\"}") > 100000000);
    assert_true(metric("polestar_device_memory_bytes{device=\"opencl:0\"}") > 0);
    assert_true(metric("polestar_device_runs_total{device=\"opencl:0\"}") > 0);
    stop();
}

static void refuse(const char *device, const ps_server_device_limit *limits, size_t n_limits, const char *says) {
    ps_error err = PS_ERROR_INIT;
    ps_server_options options = PS_SERVER_OPTIONS_INIT;
    assert_int_equal(ps_engine_create(NULL, &engine, &err), PS_OK);
    options.http_port = 0;
    options.grpc_port = -1;
    options.device = device;
    options.device_limits = limits;
    options.device_limit_count = n_limits;
    assert_int_not_equal(ps_server_start(engine, &options, &server, &err), PS_OK);
    if (!strstr(err.msg, says)) fail_msg("'%s' does not say '%s'", err.msg, says);
    ps_engine_free(engine);
}

static void test_refusals(void **state) {
    static const ps_server_device_limit other[] = { { "opencl:1", 1 } }, zero[] = { { "opencl:0", 0 } },
                                        host[] = { { "cpu", 1 << 30 } };
    refuse("opencl:0,gpu", NULL, 0, "device 'opencl:0' stands twice in the list of devices");
    refuse("opencl:0,", NULL, 0, "a name in the list of devices is empty");
    refuse("opencl:0,opencl:9", NULL, 0, "device 'opencl:9' is not there");
    refuse("opencl:0", other, 1, "the memory of device 'opencl:1' has a limit, and no model runs there");
    refuse("opencl:0", zero, 1, "the limit of the memory of device 'opencl:0' is 0");
    refuse("cpu,opencl:0", host, 1, "device 'cpu' has no memory of its own to limit");
}

/* The first is lost: no request fails, the second answers; and the first comes back by itself, when its driver lets
 * it. */
static void test_loss_of_one(void **state) {
    start("opencl:0,opencl:1", NULL, 0);
    (void)lose_prepare(engine, 0);
    must_answer();
    const double before = metric("polestar_device_runs_total{device=\"opencl:1\"}");
    atomic_store(&lose_refusals, 1);
    atomic_store(&lose_gone[0], 1);
    for (int i = 0; i < 5; i++)
        must_answer();
    assert_true(metric("polestar_device_runs_total{device=\"opencl:1\"}") == before + 5);
    wait_for("event=device_lost model=m version=1 device=opencl:0,opencl:1");
    wait_for("event=reopen_failed model=m version=1 device=opencl:0,opencl:1 try=1");
    must_answer();
    atomic_store(&lose_gone[0], 0);
    wait_for("event=reopen model=m version=1 device=opencl:0,opencl:1 try=2");
    const double first = metric("polestar_device_runs_total{device=\"opencl:0\"}");
    must_answer();
    assert_true(metric("polestar_device_runs_total{device=\"opencl:0\"}") == first + 1);
    stop();
}

/* The only one is lost: 503 until it is back, and the model is not ready meanwhile. */
static void test_loss_of_all(void **state) {
    const char *body;
    start("opencl:0", NULL, 0);
    (void)lose_prepare(engine, 0);
    must_answer();
    atomic_store(&lose_refusals, 2);
    atomic_store(&lose_gone[0], 1);
    assert_int_equal(infer(&body), 503);
    assert_non_null(strstr(body, "model 'm' waits for device 'opencl:0', which was lost, to be opened again"));
    wait_for("event=reopen_failed model=m version=1 device=opencl:0 try=1");
    assert_int_equal(infer(&body), 503);
    assert_int_equal(request("GET", "/v2/models/m/ready", "", &body), 503);
    assert_int_equal(request("POST", "/v2/repository/index", "", &body), 200);
    if (!strstr(body, "\"state\":\"UNAVAILABLE\"")) fail_msg("%s", body);
    wait_for("event=reopen_failed model=m version=1 device=opencl:0 try=2");
    atomic_store(&lose_gone[0], 0);
    wait_for("event=reopen model=m version=1 device=opencl:0 try=3");
    assert_int_equal(request("GET", "/v2/models/m/ready", "", &body), 200);
    must_answer();
    stop();
}

/* A server may stop while it waits for a device; and a load by hand does not wait. */
static void test_stop_and_load_while_lost(void **state) {
    const char *body;
    for (int load = 0; load < 2; load++) {
        start("opencl:0", NULL, 0);
        (void)lose_prepare(engine, 0);
        must_answer();
        atomic_store(&lose_refusals, 1);
        atomic_store(&lose_gone[0], 1);
        assert_int_equal(infer(&body), 503);
        wait_for("event=reopen_failed");
        atomic_store(&lose_gone[0], 0);
        if (load) assert_int_equal(request("POST", "/v2/repository/models/m/load", "", &body), 200);
        if (load) must_answer();
        stop();
    }
}

/* After the last try a model that is on no other device could not be loaded, and a load by hand tries again; one that
 * is on others stays there. */
static void test_giving_up(void **state) {
    const char *body;
    tries = 2;
    start("opencl:0", NULL, 0);
    (void)lose_prepare(engine, 0);
    must_answer();
    atomic_store(&lose_refusals, 2);
    atomic_store(&lose_gone[0], 1);
    assert_int_equal(infer(&body), 503);
    wait_for("event=reopen_given_up model=m version=1 device=opencl:0 try=2");
    assert_int_equal(infer(&body), 503);
    assert_non_null(strstr(body, "model 'm' could not be loaded: device 'opencl:0' was lost"));
    atomic_store(&lose_gone[0], 0);
    assert_int_equal(request("POST", "/v2/repository/models/m/load", "", &body), 200);
    must_answer();
    stop();
    tries = -1;
    start("opencl:0,opencl:1", NULL, 0);
    (void)lose_prepare(engine, 0);
    must_answer();
    atomic_store(&lose_gone[0], 1);
    for (int i = 0; i < 3; i++)
        must_answer();
    assert_false(logged("reopen"));
    stop();
    tries = 0;
}

/* The graphics card beside the processor, which goes on alone. */
static void test_with_the_processor(void **state) {
    start("opencl:0,cpu", NULL, 0);
    (void)lose_prepare(engine, 0);
    must_answer();
    atomic_store(&lose_refusals, 1000);
    atomic_store(&lose_gone[0], 1);
    for (int i = 0; i < 3; i++)
        must_answer();
    assert_true(metric("polestar_device_runs_total{device=\"cpu\"}") >= 3);
    stop();
}

/* instance_group: of the server's devices those that the model's configuration asks for. */
static void test_instance_group(void **state) {
    static const struct {
        const char *group, *log;
        bool on_0, on_1;
    } cases[] = { { "kind: KIND_GPU gpus: [ 1 ]", "", false, true },
                  { "kind: KIND_GPU", "", true, true },
                  { "kind: KIND_CPU", "event=config_devices model=m used=opencl:0,opencl:1", true, true } };
    char model[400], config[400];
    ps_snprintf(config, sizeof config, "%s/repository", folder);
    assert_int_equal(mkdir(config, 0700), 0);
    ps_snprintf(config, sizeof config, "%s/repository/m", folder);
    assert_int_equal(mkdir(config, 0700), 0);
    ps_snprintf(model, sizeof model, "%s/repository/m/model.onnx", folder);
    onnx_write_model(model, 3);
    ps_snprintf(config, sizeof config, "%s/repository/m/config.pbtxt", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(config, "w");
        assert_non_null(f);
        fprintf(f,
                "instance_group { %s }\nmodel_warmup { name: \"w\" inputs { key: \"x\" value { data_type: TYPE_FP32 "
                "dims: [ 1, 8 ] zero_data: true } } }\n",
                cases[i].group);
        fclose(f);
        ps_snprintf(file, sizeof file, "%s/repository/m", folder);
        start("opencl:0,opencl:1", NULL, 0);
        must_answer();
        assert_true((metric("polestar_device_memory_bytes{device=\"opencl:0\"}") > 0) == cases[i].on_0);
        assert_true((metric("polestar_device_memory_bytes{device=\"opencl:1\"}") > 0) == cases[i].on_1);
        if (!logged(cases[i].log)) fail_msg("%s", lines);
        stop();
    }
    ps_snprintf(file, sizeof file, "%s/m.onnx", folder);
}

/* Two runs for each card: as many as the host has cores would share its time out in small batches. */
static void test_runs_at_once(void **state) {
    ps_used_devices d = { .n = 1, .all[0].own_memory = true };
    assert_int_equal(ps_used_devices_runs(&d), 2);
    d.n = 3;
    d.all[1].own_memory = d.all[2].own_memory = true;
    assert_int_equal(ps_used_devices_runs(&d), 6);
    d.all[1].own_memory = false;
    assert_int_equal(ps_used_devices_runs(&d), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_and_runs),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_loss_of_one),
        cmocka_unit_test(test_loss_of_all),
        cmocka_unit_test(test_stop_and_load_while_lost),
        cmocka_unit_test(test_giving_up),
        cmocka_unit_test(test_with_the_processor),
        cmocka_unit_test(test_instance_group),
        cmocka_unit_test(test_runs_at_once),
    };
    lose_want_devices();
    return lose_two_there() ? cmocka_run_group_tests(tests, setup, teardown) : OPENCL_SKIPPED;
}
