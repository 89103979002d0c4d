/* int8_vnni.c - products of codes for one instruction set; flags in cmake/simd.cmake. */
#define PS_Q8_NAME "vnni"
#define PS_Q8_TABLE ps_q8_vnni
#define PS_Q8_BITS 512
#define PS_Q8_VNNI 1
#include "backend/cpu/int8_kernels.inc"
