/* params.h - attributes of the operators that passes and backends look into, as parsed from the attribute tables.
 * Field names are the ONNX attribute names. Operators that nobody else looks into keep their struct in their own file.
 */
#ifndef PS_OPS_PARAMS_H
#define PS_OPS_PARAMS_H

#include "ops/ops.h"

/* Post-operations that passes hang behind Conv, ConvTranspose, Gemm and MatMul, and chains of "polestar" Pointwise.
 * Applied in order on the f32 accumulator x. On a node they are the attribute lists post_op (ints: kind, operand) and
 * post_arg (floats: alpha, beta); see ps_post_ops. */
typedef enum ps_post_kind {
    PS_POST_RELU,       /* max(x, 0) */
    PS_POST_LEAKY_RELU, /* x < 0 ? alpha x : x */
    PS_POST_CLIP,       /* min(max(x, alpha), beta) */
    PS_POST_SIGMOID,    /* 1 / (1 + exp(-x)) */
    PS_POST_TANH,
    PS_POST_HARD_SIGMOID, /* max(0, min(1, alpha x + beta)) */
    PS_POST_HARD_SWISH,   /* x * max(0, min(1, alpha x + beta)) */
    PS_POST_SWISH,        /* x / (1 + exp(-alpha x)) */
    PS_POST_GELU,         /* exact: x/2 (1 + erf(x / sqrt 2)) */
    PS_POST_GELU_TANH,    /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    PS_POST_EXP,
    PS_POST_SQRT,
    PS_POST_ABS,
    PS_POST_ERF,
    PS_POST_RECIPROCAL,
    PS_POST_LINEAR, /* alpha x + beta */
    PS_POST_POW,    /* x^alpha (beta unused) */
    PS_POST_ADD,    /* x + operand, broadcast; operand is an index into node->in */
    PS_POST_SUB,    /* x - operand */
    PS_POST_RSUB,   /* operand - x */
    PS_POST_MUL,    /* x * operand */
    PS_POST_DIV,    /* x / operand */
    PS_POST_RDIV,   /* operand / x */
    PS_POST_MAX,    /* max(x, operand) */
    PS_POST_MIN,
    PS_POST_COUNT
} ps_post_kind;

typedef struct ps_post {
    ps_post_kind kind;
    int32_t operand; /* index into node->in, or -1 */
    float alpha, beta;
} ps_post;

#define PS_MAX_POSTS 16

/* Reads the post-op attributes of a node that was resolved: the count, 0 if it has none. */
size_t ps_node_posts(const ps_node *node, ps_post ret[PS_MAX_POSTS]);
/* Appends one post-op; `operand` (may be NULL) becomes a new last input. PS_LIMIT when there are PS_MAX_POSTS already.
 */
ps_status ps_node_add_post(ps_node *node, ps_post_kind kind, float alpha, float beta, ps_value *operand, ps_error *err);
const char *ps_post_name(ps_post_kind kind);
float ps_post_apply(ps_post_kind kind, float x, float alpha, float beta, float operand);
bool ps_post_is_binary(ps_post_kind kind);

/* Conv, "polestar" Conv, ConvTranspose, and (kernel window part) the pools. */
typedef struct ps_conv_params {
    const char *auto_pad; /* NOTSET SAME_UPPER SAME_LOWER VALID */
    ps_ints kernel_shape, strides, pads, dilations;
    int64_t group;
    ps_ints output_padding, output_shape; /* ConvTranspose only */
} ps_conv_params;

/* Inputs of QLinearConv and QLinearMatMul. In domain "polestar" the result's scale may be missing, and the result is
 * then f32; a bias of i32 joins the sum of products, one of f32 what comes of scaling it. */
enum { PS_Q_X, PS_Q_X_SCALE, PS_Q_X_ZERO, PS_Q_W, PS_Q_W_SCALE, PS_Q_W_ZERO, PS_Q_Y_SCALE, PS_Q_Y_ZERO, PS_Q_BIAS };

/* Further inputs of a "polestar" QLinearConv: codes of the result's shape that are added to its codes as a QLinearAdd
 * would, and scale and zero point of the sum. */
enum { PS_Q_OTHER = PS_Q_BIAS + 1, PS_Q_OTHER_SCALE, PS_Q_OTHER_ZERO, PS_Q_SUM_SCALE, PS_Q_SUM_ZERO };

/* No clamping beyond the type's own ends. */
#define PS_CODE_LOW INT16_MIN
#define PS_CODE_HIGH INT16_MAX

/* "polestar" QLinear*: codes of the result are clamped to [low, high], as a Relu or Clip behind it would. */
typedef struct ps_code_range {
    int64_t low, high;
} ps_code_range;

typedef struct ps_qconv_params {
    ps_conv_params conv;   /* must come first: the window attributes */
    int64_t channels_last; /* com.microsoft */
    ps_code_range range;   /* polestar */
    ps_code_range sum;     /* polestar: of the sum with PS_Q_OTHER */
    int64_t second;        /* polestar: the convolution is the right operand of the sum */
} ps_qconv_params;

typedef struct ps_pool_params {
    const char *auto_pad;
    ps_ints kernel_shape, strides, pads, dilations;
    int64_t ceil_mode, count_include_pad, storage_order;
} ps_pool_params;

/* The window of one spatial dim once shapes are known. */
typedef struct ps_window {
    int64_t in, out, kernel, stride, dilation, pad_begin, pad_end;
} ps_window;

#define PS_MAX_SPATIAL (PS_MAX_RANK - 2)

/* Resolves auto_pad, defaults and output sizes for fixed shapes. Returns the number of spatial dims through ret_n.
 * Source: ONNX operator specs Conv-11/22, ConvTranspose-11/22, AveragePool-19/22, MaxPool-12/22 (ceil_mode: windows
 * that start in the right padding are dropped). */
ps_status ps_conv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err);
/* The same for QLinearConv. */
ps_status ps_qconv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err);
ps_status ps_deconv_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err);
ps_status ps_pool_windows(const ps_node *node, ps_window ret[PS_MAX_SPATIAL], int *ret_n, ps_error *err);

/* LeakyRelu, Elu, Celu, ThresholdedRelu, HardSigmoid (alpha and beta), Swish. */
typedef struct ps_alpha_params {
    float alpha, beta;
} ps_alpha_params;

typedef struct ps_clip_params { /* Clip-1 and -6; from 11 on the limits are inputs and there are no params */
    float min, max;
} ps_clip_params;

typedef struct ps_gelu_params {
    const char *approximate; /* none tanh */
} ps_gelu_params;

typedef struct ps_gemm_params {
    float alpha, beta;
    int64_t transA, transB;
} ps_gemm_params;

typedef struct ps_axis_params { /* Softmax, LogSoftmax, Concat, Gather, Flatten, Split … */
    int64_t axis;
} ps_axis_params;

typedef struct ps_batchnorm_params {
    float epsilon, momentum;
    int64_t training_mode, spatial;
    int64_t is_test; /* before 7 */
} ps_batchnorm_params;

typedef struct ps_layernorm_params {
    int64_t axis;
    float epsilon;
    int64_t stash_type;
} ps_layernorm_params;

typedef struct ps_transpose_params {
    ps_ints perm; /* empty: reversed */
} ps_transpose_params;

typedef struct ps_cast_params {
    int64_t to, saturate;
    const char *round_mode; /* up down nearest; for f8e8m0 only */
} ps_cast_params;

typedef struct ps_reduce_params {
    ps_ints axes; /* before the axes became an input */
    int64_t keepdims, noop_with_empty_axes;
} ps_reduce_params;

typedef struct ps_grid_params {
    const char *mode, *padding_mode;
    int64_t align_corners;
} ps_grid_params;

typedef struct ps_epsilon_params {
    float epsilon;
} ps_epsilon_params;

typedef struct ps_groupnorm_params {
    float epsilon;
    int64_t num_groups, stash_type;
} ps_groupnorm_params;

typedef struct ps_lstm_params {
    const char *direction; /* forward reverse bidirectional */
    int64_t hidden_size, input_forget, layout;
    float clip;
    ps_strings activations;
    ps_floats activation_alpha, activation_beta;
} ps_lstm_params;

typedef struct ps_gru_params {
    ps_lstm_params common; /* must come first: the attribute rows of ps_lstm_params apply */
    int64_t linear_before_reset;
} ps_gru_params;

typedef struct ps_if_params {
    ps_graph *then_branch, *else_branch;
} ps_if_params;

typedef struct ps_loop_params {
    ps_graph *body; /* (iteration i64, condition bool, carried …) → (condition, carried …, scan outputs …);
                     * of SequenceMap: (element or whole tensor of each input …) → (element of each output …) */
} ps_loop_params;

typedef struct ps_scan_params {
    ps_graph *body; /* (states …, slices of the scan inputs …) → (states …, slices of the scan outputs …) */
    int64_t num_scan_inputs;
    ps_ints scan_input_axes, scan_input_directions, scan_output_axes, scan_output_directions; /* empty: zeros */
} ps_scan_params;

typedef struct ps_resize_params {
    const char *mode, *coordinate_transformation_mode, *nearest_mode, *keep_aspect_ratio_policy;
    float cubic_coeff_a, extrapolation_value;
    int64_t exclude_outside, antialias;
    ps_ints axes;
} ps_resize_params;

/* For each output element along a spatial dim of a Resize, its source coordinate: shared by kernels. */
float ps_resize_source(const ps_resize_params *p, int64_t out_index, int64_t in_size, int64_t out_size, float scale,
                       float roi_start, float roi_end);

/* One dim of a Resize or Upsample once shapes are known. */
typedef struct ps_resize_axis {
    int64_t in, out;
    float scale, roi_start, roi_end;
} ps_resize_axis;

/* All dims, for fixed shapes and constant scales or sizes; PS_UNSUPPORTED if these are not constant. */
ps_status ps_resize_axes(const ps_node *node, ps_resize_axis ret[PS_MAX_RANK], ps_error *err);
/* Source coordinate of output position `at` along an axis (an axis that keeps its size is left alone). */
float ps_resize_coordinate(const ps_resize_params *p, const ps_resize_axis *axis, int64_t at);
/* Source index of mode nearest, or -1 where the extrapolation value belongs. */
int64_t ps_resize_nearest(const ps_resize_params *p, const ps_resize_axis *axis, int64_t at);

/* "polestar" Attention: inputs q [B, Sq, H*D], k [B, Sk, H*D], v [B, Sk, H*Dv], mask (optional; broadcasts to
 * [B, H, Sq, Sk] and is added); output [B, Sq, H*Dv] = softmax(scale q k^T + mask) v, per head. */
typedef struct ps_attention_params {
    int64_t heads;
    float scale;
} ps_attention_params;

/* "polestar" Pointwise: in[0] is the chain's start, post-ops follow; out[0] has the broadcast shape of all inputs. */

#endif
