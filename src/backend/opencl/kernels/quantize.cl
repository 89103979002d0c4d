/* Codes of 8 bits: rounded half to even, then the zero point, as the reference kernel has it. NaN becomes the lower end. */
#if ZERO
#define ZERO_PARAM , __global const CODE *zero, ulong zo
#define ZERO_AT(e) ((float)ATC(CODE, zero, zo)[e])
#else
#define ZERO_PARAM
#define ZERO_AT(e) 0.0f
#endif

__kernel void quantize(__global const IN *x, ulong xo, __global const float *scale, ulong so ZERO_PARAM,
                       __global CODE *y, ulong yo, int n, int channels, int inner) {
    const int o = get_global_id(0), e = o / inner % channels;
    if (o >= n) return;
    const float zero_point = ZERO_AT(e), low = LOW - zero_point, high = HIGH - zero_point;
    float v = rint(post_div(IN1(ATC(IN, x, xo) + o), ATC(float, scale, so)[e]));
    v = v > low ? v : low;
    v = v < high ? v : high;
    AT(CODE, y, yo)[o] = (CODE)(int)(v + zero_point);
}

__kernel void dequantize(__global const CODE *x, ulong xo, __global const float *scale, ulong so ZERO_PARAM,
                         __global OUT *y, ulong yo, int n, int channels, int inner) {
    const int o = get_global_id(0), e = o / inner % channels;
    if (o >= n) return;
    PUT1(((float)ATC(CODE, x, xo)[o] - ZERO_AT(e)) * ATC(float, scale, so)[e], AT(OUT, y, yo) + o);
}
