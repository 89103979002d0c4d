/* simd_base.c - the vector loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_SIMD_NAME "generic"
#define PS_SIMD_TABLE ps_simd_base
#define PS_SIMD_LANES 4
#include "backend/cpu/simd_kernels.inc"
