/* What a request costs, counted: allocations and bytes, over a connection that stays open. Counts do not depend on the
 * machine: whether a request ran on the daemon's thread or on a runner's makes no difference to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "polestar/polestar.h"

/* The body, and the wrapper of the one input tensor. */
#define MOST_ALLOCATIONS 2

static atomic_size_t calls, bytes;

static void *counting_alloc(void *ctx, size_t size, size_t align) {
    void *block = NULL;
    atomic_fetch_add(&calls, 1);
    atomic_fetch_add(&bytes, size);
    return posix_memalign(&block, align, size) == 0 ? block : NULL;
}

static void counting_free(void *ctx, void *ptr, size_t size) {
    free(ptr);
}

/* ---- a server and one connection to it ---- */

typedef struct fixture {
    ps_engine *engine;
    ps_server *server;
    int fd;
} fixture;

static int connect_to(int port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void start(fixture *f) {
    static const ps_allocator counting = { counting_alloc, counting_free, NULL };
    static const ps_server_model model = { "m", PS_TEST_DATA "/onnx/good/dims.onnx" };
    ps_engine_options engine = PS_ENGINE_OPTIONS_INIT;
    ps_server_options options = PS_SERVER_OPTIONS_INIT;
    ps_error err = PS_ERROR_INIT;
    engine.allocator = &counting;
    engine.threads = 1;
    engine.cache_dir = "";
    options.http_port = 0;
    options.grpc_port = -1;
    options.models = &model;
    options.model_count = 1;
    if (ps_engine_create(&engine, &f->engine, &err) != PS_OK) fail_msg("%s", err.msg);
    if (ps_server_start(f->engine, &options, &f->server, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_true(ps_server_wait_ready(f->server, 30000));
    f->fd = connect_to(ps_server_http_port(f->server));
}

static void stop(fixture *f) {
    close(f->fd);
    ps_server_free(f->server);
    ps_engine_free(f->engine);
}

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

/* One reply: its body into buf, its size returned. */
static size_t receive(int fd, char *buf, size_t room) {
    size_t size = 0;
    char *end = NULL;
    while (!end) {
        ssize_t n = recv(fd, buf + size, room - 1 - size, 0);
        assert_true(n > 0);
        size += (size_t)n;
        buf[size] = '\0';
        end = strstr(buf, "\r\n\r\n");
    }
    const char *length = strstr(buf, "\r\nContent-Length: ");
    if (strncmp(buf, "HTTP/1.1 200", 12) != 0) fail_msg("%s", buf);
    assert_true(length && length < end);
    size_t body = strtoul(length + 18, NULL, 10), head = (size_t)(end + 4 - buf);
    assert_true(head + body < room);
    while (size < head + body) {
        ssize_t n = recv(fd, buf + size, head + body - size, 0);
        assert_true(n > 0);
        size += (size_t)n;
    }
    memmove(buf, buf + head, body);
    buf[body] = '\0';
    return body;
}

/* 4 * rows ones in binary form, or the same in JSON; headers included. */
static char *make_request(size_t rows, bool binary, size_t *ret_size) {
    char json[512], *request = malloc(rows * 24 + 2048);
    size_t tail = binary ? rows * 16 : 0, used;
    assert_non_null(request);
    snprintf(json, sizeof json, "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,1,4,1,1,1,%zu],\"datatype\":\"FP32\",",
             rows);
    if (binary) {
        used = strlen(json);
        snprintf(json + used, sizeof json - used,
                 "\"parameters\":{\"binary_data_size\":%zu}}],\"parameters\":{\"binary_data_output\":true}}", tail);
    }
    size_t data = binary ? 0 : rows * 16 + 12;
    int head = snprintf(request, 1024, "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n",
                        strlen(json) + data + tail - (binary ? 0 : 1));
    if (binary) head += snprintf(request + head, 256, "Inference-Header-Content-Length: %zu\r\n", strlen(json));
    used = (size_t)head;
    used += (size_t)snprintf(request + used, 1024, "\r\n%s", json);
    if (!binary) {
        used += (size_t)snprintf(request + used, 16, "\"data\":[");
        for (size_t i = 0; i < rows * 4; i++)
            used += (size_t)snprintf(request + used, 8, "%s1.0", i ? "," : "");
        used += (size_t)snprintf(request + used, 8, "]}]}");
    }
    for (size_t i = 0; i < tail / 4; i++, used += 4)
        memcpy(request + used, &(float) { 1 }, 4);
    *ret_size = used;
    return request;
}

typedef struct cost {
    double calls, bytes; /* of one request */
    size_t reply;
} cost;

static cost measure(fixture *f, size_t rows, bool binary, int warm, int times) {
    size_t size, room = rows * 64 + 4096, reply = 0;
    char *request = make_request(rows, binary, &size), *buf = malloc(room);
    assert_non_null(buf);
    size_t calls_before = 0, bytes_before = 0;
    for (int i = 0; i < warm + times; i++) {
        if (i == warm) {
            calls_before = atomic_load(&calls);
            bytes_before = atomic_load(&bytes);
        }
        send_all(f->fd, request, size);
        reply = receive(f->fd, buf, room);
    }
    cost c = { (double)(atomic_load(&calls) - calls_before) / times,
               (double)(atomic_load(&bytes) - bytes_before) / times, reply };
    free(request);
    free(buf);
    return c;
}

/* ---- tests ---- */

static void test_allocations_of_small_requests(void **state) {
    fixture f;
    start(&f);
    for (int binary = 0; binary < 2; binary++) {
        cost c = measure(&f, 1, binary, 50, 200);
        if (c.calls > MOST_ALLOCATIONS)
            fail_msg("%.2f allocations a request (%s)", c.calls, binary ? "binary" : "JSON");
        assert_true(c.bytes < 2048);
    }
    stop(&f);
}

/* The body is kept once and is the session's input; the reply is written once and sent from where it lies. */
static void test_copies_of_large_requests(void **state) {
    enum { ROWS = 20000 };
    const size_t input = ROWS * 16, output = ROWS * 16;
    fixture f;
    start(&f);
    cost c = measure(&f, ROWS, true, 30, 20);
    assert_true(c.reply > output && c.reply < output + 512);
    /* both grow by steps, to twice their size in all; one more copy of either would show */
    double most = (double)(input + output) * 2 + 65536;
    if (c.bytes > most) fail_msg("%.0f bytes allocated a request, expected at most %.0f", c.bytes, most);
    stop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocations_of_small_requests),
        cmocka_unit_test(test_copies_of_large_requests),
    };
    return cmocka_run_group_tests_name("server_request", tests, NULL, NULL);
}
