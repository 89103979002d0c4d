/* quantized.h - seeing values as codes, and the rewrites of quantized*.c. Private to this folder. */
#ifndef PS_PASSES_QUANTIZED_H
#define PS_PASSES_QUANTIZED_H

#include "passes/rewrite.h"

/* An f32 value that is scale (codes - zero): what a DequantizeLinear makes of u8 or i8. */
typedef struct ps_coded {
    ps_value *codes, *scale, *zero; /* zero may be NULL: 0 */
    int axis;                       /* that has one scale each; -1: one for all */
} ps_coded;

/* One scale for the tensor, whatever it is. */
bool ps_is_coded(const ps_value *v, ps_coded *ret);
/* Constant codes with constant scales and zero points, one for all or a list along an axis. */
bool ps_is_coded_constant(const ps_value *v, ps_coded *ret);
/* Does the device take it by these numbers? Some want them as constants (ps_caps.fixed_int8); absent ones are. */
bool ps_codes_suit(const ps_rw *rw, const ps_value *scale, const ps_value *zero);
/* n is a QuantizeLinear to u8 or i8 with one scale. */
bool ps_is_coding(const ps_node *n);
/* The zero point of a node that has it at input `index`, else a new constant 0 of that type. */
ps_status ps_zero_or_new(ps_rw *rw, ps_graph *g, ps_value *zero, ps_dtype type, ps_value **ret);
ps_status ps_code_number(ps_rw *rw, ps_graph *g, ps_dtype type, int64_t v, ps_value **ret);
bool ps_one_number(const ps_value *v);
/* Scales or zero points that are the same constants, or the same values; a zero point may be absent: 0. */
bool ps_same_number(const ps_value *a, const ps_value *b);
int64_t ps_code_at(const ps_tensor *t, int64_t i);

/* What stands between a result and the QuantizeLinear behind it: n's range [low, high] of codes after a Relu or Clip is
 * narrowed; *n moves up to the node before. false: a Relu or Clip whose limits are not known. */
bool ps_take_clamp(const ps_node *coding, ps_node **n, ps_code_range *range);
ps_status ps_set_range(ps_rw *rw, ps_node *n, const ps_code_range *range);
/* Is the result of n, or of a Relu or Clip that alone reads it, quantised and nothing else? */
bool ps_feeds_coding(const ps_node *n);

/* Why a product with a quantised operand is not computed on codes; NULL: it has none, or it is. */
const char *ps_why_not_quantized(const ps_node *product);

/* Rewrites; each returns with rw->changes raised where it did something. n is the anchor. */
ps_status ps_quantize_product(ps_rw *rw, ps_node *n, ps_node *product, const ps_code_range *range);
ps_status ps_quantize_pair(ps_rw *rw, ps_node *n, ps_node *pair, const ps_code_range *range);
ps_status ps_quantize_pool(ps_rw *rw, ps_node *n, ps_node *pool);
ps_status ps_quantize_concat(ps_rw *rw, ps_node *n, ps_node *concat);
ps_status ps_quantize_lookup(ps_rw *rw, ps_node *n);
/* n, whose inputs but `input` are constants, each element on its own. */
ps_status ps_quantize_lookup_of(ps_rw *rw, ps_node *n, size_t input);
ps_status ps_quantize_operator(ps_rw *rw, ps_node *n);

#endif
