/* resize.c - Resize of images, nearest (of 8-bit codes too) and linear, channels-last; Cast, QuantizeLinear and
 * DequantizeLinear: one element an item. */
#include <math.h>

#include "backend/opencl/opencl_int.h"

/* ---- Resize ---- */

/* As kernels/resize.cl reads it. */
typedef struct tap {
    cl_int at, next; /* source positions */
    cl_float share;  /* of next */
    cl_float unused;
} tap;

/* false: some position lies outside and wants the extrapolation value. */
static bool fill_taps(const ps_resize_params *p, const ps_resize_axis *a, bool linear, tap *ret) {
    for (int64_t i = 0; i < a->out; i++) {
        if (!linear) {
            const int64_t at = ps_resize_nearest(p, a, i);
            if (at < 0) return false;
            ret[i] = (tap) { (cl_int)at, (cl_int)at, 0, 0 };
            continue;
        }
        float x = ps_resize_coordinate(p, a, i), last = (float)(a->in - 1);
        x = x < 0 ? 0 : x > last ? last : x;
        const cl_int at = (cl_int)floorf(x);
        ret[i] = (tap) { at, at + 1 < a->in ? at + 1 : at, x - floorf(x), 0 };
    }
    return true;
}

static const char *check(const ps_node *n, bool *ret_linear) {
    const ps_resize_params *p = n->params;
    *ret_linear = strcmp(p->mode, "linear") == 0 || strcmp(p->mode, "bilinear") == 0;
    const bool codes = n->in[0]->dtype == PS_DTYPE_U8 || n->in[0]->dtype == PS_DTYPE_I8;
    if (n->in[0]->dtype != PS_DTYPE_F32 && (!codes || *ret_linear)) return "not f32";
    if (n->in[0]->shape.rank != 4) return "no pictures";
    if (!*ret_linear && strcmp(p->mode, "nearest") != 0) return "neither nearest nor linear";
    if (p->antialias || p->exclude_outside || strcmp(p->coordinate_transformation_mode, "tf_crop_and_resize") == 0)
        return "a mode that reaches outside";
    return NULL;
}

static ps_status resize_launch(ps_lowering *l, ocl_kernel *k, const ps_resize_axis *axes, const tap *taps, bool linear,
                               ps_error *err) {
    void *table = NULL;
    char options[64];
    ocl_launch *launch;
    const ps_shape *out = &l->node->out[0]->shape;
    const int64_t n = ps_shape_product(out, 0, out->rank);
    const int64_t sizes[8] = { axes[1].in, axes[2].in, axes[3].in, axes[2].out, axes[3].out };
    PS_TRY(ocl_kernel_table(k, taps, (size_t)(axes[2].out + axes[3].out) * sizeof *taps, &table, err));
    ps_snprintf(options, sizeof options, "-DLINEAR=%d%s", linear,
                l->node->in[0]->dtype == PS_DTYPE_F32 ? ocl_halves(l->in_half[0], l->out_half[0]) : " -DCODES=1");
    PS_TRY(ocl_launch_init(k, 0, "resize", options, "", "resize", &launch, err));
    ocl_arg_in(launch, 0);
    ocl_arg_out(launch, 0);
    ocl_arg_buffer(launch, table);
    ocl_arg_int(launch, n);
    ocl_arg_ints(launch, sizes, 8);
    ocl_launch_size(launch, n, 1, 1, 64, 1);
    return PS_OK;
}

ps_status ocl_lower_resize(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    ps_resize_axis axes[PS_MAX_RANK];
    bool linear;
    ocl_kernel *k;
    l->why = check(n, &linear);
    if (l->why || !ocl_sizes_fit_first(l, 1)) return PS_OK;
    if (ps_resize_axes(n, axes, NULL) != PS_OK) return ocl_decline(l, "sizes made at run time");
    if (axes[0].in != axes[0].out || axes[1].in != axes[1].out) return ocl_decline(l, "channels are resized too");
    tap *taps = ps_alloc_array(l->alloc, (size_t)(axes[2].out + axes[3].out), sizeof *taps);
    if (!taps) return PS_FAIL_NOMEM(err, "a resize's table");
    if (!fill_taps(n->params, &axes[2], linear, taps) || !fill_taps(n->params, &axes[3], linear, taps + axes[2].out)) {
        ps_free(l->alloc, taps);
        return ocl_decline(l, "a mode that reaches outside");
    }
    ps_status status = ocl_kernel_new(device, l, 1, linear ? "opencl.resize linear" : "opencl.resize nearest", &k, err);
    if (status == PS_OK) status = ocl_kernel_done(l, k, resize_launch(l, k, axes, taps, linear, err));
    ps_free(l->alloc, taps);
    l->in_layout[0] = l->out_layout[0] = PS_LAYOUT_CHANNELS_LAST;
    ocl_skip_inputs(l, 1);
    return status;
}

/* ---- Cast ---- */

static const char *cl_type(ps_dtype t) {
    switch (t) {
    case PS_DTYPE_F32: return "float";
    case PS_DTYPE_BOOL:
    case PS_DTYPE_U8: return "uchar";
    case PS_DTYPE_I8: return "char";
    case PS_DTYPE_I32: return "int";
    case PS_DTYPE_I64: return "long";
    case PS_DTYPE_F16: return "half";
    default: return NULL;
    }
}

/* To f32 from what models hold, f32 to f16 and to bool. Other casts of numbers that do not fit have rules of their own,
 * which the CPU knows. */
static bool castable(ps_dtype from, ps_dtype to) {
    if (to == PS_DTYPE_F32) return cl_type(from) && from != PS_DTYPE_F32;
    return from == PS_DTYPE_F32 && (to == PS_DTYPE_BOOL || to == PS_DTYPE_F16);
}

ps_status ocl_lower_cast(ps_device *device, ps_lowering *l, ps_error *err) {
    const ps_node *n = l->node;
    const ps_dtype from = n->in[0]->dtype, to = n->out[0]->dtype;
    const bool half = from == PS_DTYPE_F16 || l->in_half[0];
    char options[96];
    ocl_kernel *k;
    ocl_launch *launch;
    if (!castable(from, to)) return ocl_decline(l, "a cast between these types");
    if (!ocl_sizes_fit(l)) return PS_OK;
    const int64_t count = ps_shape_product(&n->out[0]->shape, 0, n->out[0]->shape.rank);
    ps_snprintf(options, sizeof options, "-DFROM=%s -DTO=%s -DFROM_HALF=%d -DTO_HALF=%d -DTO_BOOL=%d",
                half ? "half" : cl_type(from), cl_type(to), half, to == PS_DTYPE_F16, to == PS_DTYPE_BOOL);
    PS_TRY(ocl_kernel_new(device, l, 1, "opencl.cast", &k, err));
    ps_status status = ocl_launch_init(k, 0, "cast", options, "", "cast", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, count);
        ocl_launch_size(launch, count, 1, 1, 64, 1);
    }
    l->out_layout[0] = l->in_layout[0];
    return ocl_kernel_done(l, k, status);
}

/* ---- QuantizeLinear, DequantizeLinear: 8-bit codes, one scale or one an entry of an axis ---- */

typedef struct codes {
    const ps_value *real, *code;
    int64_t channels, inner; /* the scale of element o is entry o / inner % channels */
} codes;

static const char *check_codes(const ps_node *n, bool quantize, codes *c) {
    const ps_attr *axis_attr = ps_node_attr(n, "axis");
    const ps_shape *s = &n->in[0]->shape;
    int axis;
    *c = (codes) { quantize ? n->in[0] : n->out[0], quantize ? n->out[0] : n->in[0], 1, 1 };
    if (c->real->dtype != PS_DTYPE_F32 || n->in[1]->dtype != PS_DTYPE_F32) return "not f32";
    if (c->code->dtype != PS_DTYPE_U8 && c->code->dtype != PS_DTYPE_I8) return "codes other than of 8 bits";
    if (ps_node_attr(n, "precision")) return "a precision of its own";
    if (ps_has_in(n, 2) && n->in[2]->dtype != c->code->dtype) return "a zero point of another type";
    const int64_t scales = ps_shape_product(&n->in[1]->shape, 0, n->in[1]->shape.rank);
    if (scales == 1) return NULL;
    if (n->in[1]->shape.rank != 1 || !ps_axis_normalize(axis_attr ? axis_attr->u.i : 1, s->rank, &axis))
        return "scales of blocks";
    if (s->dims[axis] != scales) return "scales of blocks";
    c->channels = scales;
    c->inner = ps_shape_product(s, axis + 1, s->rank);
    return NULL;
}

static ps_status lower_codes(ps_device *device, ps_lowering *l, bool quantize, ps_error *err) {
    const ps_node *n = l->node;
    char options[128];
    codes c;
    ocl_kernel *k;
    ocl_launch *launch;
    l->why = check_codes(n, quantize, &c);
    if (l->why || !ocl_sizes_fit(l)) return PS_OK;
    const int64_t count = ps_shape_product(&n->in[0]->shape, 0, n->in[0]->shape.rank);
    const bool is_signed = c.code->dtype == PS_DTYPE_I8, zero = ps_has_in(n, 2);
    if (c.channels > 1) l->in_layout[0] = PS_LAYOUT_PLAIN;
    ps_snprintf(options, sizeof options, "-DCODE=%s -DZERO=%d -DLOW=%d -DHIGH=%d%s", is_signed ? "char" : "uchar", zero,
                is_signed ? -128 : 0, is_signed ? 127 : 255,
                ocl_halves(quantize && l->in_half[0], !quantize && l->out_half[0]));
    l->in_half[1] = false;
    PS_TRY(ocl_kernel_new(device, l, 1, quantize ? "opencl.quantize" : "opencl.dequantize", &k, err));
    ps_status status =
        ocl_launch_init(k, 0, "quantize", options, "", quantize ? "quantize" : "dequantize", &launch, err);
    if (status == PS_OK) {
        ocl_arg_in(launch, 0);
        ocl_arg_in(launch, 1);
        if (zero) ocl_arg_in(launch, 2);
        ocl_arg_out(launch, 0);
        ocl_arg_int(launch, count);
        ocl_arg_int(launch, c.channels);
        ocl_arg_int(launch, c.inner);
        ocl_launch_size(launch, count, 1, 1, 64, 1);
    }
    l->out_layout[0] = l->in_layout[0];
    return ocl_kernel_done(l, k, status);
}

ps_status ocl_lower_quantize(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_codes(device, l, true, err);
}

ps_status ocl_lower_dequantize(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower_codes(device, l, false, err);
}
