/* json_speed.c - how fast tensor data in JSON is read and written, in MB of text a second. A measurement, no test.
 *
 *     json_speed [SECONDS]
 *
 * Payloads as public clients send them: Python's json.dumps puts ", " between numbers and prints a float32 either in
 * its own shortest digits or, after tolist(), in those of the double; others leave the space out. jansson's parser,
 * which builds a tree, stands beside. Each figure is the median of rounds that take turns. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "server/http/tensor_json.h"
#include "server/json_number.h"

enum { ELEMENTS = 200000, ROUNDS = 9, ROW = 200 };

typedef enum source {
    NORMAL_F32,
    NORMAL_F32_AS_DOUBLE,
    NORMAL_F64,
    SMALL_F32,
    WIDE_F64,
    PIXEL,
    TOKEN,
    INTEGER64
} source;

typedef struct payload {
    const char *name;
    source source;
    ps_dtype dtype;
    const char *separator;
    bool nested;
} payload;

static const payload payloads[] = {
    { "FP32, own digits", NORMAL_F32, PS_DTYPE_F32, ", ", false },
    { "FP32, own digits, no spaces", NORMAL_F32, PS_DTYPE_F32, ",", false },
    { "FP32, digits of the double", NORMAL_F32_AS_DOUBLE, PS_DTYPE_F32, ", ", false },
    { "FP32, nested rows of 200", NORMAL_F32, PS_DTYPE_F32, ", ", true },
    { "FP32, two decimals", SMALL_F32, PS_DTYPE_F32, ", ", false },
    { "FP64", NORMAL_F64, PS_DTYPE_F64, ", ", false },
    { "FP64, all magnitudes", WIDE_F64, PS_DTYPE_F64, ", ", false },
    { "UINT8", PIXEL, PS_DTYPE_U8, ", ", false },
    { "INT64, token ids", TOKEN, PS_DTYPE_I64, ", ", false },
    { "INT64, up to 19 digits", INTEGER64, PS_DTYPE_I64, ", ", false },
};

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 11;
}

static double uniform(uint64_t *state) {
    return ((double)next_random(state) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *state) {
    return sqrt(-2 * log(uniform(state))) * cos(6.283185307179586 * uniform(state));
}

static size_t write_element(char *buf, source source, uint64_t *state) {
    double wide;
    uint64_t bits;
    switch (source) {
    case NORMAL_F32: return ps_number_write_f32(buf, (float)normal(state));
    case NORMAL_F32_AS_DOUBLE: return ps_number_write_f64(buf, (float)normal(state));
    case NORMAL_F64: return ps_number_write_f64(buf, normal(state));
    case SMALL_F32: return ps_number_write_f32(buf, roundf((float)normal(state) * 100) / 100);
    case WIDE_F64:
        bits = next_random(state) << 11 & UINT64_C(0xbfffffffffffffff);
        memcpy(&wide, &bits, sizeof wide);
        return ps_number_write_f64(buf, wide);
    case PIXEL: return ps_number_write_u64(buf, next_random(state) % 256);
    case TOKEN: return ps_number_write_u64(buf, next_random(state) % 30522);
    default: return ps_number_write_i64(buf, (int64_t)(next_random(state) << 11) >> next_random(state) % 60);
    }
}

/* The text of the array; *ret_size without a closing NUL. */
static char *make_text(const payload *p, size_t *ret_size) {
    char *text = malloc((size_t)ELEMENTS * 40 + 64), *at = text;
    uint64_t state = 1;
    if (!text) abort();
    *at++ = '[';
    for (int i = 0; i < ELEMENTS; i++) {
        if (i) at += snprintf(at, 8, "%s%s", p->nested && i % ROW == 0 ? "]" : "", p->separator);
        if (p->nested && i % ROW == 0) *at++ = '[';
        at += write_element(at, p->source, &state);
    }
    if (p->nested) *at++ = ']';
    *at++ = ']';
    *ret_size = (size_t)(at - text);
    return text;
}

/* ---- what is timed ---- */

typedef struct work {
    const payload *payload;
    const char *text;
    size_t size;
    ps_alloc_state alloc;
    ps_infer_tensor tensor; /* of the last read */
    ps_arena arena;         /* its memory */
} work;

static void read_ours(work *w) {
    ps_json r;
    ps_error err = PS_ERROR_INIT;
    ps_arena_release(&w->arena);
    ps_json_init(&r, w->text, w->size, &w->arena);
    w->tensor = (ps_infer_tensor) { .name = "x", .dtype = w->payload->dtype, .elements = ELEMENTS };
    w->tensor.shape = w->payload->nested ? (ps_shape) { 2, { ELEMENTS / ROW, ROW } } : (ps_shape) { 1, { ELEMENTS } };
    if (ps_tensor_json_read(&r, &w->tensor, &err) != PS_OK || ps_json_finish(&r, &err) != PS_OK) {
        fprintf(stderr, "json_speed: %s\n", err.msg);
        abort();
    }
}

static void read_jansson(work *w) {
    json_t *tree = json_loadb(w->text, w->size, 0, NULL);
    if (!tree) abort();
    json_decref(tree);
}

static size_t write_ours(work *w) {
    ps_str out;
    ps_error err = PS_ERROR_INIT;
    ps_str_init(&out, &w->alloc);
    if (ps_tensor_json_write(&w->tensor, &out, &err) != PS_OK) abort();
    size_t size = out.size;
    ps_str_release(&out);
    return size;
}

/* ---- figures ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v) {
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

/* MB a second of `times` calls. */
static double rate(work *w, int which, int times) {
    size_t bytes = 0;
    int64_t start = ps_clock_ns();
    for (int i = 0; i < times; i++) {
        if (which == 0) read_ours(w);
        if (which == 1) read_jansson(w);
        bytes += which == 2 ? write_ours(w) : w->size;
    }
    return (double)bytes * 1e3 / (double)(ps_clock_ns() - start);
}

static void measure(const payload *p, double seconds) {
    work w = { .payload = p };
    double rates[3][ROUNDS];
    int times[3];
    w.text = make_text(p, &w.size);
    ps_alloc_state_init(&w.alloc, NULL);
    ps_arena_init(&w.arena, &w.alloc);
    for (int which = 0; which < 3; which++) { /* the first also warms up; the reads leave a tensor to write */
        double mb = rate(&w, which, 1), per_call = (double)w.size / 1e6 / mb;
        times[which] = 1 + (int)(seconds / ROUNDS / 3 / per_call);
    }
    for (int i = 0; i < ROUNDS; i++)
        for (int which = 0; which < 3; which++)
            rates[which][i] = rate(&w, which, times[which]);
    printf("| %-28s | %6.0f | %6.0f | %6.0f |\n", p->name, median(rates[0]), median(rates[1]), median(rates[2]));
    ps_arena_release(&w.arena);
    free((char *)(uintptr_t)w.text);
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
    if (argc > 2 || !(seconds > 0 && seconds < 1000)) {
        fprintf(stderr, "json_speed: [SECONDS of each payload]\n");
        return 2;
    }
    printf("| MB/s of text                 | read   | jansson| write  |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
        measure(&payloads[i], seconds);
    return 0;
}
