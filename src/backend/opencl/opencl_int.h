/* opencl_int.h - shared by the files of the OpenCL devices.
 *
 *   api.h       OpenCL, loaded while the program runs
 *   discover.c  platforms and devices
 *   advice.c    what keeps a card from being used
 *   family.c    families of devices, their tables of tiles and costs
 *   device.c    the device and its implementation list
 *   memory.c    buffers and streams
 *   staging.c   large copies through pinned memory
 *   program.c   kernels/NAME.cl with options → a program, compiled once, kept on disk
 *   launch.c    a kernel of the plan as a list of launches
 *   place.c     weights packed by the device
 *   post.c      chains of post-operations as OpenCL C
 *   dot.c       which dot product of codes a device has, and what their kernels share
 *   gemm.c conv.c pointwise.c …   one file per operator family: lower functions */
#ifndef PS_BACKEND_OPENCL_INT_H
#define PS_BACKEND_OPENCL_INT_H

#include "backend/backend.h"
#include "backend/chain.h"
#include "backend/opencl/api.h"
#include "backend/opencl/family.h"
#include "base/cache.h"
#include "base/map.h"

typedef struct ocl_program {
    cl_program handle;
    char *key; /* name, options and generated text */
} ocl_program;

/* How four products of 8-bit codes come to a sum in kernels/qgemm.cl: its DOT is one less. */
typedef enum ocl_dot {
    OCL_DOT_NONE,      /* not at all: the passes leave products in f32 (ps_caps.int8 is false) */
    OCL_DOT_PLAIN,     /* in plain C, which gains nothing: for tests, who set caps.int8 too */
    OCL_DOT_EXTENSION, /* cl_khr_integer_dot_product, where it says that this is one instruction */
    OCL_DOT_NVIDIA,    /* dp4a, from compute capability 6.1 on */
} ocl_dot;

typedef struct ocl_device {
    ps_device base;
    ocl_api api; /* a copy: the library itself stays in memory */
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
    size_t index; /* among OpenCL's devices: its name */
    cl_context context;
    bool gpu;           /* else a processor, which compiles unrolled loops for minutes and gains nothing */
    ocl_family family;  /* whose table of tiles and costs (family.c) */
    int test_tile;      /* of tests: ocl_test_tile(n), whatever it costs, and from 2 on depthwise by four pixels */
    int test_winograd;  /* of tests: F(2x2) or F(4x4) wherever it is right, -1: nowhere; 0: where it costs less */
    int test_halves;    /* of tests: bits: 1: inputs as halves, 2: outputs, 4: of inputs the even ones alone */
    int test_attention; /* of tests: 1: in one launch wherever it can be, -1: nowhere; 0: where it costs less */
    int test_place;     /* of tests: 1: weights are packed by the device, -1: by the host; 0: by a graphics card */
    ocl_dot dot;        /* what the device has (dot.c); OCL_DOT_PLAIN: of tests */
    int test_staging;   /* of tests: 1: large copies go through pinned memory, -1: none; 0: to memory of a card */
    size_t largest;     /* bytes of one buffer */
    size_t most_items;  /* of a work-group */
    size_t most_groups; /* in y and in z of a launch */
    int64_t units;      /* compute units as work-groups come to them, at least 1: of Intel's eight are one */
    int filled;         /* items that fill one: the table's, or as the driver says */
    cl_command_queue queue; /* uploads of weights; guarded by lock */
    cl_mem probe;           /* an int, to see whether the device answers */
    atomic_bool lost;       /* for good: all that is asked of it fails; the engine opens another in its place */
    ps_mutex lock;
    ps_map programs;  /* key → ocl_program; guarded by lock */
    ps_cache *cache;  /* the engine's; NULL: none */
    char target[512]; /* device and driver, for the cache's key */
} ocl_device;

static inline ocl_device *ocl_of(ps_device *d) {
    return (ocl_device *)d;
}

/* Fills err: which call on which device failed. Out of memory and a lost device have statuses of their own; a code that
 * tells of a loss marks the device. */
ps_status ocl_fail(ocl_device *d, const char *call, cl_int code, ps_error *err);
/* The same for calls that run something, which may tell of a loss by other codes: the device is asked whether it still
 * answers. Not with d->lock held. */
ps_status ocl_fail_running(ocl_device *d, const char *call, cl_int code, ps_error *err);
/* PS_UNAVAILABLE if it was lost before. */
ps_status ocl_still_there(ocl_device *d, ps_error *err);
/* The same device in a context of its own, without what is on this one. */
ps_status ocl_reopen(ps_device *device, ps_device **ret, ps_error *err);

extern const ps_device_ops ocl_device_ops;
extern const ps_memory_ops ocl_memory_ops;
cl_mem ocl_buffer_mem(const void *buffer);
/* Would it give a buffer of so many bytes, with so many more in others? */
bool ocl_has_room(const ocl_device *d, size_t buffer, size_t more);

/* One sentence a line for what keeps a card of this machine from being used. root: "" outside of tests. platforms:
 * names of those that were found, a line each; n_gpus: usable graphics cards among their devices. */
ps_status ocl_advise(ps_alloc_state *alloc, const char *root, bool loader, const char *platforms, size_t n_gpus,
                     ps_str *advice, ps_error *err);
/* Before OpenCL is loaded: Mesa's rusticl shows AMD cards only if it is told to. */
void ocl_prepare_environment(const char *root);

/* ---- programs ---- */
/* kernels/NAME.cl behind the generated text (may be ""), compiled with the options. Lives as long as the device. */
ps_status ocl_program_get(ocl_device *d, const char *name, const char *options, const char *text, ocl_program **ret,
                          ps_error *err);
/* Of the text of kernels/NAME.cl and what all have before it. */
uint64_t ocl_program_version(const char *name);
void ocl_programs_free(ocl_device *d);

/* ---- weights (place.c) ---- */
/* Does the device pack them itself? */
bool ocl_places(const ocl_device *d);
/* Runs `entry` of kernels/pack.cl, which makes `to` of `from`, and waits for it. numbers: two int8. size: work-items in
 * x, y and z, in work-groups of local[0] x local[1]. */
ps_status ocl_place(ocl_device *d, const char *entry, const char *options, const void *from, void *to,
                    const cl_int numbers[16], const int64_t size[3], const size_t local[2], ps_error *err);

/* ---- products of codes (dot.c) ---- */
ocl_dot ocl_find_dot(const ocl_device *d);
extern const char ocl_no_dot[]; /* why it leaves operators on codes to the CPU */
/* Numbers that a kernel on codes takes when a plan is made: input i is a constant of one number, or absent. */
typedef struct ocl_linear {
    float scale;
    int zero;
} ocl_linear;
/* Scale at input i, zero point at i + 1. false: not known when a plan is made, or of another form. */
bool ocl_linear_at(const ps_node *n, size_t i, ocl_linear *ret);
/* A sum of codes a fa + (b fb + shift), in the order of the reference kernels. */
typedef struct ocl_code_sum {
    float fa, fb, shift, low, high;
} ocl_code_sum;
ocl_code_sum ocl_code_sum_of(ocl_linear a, ocl_linear b, ocl_linear y, ps_dtype codes, ps_code_range range);
/* The ends of a range of codes. */
void ocl_code_ends(ps_dtype codes, ps_code_range range, float *ret_low, float *ret_high);

/* ---- what it reaches (measure.c) ---- */
int ocl_capability(const ocl_device *d); /* of NVIDIA's cards: 61 for 6.1; 0: it does not say */
double ocl_flops_by_query(const ocl_device *d); /* units, clock and lanes */
/* FLOP/s of multiply-adds in registers, bytes/s read and written by a copy: a few tens of milliseconds. */
ps_status ocl_measure(ocl_device *d, double *ret_flops, double *ret_bytes, ps_error *err);

/* ---- streams ---- */
struct ps_stream {
    ocl_device *device;
    cl_command_queue queue;
    cl_mem flag; /* an int that a kernel sets to tell that an index was out of range */
    bool check;  /* such a kernel has run since the last wait */
    int waiting; /* launches since the queue was last flushed */
    int threads; /* of the session's */
    struct ocl_staging *staging; /* NULL before the first large copy, and where there is none (unstaged) */
    bool unstaged;
};

/* ---- kernels of a plan: launches in order ---- */

typedef enum ocl_arg_kind {
    OCL_ARG_IN,     /* a buffer and its offset: args->in[index] */
    OCL_ARG_OUT,    /* args->out[index] */
    OCL_ARG_WORK,   /* the workspace, `bytes` behind its start */
    OCL_ARG_BUFFER, /* a buffer of the weight store or of this kernel */
    OCL_ARG_FLAG,   /* of the stream */
    OCL_ARG_INT,
    OCL_ARG_FLOAT,
    OCL_ARG_INTS, /* int8 */
} ocl_arg_kind;

typedef struct ocl_arg {
    ocl_arg_kind kind;
    union {
        uint32_t index;
        size_t bytes;
        void *buffer;
        cl_int i;
        cl_float f;
        cl_int v[8];
    } u;
    size_t at; /* OCL_ARG_BUFFER: bytes behind its start */
} ocl_arg;

#define OCL_MAX_ARGS 72
#define OCL_MAX_OWNED 4

typedef struct ocl_launch {
    ocl_program *program;
    const char *entry;
    size_t global[3], local[3];
    int n_args;
    ocl_arg args[OCL_MAX_ARGS];
} ocl_launch;

typedef struct ocl_kernel {
    ps_kernel base;
    ocl_device *device;
    void *owned[OCL_MAX_OWNED]; /* buffers */
    int n_owned, n;
    ocl_launch launches[];
} ocl_kernel;

ps_status ocl_kernel_new(ps_device *device, ps_lowering *l, int n_launches, const char *label, ocl_kernel **ret,
                         ps_error *err);
void ocl_kernel_free(ps_kernel *kernel);
/* ps_device_ops.refuses: more work-groups than the driver launches. */
const char *ocl_refuses(const ps_kernel *kernel);
/* The kernel is the lowering's answer if status says that it is whole; else it goes. Returns status. */
ps_status ocl_kernel_done(ps_lowering *l, ocl_kernel *k, ps_status status);
/* A table that belongs to the kernel. */
ps_status ocl_kernel_table(ocl_kernel *k, const void *data, size_t bytes, void **ret, ps_error *err);
/* Launch i runs `entry` of a program (ocl_program_get). */
ps_status ocl_launch_init(ocl_kernel *k, int i, const char *program, const char *options, const char *text,
                          const char *entry, ocl_launch **ret, ps_error *err);
/* Work-items in x, y, z, rounded up to work-groups of lx, ly, 1. */
void ocl_launch_size(ocl_launch *l, int64_t x, int64_t y, int64_t z, size_t lx, size_t ly);
void ocl_arg_in(ocl_launch *l, uint32_t index);
void ocl_arg_out(ocl_launch *l, uint32_t index);
void ocl_arg_work(ocl_launch *l, size_t bytes);
void ocl_arg_buffer(ocl_launch *l, void *buffer);
void ocl_arg_flag(ocl_launch *l);
void ocl_arg_int(ocl_launch *l, int64_t i);
void ocl_arg_float(ocl_launch *l, float f);
void ocl_arg_ints(ocl_launch *l, const int64_t *v, int n); /* missing ones are 0 */

/* Options of a kernel that reads its input (IN) and writes its output (OUT) as halves or floats. */
const char *ocl_halves(bool in, bool out);
/* Marks node inputs that the kernel does not read when it runs (shapes, axes, scales). */
void ocl_skip_inputs(ps_lowering *l, uint32_t from);
/* Is every offset into these values below 2^31, and none of them empty? Where not, l->why says so. */
bool ocl_sizes_fit(ps_lowering *l);
/* The same of the first n_in inputs: those behind them are not read when the kernel runs, and may be empty. */
bool ocl_sizes_fit_first(ps_lowering *l, uint32_t n_in);
/* Depth, height and width of `count` <= 3 windows; missing leading ones are 1. false: their numbers, which may be up to
 * 2^40, are not for a kernel's int (l->why). */
bool ocl_windows_take(ps_lowering *l, const ps_window *w, int count, ps_window ret[3]);
/* Has a window few enough taps for one work-item to walk through all of them? Where not, l->why says so. */
bool ocl_taps_fit(ps_lowering *l, const ps_window w[3]);
static inline ps_status ocl_decline(ps_lowering *l, const char *why) {
    l->why = why;
    return PS_OK;
}

/* ---- trials (trial.c) ---- */
/* Variants of the kernel of a node that is being lowered. The first is what is taken without trials. */
typedef struct ocl_trials {
    uint64_t digest[2]; /* of the problem, and of the kernels' source */
    size_t n, id_bytes;
    const void *ids; /* n of them: what distinguishes one variant from another */
    ps_status (*make)(void *ctx, size_t i, ocl_kernel **ret, ps_error *err);
    void *ctx;
} ocl_trials;
/* Is anything known, or may anything be tried? */
bool ocl_may_choose(const ps_device *device, const ps_lowering *l);
/* The variant that is fastest on this device, as far as that is known or may be tried (l->tuning). */
ps_status ocl_choose(ps_device *device, ps_lowering *l, const ocl_trials *of, size_t *ret, ps_error *err);

/* ---- post-operations ---- */
/* How the operands are stored, as the lowering has it; after ps_chain_init. */
void ocl_chain_halves(ps_chain *chain, const ps_lowering *l);
/* Appends macros for the chain: POST_PARAMS, POST_BEGIN, POST(x, o, col): o counts the result's elements as they lie,
 * col is o % columns. */
void ocl_post_text(ps_str *text, const ps_chain *chain, int64_t columns);
void ocl_post_args(ocl_launch *l, const ps_chain *chain, int64_t columns);

/* ---- copies ---- */
/* n-dimensional, strides in elements, dims in the output's memory order. Offsets in elements. */
typedef struct ocl_move {
    int rank;
    int64_t dims[2 * PS_MAX_RANK], src[2 * PS_MAX_RANK], dst[2 * PS_MAX_RANK];
    int64_t src_at, dst_at;
} ocl_move;
void ocl_move_add(ocl_move *m, int64_t dim, int64_t dst, int64_t src);
/* Merges what is contiguous on both sides. false if more than 8 dims are left. */
bool ocl_move_merge(ocl_move *m);
/* What is copied: elements of so many bytes; f32 may be stored as halves on either side. */
typedef struct ocl_element {
    size_t size;
    bool from_half, to_half;
} ocl_element;
/* Launch i copies elements from input `in` to output `out`. */
ps_status ocl_move_launch(ocl_kernel *k, int i, const ocl_move *m, ocl_element e, uint32_t in, uint32_t out,
                          ps_error *err);

/* ---- lower functions, one per row of the implementation list in device.c ---- */
ps_status ocl_lower_matmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_gemm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_attention(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_winograd(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_conv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_depthwise(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_pointwise(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_operator(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_pool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_global_pool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_reduce(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_softmax(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_layernorm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_groupnorm(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_transpose(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_concat(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_split(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_slice(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_expand(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_pad(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_gather(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_resize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_cast(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_quantize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_dequantize(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qconv(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qmatmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qadd(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qmul(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_lookup(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qglobal_pool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_lower_qpool(ps_device *device, ps_lowering *l, ps_error *err);
ps_status ocl_reorder(ps_device *device, ps_dtype dtype, const ps_shape *shape, ps_form from, ps_form to, int threads,
                      ps_alloc_state *alloc, ps_kernel **ret, ps_error *err);

#endif
