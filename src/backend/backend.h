/* backend.h - what a device is to the runtime: it lowers nodes to kernels, and kernels run.
 *
 * A kernel's life: lower (choose, check, pack weights, size the workspace: all that may be slow or fail) → state_new
 * (what one session needs to run it) → run → state_free → free. The kernel itself is immutable and shared by all
 * sessions of a plan.
 *
 * Layouts: a value of rank >= 3 lies in memory as ONNX says (plain) or with the channel axis innermost (channels-last).
 * There are no others: measured, oneDNN's channels-last convolutions tie with its blocked ones, and every other kernel
 * stays simple.
 *
 * Storage: f32, or as halves (f16) in the memory of a device that computes in f32 and offers to store its values so
 * (ops->halves), if the model was loaded with that wish. The value's dtype is f32 in either case.
 *
 * Each device has an ordered list of implementations per operator; the first that accepts a node wins; the reference
 * kernel (ref/) accepts every operator that has one, in plain layout.
 *
 * Most devices work in the host's memory. One that has memory of its own (ops->memory) runs its kernels on a stream, in
 * order, while the host goes on; what it declines runs on the CPU device, with copies between the two memories. */
#ifndef PS_BACKEND_BACKEND_H
#define PS_BACKEND_BACKEND_H

#include <stdatomic.h>

#include "base/cache.h"
#include "base/thread.h"
#include "graph/caps.h"
#include "ops/params.h"

typedef struct ps_device ps_device;
typedef struct ps_kernel ps_kernel;
typedef struct ps_weights ps_weights;

/* Which memory a value lies in. */
typedef enum ps_space { PS_SPACE_HOST, PS_SPACE_DEVICE, PS_SPACES } ps_space;

typedef enum ps_layout { PS_LAYOUT_PLAIN, PS_LAYOUT_CHANNELS_LAST } ps_layout;

/* How a value lies in a memory. */
typedef struct ps_form {
    ps_layout layout;
    bool half; /* an f32 value stored as f16 */
} ps_form;

/* Is plain memory of this shape also channels-last memory (one channel, one pixel, rank < 3, no elements)? */
bool ps_layout_same(const ps_shape *shape);
/* Strides in elements, in the order of the shape's axes. */
void ps_layout_strides(const ps_shape *shape, ps_layout layout, int64_t strides[PS_MAX_RANK]);

/* The shape's axes, outermost in memory first. */
void ps_layout_axes(int rank, ps_layout layout, int ret[PS_MAX_RANK]);
/* The axes of a reduction as a bit mask; false when they are not known now. */
bool ps_reduce_axes(const ps_node *node, uint32_t *ret);

typedef struct ps_stream ps_stream; /* one of each session; one thread at a time */

/* Some bytes of a device's memory. */
typedef struct ps_region {
    void *buffer;
    size_t offset; /* bytes, a multiple of PS_ALIGN */
} ps_region;

/* On a device with memory of its own, in, out and workspace point at ps_region. */
typedef struct ps_kernel_args {
    void *const *in;       /* as node->in; NULL where omitted */
    void *const *out;      /* as node->out */
    void *workspace;       /* kernel->workspace bytes, PS_ALIGN aligned; NULL if 0 */
    void *state;           /* of state_new; NULL if there is none */
    ps_alloc_state *alloc; /* for reference kernels only: a steady run must not allocate */
    ps_stream *stream;     /* NULL: the device works in the host's memory */
} ps_kernel_args;

typedef struct ps_kernel_ops {
    ps_status (*run)(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err);
    void (*free)(ps_kernel *kernel);
    /* (optional) per-session mutable state; default none */
    ps_status (*state_new)(const ps_kernel *kernel, ps_alloc_state *alloc, void **ret_state, ps_error *err);
    void (*state_free)(const ps_kernel *kernel, ps_alloc_state *alloc, void *state);
} ps_kernel_ops;

/* First member of every kernel. */
struct ps_kernel {
    const ps_kernel_ops *ops;
    ps_alloc_state *alloc; /* it came from here */
    size_t workspace;
    size_t
        bytes; /* memory it brings beside shared weights, for the plan cache's count; device code may be an estimate */
    char label[80]; /* "onednn.conv brgconv:avx512_core" */
    uint64_t taken; /* bit i: node input i was taken into the weight store, the kernel never reads it as it was */
};

#define PS_LOWER_MAX 128 /* inputs or outputs of one node; more are refused when a plan is made */

/* Trials of a kernel's variants on a device: until when new ones may begin, and what came of them. */
typedef struct ps_tuning {
    int64_t until_ns;                        /* of ps_clock_ns */
    uint64_t problems, tried, faster, wrong; /* problems; variants run; problems with another than the usual one;
                                              * variants with other results, which are never taken */
    int64_t usual_ns, best_ns;               /* of all problems, by the usual variants and by those chosen */
} ps_tuning;

/* A question to a device, and its answer. The node's shapes are fixed and its dtypes known. */
typedef struct ps_lowering {
    const ps_node *node;
    int threads;
    ps_weights *weights;
    ps_alloc_state *alloc;
    ps_layout in_layout[PS_LOWER_MAX];  /* asked: how inputs lie now; answered: how the kernel wants them */
    ps_layout out_layout[PS_LOWER_MAX]; /* answered; plain by default */
    bool in_half[PS_LOWER_MAX];  /* asked: is the input stored as halves now; answered: does the kernel want it so */
    bool out_half[PS_LOWER_MAX]; /* asked: should the output be stored so; answered: it is. Of f32 values only */
    ps_kernel *kernel;           /* answered: NULL = declined */
    int inplace;       /* answered: out[0] may take the memory of this input if that is its last use; -1: no */
    bool alias;        /* answered, with kernel == NULL: out[0] is the memory of in[0], nothing to run */
    uint64_t taken;    /* kept by ps_weights_take */
    ps_tuning *tuning; /* asked: variants may be tried; NULL: those that were tried before are taken, no others */
    bool frugal;       /* asked: memory is short, what needs much of it declines */
    bool roomy;        /* answered: the kernel takes memory for speed, and would not if it were asked to be frugal */
    const char *why;   /* (optional) answered by a device that declined: the reason, static storage */
} ps_lowering;

/* Declines by returning PS_OK with kernel == NULL and alias false. */
typedef ps_status (*ps_lower_fn)(ps_device *device, ps_lowering *lowering, ps_error *err);

/* Which f32 values a kernel may read and write as halves. A lower function that may not sees none in the question. */
typedef enum ps_halves { PS_HALVES_NONE, PS_HALVES_READ, PS_HALVES_WRITE, PS_HALVES_BOTH } ps_halves;

typedef struct ps_impl {
    const char *op, *domain;
    ps_lower_fn lower;
    ps_halves halves;
} ps_impl;

/* What a device with memory of its own offers. A buffer is its handle for some of that memory. */
typedef struct ps_memory_ops {
    /* content: bytes that it holds from the start, or NULL. PS_NO_MEMORY when there is none left. */
    ps_status (*buffer_new)(ps_device *device, size_t bytes, const void *content, void **ret, ps_error *err);
    void (*buffer_free)(ps_device *device, void *buffer); /* NULL is allowed */
    /* Into the first bytes of a buffer that nothing else uses; they are there when it returns. */
    ps_status (*buffer_write)(ps_device *device, void *buffer, const void *content, size_t bytes, ps_error *err);
    /* threads: which copies may use, when they are asked for or waited for. */
    ps_status (*stream_new)(ps_device *device, int threads, ps_stream **ret, ps_error *err);
    void (*stream_free)(ps_stream *stream); /* NULL is allowed; nothing may be under way */
    /* Both return at once: host memory must stay as it is (dst: is not there) until the next sync. */
    ps_status (*upload)(ps_stream *stream, const ps_region *dst, const void *src, size_t bytes, ps_error *err);
    ps_status (*download)(ps_stream *stream, void *dst, const ps_region *src, size_t bytes, ps_error *err);
    /* Waits for all that was asked for, and tells what went wrong in it. */
    ps_status (*sync)(ps_stream *stream, ps_error *err);
    /* Was the device lost (PS_UNAVAILABLE)? Then everything asked of it fails, and what is on it may only be freed. */
    bool (*lost)(ps_device *device);
    /* The same hardware as a new device, with nothing on it. */
    ps_status (*reopen)(ps_device *device, ps_device **ret, ps_error *err);
    /* FLOP/s of multiply-adds; bytes/s read and written by a copy. */
    ps_status (*measure)(ps_device *device, double *ret_flops, double *ret_bytes, ps_error *err);
    /* Of a device that shares the host's memory: from here on *buffer is that memory itself, and copies between the two
     * cost nothing. A buffer is made where *buffer is NULL; freeing it leaves the memory. host: as the caller wrote it,
     * his until the buffer is aimed elsewhere or freed, while nothing uses it; NULL: at nothing. False: it could not
     * be, and the buffer, if there is one, is of no use. */
    bool (*buffer_aim)(ps_device *device, void **buffer, void *host, size_t bytes);
} ps_memory_ops;

typedef struct ps_device_ops {
    int version; /* 1 */
    ps_status (*lower)(ps_device *device, ps_lowering *lowering, ps_error *err);
    /* Kernel that converts between layouts, and storages where the device has more than one; in[0] → out[0]. */
    ps_status (*reorder)(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to,
                         int threads, ps_alloc_state *alloc, ps_kernel **ret, ps_error *err);
    void (*free)(ps_device *device);
    /* (optional) around every run and every lowering on the calling thread: sets up and restores the thread team */
    int (*enter)(ps_device *device, int threads);
    void (*leave)(ps_device *device, int token);
    const ps_memory_ops *memory; /* NULL: it works in the host's memory */
    /* May this f32 value be stored as halves, as far as that node is concerned, which makes or reads it? A guess: what
     * lowering answers counts. NULL: the device stores none so. */
    bool (*halves)(const ps_device *device, const ps_node *node, const ps_value *value);
    /* (optional) why the device could not run this kernel of its own, for which lowering then declines; NULL: it can */
    const char *(*refuses)(const ps_kernel *kernel);
} ps_device_ops;

struct ps_device {
    const ps_device_ops *ops;
    ps_alloc_state *alloc;
    ps_caps caps;
    ps_device_info info;
    bool shares_memory;        /* with the host: buffer_aim is worth a try */
    atomic_size_t held, limit; /* of memory of its own: bytes given out, and the most; 0: all there is */
    char name[32], hardware[96], driver[96];
};

/* ---- devices ---- */
/* The devices every machine has, "cpu" first; *ret_n <= max. On failure the ones made so far are counted too. */
ps_status ps_devices_create(ps_alloc_state *alloc, ps_device **ret, size_t max, size_t *ret_n, ps_error *err);
/* Before the first ps_devices_discover, on a thread beside which no other reads the environment, as far as that can be:
 * drivers may want a variable set. */
void ps_devices_prepare(void);
/* What each device that is found so can do at least, known before any is: int8 only some can. */
extern const ps_caps ps_devices_found_caps;
/* Appends the devices that are slow to find: drivers are loaded. cache: for compiled programs; NULL, or as long as
 * they. What keeps a card of this machine from being used is appended to advice, a line each. A machine without any is
 * no failure. */
ps_status ps_devices_discover(ps_alloc_state *alloc, ps_cache *cache, ps_device **ret, size_t max, size_t *ret_n,
                              ps_str *advice, ps_error *err);
void ps_device_free(ps_device *device); /* NULL is allowed */
/* What OpenCL devices have kernels for, each operator in a row or several; *ret_n of them, 0 in a build without. */
const ps_impl *ps_opencl_operators(size_t *ret_n);
ps_status ps_device_new_ref(ps_alloc_state *alloc, ps_device **ret, ps_error *err);
ps_status ps_device_new_cpu(ps_alloc_state *alloc, ps_device **ret, ps_error *err);

/* What the first implementation of a node's operator says. */
ps_halves ps_list_halves(const ps_impl *impls, size_t n, const ps_node *node);
/* Walks a list of implementations. */
ps_status ps_lower_list(ps_device *device, const ps_impl *impls, size_t n, ps_lowering *lowering, ps_error *err);
/* The same, then the reference kernel. */
ps_status ps_lower_with(ps_device *device, const ps_impl *impls, size_t n, ps_lowering *lowering, ps_error *err);
/* The reference kernel as a kernel; plain layout everywhere. Declines operators without one. */
ps_status ps_lower_ref(ps_device *device, ps_lowering *lowering, ps_error *err);
/* Allocates a zeroed kernel of `size` bytes whose first member is ps_kernel, into *(ps_kernel **)ret. */
ps_status ps_kernel_new(ps_alloc_state *alloc, size_t size, const ps_kernel_ops *ops, const char *label, void *ret,
                        ps_error *err);
void ps_kernel_free(ps_kernel *kernel); /* NULL is allowed */

/* ---- packed weights, one store per model ----
 * Built once per (content, key), shared by all plans, freed with the store. Getting one is thread-safe; what else is
 * here belongs to whoever compiles plans, one thread at a time. README.md has the life of a weight. */
typedef ps_status (*ps_pack_fn)(void *ctx, void *dst, ps_error *err);
/* The model's optimised graph once more, from where it came; the content that was dropped is taken from it. */
typedef ps_status (*ps_reload_fn)(void *ctx, ps_graph **ret, ps_error *err);

ps_status ps_weights_new(ps_alloc_state *alloc, ps_weights **ret, ps_error *err);
void ps_weights_free(ps_weights *weights); /* NULL is allowed */
/* The packed form of src under key, made by pack(ctx, dst) into `size` aligned bytes if it is not there yet. */
ps_status ps_weights_get(ps_weights *weights, const ps_tensor *src, const char *key, size_t size, ps_pack_fn pack,
                         void *ctx, const void **ret, ps_error *err);
/* The same, and pack reads the tensor's `narrow` or `codes` where there are any: its content may be away then. */
ps_status ps_weights_get_narrow(ps_weights *weights, const ps_tensor *src, const char *key, size_t size,
                                ps_pack_fn pack, void *ctx, const void **ret, ps_error *err);
/* As ps_weights_get for node input `index` of the kernel being lowered, which will not read that input as it is: the
 * tensor's content may go. ctx may point at it, its address stays. */
ps_status ps_weights_take(ps_lowering *lowering, uint32_t index, const char *key, size_t size, ps_pack_fn pack,
                          void *ctx, const void **ret, ps_error *err);
/* The same, and pack reads the tensor's `narrow` or `codes` where there are any: its content may be away then. */
ps_status ps_weights_take_narrow(ps_lowering *lowering, uint32_t index, const char *key, size_t size, ps_pack_fn pack,
                                 void *ctx, const void **ret, ps_error *err);
/* Is that packed form there already? device: in whose memory; NULL: the host's. */
bool ps_weights_has(ps_weights *weights, ps_device *device, const ps_tensor *src, const char *key, size_t size);
/* F16 or BF16 if all numbers of an f32 tensor are of that type, bit for bit, else F32: by its `narrow`, or by its
 * content, which is there afterwards. */
ps_status ps_weights_narrowest(const ps_tensor *src, ps_dtype *ret, ps_error *err);
/* A packed form in the memory of a device that has its own. */
typedef struct ps_packing {
    size_t size;
    ps_pack_fn pack; /* into host memory, which is then sent; NULL: the content as it is */
    /* (optional) The same by the device: `content`, a buffer, holds the tensor's elements as they lie (of its `narrow`,
     * where narrow says so), dst is the packed form. Done when it returns. */
    ps_status (*place)(void *ctx, const void *content, void *dst, ps_error *err);
    void *ctx;
    bool narrow; /* pack and place take the tensor's `narrow` where there is one; pack also its `codes` */
} ps_packing;
/* As ps_weights_take. Where the device's memory does not hold content and packed form at once, the host packs. */
ps_status ps_weights_take_on(ps_lowering *lowering, ps_device *device, uint32_t index, const char *key,
                             const ps_packing *packing, void **ret, ps_error *err);
/* A constant as it is in such memory, outside of a lowering: whoever uses it sets the kernel's `taken`. */
ps_status ps_weights_plain_on(ps_weights *weights, ps_device *device, ps_tensor *tensor, void **ret, ps_error *err);
size_t ps_weights_bytes(ps_weights *weights); /* in host memory */
size_t ps_weights_device_bytes(ps_weights *weights);

/* A packed form in host memory, as the store has it: `hash` is of the content and the key. */
typedef struct ps_packed {
    uint64_t hash;
    const char *key;
    size_t size;
    const void *data; /* as long as the store */
} ps_packed;
typedef ps_status (*ps_packed_fn)(void *ctx, const ps_packed *packed, ps_error *err);
ps_status ps_weights_each(ps_weights *weights, ps_packed_fn fn, void *ctx, ps_error *err);
/* A packed form that an earlier store had, for the caller to fill before anybody asks for it. */
ps_status ps_weights_add(ps_weights *weights, uint64_t hash, const char *key, size_t size, void **ret, ps_error *err);
/* From now on the content of g's large constants may go once kernels have taken it. g outlives all use of the store. */
ps_status ps_weights_adopt(ps_weights *weights, const ps_graph *g, ps_reload_fn reload, void *ctx, ps_error *err);
/* A plan reads this constant as it is: its content is there afterwards and stays. */
ps_status ps_weights_keep(const ps_tensor *t, ps_error *err);
/* After a plan was compiled: all content that was taken and that no plan keeps goes. */
void ps_weights_settle(ps_weights *weights);

#endif
