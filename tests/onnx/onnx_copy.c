/* onnx_copy.c - opens a model to be edited and writes it again.
 *
 *     onnx_copy IN OUT [external=NAME] [bytes=N] [zstd=LEVEL] [negate=NAME] [half=NAME] [opset=N]
 *
 * opset: the model rewritten for that version of ai.onnx.
 * negate: the f32 initializer NAME with every sign changed. half: the same halved in rows (its first dim), as f64. */
#include <stdio.h>
#include <stdlib.h>

#include "onnx/edit.h"
#include "ops/ops.h"

static ps_status changed(ps_alloc_state *a, const ps_tensor *t, bool half, ps_tensor **ret, ps_error *err) {
    PS_FAIL_IF(t->dtype != PS_DTYPE_F32, err, TYPE, "the tensor to change is no f32");
    ps_shape shape = t->shape;
    if (half) shape.dims[0] /= 2;
    PS_TRY(ps_tensor_new(a, half ? PS_DTYPE_F64 : PS_DTYPE_F32, &shape, ret, err));
    const float *x = t->data;
    for (size_t i = 0; i < ps_tensor_count(*ret); i++) {
        if (half)
            ((double *)(*ret)->data)[i] = x[i];
        else
            ((float *)(*ret)->data)[i] = -x[i];
    }
    return PS_OK;
}

static ps_status change(ps_alloc_state *a, ps_onnx_edit *e, const char *which, bool half, ps_error *err) {
    for (size_t i = 0; i < ps_onnx_edit_tensors(e); i++) {
        const char *name;
        ps_tensor *t, *other = NULL;
        PS_TRY(ps_onnx_edit_tensor(e, i, &name, &t, err));
        bool found = strcmp(name, which) == 0;
        ps_status status = found ? changed(a, t, half, &other, err) : PS_OK;
        if (other) status = ps_onnx_edit_replace(e, i, other, err);
        ps_tensor_release(other);
        ps_tensor_release(t);
        if (found) return status;
    }
    return PS_FAIL(err, NOT_FOUND, "no initializer '%s'", which);
}

static ps_status upgraded(ps_alloc_state *a, ps_onnx_edit *e, const char *path, int64_t version, ps_error *err) {
    ps_graph *g;
    ps_onnx_info info;
    PS_TRY(ps_onnx_load_file(a, path, &g, &info, err));
    ps_status status = ps_ops_resolve(g, err);
    if (status == PS_OK) status = ps_ops_infer(g, err);
    if (status == PS_OK) status = ps_onnx_edit_upgrade(e, version, g, err);
    ps_graph_free(g);
    ps_onnx_info_release(&info);
    return status;
}

static const char *option(int argc, char **argv, const char *name) {
    size_t n = strlen(name);
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=') return argv[i] + n + 1;
    }
    return NULL;
}

static ps_status run(ps_alloc_state *a, int argc, char **argv, ps_error *err) {
    ps_onnx_edit *e;
    const char *bytes = option(argc, argv, "bytes"), *level = option(argc, argv, "zstd");
    ps_onnx_write_options o = { option(argc, argv, "external"), bytes ? strtoul(bytes, NULL, 10) : 0,
                                level ? (int)strtol(level, NULL, 10) : 0 };
    PS_TRY(ps_onnx_edit_open(a, argv[1], &e, err));
    ps_status status = PS_OK;
    if (option(argc, argv, "negate")) status = change(a, e, option(argc, argv, "negate"), false, err);
    if (option(argc, argv, "half") && status == PS_OK) status = change(a, e, option(argc, argv, "half"), true, err);
    if (option(argc, argv, "opset") && status == PS_OK)
        status = upgraded(a, e, argv[1], strtol(option(argc, argv, "opset"), NULL, 10), err);
    if (status == PS_OK) status = ps_onnx_edit_write(e, argv[2], &o, err);
    ps_onnx_edit_close(e);
    return status;
}

int main(int argc, char **argv) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT;
    if (argc < 3) return 2;
    ps_alloc_state_init(&a, NULL);
    ps_status status = run(&a, argc, argv, &err);
    if (status != PS_OK) fprintf(stderr, "%s\n", err.msg);
    if (atomic_load(&a.bytes)) fprintf(stderr, "%zu bytes leaked\n", atomic_load(&a.bytes));
    return status != PS_OK || atomic_load(&a.bytes);
}
