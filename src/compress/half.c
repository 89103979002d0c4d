/* half.c - weights stored in 16 bits, with a Cast back to float in front of their readers. */
#include "compress/compress_int.h"
#include "tensor/convert.h"

enum { LEAST_WEIGHTS = 64 };

typedef struct half_job {
    ps_job *job;
    ps_onnx_edit *edit;
    ps_dtype dtype;
    size_t too_large; /* tensors that stay float */
} half_job;

/* Infinite or so large that a half cannot hold it. */
static bool fits(const half_job *h, const ps_tensor *t) {
    const float *x = t->data;
    const size_t n = ps_tensor_count(t);
    for (size_t i = 0; h->dtype == PS_DTYPE_F16 && i < n; i++)
        if (fabsf(x[i]) >= 65520) return false;
    return true;
}

static ps_status converted(const half_job *h, const ps_tensor *t, ps_tensor **ret) {
    PS_TRY(ps_tensor_new(h->job->alloc, h->dtype, &t->shape, ret, h->job->err));
    ps_convert(t->data, PS_DTYPE_F32, (*ret)->data, h->dtype, ps_tensor_count(t), true);
    return PS_OK;
}

/* NAME becomes the Cast's output, so that no reader, in whatever subgraph, is touched. */
static ps_status store(half_job *h, const ps_value *v, ps_tensor *half) {
    ps_job *job = h->job;
    const char *name;
    size_t at = 0;
    PS_TRY(ps_emit_name(job, h->edit, v->name, h->dtype == PS_DTYPE_F16 ? "fp16" : "bf16", &name));
    if (!ps_onnx_edit_remove_initializer(h->edit, v->name)) {
        at = ps_emit_find(h->edit, v->name);
        if (at == SIZE_MAX) return PS_OK; /* of a called function: left as it is */
        ps_onnx_edit_remove_node(h->edit, at);
    }
    PS_TRY(ps_onnx_edit_add_initializer(h->edit, name, half, job->err));
    const ps_onnx_attr_spec to = { .name = "to", .type = PS_ATTR_INT, .i = PS_DTYPE_F32 };
    const ps_onnx_node_spec spec = { .op_type = "Cast",
                                     .name = name,
                                     .in = &name,
                                     .n_in = 1,
                                     .out = (const char *const *)&v->name,
                                     .n_out = 1,
                                     .attrs = &to,
                                     .n_attrs = 1 };
    return ps_onnx_edit_insert_node(h->edit, at, &spec, job->err);
}

static bool wanted(const ps_job *job, const ps_value *v) {
    if (!v->constant || v->is_input || v->dtype != PS_DTYPE_F32 || v->graph != job->graph) return false;
    return ps_tensor_count(v->constant) >= LEAST_WEIGHTS && v->n_outputs == 0;
}

ps_status ps_emit_half(ps_job *job, ps_onnx_edit *edit) {
    half_job h = { job, edit, job->options.type == PS_COMPRESS_BF16 ? PS_DTYPE_BF16 : PS_DTYPE_F16, 0 };
    for (ps_value *v = job->graph->all_values; v; v = v->next_all) {
        ps_tensor *half;
        if (!wanted(job, v)) continue;
        PS_TRY(ps_tensor_need(v->constant, job->err));
        if (!fits(&h, v->constant)) {
            h.too_large++;
            continue;
        }
        PS_TRY(converted(&h, v->constant, &half));
        ps_status status = store(&h, v, half);
        ps_tensor_release(half);
        PS_TRY(status);
    }
    if (h.too_large)
        ps_job_warn(job, "%zu weight tensors hold numbers beyond 65504 and stay in float; bf16 can hold them",
                    h.too_large);
    return PS_OK;
}
