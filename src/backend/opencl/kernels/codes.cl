/* 8-bit codes, element by element and in windows. CODE: their type; what is computed is what the reference kernels
 * compute, rounding by rounding (ALONE: qgemm.cl; the last number of a pool is 0). */
#define ALONE(v, zero) as_float(as_int(v) ^ as_int(zero))

#define AS_CODE(v) ((CODE)(int)(v))

#if ENTRY == 0
/* y = a * fa + (b * fb + shift), or (a - za)(b - zb) * factor + shift, rounded and clamped. numbers: fa, fb, za, zb,
 * factor, shift, least, largest. VEC 4: both operands lie as the result does, and an item takes four. */
float pair_of(float a, float b, __global const float *f) {
#if MULTIPLY
    return clamp(rint(fma((a - f[2]) * (b - f[3]), f[4], f[5])), f[6], f[7]);
#else
    return clamp(rint(fma(a, f[0], fma(b, f[1], f[5]))), f[6], f[7]);
#endif
}

__kernel void pair(__global const CODE *a, ulong ao, __global const CODE *b, ulong bo, __global CODE *y, ulong yo,
                   __global const float *numbers, ulong numbers_o, int n, int8 dims, int8 a_strides, int8 b_strides) {
    const int o = get_global_id(0) * VEC;
    if (o >= n) return;
    a = ATC(CODE, a, ao);
    b = ATC(CODE, b, bo);
    y = AT(CODE, y, yo) + o;
    numbers = ATC(float, numbers, numbers_o);
#if VEC == 4
    const float4 u = convert_float4(*(__global const CODE4 *)(a + o)), v = convert_float4(*(__global const CODE4 *)(b + o));
    *(__global CODE4 *)y = (CODE4)(AS_CODE(pair_of(u.x, v.x, numbers)), AS_CODE(pair_of(u.y, v.y, numbers)),
                                   AS_CODE(pair_of(u.z, v.z, numbers)), AS_CODE(pair_of(u.w, v.w, numbers)));
#else
    *y = AS_CODE(pair_of((float)a[strided(o, dims, a_strides)], (float)b[strided(o, dims, b_strides)], numbers));
#endif
}

#elif ENTRY == 1
/* y = table[x], four an item as far as there are four. */
__kernel void lookup(__global const uchar *x, ulong xo, __global const uchar *table, ulong table_o, __global uchar *y,
                     ulong yo, int n) {
    const int o = get_global_id(0) * 4;
    if (o >= n) return;
    x = ATC(uchar, x, xo) + o;
    y = AT(uchar, y, yo) + o;
    table = ATC(uchar, table, table_o);
    if (o + 4 <= n) {
        const uchar4 v = *(__global const uchar4 *)x;
        *(__global uchar4 *)y = (uchar4)(table[v.x], table[v.y], table[v.z], table[v.w]);
        return;
    }
    for (int i = 0; i < n - o; i++)
        y[i] = table[x[i]];
}

#elif ENTRY == 2
/* The mean of all pixels of a channel, by a work-group of 64: PIXELS_FIRST 1: x is [batch][pixel][channel], 64 channels each; 0:
 * [batch][channel][pixel], one. numbers: input's zero point, factor, result's zero point, least, largest. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void mean(__global const CODE *x, ulong xo, __global CODE *y,
                                                                  ulong yo, __global const float *numbers,
                                                                  ulong numbers_o, int pixels, int channels) {
    __local int sums[64];
    const int lid = get_local_id(0), batch = get_group_id(1);
    int sum = 0;
    numbers = ATC(float, numbers, numbers_o);
#if PIXELS_FIRST /* 16 channels by four items each */
    const int c = get_group_id(0) * 16 + lid % 16;
    x = ATC(CODE, x, xo) + batch * pixels * channels + min(c, channels - 1);
    for (int p = lid / 16; p < pixels; p += 4)
        sum += x[p * channels];
    sums[lid] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid >= 16 || c >= channels) return;
    sum = sums[lid] + sums[lid + 16] + sums[lid + 32] + sums[lid + 48];
#else
    const int c = get_group_id(0);
    x = ATC(CODE, x, xo) + (batch * channels + c) * pixels;
    for (int p = lid; p < pixels; p += 64)
        sum += x[p];
    sums[lid] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid) return;
    for (int i = 1; i < 64; i++)
        sum += sums[i];
#endif
    const float v = (float)(sum - pixels * (int)numbers[0]) * numbers[1];
    AT(CODE, y, yo)[batch * channels + c] = AS_CODE(clamp(rint(v) + numbers[2], numbers[3], numbers[4]));
}

#else
/* Windowed pools, channels-last. MAX 1: the largest code; else the mean, numbers: input's zero point and scale, result's
 * scale and zero point, least, largest, 0. PADDED 1: padding counts. */
__kernel void pool(__global const CODE *x, ulong xo, __global CODE *y, ulong yo, __global const float *numbers,
                   ulong numbers_o, int n, int8 image, int8 window, int8 taps, int8 ends) {
    const int o = get_global_id(0), channels = image.s3;
    if (o >= n) return;
    const int c = o % channels, pixel = o / channels;
    const int w0 = pixel % image.s6 * window.s2 - window.s5;
    const int h0 = pixel / image.s6 % image.s5 * window.s1 - window.s4;
    const int d0 = pixel / image.s6 / image.s5 % image.s4 * window.s0 - window.s3;
    x = ATC(CODE, x, xo) + pixel / image.s6 / image.s5 / image.s4 * image.s0 * image.s1 * image.s2 * channels + c;
    numbers = ATC(float, numbers, numbers_o);
    int most = (CODE)-1 < (CODE)1 ? -128 : 0, count = 0;
    float sum = 0.0f;
    for (int a = 0; a < taps.s0; a++) {
        const int d = d0 + a * taps.s3;
        for (int b = 0; b < taps.s1; b++) {
            const int h = h0 + b * taps.s4;
            for (int e = 0; e < taps.s2; e++) {
                const int w = w0 + e * taps.s5;
                const bool inside = d >= 0 && d < image.s0 && h >= 0 && h < image.s1 && w >= 0 && w < image.s2;
#if PADDED
                count += d < ends.s0 && h < ends.s1 && w < ends.s2;
#else
                count += inside;
#endif
                if (!inside) continue;
                const int v = x[((d * image.s1 + h) * image.s2 + w) * channels];
#if MAX
                most = max(most, v);
#else
                sum += ALONE(((float)v - numbers[0]) * numbers[1], numbers[6]);
#endif
            }
        }
    }
    y = AT(CODE, y, yo) + o;
#if MAX
    *y = AS_CODE(most);
#else
    const float mean = count ? post_div(sum, (float)count) : 0.0f;
    *y = AS_CODE(clamp(rint(post_div(mean, numbers[2]) + numbers[3]), numbers[4], numbers[5]));
#endif
}
#endif
