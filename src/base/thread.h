/* thread.h - mutexes, threads, and the one parallel-for of the library.
 *
 * The parallel-for runs on the OpenMP team of the calling thread (the same that oneDNN uses), or on pthreads when built
 * with PS_PARALLEL_PTHREADS (the tsan preset: libgomp is not instrumented). A body must not call it again. */
#ifndef PS_BASE_THREAD_H
#define PS_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef pthread_mutex_t ps_mutex;
typedef pthread_cond_t ps_cond;

bool ps_mutex_init(ps_mutex *m); /* false: out of resources */
void ps_mutex_destroy(ps_mutex *m);
void ps_mutex_lock(ps_mutex *m);
void ps_mutex_unlock(ps_mutex *m);
bool ps_cond_init(ps_cond *c); /* waits on the monotonic clock */
void ps_cond_destroy(ps_cond *c);
void ps_cond_wait(ps_cond *c, ps_mutex *m);
/* false on timeout; deadline_ns is of ps_clock_ns. */
bool ps_cond_wait_until(ps_cond *c, ps_mutex *m, int64_t deadline_ns);
void ps_cond_signal(ps_cond *c);
void ps_cond_broadcast(ps_cond *c);

typedef pthread_t ps_thread;
typedef void (*ps_thread_fn)(void *ctx);
/* Starts fn(ctx) with every signal blocked, so that signals reach the main thread. name (up to 15 bytes) shows up in
 * debuggers. ctx must outlive the thread. false: out of resources. Each started thread must be joined. */
bool ps_thread_start(ps_thread *ret_thread, const char *name, ps_thread_fn fn, void *ctx);
void ps_thread_join(ps_thread thread);

typedef void (*ps_parallel_fn)(void *ctx, int64_t begin, int64_t end, int thread);
/* Splits [0, n) into at most `threads` contiguous ranges of at least `grain` items and runs fn on each; the split
 * depends only on its arguments, so results do not change from run to run. thread < threads. Returns when all
 * are done. */
void ps_parallel_for(int64_t n, int64_t grain, int threads, ps_parallel_fn fn, void *ctx);
/* Number of ranges ps_parallel_for will make. */
int ps_parallel_ranges(int64_t n, int64_t grain, int threads);

#endif
