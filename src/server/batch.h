/* batch.h - runs requests of one model: one alone, or several as one run over the rows of all.
 *
 * A model can be batched if the first dim of every input and output is the same symbol and a trial at load agreed
 * (probe.h). Requests share a run only if all other dims and the set of inputs are equal; nothing is ever padded. A run
 * of several that fails is taken apart, so that only the request that cannot be run fails. */
#ifndef PS_SERVER_BATCH_H
#define PS_SERVER_BATCH_H

#include "server/core.h"

/* Memory in which inputs are put together; of one thread, kept from run to run. Zero-initialise. */
typedef struct ps_batch_room {
    char *data;
    size_t size;
} ps_batch_room;

typedef struct ps_batch_run {
    ps_session_kind kind;
    const int *cancel;        /* of ps_run_options */
    ps_batch_room *room;      /* not needed for one request */
    struct ps_shadow *shadow; /* gets copies; may be NULL */
    int64_t stop_ns;     /* of ps_clock_ns: the run ends with PS_DEADLINE then, as at a request's own deadline; 0 */
    int64_t measured_ns; /* set: time from the first input to the last reply if all went as one, well; else 0 */
    uint32_t items;      /* set: what the scheduler counts of those that ran */
    bool cut;            /* set: it was stopped at its deadline after measured_ns */
} ps_batch_run;

/* What makes two requests alike: presence, type and all dims but the first of each input (of a model that is not
 * batched: of all dims). */
uint64_t ps_batch_shape(const ps_infer *infer);
/* Rows of the request, at least 1; elements of its inputs for each row in *ret_work. */
uint32_t ps_batch_items(const ps_infer *infer, uint64_t *ret_work);

/* Runs n requests of one served model, in order; encodes the results of those that succeed, counts, sets status and
 * error of each. `done` is the caller's. */
void ps_batch_run_all(ps_batch_run *run, ps_infer **infers, size_t n);
void ps_batch_room_release(ps_alloc_state *alloc, ps_batch_room *room);

#endif
