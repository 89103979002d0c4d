/* What all kernels share. Written for GCN: a*b+c and never fma(), which is a quarter of the rate there; work-groups of
 * 64; at most 16 KiB of local memory. Plain OpenCL 1.2, no extensions. Offsets into values are below 2^31. */

/* Every buffer comes with the byte its value starts at. */
#define AT(type, p, offset) ((__global type *)((__global char *)(p) + (offset)))
#define ATC(type, p, offset) ((__global const type *)((__global const char *)(p) + (offset)))

#define FOURTH(type, p) (*(__global const type *)(p))
#define FLOAT4(p) FOURTH(float4, p) /* begins at a multiple of 16 bytes: one access, which vload4 is not where only 4 are sure */

/* Values lie as floats, or as halves, which are read and written here and are floats in between: a kernel's input where
 * IN_HALF is 1, its output where OUT_HALF is, operands of post-operations as their text says. HALF4: begins at a multiple
 * of 8 bytes. What is too large for a half becomes the largest; infinities and NaN stay. */
#define HALF1(p) vload_half(0, p)
#define HALF4(p) vloada_half4(0, p)
float within_half(float v) { return fabs(v) < INFINITY ? clamp(v, -65504.0f, 65504.0f) : v; }
float4 within_half4(float4 v) { return select(v, clamp(v, -65504.0f, 65504.0f), fabs(v) < INFINITY); }
#if IN_HALF
#define IN half
#define IN1(p) HALF1(p)
#define IN4(p) HALF4(p)
#define IN4_ANYWHERE(p) vload_half4(0, p)
#else
#define IN float
#define IN1(p) (*(p))
#define IN4(p) FLOAT4(p)
#define IN4_ANYWHERE(p) vload4(0, p)
#endif
#if OUT_HALF
#define OUT half
#define PUT1(v, p) vstore_half(within_half(v), 0, p)
#define PUT4(v, p) vstorea_half4(within_half4(v), 0, p)
#else
#define OUT float
#define PUT1(v, p) *(p) = v
#define PUT4(v, p) *(__global float4 *)(p) = v
#endif

/* Post-operations, as src/ops/params.c defines them: NaN passes. */
float post_max(float x, float y) { return x > y || x != x ? x : y; }
float post_min(float x, float y) { return x < y || x != x ? x : y; }
float post_relu(float x) { return post_max(x, 0.0f); }
float post_leaky_relu(float x, float a) { return x < 0.0f ? a * x : x; }
float post_clip(float x, float low, float high) { return post_min(post_max(x, low), high); }
/* Rounded to nearest, which a driver's own division need not be: where a code is made of it, a tie decides. fma is slow
 * on Polaris, and there is one such division for each element that goes through memory. */
float post_div(float a, float b) {
    const float q = a / b, r = fma(fma(-q, b, a), 1.0f / b, q);
    return q != 0.0f && isfinite(r) ? r : q; /* a zero keeps its sign */
}
float post_sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
float post_gelu(float x) { return 0.5f * x * (1.0f + erf(x * 0.70710678118654752f)); }
float post_gelu_tanh(float x) {
    return 0.5f * x * (1.0f + tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

/* Element o of a dense array of dims, found by strides; dims are the last of eight, the others 1. */
int strided(int o, int8 dims, int8 strides) {
    int at = 0;
    at += o % dims.s7 * strides.s7; o /= dims.s7;
    at += o % dims.s6 * strides.s6; o /= dims.s6;
    at += o % dims.s5 * strides.s5; o /= dims.s5;
    at += o % dims.s4 * strides.s4; o /= dims.s4;
    if (o == 0) return at;
    at += o % dims.s3 * strides.s3; o /= dims.s3;
    at += o % dims.s2 * strides.s2; o /= dims.s2;
    at += o % dims.s1 * strides.s1; o /= dims.s1;
    return at + o * strides.s0;
}

/* Weights as they are stored: FORM 0 float, 1 half, 2 bfloat16, 3 codes of 8 bits, 4 of 4 bits. Panels, in fours of
 * neighbours that begin at multiples of four elements. A code stands for (code - zero) * scale * factor: BLOCKED 1 has a
 * scale for BLOCK rows of a column, in f32 (WIDE_SCALES) or 16 bits, and each column a factor; ZEROS 1 has a zero point
 * beside each scale, else there is one. Scales and zero points are rows of ldb. */
#ifndef FORM
#define FORM 0
#endif
#ifndef WIDTH
#define WIDTH 1
#endif

#if FORM == 0
#define WEIGHT float
#elif FORM == 1
#define WEIGHT half
#elif FORM == 3
#define WEIGHT uchar
#else
#define WEIGHT ushort
#endif
#if FORM == 4
#define WEIGHT_STEP(elements) ((elements) / 4)
#else
#define WEIGHT_STEP(elements) (elements)
#endif

float4 codes4(uint v) { return convert_float4((uint4)(v, v >> 4, v >> 8, v >> 12) & 15u); }

float4 weights4(__global const WEIGHT *b, int at) {
#if FORM == 0
    return FOURTH(float4, b + at);
#elif FORM == 1
    return vloada_half4(0, b + at);
#elif FORM == 2
    return as_float4(convert_uint4(FOURTH(ushort4, b + at)) << 16);
#elif FORM == 3
    return convert_float4(FOURTH(uchar4, b + at));
#else
    return codes4(b[at / 4]);
#endif
}

/* Four codes as they lie, and what they are. */
#if FORM == 3
uint raw4(__global const WEIGHT *b, int at) { return FOURTH(uint, b + at); }
float4 of_raw4(uint v) { return convert_float4(as_uchar4(v)); }
#elif FORM == 4
uint raw4(__global const WEIGHT *b, int at) { return b[at / 4]; }
float4 of_raw4(uint v) { return codes4(v); }
#endif

/* WIDTH fours, which begin at a multiple of as many. */
void weights_wide(__global const WEIGHT *b, int at, float4 *w) {
#if WIDTH == 1 || FORM == 0
    for (int i = 0; i < WIDTH; i++)
        w[i] = weights4(b, at + 4 * i);
#elif FORM == 1
    const float8 x = vloada_half8(0, b + at);
    w[0] = x.lo;
    w[1] = x.hi;
#elif FORM == 2
    const uint8 x = convert_uint8(FOURTH(ushort8, b + at)) << 16;
    w[0] = as_float4(x.lo);
    w[1] = as_float4(x.hi);
#elif FORM == 3
    const float8 x = convert_float8(FOURTH(uchar8, b + at));
    w[0] = x.lo;
    w[1] = x.hi;
#else
    const uint x = FOURTH(uint, b + at / 4);
    w[0] = codes4(x);
    w[1] = codes4(x >> 16);
#endif
}

#if FORM >= 3
#if WIDE_SCALES
#define SCALE float
#define SCALE4(at) FOURTH(float4, scales + (at))
#else
#define SCALE ushort
#define SCALE4(at) (convert_float4(FOURTH(ushort4, scales + (at))) * 0x1p-16f)
#endif
#define WEIGHT_PARAMS                                                                                                  \
    , __global const float *factors, ulong factors_o, __global const SCALE *scales, ulong scales_o,                    \
        __global const uchar *zeros, ulong zeros_o, int8 coding
#define WEIGHT_BEGIN(group)                                                                                            \
    factors = ATC(float, factors, factors_o) + (group) * ldb;                                                          \
    scales = ATC(SCALE, scales, scales_o) + (group) * coding.s1 * ldb;                                                 \
    zeros = ATC(uchar, zeros, zeros_o) + (ZEROS ? (group) * coding.s1 * ldb : 0);                                      \
    const float4 zero_of_all = (float4)(zeros[0]);
#define BLOCK coding.s0
#if ZEROS
#define ZERO4(at) convert_float4(FOURTH(uchar4, zeros + (at)))
#else
#define ZERO4(at) zero_of_all
#endif
#define LESS_ZERO(v, zero) ((v) - (zero))
#if BLOCKED
#define DECODED(v, at) (((v) - ZERO4(at)) * SCALE4(at))
#else
#define DECODED(v, at) ((v) - ZERO4(at))
#endif
#define FACTORED(v, col) ((v) * FOURTH(float4, factors + (col)))
#else
#define WEIGHT_PARAMS
#define WEIGHT_BEGIN(group)
#define BLOCK 0x40000000
#define ZERO4(at) (float4)(0.0f)
#define LESS_ZERO(v, zero) (v)
#define DECODED(v, at) (v)
#define FACTORED(v, col) (v)
#endif

/* Kernels of VEC neighbours an item: with a bias and what follows. They name the column `c` and the place `o`. Where VEC
 * is 4, columns are a multiple of it. */
#ifdef VEC
#if VEC == 4
#define FLOATS float4
#define LOAD(p) FLOAT4(p)
#define LOAD_IN(p) IN4(p)
#define STORE(v, p) PUT4(v, p)
#define FINISH(v) POST4(v, o, c)
#else
#define FLOATS float
#define LOAD(p) (*(p))
#define LOAD_IN(p) IN1(p)
#define STORE(v, p) PUT1(v, p)
#define FINISH(v) POST(v, o, c)
#endif
#if BIAS
#define ADD_BIAS(v) v += LOAD(bias + c)
#else
#define ADD_BIAS(v)
#endif
#endif
