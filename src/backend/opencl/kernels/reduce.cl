/* y[outer][inner] of x[outer][n][inner]. KIND 0 sum, 1 mean, 2 maximum, 3 minimum, 4 product. */
#if KIND <= 1
#define START 0.0f
#define JOIN(a, b) ((a) + (b))
#elif KIND == 2
#define START (-INFINITY)
#define JOIN(a, b) post_max(a, b)
#elif KIND == 3
#define START INFINITY
#define JOIN(a, b) post_min(a, b)
#else
#define START 1.0f
#define JOIN(a, b) ((a) * (b))
#endif
#if KIND == 1
#define END(v) ((v) / (float)n)
#else
#define END(v) (v)
#endif

/* One result an item: neighbours read neighbouring elements where inner is large. */
__kernel void reduce(__global const IN *x, ulong xo, __global float *y, ulong yo, int results, int n, int inner) {
    const int o = get_global_id(0);
    if (o >= results) return;
    x = ATC(IN, x, xo) + o / inner * n * inner + o % inner;
    y = AT(float, y, yo);
    float v = START;
    for (int i = 0; i < n; i++)
        v = JOIN(v, IN1(x + i * inner));
    y[o] = END(v);
}

/* One result a work-group of 64. */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void reduce_group(__global const IN *x, ulong xo,
                                                                         __global float *y, ulong yo, int results,
                                                                         int n, int inner) {
    __local float part[64];
    const int lid = get_local_id(0), o = get_group_id(0);
    x = ATC(IN, x, xo) + o / inner * n * inner + o % inner;
    y = AT(float, y, yo);
    float v = START;
    for (int i = lid; i < n; i += 64)
        v = JOIN(v, IN1(x + i * inner));
    part[lid] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int s = 32; s > 0; s /= 2) {
        if (lid < s) part[lid] = JOIN(part[lid], part[lid + s]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lid == 0) y[o] = END(part[0]);
}
