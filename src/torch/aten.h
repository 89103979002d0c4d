/* aten.h - the builder that turns one node of a program into nodes of the graph, and the table of what it knows.
 *
 * Errors are sticky: a helper that fails records the sentence once, and every later call does nothing and returns NULL,
 * 0 or an empty list. So a mapping reads its arguments and writes its nodes without conditions; the importer looks at
 * b->status after each node. Tensors are values of ai.onnx operators; symbolic numbers (SymInt, SymFloat, SymBool) are
 * vectors of one element (i64, f64, bool), so that sizes are made by Concat. */
#ifndef PS_TORCH_ATEN_H
#define PS_TORCH_ATEN_H

#include <jansson.h>

#include "ops/ops.h"
#include "torch/program.h"

typedef struct ps_tb ps_tb;

/* ---- the table ---- */
enum {
    PS_TORCH_VIEW = 1,   /* output 0 may share memory with the first argument */
    PS_TORCH_IGNORE = 2, /* has no outputs that matter: assertions, hints */
};

typedef struct ps_torch_op {
    const char *name; /* "conv2d" of aten; "_operator.mul" */
    void (*map)(ps_tb *b);
    const char *onnx; /* for mappings that are shared: the operator */
    unsigned flags;
} ps_torch_op;

typedef struct ps_torch_family {
    const char *name;
    const ps_torch_op *ops;
    size_t n;
} ps_torch_family;

#define PS_TORCH_FAMILY(name, table)                                                                                   \
    { (name), (table), sizeof(table) / sizeof((table)[0]) }

extern const ps_torch_family ps_torch_pointwise, ps_torch_binary, ps_torch_view, ps_torch_join, ps_torch_reduce,
    ps_torch_conv, ps_torch_norm, ps_torch_pool, ps_torch_matmul, ps_torch_attention, ps_torch_resize, ps_torch_rnn,
    ps_torch_index, ps_torch_create, ps_torch_sym;

/* NULL if it is not in the table. A name that ends in "_" ("relu_") and is not there is found without it:
 * *ret_inplace tells. */
const ps_torch_op *ps_torch_find(const char *name, bool *ret_inplace);

/* ---- the builder ---- */

/* A name of the program. */
typedef struct ps_torch_name {
    const char *name;
    ps_value *value;
    const char *stale;        /* label of the in-place operator that changed memory which this shares, or NULL */
    uint32_t memory;          /* tensors of the same number may share memory */
    bool number;              /* SymInt, SymFloat, SymBool */
    bool held;                /* parameter, buffer or constant of the program */
    struct ps_torch_name *of; /* the tensor that it is a view of, or NULL */
    const json_t *made;       /* the node that made the view */
} ps_torch_name;

/* Names are local to a (sub)graph of the program. */
typedef struct ps_torch_scope {
    const json_t *graph, *tensors; /* Graph, its tensor_values */
    ps_map names;                  /* → ps_torch_name */
    int depth;
} ps_torch_scope;

struct ps_tb {
    ps_alloc_state *alloc;
    ps_error *err;
    ps_status status;
    ps_graph *g;
    ps_arena arena; /* of the builder */
    ps_torch_scope *scope;
    uint32_t n_memory;
    /* the node at hand */
    const json_t *node, *inputs, *outputs;
    const ps_torch_op *op;
    const char *overload; /* "Tensor", "default" … */
    char label[200];      /* "aten.conv2d.default 'conv2d_1'" */
    ps_node *last;        /* made last; attributes go to it */
    ps_node *inferred;    /* the last one whose types are known */
};

/* Records a failure; `return PS_TB_FAIL(…)` in mappings. */
#define PS_TB_FAIL(b, code, ...)                                                                                       \
    ((b)->status == PS_OK ? (void)((b)->status = ps_error_set((b)->err, __FILE__, __LINE__, PS_##code, __VA_ARGS__))   \
                          : (void)0)
void ps_tb_no_memory(ps_tb *b);

/* ---- arguments of the node at hand, by the names of PyTorch's schema (args.c) ---- */
bool ps_tb_has(ps_tb *b, const char *name); /* there and not None */
ps_value *ps_tb_tensor(ps_tb *b, const char *name);
ps_value *ps_tb_tensor_or_null(ps_tb *b, const char *name);
/* A list of tensors; entries that are None are NULL. */
ps_value **ps_tb_tensors(ps_tb *b, const char *name, size_t *ret_n);
int64_t ps_tb_int(ps_tb *b, const char *name, int64_t def);
double ps_tb_double(ps_tb *b, const char *name, double def);
bool ps_tb_bool(ps_tb *b, const char *name, bool def);
const char *ps_tb_text(ps_tb *b, const char *name, const char *def);
/* ScalarType; def if absent or None. */
ps_dtype ps_tb_type(ps_tb *b, const char *name, ps_dtype def);
/* Numbers known now, at most max; absent or None: 0. One number stands for a list of one. */
size_t ps_tb_ints(ps_tb *b, const char *name, int64_t *ret, size_t max);
/* The same, with one number repeated n times, and n copies of def if absent. */
void ps_tb_ints_n(ps_tb *b, const char *name, int64_t def, int64_t *ret, size_t n);
/* Axis of a value of that rank, counted from 0. */
int64_t ps_tb_axis(ps_tb *b, const char *name, int64_t def, int rank);
/* A list of sizes as an i64 vector: constant where it can be. */
ps_value *ps_tb_dims(ps_tb *b, const char *name);
/* An integer, perhaps symbolic, as a vector of one i64. */
ps_value *ps_tb_size(ps_tb *b, const char *name, int64_t def);
/* Is the argument a number (not a tensor)? Then its value as a vector of one, i64, f64 or bool. */
ps_value *ps_tb_number(ps_tb *b, const char *name);
/* A number that is known now. */
bool ps_tb_known(ps_tb *b, const char *name, double *ret);
/* A tensor, or a number as a rank-0 value; *ret_number tells which. */
ps_value *ps_tb_operand(ps_tb *b, const char *name, bool *ret_number);

/* ---- facts ---- */
ps_dtype ps_tb_dtype(ps_tb *b, ps_value *v);
int ps_tb_rank(ps_tb *b, ps_value *v);              /* fails if it is not known */
int64_t ps_tb_dim(ps_tb *b, ps_value *v, int axis); /* negative: from the end; PS_DIM_UNKNOWN or a symbol: not fixed */
/* What the program says about output i; PS_DTYPE_UNDEFINED if it is no tensor. */
ps_dtype ps_tb_out_dtype(ps_tb *b, size_t i);
const ps_shape *ps_tb_out_shape(ps_tb *b, size_t i, ps_shape *buf);
size_t ps_tb_out_count(ps_tb *b);

/* ---- making nodes ---- */
ps_value *ps_tb_emit(ps_tb *b, const char *op, ps_value *const *in, size_t n_in);
void ps_tb_emit_n(ps_tb *b, const char *op, ps_value *const *in, size_t n_in, ps_value **out, size_t n_out);
#define PS_OP(b, op, ...)                                                                                              \
    ps_tb_emit((b), (op), (ps_value *const[]) { __VA_ARGS__ },                                                         \
               sizeof((ps_value *const[]) { __VA_ARGS__ }) / sizeof(ps_value *))
/* Onto the node made last. */
void ps_tb_set_int(ps_tb *b, const char *name, int64_t v);
void ps_tb_set_float(ps_tb *b, const char *name, double v);
void ps_tb_set_text(ps_tb *b, const char *name, const char *v);
void ps_tb_set_ints(ps_tb *b, const char *name, const int64_t *v, size_t n);

ps_value *ps_tb_constant(ps_tb *b, ps_dtype dtype, const int64_t *dims, int rank, const void *data);
ps_value *ps_tb_vector(ps_tb *b, const int64_t *v, size_t n); /* i64 */
ps_value *ps_tb_one(ps_tb *b, int64_t v);                     /* a vector of one i64 */
ps_value *ps_tb_scalar(ps_tb *b, ps_dtype dtype, double v);   /* rank 0 */
ps_value *ps_tb_cast(ps_tb *b, ps_value *v, ps_dtype dtype);  /* v itself if it has that type */
/* Shape work. */
ps_value *ps_tb_shape(ps_tb *b, ps_value *v);            /* i64 vector */
ps_value *ps_tb_extent(ps_tb *b, ps_value *v, int axis); /* vector of one */
ps_value *ps_tb_reshape(ps_tb *b, ps_value *v, ps_value *shape);
ps_value *ps_tb_reshape_to(ps_tb *b, ps_value *v, const int64_t *dims, size_t n); /* 0 keeps a dim, -1 is the rest */
ps_value *ps_tb_transpose(ps_tb *b, ps_value *v, const int64_t *perm, size_t n);
ps_value *ps_tb_swap(ps_tb *b, ps_value *v, int a, int c); /* two axes; negative: from the end */
ps_value *ps_tb_unsqueeze(ps_tb *b, ps_value *v, int64_t axis);
ps_value *ps_tb_squeeze(ps_tb *b, ps_value *v, int64_t axis);
ps_value *ps_tb_slice(ps_tb *b, ps_value *v, int64_t axis, int64_t start, int64_t end);
ps_value *ps_tb_concat(ps_tb *b, ps_value *const *v, size_t n, int64_t axis);
ps_value *ps_tb_expand(ps_tb *b, ps_value *v, ps_value *shape);
ps_value *ps_tb_fill(ps_tb *b, ps_value *shape, ps_dtype dtype, double v); /* a tensor of one value */
ps_value *ps_tb_reduce(ps_tb *b, const char *op, ps_value *v, const int64_t *axes, size_t n, bool keep);
/* The integers 0 … n - 1 with n a vector of one. */
ps_value *ps_tb_iota(ps_tb *b, ps_value *n);

/* ---- results ---- */
/* Output i of the node is v, cast to what the program says it is. */
void ps_tb_out(ps_tb *b, size_t i, ps_value *v);
/* All members of an output that is a list. */
void ps_tb_out_list(ps_tb *b, ps_value *const *v, size_t n);

/* ---- PyTorch's type promotion (promote.c) ---- */
/* An operand: a tensor of that rank or a number. */
typedef struct ps_torch_operand {
    ps_value *v;
    bool number;
} ps_torch_operand;
ps_torch_operand ps_tb_get(ps_tb *b, const char *name);
ps_torch_operand ps_tb_as_operand(ps_value *v);
/* torch.result_type of all of them. */
ps_dtype ps_tb_promote(ps_tb *b, const ps_torch_operand *o, size_t n);
/* The type itself if it is a floating one, else f32: what functions like sqrt compute in. */
ps_dtype ps_torch_float_type(ps_dtype t);
/* The tensor "self" (or "input") in a floating type. */
ps_value *ps_tb_float_self(ps_tb *b);
ps_value *ps_tb_self(ps_tb *b);

/* ---- mappings that other families use ---- */
ps_value *ps_torch_gelu(ps_tb *b, ps_value *x, const char *approximate);
ps_value *ps_torch_softmax(ps_tb *b, ps_value *x, int64_t axis);
/* x wᵀ + bias; bias may be NULL. */
ps_value *ps_torch_linear(ps_tb *b, ps_value *x, ps_value *w, ps_value *bias);
/* x with src written where slice or select (the arguments of the node at hand) read. */
ps_value *ps_torch_write_slice(ps_tb *b, ps_value *x, ps_value *src);
ps_value *ps_torch_write_select(ps_tb *b, ps_value *x, ps_value *src);
/* x with the value of a changed view in its place; NULL where that is not known. `op` made the view. */
ps_value *ps_torch_write_view(ps_tb *b, const char *op, ps_value *x, ps_value *view);
/* Floor division of integers. */
ps_value *ps_torch_floordiv(ps_tb *b, ps_value *a, ps_value *c);

/* ---- higher-order operators (import.c) ---- */
/* Builds the subgraph `graph` in place with the given arguments and gives the outputs of the node at hand. */
void ps_tb_inline(ps_tb *b, const json_t *graph, const json_t *args, size_t first);

#endif
