/* What a batch says of its run: how long it took, for how many rows, and when it says nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "polestar/polestar.h"
#include "onnx_file.h"
#include "server/batch.h"
#include "server/devices.h"

enum { N = 3 };

/* Every request was given up, or is too late, before the run began. */
static void test_nothing_left(void **state) {
    ps_engine *engine;
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_served served = { .name = "m", .max_batch = 8 };
    ps_infer infers[N], *list[N];
    int cancel = 0;
    options.cache_dir = "";
    assert_int_equal(ps_engine_create(&options, &engine, NULL), PS_OK);
    for (int late = 0; late < 2; late++) {
        ps_batch_room room = { 0 };
        ps_batch_run run = { .cancel = &cancel, .room = &room, .measured_ns = 1 };
        for (int i = 0; i < N; i++) {
            list[i] = &infers[i];
            ps_infer_init(list[i], engine);
            infers[i].served = &served;
            if (late)
                infers[i].deadline_ns = ps_clock_ns();
            else
                atomic_store(&infers[i].abandoned, true);
        }
        for (size_t n = 1; n <= N; n++)
            ps_batch_run_all(&run, list, n);
        assert_int_equal(run.measured_ns, 0); /* it teaches nothing */
        for (int i = 0; i < N; i++) {
            assert_int_equal(infers[i].status, late ? PS_DEADLINE : PS_CANCELLED);
            infers[i].served = NULL;
            ps_infer_release(list[i]);
        }
        ps_batch_room_release(ps_engine_alloc(engine), &room);
    }
    ps_engine_free(engine);
}

/* ---- with a model: y = Relu(x · w), [n, 8] ---- */

#define MS INT64_C(1000000)

typedef struct fixture {
    ps_engine *engine;
    ps_used_devices *devices;
    ps_stats *stats;
    ps_served *served;
    ps_batch_room room;
    int cancel;
    ps_infer infers[N], *list[N];
} fixture;

static void open_model(fixture *f) {
    char file[64];
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_server_options server = PS_SERVER_OPTIONS_INIT;
    ps_served_options so = { .name = "m", .version = "1", .path = file, .max_batch = 8 };
    ps_error err = PS_ERROR_INIT;
    *f = (fixture) { .cancel = 0 };
    ps_snprintf(file, sizeof file, "/tmp/polestar-unit-batch-%ld.onnx", (long)getpid());
    options.cache_dir = "";
    options.threads = 1;
    onnx_write_model(file, 3);
    assert_int_equal(ps_engine_create(&options, &f->engine, NULL), PS_OK);
    assert_int_equal(ps_used_devices_create(f->engine, &server, &f->devices, NULL), PS_OK);
    so.devices = f->devices;
    so.stats = f->stats = ps_stats_create(ps_engine_alloc(f->engine));
    if (ps_served_load(f->engine, &so, &f->served, &err) != PS_OK) fail_msg("%s", err.msg);
    assert_int_equal(f->served->max_batch, 8);
    remove(file);
}

static void close_model(fixture *f) {
    ps_batch_room_release(ps_engine_alloc(f->engine), &f->room);
    ps_served_release(f->served);
    ps_stats_release(f->stats);
    ps_used_devices_free(f->devices);
    ps_engine_free(f->engine);
}

static ps_status encode_nothing(ps_infer *infer, ps_error *err) {
    return PS_OK;
}

static ps_status prepare_slowly(ps_infer *infer, ps_error *err) {
    const int64_t until = ps_clock_ns() + 30 * MS;
    while (ps_clock_ns() < until) {
    }
    return PS_OK;
}

static ps_status prepare_badly(ps_infer *infer, ps_error *err) {
    return PS_FAIL(err, INVALID, "this is no photo");
}

static void make_request(fixture *f, int i, int64_t rows) {
    static float zeros[64];
    static ps_infer_want want = { .name = "y" };
    ps_shape shape = { 2, { rows, 8 } };
    ps_infer *infer = f->list[i] = &f->infers[i];
    ps_infer_init(infer, f->engine);
    infer->served = ps_served_retain(f->served);
    infer->tensors = ps_arena_array(&infer->arena, 2, sizeof *infer->tensors);
    infer->selected = ps_arena_array(&infer->arena, 2, sizeof *infer->selected);
    infer->results = ps_arena_array(&infer->arena, 2, sizeof *infer->results);
    infer->wants = &want;
    infer->n_wants = infer->n_tensors = 1;
    infer->encode = encode_nothing;
    assert_int_equal(ps_tensor_wrap(f->engine, PS_DTYPE_F32, &shape, NULL, zeros, infer->tensors, NULL), PS_OK);
    infer->request.items = ps_batch_items(infer, &infer->request.work);
    infer->request.shape = ps_batch_shape(infer);
}

static ps_batch_run run_all(fixture *f, size_t n) {
    ps_batch_run run = { .cancel = &f->cancel, .room = &f->room };
    ps_batch_run_all(&run, f->list, n);
    for (size_t i = 0; i < n; i++)
        ps_infer_release(f->list[i]);
    return run;
}

/* A photo's decoding is in the time of a batch as in that of one request. */
static void test_preparing_is_measured(void **state) {
    fixture f;
    open_model(&f);
    for (size_t n = 1; n <= N; n++) {
        for (int i = 0; i < (int)n; i++) {
            make_request(&f, i, 2);
            f.infers[i].prepare = prepare_slowly;
        }
        const ps_batch_run run = run_all(&f, n);
        assert_true(run.measured_ns >= 30 * MS * (int64_t)n);
        assert_int_equal(run.items, 2 * n);
        assert_false(run.cut);
    }
    close_model(&f);
}

/* What fails before the run has no rows in it. */
static void test_those_that_ran_count(void **state) {
    fixture f;
    open_model(&f);
    for (int bad = 1; bad < N; bad++) {
        for (int i = 0; i < N; i++) {
            make_request(&f, i, i + 1);
            if (i >= N - bad) f.infers[i].prepare = prepare_badly;
        }
        const ps_batch_run run = run_all(&f, N);
        assert_true(run.measured_ns > 0);
        assert_int_equal(run.items, bad == 1 ? 3 : 1);
    }
    close_model(&f);
}

/* Without rows nothing is computed: that tells nothing of those with rows, and holds none of them up. */
static void test_no_rows(void **state) {
    fixture f;
    open_model(&f);
    make_request(&f, 0, 0);
    make_request(&f, 1, 1);
    make_request(&f, 2, 2);
    assert_true(f.infers[0].request.shape != f.infers[1].request.shape);
    assert_true(f.infers[1].request.shape == f.infers[2].request.shape);
    (void)run_all(&f, N);
    make_request(&f, 0, 0);
    assert_int_equal(run_all(&f, 1).measured_ns, 0);
    close_model(&f);
}

/* A run that is stopped at its deadline says so, and after how long. */
static void test_cut(void **state) {
    fixture f;
    open_model(&f);
    for (size_t n = 1; n <= 2; n++) {
        for (int i = 0; i < (int)n; i++) {
            make_request(&f, i, 1);
            f.infers[i].deadline_ns = ps_clock_ns() + 15 * MS;
        }
        f.infers[n - 1].prepare = prepare_slowly; /* all are looked at before: none is too late then */
        const ps_batch_run run = run_all(&f, n);
        assert_true(run.cut);
        assert_true(run.measured_ns >= 30 * MS);
    }
    close_model(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_left),
                                        cmocka_unit_test(test_preparing_is_measured),
                                        cmocka_unit_test(test_those_that_ran_count), cmocka_unit_test(test_no_rows),
                                        cmocka_unit_test(test_cut) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
