/* fuzz_grpc_infer.c - any bytes as a ModelInferRequest. What is read is written back as a reply, whose size must be as
 * measured. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/grpc/infer_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The inputs of the request as the outputs of a reply. */
static void write_back(ps_infer *infer) {
    ps_served served = { .name = "m", .version = "1" };
    ps_infer_wire_reply reply;
    ps_infer_want *wants = ps_arena_array(&infer->arena, infer->n_inputs + 1, sizeof *wants);
    if (!wants) return;
    ps_infer made = { .id = infer->id, .served = &served, .results = infer->inputs, .wants = wants };
    made.n_wants = infer->n_inputs;
    made.arena = infer->arena;
    ps_error error = PS_ERROR_INIT;
    if (ps_infer_wire_measure(&made, infer->sequence_start, &reply, &error) == PS_OK) {
        uint8_t *bytes = malloc(reply.size ? reply.size : 1);
        if (bytes && ps_infer_wire_put(&reply, bytes) != bytes + reply.size) abort();
        free(bytes);
    } else if (!error.msg[0]) {
        abort();
    }
    infer->arena = made.arena;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    uint8_t *body = malloc(size ? size : 1);
    if (!body) return 0;
    if (size) memcpy(body, data, size);
    ps_infer infer = { .id = "", .sequence_id = "" };
    ps_infer_wire_target target;
    ps_arena_init(&infer.arena, &alloc);
    ps_error error = PS_ERROR_INIT;
    if (ps_infer_wire_raw_offset(body, size) > size) abort();
    if (ps_infer_wire_read(&infer, body, size, &target, &error) == PS_OK)
        write_back(&infer);
    else if (!error.msg[0])
        abort();
    ps_arena_release(&infer.arena);
    free(body);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
