/* int8_avx512.c - products of codes for one instruction set; flags in cmake/simd.cmake. */
#define PS_Q8_NAME "avx512"
#define PS_Q8_TABLE ps_q8_avx512
#define PS_Q8_BITS 512
#define PS_Q8_VNNI 0
#include "backend/cpu/int8_kernels.inc"
