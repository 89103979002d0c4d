/* passes.h - rewrites of a graph that keep its meaning, and the table they run from.
 *
 * The graph must be resolved (ps_ops_resolve). A pass leaves it resolved, inferred and verified. */
#ifndef PS_PASSES_PASSES_H
#define PS_PASSES_PASSES_H

#include "graph/caps.h"
#include "ops/ops.h"

typedef enum ps_pass_level {
    PS_PASSES_NONE,  /* shape inference only */
    PS_PASSES_BASIC, /* folding, dead code, inlining: what every device wants */
    PS_PASSES_ALL,   /* and fusions, as caps allow */
} ps_pass_level;

/* Runs the table until nothing changes (bounded). At model load with symbolic shapes, and again per set of fixed
 * shapes. */
ps_status ps_passes_run(ps_graph *root, ps_pass_level level, const ps_caps *caps, ps_error *err);
/* One pass by name, for tests. ret_changed may be NULL. */
ps_status ps_passes_run_one(ps_graph *root, const char *name, const ps_caps *caps, bool *ret_changed, ps_error *err);

#endif
