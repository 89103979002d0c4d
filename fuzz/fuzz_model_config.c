/* fuzz_model_config.c - any bytes as config.pbtxt (first byte even) or config.json (odd): what is read is within its
 * limits, else there is a sentence. */
#include <stdlib.h>
#include <string.h>

#include "server/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ps_value_info values[] = {
    { .name = "x", .dtype = PS_DTYPE_F32, .shape = { 2, { PS_DIM_UNKNOWN, 4 } } },
    { .name = "y", .dtype = PS_DTYPE_F32, .shape = { .rank = -1 } },
};

static void check(const ps_model_config *c) {
    if (c->n_unsupported > PS_CONFIG_MAX_UNSUPPORTED || c->n_warmups > PS_CONFIG_MAX_WARMUPS) abort();
    if (c->latest < 1 || c->max_batch < 0 || c->timeout_us < 0 || c->queue_size < 0 || c->idle_us < 0) abort();
    if (c->file && strchr(c->file, '/')) abort();
    for (size_t i = 0; i < c->n_inputs; i++)
        if (!c->inputs[i].name || c->inputs[i].shape.rank > PS_MAX_RANK) abort();
    for (size_t i = 0; i < c->n_states; i++)
        if (!c->states[i].input || !c->states[i].output) abort();
    for (size_t i = 0; i < c->n_warmups; i++)
        for (size_t k = 0; k < c->warmups[i].n_inputs; k++) {
            const ps_warmup_input *in = &c->warmups[i].inputs[k];
            if (!in->name || !in->dtype || (in->data == PS_WARMUP_FILE && strchr(in->file, '/'))) abort();
        }
    for (size_t i = 0; i + 1 < PS_SCHED_MAX_PREFERRED; i++)
        if (c->knobs.preferred[i + 1] && c->knobs.preferred[i] > c->knobs.preferred[i + 1]) abort();
    if (c->knobs.preferred[PS_SCHED_MAX_PREFERRED - 1]) abort(); /* the end of the list */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_arena arena;
    ps_model_config config;
    ps_error err = PS_ERROR_INIT;
    const char *states;
    ps_alloc_state_init(&alloc, NULL);
    ps_arena_init(&arena, &alloc);
    bool json = size && data[0] % 2;
    if (size && ps_model_config_read((const char *)data + 1, size - 1, json, &arena, &config, &err) == PS_OK) {
        check(&config);
        if (ps_model_config_check(&config, values, 1, values + 1, 1, &err) != PS_OK && !err.msg[0]) abort();
        if (ps_model_config_states(&config, &arena, &states, &err) != PS_OK) abort();
    } else if (size && !err.msg[0]) {
        abort();
    }
    ps_arena_release(&arena);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
