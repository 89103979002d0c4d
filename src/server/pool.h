/* pool.h - a fixed set of threads working off one bounded queue of jobs.
 *
 * Idle threads are woken last-in first-out: under light load the same few threads, with warm caches and warm OpenMP
 * teams, do all the work. Any thread may submit. */
#ifndef PS_SERVER_POOL_H
#define PS_SERVER_POOL_H

#include "base/alloc.h"
#include "base/error.h"

/* Embedded in what the job works on; owned by the submitter until `run` is called, by `run` from then on. */
typedef struct ps_job ps_job;
struct ps_job {
    ps_job *next;
    uint32_t rank; /* set by the submitter: 1 goes before 2 and so on, 0 after all; in order of arrival among equals */
    void (*run)(ps_job *job);
};

typedef struct ps_pool ps_pool;

/* name is what debuggers show for the threads (at most 15 bytes). */
ps_status ps_pool_create(ps_alloc_state *alloc, const char *name, int threads, size_t max_queue, ps_pool **ret,
                         ps_error *err);
/* Finishes every job that was accepted, then joins the threads. NULL is allowed. */
void ps_pool_free(ps_pool *pool);
/* PS_UNAVAILABLE when the queue is full; the job is then not run. */
ps_status ps_pool_submit(ps_pool *pool, ps_job *job, ps_error *err);
/* Jobs queued or running now. */
size_t ps_pool_load(ps_pool *pool);

#endif
