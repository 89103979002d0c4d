/* error.h - status codes and the one-sentence error.
 *
 * Every fallible call returns a ps_status and takes an optional ps_error as its last argument. On success the
 * error is left untouched; on failure it holds one finished sentence that names the object, the value and the
 * rule that was broken, fit to be shown to a person. Thread-safe: both types are plain values. */
#ifndef POLESTAR_ERROR_H
#define POLESTAR_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PS_API __attribute__((visibility("default")))
#define PS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PS_API
#define PS_PRINTF(fmt, args)
#endif

/* name, value, text. The high byte groups the codes: 1 argument, 2 resource, 3 model or data, 4 ourselves. */
#define PS_STATUS_MAP(X)                                                                                               \
    X(OK, 0, "ok")                                                                                                     \
    X(INVALID, -0x101, "invalid argument")                                                                             \
    X(NOT_FOUND, -0x102, "not found")                                                                                  \
    X(LIMIT, -0x103, "limit exceeded")                                                                                 \
    X(NO_MEMORY, -0x201, "out of memory")                                                                              \
    X(IO, -0x202, "input/output error")                                                                                \
    X(CANCELLED, -0x203, "cancelled")                                                                                  \
    X(DEADLINE, -0x204, "deadline exceeded")                                                                           \
    X(UNAVAILABLE, -0x205, "unavailable")                                                                              \
    X(FORMAT, -0x301, "malformed data")                                                                                \
    X(UNSUPPORTED, -0x302, "unsupported")                                                                              \
    X(TYPE, -0x303, "wrong element type")                                                                              \
    X(SHAPE, -0x304, "wrong shape")                                                                                    \
    X(INTERNAL, -0x401, "internal error")

typedef enum ps_status {
#define PS_STATUS_ENUM(name, value, text) PS_##name = value,
    PS_STATUS_MAP(PS_STATUS_ENUM)
#undef PS_STATUS_ENUM
} ps_status;

typedef struct ps_error {
    ps_status status;
    const char *file; /* source file that raised it; static storage */
    int line;
    char msg[512]; /* one sentence, NUL-terminated, no trailing full stop or newline */
} ps_error;

#define PS_ERROR_INIT                                                                                                  \
    {                                                                                                                  \
        PS_OK, (const char *)0, 0, {                                                                                   \
            0                                                                                                          \
        }                                                                                                              \
    }

/* Short lower-case text of a status ("malformed data"); static storage, never NULL. */
PS_API const char *ps_status_text(ps_status status);
/* The enum's name without prefix ("FORMAT"); static storage, never NULL. */
PS_API const char *ps_status_name(ps_status status);

#ifdef __cplusplus
}
#endif
#endif
