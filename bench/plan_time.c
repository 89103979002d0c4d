/* plan_time.c - what a new set of input shapes costs: the time to compile its plan, alone.
 *
 *     plan_time MODEL.onnx [THREADS [PLANS [MAX_SEQUENCE]]]
 *
 * For models whose inputs are all [batch, sequence]: random batches of 1 to 8, sequences up to MAX_SEQUENCE (256). The
 * difference of two whole runs (bench/soak_shapes.c) drowns this in the spread of runs that take half a second. */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "runtime/runtime_int.h"

enum { MAX_PLANS = 10000, MAX_INPUTS = 16 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static ps_status time_plans(ps_model *model, int threads, int n, int64_t max_sequence, double *ms, ps_error *err) {
    uint64_t random = 1;
    for (int i = 0; i < n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        ps_shape shape = { 2, { 1 + (int64_t)(random >> 33) % 8, 1 + (int64_t)(random >> 40) % max_sequence } };
        ps_slot ends[MAX_INPUTS], *pointers[MAX_INPUTS];
        int64_t key[MAX_INPUTS * 20 + 1];
        ps_program *program;
        memset(ends, 0, sizeof ends);
        for (size_t k = 0; k < model->n_inputs; k++) {
            pointers[k] = &ends[k];
            ps_slot_borrow(&ends[k], model->inputs[k].dtype, &shape, NULL);
        }
        int64_t start = ps_clock_ns();
        size_t words = ps_key_fill(key, &model->unit, threads, pointers);
        ps_status status = ps_unit_program(&model->unit, pointers, key, words, threads, &program, err);
        if (status != PS_OK) return status;
        ms[i] = (double)(ps_clock_ns() - start) / 1e6;
        ps_program_release(program);
    }
    return PS_OK;
}

int main(int argc, char **argv) {
    static double ms[MAX_PLANS];
    int threads = argc > 2 ? atoi(argv[2]) : 1, n = argc > 3 ? atoi(argv[3]) : 400;
    int64_t max_sequence = argc > 4 ? atoi(argv[4]) : 256;
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_engine *engine = NULL;
    ps_model *model = NULL;
    ps_error err = PS_ERROR_INIT;
    if (argc < 2 || threads < 1 || n < 2 || n > MAX_PLANS || max_sequence < 1) {
        fprintf(stderr, "plan_time: MODEL.onnx [THREADS [PLANS [MAX_SEQUENCE]]]\n");
        return 2;
    }
    options.threads = threads;
    ps_status status = ps_engine_create(&options, &engine, &err);
    if (status == PS_OK) status = ps_model_load(engine, argv[1], NULL, &model, &err);
    if (status == PS_OK && ps_model_input_count(model) > MAX_INPUTS) status = PS_LIMIT;
    if (status == PS_OK) status = time_plans(model, threads, n, max_sequence, ms, &err);
    if (status == PS_OK) {
        printf("first plan, which packs the weights: %.1f ms\n", ms[0]);
        qsort(ms + 1, (size_t)n - 1, sizeof *ms, by_value);
        printf("%d further plans: median %.2f, p95 %.2f, max %.2f ms\n", n - 1, ms[n / 2], ms[n * 95 / 100], ms[n - 1]);
    } else {
        fprintf(stderr, "plan_time: %s\n", err.msg);
    }
    ps_model_release(model);
    ps_engine_free(engine);
    return status == PS_OK ? 0 : 1;
}
