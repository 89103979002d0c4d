/* minifloat.c - scalar and row conversion between f32 and the narrow float formats, and sub-byte integers. */
#include "tensor/convert.h"

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- f16 and bf16: written without branches, so that the row loops become vector code ---- */

static inline float f16_to_f32(uint16_t h) {
    uint32_t magnitude = h & 0x7FFFu, sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t normal = (magnitude << 13) + (112u << 23); /* 127 - 15: the difference of the biases */
    uint32_t special = (magnitude << 13) | 0x7F800000u; /* infinity, NaN with its payload */
    uint32_t tiny = bits_of((float)(int32_t)magnitude * 0x1p-24f);
    uint32_t u = magnitude < 0x0400u ? tiny : normal;
    u = magnitude >= 0x7C00u ? special : u;
    return float_of(u | sign);
}

static inline uint16_t f32_to_f16(float f) {
    uint32_t u = bits_of(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7FFFFFFFu;
    /* Adding half a unit (less one for even ones) rounds; a carry out of the mantissa raises the exponent, up to
     * infinity. */
    uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    /* Below 2^-14 the sum with 0.5 has its last bit at 2^-24: the addition rounds. */
    uint32_t tiny = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    uint32_t payload = (magnitude >> 13) & 0x3FFu;
    uint32_t nan = 0x7C00u | payload | (payload == 0);
    uint32_t h = magnitude < 0x38800000u ? tiny : normal;
    h = magnitude >= 0x47800000u ? 0x7C00u : h; /* 2^16 and more */
    h = magnitude > 0x7F800000u ? nan : h;
    return (uint16_t)(h | sign);
}

static inline float bf16_to_f32(uint16_t h) {
    return float_of((uint32_t)h << 16);
}

float ps_f16_to_f32(uint16_t h) {
    return f16_to_f32(h);
}

uint16_t ps_f32_to_f16(float f) {
    return f32_to_f16(f);
}

float ps_bf16_to_f32(uint16_t h) {
    return bf16_to_f32(h);
}

uint16_t ps_f32_to_bf16(float f) {
    uint32_t u = bits_of(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) {
        uint32_t top = u >> 16;
        return (uint16_t)(top | ((top & 0x7Fu) == 0)); /* a payload in the low bits only must not become infinity */
    }
    return (uint16_t)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
}

void ps_f16_to_f32_row(const uint16_t *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = f16_to_f32(src[i]);
}

void ps_bf16_to_f32_row(const uint16_t *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = bf16_to_f32(src[i]);
}

void ps_f32_to_f16_row(const float *src, uint16_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = f32_to_f16(src[i]);
}

/* ---- 8, 6 and 4 bits: one sign bit, then exponent and mantissa, described by a row each ---- */

typedef struct mini_format {
    int mantissa, bias;
    uint8_t sign;     /* the sign bit */
    uint8_t max;      /* code of the largest finite magnitude */
    uint8_t overflow; /* code of a magnitude beyond it when not saturating */
    uint8_t nan;
    bool unsigned_zero; /* FNUZ: the code of -0 is the only NaN */
} mini_format;

static const mini_format e4m3fn = { 3, 7, 0x80, 0x7E, 0x7F, 0x7F, false };
static const mini_format e4m3fnuz = { 3, 8, 0x80, 0x7F, 0x80, 0x80, true };
static const mini_format e5m2 = { 2, 15, 0x80, 0x7B, 0x7C, 0x7E, false };
static const mini_format e5m2fnuz = { 2, 16, 0x80, 0x7F, 0x80, 0x80, true };
static const mini_format e2m1 = { 1, 1, 0x08, 0x07, 0x07, 0x08, false };
static const mini_format e2m3 = { 3, 1, 0x20, 0x1F, 0x1F, 0x20, false };
static const mini_format e3m2 = { 2, 3, 0x20, 0x1F, 0x1F, 0x20, false };

/* 2^e for e within f32's normal range. */
static float power_of_two(int e) {
    return float_of((uint32_t)(e + 127) << 23);
}

/* NaN and infinity codes are the caller's. */
static float decode(const mini_format *f, unsigned code) {
    unsigned magnitude = code & (f->sign - 1u);
    unsigned exponent = magnitude >> f->mantissa, mantissa = magnitude & ((1u << f->mantissa) - 1);
    if (exponent) mantissa |= 1u << f->mantissa;
    float value = (float)(int)mantissa * power_of_two((exponent ? (int)exponent : 1) - f->bias - f->mantissa);
    return code & f->sign ? -value : value;
}

/* |f| rounded to the format as if it had no upper end: codes of growing magnitudes are growing numbers. */
static uint32_t round_magnitude(const mini_format *f, uint32_t magnitude) {
    uint32_t smallest_normal = (uint32_t)(1 - f->bias + 127) << 23;
    if (magnitude < smallest_normal) {
        /* As for f16: the sum's last bit is the smallest step of the format, so the addition rounds. */
        float shift = power_of_two(1 - f->bias - f->mantissa + 23);
        return bits_of(float_of(magnitude) + shift) - bits_of(shift);
    }
    int drop = 23 - f->mantissa;
    uint32_t half = (1u << (drop - 1)) - 1;
    return (magnitude + half + ((magnitude >> drop) & 1u) - ((uint32_t)(127 - f->bias) << 23)) >> drop;
}

static uint8_t encode(const mini_format *f, float value, bool saturate) {
    uint32_t u = bits_of(value), magnitude = u & 0x7FFFFFFFu;
    uint8_t sign = u >> 31 ? f->sign : 0;
    if (magnitude > 0x7F800000u) return f->nan | sign;
    uint32_t code = round_magnitude(f, magnitude);
    if (code > f->max) code = saturate ? f->max : f->overflow;
    if (code == 0 && f->unsigned_zero) return 0;
    return (uint8_t)code | sign;
}

static const float quiet_nan = __builtin_nanf("");

static float f8_finite_or_nan(const mini_format *f, uint8_t v) {
    bool nan = f->unsigned_zero ? v == f->nan : (v & 0x7F) > f->max;
    if (nan) return v & 0x80 && !f->unsigned_zero ? -quiet_nan : quiet_nan;
    return decode(f, v);
}

static float e8m0_to_f32(uint8_t v) {
    if (v == 255) return quiet_nan;
    return v == 0 ? 0x1p-127f : power_of_two(v - 127);
}

uint8_t ps_f32_to_e8m0(float f, ps_e8m0_round round, bool saturate) {
    if (!(f >= 0)) return 255;
    if (f > 0x1p127f) return saturate ? 254 : 255;
    if (f < 0x1p-127f) return saturate ? 0 : 255;
    unsigned code = bits_of(f) >> 23; /* rounds down; subnormals from 2^-127 on have 0 here */
    float low = e8m0_to_f32((uint8_t)code);
    if (round == PS_E8M0_UP) {
        code += f > low;
    } else if (round == PS_E8M0_NEAREST) {
        code += f - low >= low * 0.5f; /* both sides are exact */
    }
    return (uint8_t)code;
}

float ps_f8_to_f32(uint8_t v, ps_dtype dtype) {
    switch (dtype) {
    case PS_DTYPE_F8E4M3FN: return f8_finite_or_nan(&e4m3fn, v);
    case PS_DTYPE_F8E4M3FNUZ: return f8_finite_or_nan(&e4m3fnuz, v);
    case PS_DTYPE_F8E5M2:
        if ((v & 0x7F) == 0x7C) return v & 0x80 ? -__builtin_inff() : __builtin_inff();
        return f8_finite_or_nan(&e5m2, v);
    case PS_DTYPE_F8E5M2FNUZ: return f8_finite_or_nan(&e5m2fnuz, v);
    case PS_DTYPE_F8E8M0: return e8m0_to_f32(v);
    default: return quiet_nan;
    }
}

uint8_t ps_f32_to_f8(float f, ps_dtype dtype, bool saturate) {
    switch (dtype) {
    case PS_DTYPE_F8E4M3FN: return encode(&e4m3fn, f, saturate);
    case PS_DTYPE_F8E4M3FNUZ: return encode(&e4m3fnuz, f, saturate);
    case PS_DTYPE_F8E5M2: return encode(&e5m2, f, saturate);
    case PS_DTYPE_F8E5M2FNUZ: return encode(&e5m2fnuz, f, saturate);
    case PS_DTYPE_F8E8M0: return ps_f32_to_e8m0(f, PS_E8M0_UP, saturate);
    default: return 0;
    }
}

float ps_f4_to_f32(uint8_t nibble) {
    return decode(&e2m1, nibble & 0xFu);
}

uint8_t ps_f32_to_f4(float f) {
    return encode(&e2m1, f, true);
}

float ps_f6_to_f32(uint8_t code, ps_dtype dtype) {
    return decode(dtype == PS_DTYPE_F6E2M3 ? &e2m3 : &e3m2, code & 0x3Fu);
}

uint8_t ps_f32_to_f6(float f, ps_dtype dtype) {
    return encode(dtype == PS_DTYPE_F6E2M3 ? &e2m3 : &e3m2, f, true);
}

/* ---- sub-byte codes and integers ---- */

unsigned ps_packed_get(const uint8_t *data, size_t i, unsigned bits) {
    size_t at = i / 8 * bits + i % 8 * bits / 8;
    unsigned shift = (unsigned)(i % 8) * bits % 8, v = data[at];
    if (shift + bits > 8) v |= (unsigned)data[at + 1] << 8; /* only then is there a next byte for sure */
    return (v >> shift) & ((1u << bits) - 1);
}

void ps_packed_set(uint8_t *data, size_t i, unsigned bits, int v) {
    size_t at = i / 8 * bits + i % 8 * bits / 8;
    unsigned shift = (unsigned)(i % 8) * bits % 8, mask = ((1u << bits) - 1) << shift;
    unsigned code = (unsigned)v << shift & mask;
    data[at] = (uint8_t)((data[at] & ~mask) | code);
    if (mask > 0xFF) data[at + 1] = (uint8_t)((data[at + 1] & ~(mask >> 8)) | code >> 8);
}

int ps_i4_get(const uint8_t *data, size_t i) {
    return (int)(ps_packed_get(data, i, 4) ^ 8u) - 8;
}

int ps_u4_get(const uint8_t *data, size_t i) {
    return (int)ps_packed_get(data, i, 4);
}

void ps_u4_set(uint8_t *data, size_t i, int v) {
    ps_packed_set(data, i, 4, v);
}

int ps_i2_get(const uint8_t *data, size_t i) {
    return (int)(ps_packed_get(data, i, 2) ^ 2u) - 2;
}

int ps_u2_get(const uint8_t *data, size_t i) {
    return (int)ps_packed_get(data, i, 2);
}

void ps_u2_set(uint8_t *data, size_t i, int v) {
    ps_packed_set(data, i, 2, v);
}
