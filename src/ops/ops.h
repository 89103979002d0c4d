/* ops.h - the operator table: one row per change of meaning in ONNX.
 *
 * A row holds the operator's arity, attribute table, shape rule and reference kernel. The reference kernel is a plain
 * loop: the oracle for every backend, and the fallback. Rows live in one file per family (conv.c, reduce.c …), each
 * ending in its table; ops.c lists the families. docs/adding-an-operator.md walks through an addition. */
#ifndef PS_OPS_OPS_H
#define PS_OPS_OPS_H

#include <stddef.h>

#include "graph/graph.h"

/* ---- attributes ----
 * Each operator with attributes declares a struct in ops/params.h, filled from its attribute table. Lists become
 * ps_ints / ps_floats (arena memory, n == 0 and data == NULL when absent). */
typedef struct ps_ints {
    const int64_t *data;
    size_t n;
} ps_ints;
typedef struct ps_floats {
    const float *data;
    size_t n;
} ps_floats;
typedef struct ps_strings {
    const char *const *data;
    size_t n;
} ps_strings;

enum { PS_ATTR_REQUIRED = 1 };

typedef struct ps_attr_def {
    const char *name;
    ps_attr_type type; /* INT → int64_t, FLOAT → float, STRING → const char *, INTS → ps_ints, FLOATS → ps_floats,
                          STRINGS → ps_strings, TENSOR → ps_tensor *, GRAPH → ps_graph * */
    size_t offset;     /* in the params struct */
    int64_t def_i;     /* defaults */
    float def_f;
    const char *def_s;
    unsigned flags;
} ps_attr_def;

/* Rows of an attribute table: field names and attribute names agree. End the table with PS_ATTRS_END. */
#define PS_A_INT(st, field, def)                                                                                       \
    { #field, PS_ATTR_INT, offsetof(st, field), (def), 0, NULL, 0 }
#define PS_A_INT_REQ(st, field)                                                                                        \
    { #field, PS_ATTR_INT, offsetof(st, field), 0, 0, NULL, PS_ATTR_REQUIRED }
#define PS_A_FLOAT(st, field, def)                                                                                     \
    { #field, PS_ATTR_FLOAT, offsetof(st, field), 0, (def), NULL, 0 }
#define PS_A_STR(st, field, def)                                                                                       \
    { #field, PS_ATTR_STRING, offsetof(st, field), 0, 0, (def), 0 }
#define PS_A_INTS(st, field)                                                                                           \
    { #field, PS_ATTR_INTS, offsetof(st, field), 0, 0, NULL, 0 }
#define PS_A_FLOATS(st, field)                                                                                         \
    { #field, PS_ATTR_FLOATS, offsetof(st, field), 0, 0, NULL, 0 }
#define PS_A_STRINGS(st, field)                                                                                        \
    { #field, PS_ATTR_STRINGS, offsetof(st, field), 0, 0, NULL, 0 }
#define PS_A_TENSOR(st, field)                                                                                         \
    { #field, PS_ATTR_TENSOR, offsetof(st, field), 0, 0, NULL, 0 }
#define PS_A_GRAPH_REQ(st, field)                                                                                      \
    { #field, PS_ATTR_GRAPH, offsetof(st, field), 0, 0, NULL, PS_ATTR_REQUIRED }
#define PS_ATTRS_END                                                                                                   \
    { NULL, PS_ATTR_NONE, 0, 0, 0, NULL, 0 }

/* ---- shape rule ----
 * Reads node->in[i] (dtype, shape, constant) and sets node->out[i]->dtype and ->shape through ps_infer_set. Shapes may
 * be unknown or symbolic: say as much as can be said (rank -1 if nothing). Contradictions between known facts fail with
 * PS_SHAPE or PS_TYPE and a sentence naming the node (ps_node_label), the values and the rule. When every input shape
 * is fixed, and every input that the rule reads as data is constant, the output shapes must come out fixed; an operator
 * whose output shape depends on data that is not constant leaves rank or dims unknown. Never allocates on the heap. */
typedef ps_status (*ps_infer_fn)(const ps_node *node, ps_error *err);

/* ---- reference kernel ----
 * in/out tensors are row-major with fixed shapes, dtypes and attributes already checked by the shape rule, which ran
 * with the very same shapes. Entries of in[] and out[] may be NULL where optional. An output whose shape the shape rule
 * could not tell arrives with data == NULL and is made by ps_kernel_output; so does every string output, which owns its
 * bytes. No data of out[] overlaps in[] unless the row has PS_OP_INPLACE. Must cope with zero-size dims and rank 0. */
typedef struct ps_kernel_ctx {
    const ps_node *node;
    const void *params; /* node->params */
    const ps_tensor *const *in;
    size_t n_in;
    ps_tensor *const *out;
    size_t n_out;
    ps_alloc_state *alloc; /* scratch: ps_alloc / ps_free inside the kernel */
    int threads;           /* for ps_parallel_for */
} ps_kernel_ctx;

typedef ps_status (*ps_kernel_fn)(const ps_kernel_ctx *ctx, ps_error *err);

/* ---- prepared attributes ----
 * Called once the attributes are in node->params: checks them where a rule of the table cannot, and derives what every
 * run would otherwise derive anew (the nodes of a forest, a table of labels, a compiled pattern). The result goes into
 * further fields of params and lies in the arena of the graph. */
typedef ps_status (*ps_prepare_fn)(ps_node *node, ps_error *err);

/* Gives output i its shape and zeroed storage. */
ps_status ps_kernel_output(const ps_kernel_ctx *ctx, size_t i, ps_dtype dtype, const ps_shape *shape, ps_error *err);

/* ---- traits ---- */
enum {
    PS_OP_POINTWISE = 1,    /* out[k] depends on the inputs at k only (numpy broadcasting) */
    PS_OP_INPLACE = 2,      /* out[0] may use the memory of in[0] if dtype and shape agree */
    PS_OP_VIEW = 4,         /* out[0] is in[0]'s row-major memory under another shape (Reshape, Squeeze …) */
    PS_OP_CONTROL = 8,      /* has subgraphs; run by the runtime, no reference kernel */
    PS_OP_RANDOM = 16,      /* never folded */
    PS_OP_SHAPE_ONLY = 32,  /* reads only the shape of in[0] (Shape, Size): foldable as soon as that is fixed */
    PS_OP_DATA_SHAPE = 64,  /* output shape depends on data even when all input shapes are known (NonZero) */
    PS_OP_EXPANDS = 128,    /* folding it would grow bytes (Expand, ConstantOfShape, Tile, weight Cast/Dequantize) */
    PS_OP_CONTAINERS = 256, /* takes sequences, optionals or maps; operators without it, or CONTROL, are given none */
};

#define PS_VARIADIC 255

struct ps_op {
    const char *name;
    const char *domain; /* "" or "polestar" … */
    int since;          /* first opset version with this meaning */
    uint8_t min_in, max_in, min_out, max_out;
    const ps_attr_def *attrs; /* NULL: none are read (unknown attributes are always ignored with a debug line) */
    size_t params_size;
    ps_infer_fn infer;
    ps_kernel_fn ref; /* NULL for PS_OP_CONTROL */
    uint32_t traits;
    ps_prepare_fn prepare; /* NULL: the attributes are used as they are */
};

typedef struct ps_op_family {
    const char *name;
    const ps_op *ops;
    size_t n;
} ps_op_family;

#define PS_OP_FAMILY(name, table)                                                                                      \
    { (name), (table), sizeof(table) / sizeof((table)[0]) }

/* All families in a fixed order; *ret_n of them. Static storage. */
const ps_op_family *const *ps_ops_families(size_t *ret_n);
/* Greatest `since` <= version; NULL if there is none. "ai.onnx" equals "". */
const ps_op *ps_ops_find(const char *name, const char *domain, int64_t version);

/* The row of a node: the one it has, or that of the opset its model imports, whose version is written to *ret_version
 * (may be NULL). NULL: there is none. */
const ps_op *ps_ops_row(const ps_node *node, int64_t *ret_version);
/* PS_UNSUPPORTED, with a sentence on a node without a row: operator, domain, version, what comes closest, and how many
 * more operators the model's other nodes lack. */
ps_status ps_ops_refuse(const ps_node *node, ps_error *err);
/* Resolves every node of the tree against the table: node->op, node->params; checks arity and attributes. An operator
 * that is not in the table fails with PS_UNSUPPORTED naming operator, domain, version and node. */
ps_status ps_ops_resolve(ps_graph *root, ps_error *err);
/* The same for one node (after a pass made it). */
ps_status ps_ops_resolve_node(ps_node *node, ps_error *err);

/* ---- helpers for shape rules ---- */
/* Sets or refines out[i]; no-op if that output is omitted. */
void ps_infer_set(const ps_node *node, size_t i, ps_dtype dtype, const ps_shape *shape);
/* out[i] is a container of `kind` with elements of type elem (PS_DTYPE_UNDEFINED: unknown); how many, only a run tells
 * (n < 0), or n. */
void ps_infer_container(const ps_node *node, size_t i, ps_dtype kind, ps_dtype elem, int64_t n);
/* Says of a container what its elements are; no-op for what is unknown or omitted. */
void ps_infer_elem(const ps_node *node, size_t i, ps_dtype elem);
ps_status ps_infer_same(const ps_node *node, ps_error *err);      /* out[0] = in[0] */
ps_status ps_infer_broadcast(const ps_node *node, ps_error *err); /* out[0]: dtype of in[0], broadcast of all inputs */
/* Runs the shape rules over the tree in order; fixed shapes in, as fixed as possible out. Declared output shapes are
 * never read. Subgraphs without inputs (the branches of If) are done before the rule of their node; a rule whose
 * subgraph has inputs (Loop, Scan) sets what it knows about them and calls ps_ops_infer_graph itself. */
ps_status ps_ops_infer(ps_graph *root, ps_error *err);
ps_status ps_ops_infer_graph(ps_graph *g, ps_error *err);
/* What holds for a value that is either a or b: rank -1 if the ranks differ, unknown dims where the dims do. */
ps_shape ps_infer_join(const ps_shape *a, const ps_shape *b);
ps_status ps_ops_infer_node(ps_node *node, ps_error *err);
/* Integer data of a constant input: false if the input is absent, not constant, no integer tensor, or longer than max.
 */
bool ps_const_ints(const ps_node *node, size_t i, int64_t *ret, size_t max, size_t *ret_n);
bool ps_const_double(const ps_node *node, size_t i, double *ret); /* one-element constant */
static inline bool ps_has_in(const ps_node *n, size_t i) {
    return i < n->n_in && n->in[i];
}
static inline bool ps_has_out(const ps_node *n, size_t i) {
    return i < n->n_out && n->out[i];
}

/* ---- running a reference kernel ----
 * An output tensor that stands for "not yet allocated" has data == NULL and carries the dtype and shape from inference
 * where those are known. Storage that run_ref or ps_kernel_output makes is in tensor->owned, from `alloc`:
 * ps_tensor_release frees it for heap tensors, ps_free(alloc, t->owned) for tensors on the stack. */
/* Runs the row's kernel on the host. out[i]->data may be NULL for outputs to be allocated. */
ps_status ps_ops_run_ref(const ps_node *node, const ps_tensor *const *in, ps_tensor *const *out, ps_alloc_state *alloc,
                         int threads, ps_error *err);

/* Which attributes an operator has: true if the row's table names it. */
bool ps_op_has_attr(const ps_op *op, const char *name);

/* Table as markdown, for docs/operators.md. */
void ps_ops_print_table(ps_str *out);

#endif
