/* convert.h - number formats narrower than f32. Conversions round to nearest, ties to even, and keep NaN a NaN.
 * Sources: IEEE 754 (f16), bfloat16 = upper half of f32, OCP 8-bit Floating Point spec 1.0 (E4M3, E5M2), the FNUZ
 * variants of "8-bit Numerical Formats for Deep Neural Networks" (arXiv:2206.02915), OCP Microscaling spec 1.0 (E2M1,
 * E2M3, E3M2, E8M0). */
#ifndef PS_TENSOR_CONVERT_H
#define PS_TENSOR_CONVERT_H

#include "tensor/tensor.h"

float ps_f16_to_f32(uint16_t h);
uint16_t ps_f32_to_f16(float f);
float ps_bf16_to_f32(uint16_t h);
uint16_t ps_f32_to_bf16(float f);
/* dtype: one of the four F8 types or F8E8M0. saturate: overflow gives the largest finite value instead of inf/NaN. */
float ps_f8_to_f32(uint8_t v, ps_dtype dtype);
uint8_t ps_f32_to_f8(float f, ps_dtype dtype, bool saturate);
/* Powers of two: 2^(v - 127), 255 is NaN. The three roundings of ONNX Cast's round_mode; UP is its default and what
 * ps_f32_to_f8 and ps_convert use. Values outside of 2^-127 … 2^127 and zero go to the nearer end if `saturate`, else
 * to NaN; negative values go to NaN. */
typedef enum ps_e8m0_round { PS_E8M0_UP, PS_E8M0_DOWN, PS_E8M0_NEAREST } ps_e8m0_round;
uint8_t ps_f32_to_e8m0(float f, ps_e8m0_round round, bool saturate);
/* Four and six bits (dtype: one of the two F6 types) without infinity or NaN: both ends saturate, as the OCP spec has
 * it, and NaN, which neither that spec nor ONNX gives a meaning, becomes -0, as ml_dtypes has it. */
float ps_f4_to_f32(uint8_t nibble);
uint8_t ps_f32_to_f4(float f);
float ps_f6_to_f32(uint8_t code, ps_dtype dtype);
uint8_t ps_f32_to_f6(float f, ps_dtype dtype);
/* Codes of 2, 4 or 6 bits, element index i of packed data (low bits first); those of six may lie in two bytes. */
unsigned ps_packed_get(const uint8_t *data, size_t i, unsigned bits);
void ps_packed_set(uint8_t *data, size_t i, unsigned bits, int v); /* low bits of v */
/* Sub-byte integers, in the same order. */
int ps_i4_get(const uint8_t *data, size_t i);
int ps_u4_get(const uint8_t *data, size_t i);
void ps_u4_set(uint8_t *data, size_t i, int v); /* low 4 bits of v; also for i4 */
int ps_i2_get(const uint8_t *data, size_t i);
int ps_u2_get(const uint8_t *data, size_t i);
void ps_u2_set(uint8_t *data, size_t i, int v);

/* Rows: fast paths for weights. */
void ps_f16_to_f32_row(const uint16_t *src, float *dst, size_t n);
void ps_bf16_to_f32_row(const uint16_t *src, float *dst, size_t n);
void ps_f32_to_f16_row(const float *src, uint16_t *dst, size_t n);

/* ONNX Cast semantics between any two of the number types and bool (not strings, not complex):
 * float → int truncates toward zero, out of range is implementation-defined (we saturate, NaN gives 0; Cast itself
 * goes by way of i64 to 2 and 4 bits, and keeps the low ones: ops/cast.c), anything → bool
 * is "not zero", float → f8 saturates if `saturate`, integer → integer keeps the low bits. Wider floats and integers
 * are rounded once, not by way of f32. n elements, both sides packed, neither needs to be aligned, no overlap; unused
 * bits of a last sub-byte byte are zero. false if the pair is unsupported. */
bool ps_convert(const void *src, ps_dtype from, void *dst, ps_dtype to, size_t n, bool saturate);

#endif
