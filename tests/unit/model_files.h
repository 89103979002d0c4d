/* model_files.h - real models for tests: those of tests/models, and further ones in $POLESTAR_MODELS (default:
 * shared/models beside the source tree), each a folder with model.onnx and test_data_set_N/{input,output}_N.pb in the
 * model's order. */
#ifndef PS_TEST_MODEL_FILES_H
#define PS_TEST_MODEL_FILES_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "base/str.h"
#include "polestar/polestar.h"

#define MODEL_MAX_ENDS 16

static inline const char *model_root(void)
{
    const char *root = getenv("POLESTAR_MODELS");
    return root && *root ? root : PS_TEST_DATA "/../../../shared/models";
}

/* path of the model's folder, in tests/models or in the root above; false if it is in neither. */
static inline bool model_folder(const char *name, char *buf, size_t size)
{
    const char *roots[] = { PS_TEST_DATA "/../models", model_root() };
    for (size_t i = 0; i < 2; i++) {
        char path[1024];
        ps_snprintf(buf, size, "%s/%s", roots[i], name);
        ps_snprintf(path, sizeof path, "%s/model.onnx", buf);
        if (ps_file_exists(path)) return true;
    }
    return false;
}

/* Tensors PREFIX_0.pb, PREFIX_1.pb … of a data set; `ret` owns those made so far also on failure. */
typedef struct model_tensors {
    ps_tensor *t[MODEL_MAX_ENDS];
    size_t n;
} model_tensors;

static inline ps_status model_tensors_load(ps_engine *e, const char *folder, int set, const char *prefix,
                                           model_tensors *ret, ps_error *err) {
    ret->n = 0;
    for (; ret->n < MODEL_MAX_ENDS; ret->n++) {
        char path[1024];
        ps_snprintf(path, sizeof path, "%s/test_data_set_%d/%s_%zu.pb", folder, set, prefix, ret->n);
        if (!ps_file_exists(path)) break;
        ps_status status = ps_tensor_load(e, path, &ret->t[ret->n], err);
        if (status != PS_OK) return status;
    }
    return PS_OK;
}

static inline void model_tensors_release(model_tensors *m)
{
    while (m->n > 0) ps_tensor_release(m->t[--m->n]);
}

static inline ps_status model_load(ps_engine *e, const char *folder, const char *device, int threads, ps_model **ret,
                                   ps_error *err) {
    char path[1024];
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = device;
    o.threads = threads;
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    return ps_model_load(e, path, &o, ret, err);
}

#endif
