/* int8_base.c - products of codes for one instruction set; flags in cmake/simd.cmake. */
#define PS_Q8_NAME "base"
#define PS_Q8_TABLE ps_q8_base
#define PS_Q8_BITS 128
#define PS_Q8_VNNI 0
#include "backend/cpu/int8_kernels.inc"
