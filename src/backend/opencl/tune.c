/* tune.c - the variant of a product that is fastest on this device (trial.c).
 *
 * Candidates are tiles and shares of the depth (by tiles), or widths and slices (few rows). What ocl_gemm_plan gives is
 * the first of them. */
#include "backend/opencl/gemm.h"

/* What distinguishes one variant from another: the fields of ocl_gemm that ocl_gemm_plan sets. */
typedef struct choice {
    int32_t m, n, depth, twice, rows, slices;
    int32_t parts, few_depth, few_width;
} choice;

static choice choice_of(const ocl_gemm *g) {
    return (choice) { g->tile.m,      g->tile.n,     g->tile.depth,     g->tile.twice,    g->tile.rows,
                      g->tile.slices, (int)g->parts, (int)g->few_depth, (int)g->few_width };
}

/* Sizes and modes; post-operations cost the same in every variant. */
static void make_digest(const ocl_gemm *g, uint64_t ret[2]) {
    const int64_t parts[] = { g->a_mode,        g->b_mode, g->m,      g->n,     g->k,    g->lda,      g->ldb,
                              g->ldc,           g->outer,  g->inner,  g->bits,  g->four, g->has_bias, g->weights.form,
                              g->weights.block, g->a_half, g->b_half, g->c_half };
    uint64_t hash = ps_hash_bytes(parts, sizeof parts, ocl_program_version("gemm"));
    hash = ps_hash_bytes(g->image, sizeof g->image, hash);
    ret[0] = ps_hash_bytes(g->window, sizeof g->window, hash);
    ret[1] = ocl_program_version("gemv");
}

typedef struct products {
    ps_device *device;
    ps_lowering *l;
    const ps_chain *chain;
    int64_t columns;
    ocl_gemm list[OCL_MOST_VARIANTS];
    choice ids[OCL_MOST_VARIANTS];
    size_t n;
} products;

static ps_status make(void *ctx, size_t i, ocl_kernel **ret, ps_error *err) {
    const products *p = ctx;
    const ocl_gemm *g = &p->list[i];
    PS_TRY(ocl_kernel_new(p->device, p->l, 2, "trial", ret, err));
    (*ret)->n = g->parts ? 2 : 1;
    (*ret)->base.workspace = ocl_gemm_workspace(g);
    const ps_status status = ocl_gemm_launch(*ret, 0, g, p->chain, p->columns, err);
    if (status != PS_OK) ocl_kernel_free(&(*ret)->base);
    return status;
}

ps_status ocl_tune(ps_device *device, ps_lowering *l, ocl_gemm *g, const ps_chain *chain, int64_t columns,
                   ps_error *err) {
    size_t chosen = 0;
    if (g->weights.strip || !ocl_may_choose(device, l)) return PS_OK; /* what is sparse has no variants */
    products *p = ps_alloc_zero(l->alloc, sizeof *p);
    if (!p) return PS_FAIL_NOMEM(err, "variants of a product");
    p->device = device;
    p->l = l;
    p->chain = chain;
    p->columns = columns;
    ocl_gemm_variants(ocl_of(device), g, p->list, &p->n);
    for (size_t i = 0; i < p->n; i++)
        p->ids[i] = choice_of(&p->list[i]);
    ocl_trials trials = { .n = p->n, .ids = p->ids, .id_bytes = sizeof(choice), .make = make, .ctx = p };
    make_digest(g, trials.digest);
    const ps_status status = ocl_choose(device, l, &trials, &chosen, err);
    if (status == PS_OK) *g = p->list[chosen];
    ps_free(l->alloc, p);
    return status;
}
