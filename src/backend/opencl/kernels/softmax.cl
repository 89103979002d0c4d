/* Softmax of rows, one work-group of 64 items a row. */
#define ITEMS 64

float group_max(__local float *part, float v) {
    const int lid = get_local_id(0);
    part[lid] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = ITEMS / 2; s > 0; s /= 2) {
        if (lid < s) part[lid] = post_max(part[lid], part[lid + s]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    v = part[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return v;
}

float group_sum(__local float *part, float v) {
    const int lid = get_local_id(0);
    part[lid] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = ITEMS / 2; s > 0; s /= 2) {
        if (lid < s) part[lid] += part[lid + s];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    v = part[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return v;
}

#ifdef MASK
/* In place: rows of n scores, which are floats, scaled, and with a mask (IN) that lies by strides over batch, head, query and key. */
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void softmax_scores(__global float *x, ulong xo, int n,
                                                                               float scale
#if MASK
                                                                               , __global const IN *mask,
                                                                               ulong mask_o, int8 dims
#endif
) {
    __local float part[ITEMS];
    const int lid = get_local_id(0), row = get_group_id(0);
    x = AT(float, x, xo) + row * n;
#if MASK
    const int query = row % dims.s1, head = row / dims.s1 % dims.s0, batch = row / dims.s1 / dims.s0;
    mask = ATC(IN, mask, mask_o) + batch * dims.s2 + head * dims.s3 + query * dims.s4;
#endif
    float top = -INFINITY, sum = 0.0f;
    for (int i = lid; i < n; i += ITEMS) {
        float v = x[i] * scale;
#if MASK
        v += IN1(mask + i * dims.s5);
#endif
        x[i] = v;
        top = post_max(top, v);
    }
    top = group_max(part, top);
    for (int i = lid; i < n; i += ITEMS) {
        const float e = exp(x[i] - top);
        x[i] = e;
        sum += e;
    }
    sum = group_sum(part, sum);
    for (int i = lid; i < n; i += ITEMS)
        x[i] /= sum;
}
#else
/* y = softmax(x) over an axis of n elements, `inner` apart; LOG: its logarithm. */
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void softmax(__global const IN *x, ulong xo,
                                                                        __global OUT *y, ulong yo, int n, int inner) {
    __local float part[ITEMS];
    const int lid = get_local_id(0), row = get_group_id(0), at = row / inner * n * inner + row % inner;
    float top = -INFINITY, sum = 0.0f;
    x = ATC(IN, x, xo) + at;
    y = AT(OUT, y, yo) + at;
    for (int i = lid; i < n; i += ITEMS)
        top = post_max(top, IN1(x + i * inner));
    top = group_max(part, top);
    for (int i = lid; i < n; i += ITEMS)
        sum += exp(IN1(x + i * inner) - top);
    sum = group_sum(part, sum);
#if LOG
    const float log_sum = log(sum);
    for (int i = lid; i < n; i += ITEMS)
        PUT1(IN1(x + i * inner) - top - log_sum, y + i * inner);
#else
    for (int i = lid; i < n; i += ITEMS)
        PUT1(exp(IN1(x + i * inner) - top) / sum, y + i * inner);
#endif
}
#endif
