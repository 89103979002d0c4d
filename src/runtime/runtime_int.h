/* runtime_int.h - the insides of engine, model, program, plan and session.
 *
 *   unit     a graph that runs for any input shapes: the model's, a branch, a loop's body, a part behind a dynamic node
 *   program  a unit for one set of input shapes: items in order, over slots                       immutable, shared
 *   plan     one item: nodes of fixed shapes as steps over storages                               immutable, shared
 *   slot     where a value lies that passes between items or programs; session, one thread at a time
 *
 * A node is dynamic if its outputs' shapes cannot be told from the shapes of its inputs (NonZero, Reshape to computed
 * dims), if it holds subgraphs (If, Loop, Scan), or if it touches strings or containers. A graph without any is one
 * plan. README.md has the drawing. */
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
#define PS_MAX_DEPTH 96    /* programs that run inside of each other */
#define PS_MAX_STATES 64   /* programs that a session keeps ready, of the model's own graph */
#define PS_MAX_CHILDREN 16 /* the same of every other unit */
#define PS_BY_VALUE 128    /* bytes, at most, of an input whose content is part of a program's key */

typedef struct ps_plan ps_plan;
typedef struct ps_program ps_program;
typedef struct ps_slot ps_slot;

/* ---- unit ---- */

typedef struct ps_unit {
    ps_model *model;
    ps_program *owner;    /* whose part it is; NULL: the model's graph */
    ps_graph *graph;      /* template: a root, never changed */
    uint8_t *by_value;    /* per input: small, computed from shapes alone: programs are made for its content. Or NULL */
    ps_program *programs; /* made so far and not let go; guarded by the model's lock */
} ps_unit;

/* What one model holds, its sessions included, as a part of what the engine holds. Tensors that a session gave away may
 * outlive the model and give their memory back here: it goes when nothing is left in it. */
typedef struct ps_model_memory_state {
    ps_alloc_state alloc;
    struct ps_model_memory_state *next; /* of those that wait; guarded by the engine's lock */
} ps_model_memory_state;

struct ps_engine {
    ps_alloc_state alloc;
    ps_alloc_state models; /* below it: what all models hold together */
    ps_mutex lock;
    ps_model_memory_state *left; /* of models that are gone; guarded by lock */
    ps_log log;
    int threads;
    ps_device *devices[PS_MAX_DEVICES];
    size_t n_devices;
    PS_VEC(ps_device *) lost; /* whose models may still be there; guarded by discover_lock */
    ps_mutex discover_lock;
    bool lock_made;
    bool prepared;   /* ps_devices_prepare; guarded by discover_lock */
    bool discovered; /* devices whose drivers have to be loaded are there; guarded by discover_lock */
    ps_str advice;   /* lines; guarded by discover_lock */
    char *cache_dir;
    uint64_t cache_bytes;
    ps_cache *cache; /* NULL: off, or not opened yet; guarded by lock, like the next */
    bool cache_open;
};

/* The device of that name; NULL or "auto" is the CPU, "gpu" the first that has memory of its own. */
ps_status ps_engine_device(ps_engine *e, const char *name, ps_device **ret, ps_error *err);
/* Would that have to load drivers? If so all is prepared for a call on another thread. */
bool ps_engine_device_waits(ps_engine *e, const char *name);

/* above: what it is a part of. limit 0: that one's. NULL: out of memory. */
ps_model_memory_state *ps_engine_add_memory(ps_engine *engine, ps_alloc_state *above, size_t limit);
void ps_engine_drop_memory(ps_engine *engine, ps_model_memory_state *memory);
/* NULL: it is off, or cannot be opened. */
ps_cache *ps_engine_disk(ps_engine *engine);

/* A model on several devices is a model for each of them, whose memory counts as the first one's, and the first is what
 * the caller has (devices.c). A session has the one of its device. */
struct ps_model {
    ps_engine *engine;
    ps_alloc_state *alloc; /* &memory->alloc */
    ps_model_memory_state *memory;
    atomic_int refs;
    ps_arena arena; /* names and tables below */
    ps_graph *graph;
    ps_onnx_limits limits;
    char *path; /* of the file it came from, resolved; NULL: none */
    ps_onnx_info info;
    ps_device *device;
    ps_device *host; /* runs what device does not; device itself if that works in the host's memory */
    ps_caps caps;
    bool no_fusion;
    bool halves; /* activations are stored as f16, where the device can */
    int threads;
    ps_weights *weights;
    ps_value_info *inputs, *outputs; /* as declared */
    size_t n_inputs, n_outputs;
    size_t nodes_fused;

    ps_model *on[PS_MAX_DEVICES]; /* itself, and those for the other devices, to which it has references. One that has
                                   * taken the place of a lost one may be the first. Guarded by lock */
    const char *names[PS_MAX_DEVICES]; /* of these devices, as the caller gave them */
    size_t n_on;
    ps_model_options options;   /* as it was loaded; without the device, and no string is the caller's */
    atomic_size_t device_bytes; /* of the device's memory, held by sessions */

    ps_mutex own_compile_lock;
    ps_mutex *compile_lock; /* one program is compiled at a time, on all devices; taken before lock */
    ps_mutex lock;
    ps_unit unit;                /* around `graph` */
    ps_program *newest, *oldest; /* programs of all units, most recently used first; guarded by lock */
    size_t cache_bytes;          /* guarded by lock */
    size_t cache_limit;
    int64_t loop_limit;     /* iterations of one Loop */
    size_t shown_from;      /* outputs from there on are shown (ps_session_show), not given; SIZE_MAX: none */
    const char *cache_name; /* of the file's content, for the cache on disk; NULL: it is not cached */
    const char *cache_note; /* what ps_model_cache was given, of a model that came from the cache; else NULL */
    size_t cached_bytes;    /* of packed weights that the cache has, plus 1; 0: it has none. Guarded by compile_lock */
    int64_t plans_made;     /* guarded by lock */
    ps_tuning tuning;       /* guarded by compile_lock; until_ns 0: no trials */
};

/* ---- model ---- */

/* Where a graph comes from: a file, memory, or the caller (who gives it away). */
typedef struct ps_model_source {
    const char *path;
    const void *data;
    size_t size;
    ps_graph *graph;
} ps_model_source;

/* A model on one device. face: the model of the first device, whose part it is; NULL: it is that one. */
ps_status ps_model_make(ps_engine *engine, ps_model_source *from, const ps_model_options *options, ps_model *face,
                        ps_model **ret, ps_error *err);

/* devices.c: at most PS_MAX_DEVICES names that stand in a list with commas; *ret_n 1 and a NULL for NULL. The arena
 * keeps them. */
ps_status ps_model_split_devices(const char *list, ps_arena *arena, const char **ret, size_t *ret_n, ps_error *err);
/* Loads the model on its other devices too. *clones: the graph for each of them, if that is where it comes from; those
 * taken are NULL afterwards. */
ps_status ps_model_spread(ps_model *m, const ps_model_source *from, ps_graph **clones, ps_error *err);
/* The model on the device of that name (NULL: the first), retained. */
ps_status ps_model_take_on(ps_model *m, const char *device, ps_model **ret, ps_error *err);
bool ps_model_lost(const ps_model *m);

/* ---- plan ---- */

typedef enum ps_storage_kind {
    PS_ST_ARENA,
    PS_ST_INPUT,  /* memory of plan input `index` */
    PS_ST_OUTPUT, /* memory of plan output `index` */
    PS_ST_CONST,  /* `data` */
} ps_storage_kind;

typedef struct ps_storage {
    ps_storage_kind kind;
    ps_space space; /* inputs and outputs are in host memory */
    uint32_t index;
    uint32_t same; /* merged into that storage, or PS_NONE */
    uint32_t end;  /* input, or n_inputs + output, in whose memory a storage of the device may lie; or PS_NONE */
    size_t bytes, offset;
    void *data;            /* of a constant: its elements, or the device's buffer */
    int32_t first, last;   /* steps, inclusive */
    int32_t last_download; /* step that brings it from the device, or -1 */
} ps_storage;

typedef enum ps_transfer { PS_TRANSFER_NONE, PS_TRANSFER_UPLOAD, PS_TRANSFER_DOWNLOAD } ps_transfer;

typedef struct ps_step {
    ps_kernel *kernel;
    ps_device *device;
    const ps_node *node; /* NULL for copies */
    const char *op, *name;
    uint32_t *args; /* storages: n_in inputs, then n_out outputs; PS_NONE where omitted */
    uint32_t n_in, n_out;
    uint32_t workspace; /* storage or PS_NONE */
    int32_t inplace;
    bool reorder;
    bool wait;            /* for the device, before it runs */
    ps_transfer transfer; /* a copy between memories; the host goes on meanwhile */
    ps_shape shape;
    ps_dtype stored; /* what the first output lies as */
    int64_t macs;
    const char *why; /* it does not run on the model's device, or NULL */
} ps_step;

typedef struct ps_plan_output {
    uint32_t storage;
    ps_dtype dtype;
    ps_shape shape;
} ps_plan_output;

/* A value to be shown as soon as a step has made it, in the layout it was made in: its memory may be reused later. */
typedef struct ps_plan_show {
    uint32_t storage, output; /* output: of the plan's graph */
    int32_t step;             /* -1: it is there before the first one */
    ps_dtype dtype;
    ps_shape shape;
    ps_layout layout;
} ps_plan_show;

struct ps_plan {
    ps_model *model; /* not owned */
    ps_arena arena;
    ps_graph *graph; /* nodes and constants that kernels point to */
    int threads;
    ps_step *steps;
    size_t n_steps;
    ps_storage *storages;
    size_t n_storages;
    size_t arena_bytes[PS_SPACES], no_reuse_bytes;
    uint32_t *inputs; /* storages */
    size_t n_inputs;
    ps_plan_output *outputs;
    size_t n_outputs;
    ps_plan_show *shows; /* in the order of steps */
    size_t n_shows;
    uint32_t *ends; /* storages of the device that may lie in the memory of an input or output */
    size_t n_ends;
    size_t n_reorders, n_transfers;
    int64_t macs;
    size_t bytes;   /* of the plan and its kernels */
    int64_t slices; /* it runs that many times, each time over the next rows of inputs and outputs (slice.c); or 1 */
};

/* Lowers g, in which every shape is fixed and every node is resolved; the plan owns g from here on, also on failure.
 * Outputs of g from shown_from on are shown, not given (host devices only); SIZE_MAX: none. */
ps_status ps_plan_compile(ps_model *model, ps_graph *g, int threads, size_t shown_from, ps_plan **ret, ps_error *err);
void ps_plan_free(ps_plan *plan);
/* weights.c: the constants that this plan's runs read as they are stay; those that its kernels took go. */
ps_status ps_plan_weights(ps_plan *plan, ps_error *err);
/* ends.c: finds the inputs and outputs that a device that shares the host's memory may use where they lie. */
ps_status ps_plan_ends(ps_plan *plan, ps_error *err);
/* Merges in-place pairs and lays out one arena a memory; fills offsets, arena_bytes, no_reuse_bytes. */
ps_status ps_plan_memory(ps_plan *plan, ps_alloc_state *alloc, ps_error *err);
uint32_t ps_storage_find(const ps_plan *plan, uint32_t s);
int64_t ps_node_macs(const ps_node *node);
/* halves.c: by value id, true where a value is not to be stored as halves on this device. Freed by the caller. */
ps_status ps_plan_halves(const ps_graph *g, const ps_device *device, ps_alloc_state *alloc, bool **ret, ps_error *err);

/* slice.c: rows of the batch that should run at a time, so that values stay in the cache; 0: all of them. g as for
 * ps_plan_compile. */
int64_t ps_slice_rows(const ps_graph *g, int threads, int64_t *ret_batch);
/* Is `part`, made for so many rows, the same computation as `whole`, made for a batch? */
bool ps_slice_is_same(const ps_graph *whole, const ps_graph *part, int64_t batch, int64_t rows);
/* Makes a plan for so many rows one of `slices` times as many. */
void ps_plan_slice(ps_plan *plan, int64_t slices);

/* Part of src as a root of its own: `inputs` become its inputs (with their present shapes), the nodes are copied in the
 * order given, constants shared. src may be a subgraph. */
ps_status ps_graph_extract(const ps_graph *src, ps_node *const *nodes, size_t n_nodes, ps_value *const *inputs,
                           size_t n_inputs, ps_value *const *outputs, size_t n_outputs, ps_graph **ret, ps_error *err);

/* ---- program ---- */

typedef enum ps_item_kind {
    PS_ITEM_PLAN,
    PS_ITEM_UNIT,   /* nodes that can be planned once the values before them are there */
    PS_ITEM_KERNEL, /* one dynamic node, by its reference kernel */
    PS_ITEM_COPY,   /* in[0] to out[0] */
    PS_ITEM_IF,
    PS_ITEM_LOOP,
    PS_ITEM_SCAN,
    PS_ITEM_SEQUENCE_MAP,
} ps_item_kind;

/* A subgraph of a control-flow node: its unit's inputs are those of the subgraph, then what it captures. */
typedef struct ps_body {
    ps_unit *unit;
    uint32_t *captures; /* slots */
    size_t n_captures;
} ps_body;

typedef struct ps_item {
    ps_item_kind kind;
    const ps_node *node; /* NULL for plans, units and copies */
    ps_plan *plan;
    ps_unit *unit;
    ps_body body[2];    /* then and else; or the body of a loop */
    uint32_t *in, *out; /* slots, one per input and output of node, plan or unit; PS_NONE: an omitted input */
    uint32_t n_in, n_out;
    uint32_t *done; /* slots that no later item reads */
    uint32_t n_done;
} ps_item;

typedef struct ps_constant_slot {
    uint32_t slot;
    ps_tensor *tensor; /* held by the program's graph */
} ps_constant_slot;

struct ps_program {
    ps_unit *unit;
    atomic_int refs;
    ps_arena arena;
    ps_graph *graph; /* nodes and constants that items point to; NULL if its only plan owns the graph */
    int threads;
    ps_item *items;
    size_t n_items;
    uint32_t n_slots;  /* the first unit->graph->n_inputs of them are the inputs */
    uint32_t *outputs; /* slot of each output, no two the same */
    size_t n_outputs;
    ps_constant_slot *constants;
    size_t n_constants;

    int64_t *key;
    size_t key_words;
    uint64_t key_hash;
    size_t bytes;              /* without what its units have made */
    ps_program *next;          /* in unit->programs; guarded by the model's lock, as the following */
    ps_program *newer, *older; /* in the model's cache */
    bool linked;
    atomic_bool evicted; /* the cache has let it go: sessions do so too when they next make room */
    atomic_bool used;    /* by a session since the cache last looked for programs to let go */
};

/* Compiles the unit's graph for inputs like those in `ends` (dtypes, shapes, contents where by_value). */
ps_status ps_program_compile(ps_unit *unit, ps_slot *const *ends, int threads, ps_program **ret, ps_error *err);
ps_program *ps_program_retain(ps_program *p);
void ps_program_release(ps_program *p); /* NULL is allowed; takes the model's lock */
/* Which inputs of a node decide the shape of its outputs by their content (ONNX: shape, axes, pads …): bit i for in[i].
 * Left out where it does not matter much: what is missing here costs a nested program, nothing else. */
uint32_t ps_shape_inputs(const ps_node *node);

/* The program of a unit for these inputs, from the cache or compiled; retained for the caller. The key is of
 * ps_key_fill. */
ps_status ps_unit_program(ps_unit *unit, ps_slot *const *ends, const int64_t *key, size_t words, int threads,
                          ps_program **ret, ps_error *err);
/* Takes what a unit has made out of the cache and lets go of it; for the end of its owner. */
void ps_unit_clear(ps_unit *unit);
size_t ps_key_room(size_t n_inputs); /* words that suffice */
size_t ps_key_fill(int64_t *key, const ps_unit *unit, int threads, ps_slot *const *ends);

/* A model around a graph that did not come from a file (tests; other formats); takes the graph, also on failure. */
ps_status ps_model_from_graph(ps_engine *engine, ps_graph *graph, const ps_model_options *options, ps_model **ret,
                              ps_error *err);

/* ---- session ---- */

typedef struct ps_buffer {
    void *data;
    size_t size;
} ps_buffer;

/* Memory for values, shared by all slots of a session: what a slot no longer needs, the next one takes. */
typedef struct ps_pool {
    ps_alloc_state *alloc;
    PS_VEC(ps_buffer) free; /* by size, ascending */
    size_t largest;         /* value since the last trim */
} ps_pool;

ps_status ps_pool_init(ps_pool *pool, ps_alloc_state *alloc, ps_error *err);
/* Gives *b at least `size` bytes, its own if they suffice; the content is lost. */
ps_status ps_pool_fit(ps_pool *pool, ps_buffer *b, size_t size, ps_error *err);
/* Room for `more` bytes behind the first `used`, which stay. */
ps_status ps_pool_grow(ps_pool *pool, ps_buffer *b, size_t used, size_t more, ps_error *err);
void ps_pool_put(ps_pool *pool, ps_buffer *b); /* *b is empty afterwards */
/* After a run: one huge run must not hold its memory for the session's life. */
void ps_pool_trim(ps_pool *pool);
void ps_pool_clear(ps_pool *pool);

/* Where a value lies between items and programs. Its maker resolves it; whoever reads it finds dtype, shape and data.
 * Numbers lie in the buffer, which is kept from run to run, or in memory of somebody else (`data`). Strings and
 * containers are a tensor of their own. */
struct ps_slot {
    ps_dtype dtype;
    ps_shape shape;
    void *data;
    ps_buffer buffer;
    ps_tensor *object;  /* retained, or NULL */
    ps_tensor *given;   /* the caller's tensor that an output of the session is to be written to, or NULL */
    const char *output; /* name of the session's output, or NULL */
};

/* Makes room for a value of numbers; or, for an output that the caller gave, checks that it is of that kind. */
ps_status ps_slot_resolve(ps_pool *pool, ps_slot *slot, ps_dtype dtype, const ps_shape *shape, ps_error *err);
/* The value is from now on this tensor (a heap tensor; the reference is taken over, on failure too). Numbers move into
 * the buffer without a copy where that is possible. */
ps_status ps_slot_take(ps_pool *pool, ps_slot *slot, ps_tensor *tensor, ps_error *err);
ps_status ps_slot_copy(ps_pool *pool, ps_slot *to, const ps_slot *from, ps_error *err);
/* The same, but `from` is not read again before it is made anew: memory changes hands where it can. */
ps_status ps_slot_move(ps_pool *pool, ps_slot *to, ps_slot *from, ps_error *err);
/* Borrows memory of somebody else for the time of a run. */
void ps_slot_borrow(ps_slot *slot, ps_dtype dtype, const ps_shape *shape, void *data);
/* A tensor on the stack over the slot's value. */
void ps_slot_view(const ps_slot *slot, ps_tensor *ret);
/* The value is not needed any more. */
void ps_slot_clear(ps_pool *pool, ps_slot *slot);

/* What a session keeps of one plan. */
typedef struct ps_plan_state {
    const ps_plan *plan;
    void **ptrs; /* of every storage */
    void **args; /* of every step, in the order of steps[].args */
    void **kernel_states;
    ps_region *regions;    /* of every storage in a device's memory, for ptrs to point at */
    void **aimed;          /* buffers of plan->ends; NULL before the first run that could use one */
    void *resolved_arena;  /* ptrs and args are valid for this arena, */
    void *resolved_device; /* this one of the device, */
    void **resolved_ends;  /* and these ends: inputs, then outputs */
    int64_t *step_ns, *step_calls;
} ps_plan_state;

typedef struct ps_state ps_state;

typedef struct ps_state_list {
    ps_state *newest, *oldest;
    size_t n;
} ps_state_list;

/* What a session keeps of one item. */
typedef struct ps_item_state {
    ps_plan_state *plan;
    ps_state_list children[2]; /* of the unit; of then and else; of a body */
    ps_slot **ends;            /* scratch: the inputs and outputs of a child's run */
    ps_slot *locals;           /* values of a loop's own */
    size_t n_locals;
    ps_slot **scan_ends; /* of a scan, as scan.c says */
    ps_value *values;    /* of a dynamic node: its inputs and outputs with the types of this run */
    ps_value **pointers; /* to them, in place of node->in and node->out */
    ps_tensor *views;
    ps_tensor **tensors;
    int64_t ns, calls;
} ps_item_state;

/* What a session keeps of one program. */
struct ps_state {
    ps_program *program; /* retained */
    ps_slot **slots;     /* inputs and outputs are the caller's, the others lie in `locals` */
    ps_slot *locals;
    ps_item_state *items;
    ps_state *newer, *older;
};

/* Sees a value of a run: output `index` of the model. The tensor is there during the call only, and has strides where
 * its channels lie innermost. What it returns ends the run, unless that is PS_OK. */
typedef ps_status (*ps_show_fn)(void *ctx, size_t index, const ps_tensor *value, ps_error *err);

struct ps_session {
    ps_model *face;  /* what the caller made it of, and */
    ps_model *model; /* that on the session's device: a reference to each */
    ps_alloc_state *alloc;
    int threads;
    bool profile;
    ps_pool pool;           /* of all slots */
    ps_buffer arena;        /* of every plan that runs: between items, values lie in slots */
    ps_buffer device_arena; /* the same in the device's memory: a buffer of it */
    ps_stream *stream;      /* of a device with memory of its own, or NULL */
    ps_buffer key;          /* scratch */
    ps_buffer *staging;     /* per input: packed copies of strided or misaligned tensors */
    ps_tensor **outputs;    /* own output tensors, kept between runs */
    ps_slot *ends;          /* inputs, then outputs */
    ps_slot **end_ptrs;
    ps_state_list states;
    const ps_run_options *options; /* of the run in progress */
    ps_show_fn show;               /* may be NULL */
    void *show_ctx;
};

/* show.c: who sees the outputs from model->shown_from on, in the next runs. A program that is one plan shows each when
 * it is made; others show them all at the end of the run. */
void ps_session_show(ps_session *s, ps_show_fn show, void *ctx);
/* The values that step has made; *next counts through the plan's list. */
ps_status ps_plan_show_step(ps_session *s, const ps_plan_state *st, int32_t step, size_t *next, ps_error *err);
ps_status ps_session_show_rest(ps_session *s, ps_error *err);
void ps_session_forget_shown(ps_session *s);
/* Was the last run that of one plan on the host? */
bool ps_session_one_plan(const ps_session *s);
ps_status ps_plan_state_new(ps_session *s, const ps_plan *plan, ps_plan_state **ret, ps_error *err);
void ps_plan_state_free(ps_session *s, ps_plan_state *st);
/* ends.c: around a run whose ends are resolved. Nothing is under way when they are let go. */
ps_status ps_ends_aim(ps_session *session, ps_plan_state *st, ps_error *err);
void ps_ends_let_go(ps_session *session, ps_plan_state *st);
void ps_ends_free(ps_session *session, ps_plan_state *st);
/* Runs a plan: one slot per input, one per output. */
ps_status ps_plan_exec(ps_session *s, ps_plan_state *st, ps_slot *const *in, ps_slot *const *out, ps_error *err);

void ps_state_list_clear(ps_session *s, ps_state_list *list);
/* Runs a unit. Any of its states may be dropped and made on the way. */
ps_status ps_unit_run(ps_session *s, ps_unit *unit, ps_state_list *list, ps_slot *const *in, ps_slot *const *out,
                      int depth, ps_error *err);
/* The items with subgraphs. */
ps_status ps_item_if(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err);
ps_status ps_item_loop(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err);
ps_status ps_item_scan(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth, ps_error *err);
ps_status ps_item_sequence_map(ps_session *s, ps_state *st, const ps_item *item, ps_item_state *is, int depth,
                               ps_error *err);
/* Gives back what a loop's own values hold. */
void ps_item_release(ps_session *s, ps_item_state *is);
/* Cancelled, or past the deadline? */
ps_status ps_check_stop(const ps_session *s, ps_error *err);
static inline ps_slot *ps_state_slot(const ps_state *st, uint32_t slot) {
    return slot == PS_NONE ? NULL : st->slots[slot];
}

/* At least `size` bytes; the content is lost if the memory moves. */
ps_status ps_buffer_fit(ps_alloc_state *alloc, ps_buffer *b, size_t size, ps_error *err);

#endif
