/* fuzz_passes.c - any bytes as the text form of a graph, through resolving, inference and all passes: what is accepted
 * must still satisfy the verifier, and be accepted again after cloning. */
#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(ps_status status, const ps_error *error) {
    if (status == PS_INTERNAL || (status != PS_OK && !error->msg[0])) abort();
}

static ps_status optimise(ps_graph *g, ps_error *error) {
    static const ps_caps caps = { true, true, true, true, 16 };
    PS_TRY(ps_ops_resolve(g, error));
    PS_TRY(ps_passes_run(g, PS_PASSES_ALL, &caps, error));
    return ps_graph_verify(g, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    char *text = malloc(size + 1);
    if (!text || size > 4096) {
        free(text);
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    ps_error error = PS_ERROR_INIT;
    ps_graph *graph = NULL, *copy = NULL;
    if (ps_graph_parse(&alloc, text, &graph, &error) == PS_OK) {
        ps_status status = optimise(graph, &error);
        check(status, &error);
        if (status == PS_OK) {
            if (ps_graph_clone(graph, &copy, NULL, &error) != PS_OK) abort();
            check(optimise(copy, &error), &error);
        }
    }
    ps_graph_free(copy);
    ps_graph_free(graph);
    free(text);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
