/* loops.c - chooses the table of loops for this CPU, as wide as the CPU device works. */
#include "compress/loops.h"

#include "backend/cpu/simd.h"

extern const ps_loops ps_loops_base;
#if defined(__x86_64__)
extern const ps_loops ps_loops_avx2, ps_loops_avx512;

const ps_loops *ps_loops_pick(void) {
    const int lanes = ps_simd_pick()->lanes;
    return lanes >= 16 ? &ps_loops_avx512 : lanes >= 8 ? &ps_loops_avx2 : &ps_loops_base;
}
#else
const ps_loops *ps_loops_pick(void) {
    return &ps_loops_base;
}
#endif

double ps_loops_dot(const float *a, const float *b, int64_t n) {
    float sum[8] = { 0 };
    int64_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (int t = 0; t < 8; t++)
            sum[t] += a[k + t] * b[k + t];
    double total = ((double)sum[0] + sum[1]) + ((double)sum[2] + sum[3]) + ((double)sum[4] + sum[5]) +
                   ((double)sum[6] + sum[7]);
    for (; k < n; k++)
        total += (double)a[k] * b[k];
    return total;
}
