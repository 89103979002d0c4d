/* fold.c - computes nodes with constant inputs once, by their reference kernels.
 *
 * Bytes may not grow beyond 64 KiB or those of the inputs, whichever is more: a model that stores a small table and
 * expands it at run time keeps the small table. Rows of big tables, casts and dequantisation of big weights stay
 * (sink_cast moves them below a Gather), but for those of products, which hold weights of 16 bits as they are; so does
 * what is random. Shape and Size fold as soon
 * as the shape they read is fixed.
 *
 * Where the device computes on codes, DequantizeLinear waits for the last stage: the pass "quantized" wants to see it.
 * Where its products take weights as codes, those stay codes (coded.c).
 *
 * Nothing a file asks for here takes long or much memory: what is made is bounded as above before it is made, text by
 * the text it is made of, and a result whose size only the kernel knows is made of small inputs only, and never a
 * picture. All nodes together may touch a few times the bytes of the constants that the model has; the rest is left to
 * the run. */
#include <math.h>

#include "passes/coded.h"

#define MAX_GROWN_BYTES (64 * 1024)
#define WORK_OF_A_MODEL 1e9      /* bytes touched and multiplications: a second or two of the reference kernels */
#define WORK_OF_A_WEIGHT_BYTE 16 /* a weight may be transposed, scaled, sliced … */

static bool inputs_known(const ps_node *n) {
    bool shape_only = n->op->traits & PS_OP_SHAPE_ONLY;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const ps_value *v = n->in[i];
        if (!v || ps_const(v)) continue;
        if (i || !shape_only || !ps_shape_fixed(&v->shape)) return false;
    }
    return true;
}

static size_t input_bytes(const ps_node *n) {
    size_t sum = 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        sum += ps_const(n->in[i]) ? n->in[i]->constant->bytes : 0;
    return sum;
}

static size_t longest_text(const ps_tensor *t) {
    size_t longest = 0;
    if (t->dtype != PS_DTYPE_STRING) return ps_dtype_is_container(t->dtype) ? ps_tensor_total_bytes(t) : 0;
    for (size_t i = 0, n = ps_tensor_count(t); i < n; i++) {
        const ps_string *s = (const ps_string *)t->data + i;
        longest = s->size > longest ? s->size : longest;
    }
    return longest;
}

/* No text that a node makes is longer than the longest of each input together. out: bytes of its outputs, without what
 * strings own. */
static bool text_grows(const ps_node *n, size_t out) {
    size_t text = 0, elements = out / sizeof(ps_string) + 1;
    if (n->op->traits & PS_OP_VIEW) return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (ps_const(n->in[i])) text += longest_text(n->in[i]->constant);
    return text && elements > MAX_GROWN_BYTES / text;
}

/* Outputs of unknown size grow with the inputs' dims, also with those beside a dim of 0; a picture with nothing that is
 * known before it is decoded. */
static bool data_shape_is_small(const ps_node *n) {
    if (!(n->op->traits & PS_OP_DATA_SHAPE) || ps_is(n, "ImageDecoder")) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        int64_t extent = 1;
        if (!n->in[i]) continue;
        for (int d = 0; d < n->in[i]->shape.rank; d++) {
            int64_t dim = n->in[i]->shape.dims[d];
            if (dim > MAX_GROWN_BYTES / extent) return false;
            extent *= dim > 1 ? dim : 1;
        }
    }
    return true;
}

/* 0: an output of unknown size. Sizes were checked by inference. */
static size_t output_bytes(const ps_node *n) {
    size_t sum = 1;
    for (uint32_t i = 0; i < n->n_out; i++) {
        int64_t count;
        size_t bytes;
        if (!n->out[i]) continue;
        if (!ps_shape_elements(&n->out[i]->shape, &count) || !ps_dtype_bytes(n->out[i]->dtype, count, &bytes)) return 0;
        if (n->out[i]->dtype == PS_DTYPE_UNDEFINED || ps_add_overflow_size(sum, bytes, &sum)) return 0;
    }
    return sum;
}

/* Weights and bias of a product: packed kernels need them as f32 constants, and the packed form replaces them. */
static bool feeds_products_only(const ps_value *v) {
    static const char *const products[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    for (uint32_t i = 0; i < v->n_uses; i++) {
        size_t k = 0;
        while (k < 4 && !ps_is_any(v->uses[i].node, products[k]))
            k++;
        if (k == 4 || v->uses[i].index == 0) return false;
    }
    return v->n_uses && !v->n_outputs && v->dtype == PS_DTYPE_F32;
}

static bool is_half_weight(const ps_node *n) {
    const ps_tensor *w = ps_is(n, "Cast") ? ps_const(n->in[0]) : NULL;
    return w && (w->dtype == PS_DTYPE_F16 || w->dtype == PS_DTYPE_BF16) && n->out[0]->dtype == PS_DTYPE_F32;
}

/* The same where operators stand in between that only move elements: they are folded too. */
static bool moved_to_products_only(const ps_value *v, int depth) {
    static const char *const movers[] = { "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity" };
    if (feeds_products_only(v)) return true;
    for (uint32_t i = 0; i < v->n_uses; i++) {
        size_t k = 0;
        while (k < 6 && !ps_is(v->uses[i].node, movers[k]))
            k++;
        if (k == 6 || v->uses[i].index != 0 || !v->uses[i].node->out[0] || !depth) return false;
        if (!moved_to_products_only(v->uses[i].node->out[0], depth - 1)) return false;
    }
    return v->n_uses && !v->n_outputs;
}

/* Conversions of big weights, and rows picked from them (each plan would hold its own copy). */
static bool is_weight_copy(const ps_node *n, size_t out) {
    if (ps_is(n, "Gather")) return out > MAX_GROWN_BYTES;
    return (ps_is(n, "Cast") || ps_is(n, "CastLike") || ps_is(n, "DequantizeLinear")) && ps_const(n->in[0]) &&
           n->in[0]->constant->bytes > MAX_GROWN_BYTES;
}

static bool worth_folding(const ps_rw *rw, const ps_node *n) {
    if (!n->op->ref || (n->op->traits & (PS_OP_CONTROL | PS_OP_RANDOM))) return false;
    if (!inputs_known(n)) return false;
    size_t in = input_bytes(n), out = output_bytes(n);
    if (ps_is(n, "DequantizeLinear") && rw->caps->int8 && !rw->late) return false;
    if (ps_is(n, "DequantizeLinear") && out && feeds_products_only(n->out[0])) return true;
    if (out && is_half_weight(n) && moved_to_products_only(n->out[0], 3)) return true;
    if (is_weight_copy(n, out) || text_grows(n, out)) return false;
    if (out == 0) return data_shape_is_small(n) && in <= MAX_GROWN_BYTES;
    size_t limit = in > MAX_GROWN_BYTES && !(n->op->traits & PS_OP_EXPANDS) ? in : MAX_GROWN_BYTES;
    return out - 1 <= limit;
}

/* ---- the budget ---- */

/* Multiplications of a product [m,k] x [k,n] are the root of the product of the three sizes, which for what else costs
 * more than a few operations for each byte (convolutions, sorting pairs of boxes) is near enough. */
static double work_of(const ps_node *n) {
    static const char *const linear[] = { "Transpose",        "Reshape", "Add",  "Sub",    "Mul",       "Div",
                                          "Concat",           "Slice",   "Cast", "Gather", "Unsqueeze", "Squeeze",
                                          "DequantizeLinear", "Pad" };
    double in = (double)input_bytes(n), out = (double)output_bytes(n), operands[2] = { 1, 1 };
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++)
        if (ps_is(n, linear[i])) return in + out;
    for (uint32_t i = 0; i < n->n_in && i < 2; i++)
        if (ps_const(n->in[i])) operands[i] = 1 + (double)ps_tensor_count(n->in[i]->constant);
    return in + out + sqrt(operands[0] * operands[1] * out);
}

static double budget_of(const ps_graph *root) {
    double bytes = 0;
    for (const ps_value *v = root->all_values; v; v = v->next_all)
        if (v->constant) bytes += (double)v->constant->bytes;
    return WORK_OF_A_MODEL + WORK_OF_A_WEIGHT_BYTE * bytes;
}

static bool affordable(ps_rw *rw, const ps_node *n) {
    double work = work_of(n);
    if (work > rw->fold_left) return false;
    rw->fold_left -= work;
    return true;
}

typedef struct job {
    const ps_tensor **in;
    ps_tensor **out;
    ps_tensor *views; /* of inputs that are known by shape only */
} job;

static ps_status prepare(ps_rw *rw, const ps_node *n, job *j) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        j->in[i] = ps_const(n->in[i]);
        if (j->in[i]) PS_TRY(ps_tensor_need(j->in[i], rw->err));
        if (j->in[i]) continue;
        /* Data and type are not looked at. */
        ps_tensor_init_view(&j->views[i], PS_DTYPE_U8, &n->in[i]->shape, NULL);
        j->in[i] = &j->views[i];
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        const ps_value *v = n->out[i];
        if (!v) continue;
        /* An unknown shape gets a placeholder that the kernel replaces through ps_kernel_output. */
        ps_shape empty = ps_shape_make(1, (int64_t[]) { 0 });
        bool known = ps_shape_fixed(&v->shape) && v->dtype != PS_DTYPE_UNDEFINED;
        if (known)
            PS_TRY(ps_tensor_new(rw->root->alloc, v->dtype, &v->shape, &j->out[i], rw->err));
        else {
            PS_TRY(ps_tensor_new_view(rw->root->alloc, PS_DTYPE_U8, &empty, NULL, NULL, &j->out[i], rw->err));
            j->out[i]->dtype = PS_DTYPE_UNDEFINED;
            j->out[i]->shape = ps_shape_unknown();
        }
    }
    return PS_OK;
}

static ps_status run(ps_rw *rw, ps_node *n, job *j) {
    PS_TRY(prepare(rw, n, j));
    PS_TRY(ps_ops_run_ref(n, j->in, j->out, rw->root->alloc, 1, rw->err));
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i]) ps_value_set_constant(n->out[i], j->out[i]);
    }
    ps_node_remove(n);
    rw->changes++;
    return PS_OK;
}

/* Products may hold their weights as they are in the file: a tensor that is made when somebody asks for it. */
static ps_status widen_weight(ps_rw *rw, ps_node *n) {
    ps_tensor *wide;
    PS_TRY(ps_tensor_widened(rw->root->alloc, n->in[0]->constant, &wide, rw->err));
    ps_value_set_constant(n->out[0], wide);
    ps_tensor_release(wide);
    ps_node_remove(n);
    rw->changes++;
    return PS_OK;
}

/* Weights of 8 bits, which a product with codes may take as they are: until it is known that it does not. */
static bool may_meet_codes(const ps_rw *rw, const ps_node *n) {
    return rw->caps->int8 && !rw->late && ps_is(n, "DequantizeLinear") && ps_dtype_size(n->in[0]->dtype) == 1 &&
           !ps_attr_int(n, "block_size", 0);
}

static ps_status fold_node(ps_rw *rw, ps_node *n) {
    const size_t before = rw->changes;
    if (rw->caps->coded_weights && !may_meet_codes(rw, n)) PS_TRY(ps_code_weight(rw, n));
    if (rw->changes != before) return PS_OK;
    /* Shapes may be known only now that an earlier node of this sweep was folded. */
    if (inputs_known(n) && output_bytes(n) == 0) PS_TRY(ps_ops_infer_node(n, rw->err));
    if (!worth_folding(rw, n) || !affordable(rw, n)) return PS_OK;
    if (is_half_weight(n) && ps_weight_only(n->out[0])) return widen_weight(rw, n);
    uint32_t n_out = n->n_out;
    size_t n_in = n->n_in ? n->n_in : 1;
    job j;
    char *block = ps_alloc_zero(rw->root->alloc, n_in * (sizeof *j.views + sizeof *j.in) + n_out * sizeof *j.out);
    if (!block) return PS_FAIL_NOMEM(rw->err, "folding constants");
    j.views = (ps_tensor *)block;
    j.in = (const ps_tensor **)(block + n_in * sizeof *j.views);
    j.out = (ps_tensor **)(block + n_in * (sizeof *j.views + sizeof *j.in));
    ps_status status = run(rw, n, &j);
    for (uint32_t i = 0; i < n_out; i++)
        ps_tensor_release(j.out[i]);
    ps_free(rw->root->alloc, block);
    return status;
}

/* A branch that the present shapes rule out may hold nodes that cannot be computed; they are never run. */
static ps_status fold(ps_rw *rw, ps_node *n) {
    if (n->graph == rw->root) return fold_node(rw, n);
    ps_error err = PS_ERROR_INIT, *outer = rw->err;
    rw->err = &err;
    ps_status status = fold_node(rw, n);
    rw->err = outer;
    if (status == PS_OK || status == PS_SHAPE || status == PS_TYPE || status == PS_INVALID) return PS_OK;
    if (outer) *outer = err;
    return status;
}

ps_status ps_pass_fold(ps_rw *rw) {
    if (rw->fold_left == 0) rw->fold_left = budget_of(rw->root);
    return ps_rw_each(rw, fold);
}
