/* What all kernels share. Written for GCN: a*b+c and never fma(), which is a quarter of the rate there; work-groups of
 * 64; at most 16 KiB of local memory. Plain OpenCL 1.2, no extensions. Offsets into values are below 2^31. */

/* Every buffer comes with the byte its value starts at. */
#define AT(type, p, offset) ((__global type *)((__global char *)(p) + (offset)))
#define ATC(type, p, offset) ((__global const type *)((__global const char *)(p) + (offset)))

/* Four neighbours that begin at a multiple of 16 bytes: one access, which vload4 is not where only 4 are sure. */
#define FOUR(p) (*(__global const float4 *)(p))

/* Post-operations, as src/ops/params.c defines them: NaN passes. */
float post_max(float x, float y) { return x > y || x != x ? x : y; }
float post_min(float x, float y) { return x < y || x != x ? x : y; }
float post_relu(float x) { return post_max(x, 0.0f); }
float post_leaky_relu(float x, float a) { return x < 0.0f ? a * x : x; }
float post_clip(float x, float low, float high) { return post_min(post_max(x, low), high); }
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

/* Kernels of VEC neighbours an item: with a bias and what follows. They name the column `c` and the place `o`. Where VEC
 * is 4, columns are a multiple of it. */
#ifdef VEC
#if VEC == 4
#define FLOATS float4
#define LOAD(p) FOUR(p)
#define STORE(v, p) *(__global float4 *)(p) = v
#define FINISH(v) POST4(v, o, c)
#else
#define FLOATS float
#define LOAD(p) (*(p))
#define STORE(v, p) *(p) = v
#define FINISH(v) POST(v, o, c)
#endif
#if BIAS
#define ADD_BIAS(v) v += LOAD(bias + c)
#else
#define ADD_BIAS(v)
#endif
#endif
