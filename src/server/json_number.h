/* json_number.h - numbers of JSON text ↔ typed values, fast and exact.
 *
 * Tensor payloads in JSON are nearly all numbers, so these are the hot loops of the JSON form. Reading is strict JSON
 * (RFC 8259: no leading zeros, no '+', no NaN) and correctly rounded; writing gives the shortest text that reads back
 * as the same value. Pure functions, independent of the process locale; any thread. */
#ifndef PS_SERVER_JSON_NUMBER_H
#define PS_SERVER_JSON_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS_NUMBER_MAX_CHARS 1024 /* of one number; 767 digits decide any double, more is an attack */
#define PS_NUMBER_TEXT 32        /* room for any number written here, with NUL */

/* A number token: (-1)^negative * digits * 10^exp10, exact unless `truncated`. `digits` and exp10 of an integer of more
 * than 19 digits are those of its first 19. */
typedef struct ps_number {
    const char *begin, *end;
    uint64_t digits; /* the first 19 significant digits */
    int64_t exp10;
    bool negative;
    bool integer;   /* written without fraction and exponent */
    bool truncated; /* more than 19 significant digits: `digits` is only a prefix */
} ps_number;

/* Scans one number at [p, end). Returns the position after it, or NULL if there is none or it is too long. */
const char *ps_number_scan(const char *p, const char *end, ps_number *ret);

/* false: the value does not fit the type (or is no integer, for the integer forms). Subnormals round, they do not fail.
 */
bool ps_number_f64(const ps_number *n, double *ret);
bool ps_number_f32(const ps_number *n, float *ret);
bool ps_number_i64(const ps_number *n, int64_t *ret);
bool ps_number_u64(const ps_number *n, uint64_t *ret);

/* Scan and convert in one, for rows of numbers. NULL: no number, or one that does not fit; the above say which. */
const char *ps_number_read_f64(const char *p, const char *end, double *ret);
const char *ps_number_read_f32(const char *p, const char *end, float *ret);
const char *ps_number_read_i64(const char *p, const char *end, int64_t *ret);
const char *ps_number_read_u64(const char *p, const char *end, uint64_t *ret);

/* Write without NUL to buf (PS_NUMBER_TEXT bytes); return the length. Floats must be finite. */
size_t ps_number_write_f32(char *buf, float value);
size_t ps_number_write_f64(char *buf, double value);
size_t ps_number_write_i64(char *buf, int64_t value);
size_t ps_number_write_u64(char *buf, uint64_t value);

#endif
