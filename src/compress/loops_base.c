/* loops_base.c - the loops for one instruction set; flags in cmake/simd.cmake. */
#define PS_LOOPS_TABLE ps_loops_base
#define PS_LOOPS_LANES 4
#include "compress/loops_kernels.inc"
