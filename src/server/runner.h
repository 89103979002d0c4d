/* runner.h - runs requests: threads that ask the scheduler (src/sched) what to run next, and run it.
 *
 * The scheduler decides order, batches and refusals in one lock of the runner; the threads run what it chose outside of
 * it. A request whose deadline has become impossible is answered without being run. */
#ifndef PS_SERVER_RUNNER_H
#define PS_SERVER_RUNNER_H

#include "server/coming.h"
#include "server/core.h"
#include "server/trace.h"

#define PS_RUNNER_MAX_QUEUE 4096

typedef struct ps_runner_options {
    int threads;              /* 0: one per core of the process */
    const char *policy;       /* NULL: the scheduler's default */
    ps_sched_knobs knobs;     /* of the policies that have any */
    int64_t target_ns;        /* latency that the operator asks for, a deadline of every request; 0: automatic, which
                                 steers batch sizes and refuses nothing */
    ps_trace *trace;          /* outlives the runner, like the next */
    struct ps_shadow *shadow; /* may be NULL */
    const char *tenants;      /* of ps_server_options; until ps_runner_create returns */
} ps_runner_options;

ps_status ps_runner_create(ps_alloc_state *alloc, const ps_runner_options *options, ps_runner **ret, ps_error *err);
/* Every request that was accepted gets its `done` before this returns; none is accepted any more. */
void ps_runner_stop(ps_runner *runner);
/* Stops first; models that it has run are gone. NULL is allowed. */
void ps_runner_free(ps_runner *runner);
/* PS_UNAVAILABLE when a queue is full or the deadline cannot be met, with infer->retry_after_ns. */
ps_status ps_runner_submit(ps_runner *runner, ps_infer *infer, ps_error *err);
/* The client of a request that has been submitted, or is being so, is gone. True: it waited, and waits no longer;
 * nobody else has it, and the caller answers it with ps_runner_end_given_up (PS_CANCELLED). False: it runs, was
 * answered, or will be refused: its `done` comes from elsewhere. The request must not be freed while this runs. */
bool ps_runner_give_up(ps_runner *runner, ps_infer *infer);
void ps_runner_end_given_up(ps_runner *runner, ps_infer *infer);
/* More requests wait than the next runs take, and runs are long: nothing is lost if a front end that has been woken
 * waits for so long and reads what arrives meanwhile in a group. Each wake-up costs the run that it interrupts a change
 * of threads, and both of them their caches. Any thread, without a lock. */
#define PS_GATHER_NS INT64_C(1000000)
bool ps_runner_is_crowded(const ps_runner *runner);
/* The front end's, as an answer goes out. What passed since the run ended is kept free before the due times of later
 * requests, and once more for their way here. Any thread. */
void ps_runner_sent(ps_runner *runner, const ps_infer *infer, int64_t now_ns);
/* Runs in progress stop soon and queued ones do not start: all end with PS_UNAVAILABLE or PS_CANCELLED. */
void ps_runner_cancel(ps_runner *runner);
/* The model's scheduling so far. False: there was no request yet. Any thread; the caller may hold other locks. */
bool ps_runner_stats(ps_runner *runner, const ps_served *served, ps_sched_stats *ret);

/* Requests whose bodies a front end has not read yet, and of which it knows that they have neither deadline nor class.
 * Where such a one could only be answered late it is better left unread until there is time for it. Any thread.
 *
 * False: it is to be read, and counts as coming until ps_runner_came. */
bool ps_runner_defers(ps_runner *runner, const ps_served *served, ps_coming *c);
/* True: it waits, or did so: w->over is called, on any thread, when it is to be read, after ten seconds at most. */
bool ps_runner_defer(ps_runner *runner, const ps_served *served, ps_wait *w);
/* True: it waits no longer, and w->over is not called. */
bool ps_runner_undefer(ps_runner *runner, ps_wait *w);
/* It is read now, and counts as coming. `served` is only compared. */
void ps_runner_comes(ps_runner *runner, const void *served, ps_coming *c);
void ps_runner_came(ps_runner *runner, ps_coming *c);
/* One that had been deferred ended before it could wait for its run, whose end would have others read. */
void ps_runner_read_next(ps_runner *runner, const void *served);
/* Now and then: those that they wait for may be slow clients, whose requests do not end. */
void ps_runner_read_if_idle(ps_runner *runner);
void ps_runner_read_all(ps_runner *runner);

#endif
