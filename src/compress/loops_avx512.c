/* loops_avx512.c - the loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_LOOPS_TABLE ps_loops_avx512
#define PS_LOOPS_LANES 16
#include "compress/loops_kernels.inc"
