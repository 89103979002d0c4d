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

typedef struct ps_onnx_write_options {
    const char *external;  /* name of a file for weights beside the model; NULL: they are written into it */
    size_t external_bytes; /* tensors of at least so many bytes go there; 0: 1024 */
    int zstd_level;        /* 0: not compressed; 1 to 19 */
} ps_onnx_write_options;

/* Writes the model to path by renaming. options may be NULL. External weights start at multiples of 4096 bytes, so that
 * loading can map them. */
ps_status ps_onnx_edit_write(ps_onnx_edit *edit, const char *path, const ps_onnx_write_options *options, ps_error *err);

#endif
