/* passes.c - the table of passes and its driver. */
#include "passes/passes.h"

#include "passes/rewrite.h"

#define MAX_ROUNDS                                                                                                     \
    12 /* of one stage: each lets a pass build on what others exposed; real models settle in two to four */

/* A stage runs its passes and those of earlier stages until nothing changes, before the next may start: patterns are
 * looked for once shapes are as known as they get, and chains are closed once no pattern can want their parts any more.
 */
typedef enum stage { CLEAN, PATTERNS, CHAINS, N_STAGES } stage;

typedef struct pass {
    const char *name;
    ps_pass_fn fn;
    stage stage;
} pass;

/* Order matters for quality, never for correctness. Weights are folded before fusion because a fused node is not taken
 * apart again. */
static const pass table[] = {
    { "widen", ps_pass_widen, CLEAN },
    { "fold", ps_pass_fold, CLEAN },
    { "inline_if", ps_pass_inline_if, CLEAN },
    { "sink_cast", ps_pass_sink_cast, CLEAN },
    { "identity", ps_pass_identity, CLEAN },
    { "cse", ps_pass_cse, CLEAN },
    { "dead", ps_pass_dead, CLEAN },
    { "quantized", ps_pass_quantized, PATTERNS },
    { "contrib", ps_pass_contrib, PATTERNS },
    { "batchnorm", ps_pass_batchnorm, PATTERNS },
    { "pad_conv", ps_pass_pad_conv, PATTERNS },
    { "einsum", ps_pass_einsum, PATTERNS },
    { "onehot", ps_pass_onehot, PATTERNS },
    { "groupnorm", ps_pass_groupnorm, PATTERNS },
    { "integer", ps_pass_integer, PATTERNS },
    { "layernorm", ps_pass_layernorm, PATTERNS },
    { "softmax", ps_pass_softmax, PATTERNS },
    { "attention", ps_pass_attention, PATTERNS },
    { "activation", ps_pass_activation, PATTERNS },
    { "table", ps_pass_table, PATTERNS },
    { "affine", ps_pass_affine, PATTERNS },
    { "quantized_sum", ps_pass_quantized_sum, CHAINS },
    { "fuse_epilogue", ps_pass_fuse_epilogue, CHAINS },
    { "fuse_pointwise", ps_pass_fuse_pointwise, CHAINS },
};

#define N_PASSES (sizeof table / sizeof table[0])

static const ps_caps no_caps;

static ps_status run_pass(ps_rw *rw, const pass *p) {
    PS_TRY(p->fn(rw));
#ifndef NDEBUG
    ps_status status = ps_graph_verify(rw->root, rw->err);
    if (status != PS_OK) {
        ps_error_prefix(rw->err, "after pass %s", p->name);
        return status;
    }
#endif
    return PS_OK;
}

static ps_status run_stage(ps_rw *rw, stage s) {
    rw->late = s == CHAINS;
    for (int round = 0; round < MAX_ROUNDS; round++) {
        size_t before = rw->changes;
        for (size_t i = 0; i < N_PASSES; i++) {
            if (table[i].stage <= s) PS_TRY(run_pass(rw, &table[i]));
        }
        if (rw->changes == before) break;
        PS_TRY(ps_ops_infer(rw->root, rw->err));
    }
    return PS_OK;
}

ps_status ps_passes_run(ps_graph *root, ps_pass_level level, const ps_caps *caps, ps_error *err) {
    ps_rw rw = { .root = root, .caps = caps ? caps : &no_caps, .err = err };
    int stages = level == PS_PASSES_NONE ? 0 : level == PS_PASSES_BASIC ? CLEAN + 1 : N_STAGES;
    PS_TRY(ps_ops_infer(root, err));
    for (int s = 0; s < stages; s++)
        PS_TRY(run_stage(&rw, (stage)s));
    return PS_OK;
}

ps_status ps_passes_run_one(ps_graph *root, const char *name, const ps_caps *caps, bool *ret_changed, ps_error *err) {
    ps_rw rw = { .root = root, .caps = caps ? caps : &no_caps, .err = err };
    for (size_t i = 0; i < N_PASSES; i++) {
        if (strcmp(table[i].name, name) != 0) continue;
        PS_TRY(ps_ops_infer(root, err));
        PS_TRY(run_pass(&rw, &table[i]));
        if (ret_changed) *ret_changed = rw.changes > 0;
        return ps_ops_infer(root, err);
    }
    return PS_FAIL(err, NOT_FOUND, "there is no pass named '%s'", name);
}
