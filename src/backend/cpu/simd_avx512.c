/* simd_avx512.c - the vector loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_SIMD_NAME "avx512"
#define PS_SIMD_TABLE ps_simd_avx512
#define PS_SIMD_LANES 16
#include "backend/cpu/simd_kernels.inc"
