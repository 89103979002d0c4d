/* Normalisation. Missing weights are ones, missing biases zeros. */
#include <string.h>

#include "torch/aten.h"

static ps_value *filled(ps_tb *b, ps_value *given, ps_value *x, const int64_t *dims, size_t n, double v) {
    if (given || b->status != PS_OK) return given;
    for (size_t i = 0; i < n; i++) {
        if (dims[i] < 0) PS_TB_FAIL(b, UNSUPPORTED, "%s: normalises over an extent that is not known", b->label);
    }
    return ps_tb_expand(b, ps_tb_scalar(b, ps_tb_dtype(b, x), v), ps_tb_vector(b, dims, n));
}

static ps_value *channel_weight(ps_tb *b, const char *name, ps_value *x, double v) {
    int64_t channels = ps_tb_dim(b, x, 1);
    return filled(b, ps_tb_tensor_or_null(b, name), x, &channels, 1, v);
}

static ps_value *batch_normalized(ps_tb *b, ps_value *x) {
    ps_value *scale = channel_weight(b, "weight", x, 1), *bias = channel_weight(b, "bias", x, 0);
    ps_value *r =
        PS_OP(b, "BatchNormalization", x, scale, bias, ps_tb_tensor(b, "running_mean"), ps_tb_tensor(b, "running_var"));
    ps_tb_set_float(b, "epsilon", ps_tb_double(b, "eps", 1e-5));
    return r;
}

static void batch_norm(ps_tb *b) {
    if (ps_tb_bool(b, "training", false))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: is in training mode: call model.eval() before torch.export", b->label);
    ps_tb_out(b, 0, batch_normalized(b, ps_tb_self(b)));
}

/* One factor or summand a channel, in front of the dims behind it. */
static ps_value *per_channel(ps_tb *b, ps_value *v, int rank) {
    int64_t dims[PS_MAX_RANK];
    for (int i = 0; i + 1 < rank; i++)
        dims[i] = i ? 1 : -1;
    return rank > 2 ? ps_tb_reshape_to(b, v, dims, (size_t)rank - 1) : v;
}

/* By the statistics of the input itself: what instance_norm decomposes to. */
static void own_statistics(ps_tb *b) {
    ps_value *x = ps_tb_self(b), *w = ps_tb_tensor_or_null(b, "weight"), *bias = ps_tb_tensor_or_null(b, "bias");
    int rank = ps_tb_rank(b, x);
    int64_t axes[PS_MAX_RANK];
    size_t n = 0;
    for (int i = 0; i < rank; i++) {
        if (i != 1) axes[n++] = i;
    }
    ps_value *d = PS_OP(b, "Sub", x, ps_tb_reduce(b, "ReduceMean", x, axes, n, true));
    ps_value *variance = ps_tb_reduce(b, "ReduceMean", PS_OP(b, "Mul", d, d), axes, n, true);
    ps_value *eps = ps_tb_scalar(b, ps_tb_dtype(b, x), ps_tb_double(b, "eps", 1e-5));
    ps_value *r = PS_OP(b, "Div", d, PS_OP(b, "Sqrt", PS_OP(b, "Add", variance, eps)));
    if (w) r = PS_OP(b, "Mul", r, per_channel(b, w, rank));
    if (bias) r = PS_OP(b, "Add", r, per_channel(b, bias, rank));
    ps_tb_out(b, 0, r);
}

static void native_batch_norm(ps_tb *b) {
    if (strcmp(b->overload, "no_stats") == 0)
        own_statistics(b);
    else
        batch_norm(b);
}

static void instance_norm(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    if (!ps_tb_bool(b, "use_input_stats", true)) {
        ps_tb_out(b, 0, batch_normalized(b, x));
        return;
    }
    ps_value *scale = channel_weight(b, "weight", x, 1), *bias = channel_weight(b, "bias", x, 0);
    ps_value *r = PS_OP(b, "InstanceNormalization", x, scale, bias);
    ps_tb_set_float(b, "epsilon", ps_tb_double(b, "eps", 1e-5));
    ps_tb_out(b, 0, r);
}

static void layer_norm(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t dims[PS_MAX_RANK];
    size_t n = ps_tb_ints(b, "normalized_shape", dims, PS_MAX_RANK);
    ps_value *scale = filled(b, ps_tb_tensor_or_null(b, "weight"), x, dims, n, 1);
    ps_value *bias = ps_tb_tensor_or_null(b, "bias");
    bool root = strcmp(b->op->onnx, "RMSNormalization") == 0;
    if (root) bias = NULL;
    ps_value *r = PS_OP(b, b->op->onnx, x, scale, bias);
    ps_tb_set_int(b, "axis", -(int64_t)n);
    /* An absent eps of rms_norm is the type's epsilon: that of f32. */
    ps_tb_set_float(b, "epsilon", ps_tb_double(b, "eps", root ? 1.1920928955078125e-7 : 1e-5));
    ps_tb_out(b, 0, r);
}

static void group_norm(ps_tb *b) {
    ps_value *x = ps_tb_self(b);
    int64_t groups = ps_tb_int(b, ps_tb_has(b, "num_groups") ? "num_groups" : "group", 1);
    ps_value *scale = channel_weight(b, "weight", x, 1), *bias = channel_weight(b, "bias", x, 0);
    ps_value *r = PS_OP(b, "GroupNormalization", x, scale, bias);
    ps_tb_set_int(b, "num_groups", groups);
    ps_tb_set_float(b, "epsilon", ps_tb_double(b, "eps", 1e-5));
    ps_tb_out(b, 0, r);
}

/* v g / |v|, the norm over all dims but one. */
static void weight_norm(ps_tb *b) {
    ps_value *v = ps_tb_tensor(b, "v"), *g = ps_tb_tensor(b, "g");
    int rank = ps_tb_rank(b, v);
    int64_t keep = ps_tb_axis(b, "dim", 0, rank), axes[PS_MAX_RANK];
    size_t n = 0;
    for (int i = 0; i < rank; i++) {
        if (i != keep) axes[n++] = i;
    }
    ps_value *size = ps_tb_reduce(b, "ReduceL2", v, axes, n, true);
    ps_tb_out(b, 0, PS_OP(b, "Mul", v, PS_OP(b, "Div", g, size)));
}

static const ps_torch_op ops[] = {
    { "batch_norm", batch_norm, NULL, 0 },
    { "_native_batch_norm_legit_no_training", batch_norm, NULL, 0 },
    { "_native_batch_norm_legit", native_batch_norm, NULL, 0 },
    { "native_batch_norm", batch_norm, NULL, 0 },
    { "cudnn_batch_norm", batch_norm, NULL, 0 },
    { "instance_norm", instance_norm, NULL, 0 },
    { "layer_norm", layer_norm, "LayerNormalization", 0 },
    { "native_layer_norm", layer_norm, "LayerNormalization", 0 },
    { "rms_norm", layer_norm, "RMSNormalization", 0 },
    { "_fused_rms_norm", layer_norm, "RMSNormalization", 0 },
    { "_weight_norm", weight_norm, NULL, 0 },
    { "_weight_norm_interface", weight_norm, NULL, 0 },
    { "group_norm", group_norm, NULL, 0 },
    { "native_group_norm", group_norm, NULL, 0 },
};

const ps_torch_family ps_torch_norm = PS_TORCH_FAMILY("norm", ops);
