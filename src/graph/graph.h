/* graph.h - the intermediate representation: values, nodes, attributes, subgraphs. Knows no file format and no device.
 *
 * A model is a tree of graphs: the root and the subgraphs held by attributes of control-flow nodes. A node reads values
 * of its own graph and of any enclosing graph (outer-scope capture); value->graph tells which.
 *
 * Invariants (ps_graph_verify checks them):
 *   - single assignment: a value has at most one producer, and either a producer, a constant, or is a graph input
 *     (a graph input may carry a constant: its default);
 *   - the node list is in topological order;
 *   - value->uses lists exactly the node inputs that read it, in every graph of the tree, and value->n_outputs counts
 * the graph outputs that are it. All memory is in the arena of the root; a graph is changed by one thread, then shared
 * read-only. Constants are reference-counted tensors; graphs and their clones share them. */
#ifndef PS_GRAPH_GRAPH_H
#define PS_GRAPH_GRAPH_H

#include "base/arena.h"
#include "base/map.h"
#include "tensor/tensor.h"

typedef struct ps_graph ps_graph;
typedef struct ps_node ps_node;
typedef struct ps_value ps_value;
typedef struct ps_op ps_op; /* a row of the operator table: ops/ops.h */

typedef struct ps_use {
    ps_node *node;
    uint32_t index; /* node->in[index] */
} ps_use;

struct ps_value {
    const char *name; /* unique in its graph; never NULL, "" only before it is named */
    uint32_t id;      /* unique in the tree, below root->n_ids: index of side arrays */
    ps_graph *graph;  /* where it is defined */
    ps_dtype dtype;   /* PS_DTYPE_UNDEFINED: unknown */
    ps_dtype elem;    /* of a container: what its elements are (of a map: its values), or PS_DTYPE_UNDEFINED */
    ps_shape shape;
    ps_tensor *constant; /* retained, or NULL */
    ps_node *producer;   /* or NULL */
    uint32_t producer_index;
    bool is_input;      /* of its graph */
    uint32_t n_outputs; /* graph outputs that are this value */
    ps_use *uses;
    uint32_t n_uses, uses_room;
    ps_dtype declared_dtype; /* as the file says, for the user's eyes; not trusted */
    ps_shape declared_shape;
    ps_value *next_all; /* list of all values of the root, for release */
};

typedef enum ps_attr_type {
    PS_ATTR_NONE,
    PS_ATTR_INT,
    PS_ATTR_FLOAT,
    PS_ATTR_STRING,
    PS_ATTR_TENSOR,
    PS_ATTR_GRAPH,
    PS_ATTR_INTS,
    PS_ATTR_FLOATS,
    PS_ATTR_STRINGS,
    PS_ATTR_GRAPHS,
    PS_ATTR_TENSORS,
} ps_attr_type;

typedef struct ps_attr {
    const char *name;
    ps_attr_type type;
    size_t n; /* of the list kinds; of a string its length */
    union {
        int64_t i;
        float f;
        const char *s; /* NUL-terminated, n bytes */
        ps_tensor *tensor;
        ps_graph *graph;
        int64_t *ints;
        float *floats;
        const char **strings;
        ps_graph **graphs;
        ps_tensor **tensors;
    } u;
} ps_attr;

struct ps_node {
    const char *name; /* "" if the file gives none */
    const char *op_type;
    const char *domain; /* "" is ai.onnx; "polestar" holds our fused operators */
    const ps_op *op;    /* resolved by ps_ops_resolve; NULL before */
    void *params;       /* attributes parsed by the operator's table, in the arena; NULL before or if it has none */
    ps_graph *graph;    /* the graph it stands in */
    ps_value **in;      /* NULL entries: omitted optional inputs */
    ps_value **out;     /* NULL entries: omitted optional outputs */
    uint32_t *slots;    /* in[i]->uses[slots[i]] is this use; kept by graph/ */
    uint32_t n_in, n_out;
    ps_attr *attrs;
    uint32_t n_attrs;
    ps_node *prev, *next; /* topological order */
    uint32_t id;          /* unique in the tree */
    const char *note;     /* why it computes on floats what the model has quantised; static text, or NULL */
    const char *fused;    /* text of what passes folded into it ("Conv+Relu"), or NULL: the op_type */
};

/* Subgraphs nested deeper are refused when they are made, so that recursion over the tree is bounded. */
#define PS_MAX_SUBGRAPH_DEPTH 64

typedef struct ps_opset {
    const char *domain;
    int64_t version;
} ps_opset;

struct ps_graph {
    const char *name;
    ps_graph *root;     /* itself for the root */
    ps_graph *next_all; /* list of all graphs of the root, for release; removed ones have parent == NULL */
    int depth;          /* 0 for the root, at most PS_MAX_SUBGRAPH_DEPTH */
    ps_node *parent;    /* node that holds this subgraph; NULL for the root */
    ps_node *first, *last;
    size_t n_nodes;
    ps_value **inputs, **outputs;
    size_t n_inputs, n_outputs, inputs_room, outputs_room;
    ps_map values; /* name → ps_value of this graph */

    /* of the root only */
    ps_arena arena;
    ps_alloc_state *alloc;
    uint32_t n_ids, n_node_ids;
    ps_value *all_values;
    ps_graph *all_graphs;
    ps_opset *opsets;
    size_t n_opsets;
    const char **symbols; /* symbol k is the dim -2 - k */
    ps_map symbol_ids;    /* name → k + 1 as a pointer */
    size_t n_symbols, symbols_room;
    uint32_t n_fresh; /* counter of ps_graph_fresh_name */
    ps_tensor **held; /* tensors held by attributes, for release */
    size_t n_held, held_room;
};

/* ---- life ---- */
ps_status ps_graph_new(ps_alloc_state *alloc, const char *name, ps_graph **ret, ps_error *err);
/* The subgraph's parent is set when it is put into a node's attribute (ps_node_set_attr) or here. */
ps_status ps_graph_new_sub(ps_graph *outer, ps_node *parent, const char *name, ps_graph **ret, ps_error *err);
void ps_graph_free(ps_graph *root); /* NULL is allowed */
/* Deep copy of a root; constants are shared, values that nothing refers to are left behind. Nodes keep ->op and lose
 * ->params: ps_ops_resolve brings them back. ret_map (may be NULL): array of old value id → new value (or NULL), in the
 * new arena. */
ps_status ps_graph_clone(const ps_graph *root, ps_graph **ret, ps_value ***ret_map, ps_error *err);

/* Records or replaces the version of a domain; "ai.onnx" is stored as "". */
ps_status ps_graph_set_opset(ps_graph *root, const char *domain, int64_t version, ps_error *err);
/* 0 if the file imports no version of the domain. */
int64_t ps_graph_opset(const ps_graph *g, const char *domain);

/* ---- values ---- */
/* A new value named `name` (copied; NULL: a fresh name). PS_FORMAT if the graph has one of that name already. */
ps_status ps_graph_add_value(ps_graph *g, const char *name, ps_value **ret, ps_error *err);
ps_status ps_graph_add_constant(ps_graph *g, const char *name, ps_tensor *tensor, ps_value **ret,
                                ps_error *err); /* retains */
/* PS_FORMAT if the graph has a value of that name already. */
ps_status ps_value_rename(ps_value *v, const char *name, ps_error *err);
ps_status ps_graph_add_input(ps_graph *g, ps_value *v, ps_error *err);
ps_status ps_graph_add_output(ps_graph *g, ps_value *v, ps_error *err);
void ps_graph_set_output(ps_graph *g, size_t index, ps_value *v);
/* By name, in g only / in g and its enclosing graphs. NULL if absent. */
ps_value *ps_graph_find(const ps_graph *g, const char *name);
ps_value *ps_graph_lookup(const ps_graph *g, const char *name);
void ps_value_set_constant(ps_value *v, ps_tensor *tensor); /* retains; NULL clears */
/* Every reader of `from` (nodes of all graphs, graph outputs) reads `to` afterwards. A graph output keeps its *name*:
 * the names of graph outputs are held by graph->outputs[i]->name at load time only, see ps_model. */
ps_status ps_value_replace(ps_value *from, ps_value *to, ps_error *err);
bool ps_value_unused(const ps_value *v);
/* The only reader, if exactly one node input reads it and it is no graph output; else NULL. */
ps_node *ps_value_only_consumer(const ps_value *v);
/* Symbol number for a name, made on demand: a dim value <= -2. Returns 0 when out of memory. */
int64_t ps_graph_symbol(ps_graph *g, const char *name);
const char *ps_graph_symbol_name(const ps_graph *g, int64_t dim); /* NULL if dim is no symbol */

/* ---- nodes ---- */
/* Appends a node (before == NULL) or inserts it before another. Strings and arrays are copied. in/out entries may be
 * NULL. PS_FORMAT if an output has a producer already. */
ps_status ps_graph_add_node(ps_graph *g, ps_node *before, const char *op_type, const char *domain, const char *name,
                            ps_value *const *in, size_t n_in, ps_value *const *out, size_t n_out, ps_node **ret,
                            ps_error *err);
/* Unlinks the node and drops its subgraphs; its outputs lose their producer and must be unused, replaced or given a
 * constant. */
void ps_node_remove(ps_node *n);
/* Relinks n directly before another node of its graph; the caller answers for the order. */
void ps_node_move(ps_node *n, ps_node *before);
/* Moves all nodes and constants of a subgraph without inputs before its holder, into the holder's graph; captured
 * values resolve to what they were. Values get fresh names where the old one is taken. Afterwards sub->outputs are
 * values of the holder's graph (or outer ones) and sub has no nodes; the holder itself stays. */
ps_status ps_graph_inline(ps_node *holder, ps_graph *sub, ps_error *err);
ps_status ps_node_set_input(ps_node *n, size_t index, ps_value *v, ps_error *err); /* v may be NULL */
ps_status ps_node_resize_inputs(ps_node *n, size_t n_in, ps_error *err);           /* new ones are NULL */
/* Adds or replaces. The attr's payload is used as is: allocate it in the arena (tensors are retained). */
ps_status ps_node_set_attr(ps_node *n, const ps_attr *attr, ps_error *err);
ps_status ps_node_set_int(ps_node *n, const char *name, int64_t v, ps_error *err);
ps_status ps_node_set_float(ps_node *n, const char *name, float v, ps_error *err);
ps_status ps_node_set_string(ps_node *n, const char *name, const char *v, ps_error *err);
ps_status ps_node_set_ints(ps_node *n, const char *name, const int64_t *v, size_t count, ps_error *err);
ps_status ps_node_set_floats(ps_node *n, const char *name, const float *v, size_t count, ps_error *err);
const ps_attr *ps_node_attr(const ps_node *n, const char *name); /* NULL if absent */
/* Copies all attributes of `from` (same root, no subgraphs) and its fused text. */
ps_status ps_node_copy_attrs(ps_node *n, const ps_node *from, ps_error *err);
/* Replaces output `index`: v (of the node's graph, without a producer, or NULL) is produced by n afterwards. */
ps_status ps_node_set_output(ps_node *n, size_t index, ps_value *v, ps_error *err);
/* Values of outer graphs that the node's subgraphs (at any depth) read, each once; in the arena. */
ps_status ps_node_captures(const ps_node *n, ps_value ***ret, size_t *ret_n, ps_error *err);
bool ps_node_has_subgraph(const ps_node *n);
/* Every output is a constant: nothing is left to compute. */
bool ps_node_is_folded(const ps_node *n);
/* The same name, type and content; tensors and graphs are the same only if they are one. */
bool ps_attr_equal(const ps_attr *a, const ps_attr *b);
/* "Conv 'features.0'" or "Conv producing 'x'" for messages; buf is returned. */
const char *ps_node_label(const ps_node *n, char *buf, size_t size);
/* Sorts the node lists of the tree topologically, keeping the present order where it can; PS_FORMAT naming a node on a
 * cycle. */
ps_status ps_graph_sort(ps_graph *root, ps_error *err);

/* ---- checking and text ---- */
ps_status ps_graph_verify(const ps_graph *root, ps_error *err);
/* The text form, read back by ps_graph_parse (docs/graph-text.md). */
void ps_graph_print(const ps_graph *root, ps_str *out);
ps_status ps_graph_parse(ps_alloc_state *alloc, const char *text, ps_graph **ret, ps_error *err);

#endif
