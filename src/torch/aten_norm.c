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
    ps_value *r = PS_OP(b, "BatchNormalization", x, scale, bias, ps_tb_tensor(b, "running_mean"),
                        ps_tb_tensor(b, "running_var"));
    ps_tb_set_float(b, "epsilon", ps_tb_double(b, "eps", 1e-5));
    return r;
}

static void batch_norm(ps_tb *b) {
    if (ps_tb_bool(b, "training", false))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: is in training mode: call model.eval() before torch.export", b->label);
    ps_tb_out(b, 0, batch_normalized(b, ps_tb_self(b)));
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

static const ps_torch_op ops[] = {
    { "batch_norm", batch_norm, NULL, 0 },
    { "_native_batch_norm_legit_no_training", batch_norm, NULL, 0 },
    { "native_batch_norm", batch_norm, NULL, 0 },
    { "cudnn_batch_norm", batch_norm, NULL, 0 },
    { "instance_norm", instance_norm, NULL, 0 },
    { "layer_norm", layer_norm, "LayerNormalization", 0 },
    { "native_layer_norm", layer_norm, "LayerNormalization", 0 },
    { "rms_norm", layer_norm, "RMSNormalization", 0 },
    { "_fused_rms_norm", layer_norm, "RMSNormalization", 0 },
    { "group_norm", group_norm, NULL, 0 },
    { "native_group_norm", group_norm, NULL, 0 },
};

const ps_torch_family ps_torch_norm = PS_TORCH_FAMILY(ops);
