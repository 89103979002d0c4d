/* image_decode.c - ImageDecoder: the bytes of a picture's file become its pixels.
 *
 * As the specification asks, what is no picture or a broken one gives an image of 0 x 0. A format that this build does
 * not read, or a picture beyond the limits of image/image.h, is an error instead: an empty result would hide it.
 * Source: ONNX operator spec ImageDecoder-20. */
#include "image/image.h"
#include "ops/kernel_util.h"
#include "ops/move.h"

typedef struct decoder_params {
    const char *pixel_format;
} decoder_params;

static const ps_attr_def decoder_attrs[] = { PS_A_STR(decoder_params, pixel_format, "RGB"), PS_ATTRS_END };

typedef enum pixel_format { FORMAT_RGB, FORMAT_BGR, FORMAT_GRAYSCALE } pixel_format;

static ps_status decoder_format(const ps_node *node, pixel_format *ret, ps_error *err) {
    static const char *const names[] = { "RGB", "BGR", "Grayscale" };
    const decoder_params *p = node->params;
    int k = 0;
    while (k < 3 && strcmp(p->pixel_format, names[k]) != 0)
        k++;
    PS_FAIL_IF(k == 3, err, INVALID, "%s: pixel_format is '%s', must be RGB, BGR or Grayscale", PS_LABEL(node),
               p->pixel_format);
    *ret = (pixel_format)k;
    return PS_OK;
}

static ps_status decoder_infer(const ps_node *node, ps_error *err) {
    pixel_format format;
    const ps_shape *x = &node->in[0]->shape;
    ps_dtype t = node->in[0]->dtype;
    PS_TRY(decoder_format(node, &format, err));
    PS_FAIL_IF(t != PS_DTYPE_UNDEFINED && t != PS_DTYPE_U8, err, TYPE, "%s: the file is %s, it must be u8",
               PS_LABEL(node), ps_dtype_name(t));
    PS_FAIL_IF(x->rank >= 0 && x->rank != 1, err, SHAPE, "%s: the file has shape %s, it must have rank 1",
               PS_LABEL(node), PS_SHAPE_TEXT(x));
    ps_shape y = ps_shape_make(3, (int64_t[]) { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN, format == FORMAT_GRAYSCALE ? 1 : 3 });
    ps_infer_set(node, 0, PS_DTYPE_U8, &y);
    return PS_OK;
}

static void swap_red_blue(uint8_t *data, size_t pixels) {
    for (size_t k = 0; k < pixels; k++) {
        uint8_t red = data[3 * k];
        data[3 * k] = data[3 * k + 2];
        data[3 * k + 2] = red;
    }
}

/* rgb is empty where there is no picture. */
static ps_status put_image(const ps_kernel_ctx *ctx, pixel_format format, const ps_image *rgb, ps_error *err) {
    int64_t channels = format == FORMAT_GRAYSCALE ? 1 : 3;
    ps_shape shape = ps_shape_make(3, (int64_t[]) { rgb->height, rgb->width, channels });
    ps_image luma = { 0 };
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_U8, &shape, err));
    if (!rgb->data) return PS_OK;
    if (format == FORMAT_GRAYSCALE) PS_TRY(ps_image_luma(rgb, &luma, err));
    memcpy(ctx->out[0]->data, luma.data ? luma.data : rgb->data, ctx->out[0]->bytes);
    if (format == FORMAT_BGR) swap_red_blue(ctx->out[0]->data, (size_t)(rgb->width * (int64_t)rgb->height));
    ps_image_release(&luma);
    return PS_OK;
}

static ps_status decoder_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    pixel_format format;
    ps_image rgb = { 0 };
    PS_TRY(decoder_format(ctx->node, &format, err));
    ps_status status = ps_image_read(ctx->alloc, ctx->in[0]->data, ctx->in[0]->bytes, &rgb, err);
    if (status != PS_OK && status != PS_FORMAT) return ps_node_fail(ctx->node, err, status);
    status = put_image(ctx, format, &rgb, err);
    ps_image_release(&rgb);
    return status;
}

static const ps_op ops[] = {
    { "ImageDecoder", "", 20, 1, 1, 1, 1, decoder_attrs, sizeof(decoder_params), decoder_infer, decoder_ref,
      PS_OP_DATA_SHAPE },
};
const ps_op_family ps_ops_image_decode = PS_OP_FAMILY("image_decode", ops);
