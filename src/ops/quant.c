/* quant.c - see quant.h. */
#include "ops/quant.h"

#include <math.h>

#include "ops/move.h"
#include "tensor/convert.h"

enum { BLOCK = 256 };

/* ---- numbers ---- */

bool ps_quant_range(ps_dtype t, double *ret_lo, double *ret_hi) {
    bool is_signed = t == PS_DTYPE_I8 || t == PS_DTYPE_I16 || t == PS_DTYPE_I4 || t == PS_DTYPE_I2;
    bool is_unsigned = t == PS_DTYPE_U8 || t == PS_DTYPE_U16 || t == PS_DTYPE_U4 || t == PS_DTYPE_U2;
    if (!is_signed && !is_unsigned) return false;
    double codes = (double)(1 << ps_dtype_bits(t));
    *ret_lo = is_signed ? -codes / 2 : 0;
    *ret_hi = *ret_lo + codes - 1;
    return true;
}

bool ps_quant_is_8bit(ps_dtype t) {
    return t == PS_DTYPE_U8 || t == PS_DTYPE_I8;
}

float ps_round_to(ps_dtype t, double v) {
    float f = (float)v;
    if (t == PS_DTYPE_F16) return ps_f16_to_f32(ps_f32_to_f16(f));
    if (t == PS_DTYPE_BF16) return ps_bf16_to_f32(ps_f32_to_bf16(f));
    return f;
}

void ps_quant_round(double *v, int64_t n, ps_dtype t, double zero) {
    double lo, hi;
    if (!ps_quant_range(t, &lo, &hi)) {
        for (int64_t i = 0; i < n; i++)
            v[i] += zero;
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double q = rint(v[i]) + zero;
        v[i] = q > hi ? hi : q > lo ? q : lo; /* NaN: lo */
    }
}

void ps_code_clamp(double *v, int64_t n, const ps_code_range *range) {
    const double low = (double)range->low, high = (double)range->high;
    for (int64_t i = 0; i < n; i++)
        v[i] = v[i] < low ? low : v[i] > high ? high : v[i];
}

void ps_dynamic_params(const float *x, int64_t n, float *ret_scale, uint8_t *ret_zero) {
    float lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    *ret_scale = hi == lo ? 1.0f : (hi - lo) / 255.0f;
    float zero = rintf(-lo / *ret_scale);
    *ret_zero = (uint8_t)(zero > 255 ? 255 : zero > 0 ? zero : 0); /* NaN (infinite ends): 0 */
}

/* ---- scales and zero points ---- */

double ps_quant_at(const ps_tensor *t, int64_t i, double absent) {
    double v;
    if (!t) return absent;
    ps_row_load(&v, t->dtype, t->data, ps_tensor_count(t) == 1 ? 0 : i, 1, 1);
    return v;
}

ps_tensor ps_quant_param(const ps_tensor *t, int rank, int axis) {
    ps_shape shape = t->shape;
    if (ps_tensor_count(t) == 1) {
        shape = ps_shape_make(0, NULL);
    } else if (shape.rank == 1 && axis >= 0 && axis < rank) {
        shape.rank = rank - axis;
        for (int d = 1; d < shape.rank; d++)
            shape.dims[d] = 1;
    }
    ps_tensor view;
    ps_tensor_init_view(&view, t->dtype, &shape, t->data);
    return view;
}

/* ---- operands ---- */

typedef struct widen_job {
    const ps_tensor *x;
    ps_bcast scale, zero; /* data NULL: absent */
    float *y;
} widen_job;

static void widen_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const widen_job *j = ctx;
    double x[BLOCK], p[BLOCK];
    (void)thread;
    for (int64_t at = begin; at < end; at += BLOCK) {
        int64_t n = end - at < BLOCK ? end - at : BLOCK;
        ps_row_load(x, j->x->dtype, j->x->data, at, 1, n);
        if (j->zero.data) {
            ps_bcast_load(&j->zero, at, n, p);
            for (int64_t i = 0; i < n; i++)
                x[i] -= p[i];
        }
        if (j->scale.data) {
            ps_bcast_load(&j->scale, at, n, p);
            for (int64_t i = 0; i < n; i++)
                x[i] = (double)((float)x[i] * (float)p[i]);
        }
        for (int64_t i = 0; i < n; i++)
            j->y[at + i] = (float)x[i];
    }
}

static ps_status bind_param(ps_bcast *b, ps_tensor *view, const ps_kernel_ctx *ctx, const ps_tensor *x,
                            const ps_tensor *param, int axis, const char *what, ps_error *err) {
    *b = (ps_bcast) { 0 };
    if (!param) return PS_OK;
    *view = ps_quant_param(param, x->shape.rank, axis);
    PS_NODE_FAIL_IF(!ps_bcast_init(b, view, &x->shape), ctx->node, err, SHAPE,
                    "a %s of shape %s does not fit an operand of shape %s", what, PS_SHAPE_TEXT(&param->shape),
                    PS_SHAPE_TEXT(&x->shape));
    return PS_OK;
}

ps_status ps_widen_room(ps_widened *w, const ps_kernel_ctx *ctx, ps_dtype dtype, const ps_shape *shape, ps_error *err) {
    int64_t n;
    *w = (ps_widened) { .alloc = ctx->alloc };
    if (!ps_shape_elements(shape, &n)) return PS_NODE_FAIL(ctx->node, err, LIMIT, "an operand is too large");
    void *data = ps_alloc_array(ctx->alloc, n ? (size_t)n : 1, ps_dtype_size(dtype));
    if (!data) return PS_FAIL_NOMEM(err, "a quantised operand as floats");
    ps_tensor_init_view(&w->t, dtype, shape, data);
    return PS_OK;
}

ps_status ps_widen(ps_widened *w, const ps_kernel_ctx *ctx, const ps_tensor *x, const ps_tensor *scale,
                   const ps_tensor *zero, int axis, ps_error *err) {
    widen_job job = { .x = x };
    ps_tensor views[2];
    *w = (ps_widened) { 0 };
    PS_TRY(bind_param(&job.scale, &views[0], ctx, x, scale, axis, "scale", err));
    PS_TRY(bind_param(&job.zero, &views[1], ctx, x, zero, axis, "zero point", err));
    PS_TRY(ps_widen_room(w, ctx, PS_DTYPE_F32, &x->shape, err));
    job.y = w->t.data;
    ps_parallel_for((int64_t)ps_tensor_count(x), 1 << 14, ctx->threads, widen_range, &job);
    return PS_OK;
}

void ps_widened_release(ps_widened *w) {
    if (w->t.data) ps_free(w->alloc, w->t.data);
    w->t.data = NULL;
}

ps_shape ps_channels_first(const ps_shape *s) {
    ps_shape r = *s;
    for (int d = 2; d < s->rank; d++)
        r.dims[d] = s->dims[d - 1];
    if (s->rank > 1) r.dims[1] = s->dims[s->rank - 1];
    return r;
}

ps_shape ps_channels_last(const ps_shape *s) {
    ps_shape r = *s;
    for (int d = 1; d < s->rank - 1; d++)
        r.dims[d] = s->dims[d + 1];
    if (s->rank > 1) r.dims[s->rank - 1] = s->dims[1];
    return r;
}

ps_status ps_widened_channels_first(ps_widened *w, const ps_kernel_ctx *ctx, ps_error *err) {
    ps_shape to = ps_channels_first(&w->t.shape);
    ps_widened moved;
    PS_TRY(ps_widen_room(&moved, ctx, w->t.dtype, &to, err));
    int64_t c = to.dims[1], plane = ps_shape_product(&to, 2, to.rank);
    ps_walk walk = { .rank = 0 };
    ps_walk_add(&walk, to.dims[0], c * plane, c * plane);
    ps_walk_add(&walk, c, plane, 1);
    ps_walk_add(&walk, plane, 1, c);
    ps_walk_copy(&walk, ps_dtype_size(w->t.dtype), moved.t.data, w->t.data, ctx->threads);
    ps_widened_release(w);
    *w = moved;
    return PS_OK;
}

/* ---- checks of shape rules ---- */

ps_status ps_check_required(const ps_node *node, uint32_t inputs, ps_error *err) {
    for (size_t i = 0; i < 32; i++)
        PS_NODE_FAIL_IF(inputs >> i & 1 && !ps_has_in(node, i), node, err, FORMAT, "input %zu is required", i);
    return PS_OK;
}

ps_status ps_check_8bit(const ps_node *node, size_t i, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && !ps_quant_is_8bit(t), node, err, TYPE,
                    "input %zu ('%s') is %s, the operator takes u8 or i8 here", i, node->in[i]->name, ps_dtype_name(t));
    return PS_OK;
}

ps_status ps_check_type(const ps_node *node, size_t i, ps_dtype want, ps_error *err) {
    if (!ps_has_in(node, i)) return PS_OK;
    ps_dtype t = node->in[i]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != want, node, err, TYPE, "input %zu ('%s') is %s, it must be %s", i,
                    node->in[i]->name, ps_dtype_name(t), ps_dtype_name(want));
    return PS_OK;
}

ps_status ps_check_param(const ps_node *node, size_t i, int64_t n, ps_error *err) {
    int64_t count;
    if (!ps_in_known(node, i)) return PS_OK;
    const ps_shape *s = &node->in[i]->shape;
    if (!ps_shape_fixed(s) || !ps_shape_elements(s, &count) || count == 1) return PS_OK;
    bool ok = n != 1 && s->rank == 1 && (n < 0 || s->dims[0] == n);
    PS_NODE_FAIL_IF(!ok && n == 1, node, err, SHAPE, "input %zu ('%s') has shape %s, it must be one number", i,
                    node->in[i]->name, PS_SHAPE_TEXT(s));
    PS_NODE_FAIL_IF(!ok && n < 0, node, err, SHAPE, "input %zu ('%s') has shape %s, it must be one number or a list", i,
                    node->in[i]->name, PS_SHAPE_TEXT(s));
    PS_NODE_FAIL_IF(!ok, node, err, SHAPE, "input %zu ('%s') has shape %s, it must be one number or a list of %lld", i,
                    node->in[i]->name, PS_SHAPE_TEXT(s), (long long)n);
    return PS_OK;
}

ps_status ps_check_scale_zero(const ps_node *node, size_t scale, size_t of, ps_error *err) {
    PS_TRY(ps_check_type(node, scale, PS_DTYPE_F32, err));
    PS_TRY(ps_check_param(node, scale, 1, err));
    PS_TRY(ps_check_same_type(node, scale + 1, of, err));
    return ps_check_param(node, scale + 1, 1, err);
}

ps_status ps_check_quantized_bias(const ps_node *node, ps_error *err) {
    if (!ps_has_in(node, PS_Q_BIAS)) return PS_OK;
    const ps_dtype t = node->in[PS_Q_BIAS]->dtype;
    PS_NODE_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_F32 && t != PS_DTYPE_I32, node, err, TYPE,
                    "the bias is %s, it must be i32 or f32", ps_dtype_name(t));
    return PS_OK;
}

ps_status ps_check_quantized_result(const ps_node *node, const ps_code_range *range, ps_error *err) {
    PS_NODE_FAIL_IF(ps_has_in(node, PS_Q_Y_SCALE) != ps_has_in(node, PS_Q_Y_ZERO), node, err, INVALID,
                    "the output needs both scale and zero point, or neither");
    PS_NODE_FAIL_IF(range->low > range->high, node, err, INVALID, "low is %lld, high %lld", (long long)range->low,
                    (long long)range->high);
    return PS_OK;
}

/* ---- stand-ins ---- */

void ps_stand_in_init(ps_stand_in *s, const ps_node *node, const char *op, int64_t version, const void *params) {
    memset(s, 0, sizeof *s);
    s->node = *node;
    s->node.op = ps_ops_find(op, "", version);
    s->node.params = (void *)(uintptr_t)params;
    s->node.attrs = NULL;
    s->node.n_attrs = 0;
    s->node.in = s->in;
    s->node.out = s->out;
    s->node.n_in = 0;
    s->node.n_out = node->n_out < PS_STAND_IN_PORTS ? node->n_out : PS_STAND_IN_PORTS;
    for (uint32_t i = 0; i < s->node.n_out; i++) {
        if (!node->out[i]) continue;
        ps_value *v = &s->values[PS_STAND_IN_PORTS + i];
        v->name = node->out[i]->name;
        v->shape = ps_shape_unknown();
        s->out[i] = v;
    }
}

void ps_stand_in_add(ps_stand_in *s, ps_dtype dtype, const ps_shape *shape) {
    uint32_t i = s->node.n_in++;
    if (!shape) return;
    s->values[i] = (ps_value) { .name = "", .dtype = dtype, .shape = *shape };
    s->in[i] = &s->values[i];
}

void ps_stand_in_tensor(ps_stand_in *s, const ps_tensor *t) {
    s->t_in[s->node.n_in] = t;
    ps_stand_in_add(s, t ? t->dtype : PS_DTYPE_UNDEFINED, t ? &t->shape : NULL);
}

ps_status ps_stand_in_infer(ps_stand_in *s, ps_shape *ret, ps_error *err) {
    PS_NODE_FAIL_IF(!s->node.op, &s->node, err, INTERNAL, "the float operator is missing from the table");
    PS_TRY(s->node.op->infer(&s->node, err));
    if (s->out[0]) *ret = s->out[0]->shape;
    return PS_OK;
}

ps_status ps_stand_in_run(ps_stand_in *s, const ps_kernel_ctx *ctx, ps_tensor *const *out, size_t n_out,
                          ps_error *err) {
    PS_NODE_FAIL_IF(!s->node.op, &s->node, err, INTERNAL, "the float operator is missing from the table");
    ps_kernel_ctx inner = { &s->node, s->node.params, s->t_in, s->node.n_in, out, n_out, ctx->alloc, ctx->threads };
    return s->node.op->ref(&inner, err);
}
