/* passes.c - the table of passes and its driver. */
#include "passes/passes.h"

#include "passes/rewrite.h"

#define MAX_ROUNDS 12 /* each round lets a pass build on what others exposed; real models settle in three to five */

typedef struct pass {
    const char *name;
    ps_pass_fn fn;
    ps_pass_level level;
} pass;

/* Order matters for quality, never for correctness: whatever a pass leaves, the next round sees again. Folding comes
 * first because shapes feed everything; weight folding comes before fusion because a fused node is not taken apart
 * again. */
static const pass table[] = {
    { "fold", ps_pass_fold, PS_PASSES_BASIC },
    { "inline_if", ps_pass_inline_if, PS_PASSES_BASIC },
    { "sink_cast", ps_pass_sink_cast, PS_PASSES_BASIC },
    { "identity", ps_pass_identity, PS_PASSES_BASIC },
    { "cse", ps_pass_cse, PS_PASSES_BASIC },
    { "dead", ps_pass_dead, PS_PASSES_BASIC },
    { "batchnorm", ps_pass_batchnorm, PS_PASSES_ALL },
    { "pad_conv", ps_pass_pad_conv, PS_PASSES_ALL },
    { "layernorm", ps_pass_layernorm, PS_PASSES_ALL },
    { "softmax", ps_pass_softmax, PS_PASSES_ALL },
    { "attention", ps_pass_attention, PS_PASSES_ALL },
    { "activation", ps_pass_activation, PS_PASSES_ALL },
    { "affine", ps_pass_affine, PS_PASSES_ALL },
    { "fuse_epilogue", ps_pass_fuse_epilogue, PS_PASSES_ALL },
    { "fuse_pointwise", ps_pass_fuse_pointwise, PS_PASSES_ALL },
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

ps_status ps_passes_run(ps_graph *root, ps_pass_level level, const ps_caps *caps, ps_error *err) {
    ps_rw rw = { .root = root, .caps = caps ? caps : &no_caps, .err = err };
    PS_TRY(ps_ops_infer(root, err));
    for (int round = 0; round < MAX_ROUNDS && level != PS_PASSES_NONE; round++) {
        size_t before = rw.changes;
        for (size_t i = 0; i < N_PASSES; i++) {
            if (table[i].level <= level) PS_TRY(run_pass(&rw, &table[i]));
        }
        if (rw.changes == before) break;
        PS_TRY(ps_ops_infer(root, err));
    }
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
