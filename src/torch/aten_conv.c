/* Convolutions, forward and transposed. */
#include <string.h>

#include "torch/aten.h"

typedef struct conv {
    ps_value *x, *w, *bias;
    size_t n;    /* spatial dims */
    bool single; /* a sample without its batch dim */
    int64_t stride[PS_MAX_RANK], padding[2 * PS_MAX_RANK], dilation[PS_MAX_RANK], groups;
} conv;

static bool read_conv(ps_tb *b, conv *c) {
    c->x = ps_tb_tensor(b, "input");
    c->w = ps_tb_tensor(b, "weight");
    c->bias = ps_tb_tensor_or_null(b, "bias");
    int rank = ps_tb_rank(b, c->w);
    if (rank < 3 || rank > PS_MAX_RANK) PS_TB_FAIL(b, FORMAT, "%s: its weight has %d dims", b->label, rank);
    if (b->status != PS_OK) return false;
    c->n = (size_t)rank - 2;
    c->single = ps_tb_rank(b, c->x) == rank - 1;
    if (c->single) c->x = ps_tb_unsqueeze(b, c->x, 0);
    ps_tb_ints_n(b, "stride", 1, c->stride, c->n);
    ps_tb_ints_n(b, "dilation", 1, c->dilation, c->n);
    c->groups = ps_tb_int(b, "groups", 1);
    return b->status == PS_OK;
}

/* "same" adds one more behind than before where it does not divide. */
static void same_padding(ps_tb *b, conv *c) {
    for (size_t i = 0; i < c->n; i++) {
        int64_t k = ps_tb_dim(b, c->w, (int)i + 2), total = 0;
        if (k < 1 || __builtin_mul_overflow(c->dilation[i], k - 1, &total) || total < 0)
            PS_TB_FAIL(b, UNSUPPORTED, "%s: padding 'same' with a kernel of unknown or wrong size", b->label);
        c->padding[i] = total / 2;
        c->padding[c->n + i] = total - total / 2;
    }
}

static void read_padding(ps_tb *b, conv *c) {
    if (strcmp(b->overload, "padding") == 0) {
        const char *mode = ps_tb_text(b, "padding", "valid");
        memset(c->padding, 0, sizeof c->padding);
        if (strcmp(mode, "same") == 0)
            same_padding(b, c);
        else if (strcmp(mode, "valid") != 0)
            PS_TB_FAIL(b, UNSUPPORTED, "%s: padding '%.40s' is not supported", b->label, mode);
        return;
    }
    ps_tb_ints_n(b, "padding", 0, c->padding, c->n);
    memcpy(c->padding + c->n, c->padding, c->n * sizeof *c->padding);
}

static void set_common(ps_tb *b, const conv *c) {
    ps_tb_set_ints(b, "strides", c->stride, c->n);
    ps_tb_set_ints(b, "pads", c->padding, 2 * c->n);
    ps_tb_set_ints(b, "dilations", c->dilation, c->n);
    ps_tb_set_int(b, "group", c->groups);
}

static void finish(ps_tb *b, const conv *c, ps_value *r) {
    ps_tb_out(b, 0, c->single ? ps_tb_squeeze(b, r, 0) : r);
}

static void forward(ps_tb *b, conv *c) {
    read_padding(b, c);
    ps_value *r = PS_OP(b, "Conv", c->x, c->w, c->bias);
    set_common(b, c);
    finish(b, c, r);
}

static void transposed(ps_tb *b, conv *c) {
    int64_t extra[PS_MAX_RANK];
    read_padding(b, c);
    ps_tb_ints_n(b, "output_padding", 0, extra, c->n);
    ps_value *r = PS_OP(b, "ConvTranspose", c->x, c->w, c->bias);
    set_common(b, c);
    ps_tb_set_ints(b, "output_padding", extra, c->n);
    finish(b, c, r);
}

static void map_forward(ps_tb *b) {
    conv c;
    if (read_conv(b, &c)) forward(b, &c);
}

static void map_transposed(ps_tb *b) {
    conv c;
    if (read_conv(b, &c)) transposed(b, &c);
}

static void convolution(ps_tb *b) {
    conv c;
    if (!read_conv(b, &c)) return;
    if (ps_tb_bool(b, "transposed", false))
        transposed(b, &c);
    else
        forward(b, &c);
}

static const ps_torch_op ops[] = {
    { "conv1d", map_forward, NULL, 0 },
    { "conv2d", map_forward, NULL, 0 },
    { "conv3d", map_forward, NULL, 0 },
    { "conv_transpose1d", map_transposed, NULL, 0 },
    { "conv_transpose2d", map_transposed, NULL, 0 },
    { "conv_transpose3d", map_transposed, NULL, 0 },
    { "convolution", convolution, NULL, 0 },
    { "_convolution", convolution, NULL, 0 },
};

const ps_torch_family ps_torch_conv = PS_TORCH_FAMILY("conv", ops);
