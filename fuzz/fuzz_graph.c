/* fuzz_graph.c - any bytes as the text form of a graph. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "graph/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_alloc_state_init(&alloc, NULL);
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    ps_error error = PS_ERROR_INIT;
    ps_graph *graph = NULL;
    if (ps_graph_parse(&alloc, text, &graph, &error) == PS_OK)
        ps_graph_free(graph);
    else if (!error.msg[0])
        abort();
    free(text);
    if (alloc.bytes)
        abort(); /* a leak */
    return 0;
}
