/* What a device reaches: multiply-adds in registers, and bytes copied. */
__kernel void multiply_adds(__global float *y, int n, float a, float b) {
    float4 v[8];
    for (int i = 0; i < 8; i++)
        v[i] = (float4)((float)(get_global_id(0) + i)) * a;
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = v[i] * a + b;
    }
    for (int i = 1; i < 8; i++)
        v[0] += v[i];
    if (v[0].x + v[0].y + v[0].z + v[0].w == 12345.0f) y[0] = v[0].x; /* never, which no compiler knows */
}

__kernel void copy(__global const float4 *x, __global float4 *y) { y[get_global_id(0)] = x[get_global_id(0)]; }
