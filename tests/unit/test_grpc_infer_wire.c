/* The reader and the writer of inferences in the wire format, against messages that protobuf's own library made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grpc_messages.h"
#include "server/grpc/infer_wire.h"
#include "server/tensor_raw.h"
#include "test_alloc_fail.h"

enum { REQUESTS = sizeof grpc_requests / sizeof *grpc_requests };

/* A copy of exactly that size at an address that is not aligned, so that a sanitizer sees any step beyond the end. */
static char *copy_of(const char *bytes, size_t size, size_t skew) {
    char *copy = malloc(size + skew + 1);
    assert_non_null(copy);
    memcpy(copy + skew, bytes, size);
    return copy;
}

static void put_hex(ps_str *out, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++)
        ps_str_printf(out, "%02x", ((const unsigned char *)data)[i]);
}

static void put_input(ps_str *out, const ps_infer_tensor *t) {
    ps_str_printf(out, "input %s %s [", t->name, ps_dtype_v2_name(t->dtype));
    for (int d = 0; d < t->shape.rank; d++)
        ps_str_printf(out, "%s%lld", d ? "," : "", (long long)t->shape.dims[d]);
    ps_str_append(out, "] ");
    if (t->dtype != PS_DTYPE_STRING) {
        assert_int_equal((uintptr_t)t->data % ps_tensor_raw_element(t->dtype), 0);
        put_hex(out, t->data, t->elements * ps_tensor_raw_element(t->dtype));
    }
    for (size_t i = 0; t->dtype == PS_DTYPE_STRING && i < t->elements; i++) {
        if (i) ps_str_char(out, ',');
        put_hex(out, ((const ps_string *)t->data)[i].data, ((const ps_string *)t->data)[i].size);
    }
    ps_str_char(out, '\n');
}

static void put_request(ps_str *out, const ps_infer *infer, const ps_infer_wire_target *target) {
    ps_str_printf(out, "model=%s version=%s id=%s\n", target->model_name, target->model_version, infer->id);
    ps_str_printf(out, "sequence=%s start=%d end=%d priority=%u timeout=%lld\n", infer->sequence_id,
                  infer->sequence_start, infer->sequence_end, infer->priority, (long long)infer->timeout_us);
    for (size_t i = 0; i < infer->n_inputs; i++)
        put_input(out, &infer->inputs[i]);
    for (size_t i = 0; i < infer->n_wants; i++)
        ps_str_printf(out, "output %s classes=%lld\n", infer->wants[i].name, (long long)infer->wants[i].classes);
}

static void init(ps_infer *infer, ps_alloc_state *alloc) {
    *infer = (ps_infer) { .id = "", .sequence_id = "" };
    ps_arena_init(&infer->arena, alloc);
}

static void test_requests(void **state) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    for (size_t i = 0; i < 3 * REQUESTS; i++) {
        size_t skew = i / REQUESTS, r = i % REQUESTS, size = grpc_requests[r].size;
        char *bytes = copy_of(grpc_requests[r].bytes, size, skew);
        ps_infer infer;
        ps_infer_wire_target target;
        ps_error err = PS_ERROR_INIT;
        ps_str got;
        init(&infer, &alloc);
        ps_str_init(&got, &alloc);
        if (ps_infer_wire_read(&infer, bytes + skew, size, &target, &err) != PS_OK)
            fail_msg("%s: %s", grpc_requests[r].name, err.msg);
        put_request(&got, &infer, &target);
        if (strcmp(got.data, grpc_requests[r].says) != 0)
            fail_msg("%s\ngot:\n%swanted:\n%s", grpc_requests[r].name, got.data, grpc_requests[r].says);
        ps_str_release(&got);
        ps_arena_release(&infer.arena);
        free(bytes);
        assert_int_equal(alloc.bytes, 0);
    }
}

/* Each cut is a request, or is refused with a sentence. */
static void test_cut_short(void **state) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    for (size_t r = 0; r < REQUESTS; r++) {
        for (size_t size = 0; size < grpc_requests[r].size; size++) {
            char *bytes = malloc(size ? size : 1);
            assert_non_null(bytes);
            memcpy(bytes, grpc_requests[r].bytes, size);
            ps_infer infer;
            ps_infer_wire_target target;
            ps_error err = PS_ERROR_INIT;
            init(&infer, &alloc);
            if (ps_infer_wire_read(&infer, bytes, size, &target, &err) != PS_OK) assert_true(err.msg[0]);
            assert_non_null(target.model_name);
            ps_arena_release(&infer.arena);
            free(bytes);
        }
    }
    assert_int_equal(alloc.bytes, 0);
}

static ps_status read_scenario(ps_alloc_state *a, void *ctx) {
    const size_t *r = ctx;
    ps_infer infer;
    ps_infer_wire_target target;
    init(&infer, a);
    ps_status status = ps_infer_wire_read(&infer, grpc_requests[*r].bytes, grpc_requests[*r].size, &target, NULL);
    ps_arena_release(&infer.arena);
    return status;
}

static void test_out_of_memory(void **state) {
    for (size_t r = 0; r < REQUESTS; r++)
        assert_true(ps_test_sweep(read_scenario, &r) >= 0);
}

static void test_raw_offset(void **state) {
    for (size_t r = 0; r < REQUESTS; r++) {
        if (strncmp(grpc_requests[r].name, "raw_", 4) != 0) continue;
        const char *bytes = grpc_requests[r].bytes;
        size_t size = grpc_requests[r].size, at = ps_infer_wire_raw_offset(bytes, size);
        assert_true(at > 2 && at < size);
        assert_int_equal(bytes[at - 2], 7 << 3 | 2);
        assert_int_equal((size_t)bytes[at - 1], size - at);
        assert_int_equal(ps_infer_wire_raw_offset(bytes, at), at);
        for (size_t cut = 0; cut < at; cut++)
            assert_int_equal(ps_infer_wire_raw_offset(bytes, cut), 0);
    }
}

/* ---- the writer ---- */

static const float f32[] = { -0.0f, 1.0f / 0.0f, 1e-45f, 0.5f };
static const int64_t i64[] = { INT64_MIN, -1, 0, INT64_MAX };
static const uint8_t bools[] = { 1, 0, 1, 1 };
static const double f64[] = { 1.5 };
static const ps_string texts[] = { { "", 0 }, { "ab", 2 }, { "c\303\251", 3 }, { "\0\377", 2 } };

static ps_infer_tensor results[] = {
    { "out_FP32", PS_DTYPE_F32, { 1, { 4 } }, 4, f32 },        { "out_BYTES", PS_DTYPE_STRING, { 1, { 4 } }, 4, texts },
    { "out_INT64", PS_DTYPE_I64, { 3, { 1, 4, 1 } }, 4, i64 }, { "out_BOOL", PS_DTYPE_BOOL, { 1, { 4 } }, 4, bools },
    { "scalar", PS_DTYPE_F64, { 0, { 0 } }, 1, f64 },          { "none", PS_DTYPE_F32, { 2, { 3, 0 } }, 0, f32 },
};

static ps_status write_scenario(ps_alloc_state *a, void *ctx) {
    const size_t *final = ctx;
    ps_served served = { .name = "m", .version = "1" };
    ps_infer_want wants[sizeof results / sizeof *results] = { { 0 } };
    ps_infer infer;
    ps_infer_wire_reply reply;
    init(&infer, a);
    infer.id = *final ? "" : "7";
    infer.served = &served;
    infer.results = results;
    infer.wants = wants;
    infer.n_wants = sizeof results / sizeof *results;
    ps_status status = ps_infer_wire_measure(&infer, *final, &reply, NULL);
    if (status == PS_OK) {
        uint8_t *bytes = malloc(reply.size);
        assert_non_null(bytes);
        assert_ptr_equal(ps_infer_wire_put(&reply, bytes), bytes + reply.size);
        assert_int_equal(reply.size, grpc_responses[*final].size);
        assert_memory_equal(bytes, grpc_responses[*final].bytes, reply.size);
        free(bytes);
    }
    ps_arena_release(&infer.arena);
    return status;
}

static void test_responses(void **state) {
    for (size_t final = 0; final < 2; final++)
        assert_true(ps_test_sweep(write_scenario, &final) >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),   cmocka_unit_test(test_cut_short), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_raw_offset), cmocka_unit_test(test_responses),
    };
    return cmocka_run_group_tests_name("grpc_infer_wire", tests, NULL, NULL);
}
