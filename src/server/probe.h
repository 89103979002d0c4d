/* probe.h - may requests of a model share a run? A trial at load: two rows together against each alone. */
#ifndef PS_SERVER_PROBE_H
#define PS_SERVER_PROBE_H

#include "polestar/session.h"

/* What the trial needs to know of a model. */
typedef struct ps_probe {
    ps_engine *engine;
    ps_model *model;
    const ps_value_info *inputs, *outputs;
    size_t n_inputs, n_outputs;
} ps_probe;

/* PS_OK: rows are independent: every input and output has the same symbol as first dim, and the outputs of a run over
 * two rows equal those of two runs. Else the reason in *err (PS_UNSUPPORTED, or what a run said). */
ps_status ps_probe_batching(const ps_probe *probe, ps_error *err);

/* Numbers that any type holds and any table of tokens knows: 0 and 1, for floats what is between. */
void ps_probe_fill(ps_tensor *tensor, uint64_t seed);

#endif
