/* program.h - what the files of this folder share about the exported program; the README has the control flow. */
#ifndef PS_TORCH_PROGRAM_H
#define PS_TORCH_PROGRAM_H

#include <jansson.h>

#include "torch/archive.h"
#include "torch/torch.h"

/* Limits on what an archive may ask for. */
#define PS_TORCH_MAX_JSON ((size_t)64 << 20)     /* bytes of one JSON entry; jansson needs some ten times that */
#define PS_TORCH_MAX_EXPANDED ((size_t)64 << 20) /* bytes that strided weights may take beyond what is stored */
#define PS_TORCH_MAX_DEPTH 32                    /* of nested subgraphs */
#define PS_TORCH_OLDEST_SCHEMA 7
#define PS_TORCH_NEWEST_SCHEMA 8

/* ---- json.c: reading with a sentence for what is not as it must be ---- */
/* A member of the given kind, or a failure naming `what`. */
ps_status ps_member_object(const json_t *in, const char *key, const char *what, json_t **ret, ps_error *err);
ps_status ps_member_array(const json_t *in, const char *key, const char *what, json_t **ret, ps_error *err);
ps_status ps_member_text(const json_t *in, const char *key, const char *what, const char **ret, ps_error *err);
ps_status ps_member_int(const json_t *in, const char *key, const char *what, int64_t *ret, ps_error *err);
/* An entry of the archive as JSON; json_decref it. */
ps_status ps_json_entry(ps_archive *archive, const char *name, json_t **ret, ps_error *err);
/* Numbers may be spelled as text: "Infinity", "-Infinity", "NaN". */
bool ps_json_double(const json_t *v, double *ret);
/* The only member of a union object, with its kind in *ret_kind; NULL if it is none. */
json_t *ps_json_union(const json_t *v, const char **ret_kind);

/* ---- meta.c: TensorMeta ---- */
/* A ScalarType number; PS_DTYPE_UNDEFINED for one that is not known. */
ps_dtype ps_torch_dtype(int64_t scalar_type);
/* dtype and sizes; symbols are made in root, or are PS_DIM_UNKNOWN with root NULL. */
ps_status ps_torch_meta(const json_t *meta, const char *what, ps_graph *root, ps_dtype *ret_dtype, ps_shape *ret_shape,
                        ps_error *err);
/* A symbolic expression as people write it: "s77", "2*s77"; false if it is of no such form. */
bool ps_torch_expr_text(const char *expr, ps_str *out);

/* ---- weights.c: parameters, buffers and constants by name ---- */

/* A table that torch.save wrote (before PyTorch 2.9): an archive within the archive. */
typedef struct ps_torch_saved {
    ps_archive archive;
    ps_map tensors; /* name → ps_torch_stored */
} ps_torch_saved;

typedef struct ps_torch_weights {
    ps_alloc_state *alloc;
    ps_archive *archive;
    json_t *config, *constants; /* name → PayloadMeta; NULL: there are none */
    ps_torch_saved saved[2];    /* weights, constants */
    ps_onnx_limits limits;      /* 0: the default */
    ps_map made;                /* place and type → ps_tensor: tied weights are one tensor */
    ps_arena arena;
    size_t elements, bytes, expanded; /* made so far */
} ps_torch_weights;

ps_status ps_torch_weights_open(ps_torch_weights *w, ps_archive *archive, const char *model, ps_error *err);
void ps_torch_weights_close(ps_torch_weights *w);
/* The tensor of a parameter, buffer or constant; the caller gets a reference. */
ps_status ps_torch_weight(ps_torch_weights *w, const char *name, ps_tensor **ret, ps_error *err);

/* ---- import.c: the program into a graph ---- */
ps_status ps_torch_import(ps_alloc_state *alloc, const json_t *program, ps_torch_weights *weights, ps_graph **ret,
                          ps_onnx_info *info, ps_error *err);

/* Refuses control characters in a name; jansson has checked the UTF-8. */
ps_status ps_torch_check_name(const char *what, const char *name, ps_error *err);

#endif
