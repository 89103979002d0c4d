/* loops_avx2.c - the loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_LOOPS_TABLE ps_loops_avx2
#define PS_LOOPS_LANES 8
#include "compress/loops_kernels.inc"
