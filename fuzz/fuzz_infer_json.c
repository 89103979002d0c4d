/* fuzz_infer_json.c - any bytes as an inference request: two bytes choose where the JSON ends and the raw tensors
 * begin. What is read is written back as a reply in both forms. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/http/infer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The inputs of the request as the outputs of a reply. */
static void write_back(ps_infer *infer, ps_alloc_state *alloc, bool binary) {
    ps_served served = { .name = "m", .version = "1" };
    ps_infer_want *wants = ps_arena_array(&infer->arena, infer->n_inputs + 1, sizeof *wants);
    if (!wants) return;
    for (size_t i = 0; i < infer->n_inputs; i++)
        wants[i] = (ps_infer_want) { .name = infer->inputs[i].name, .binary = binary };
    ps_infer reply = { .id = infer->id, .served = &served, .results = infer->inputs, .wants = wants };
    reply.n_wants = infer->n_inputs;
    ps_str out;
    size_t json_size;
    ps_str_init(&out, alloc);
    ps_error error = PS_ERROR_INIT;
    if (ps_infer_json_write(&reply, &out, &json_size, &error) != PS_OK && !error.msg[0]) abort();
    ps_str_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    size_t json_size = (size_t)data[0] << 8 | data[1], body_size = size - 2;
    if (json_size > body_size) json_size = body_size;
    char *body = malloc(body_size ? body_size : 1);
    if (!body) return 0;
    memcpy(body, data + 2, body_size);
    ps_infer infer = { .id = "", .sequence_id = "" };
    ps_arena_init(&infer.arena, &alloc);
    ps_error error = PS_ERROR_INIT;
    if (ps_infer_json_read(&infer, body, body_size, json_size, &error) == PS_OK) {
        write_back(&infer, &alloc, false);
        write_back(&infer, &alloc, true);
    } else if (!error.msg[0]) {
        abort();
    }
    ps_arena_release(&infer.arena);
    free(body);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
