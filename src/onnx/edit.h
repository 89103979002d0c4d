/* edit.h - an ONNX file opened to be changed and written again.
 *
 * What is not touched survives: fields this library does not know, names, order, metadata. Payloads of tensors are read
 * from the file when they are asked for and when the model is written, so a model costs its structure and what was
 * replaced. One thread at a time. */
#ifndef PS_ONNX_EDIT_H
#define PS_ONNX_EDIT_H

#include "onnx/onnx.h"

struct Onnx__ModelProto;

typedef struct ps_onnx_edit ps_onnx_edit;

/* A .onnx or .onnx.zst file. External data is found beside it, as when a model is loaded. */
ps_status ps_onnx_edit_open(ps_alloc_state *alloc, const char *path, ps_onnx_edit **ret, ps_error *err);
void ps_onnx_edit_close(ps_onnx_edit *edit); /* NULL is allowed */

/* The message (onnx.pb-c.h), to change whatever has no function here. Its memory comes from `alloc` (ps_alloc) and is
 * freed with it. raw_data of a tensor holds a number of ours, not its bytes. */
struct Onnx__ModelProto *ps_onnx_edit_message(ps_onnx_edit *edit);

/* Initializers of the graph and of all subgraphs, in the order of the file. The name is borrowed; the tensor is a copy
 * or, where external data lies well, a view that lives as long as it is held. */
size_t ps_onnx_edit_tensors(const ps_onnx_edit *edit);
ps_status ps_onnx_edit_tensor(ps_onnx_edit *edit, size_t index, const char **ret_name, ps_tensor **ret, ps_error *err);
/* Gives initializer `index` another type, shape and content; its name and other fields stay. Retains t. No strings. */
ps_status ps_onnx_edit_replace(ps_onnx_edit *edit, size_t index, ps_tensor *t, ps_error *err);

/* ---- nodes of the main graph, by position ---- */
typedef struct ps_onnx_node_view { /* borrowed, valid until the node is changed or removed */
    const char *op_type, *domain, *name;
    char *const *in, *const *out;
    size_t n_in, n_out;
} ps_onnx_node_view;

typedef struct ps_onnx_attr_spec {
    const char *name;
    ps_attr_type type; /* INT, INTS, FLOAT or STRING */
    int64_t i;
    float f;
    const char *s;
    const int64_t *ints;
    size_t n; /* of ints */
} ps_onnx_attr_spec;

typedef struct ps_onnx_node_spec {
    const char *op_type, *domain, *name; /* NULL: "" */
    const char *const *in, *const *out;
    size_t n_in, n_out;
    const ps_onnx_attr_spec *attrs;
    size_t n_attrs;
} ps_onnx_node_spec;

size_t ps_onnx_edit_node_count(const ps_onnx_edit *edit);
ps_onnx_node_view ps_onnx_edit_node(const ps_onnx_edit *edit, size_t index);
/* The new node stands at `index` afterwards. Everything is copied. */
ps_status ps_onnx_edit_insert_node(ps_onnx_edit *edit, size_t index, const ps_onnx_node_spec *spec, ps_error *err);
/* index <= n_in: a node may get one more. */
ps_status ps_onnx_edit_set_input(ps_onnx_edit *edit, size_t node, size_t index, const char *name, ps_error *err);
ps_status ps_onnx_edit_set_output(ps_onnx_edit *edit, size_t node, size_t index, const char *name, ps_error *err);
void ps_onnx_edit_remove_node(ps_onnx_edit *edit, size_t index);
/* Is the name read by a node of the main graph or of a subgraph, or an output of the main graph? */
bool ps_onnx_edit_is_read(const ps_onnx_edit *edit, const char *name);
/* Does anything in the main graph define the name: an input, an initializer, a node? */
bool ps_onnx_edit_is_defined(const ps_onnx_edit *edit, const char *name);

/* An initializer of the main graph; retains the tensor. No strings. */
ps_status ps_onnx_edit_add_initializer(ps_onnx_edit *edit, const char *name, ps_tensor *t, ps_error *err);
/* Takes the initializer, and the input of that name that older models list beside it, out of the main graph. false: it
 * has none. */
bool ps_onnx_edit_remove_initializer(ps_onnx_edit *edit, const char *name);

/* ---- the model ---- */
/* Adds or replaces an entry of metadata_props. */
ps_status ps_onnx_edit_set_metadata(ps_onnx_edit *edit, const char *key, const char *value, ps_error *err);
/* 0: the model imports no version of the domain ("" is ai.onnx). */
int64_t ps_onnx_edit_opset(const ps_onnx_edit *edit, const char *domain);
/* Records a version; no node is changed. Raises ir_version to the oldest that such an opset stands with. */
ps_status ps_onnx_edit_set_opset(ps_onnx_edit *edit, const char *domain, int64_t version, ps_error *err);
/* Hash of the file as it was opened. */
uint64_t ps_onnx_edit_digest(const ps_onnx_edit *edit);

/* Rewrites the main graph and all subgraphs for a later version of ai.onnx (7 … 21), one rule per change of meaning
 * (upgrade.c), and records it. types: the same model as a graph with inferred shapes, for rules that need a rank; may
 * be NULL. Nothing happens if the model has that version or a later one; PS_UNSUPPORTED, with the model half changed,
 * for what has no equivalent. */
ps_status ps_onnx_edit_upgrade(ps_onnx_edit *edit, int64_t version, const ps_graph *types, ps_error *err);

typedef struct ps_onnx_write_options {
    const char *external;  /* name of a file for weights beside the model; NULL: they are written into it */
    size_t external_bytes; /* tensors of at least so many bytes go there; 0: 1024 */
    int zstd_level;        /* 0: not compressed; 1 to 19 */
} ps_onnx_write_options;

/* Writes the model to path by renaming. options may be NULL. External weights start at multiples of 4096 bytes, so that
 * loading can map them. */
ps_status ps_onnx_edit_write(ps_onnx_edit *edit, const char *path, const ps_onnx_write_options *options, ps_error *err);

/* How many bytes a .zst of it would have at that level (1 … 19). */
ps_status ps_onnx_edit_packed_bytes(ps_onnx_edit *edit, int zstd_level, uint64_t *ret, ps_error *err);
/* The file's bytes, uncompressed and with all weights inside; ps_free them. */
ps_status ps_onnx_edit_pack(ps_onnx_edit *edit, void **ret_data, size_t *ret_size, ps_error *err);

#endif
