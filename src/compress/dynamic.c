/* dynamic.c - INT8 weights, activations quantised at run time: DynamicQuantizeLinear, MatMulInteger, and the product of
 * both scales. Tables that are only looked up become INT8 rows that are decoded behind the Gather. */
#include "compress/compress_int.h"

enum { LEAST_WEIGHTS = 64, LEAST_TABLE = 4096, MAX_CODE = 127, NARROW_CODE = 64 };

typedef struct dynamic {
    ps_job *job;
    ps_onnx_edit *edit;
    ps_map inputs; /* value name → names of its codes, scale and zero point (const char *[3], in the graph's arena) */
    size_t layers;
} dynamic;

static bool is(const ps_node *n, const char *op) {
    return n && !*n->domain && strcmp(n->op_type, op) == 0;
}

static int64_t attr_int(const ps_node *n, const char *name, int64_t absent) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_INT ? a->u.i : absent;
}

static float attr_float(const ps_node *n, const char *name, float absent) {
    const ps_attr *a = ps_node_attr(n, name);
    return a && a->type == PS_ATTR_FLOAT ? a->u.f : absent;
}

static bool constant_matrix(const ps_value *v, size_t least) {
    return v && v->constant && !v->is_input && v->dtype == PS_DTYPE_F32 && v->constant->shape.rank == 2 &&
           ps_tensor_count(v->constant) >= least;
}

static bool takes(const ps_job *job, const ps_node *n) {
    if (n->n_in < 2 || !n->in[0] || n->in[0]->constant || n->in[0]->dtype != PS_DTYPE_F32 ||
        n->in[0]->graph != job->graph || !constant_matrix(n->in[1], LEAST_WEIGHTS))
        return false;
    if (is(n, "MatMul")) return true;
    return is(n, "Gemm") && !attr_int(n, "transA", 0) && attr_float(n, "alpha", 1) == 1 &&
           attr_float(n, "beta", 1) == 1;
}

static ps_status add_node(dynamic *d, size_t *at, const char *op, const char *const *in, size_t n_in,
                          const char *const *out, size_t n_out, const ps_onnx_attr_spec *attr) {
    const ps_onnx_node_spec spec = { .op_type = op,
                                     .name = out[0],
                                     .in = in,
                                     .n_in = n_in,
                                     .out = out,
                                     .n_out = n_out,
                                     .attrs = attr,
                                     .n_attrs = attr ? 1 : 0 };
    PS_TRY(ps_onnx_edit_insert_node(d->edit, *at, &spec, d->job->err));
    ++*at;
    return PS_OK;
}

static ps_status add_tensor(dynamic *d, const char *stem, const char *suffix, ps_tensor *take, const char **ret) {
    ps_status status = ps_emit_name(d->job, d->edit, stem, suffix, ret);
    if (status == PS_OK) status = ps_onnx_edit_add_initializer(d->edit, *ret, take, d->job->err);
    ps_tensor_release(take);
    return status;
}

/* ---- weights ---- */

/* w[k][n] coded with a scale for each n; transposed: w is [n][k]. */
static ps_status encode(const dynamic *d, const ps_tensor *w, bool transposed, ps_tensor **ret_codes,
                        ps_tensor **ret_scales) {
    const int64_t rows = w->shape.dims[transposed ? 1 : 0], cols = w->shape.dims[transposed ? 0 : 1];
    const int64_t dims[] = { rows, cols };
    const ps_shape shape = ps_shape_make(2, dims), list = ps_shape_make(1, dims + 1);
    const int64_t down = transposed ? 1 : cols, across = transposed ? rows : 1;
    const float *x = w->data, max = d->job->options.weight_bits == 7 ? NARROW_CODE : MAX_CODE;
    PS_TRY(ps_tensor_new(d->job->alloc, PS_DTYPE_I8, &shape, ret_codes, d->job->err));
    ps_status status = ps_tensor_new(d->job->alloc, PS_DTYPE_F32, &list, ret_scales, d->job->err);
    if (status != PS_OK) {
        ps_tensor_release(*ret_codes);
        return status;
    }
    for (int64_t c = 0; c < cols; c++) {
        float largest = 0;
        for (int64_t r = 0; r < rows; r++)
            largest = fmaxf(largest, fabsf(x[r * down + c * across]));
        const float scale = largest > 0 && isfinite(largest) ? largest / max : 1;
        ((float *)(*ret_scales)->data)[c] = scale;
        for (int64_t r = 0; r < rows; r++) {
            const float code = nearbyintf(x[r * down + c * across] / scale);
            ((int8_t *)(*ret_codes)->data)[r * cols + c] = (int8_t)(code > max     ? max
                                                                    : code < -max  ? -max
                                                                    : code == code ? code
                                                                                   : 0);
        }
    }
    return PS_OK;
}

/* ---- layers ---- */

static ps_status quantized_input(dynamic *d, const ps_value *v, size_t *at, const char *const **ret) {
    const char **names = ps_map_get(&d->inputs, v->name);
    *ret = names;
    if (names) return PS_OK;
    names = ps_arena_array(&d->job->graph->arena, 3, sizeof *names);
    if (!names) return PS_FAIL_NOMEM(d->job->err, "names");
    PS_TRY(ps_emit_name(d->job, d->edit, v->name, "quantized", &names[0]));
    PS_TRY(ps_emit_name(d->job, d->edit, v->name, "scale", &names[1]));
    PS_TRY(ps_emit_name(d->job, d->edit, v->name, "zero_point", &names[2]));
    PS_TRY(add_node(d, at, "DynamicQuantizeLinear", (const char *const *)&v->name, 1, names, 3, NULL));
    if (!ps_map_put(&d->inputs, v->name, (void *)names)) return PS_FAIL_NOMEM(d->job->err, "names");
    *ret = names;
    return PS_OK;
}

/* y = Cast(MatMulInteger(codes of x, W, zero point of x)) * (scale of x * scales of W) [+ bias] */
static ps_status replace(dynamic *d, const ps_node *n) {
    ps_job *job = d->job;
    const char *y = n->out[0]->name, *w = n->in[1]->name, *const * x, *weight, *scales, *sums, *reals, *both,
               *product = y;
    const char *bias = is(n, "Gemm") && n->n_in > 2 && n->in[2] ? n->in[2]->name : NULL;
    const ps_onnx_attr_spec to = { .name = "to", .type = PS_ATTR_INT, .i = PS_DTYPE_F32 };
    ps_tensor *codes, *list;
    size_t at = ps_emit_find(d->edit, y);
    if (at == SIZE_MAX) return PS_OK; /* inside of a called function */
    PS_TRY(ps_tensor_need(n->in[1]->constant, job->err));
    PS_TRY(encode(d, n->in[1]->constant, is(n, "Gemm") && attr_int(n, "transB", 0), &codes, &list));
    ps_status status = add_tensor(d, w, "quantized", codes, &weight);
    if (status != PS_OK) {
        ps_tensor_release(list);
        return status;
    }
    PS_TRY(add_tensor(d, w, "scale", list, &scales));
    PS_TRY(quantized_input(d, n->in[0], &at, &x));
    PS_TRY(ps_emit_name(job, d->edit, y, "integer", &sums));
    PS_TRY(ps_emit_name(job, d->edit, y, "sum", &reals));
    PS_TRY(ps_emit_name(job, d->edit, y, "scale", &both));
    if (bias) PS_TRY(ps_emit_name(job, d->edit, y, "product", &product));
    const char *integer[] = { x[0], weight, x[2] }, *scale[] = { x[1], scales }, *mul[] = { reals, both },
               *add[] = { product, bias };
    PS_TRY(add_node(d, &at, "MatMulInteger", integer, 3, &sums, 1, NULL));
    PS_TRY(add_node(d, &at, "Cast", &sums, 1, &reals, 1, &to));
    PS_TRY(add_node(d, &at, "Mul", scale, 2, &both, 1, NULL));
    ps_onnx_edit_remove_node(d->edit, at);
    PS_TRY(add_node(d, &at, "Mul", mul, 2, &product, 1, NULL));
    if (bias) PS_TRY(add_node(d, &at, "Add", add, 2, &y, 1, NULL));
    ps_emit_drop(d->edit, w);
    d->layers++;
    return PS_OK;
}

/* ---- tables ---- */

/* Gather(W, i) becomes DequantizeLinear(Gather(codes, i)) with a scale for each column, which the last dim keeps. */
static ps_status replace_table(dynamic *d, const ps_node *n) {
    ps_job *job = d->job;
    const ps_value *w = n->in[0];
    const char *y = n->out[0]->name, *table, *scales, *zeros, *codes_out;
    const int64_t dims[] = { w->constant->shape.dims[1] };
    const ps_shape list_shape = ps_shape_make(1, dims);
    const ps_onnx_attr_spec axis = { .name = "axis", .type = PS_ATTR_INT, .i = n->out[0]->shape.rank - 1 };
    ps_tensor *codes, *list, *zero;
    size_t at = ps_emit_find(d->edit, y);
    if (at == SIZE_MAX) return PS_OK;
    PS_TRY(ps_tensor_need(w->constant, job->err));
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_I8, &list_shape, &zero, job->err));
    ps_status status = encode(d, w->constant, false, &codes, &list);
    if (status != PS_OK) {
        ps_tensor_release(zero);
        return status;
    }
    status = add_tensor(d, w->name, "quantized", codes, &table);
    if (status == PS_OK) status = add_tensor(d, w->name, "scale", ps_tensor_retain(list), &scales);
    ps_tensor_release(list);
    if (status == PS_OK) status = add_tensor(d, w->name, "zero_point", ps_tensor_retain(zero), &zeros);
    ps_tensor_release(zero);
    PS_TRY(status);
    PS_TRY(ps_emit_name(job, d->edit, y, "quantized", &codes_out));
    PS_TRY(ps_onnx_edit_set_input(d->edit, at, 0, table, job->err));
    PS_TRY(ps_onnx_edit_set_output(d->edit, at, 0, codes_out, job->err));
    const char *in[] = { codes_out, scales, zeros };
    at++;
    PS_TRY(add_node(d, &at, "DequantizeLinear", in, 3, &y, 1, &axis));
    ps_emit_drop(d->edit, w->name);
    d->layers++;
    return PS_OK;
}

static bool takes_table(const ps_node *n) {
    return is(n, "Gather") && attr_int(n, "axis", 0) == 0 && constant_matrix(n->in[0], LEAST_TABLE) &&
           ps_value_only_consumer(n->in[0]) == n && n->out[0]->shape.rank >= 1 && ps_graph_opset(n->graph, "") >= 13;
}

static ps_status replace_all(dynamic *d) {
    for (const ps_node *n = d->job->graph->first; n; n = n->next) {
        if (takes(d->job, n))
            PS_TRY(replace(d, n));
        else if (takes_table(n))
            PS_TRY(replace_table(d, n));
    }
    PS_FAIL_IF(
        !d->layers, d->job->err, UNSUPPORTED,
        "the model has no MatMul, Gemm or lookup with a constant float matrix; static INT8 also takes convolutions");
    return PS_OK;
}

ps_status ps_emit_dynamic(ps_job *job, ps_onnx_edit *edit) {
    dynamic d = { .job = job, .edit = edit };
    ps_map_init(&d.inputs, job->alloc);
    ps_status status = replace_all(&d);
    ps_map_release(&d.inputs);
    return status;
}
