/* simd.c - chooses the table of vector loops for this CPU. */
#include "backend/cpu/simd.h"

#include <stdlib.h>
#include <strings.h>

extern const ps_simd ps_simd_base;
#if defined(__x86_64__)
extern const ps_simd ps_simd_avx2, ps_simd_avx512;

enum { LEVEL_BASE, LEVEL_AVX2, LEVEL_AVX512 };

static int cpu_level(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return LEVEL_BASE;
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 ? LEVEL_AVX512 : LEVEL_AVX2;
}

/* oneDNN's own variable, so that one cap holds for both. */
static int cap(void) {
    const char *s = getenv("ONEDNN_MAX_CPU_ISA");
    if (!s) s = getenv("DNNL_MAX_CPU_ISA");
    if (!s) return LEVEL_AVX512;
    if (strncasecmp(s, "AVX512", 6) == 0 || strcasecmp(s, "ALL") == 0 || strcasecmp(s, "DEFAULT") == 0)
        return LEVEL_AVX512;
    return strncasecmp(s, "AVX2", 4) == 0 ? LEVEL_AVX2 : LEVEL_BASE;
}

const ps_simd *ps_simd_pick(void) {
    int level = cpu_level(), most = cap();
    if (level > most) level = most;
    return level == LEVEL_AVX512 ? &ps_simd_avx512 : level == LEVEL_AVX2 ? &ps_simd_avx2 : &ps_simd_base;
}
#else
const ps_simd *ps_simd_pick(void) {
    return &ps_simd_base;
}
#endif
