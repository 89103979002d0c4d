/* Rows of n to mean 0 and variance 1, times a scale and plus a bias; one work-group of 64 a row. Mean and variance in
 * two passes, as in the reference kernel. */
float row_sum(__local float *part, float v) {
    const int lid = get_local_id(0);
    part[lid] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = 32; s > 0; s /= 2) {
        if (lid < s) part[lid] += part[lid + s];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    v = part[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return v;
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void norm(__global const IN *x, ulong xo,
                                                                 __global OUT *y, ulong yo, int n, float epsilon,
                                                                 int8 entry
#if SCALE
                                                                 , __global const float *scale, ulong scale_o
#endif
#if SHIFT
                                                                 , __global const float *shift, ulong shift_o
#endif
) {
    __local float part[64];
    const int lid = get_local_id(0), row = get_group_id(0), first = row % entry.s0 * entry.s1;
    float sum = 0.0f;
    x = ATC(IN, x, xo) + row * n;
    y = AT(OUT, y, yo) + row * n;
#if SCALE
    scale = ATC(float, scale, scale_o);
#endif
#if SHIFT
    shift = ATC(float, shift, shift_o);
#endif
    for (int i = lid; i < n; i += 64)
        sum += IN1(x + i);
    const float mean = row_sum(part, sum) / (float)n;
    sum = 0.0f;
    for (int i = lid; i < n; i += 64)
        sum = (IN1(x + i) - mean) * (IN1(x + i) - mean) + sum;
    const float factor = 1.0f / sqrt(row_sum(part, sum) / (float)n + epsilon);
    for (int i = lid; i < n; i += 64) {
        float v = (IN1(x + i) - mean) * factor;
        const int e = (entry.s1 ? first + i / entry.s2 : i) / entry.s3;
#if SCALE
        v *= scale[e];
#endif
#if SHIFT
        v += shift[e];
#endif
        PUT1(v, y + i);
    }
}
