/* y = post(the sum of the parts + bias): VEC neighbours of a product whose depth was shared out. */
#if VEC == 4
#define FLOATS float4
#define LOAD(p) vload4(0, p)
#else
#define FLOATS float
#define LOAD(p) (*(p))
#endif

#if BIAS
#define ADD_BIAS(v, col) v += bias[col]
#else
#define ADD_BIAS(v, col)
#endif

#define FINISH(part, j)                                                                                                \
    {                                                                                                                  \
        float v = part;                                                                                                \
        ADD_BIAS(v, col + j);                                                                                          \
        POST(v, o + j, col + j);                                                                                       \
        part = v;                                                                                                      \
    }

__kernel void sum_parts(__global const float *parts, ulong parts_o, __global float *y, ulong yo, int8 sizes
#if BIAS
                        , __global const float *bias, ulong bias_o
#endif
                            POST_PARAMS) {
    const int o = get_global_id(0) * VEC, count = sizes.s0, col = o % sizes.s1;
    if (o >= count) return;
    parts = ATC(float, parts, parts_o);
    y = AT(float, y, yo);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    POST_BEGIN
    FLOATS sum = LOAD(parts + o);
    for (int i = 1; i < sizes.s2; i++)
        sum += LOAD(parts + i * count + o);
#if VEC == 4
    FINISH(sum.x, 0)
    FINISH(sum.y, 1)
    FINISH(sum.z, 2)
    FINISH(sum.w, 3)
    vstore4(sum, 0, y + o);
#else
    FINISH(sum, 0)
    y[o] = sum;
#endif
}
