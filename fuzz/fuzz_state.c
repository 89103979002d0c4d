/* fuzz_state.c - any bytes as MODEL.state.json: what is read is within the model and its limits, else there is a
 * sentence. */
#include <stdlib.h>

#include "server/sequence_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ps_value_info inputs[] = {
    { .name = "x", .dtype = PS_DTYPE_F32, .shape = { 2, { PS_DIM_UNKNOWN, 4 } } },
    { .name = "state", .dtype = PS_DTYPE_F32, .shape = { 3, { 2, PS_DIM_UNKNOWN, 128 } } },
    { .name = "count", .dtype = PS_DTYPE_I64, .shape = { 0, { 0 } } },
    { .name = "text", .dtype = PS_DTYPE_STRING, .shape = { 0, { 0 } } },
};
static const ps_value_info outputs[] = {
    { .name = "y", .dtype = PS_DTYPE_F32, .shape = { .rank = -1 } },
    { .name = "stateN", .dtype = PS_DTYPE_F32, .shape = { .rank = -1 } },
    { .name = "countN", .dtype = PS_DTYPE_I64, .shape = { 0, { 0 } } },
    { .name = "textN", .dtype = PS_DTYPE_STRING, .shape = { 0, { 0 } } },
};

static void check_pair(const ps_state_pair *p) {
    if (p->input < 0 || p->input > 2 || p->output < 0 || p->output > 2) abort();
    if (inputs[p->input].dtype != outputs[p->output].dtype) abort();
    if (p->shape.rank != inputs[p->input].shape.rank) abort();
    for (int d = 0; d < p->shape.rank; d++) {
        int64_t want = inputs[p->input].shape.dims[d];
        if (p->shape.dims[d] < 0 || (want >= 0 && want != p->shape.dims[d])) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_arena arena;
    ps_state_file file;
    ps_error err = PS_ERROR_INIT;
    ps_alloc_state_init(&alloc, NULL);
    ps_arena_init(&arena, &alloc);
    if (ps_state_file_read((const char *)data, size, inputs, 4, outputs, 4, &arena, &file, &err) == PS_OK) {
        if (file.n_pairs == 0 || file.idle_seconds < 1 || file.max_sequences < 1) abort();
        for (size_t i = 0; i < file.n_pairs; i++)
            check_pair(&file.pairs[i]);
    } else if (!err.msg[0]) {
        abort();
    }
    ps_arena_release(&arena);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
