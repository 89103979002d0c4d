/* simd.c - chooses the tables of vector loops, and of products of codes, for this CPU. */
#include "backend/cpu/int8.h"
#include "backend/cpu/simd.h"

#include <stdlib.h>
#include <strings.h>

extern const ps_simd ps_simd_base;
extern const ps_q8 ps_q8_base;
#if defined(__x86_64__)
extern const ps_simd ps_simd_avx2, ps_simd_avx512;
extern const ps_q8 ps_q8_avx2, ps_q8_avx512, ps_q8_vnni;

enum { LEVEL_BASE, LEVEL_AVX2, LEVEL_AVX512, LEVEL_VNNI };

static int cpu_level(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return LEVEL_BASE;
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return !avx512 ? LEVEL_AVX2 : __builtin_cpu_supports("avx512vnni") ? LEVEL_VNNI : LEVEL_AVX512;
}

/* oneDNN's own variable, so that one cap holds for both. */
static int cap(void) {
    const char *s = getenv("ONEDNN_MAX_CPU_ISA");
    if (!s) s = getenv("DNNL_MAX_CPU_ISA");
    if (!s) return LEVEL_VNNI;
    if (strcasecmp(s, "AVX512_CORE") == 0) return LEVEL_AVX512;
    if (strncasecmp(s, "AVX512", 6) == 0 || strcasecmp(s, "ALL") == 0 || strcasecmp(s, "DEFAULT") == 0)
        return LEVEL_VNNI;
    return strncasecmp(s, "AVX2", 4) == 0 ? LEVEL_AVX2 : LEVEL_BASE;
}

static int level(void) {
    int have = cpu_level(), most = cap();
    return have < most ? have : most;
}

const ps_simd *ps_simd_pick(void) {
    const ps_simd *tables[] = { &ps_simd_base, &ps_simd_avx2, &ps_simd_avx512, &ps_simd_avx512 };
    return tables[level()];
}

const ps_q8 *ps_q8_pick(void) {
    const ps_q8 *tables[] = { &ps_q8_base, &ps_q8_avx2, &ps_q8_avx512, &ps_q8_vnni };
    return tables[level()];
}
#else
const ps_simd *ps_simd_pick(void) {
    return &ps_simd_base;
}

const ps_q8 *ps_q8_pick(void) {
    return &ps_q8_base;
}
#endif
