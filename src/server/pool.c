#include "server/pool.h"

#include "base/thread.h"

typedef struct worker worker;
struct worker {
    ps_pool *pool;
    worker *next_idle; /* guarded by pool->lock, like the two below */
    bool idle;
    ps_cond wake;
    ps_thread thread;
};

struct ps_pool {
    ps_alloc_state *alloc;
    ps_mutex lock;
    ps_job *first, **last; /* guarded by lock, like all below */
    size_t queued, running, max_queue;
    worker *idle; /* most recently idle first */
    bool stopping;
    worker *workers;
    int n_workers; /* with condition variable and thread */
};

/* Called with the lock held. */
static void put_job(ps_pool *pool, ps_job *job) {
    ps_job **at = job->rank ? &pool->first : pool->last;
    while (*at && (*at)->rank && (*at)->rank <= job->rank)
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    if (!job->next) pool->last = &job->next;
}

static ps_job *take_job(ps_pool *pool) {
    ps_job *job = pool->first;
    pool->first = job->next;
    if (!pool->first) pool->last = &pool->first;
    pool->queued--;
    pool->running++;
    return job;
}

static void wait_for_work(worker *w) {
    ps_pool *pool = w->pool;
    w->idle = true;
    w->next_idle = pool->idle;
    pool->idle = w;
    while (w->idle)
        ps_cond_wait(&w->wake, &pool->lock);
}

static void worker_main(void *arg) {
    worker *w = arg;
    ps_pool *pool = w->pool;
    ps_mutex_lock(&pool->lock);
    for (;;) {
        if (pool->first) {
            ps_job *job = take_job(pool);
            ps_mutex_unlock(&pool->lock);
            job->run(job);
            ps_mutex_lock(&pool->lock);
            pool->running--;
        } else if (pool->stopping) {
            break;
        } else {
            wait_for_work(w);
        }
    }
    ps_mutex_unlock(&pool->lock);
}

/* Called with the lock held. */
static void wake_one(ps_pool *pool) {
    worker *w = pool->idle;
    if (!w) return;
    pool->idle = w->next_idle;
    w->idle = false;
    ps_cond_signal(&w->wake);
}

static ps_status start_workers(ps_pool *pool, const char *name, int threads, ps_error *err) {
    for (int i = 0; i < threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        PS_FAIL_IF(!ps_cond_init(&w->wake), err, NO_MEMORY, "cannot make the condition variable of thread %d", i);
        if (!ps_thread_start(&w->thread, name, worker_main, w)) {
            ps_cond_destroy(&w->wake);
            return PS_FAIL(err, NO_MEMORY, "cannot start thread %d of %d (%s)", i + 1, threads, name);
        }
        pool->n_workers++;
    }
    return PS_OK;
}

ps_status ps_pool_create(ps_alloc_state *alloc, const char *name, int threads, size_t max_queue, ps_pool **ret,
                         ps_error *err) {
    ps_pool *pool = ps_alloc_zero(alloc, sizeof *pool);
    if (!pool) return PS_FAIL_NOMEM(err, "a thread pool");
    pool->alloc = alloc;
    pool->last = &pool->first;
    pool->max_queue = max_queue;
    if (!ps_mutex_init(&pool->lock)) {
        ps_free(alloc, pool);
        return PS_FAIL_NOMEM(err, "the lock of a thread pool");
    }
    pool->workers = ps_alloc_zero(alloc, (size_t)threads * sizeof *pool->workers);
    ps_status status = pool->workers ? start_workers(pool, name, threads, err) : PS_FAIL_NOMEM(err, "a thread pool");
    if (status != PS_OK) {
        ps_pool_free(pool);
        return status;
    }
    *ret = pool;
    return PS_OK;
}

void ps_pool_free(ps_pool *pool) {
    if (!pool) return;
    ps_mutex_lock(&pool->lock);
    pool->stopping = true;
    while (pool->idle)
        wake_one(pool);
    ps_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->n_workers; i++) {
        ps_thread_join(pool->workers[i].thread);
        ps_cond_destroy(&pool->workers[i].wake);
    }
    ps_mutex_destroy(&pool->lock);
    ps_free(pool->alloc, pool->workers);
    ps_free(pool->alloc, pool);
}

ps_status ps_pool_submit(ps_pool *pool, ps_job *job, ps_error *err) {
    bool accepted;
    ps_mutex_lock(&pool->lock);
    accepted = !pool->stopping && pool->queued < pool->max_queue;
    if (accepted) {
        put_job(pool, job);
        pool->queued++;
        wake_one(pool);
    }
    ps_mutex_unlock(&pool->lock);
    PS_FAIL_IF(!accepted, err, UNAVAILABLE, "the queue of %zu requests is full", pool->max_queue);
    return PS_OK;
}

size_t ps_pool_load(ps_pool *pool) {
    ps_mutex_lock(&pool->lock);
    size_t n = pool->queued + pool->running;
    ps_mutex_unlock(&pool->lock);
    return n;
}
