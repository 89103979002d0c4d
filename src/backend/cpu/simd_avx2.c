/* simd_avx2.c - the vector loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_SIMD_NAME "avx2"
#define PS_SIMD_TABLE ps_simd_avx2
#define PS_SIMD_LANES 8
#include "backend/cpu/simd_kernels.inc"
