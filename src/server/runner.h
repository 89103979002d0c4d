/* runner.h - runs requests: a pool of threads, each taking a session of the model for one run.
 *
 * This is the seam for the scheduler: whoever decides order, batches and devices takes the place of the pool's plain
 * queue behind ps_runner_submit and calls the same run function. */
#ifndef PS_SERVER_RUNNER_H
#define PS_SERVER_RUNNER_H

#include "server/core.h"
#include "server/trace.h"

#define PS_RUNNER_MAX_QUEUE 4096

/* runners 0: one per core of the process. `trace` outlives the runner. */
ps_status ps_runner_create(ps_alloc_state *alloc, int runners, ps_trace *trace, ps_runner **ret, ps_error *err);
/* Every request that was accepted gets its `done` before this returns. NULL is allowed. */
void ps_runner_free(ps_runner *runner);
/* PS_UNAVAILABLE when the queue is full. */
ps_status ps_runner_submit(ps_runner *runner, ps_infer *infer, ps_error *err);
/* Runs in progress stop soon and queued ones do not start: all end with PS_UNAVAILABLE or PS_CANCELLED. */
void ps_runner_cancel(ps_runner *runner);

#endif
