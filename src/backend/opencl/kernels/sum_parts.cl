/* y = post(the sum of the parts + bias): VEC neighbours of a product whose depth was shared out. */
__kernel void sum_parts(__global const float *parts, ulong parts_o, __global OUT *y, ulong yo, int8 sizes
#if BIAS
                        , __global const float *bias, ulong bias_o
#endif
                            POST_PARAMS) {
    const int o = get_global_id(0) * VEC, count = sizes.s0, c = o % sizes.s1;
    if (o >= count) return;
    parts = ATC(float, parts, parts_o);
    y = AT(OUT, y, yo);
#if BIAS
    bias = ATC(float, bias, bias_o);
#endif
    POST_BEGIN
    FLOATS sum = LOAD(parts + o);
    for (int i = 1; i < sizes.s2; i++)
        sum += LOAD(parts + i * count + o);
    ADD_BIAS(sum);
    FINISH(sum);
    STORE(sum, y + o);
}
