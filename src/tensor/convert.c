/* convert.c - conversion of rows between any two number types, by way of one wide type: every float is exact in f64,
 * every integer but u64 in i64. Blocks of a few hundred elements keep the wide values in the first-level cache. */
#include "tensor/convert.h"

enum { BLOCK = 256 }; /* a multiple of 8: blocks of sub-byte types start at whole bytes */

typedef enum wide_kind { WIDE_NONE, WIDE_F64, WIDE_I64, WIDE_U64 } wide_kind;

typedef union wide_block {
    double f[BLOCK];
    int64_t i[BLOCK];
    uint64_t u[BLOCK];
} wide_block;

static wide_kind kind_of(ps_dtype t) {
    switch (t) {
    case PS_DTYPE_F64:
    case PS_DTYPE_F32:
    case PS_DTYPE_F16:
    case PS_DTYPE_BF16:
    case PS_DTYPE_F8E4M3FN:
    case PS_DTYPE_F8E4M3FNUZ:
    case PS_DTYPE_F8E5M2:
    case PS_DTYPE_F8E5M2FNUZ:
    case PS_DTYPE_F8E8M0:
    case PS_DTYPE_F4E2M1:
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2: return WIDE_F64;
    case PS_DTYPE_BOOL:
    case PS_DTYPE_I2:
    case PS_DTYPE_U2:
    case PS_DTYPE_I4:
    case PS_DTYPE_U4:
    case PS_DTYPE_I8:
    case PS_DTYPE_U8:
    case PS_DTYPE_I16:
    case PS_DTYPE_U16:
    case PS_DTYPE_I32:
    case PS_DTYPE_U32:
    case PS_DTYPE_I64: return WIDE_I64;
    case PS_DTYPE_U64: return WIDE_U64;
    default: return WIDE_NONE;
    }
}

/* ---- narrow to wide ---- */

/* memcpy: the data of a mapped file need not be aligned. */
#define FOR_EACH(n, type, statement)                                                                                   \
    for (size_t i = 0; i < (n); i++) {                                                                                 \
        type v;                                                                                                        \
        memcpy(&v, src + i * sizeof v, sizeof v);                                                                      \
        statement;                                                                                                     \
    }                                                                                                                  \
    break

static void widen_floats(const uint8_t *src, ps_dtype from, double *out, size_t n) {
    switch (from) {
    case PS_DTYPE_F64: memcpy(out, src, n * sizeof *out); break;
    case PS_DTYPE_F32: FOR_EACH(n, float, out[i] = v);
    case PS_DTYPE_F16: FOR_EACH(n, uint16_t, out[i] = ps_f16_to_f32(v));
    case PS_DTYPE_BF16: FOR_EACH(n, uint16_t, out[i] = ps_bf16_to_f32(v));
    case PS_DTYPE_F4E2M1:
        for (size_t i = 0; i < n; i++)
            out[i] = ps_f4_to_f32((uint8_t)ps_u4_get(src, i));
        break;
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2:
        for (size_t i = 0; i < n; i++)
            out[i] = ps_f6_to_f32((uint8_t)ps_packed_get(src, i, 6), from);
        break;
    default: FOR_EACH(n, uint8_t, out[i] = ps_f8_to_f32(v, from));
    }
}

static void widen_ints(const uint8_t *src, ps_dtype from, wide_block *out, size_t n) {
    switch (from) {
    case PS_DTYPE_BOOL: FOR_EACH(n, uint8_t, out->i[i] = v != 0);
    case PS_DTYPE_I8: FOR_EACH(n, int8_t, out->i[i] = v);
    case PS_DTYPE_U8: FOR_EACH(n, uint8_t, out->i[i] = v);
    case PS_DTYPE_I16: FOR_EACH(n, int16_t, out->i[i] = v);
    case PS_DTYPE_U16: FOR_EACH(n, uint16_t, out->i[i] = v);
    case PS_DTYPE_I32: FOR_EACH(n, int32_t, out->i[i] = v);
    case PS_DTYPE_U32: FOR_EACH(n, uint32_t, out->i[i] = v);
    case PS_DTYPE_I64: memcpy(out->i, src, n * sizeof *out->i); break;
    case PS_DTYPE_U64: memcpy(out->u, src, n * sizeof *out->u); break;
    default:
        for (size_t i = 0; i < n; i++) {
            out->i[i] = from == PS_DTYPE_I4   ? ps_i4_get(src, i)
                        : from == PS_DTYPE_U4 ? ps_u4_get(src, i)
                        : from == PS_DTYPE_I2 ? ps_i2_get(src, i)
                                              : ps_u2_get(src, i);
        }
    }
}
#undef FOR_EACH

/* ---- wide to wide ---- */

/* Truncation toward zero, clamped to [low, high]; NaN gives 0. The bounds are exact in i64 but not always in f64. */
static int64_t to_int(double d, int64_t low, int64_t high) {
    if (d != d) return 0;
    if (d >= (double)high) return high;
    if (d <= (double)low) return low;
    return (int64_t)d;
}

static uint64_t to_u64(double d) {
    if (!(d > 0)) return 0; /* NaN too */
    return d >= 0x1p64 ? UINT64_MAX : (uint64_t)d;
}

/* An integer's bits beyond the 53rd, folded into the last one kept: what is rounded to fewer bits later comes out as if
 * rounded once (round to odd; Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). */
static double odd_double(uint64_t magnitude) {
    if (magnitude >> 53 == 0) return (double)magnitude;
    return (double)((magnitude >> 16) | ((magnitude & 0xFFFF) != 0)) * 65536.0;
}

/* The same from f64 to f32. */
static float odd_float(double d) {
    float f = (float)d;
    if (d != d || (double)f == d) return f;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (u & 1u) return f;
    /* f is even, the true value lies beside it: take the odd neighbour on that side. Magnitudes grow with the bits. */
    double exact = d < 0 ? -d : d, rounded = f < 0 ? -(double)f : (double)f;
    u = exact > rounded ? u + 1 : u - 1;
    memcpy(&f, &u, sizeof f);
    return f;
}

typedef struct int_range {
    int64_t low, high;
} int_range;

static int_range range_of(ps_dtype t) {
    switch (t) {
    case PS_DTYPE_I2: return (int_range) { -2, 1 };
    case PS_DTYPE_U2: return (int_range) { 0, 3 };
    case PS_DTYPE_I4: return (int_range) { -8, 7 };
    case PS_DTYPE_U4: return (int_range) { 0, 15 };
    case PS_DTYPE_I8: return (int_range) { INT8_MIN, INT8_MAX };
    case PS_DTYPE_U8: return (int_range) { 0, UINT8_MAX };
    case PS_DTYPE_I16: return (int_range) { INT16_MIN, INT16_MAX };
    case PS_DTYPE_U16: return (int_range) { 0, UINT16_MAX };
    case PS_DTYPE_I32: return (int_range) { INT32_MIN, INT32_MAX };
    case PS_DTYPE_U32: return (int_range) { 0, UINT32_MAX };
    default: return (int_range) { INT64_MIN, INT64_MAX };
    }
}

/* Turns a block of `from` kind into what the stores of `to` take: bool and integers as u (two's complement, low bits
 * count), floats as f. */
static void adapt(wide_block *b, wide_kind from, ps_dtype to, size_t n) {
    if (from == WIDE_F64 && to == PS_DTYPE_BOOL) {
        for (size_t i = 0; i < n; i++)
            b->u[i] = b->f[i] != 0;
    } else if (from == WIDE_F64 && to == PS_DTYPE_U64) {
        for (size_t i = 0; i < n; i++)
            b->u[i] = to_u64(b->f[i]);
    } else if (from == WIDE_F64 && kind_of(to) == WIDE_I64) {
        int_range r = range_of(to);
        for (size_t i = 0; i < n; i++)
            b->i[i] = to_int(b->f[i], r.low, r.high);
    } else if (from != WIDE_F64 && to == PS_DTYPE_BOOL) {
        for (size_t i = 0; i < n; i++)
            b->u[i] = b->u[i] != 0;
    } else if (from == WIDE_I64 && kind_of(to) == WIDE_F64) {
        for (size_t i = 0; i < n; i++) {
            int64_t v = b->i[i];
            if (to == PS_DTYPE_F64) {
                b->f[i] = (double)v;
            } else {
                b->f[i] = v < 0 ? -odd_double(0 - (uint64_t)v) : odd_double((uint64_t)v);
            }
        }
    } else if (from == WIDE_U64 && kind_of(to) == WIDE_F64) {
        for (size_t i = 0; i < n; i++)
            b->f[i] = to == PS_DTYPE_F64 ? (double)b->u[i] : odd_double(b->u[i]);
    }
}

/* ---- wide to narrow ---- */

#define STORE_EACH(n, type, value)                                                                                     \
    for (size_t i = 0; i < (n); i++) {                                                                                 \
        type v = (type)(value);                                                                                        \
        memcpy(dst + i * sizeof v, &v, sizeof v);                                                                      \
    }                                                                                                                  \
    break

static void store_floats(uint8_t *dst, ps_dtype to, const double *in, size_t n, bool saturate) {
    switch (to) {
    case PS_DTYPE_F64: memcpy(dst, in, n * sizeof *in); break;
    case PS_DTYPE_F32: STORE_EACH(n, float, in[i]);
    case PS_DTYPE_F16: STORE_EACH(n, uint16_t, ps_f32_to_f16(odd_float(in[i])));
    case PS_DTYPE_BF16: STORE_EACH(n, uint16_t, ps_f32_to_bf16(odd_float(in[i])));
    case PS_DTYPE_F4E2M1:
        memset(dst, 0, (n + 1) / 2);
        for (size_t i = 0; i < n; i++)
            ps_u4_set(dst, i, ps_f32_to_f4(odd_float(in[i])));
        break;
    case PS_DTYPE_F6E2M3:
    case PS_DTYPE_F6E3M2:
        memset(dst, 0, (n * 6 + 7) / 8);
        for (size_t i = 0; i < n; i++)
            ps_packed_set(dst, i, 6, ps_f32_to_f6(odd_float(in[i]), to));
        break;
    default: STORE_EACH(n, uint8_t, ps_f32_to_f8(odd_float(in[i]), to, saturate));
    }
}

static void store_ints(uint8_t *dst, ps_dtype to, const uint64_t *in, size_t n) {
    switch (to) {
    case PS_DTYPE_BOOL:
    case PS_DTYPE_I8:
    case PS_DTYPE_U8: STORE_EACH(n, uint8_t, in[i]);
    case PS_DTYPE_I16:
    case PS_DTYPE_U16: STORE_EACH(n, uint16_t, in[i]);
    case PS_DTYPE_I32:
    case PS_DTYPE_U32: STORE_EACH(n, uint32_t, in[i]);
    case PS_DTYPE_I4:
    case PS_DTYPE_U4:
        memset(dst, 0, (n + 1) / 2);
        for (size_t i = 0; i < n; i++)
            ps_u4_set(dst, i, (int)(in[i] & 15));
        break;
    case PS_DTYPE_I2:
    case PS_DTYPE_U2:
        memset(dst, 0, (n + 3) / 4);
        for (size_t i = 0; i < n; i++)
            ps_u2_set(dst, i, (int)(in[i] & 3));
        break;
    default: memcpy(dst, in, n * sizeof *in);
    }
}
#undef STORE_EACH

/* ---- rows ---- */

static bool is_aligned(const void *p, size_t align) {
    return (uintptr_t)p % align == 0;
}

/* The pairs that weights and photos need; false if this is none of them. */
static bool convert_fast(const void *src, ps_dtype from, void *dst, ps_dtype to, size_t n) {
    if (from == PS_DTYPE_BOOL && to == PS_DTYPE_BOOL) return false; /* bytes other than 0 and 1 become 1 */
    if (from == to) {
        size_t bits = ps_dtype_bits(from), tail = n * bits % 8;
        memcpy(dst, src, n * bits / 8);
        if (tail) ((uint8_t *)dst)[n * bits / 8] = (uint8_t)(((const uint8_t *)src)[n * bits / 8] & ((1u << tail) - 1));
        return true;
    }
    if (!is_aligned(src, 4) || !is_aligned(dst, 4)) return false;
    if (from == PS_DTYPE_F16 && to == PS_DTYPE_F32) {
        ps_f16_to_f32_row(src, dst, n);
    } else if (from == PS_DTYPE_BF16 && to == PS_DTYPE_F32) {
        ps_bf16_to_f32_row(src, dst, n);
    } else if (from == PS_DTYPE_F32 && to == PS_DTYPE_F16) {
        ps_f32_to_f16_row(src, dst, n);
    } else if (from == PS_DTYPE_U8 && to == PS_DTYPE_F32) {
        for (size_t i = 0; i < n; i++)
            ((float *)dst)[i] = (float)((const uint8_t *)src)[i];
    } else if (from == PS_DTYPE_I8 && to == PS_DTYPE_F32) {
        for (size_t i = 0; i < n; i++)
            ((float *)dst)[i] = (float)((const int8_t *)src)[i];
    } else {
        return false;
    }
    return true;
}

bool ps_convert(const void *src, ps_dtype from, void *dst, ps_dtype to, size_t n, bool saturate) {
    wide_kind kind = kind_of(from);
    if (kind == WIDE_NONE || kind_of(to) == WIDE_NONE) return false;
    if (n == 0 || convert_fast(src, from, dst, to, n)) return true;
    const uint8_t *in = src;
    uint8_t *out = dst;
    wide_block block;
    for (size_t done = 0; done < n; done += BLOCK) {
        size_t count = n - done < BLOCK ? n - done : BLOCK;
        if (kind == WIDE_F64) {
            widen_floats(in, from, block.f, count);
        } else {
            widen_ints(in, from, &block, count);
        }
        adapt(&block, kind, to, count);
        if (kind_of(to) == WIDE_F64) {
            store_floats(out, to, block.f, count, saturate);
        } else {
            store_ints(out, to, block.u, count);
        }
        in += BLOCK * ps_dtype_bits(from) / 8;
        out += BLOCK * ps_dtype_bits(to) / 8;
    }
    return true;
}
