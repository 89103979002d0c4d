/* tensor_file.c - tensors from and to files; the extension tells the format. */
#include <strings.h>

#include "base/os.h"
#include "io/io.h"
#include "onnx/onnx.h"

static bool has_extension(const char *path, const char *extension) {
    size_t n = strlen(path), k = strlen(extension);
    return n >= k && strcasecmp(path + n - k, extension) == 0;
}

static ps_status check_extension(const char *path, ps_error *err) {
    PS_FAIL_IF(!has_extension(path, ".npy") && !has_extension(path, ".pb"), err, INVALID,
               "'%s' is neither a .npy nor a .pb file", path);
    return PS_OK;
}

ps_status ps_tensor_load(ps_engine *engine, const char *path, ps_tensor **ret_tensor, ps_error *reterr) {
    return ps_tensor_load_as(engine, path, PS_DTYPE_UNDEFINED, ret_tensor, reterr);
}

ps_status ps_tensor_load_as(ps_engine *engine, const char *path, ps_dtype kind, ps_tensor **ret_tensor,
                            ps_error *reterr) {
    ps_alloc_state *a = ps_engine_alloc(engine);
    ps_file_map map;
    PS_TRY(check_extension(path, reterr));
    PS_TRY(ps_file_map_open(path, &map, reterr));
    ps_status status = has_extension(path, ".npy")
                           ? ps_npy_read(a, map.data, map.size, ret_tensor, reterr)
                           : ps_onnx_value_read(a, map.data, map.size, kind, ret_tensor, reterr);
    ps_file_map_close(&map);
    if (status != PS_OK) ps_error_prefix(reterr, "%s", path);
    return status;
}

/* Row-major form of a tensor that may be strided; released by the caller. */
static ps_status packed(ps_alloc_state *a, const ps_tensor *t, ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_new(a, t->dtype, &t->shape, ret, err));
    ps_tensor_copy_packed(t, (*ret)->data);
    return PS_OK;
}

static ps_status encode_pb(ps_alloc_state *a, const ps_tensor *t, const char *name, void **data, size_t *size,
                           ps_error *err) {
    ps_tensor *copy = NULL;
    if (t->strides) PS_TRY(packed(a, t, &copy, err));
    ps_status status = ps_onnx_value_write(a, copy ? copy : t, name, data, size, err);
    ps_tensor_release(copy);
    return status;
}

ps_status ps_tensor_save(ps_engine *engine, const ps_tensor *tensor, const char *path, const char *name,
                         ps_error *reterr) {
    ps_alloc_state *a = ps_engine_alloc(engine);
    void *data = NULL;
    size_t size = 0;
    PS_TRY(check_extension(path, reterr));
    ps_status status = has_extension(path, ".npy") ? ps_npy_write(a, tensor, &data, &size, reterr)
                                                   : encode_pb(a, tensor, name, &data, &size, reterr);
    if (status == PS_OK)
        status = ps_file_write(path, data, size, 0644, reterr);
    else
        ps_error_prefix(reterr, "%s", path);
    ps_free(a, data);
    return status;
}
