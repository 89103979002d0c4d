/* thread.c - mutexes, condition variables, threads and the parallel-for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setname_np */
#endif
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool ps_mutex_init(ps_mutex *m) {
    return pthread_mutex_init(m, NULL) == 0;
}

void ps_mutex_destroy(ps_mutex *m) {
    pthread_mutex_destroy(m);
}

void ps_mutex_lock(ps_mutex *m) {
    int rc = pthread_mutex_lock(m);
    assert(rc == 0);
    (void)rc;
}

void ps_mutex_unlock(ps_mutex *m) {
    int rc = pthread_mutex_unlock(m);
    assert(rc == 0);
    (void)rc;
}

bool ps_cond_init(ps_cond *c) {
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) return false;
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(c, &attr) == 0;
    pthread_condattr_destroy(&attr);
    return ok;
}

void ps_cond_destroy(ps_cond *c) {
    pthread_cond_destroy(c);
}

void ps_cond_wait(ps_cond *c, ps_mutex *m) {
    pthread_cond_wait(c, m);
}

bool ps_cond_wait_until(ps_cond *c, ps_mutex *m, int64_t deadline_ns) {
    if (deadline_ns < 0) deadline_ns = 0;
    struct timespec ts = { (time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000) };
    return pthread_cond_timedwait(c, m, &ts) != ETIMEDOUT;
}

void ps_cond_signal(ps_cond *c) {
    pthread_cond_signal(c);
}

void ps_cond_broadcast(ps_cond *c) {
    pthread_cond_broadcast(c);
}

/* ---- threads ---- */

typedef struct thread_start {
    ps_thread_fn fn;
    void *ctx;
    char name[16];
} thread_start;

static void *thread_main(void *arg) {
    thread_start start = *(thread_start *)arg;
    free(arg);
#ifdef __linux__
    pthread_setname_np(pthread_self(), start.name);
#endif
    start.fn(start.ctx);
    return NULL;
}

bool ps_thread_start(ps_thread *ret_thread, const char *name, ps_thread_fn fn, void *ctx) {
    /* From malloc, not ps_alloc: freed by the new thread at its start, like the stack that libc allocates beside it. */
    thread_start *start = calloc(1, sizeof *start);
    if (!start) return false;
    start->fn = fn;
    start->ctx = ctx;
    size_t n = strlen(name);
    memcpy(start->name, name, n < sizeof start->name ? n : sizeof start->name - 1);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* the new thread inherits the mask */
    bool ok = pthread_create(ret_thread, NULL, thread_main, start) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!ok) free(start);
    return ok;
}

void ps_thread_join(ps_thread thread) {
    pthread_join(thread, NULL);
}

/* ---- parallel-for ---- */

int ps_parallel_ranges(int64_t n, int64_t grain, int threads) {
    if (n <= 0) return 0;
    if (grain < 1) grain = 1;
    int64_t ranges = n / grain;
    if (ranges > threads) ranges = threads;
    return ranges < 1 ? 1 : (int)ranges;
}

typedef struct parallel_job {
    int64_t n;
    int ranges;
    ps_parallel_fn fn;
    void *ctx;
} parallel_job;

/* The first n % ranges ranges are one item longer. */
static void run_range(const parallel_job *job, int r) {
    int64_t each = job->n / job->ranges, longer = job->n % job->ranges;
    int64_t begin = each * r + (r < longer ? r : longer);
    job->fn(job->ctx, begin, begin + each + (r < longer), r);
}

/* Worker `first` of `workers` takes every workers-th range: the runtime may give fewer threads than there are ranges.
 */
static void run_ranges(const parallel_job *job, int first, int workers) {
    for (int r = first; r < job->ranges; r += workers)
        run_range(job, r);
}

#ifdef PS_PARALLEL_PTHREADS

enum { MAX_WORKERS = 64 };

typedef struct worker {
    const parallel_job *job;
    int first, workers;
    pthread_t thread;
    bool started;
} worker;

static void *worker_main(void *arg) {
    const worker *w = arg;
    run_ranges(w->job, w->first, w->workers);
    return NULL;
}

static void run_parallel(const parallel_job *job) {
    worker team[MAX_WORKERS];
    int workers = job->ranges < MAX_WORKERS ? job->ranges : MAX_WORKERS;
    for (int i = 1; i < workers; i++) {
        team[i] = (worker) { job, i, workers, 0, false };
        team[i].started = pthread_create(&team[i].thread, NULL, worker_main, &team[i]) == 0;
    }
    run_ranges(job, 0, workers);
    for (int i = 1; i < workers; i++) {
        if (team[i].started) {
            pthread_join(team[i].thread, NULL);
        } else {
            run_ranges(job, i, workers);
        }
    }
}

#else

#include <omp.h>

static void run_parallel(const parallel_job *job) {
#pragma omp parallel num_threads(job->ranges)
    run_ranges(job, omp_get_thread_num(), omp_get_num_threads());
}

#endif

void ps_parallel_for(int64_t n, int64_t grain, int threads, ps_parallel_fn fn, void *ctx) {
    parallel_job job = { n, ps_parallel_ranges(n, grain, threads), fn, ctx };
    if (job.ranges == 1) {
        fn(ctx, 0, n, 0);
    } else if (job.ranges > 1) {
        run_parallel(&job);
    }
}
