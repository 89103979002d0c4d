/* runtime_int.h - the insides of engine, model, plan and session.
 *
 *   model   ─ graph (symbolic, optimised) ─ plan cache ─► plan: graph of fixed shapes, steps, storages     immutable,
 * shared session ─ arenas ─ states ─► state: resolved pointers and kernel states of one plan                    one
 * thread at a time
 *
 * A plan covers the graph up to the first node whose output shapes are unknown before it runs (an If on data, NonZero
 * …): the tail. What follows the tail is planned at run time as a plan of its own, cached by the shapes that came out
 * (rest). */
#ifndef PS_RUNTIME_RUNTIME_INT_H
#define PS_RUNTIME_RUNTIME_INT_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "base/log.h"
#include "base/vec.h"
#include "onnx/onnx.h"
#include "passes/passes.h"
#include "polestar/polestar.h"
#include "torch/torch.h"

#define PS_MAX_DEVICES 16
#define PS_NONE UINT32_MAX
#define PS_MAX_DEPTH 64  /* nested branches and rests */
#define PS_MAX_STATES 64 /* plans a session keeps ready */
#define PS_MAX_RESTS 16  /* plans kept per tail */

typedef struct ps_plan ps_plan;

struct ps_engine {
    ps_alloc_state alloc;
    ps_log log;
    int threads;
    ps_device *devices[PS_MAX_DEVICES];
    size_t n_devices;
    char *cache_dir;
};

struct ps_model {
    ps_engine *engine;
    ps_alloc_state *alloc;
    atomic_int refs;
    ps_arena arena; /* names and tables below */
    ps_graph *graph;
    ps_onnx_info info;
    ps_device *device;
    ps_caps caps;
    bool no_fusion;
    int threads;
    ps_weights *weights;
    ps_value_info *inputs, *outputs; /* as declared */
    size_t n_inputs, n_outputs;
    size_t nodes_fused;

    ps_mutex compile_lock; /* one plan is compiled at a time; taken before lock */
    ps_mutex lock;
    ps_plan *newest, *oldest; /* plan cache, most recently used first; guarded by lock */
    size_t cache_bytes;       /* guarded by lock */
    size_t cache_limit;
    int64_t plans_made; /* guarded by lock */
};

/* ---- plan ---- */

typedef enum ps_storage_kind {
    PS_ST_ARENA,
    PS_ST_INPUT,  /* memory of plan input `index` */
    PS_ST_OUTPUT, /* memory of plan output `index` */
    PS_ST_CONST,  /* `data` */
} ps_storage_kind;

typedef struct ps_storage {
    ps_storage_kind kind;
    uint32_t index;
    uint32_t same; /* merged into that storage, or PS_NONE */
    size_t bytes, offset;
    void *data;
    int32_t first, last; /* steps, inclusive */
} ps_storage;

typedef struct ps_step {
    ps_kernel *kernel;
    const ps_node *node; /* NULL for copies */
    const char *op, *name;
    uint32_t *args; /* storages: n_in inputs, then n_out outputs; PS_NONE where omitted */
    uint32_t n_in, n_out;
    uint32_t workspace; /* storage or PS_NONE */
    int32_t inplace;
    bool reorder;
    ps_shape shape;
    int64_t macs;
} ps_step;

typedef enum ps_source_kind { PS_FROM_STORAGE, PS_FROM_TAIL, PS_FROM_REST } ps_source_kind;

typedef struct ps_source {
    ps_source_kind kind;
    uint32_t index; /* storage, tail output, rest output */
} ps_source;

typedef struct ps_plan_output {
    ps_source from;
    ps_dtype dtype; /* of PS_FROM_STORAGE */
    ps_shape shape;
} ps_plan_output;

typedef struct ps_branch {
    ps_graph *graph;  /* template: a root whose inputs are the captured values */
    uint32_t *inputs; /* storages */
    size_t n_inputs;
    _Atomic(ps_plan *) plan; /* made on first use under the model's compile_lock */
} ps_branch;

typedef struct ps_tail {
    const ps_node *node;
    bool is_if;
    uint32_t *args;      /* storages of node->in */
    ps_branch branch[2]; /* then, else */
    ps_graph *rest;      /* template, or NULL: nothing follows */
    ps_source *rest_inputs;
    size_t n_rest_inputs;
    ps_plan *rests[PS_MAX_RESTS]; /* guarded by the model's compile_lock */
    size_t n_rests;
} ps_tail;

struct ps_plan {
    ps_model *model; /* not owned */
    atomic_int refs;
    ps_arena arena;
    ps_graph *graph; /* nodes and constants that kernels point to */
    int threads;
    ps_step *steps;
    size_t n_steps;
    ps_storage *storages;
    size_t n_storages;
    size_t arena_bytes, no_reuse_bytes;
    uint32_t *inputs; /* storages */
    size_t n_inputs;
    ps_plan_output *outputs;
    size_t n_outputs;
    ps_tail *tail; /* or NULL */
    size_t n_reorders;
    int64_t macs;

    int64_t *key; /* threads, then rank and dims of every input */
    size_t key_words;
    uint64_t key_hash;
    size_t bytes;           /* of the plan, its kernels, and the plans it has made since; guarded by the model's lock */
    ps_plan *newer, *older; /* in the model's cache; guarded by the model's lock */
    ps_plan *parent;        /* of a branch or a rest: the plan that made it and still keeps it; guarded likewise */
    atomic_bool evicted;    /* the cache has let it go: sessions do so too when they next make room */
    atomic_bool used;       /* by a session's state since the cache last looked for plans to let go */
};

/* Compiles g, whose input shapes are fixed; the plan owns g from here on, also on failure. */
ps_status ps_plan_compile(ps_model *model, ps_graph *g, int threads, ps_plan **ret, ps_error *err);
ps_plan *ps_plan_retain(ps_plan *plan);
void ps_plan_release(ps_plan *plan);
/* Merges in-place pairs and lays the arena out; fills offsets, arena_bytes, no_reuse_bytes. */
ps_status ps_plan_memory(ps_plan *plan, ps_alloc_state *alloc, ps_error *err);
uint32_t ps_storage_find(const ps_plan *plan, uint32_t s);
int64_t ps_node_macs(const ps_node *node);

/* Part of src as a root of its own: `inputs` become its inputs (with their present shapes), nodes from `first` to the
 * end are copied, constants shared. src may be a subgraph. */
ps_status ps_graph_extract(const ps_graph *src, const ps_node *first, ps_value *const *inputs, size_t n_inputs,
                           ps_value *const *outputs, size_t n_outputs, ps_graph **ret, ps_error *err);

/* ---- model: plans by shape ---- */
/* A model around a graph that did not come from a file (tests; other formats); takes the graph, also on failure. */
ps_status ps_model_from_graph(ps_engine *engine, ps_graph *graph, const ps_model_options *options, ps_model **ret,
                              ps_error *err);
/* The plan for these input shapes, from the cache or compiled; retained for the caller. */
ps_status ps_model_plan(ps_model *model, const ps_shape *const *shapes, int threads, ps_plan **ret, ps_error *err);
ps_status ps_plan_branch(ps_plan *plan, int which, ps_plan **ret, ps_error *err); /* borrowed from the plan */
/* Was this rest of a plan with tail t made for these outputs of the tail? */
bool ps_rest_matches(const ps_plan *rest, const ps_tail *t, const ps_dtype *dtypes, const ps_shape *shapes);
ps_status ps_plan_rest(ps_plan *plan, const ps_dtype *dtypes, const ps_shape *shapes, ps_plan **ret, ps_error *err);
size_t ps_key_fill(int64_t *key, int threads, const ps_shape *const *shapes, size_t n);

/* ---- session ---- */

typedef struct ps_buffer {
    void *data;
    size_t size;
} ps_buffer;

/* Where a plan output goes, decided by the caller, resolved when its shape is known. */
typedef struct ps_bind {
    int64_t output;    /* session output, or -1 */
    ps_buffer *buffer; /* else this growing buffer */
    void *ptr;         /* resolved */
    ps_dtype dtype;
    ps_shape shape;
} ps_bind;

typedef struct ps_state {
    ps_plan *plan; /* retained */
    void **ptrs;   /* of every storage */
    void **args;   /* of every step, in the order of steps[].args */
    void **kernel_states;
    void *resolved_arena; /* ptrs and args are valid for this arena and these ends */
    void **resolved_ends; /* inputs, then outputs */
    int64_t *step_ns, *step_calls;
    struct ps_state *branch[2];
    struct ps_state *rests[PS_MAX_RESTS];
    ps_buffer *tail_buffers; /* one per tail output */
    ps_bind *tail_binds;     /* one per tail output */
    ps_bind *rest_binds;     /* one per output of the rest */
    ps_bind *child_binds;    /* scratch for the call of a child */
    void **child_inputs;
    struct ps_state *newer, *older;
} ps_state;

struct ps_session {
    ps_model *model;
    ps_alloc_state *alloc;
    int threads;
    bool profile;
    ps_buffer arenas[PS_MAX_DEPTH];
    ps_buffer *staging;  /* per input: packed copies of strided or misaligned tensors */
    ps_tensor **outputs; /* own output tensors, kept between runs */
    ps_buffer *output_buffers;
    ps_tensor **user_outputs; /* of the run in progress; NULL slots are ours */
    int64_t *key;
    ps_bind *binds;
    void **input_ptrs;
    const ps_shape **input_shapes;
    ps_state *newest, *oldest;
    size_t n_states;
    const ps_run_options *options; /* of the run in progress */
};

ps_status ps_state_new(ps_session *s, ps_plan *plan, ps_state **ret, ps_error *err);
void ps_state_free(ps_session *s, ps_state *st);
/* Runs a plan: in_ptrs one per plan input, binds one per plan output. */
ps_status ps_exec(ps_session *s, ps_state *st, void *const *in_ptrs, ps_bind *binds, int depth, ps_error *err);
/* Makes a bind's memory for a known dtype and shape. */
ps_status ps_bind_resolve(ps_session *s, ps_bind *b, ps_dtype dtype, const ps_shape *shape, ps_error *err);
/* At least `size` bytes; the content is lost if the memory moves. */
ps_status ps_buffer_fit(ps_alloc_state *alloc, ps_buffer *b, size_t size, ps_error *err);

#endif
