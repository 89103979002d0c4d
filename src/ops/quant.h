/* quant.h - what the quantised operators share: scales and zero points, one rounding, operands as floats, and running
 * the kernel of a float operator on stand-ins for a quantised node's inputs.
 *
 * A quantised number q with scale s and zero point z stands for s (q - z). Differences q - z are exact in f32, their
 * products are summed in double without error, and one f32 expression scales the sum: the order of operations that
 * ONNX Runtime and the integer kernels of backends follow, so that all of them round alike. */
#ifndef PS_OPS_QUANT_H
#define PS_OPS_QUANT_H

#include "ops/kernel_util.h"
#include "ops/params.h"

/* ---- numbers ---- */
/* Ends of an integer type that is quantised to (8 and 16 bits, 4 and 2 bits); false for any other type. */
bool ps_quant_range(ps_dtype t, double *ret_lo, double *ret_hi);
bool ps_quant_is_8bit(ps_dtype t); /* u8, i8 */
/* v rounded to f32, f16 or bf16. */
float ps_round_to(ps_dtype t, double v);
/* Rounds v half to even, adds the zero point, saturates; float types: adds and rounds. In place, n numbers that
 * ps_row_store takes as `t`. NaN gives the lower end. */
void ps_quant_round(double *v, int64_t n, ps_dtype t, double zero);

void ps_code_clamp(double *v, int64_t n, const ps_code_range *range);

/* Scale and zero point of DynamicQuantizeLinear: u8 codes for the range of x widened to hold 0. */
void ps_dynamic_params(const float *x, int64_t n, float *ret_scale, uint8_t *ret_zero);

/* ---- scales and zero points ---- */
/* One number of a tensor that holds one for all, or one for each i; `absent` if t is NULL. */
double ps_quant_at(const ps_tensor *t, int64_t i, double absent);
/* A parameter as it broadcasts to a tensor of `rank` dims: one number; a list along `axis`; else as it is shaped. */
ps_tensor ps_quant_param(const ps_tensor *t, int rank, int axis);

/* ---- operands ---- */
/* scale (x - zero) as f32 in new memory, row-major in x's shape; scale and zero may be NULL, and hold one number, a
 * list along `axis`, or what broadcasts to x. */
typedef struct ps_widened {
    ps_tensor t; /* f32 */
    ps_alloc_state *alloc;
} ps_widened;
ps_status ps_widen(ps_widened *w, const ps_kernel_ctx *ctx, const ps_tensor *x, const ps_tensor *scale,
                   const ps_tensor *zero, int axis, ps_error *err);
/* New memory of a shape, type f32 or f64, not filled. */
ps_status ps_widen_room(ps_widened *w, const ps_kernel_ctx *ctx, ps_dtype dtype, const ps_shape *shape, ps_error *err);
void ps_widened_release(ps_widened *w); /* of a zeroed one too */
/* [N, D..., C] → [N, C, D...], in place of w. */
ps_status ps_widened_channels_first(ps_widened *w, const ps_kernel_ctx *ctx, ps_error *err);
ps_shape ps_channels_first(const ps_shape *s); /* of [N, D..., C]; unknown rank stays */
ps_shape ps_channels_last(const ps_shape *s);  /* of [N, C, D...] */

/* ---- checks of shape rules ---- */
/* PS_FORMAT unless every input whose bit is set is there: for required inputs behind an optional one, which the
 * operator's row cannot tell. */
ps_status ps_check_required(const ps_node *node, uint32_t inputs, ps_error *err);
/* PS_TYPE unless in[i] is absent, of unknown type, or u8 or i8 */
ps_status ps_check_8bit(const ps_node *node, size_t i, ps_error *err);
ps_status ps_check_type(const ps_node *node, size_t i, ps_dtype want, ps_error *err);
/* PS_SHAPE unless in[i] is absent, unknown, or holds one element; with n != 1: or a list of n (any if n < 0). */
ps_status ps_check_param(const ps_node *node, size_t i, int64_t n, ps_error *err);
/* Of the QLinear* of domain "polestar": a bias is i32 or f32; scale and zero point of the result come together, and a
 * range has low <= high. */
ps_status ps_check_quantized_bias(const ps_node *node, ps_error *err);
ps_status ps_check_quantized_result(const ps_node *node, const ps_code_range *range, ps_error *err);
/* A per-tensor scale at `scale` and the zero point after it, of the type of input `of`. */
ps_status ps_check_scale_zero(const ps_node *node, size_t scale, size_t of, ps_error *err);

/* ---- stand-ins ---- */
/* A node on the stack that a float operator's row takes for its own: the label of the quantised node, other inputs and
 * parameters. Its values are in no graph. */
enum { PS_STAND_IN_PORTS = 8 };
typedef struct ps_stand_in {
    ps_node node;
    ps_value values[2 * PS_STAND_IN_PORTS];
    ps_value *in[PS_STAND_IN_PORTS], *out[PS_STAND_IN_PORTS];
    const ps_tensor *t_in[PS_STAND_IN_PORTS];
    ps_tensor *t_out[PS_STAND_IN_PORTS];
} ps_stand_in;

/* op: name and opset of a row of ai.onnx; params as its attribute table would have parsed them, or NULL. */
void ps_stand_in_init(ps_stand_in *s, const ps_node *node, const char *op, int64_t version, const void *params);
void ps_stand_in_add(ps_stand_in *s, ps_dtype dtype, const ps_shape *shape); /* next input; shape NULL: omitted */
void ps_stand_in_tensor(ps_stand_in *s, const ps_tensor *t);                 /* the same for a kernel; NULL: omitted */
/* Runs the row's shape rule; *ret is the shape of output 0. */
ps_status ps_stand_in_infer(ps_stand_in *s, ps_shape *ret, ps_error *err);
/* Runs its kernel on the tensors; output i goes to out[i] (NULL: omitted). */
ps_status ps_stand_in_run(ps_stand_in *s, const ps_kernel_ctx *ctx, ps_tensor *const *out, size_t n_out,
                          ps_error *err);

static inline const ps_tensor *ps_in_tensor(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

#endif
