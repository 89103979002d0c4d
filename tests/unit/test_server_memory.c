/* The server's own state with every allocation failing once: nothing leaks, the failure is said, and what was there
 * before still works. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "server/core.h"
#include "server/coding.h"
#include "server/trace.h"
#include "test_alloc_fail.h"

/* ---- trace settings ---- */

static ps_status use_trace(ps_alloc_state *a, void *ctx) {
    static const ps_trace_change change = { .set = PS_TRACE_RATE, .values = { .rate = 3 } };
    const ps_log silent = { 0 };
    ps_trace *trace = NULL;
    ps_trace_settings got;
    ps_status status = ps_trace_create(a, &silent, &trace, NULL);
    if (status == PS_OK) status = ps_trace_update(trace, "a", &change, NULL);
    if (status == PS_OK) status = ps_trace_update(trace, "b", &change, NULL);
    if (trace) {
        ps_trace_get(trace, "a", &got);
        assert_true(got.rate == 3 || got.rate == 1000);
        ps_trace_get(trace, NULL, &got);
        assert_int_equal(got.rate, 1000);
    }
    ps_trace_free(trace);
    return status;
}

/* ---- shared memory ---- */

static ps_status use_region(ps_shm_table *t, const char *key) {
    ps_shm_region *region;
    char data[4] = "";
    ps_status status = ps_shm_register(t, "r", key, 8, 8, NULL);
    if (status != PS_OK) return status;
    assert_int_equal(ps_shm_acquire(t, "r", 4, 5, &region, NULL), PS_INVALID);
    assert_int_equal(ps_shm_acquire(t, "r", 4, 4, &region, NULL), PS_OK);
    ps_shm_unregister(t, "r"); /* the reference keeps it */
    assert_int_equal(ps_shm_acquire(t, "r", 4, 4, &region, NULL), PS_INVALID);
    assert_int_equal(ps_shm_region_write(region, 4, "abcd", 4, NULL), PS_OK);
    assert_int_equal(ps_shm_region_read(region, 4, data, 4, NULL), PS_OK);
    assert_memory_equal(data, "abcd", 4);
    ps_shm_release(region);
    return PS_OK;
}

static ps_status use_shared_memory(ps_alloc_state *a, void *ctx) {
    ps_shm_table *t = NULL;
    ps_status status = ps_shm_table_create(a, true, 100, &t, NULL);
    if (status == PS_OK) status = use_region(t, ctx);
    if (status == PS_OK) {
        assert_int_equal(ps_shm_reserve(t, 60, NULL), PS_OK);
        assert_int_equal(ps_shm_reserve(t, 60, NULL), PS_UNAVAILABLE);
        assert_int_equal(ps_shm_reserve(t, SIZE_MAX, NULL), PS_UNAVAILABLE);
        ps_shm_unreserve(t, 60);
        assert_int_equal(ps_shm_reserve(t, 100, NULL), PS_OK);
    }
    ps_shm_table_free(t);
    return status;
}

/* ---- packing, which may fail without harm ---- */

static bool append(void *ctx, const char *data, size_t size) {
    ps_str_append_n(ctx, data, size);
    return true;
}

static ps_status pack_and_unpack(ps_alloc_state *a, void *ctx) {
    ps_str text, out;
    char zeros[2000] = "";
    ps_str_init(&text, a);
    ps_str_init(&out, a);
    ps_str_append_n(&text, zeros, sizeof zeros);
    ps_status status = text.failed ? PS_NO_MEMORY : PS_OK;
    if (status == PS_OK && !ps_coding_pack(&text, PS_CODING_GZIP)) {
        assert_int_equal(text.size, sizeof zeros);
        status = PS_NO_MEMORY;
    }
    if (status == PS_OK) status = ps_coding_unpack(a, PS_CODING_GZIP, text.data, text.size, append, &out, NULL);
    if (status == PS_OK && out.failed) status = PS_NO_MEMORY;
    if (status == PS_OK) assert_int_equal(out.size, sizeof zeros);
    ps_str_release(&text);
    ps_str_release(&out);
    return status;
}

static void test_sweeps(void **state) {
    char key[64];
    ps_snprintf(key, sizeof key, "/polestar-unit-%ld", (long)getpid());
    int fd = shm_open(key, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 16), 0);
    long shared = ps_test_sweep(use_shared_memory, key);
    close(fd);
    shm_unlink(key);
    assert_true(shared >= 4);
    assert_true(ps_test_sweep(use_trace, NULL) >= 5);
    assert_true(ps_test_sweep(pack_and_unpack, NULL) >= 4);
}

/* ---- sequences ---- */

typedef struct model {
    ps_engine *engine;
    const char *file;
    ps_value_info in, out;
} model;

/* One request of a sequence; *value is the state's element before it, and one more after it. */
static ps_status ask(const model *m, ps_served *served, bool start, bool end, float *value) {
    ps_infer infer;
    ps_tensor *slots[1] = { NULL }, *outputs[1] = { NULL };
    bool waits;
    ps_infer_init(&infer, m->engine);
    infer.served = served;
    infer.sequence_id = "i7";
    infer.sequence_start = start;
    infer.sequence_end = end;
    infer.tensors = slots;
    ps_status status = ps_sequence_enter(&infer, &waits, NULL);
    if (status == PS_OK) {
        assert_false(waits);
        status = ps_sequence_bind(&infer, NULL);
        if (status == PS_OK) status = ps_tensor_create(m->engine, PS_DTYPE_F32, &m->in.shape, &outputs[0], NULL);
        if (status == PS_OK) {
            *value = *(const float *)ps_tensor_data_const(slots[0]);
            *(float *)ps_tensor_data(outputs[0]) = *value + 1;
            status = ps_sequence_keep(&infer, outputs, NULL);
        }
        infer.status = status;
        assert_null(ps_sequence_leave(&infer));
    }
    ps_tensor_release(slots[0]);
    ps_tensor_release(outputs[0]);
    infer.served = NULL;
    ps_infer_release(&infer);
    return status;
}

/* text NULL: of the file beside the model */
static ps_status use_sequences(const model *m, const char *text) {
    ps_served served = { .name = "m" };
    float value = -1;
    ps_status status = ps_sequences_load(m->engine, m->file, text, &m->in, 1, &m->out, 1, &served.sequences, NULL);
    if (status == PS_OK) {
        assert_int_equal(ask(m, &served, false, false, &value), PS_INVALID);
        for (int i = 0; i < 3 && status == PS_OK; i++) {
            status = ask(m, &served, i == 0, i == 2, &value);
            if (status == PS_OK) assert_true(value == (float)i);
        }
        if (status == PS_OK) assert_int_equal(ask(m, &served, false, false, &value), PS_INVALID);
    }
    ps_sequences_free(served.sequences);
    return status;
}

static void test_sequences(void **state) {
    static const char text[] = "{\"states\":[{\"input\":\"s\",\"output\":\"t\"}]}";
    char path[96], file[96];
    ps_test_alloc t;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    ps_status status = PS_NO_MEMORY;
    ps_snprintf(file, sizeof file, "/tmp/polestar-unit-%ld.onnx", (long)getpid());
    ps_snprintf(path, sizeof path, "/tmp/polestar-unit-%ld.state.json", (long)getpid());
    assert_int_equal(ps_file_write(path, text, sizeof text - 1, 0600, NULL), PS_OK);
    ps_test_alloc_init(&t, -1);
    o.allocator = &t.allocator;
    o.threads = 1;
    o.cache_dir = "";
    model m = { .file = file };
    assert_int_equal(ps_engine_create(&o, &m.engine, NULL), PS_OK);
    m.in = (ps_value_info) { .name = "s", .dtype = PS_DTYPE_F32, .shape = { 1, { 1 } } };
    m.out = (ps_value_info) { .name = "t", .dtype = PS_DTYPE_F32, .shape = { 1, { 1 } } };
    long before = atomic_load(&t.live), nth = 0;
    for (; status != PS_OK; nth++) {
        assert_true(nth < 1000);
        atomic_store(&t.left, nth);
        status = use_sequences(&m, NULL);
        if (status == PS_OK) status = use_sequences(&m, text);
        assert_true(status == PS_OK || (status == PS_NO_MEMORY && atomic_load(&t.failed)));
        assert_int_equal(atomic_load(&t.live), before);
        atomic_store(&t.failed, false);
    }
    assert_true(nth > 10);
    atomic_store(&t.left, -1);
    ps_engine_free(m.engine);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_sweeps), cmocka_unit_test(test_sequences) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
