/* repository_poll.c - changes of the repository's folder, taken up by themselves (--model-control poll).
 *
 * The system says that something has changed; what, a look at every model's files tells: a stamp of names, sizes and
 * times. A model is taken up once two looks, LOOK_MS apart, saw the same: a folder that is still being copied changes
 * in between. (Whoever copies more slowly than that gets a failed load first, and, as the rest arrives, another.) The
 * looks are jobs of the loader, so that they never meet a load. */
#include <string.h>

#include "base/error.h"
#include "base/folder_watch.h"
#include "server/repository_int.h"

#define LOOK_MS 1000
#define LIMITED_MS 3000 /* between looks where the system does not watch all folders */

struct ps_repository_poll {
    ps_repository *repo;
    ps_folder_watch *watch;
    ps_thread thread;
    ps_job job;
    ps_mutex lock;
    ps_cond done;
    bool looking, stopping; /* guarded by lock */
    bool looked;            /* once at least; the job's */
    bool changing, limited; /* of the last look; the thread's while none is under way, else the job's */
};

/* ---- stamps ---- */

static uint64_t stamp_file(const char *path, uint64_t seed) {
    uint64_t values[2] = { 0 };
    int64_t time_ns;
    if (!ps_file_stat(path, &values[0], &time_ns)) return seed;
    values[1] = (uint64_t)time_ns;
    seed = ps_hash_bytes(path, strlen(path), seed);
    return ps_hash_bytes(values, sizeof values, seed);
}

/* Every file in the folder, and in those below it down to `depth`. */
static uint64_t stamp_folder(ps_repository *repo, ps_folder_watch *watch, const char *path, int depth, bool *limited,
                             uint64_t seed) {
    char **names;
    size_t n;
    if (watch && !ps_folder_watch_add(watch, path)) *limited = true;
    if (ps_dir_list(repo->alloc, path, &names, &n, NULL) != PS_OK) return seed;
    for (size_t i = 0; i < n; i++) {
        char *item = ps_path_join(repo->alloc, path, names[i]);
        if (!item) continue;
        if (!ps_dir_exists(item))
            seed = stamp_file(item, seed);
        else if (depth > 0)
            seed = stamp_folder(repo, watch, item, depth - 1, limited, ps_hash_bytes(item, strlen(item), seed));
        ps_free(repo->alloc, item);
    }
    ps_dir_free(repo->alloc, names, n);
    return seed;
}

/* 0: it is gone. */
static uint64_t stamp_model(ps_repository *repo, ps_folder_watch *watch, const char *path, bool *limited) {
    uint64_t stamp;
    char *config = NULL;
    if (ps_dir_exists(path)) {
        stamp = stamp_folder(repo, watch, path, 1, limited, 1);
        return stamp ? stamp : 1;
    }
    if (!ps_file_exists(path)) return 0;
    stamp = stamp_file(path, 1);
    if (ps_model_path_config(repo->alloc, path, &config, NULL) == PS_OK && config) stamp = stamp_file(config, stamp);
    ps_free(repo->alloc, config);
    return stamp ? stamp : 1;
}

uint64_t ps_version_stamp(ps_repository *repo, const ps_entry *e, const char *file, const char *config) {
    uint64_t stamp = config ? stamp_file(config, 1) : 1;
    char *folder = ps_dir_exists(e->path) ? ps_path_parent(repo->alloc, file) : NULL;
    bool limited;
    stamp = folder ? stamp_folder(repo, NULL, folder, 0, &limited, stamp) : stamp_file(file, stamp);
    ps_free(repo->alloc, folder);
    return stamp;
}

uint64_t ps_entry_stamp(ps_repository *repo, const ps_entry *e) {
    bool limited;
    return stamp_model(repo, NULL, e->path, &limited);
}

/* ---- a look ---- */

/* True: it has just changed, and another look is needed. */
static bool look_at(ps_repository_poll *p, ps_entry *e) {
    uint64_t stamp = stamp_model(p->repo, p->watch, e->path, &p->limited);
    bool moved = stamp != e->seen;
    e->seen = stamp;
    if (!p->looked && !e->taken) e->taken = stamp; /* as it was at the start: its first request loads it */
    if (moved) return stamp != e->taken;
    if (stamp == e->taken) return false;
    e->taken = stamp;
    ps_repository_take_up(p->repo, e, stamp == 0);
    return false;
}

static void look(ps_job *job) {
    ps_repository_poll *p = (ps_repository_poll *)((char *)job - offsetof(ps_repository_poll, job));
    ps_repository *repo = p->repo;
    p->changing = p->limited = false;
    if (!ps_folder_watch_add(p->watch, repo->dir)) p->limited = true;
    (void)ps_repository_scan(repo, NULL); /* an unreadable folder leaves what there is */
    for (size_t i = 0;; i++) {
        ps_mutex_lock(&repo->lock);
        ps_entry *e =
            i < repo->sorted.size ? repo->sorted.data[i] : NULL; /* names may come in between: the next look */
        ps_mutex_unlock(&repo->lock);
        if (!e || atomic_load(&repo->stop_loading)) break;
        if (!e->listed) p->changing |= look_at(p, e);
    }
    p->looked = true;
    ps_mutex_lock(&p->lock);
    p->looking = false;
    ps_cond_broadcast(&p->done);
    ps_mutex_unlock(&p->lock);
}

/* ---- the thread ---- */

/* Whatever is heard in between: that a folder has settled takes time. With the lock held before and after. */
static void wait_for_changes(ps_repository_poll *p, bool again) {
    int64_t until = ps_clock_ns() + LOOK_MS * INT64_C(1000000);
    do {
        ps_mutex_unlock(&p->lock);
        (void)ps_folder_watch_wait(p->watch, again ? LOOK_MS : p->limited ? LIMITED_MS : -1);
        ps_mutex_lock(&p->lock);
    } while (again && !p->stopping && ps_clock_ns() < until);
}

static void watch(void *arg) {
    ps_repository_poll *p = arg;
    ps_mutex_lock(&p->lock);
    while (!p->stopping) {
        p->looking = ps_pool_submit(p->repo->loader, &p->job, NULL) == PS_OK;
        bool refused = !p->looking;
        while (p->looking)
            ps_cond_wait(&p->done, &p->lock);
        if (!p->stopping) wait_for_changes(p, refused || p->changing);
    }
    ps_mutex_unlock(&p->lock);
}

ps_status ps_repository_poll_start(ps_repository *repo, ps_repository_poll **ret, ps_error *err) {
    *ret = NULL;
    if (repo->options.control != PS_CONTROL_POLL || !repo->dir) return PS_OK;
    ps_repository_poll *p = ps_alloc_zero(repo->alloc, sizeof *p);
    if (!p) return PS_FAIL_NOMEM(err, "watching the repository");
    p->repo = repo;
    p->job.run = look;
    ps_status status = ps_folder_watch_create(repo->alloc, &p->watch, err);
    bool lock = status == PS_OK && ps_mutex_init(&p->lock), both = lock && ps_cond_init(&p->done);
    if (both && ps_thread_start(&p->thread, "ps-poll", watch, p)) {
        *ret = p;
        return PS_OK;
    }
    if (status == PS_OK) status = PS_FAIL_NOMEM(err, "watching the repository");
    if (both) ps_cond_destroy(&p->done);
    if (lock) ps_mutex_destroy(&p->lock);
    ps_folder_watch_free(p->watch);
    ps_free(repo->alloc, p);
    return status;
}

void ps_repository_poll_stop(ps_repository_poll *p) {
    if (!p) return;
    ps_mutex_lock(&p->lock);
    p->stopping = true;
    ps_mutex_unlock(&p->lock);
    ps_folder_watch_wake(p->watch);
    ps_thread_join(p->thread);
    ps_cond_destroy(&p->done);
    ps_mutex_destroy(&p->lock);
    ps_folder_watch_free(p->watch);
    ps_free(p->repo->alloc, p);
}
