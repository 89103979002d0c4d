/* passes.c - runs the rewrites. */
#include "passes/passes.h"

ps_status ps_passes_run(ps_graph *root, ps_pass_level level, const ps_caps *caps, ps_error *err)
{
    return ps_ops_infer(root, err);
}
