/* gemv.c - products of a few rows of A with constant weights: the weights are read once, as they are stored, and that
 * is what they cost. */
#include "backend/opencl/gemm.h"

#define MOST_ROWS 4
#define LANES 64
#define MOST_SLICES 4
#define BUSY 8         /* work-groups that a compute unit needs to hide the time that memory takes */
#define LEAST_DEPTH 16 /* rows of a slice: below, adding up costs more than it gains */
#define MOST_PARTS 32
#define STEP 8 /* rows that the kernel has under way at once */

/* Float4s of columns an item: more rows of A need the registers. */
static int usual_width(const ocl_gemm *g) {
    return g->weights.form == OCL_FORM_F32 || g->m > 2 ? 1 : 2;
}

static int slices(const ocl_device *d) {
    return d->most_items >= LANES * MOST_SLICES ? MOST_SLICES : 1;
}

static int64_t groups(const ocl_gemm *g) {
    const int64_t columns = LANES * 4 * g->few_width;
    return (g->n + columns - 1) / columns;
}

bool ocl_gemv_fits(const ocl_gemm *g) {
    return g->a_mode == OCL_A_ROWS && g->b_mode == OCL_B_PANELS && g->m <= MOST_ROWS && g->outer * g->inner == 1 &&
           g->ldc == g->n;
}

/* The depth in about so many parts. Slices begin with a block of the weights, so that one scale at a time is needed. */
static void share(const ocl_device *d, ocl_gemm *g, int64_t parts) {
    const int64_t s = slices(d), unit = g->weights.block ? g->weights.block : STEP;
    const int64_t rows = (g->k + parts * s - 1) / (parts * s);
    g->few_depth = (rows + unit - 1) / unit * unit;
    parts = (g->k + g->few_depth * s - 1) / (g->few_depth * s); /* none is empty */
    g->parts = parts > 1 && g->m * g->n <= INT32_MAX / parts ? parts : 0;
    if (!g->parts) g->few_depth = (g->k + s * unit - 1) / (s * unit) * unit;
}

int ocl_gemv_plan(const ocl_device *d, ocl_gemm *g) {
    g->few_width = usual_width(g);
    const int64_t wanted = BUSY * d->units / groups(g), most = g->k / (slices(d) * LEAST_DEPTH);
    const int64_t parts = wanted < most ? wanted : most;
    share(d, g, parts < 1 ? 1 : parts > MOST_PARTS ? MOST_PARTS : parts);
    return g->parts ? 2 : 1;
}

void ocl_gemv_variants(const ocl_device *d, const ocl_gemm *g, ocl_gemm *ret, size_t *ret_n) {
    for (int width = 1; width <= 2; width++) {
        for (int64_t parts = 1; parts <= MOST_PARTS; parts *= 2) {
            ocl_gemm try = *g;
            bool known = *ret_n == OCL_MOST_VARIANTS || g->ldb % (4 * width);
            try.few_width = width;
            share(d, &try, parts);
            for (size_t i = 0; i < *ret_n; i++)
                known |= ret[i].few_width == width && ret[i].few_depth == try.few_depth && ret[i].parts == try.parts;
            if (!known) ret[(*ret_n)++] = try;
        }
    }
}

ps_status ocl_gemv_launch(ocl_kernel *k, int i, const ocl_gemm *g, const char *posts, const ps_chain *chain,
                          int64_t columns, ps_error *err) {
    char options[256], form[80];
    ocl_launch *l;
    ps_snprintf(options, sizeof options,
                "-DROWS=%d -DWIDTH=%d -DSLICES=%d -DBIAS=%d -DWIDE_A=%d -DUNROLL=%d -DPARTS=%d%s%s", (int)g->m,
                g->few_width, slices(k->device), g->has_bias, g->lda % 4 == 0, k->device->gpu, g->parts > 0,
                ocl_halves(g->a_half, g->c_half), ocl_weights_options(&g->weights, form, sizeof form));
    PS_TRY(ocl_launch_init(k, i, "gemv", options, posts, "gemv", &l, err));
    l->args[0] = g->a;
    l->args[1] = g->b;
    l->args[2] = g->c;
    l->n_args = 3;
    ocl_arg_ints(l, (int64_t[]) { g->n, g->k, g->lda, g->ldb, g->few_depth }, 5);
    if (g->has_bias) ocl_arg_in(l, g->bias);
    ocl_weights_args(l, &g->weights);
    ocl_post_args(l, chain, columns);
    ocl_launch_size(l, groups(g) * LANES, slices(k->device), g->parts ? g->parts : 1, LANES, (size_t)slices(k->device));
    return PS_OK;
}
