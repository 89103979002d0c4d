/* fuzz_edit.c - any bytes as a .onnx or .onnx.zst file that is edited and written: what is written loads whenever what
 * was read does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "onnx/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], in_path[96], out_path[96], weights_path[96];

static void forget(void) {
    unlink(in_path);
    unlink(out_path);
    unlink(weights_path);
    rmdir(folder);
}

static void make_folder(void) {
    if (folder[0]) return;
    snprintf(folder, sizeof folder, "/tmp/polestar-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
    snprintf(in_path, sizeof in_path, "%s/in.onnx", folder);
    snprintf(out_path, sizeof out_path, "%s/out.onnx", folder);
    snprintf(weights_path, sizeof weights_path, "%s/w.bin", folder);
    atexit(forget);
}

static bool loads(ps_alloc_state *a, const char *path, ps_error *err) {
    ps_graph *g = NULL;
    if (ps_onnx_load_file(a, path, &g, NULL, err) != PS_OK) return false;
    ps_graph_free(g);
    return true;
}

static ps_status change(ps_alloc_state *a, unsigned how, ps_error *err) {
    ps_onnx_edit *e = NULL;
    ps_tensor *t = NULL;
    ps_onnx_write_options o = { how & 1 ? "w.bin" : NULL, 1 + (how >> 4), how & 2 ? 1 : 0 };
    PS_TRY(ps_onnx_edit_open(a, in_path, &e, err));
    ps_status status = PS_OK;
    if (how & 4 && ps_onnx_edit_tensors(e) && ps_onnx_edit_tensor(e, 0, NULL, &t, err) == PS_OK) {
        if (t->dtype != PS_DTYPE_STRING) status = ps_onnx_edit_replace(e, 0, t, err);
    }
    ps_tensor_release(t);
    if (status == PS_OK) status = ps_onnx_edit_write(e, out_path, &o, err);
    ps_onnx_edit_close(e);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ps_alloc_state a;
    ps_error err = PS_ERROR_INIT, before = PS_ERROR_INIT;
    ps_alloc_state_init(&a, NULL);
    a.limit = (size_t)256 << 20;
    make_folder();
    if (ps_file_write(in_path, data, size, 0600, NULL) != PS_OK) return 0;
    ps_status status = change(&a, size ? data[size - 1] : 0, &err);
    if (status == PS_OK && loads(&a, in_path, &before) && !loads(&a, out_path, &err)) abort();
    if (status != PS_OK && (status == PS_INTERNAL || !err.msg[0])) abort();
    if (atomic_load(&a.bytes)) abort(); /* a leak */
    return 0;
}
