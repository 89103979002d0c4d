/* error.h - filling a ps_error, and the macros that keep error paths short. */
#ifndef PS_BASE_ERROR_H
#define PS_BASE_ERROR_H

#include "polestar/error.h"

/* Fills *err (may be NULL) and returns status. Use through PS_FAIL. */
ps_status ps_error_set(ps_error *err, const char *file, int line, ps_status status, const char *fmt, ...)
    PS_PRINTF(5, 6);
/* Puts "prefix: " in front of the message of an error that is already set. */
void ps_error_prefix(ps_error *err, const char *fmt, ...) PS_PRINTF(2, 3);

/* return PS_FAIL(err, SHAPE, "Conv '%s': weight has %d input channels, input has %d", ...); */
/* Its value is the constant, so that the compiler sees that it is not PS_OK. */
#define PS_FAIL(err, code, ...) (ps_error_set((err), __FILE__, __LINE__, PS_##code, __VA_ARGS__), PS_##code)
#define PS_FAIL_IF(cond, err, code, ...)                                                                               \
    do {                                                                                                               \
        if (cond) return PS_FAIL(err, code, __VA_ARGS__);                                                              \
    } while (0)
#define PS_FAIL_NOMEM(err, what) PS_FAIL(err, NO_MEMORY, "out of memory for %s", what)
/* Returns from the caller if the call fails. */
#define PS_TRY(call)                                                                                                   \
    do {                                                                                                               \
        ps_status ps_try_ = (call);                                                                                    \
        if (ps_try_ != PS_OK) return ps_try_;                                                                          \
    } while (0)
/* The same for functions with a cleanup label `out:` and a variable `status`. */
#define PS_TRY_OUT(call)                                                                                               \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != PS_OK) goto out;                                                                                 \
    } while (0)
#define PS_FAIL_OUT(err, code, ...)                                                                                    \
    do {                                                                                                               \
        status = PS_FAIL(err, code, __VA_ARGS__);                                                                      \
        goto out;                                                                                                      \
    } while (0)

#endif
