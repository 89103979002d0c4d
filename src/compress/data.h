/* data.h - samples for calibration and validation, read one at a time.
 *
 * A sample is one tensor for each of the model's inputs. Kinds: a folder of photos, of .npy or .npz files, or of
 * test_data_set_* folders (one sample each); a .npy or .npz file, whose first dim counts samples. */
#ifndef PS_COMPRESS_DATA_H
#define PS_COMPRESS_DATA_H

#include "base/vec.h"
#include "polestar/io.h"
#include "polestar/model.h"
#include "tensor/tensor.h"

typedef enum ps_data_kind { PS_DATA_PHOTOS, PS_DATA_ARRAYS, PS_DATA_SETS, PS_DATA_ROWS } ps_data_kind;

typedef struct ps_data_item {
    char *name;    /* relative to the folder */
    int64_t label; /* -1: none */
} ps_data_item;

typedef struct ps_dataset {
    ps_engine *engine;
    ps_alloc_state *alloc;
    const ps_model *model;
    ps_data_kind kind;
    char *path;
    PS_VEC(ps_data_item) items; /* files or folders; empty for PS_DATA_ROWS */
    ps_tensor **rows;           /* PS_DATA_ROWS: one for each input */
    size_t n, n_inputs;
    int64_t step; /* rows of a sample; 0: the whole array is one */
    bool labelled;
    ps_preprocess preprocess;
    ps_tensor **kept; /* [n][n_inputs] of samples that fit into `room`, or NULL */
    size_t room;
    bool *bad; /* [n] could not be read */
} ps_dataset;

/* Borrows the model. preprocess may be NULL. */
ps_status ps_dataset_open(ps_engine *engine, const ps_model *model, const char *path, const ps_preprocess *preprocess,
                          ps_dataset *ret, ps_error *err);
void ps_dataset_close(ps_dataset *data); /* of a zeroed one too */
/* Fills ret[n_inputs]; release each. Sentences name the file. */
ps_status ps_dataset_get(ps_dataset *data, size_t index, ps_tensor **ret, ps_error *err);
int64_t ps_dataset_label(const ps_dataset *data, size_t index); /* -1: it has none */
const char *ps_dataset_name(const ps_dataset *data, size_t index, char *buf, size_t size);

#endif
