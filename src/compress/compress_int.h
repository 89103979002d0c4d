/* compress_int.h - what the files of this folder share. README.md has the control flow.
 *
 *   site    a float tensor between operators that becomes 8 bits wide: its range, scale, zero point
 *   layer   a node with weights: working copies of weight and bias, the rounded weight
 *   job     one call of ps_compress
 *
 * All analysis works on the graph of the model as it was imported; edit.h applies the outcome to the file, where values
 * have the same names. */
#ifndef PS_COMPRESS_COMPRESS_INT_H
#define PS_COMPRESS_COMPRESS_INT_H

#include <math.h>

#include "base/vec.h"
#include "compress/data.h"
#include "compress/histogram.h"
#include "onnx/edit.h"
#include "ops/ops.h"
#include "polestar/compress.h"
#include "runtime/runtime_int.h"

#define PS_NO_SITE SIZE_MAX
enum { PS_COMPRESS_MAX_INPUTS = 64 };

typedef struct ps_site {
    ps_value *value; /* of job->graph */
    size_t group;    /* index of the site that stands for all which share its range (itself, mostly) */
    bool used;       /* by an operator that is quantised; set by ps_sites_refresh */
    ps_histogram seen;
    const char *method; /* of the range; static */
    float low, high, scale;
    int zero;
    double signal, noise; /* sums of squares: the original, and its difference in the compressed model */
} ps_site;

typedef struct ps_layer {
    ps_node *node;      /* Conv, ConvTranspose, Gemm or MatMul of the root graph */
    size_t site;        /* of in[0] */
    int axis;           /* of the weight's output channels; -1: one scale for all */
    int64_t channels;   /* scales: 1 if axis is -1 */
    ps_node *bias_node; /* where the bias stands: node, or the Add behind it; NULL: there is none */
    size_t bias_index;  /* of bias_node->in; of node where no bias is there and one could be: n_in */
    bool can_bias;
    size_t shared;            /* index of the first layer with the same weight, else its own */
    ps_tensor *weight, *bias; /* f32, working copies; bias may be NULL */
    ps_tensor *codes;         /* i8, of the weight's shape */
    float *scales;
    const char *weight_name; /* in the file */
    bool quantized;
    const char *reason; /* why not; static */
    double weight_sqnr;
    double signal, noise; /* of its output */
    double alone;         /* dB */
} ps_layer;

/* node->in[index] is another constant than the file's, which is called `old` there. */
typedef struct ps_rewire {
    ps_node *node;
    size_t index;
    const char *old;
} ps_rewire;

/* A node that works on 8-bit values without weights: Add, Concat, pooling, what moves elements. */
typedef struct ps_mover {
    ps_node *node;
    size_t n_in; /* its first so many inputs are sites */
    bool active; /* its result is used in 8 bits */
} ps_mover;

/* The two models on the same data. */
typedef struct ps_judgement {
    size_t samples, rows, same, exact, /* exact: samples all of whose rows agree */ labelled, right_before, right_after,
        lost, won;
    double cosine, cosine_least, sqnr; /* sums, and the least */
    size_t sqnr_count;
    double metric_before, metric_after;
    double drop;
    const char *measure; /* of drop; static */
} ps_judgement;

/* The model before it is written, runnable: simulate.c. */
typedef struct ps_sim {
    ps_alloc_state *alloc; /* of `out` */
    ps_model *model;
    ps_session *session;
    size_t n_in, n_out; /* n_out of the model itself; behind them the ones that were asked for */
    size_t n_extra;
    ps_tensor **out;
    ps_show_fn look; /* of the run in progress */
    void *ctx;
} ps_sim;

typedef struct ps_job {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_compress_options options;
    const char *input, *output;
    ps_graph *graph; /* as imported, resolved, shapes inferred */
    ps_onnx_info info;
    ps_map in_file; /* outputs of the file's own nodes: others come from bodies of functions, which are left alone */
    ps_model *original;
    ps_dataset calibration, validation;
    size_t n_calibration, first_validation, n_validation;
    bool held_out;
    PS_VEC(ps_site) sites;
    PS_VEC(ps_layer) layers;
    PS_VEC(ps_mover) movers;
    PS_VEC(ps_rewire) rewires;
    size_t *site_of;  /* by value id; PS_NO_SITE */
    ps_sim looking;   /* shows all sites, by their index: kept from calibration for rounding; or nothing */
    uint64_t resized; /* bytes by which weights shrink, for estimates */
    size_t skipped;   /* samples */
    size_t equalized; /* pairs of layers */
    size_t warnings, mixed_rounds;
    ps_judgement judged;
    double done, span; /* of the progress: where the stage began, its share */
    const char *stage;
    int64_t stage_ns; /* when it began */
    struct {
        const char *name; /* static */
        double seconds;
    } stages[16];
    size_t n_stages;
    int64_t started_ns, opset_after;
    uint64_t zstd_before;
    double ms_before, ms_after;
    size_t memory[2]; /* before, after; 0: not measured */
    ps_error *err;
} ps_job;

/* ---- job.c ---- */
void ps_job_stage(ps_job *job, const char *stage, double share);
void ps_job_stage_end(ps_job *job);
/* done of total in the stage; PS_CANCELLED if the caller wants to stop. */
ps_status ps_job_step(ps_job *job, size_t done, size_t total);
/* A sample, or (*ret_skipped) none: it could not be read, which is told once. Wrong shapes and types are errors. */
ps_status ps_job_sample(ps_job *job, ps_dataset *data, size_t index, ps_tensor **ret, bool *ret_skipped);
void ps_job_release(const ps_job *job, ps_tensor **in);
void ps_job_warn(ps_job *job, const char *fmt, ...) PS_PRINTF(2, 3);

/* Does the node stand in the main graph of the file? */
static inline bool ps_job_in_file(const ps_job *job, const ps_node *n) {
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] && ps_map_get(&job->in_file, n->out[i]->name) != NULL) return n->graph == job->graph;
    return false;
}

/* ---- sites.c ---- */
/* Finds layers, sites and movers. */
ps_status ps_sites_find(ps_job *job);
/* Sets ->used from which layers are quantised; drops movers that nothing feeds or reads. */
void ps_sites_refresh(ps_job *job);
size_t ps_site_at(const ps_job *job, const ps_value *v);
/* The quantised reader of a value? node->in[index] then reads 8 bits. */
bool ps_site_reader(const ps_job *job, const ps_node *node, size_t index);
ps_site *ps_site_range(ps_job *job, size_t site); /* whose scale it has */

/* ---- range.c ---- */
void ps_site_choose(ps_site *site, ps_compress_range how);
void ps_ranges_choose(ps_job *job);

/* ---- weights.c ---- */
ps_status ps_layer_prepare(ps_job *job, ps_layer *layer); /* working copies */
/* Scales of the working weight, and codes by rounding to nearest. */
ps_status ps_layer_round(ps_job *job, ps_layer *layer);
int ps_layer_max_code(const ps_job *job);
/* Codes times scales, a new f32 tensor. */
ps_status ps_layer_decoded(ps_job *job, const ps_layer *layer, ps_tensor **ret);
/* The bias rounded to int32 in units of input scale times weight scale; *ret_codes may be NULL. */
ps_status ps_layer_bias(ps_job *job, const ps_layer *layer, ps_tensor **ret_codes, ps_tensor **ret_scales,
                        ps_tensor **ret_decoded);
/* Channel of element i of the weight. */
typedef struct ps_channels {
    int64_t outer, count, inner;
} ps_channels;
ps_channels ps_layer_channels(const ps_layer *layer);

/* ---- simulate.c ---- */
/* only: PS_NO_SITE, or the one layer that is quantised. extra: values of job->graph that runs show. quantise: false is
 * the original with its working weights. */
ps_status ps_sim_open(ps_job *job, bool quantize, size_t only, ps_value *const *extra, size_t n_extra, ps_sim *ret);
/* look (may be NULL) sees each extra, by its index, in the middle of the run, before anything overwrites it: as it lies
 * there, row-major or, with strides, with its channels innermost. Each is seen once, in any order. */
ps_status ps_sim_run(ps_job *job, ps_sim *sim, ps_tensor *const *in, ps_show_fn look, void *ctx);
void ps_sim_close(ps_sim *sim);

/* ---- calibrate.c ---- */
ps_status ps_calibrate(ps_job *job);

/* ---- equalize.c, rounding.c, sensitivity.c ---- */
ps_status ps_equalize(ps_job *job);
ps_status ps_round_weights(ps_job *job);
ps_status ps_measure_layers(ps_job *job);                  /* ->alone of each */
ps_status ps_measure_noise(ps_job *job);                   /* ->signal and ->noise of sites and layers */
ps_status ps_choose_mixed(ps_job *job, bool *ret_changed); /* keeps further layers in float */

/* ---- evaluate.c ---- */
ps_status ps_judge(ps_job *job, ps_model *before, ps_model *after, ps_dataset *data, size_t first, size_t n,
                   ps_judgement *ret);
double ps_agreement(const ps_judgement *j); /* per cent */
void ps_drop_interval(const ps_judgement *j, double *ret_low, double *ret_high);

/* ---- work by turns ----
 * Tensors get smaller from front to back of a model, and layers wider: threads that took neighbours would not end
 * together, so they take turns. Of n things ps_parallel_for is given ps_turns(n, threads) items, and item k is thing
 * ps_turn(k, n, threads); -1: the last turn of some threads. */
static inline int64_t ps_turns(size_t n, int threads) {
    return ((int64_t)n + threads - 1) / threads * threads;
}

static inline int64_t ps_turn(int64_t k, size_t n, int threads) {
    const int64_t each = ps_turns(n, threads) / threads, i = k % each * threads + k / each;
    return i < (int64_t)n ? i : -1;
}

/* ---- emit.c, half.c, dynamic.c: the outcome onto the opened file ---- */
ps_status ps_emit_static(ps_job *job, ps_onnx_edit *edit);
ps_status ps_emit_dynamic(ps_job *job, ps_onnx_edit *edit);
ps_status ps_emit_half(ps_job *job, ps_onnx_edit *edit);
/* A name like stem + suffix that nothing in the model has; in the graph's arena. */
ps_status ps_emit_name(ps_job *job, ps_onnx_edit *edit, const char *stem, const char *suffix, const char **ret);
/* The file's node that has this output; SIZE_MAX: none. */
size_t ps_emit_find(const ps_onnx_edit *edit, const char *output);
/* The weight's constant, or the Constant node that held it, goes if nothing reads it any more. */
void ps_emit_drop(ps_onnx_edit *edit, const char *name);

#endif
