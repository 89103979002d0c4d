/* fuzz_coding.c - any bytes as a compressed body, as headers, and as a reply that is packed and unpacked again. */
#include <stdlib.h>
#include <string.h>

#include "server/coding.h"
#include "server/trace_context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 1 << 20 };

static bool take(void *ctx, const char *data, size_t size) {
    ps_str *out = ctx;
    if (out->size + size > LIMIT) return false;
    ps_str_append_n(out, data, size);
    return !out->failed;
}

static void unpack(ps_alloc_state *alloc, ps_coding coding, const void *data, size_t size, ps_str *out) {
    ps_error err = PS_ERROR_INIT;
    ps_str_init(out, alloc);
    ps_status status = ps_coding_unpack(alloc, coding, data, size, take, out, &err);
    if (status != PS_OK && !err.msg[0]) abort();
}

static void there_and_back(ps_alloc_state *alloc, ps_coding coding, const uint8_t *data, size_t size) {
    ps_str text, out;
    ps_str_init(&text, alloc);
    ps_str_append_n(&text, data, size);
    if (size > 0 && size <= LIMIT && ps_coding_pack(&text, coding)) {
        if (text.size >= size) abort();
        unpack(alloc, coding, text.data, text.size, &out);
        if (out.size != size || memcmp(out.data, data, size) != 0) abort();
        ps_str_release(&out);
    }
    ps_str_release(&text);
}

static void headers(const uint8_t *data, size_t size) {
    char text[256], trace[33], parent[17];
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    (void)ps_coding_parse(text);
    if (ps_coding_choose(text) == PS_CODING_UNKNOWN) abort();
    if (ps_trace_context_parse(text, trace, parent) && (strlen(trace) != 32 || strlen(parent) != 16)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ps_coding codings[] = { PS_CODING_GZIP, PS_CODING_DEFLATE };
    ps_alloc_state alloc;
    ps_str out;
    ps_alloc_state_init(&alloc, NULL);
    headers(data, size);
    for (size_t i = 0; i < 2; i++) {
        unpack(&alloc, codings[i], data, size, &out);
        ps_str_release(&out);
        there_and_back(&alloc, codings[i], data, size);
    }
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
