/* onnx.h - ONNX files into graphs, and ONNX tensors in both directions. */
#ifndef PS_ONNX_ONNX_H
#define PS_ONNX_ONNX_H

#include "graph/graph.h"

typedef struct ps_onnx_op_count {
    const char *name; /* "Conv", or "domain::Op" outside ai.onnx */
    size_t count;
} ps_onnx_op_count;

/* What a file says about itself; strings in its own arena. */
typedef struct ps_onnx_info {
    ps_arena arena;
    const char *producer, *graph_name;
    int64_t ir_version, opset;
    size_t file_bytes, nodes; /* nodes of all subgraphs */
    size_t parameters, weight_bytes;
    const char **metadata; /* key, value, key, value … */
    size_t n_metadata;     /* pairs */
    ps_onnx_op_count *ops; /* most frequent first, then by name */
    size_t n_ops;
    bool external;   /* weights lie in files beside it */
} ps_onnx_info;

void ps_onnx_info_release(ps_onnx_info *info);

/* What a file may ask for; 0: the default. docs/limits.md has all of them. */
typedef struct ps_onnx_limits {
    size_t nodes;          /* of all graphs, with those of called functions; default PS_ONNX_DEFAULT_NODES */
    int depth;             /* of nested subgraphs; default and largest: PS_MAX_SUBGRAPH_DEPTH */
    uint64_t tensor_bytes; /* of one tensor; default: the machine's memory */
    uint64_t total_bytes;  /* of all different tensors; default: the machine's memory */
} ps_onnx_limits;

#define PS_ONNX_DEFAULT_NODES ((size_t)1 << 20)

/* A file, or bytes in memory where path is NULL. */
typedef struct ps_onnx_source {
    const char *path;
    const void *data;
    size_t size;
    ps_onnx_limits limits;
} ps_onnx_source;

/* Reads a model. The graph is sorted, checked for structure and unresolved (see ps_ops_resolve); initializers and
 * Constant nodes became constants, deduplicated by content; dims -1, "?" and "" are unknown. External data must lie
 * below the model's folder. Every limit and malformation gives one sentence naming the object. */
ps_status ps_onnx_load(ps_alloc_state *alloc, const ps_onnx_source *from, ps_graph **ret_graph, ps_onnx_info *ret_info,
                       ps_error *err);
/* The same with the default limits. */
ps_status ps_onnx_load_file(ps_alloc_state *alloc, const char *path, ps_graph **ret_graph, ps_onnx_info *ret_info,
                            ps_error *err);
ps_status ps_onnx_load_memory(ps_alloc_state *alloc, const void *data, size_t size, ps_graph **ret_graph,
                              ps_onnx_info *ret_info, ps_error *err);

/* A serialized TensorProto, as in the test_data_set folders. */
ps_status ps_onnx_tensor_read(ps_alloc_state *alloc, const void *data, size_t size, ps_tensor **ret,
                              const char **ret_name,
                              ps_error *err); /* ret_name may be NULL; else ps_free'd by the caller */
ps_status ps_onnx_tensor_write(ps_alloc_state *alloc, const ps_tensor *t, const char *name, void **ret_data,
                               size_t *ret_size, ps_error *err);
/* The same for a value of any type. kind tells what the bytes are: PS_DTYPE_SEQUENCE, _OPTIONAL, _MAP
 * (SequenceProto …), or any other: a TensorProto. */
ps_status ps_onnx_value_read(ps_alloc_state *alloc, const void *data, size_t size, ps_dtype kind, ps_tensor **ret,
                             ps_error *err);
ps_status ps_onnx_value_write(ps_alloc_state *alloc, const ps_tensor *t, const char *name, void **ret_data,
                              size_t *ret_size, ps_error *err);

#endif
