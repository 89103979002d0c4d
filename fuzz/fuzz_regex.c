/* fuzz_regex.c - a pattern, a NUL, and the text it is matched against. */
#include <stdlib.h>
#include <string.h>

#include "ops/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state alloc;
    ps_arena arena;
    const ps_regex *re = NULL;
    ps_error error = PS_ERROR_INIT;
    const char *pattern = (const char *)data, *text = size ? memchr(data, 0, size) : NULL;
    const size_t length = text ? (size_t)(text - pattern) : size;
    ps_alloc_state_init(&alloc, NULL);
    ps_arena_init(&arena, &alloc);
    if (ps_regex_compile(&arena, &alloc, pattern, length, &re, &error) == PS_OK) {
        void *work = ps_alloc(&alloc, ps_regex_work(re));
        const bool whole = ps_regex_match(re, text ? text + 1 : "", text ? size - length - 1 : 0, work);
        if (whole != ps_regex_match(re, text ? text + 1 : "", text ? size - length - 1 : 0, work)) abort();
        if (text) { /* a match of the whole is the longest that begins there, if none begins before */
            size_t begin = 0, end = 0;
            const size_t n = size - length - 1;
            const bool some = ps_regex_find(re, text + 1, n, 0, &begin, &end, work);
            if (some && (begin > end || end > n)) abort();
            if (whole && !(some && begin == 0 && end == n)) abort();
        }
        ps_free(&alloc, work);
    } else if (!error.msg[0]) {
        abort();
    }
    ps_arena_release(&arena);
    if (alloc.bytes) abort(); /* a leak */
    return 0;
}
