/* Inputs and outputs that a device with the host's memory uses where they lie: no copy is made of them (counted), what
 * cannot be used so is copied, and neither changes a value. A card is told to do the same: its driver then copies.
 *
 * Tolerance: none; the operators are exact. */
#include "opencl_compare.h"

#define ROWS 128
#define COLUMNS 256
#define N (ROWS * COLUMNS) /* 128 KiB */

/* ---- copies that the device is asked for ---- */

static const ocl_api *real_api;
static struct {
    int writes, reads, aimed;
} asked;

static cl_int CL_API_CALL count_write(cl_command_queue q, cl_mem m, cl_bool b, size_t at, size_t n, const void *p,
                                      cl_uint n_wait, const cl_event *wait, cl_event *event) {
    asked.writes += n >= N;
    return real_api->clEnqueueWriteBuffer(q, m, b, at, n, p, n_wait, wait, event);
}

static cl_int CL_API_CALL count_read(cl_command_queue q, cl_mem m, cl_bool b, size_t at, size_t n, void *p,
                                     cl_uint n_wait, const cl_event *wait, cl_event *event) {
    asked.reads += n >= N;
    return real_api->clEnqueueReadBuffer(q, m, b, at, n, p, n_wait, wait, event);
}

static cl_mem CL_API_CALL count_buffer(cl_context c, cl_mem_flags flags, size_t n, void *host, cl_int *code) {
    asked.aimed += (flags & CL_MEM_USE_HOST_PTR) != 0;
    return real_api->clCreateBuffer(c, flags, n, host, code);
}

static ocl_device *device(void) {
    ps_device *d = NULL;
    assert_int_equal(ps_engine_device(cmp_engine, cmp_device, &d, NULL), PS_OK);
    return ocl_of(d);
}

static void start_counting(void) {
    static ocl_api kept;
    if (!real_api) kept = device()->api; /* a test that failed has not stopped */
    real_api = &kept;
    device()->api.clEnqueueWriteBuffer = count_write;
    device()->api.clEnqueueReadBuffer = count_read;
    device()->api.clCreateBuffer = count_buffer;
}

static void stop_counting(void) {
    device()->api = *real_api;
}

static void assert_asked(int writes, int reads, int aimed) {
    if (asked.writes != writes || asked.reads != reads || asked.aimed != aimed)
        fail_msg("%d written, %d read, %d in place; expected %d, %d, %d", asked.writes, asked.reads, asked.aimed,
                 writes, reads, aimed);
}

/* ---- runs ---- */

typedef struct bench {
    ps_model *model;
    ps_session *session;
    float *memory, *in[2]; /* in[1] may be moved by up to 64 floats */
    ps_tensor *out[2];     /* of the last run: the session's, or of `given` */
    ps_tensor *given[2];   /* NULL: the session's own are asked for */
} bench;

static void open_bench(bench *b, const char *text, bool shared) {
    device()->base.shares_memory = shared;
    *b = (bench) { .model = fixture_model(cmp_engine, text, cmp_device) };
    b->session = fixture_session(b->model, 1);
    b->memory = aligned_alloc(PS_ALIGN, 2 * (N + 64) * sizeof(float));
    b->in[0] = b->memory;
    b->in[1] = b->memory + N + 64;
}

static void close_bench(bench *b) {
    for (int i = 0; i < 2; i++)
        ps_tensor_release(b->given[i]);
    ps_session_free(b->session);
    ps_model_release(b->model);
    free(b->memory);
}

static void fill(float *x, int round) {
    for (size_t i = 0; i < N; i++)
        x[i] = (float)((int)((i * 2654435761u + (unsigned)round * 977u) >> 8 & 0xffff) - 32768);
}

static void run(bench *b, size_t n_in, size_t n_out) {
    ps_tensor *in[2];
    ps_error err = PS_ERROR_INIT;
    for (size_t i = 0; i < n_in; i++)
        in[i] = fixture_wrap(cmp_engine, PS_DTYPE_F32, 2, DIMS(ROWS, COLUMNS), b->in[i]);
    memcpy(b->out, b->given, sizeof b->out);
    memset(&asked, 0, sizeof asked);
    ps_status status = ps_session_run(b->session, (const ps_tensor *const *)in, n_in, b->out, n_out, NULL, &err);
    if (status != PS_OK) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n_in; i++)
        ps_tensor_release(in[i]);
}

static const float *output(const bench *b, int i) {
    return ps_tensor_data(b->out[i]);
}

#define SUM_AND_TURN \
    "graph (x: f32[128,256], r: f32[128,256]) -> (y, t) opset 17 {\n  y = Add(x, r)\n  t = Transpose(x) {perm=[1,0]}\n}"

static void assert_sum_and_turn(const bench *b) {
    for (size_t i = 0; i < N; i++) {
        if (output(b, 0)[i] != b->in[0][i] + b->in[1][i]) fail_msg("sum %zu", i);
        if (output(b, 1)[i % COLUMNS * ROWS + i / COLUMNS] != b->in[0][i]) fail_msg("element %zu", i);
    }
}

/* ---- tests ---- */

static void test_nothing_is_copied(void **state) {
    bench b;
    open_bench(&b, SUM_AND_TURN, true);
    start_counting();
    for (int round = 0; round < 3; round++) {
        fill(b.in[0], round);
        fill(b.in[1], round + 1);
        run(&b, 2, 2);
        assert_sum_and_turn(&b);
        assert_asked(0, 0, 4);
    }
    for (int i = 0; i < 2; i++) { /* the caller's outputs are written where they lie, too */
        const ps_shape shape = i ? ps_shape_make(2, DIMS(COLUMNS, ROWS)) : ps_shape_make(2, DIMS(ROWS, COLUMNS));
        assert_int_equal(ps_tensor_create(cmp_engine, PS_DTYPE_F32, &shape, &b.given[i], NULL), PS_OK);
    }
    run(&b, 2, 2);
    assert_ptr_equal(b.out[0], b.given[0]);
    assert_sum_and_turn(&b);
    assert_asked(0, 0, 4);
    stop_counting();
    close_bench(&b);
}

static void test_memory_that_does_not_suit(void **state) {
    bench b;
    open_bench(&b, SUM_AND_TURN, true);
    start_counting();
    b.in[1] += 1;
    fill(b.in[0], 1);
    fill(b.in[1], 2);
    run(&b, 2, 2);
    assert_sum_and_turn(&b);
    assert_asked(1, 0, 3);
    b.in[1] = b.in[0]; /* two buffers over one memory */
    run(&b, 2, 2);
    assert_sum_and_turn(&b);
    assert_asked(1, 0, 3);
    b.in[1] = b.in[0] + N + 64;
    fill(b.in[1], 3);
    run(&b, 2, 2);
    assert_sum_and_turn(&b);
    assert_asked(0, 0, 4);
    stop_counting();
    close_bench(&b);
}

static void test_a_device_of_its_own_memory(void **state) {
    bench b;
    open_bench(&b, SUM_AND_TURN, false);
    start_counting();
    fill(b.in[0], 1);
    fill(b.in[1], 2);
    run(&b, 2, 2);
    assert_sum_and_turn(&b);
    assert_asked(2, 2, 0);
    stop_counting();
    close_bench(&b);
}

/* Kernels may overwrite what they read last: not what is the caller's. */
static void test_inputs_stay(void **state) {
    bench b;
    open_bench(&b, "graph (x: f32[128,256], r: f32[128,256]) -> (y, z) opset 17 {\n  t = Transpose(r) {perm=[1,0]}\n"
                   "  y = Neg(x)\n  u = Abs(t)\n  z = Neg(u)\n}", true);
    start_counting();
    for (int round = 0; round < 2; round++) {
        float *kept = malloc(N * sizeof *kept);
        fill(b.in[0], round);
        fill(b.in[1], round + 5);
        memcpy(kept, b.in[0], N * sizeof *kept);
        run(&b, 2, 2);
        assert_memory_equal(b.in[0], kept, N * sizeof *kept);
        for (size_t i = 0; i < N; i++) {
            if (output(&b, 0)[i] != -kept[i]) fail_msg("element %zu", i);
            const float turned = b.in[1][i], z = output(&b, 1)[i % COLUMNS * ROWS + i / COLUMNS];
            if (z != (turned < 0 ? turned : -turned)) fail_msg("element %zu of the second", i);
        }
        assert_asked(0, 0, 4);
        free(kept);
    }
    stop_counting();
    close_bench(&b);
}

/* An output that is read on: by the device, where it overwrites what it reads last; by the host (CumSum), which has to
 * have it before the run ends; and one that is asked for twice. */
static void test_outputs_that_are_read(void **state) {
    bench b;
    open_bench(&b, "graph (x: f32[128,256]) -> (y, z) opset 17 {\n  y = Neg(x)\n  z = Abs(y)\n}", true);
    fill(b.in[0], 1);
    run(&b, 1, 2);
    for (size_t i = 0; i < N; i++)
        if (output(&b, 0)[i] != -b.in[0][i] || output(&b, 1)[i] != fabsf(b.in[0][i])) fail_msg("element %zu", i);
    close_bench(&b);

    open_bench(&b, "graph (x: f32[128,256]) -> (y, z) opset 17 {\n  k: i64[] = {1}\n  y = Neg(x)\n"
                   "  h = CumSum(y, k)\n  z = Neg(h)\n}", true);
    fill(b.in[0], 2);
    run(&b, 1, 2);
    for (size_t i = 0; i < N; i += COLUMNS)
        if (output(&b, 0)[i] != -b.in[0][i] || output(&b, 1)[i] != b.in[0][i]) fail_msg("row at %zu", i);
    close_bench(&b);

    open_bench(&b, "graph (x: f32[128,256]) -> (y, y) opset 17 {\n  y = Neg(x)\n}", true);
    fill(b.in[0], 3);
    run(&b, 1, 2);
    for (size_t i = 0; i < N; i++)
        if (output(&b, 0)[i] != -b.in[0][i] || output(&b, 1)[i] != -b.in[0][i]) fail_msg("element %zu", i);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CMP_TEST(test_nothing_is_copied), CMP_TEST(test_memory_that_does_not_suit),
        CMP_TEST(test_a_device_of_its_own_memory), CMP_TEST(test_inputs_stay),
        CMP_TEST(test_outputs_that_are_read)
    };
    return opencl_there() ? cmocka_run_group_tests(tests, NULL, NULL) : OPENCL_SKIPPED;
}
