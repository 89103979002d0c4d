/* onnx_int.h - what the files of this folder share. The README has the control flow. */
#ifndef PS_ONNX_ONNX_INT_H
#define PS_ONNX_ONNX_INT_H

#include "base/map.h"
#include "base/os.h"
#include "base/vec.h"
#include "onnx.pb-c.h"
#include "onnx/onnx.h"

/* Limits on what a file may ask for. A real model stays far below each of them. */
#define PS_ONNX_MAX_FILE ((size_t)INT32_MAX)      /* protobuf's own limit */
#define PS_ONNX_MAX_STRUCTURE ((size_t)256 << 20) /* bytes of a model without its weights */
#define PS_ONNX_MAX_FIELDS ((size_t)16 << 20)     /* protobuf fields outside of weights */
#define PS_ONNX_MAX_MESSAGE_DEPTH 250             /* of nested protobuf messages: bounds the stack */
#define PS_ONNX_MAX_SPARSE ((size_t)64 << 20)     /* bytes of all sparse tensors of a model, written out */
#define PS_ONNX_MAX_CALL_DEPTH 64                 /* of functions calling functions */
#define PS_ONNX_NEWEST_IR 14
#define PS_ONNX_NEWEST_OPSET 28

/* ---- cut.c: weights are cut out before protobuf-c sees the file ---- */

/* Body of one TensorProto inside the file; its bulk fields are read straight from there. */
typedef struct ps_onnx_span {
    size_t offset, size;
} ps_onnx_span;

/* A message without tensor payloads. Where a TensorProto had any, its raw_data now holds one varint: an index of spans.
 */
typedef struct ps_onnx_cut {
    uint8_t *data;
    size_t size;
    ps_onnx_span *spans;
    size_t n_spans;
} ps_onnx_cut;

/* Walks a message of the given kind: the whole structure is checked for bounds, depth and size, and copied. */
ps_status ps_onnx_cut_message(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const void *data,
                              size_t size, ps_onnx_cut *ret, ps_error *err);
void ps_onnx_cut_release(ps_alloc_state *alloc, ps_onnx_cut *cut);

/* ---- proto.c: a message in memory ---- */

/* An unpacked message and the bytes it came from. `data` stays valid until close: payloads are read from it. */
typedef struct ps_onnx_proto {
    ps_alloc_state *alloc;
    const uint8_t *data;
    size_t size;
    ps_file_map map;   /* map.data is NULL if the bytes are the caller's, or */
    uint8_t *unpacked; /* those of a compressed file */
    ps_onnx_cut cut;   /* cut.data is released after unpacking, the spans stay */
    ProtobufCMessage *message;
} ps_onnx_proto;

/* path: maps the file. Otherwise reads data, which must outlive the proto. */
ps_status ps_onnx_proto_open_file(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const char *path,
                                  ps_onnx_proto *ret, ps_error *err);
ps_status ps_onnx_proto_open_memory(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const void *data,
                                    size_t size, ps_onnx_proto *ret, ps_error *err);
void ps_onnx_proto_close(ps_onnx_proto *proto);
/* For protobuf-c's functions on messages that live in alloc. */
void ps_onnx_proto_allocator(ps_alloc_state *alloc, ProtobufCAllocator *ret);
/* Gives source pages back to the system once their content has been copied. p lies in proto->data. */
void ps_onnx_proto_drop(const ps_onnx_proto *proto, const uint8_t *p, size_t size);
/* Hash of all bytes, reading the file once in pieces. */
uint64_t ps_onnx_proto_digest(const ps_onnx_proto *proto);

/* ---- external.c: weights in files beside the model ---- */
typedef struct ps_onnx_external_file {
    char *location;   /* as the model spells it */
    ps_tensor *bytes; /* of the whole file, mapped */
} ps_onnx_external_file;

typedef struct ps_onnx_external {
    ps_alloc_state *alloc;
    char *folder; /* resolved path of the model's folder, or NULL: there is none, external data is refused */
    PS_VEC(ps_onnx_external_file) files;
} ps_onnx_external;

/* path of the model, or NULL for a model in memory. */
ps_status ps_onnx_external_init(ps_onnx_external *ext, ps_alloc_state *alloc, const char *path, ps_error *err);
void ps_onnx_external_release(ps_onnx_external *ext);
/* The file, borrowed, and where in it the `bytes` bytes lie that a tensor's external_data names. */
ps_status ps_onnx_external_find(ps_onnx_external *ext, const Onnx__TensorProto *t, const char *label, size_t bytes,
                                ps_tensor **ret_file, size_t *ret_offset, ps_error *err);

/* ---- tensor_proto.c ---- */
/* Copies a TensorProto into a tensor of its own. label starts every error: "initializer 'w'". ext may be NULL: refuse.
 */
ps_status ps_onnx_tensor_decode(const ps_onnx_proto *proto, ps_onnx_external *ext, const Onnx__TensorProto *t,
                                const char *label, ps_tensor **ret, ps_error *err);
/* Dtype and dims of a TensorProto, checked; *ret_bytes of its packed data. */
ps_status ps_onnx_tensor_header(const Onnx__TensorProto *t, const char *label, ps_dtype *ret_dtype, ps_shape *ret_shape,
                                size_t *ret_bytes, ps_error *err);
/* Checked dims into a fixed shape. */
ps_status ps_onnx_dims(const int64_t *dims, size_t n, const char *label, ps_shape *ret, ps_error *err);

/* ---- sparse.c ---- */
/* Writes a SparseTensorProto out as a dense tensor; *budget bytes are left for that and are reduced. */
ps_status ps_onnx_sparse_decode(const ps_onnx_proto *proto, ps_onnx_external *ext, const Onnx__SparseTensorProto *s,
                                const char *label, size_t *budget, ps_tensor **ret, ps_error *err);

/* ---- pool.c: one copy of equal tensors ---- */
typedef struct ps_onnx_pool_slot {
    uint64_t hash;
    ps_tensor *tensor; /* retained */
} ps_onnx_pool_slot;

typedef struct ps_onnx_pool {
    ps_alloc_state *alloc;
    ps_onnx_pool_slot *slots;
    size_t room, size;
    size_t elements, bytes;       /* of the tensors in the pool */
    uint64_t limit, tensor_limit; /* on bytes; of one tensor */
} ps_onnx_pool;

void ps_onnx_pool_init(ps_onnx_pool *pool, ps_alloc_state *alloc, const ps_onnx_limits *limits);
void ps_onnx_pool_release(ps_onnx_pool *pool);
/* Replaces *tensor by an equal one of the pool (reference and all), or adds it. On failure *tensor is untouched. */
ps_status ps_onnx_pool_intern(ps_onnx_pool *pool, ps_tensor **tensor, const char *label, ps_error *err);

/* ---- import.c and its parts ---- */

/* A call of a model-local function that is being replaced by its body (function.c). */
typedef struct ps_onnx_call {
    struct ps_onnx_call *outer; /* the call in whose body this one stands, or NULL */
    const Onnx__FunctionProto *function;
    const Onnx__NodeProto *node;
    ps_graph *host;     /* graph that gets the nodes */
    const char *prefix; /* of names */
    ps_map names;       /* of the body → what they stand for */
    int depth;
} ps_onnx_call;

typedef struct ps_onnx_import {
    ps_alloc_state *alloc;
    const ps_onnx_proto *proto;
    const Onnx__ModelProto *model;
    ps_onnx_external external;
    ps_onnx_pool pool;
    size_t sparse_budget;
    ps_graph *root;
    ps_onnx_info *info;
    ps_map op_counts;   /* "domain::Op" → ps_onnx_op_count */
    ps_map functions;   /* "domain::name:overload" → Onnx__FunctionProto */
    ps_map decoded;     /* attribute tensors of functions by address: calls share them */
    ps_onnx_call *call; /* whose body the nodes at hand belong to, or NULL */
    ps_onnx_limits limits;
    size_t nodes; /* so far, with those of called functions */
    int depth;    /* of the graph at hand; the root is 1 */
} ps_onnx_import;

/* Fills g (fresh, empty) from p, subgraphs included. */
ps_status ps_onnx_import_graph(ps_onnx_import *im, const Onnx__GraphProto *p, ps_graph *g, ps_error *err);
/* Nodes of g or of a function called in it, in the two visits that let any order be read. */
ps_status ps_onnx_import_nodes(ps_onnx_import *im, Onnx__NodeProto *const *nodes, size_t n, ps_graph *g, ps_error *err);

/* ---- function.c ---- */
ps_status ps_onnx_functions_read(ps_onnx_import *im, ps_error *err);
/* The function that a node calls; NULL for an operator. */
ps_status ps_onnx_function_find(ps_onnx_import *im, const Onnx__NodeProto *n, const Onnx__FunctionProto **ret,
                                ps_error *err);
/* Puts the function's nodes into g instead of the call, between its inputs and outputs. */
ps_status ps_onnx_function_call(ps_onnx_import *im, const Onnx__FunctionProto *f, const Onnx__NodeProto *n, ps_graph *g,
                                ps_value *const *in, ps_value *const *out, const char *label, ps_error *err);
/* Version of a domain where the walk stands; 0: not imported. */
int64_t ps_onnx_opset(const ps_onnx_import *im, const char *domain);
/* What a name stands for, seen from g. NULL: nothing, or (*ret_omitted) an input that a function's caller omits. */
ps_value *ps_onnx_lookup(const ps_onnx_import *im, const ps_graph *g, const char *name, bool *ret_omitted);
/* A value that ps_onnx_define has made. */
ps_value *ps_onnx_find_output(const ps_onnx_import *im, const ps_graph *g, const char *name);
/* The value of a name that must be new where the walk stands. */
ps_status ps_onnx_define(ps_onnx_import *im, ps_graph *g, const char *name, const char *label, ps_value **ret,
                         ps_error *err);
/* A node's name in the graph, written to buf if it is another one. */
const char *ps_onnx_node_name(const ps_onnx_import *im, const ps_graph *g, const char *name, char *buf, size_t size);
/* What an attribute refers to, through all calls; NULL: nobody gives it. *ret_scope is where its subgraphs belong. */
const Onnx__AttributeProto *ps_onnx_attr_follow(const ps_onnx_import *im, const Onnx__AttributeProto *a,
                                                ps_onnx_call **ret_scope);

/* attr.c: one attribute onto a node that is in its graph; label is the node's. */
ps_status ps_onnx_import_attr(ps_onnx_import *im, ps_node *node, const Onnx__AttributeProto *a, const char *label,
                              ps_error *err);
/* attr.c: the tensor that a Constant node stands for. */
ps_status ps_onnx_constant_value(ps_onnx_import *im, const Onnx__NodeProto *n, const char *label, ps_tensor **ret,
                                 ps_error *err);
/* type_proto.c: what a TypeProto says; dtype undefined for no type and for a sparse tensor. Symbols are made in g's
 * root. */
typedef struct ps_onnx_type {
    ps_dtype dtype; /* or the kind of a container */
    ps_dtype elem;  /* of a container's elements */
    ps_shape shape;
} ps_onnx_type;
ps_status ps_onnx_type_read(ps_graph *g, const Onnx__TypeProto *type, const char *label, ps_onnx_type *ret,
                            ps_error *err);
/* "a map", "a sequence" … for messages. */
const char *ps_onnx_type_kind(const Onnx__TypeProto *type);

/* info.c */
ps_status ps_onnx_info_begin(ps_onnx_import *im, ps_error *err);
ps_status ps_onnx_info_count(ps_onnx_import *im, const Onnx__NodeProto *n, ps_error *err);
ps_status ps_onnx_info_finish(ps_onnx_import *im, ps_error *err);

/* "" for NULL and, as a domain, for "ai.onnx". */
const char *ps_onnx_text(const char *s);
const char *ps_onnx_domain(const char *s);
/* Refuses control characters and broken UTF-8 in a name; what: "node name". */
ps_status ps_onnx_check_name(const char *what, const char *name, ps_error *err);

#define PS_ONNX_LABEL 200 /* size of label buffers */

#endif
