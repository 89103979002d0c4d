/* gemm.h - the one matrix product: C = post(A B + bias), with A read as rows, columns or the windows of an image.
 * kernels/gemm.cl has the loops. */
#ifndef PS_BACKEND_OPENCL_GEMM_H
#define PS_BACKEND_OPENCL_GEMM_H

#include "backend/opencl/opencl_int.h"

#define OCL_GEMM_DEPTH 8       /* panels have a multiple of it as rows */
#define OCL_GEMM_MOST_DEPTH 16 /* of a tile */
#define OCL_GEMM_MOST_STEP 32  /* of all its slices */

typedef enum ocl_a_mode { OCL_A_ROWS, OCL_A_COLUMNS, OCL_A_WINDOWS, OCL_A_SPREAD } ocl_a_mode;
typedef enum ocl_b_mode { OCL_B_ROWS, OCL_B_COLUMNS, OCL_B_PANELS } ocl_b_mode;

/* What weights are stored as in the device's memory: codes are unsigned, of 8 or 4 bits. */
typedef enum ocl_form { OCL_FORM_F32, OCL_FORM_F16, OCL_FORM_BF16, OCL_FORM_U8, OCL_FORM_U4 } ocl_form;

/* Panels in one buffer: the elements, and behind codes a factor for each column, scales of blocks, zero points. */
typedef struct ocl_weights {
    void *buffer;
    ocl_form form;
    int64_t rows, columns; /* of a group's panel */
    int64_t block, blocks; /* rows of a column that share a scale, 0: all; scales of a column */
    bool wide_scales;      /* of blocks are f32; else 16 bits, parts of the factor */
    bool zeros;            /* a zero point beside each scale; else one for all */
    size_t factors_at, scales_at, zeros_at, bytes;
    int strip;      /* columns of a strip of which only blocks that hold something are there (sparse.c); 0: all is */
    int64_t stored; /* such blocks */
    size_t index_at;
} ocl_weights;

typedef struct ocl_gemm {
    ocl_a_mode a_mode;
    ocl_b_mode b_mode;
    int64_t m, n, k, lda, ldb, ldc;
    int64_t outer, inner; /* outer x inner products */
    int64_t step[8];      /* elements from one to the next: of A, B, C and the column; outer, inner */
    ocl_arg a, b, c;
    bool a_half, b_half, c_half; /* stored as halves; b: not of panels */
    ocl_weights weights;         /* OCL_B_PANELS: what b is a part of */
    bool has_bias;
    uint32_t bias; /* node input; one number a column */
    /* OCL_A_WINDOWS: positions of a convolution; OCL_A_SPREAD: of a transposed one */
    void *taps;        /* int4s: ocl_lower_conv */
    bool bits;         /* a window is looked at by bits, not place by place */
    bool four;         /* channels of a group are a multiple of four */
    int64_t image[8];  /* depth, height, width, channels of the input; depth, height, width of the output */
    int64_t window[8]; /* strides, pads; with bits the number of places, and how far taps look back */
    ocl_tile tile;     /* ocl_gemm_plan */
    int64_t parts;     /* the rows of B are shared out among so many work-groups a tile; 0: not */
    int64_t few_depth; /* for few rows (gemv.c): rows of B that a slice of a work-group takes; 0: by tiles */
    int few_width;     /* and fours of columns an item */
} ocl_gemm;

/* Chooses the tile, and whether the depth is shared out: a product of few tiles leaves most of a card idle. Then each
 * part is a group's, and what the parts come to is added up by a launch of its own from the kernel's workspace:
 * may_share is for kernels that use theirs for nothing else. Returns the launches that it takes: 1 or 2. */
int ocl_gemm_plan(const ocl_device *d, ocl_gemm *g, bool may_share);
/* The variants of a planned product: itself, then others by cost. At most OCL_MOST_VARIANTS. */
#define OCL_MOST_VARIANTS 13
void ocl_gemm_variants(const ocl_device *d, const ocl_gemm *g, ocl_gemm *ret, size_t *ret_n);
void ocl_gemv_variants(const ocl_device *d, const ocl_gemm *g, ocl_gemm *ret, size_t *ret_n);
/* Replaces what ocl_gemm_plan chose by what is fastest on this device, as far as that is known or may be tried
 * (l->tuning). For kernels with one product, whose weights are taken and which is all that they run (tune.c). */
ps_status ocl_tune(ps_device *device, ps_lowering *l, ocl_gemm *g, const ps_chain *chain, int64_t columns,
                   ps_error *err);
size_t ocl_gemm_workspace(const ocl_gemm *g); /* for the parts; 0 without */
/* What that choice costs: multiply-adds of one compute unit, memory traffic and launches counted as such. */
double ocl_gemm_cost(const ocl_device *d, const ocl_gemm *g);
/* The same of so many floats read and written by other kernels. */
double ocl_traffic_cost(const ocl_device *d, double floats);
/* Items of the busiest compute unit, more where that is not filled, for other kernels' multiply-adds; and a launch. */
double ocl_busy_items(const ocl_device *d, double groups, int items);
double ocl_launch_cost(const ocl_device *d);
/* Launch i, and i + 1 if it is shared out; chain: what is done to the results, `columns` in a row of them. */
ps_status ocl_gemm_launch(ocl_kernel *k, int i, const ocl_gemm *g, const ps_chain *chain, int64_t columns,
                          ps_error *err);

/* Constant weights as panels [groups][rows][columns]: rows are k = k1 * k2_room + k2 up to a multiple of
 * OCL_GEMM_DEPTH, columns up to a multiple of four; the rest is zero. Strides in elements of the tensor. */
typedef struct ocl_panels {
    int64_t groups, k1_n, k2_n, n;
    int64_t group, k1, k2, column;
    int64_t k2_room; /* at least k2_n; 0: k2_n */
} ocl_panels;
int64_t ocl_panel_rows(const ocl_panels *p);
int64_t ocl_panel_columns(const ocl_panels *p);
ps_status ocl_panels_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, void **ret,
                          ps_error *err);
/* The same in the storage that the model has them in: f16, bf16 or codes where the tensor says so (ps_tensor.narrow,
 * ps_tensor.codes) or holds nothing else. Columns up to a multiple of eight where it is not f32. */
ps_status ocl_weights_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, ocl_weights *ret,
                           ps_error *err);
/* In f32, and the kernel's own: for one that is only tried. */
ps_status ocl_weights_own(ocl_kernel *k, const ps_lowering *l, uint32_t index, const ocl_panels *p, ocl_weights *ret,
                          ps_error *err);
/* Would that be in less than 32 bits? */
ps_status ocl_weights_narrow(ps_device *device, const ps_lowering *l, uint32_t index, const ocl_panels *p, bool *ret,
                             ps_error *err);
/* g->b and what goes with it; the kernel's label tells the storage. */
void ocl_gemm_set_weights(ocl_kernel *k, ocl_gemm *g, const ocl_weights *w);
/* Options of a kernel with WEIGHT_PARAMS (common.cl), "" for f32; its arguments for them. */
const char *ocl_weights_options(const ocl_weights *w, char *buf, size_t size);
void ocl_weights_args(ocl_launch *l, const ocl_weights *w);

/* ---- few rows of A (gemv.c) ---- */
bool ocl_gemv_fits(const ocl_gemm *g);
int ocl_gemv_plan(const ocl_device *d, ocl_gemm *g); /* as ocl_gemm_plan */
ps_status ocl_gemv_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                          int64_t columns, ps_error *err);

#endif
