/* repository_int.h - the insides of the repository: names, versions, and what becomes of them. */
#ifndef PS_SERVER_REPOSITORY_INT_H
#define PS_SERVER_REPOSITORY_INT_H

#include "base/map.h"
#include "base/os.h"
#include "server/eviction.h"
#include "server/pool.h"
#include "server/repository.h"
#include "server/repository_path.h"

/* One version of a model. Lives as long as its entry. All is guarded by the repository's lock; `file` is changed by who
 * holds load_lock as well, so that the loader may read it with either. */
typedef struct ps_model_version {
    int64_t number;
    char text[PS_MODEL_VERSION_TEXT];
    char *file;
    bool present;    /* in the folder, as of the last look at it */
    bool wanted;     /* by the model's version policy, as of that look, or by a rule of its traffic */
    uint64_t queued; /* a request asked for it: its turn, counted from 1; 0: none did */
    ps_model_state state;
    ps_served *served; /* not NULL in state READY, and while a loaded version is loaded again */
    ps_error reason;   /* of state FAILED, and of READY when a reload or a newer version failed; else empty */
    size_t bytes;      /* that it held at most when it was loaded last; 0: not known */
    size_t held;       /* that it held, with its sessions, when it was evicted last; 0: not known */
    int64_t load_ns;   /* how long that load took */
    bool was_loaded;       /* at least once */
    uint64_t stamp, tried; /* of its files, as of the last look and the last load: see repository_poll.c */
    ps_stats *stats;       /* a reference; NULL: nothing has happened to it yet (ps_version_stats) */
    char device[PS_USED_DEVICES_LIST]; /* where it was loaded last; "": it never was */
    bool all_lost;         /* each of its devices was lost: nobody gets it */
    int64_t reopen_ns;     /* when the next try to load it on lost devices again is due; 0: none is */
    int64_t tried_ns;      /* when the last one began, or ended */
    int reopen_tries;
} ps_model_version;

/* One known name. Lives as long as the repository; guarded by its lock but for the first four, which do not change. */
typedef struct ps_entry {
    char *name, *path, *states;          /* states NULL: a file beside the model may name them */
    bool listed;                         /* not of the folder; does not change either */
    bool resolved;                       /* `versions` are those of the folder */
    bool pending;                        /* the loader was asked, or will be at the start */
    uint64_t turn;                       /* as `queued` of a version, where the versions are not known */
    bool unloaded;                       /* by hand: no request loads it */
    bool loaded;                         /* by hand, where nothing else loads it: it is again at the next start */
    bool by_hand;                        /* as it is being loaded now. The loader's */
    bool gone;                           /* from the folder: as if it were not known */
    uint64_t seen, taken;                /* stamps of its files: of the last look, and taken up. The loader's */
    ps_error reason;                     /* why its versions cannot be told, or empty */
    ps_duration early[PS_FAILURES];      /* of requests before its versions were known */
    ps_traffic *traffic;                 /* NULL: no rules */
    char *rules;                         /* of the configuration, not taken up yet; NULL: none */
    bool restored;                       /* what an earlier server kept has been looked for. The loader's */
    bool unkept;                         /* `traffic` is not what the state folder has */
    PS_VEC(ps_model_version *) versions; /* ascending */
} ps_entry;

struct ps_repository {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_log log;
    char *dir;
    ps_repository_options options; /* strings are not kept */
    ps_wait reopen_timer;          /* in `waits`; the loader's, but for timer_runs */
    bool timer_runs;               /* guarded by lock */
    ps_waits *waits;               /* keys are entries */
    char *state;                   /* folder; may be NULL */
    bool unmarked;                 /* that marks of loads cannot be written has been said; the loader's */
    ps_pool *keeper;               /* NULL until ps_repository_use_keeper */
    ps_job keep;                   /* writes what is unkept */
    bool keep_queued;              /* guarded by lock */
    ps_pool *loader;               /* NULL until ps_repository_use_loader */
    ps_job job;                    /* loads what is queued */
    bool job_queued;               /* guarded by lock, like the next three */
    uint64_t turns;                /* given so far */
    bool crowded;                  /* so little room is left that idle models are to go */
    int64_t looked_ns;             /* when that was found last */
    atomic_bool stop_loading;
    atomic_bool filling; /* a load is taking memory */
    ps_mutex load_lock; /* one load or unload at a time; taken before lock */
    ps_mutex lock;
    ps_cond gone;              /* an unloaded version has been freed */
    ps_map by_name;            /* guarded by lock, like all below */
    PS_VEC(ps_entry *) sorted; /* by name */
    size_t n_versions;
    PS_VEC(ps_resident) residents; /* room for all versions, so that evicting needs no memory, like the next */
    PS_VEC(ps_model_version *) resident_of;
};

ps_entry *ps_repository_find(ps_repository *repo, const char *name); /* with the lock held */
/* Looks for new names in the folder. */
ps_status ps_repository_scan(ps_repository *repo, ps_error *err);
/* Does a request load what is not loaded? */
bool ps_repository_on_demand(const ps_repository *repo);
/* The version that a request without one gets, loaded or not; NULL: none. With the lock held. */
ps_model_version *ps_entry_default(const ps_entry *e);

/* Can requests ask for it? */
bool ps_version_there(const ps_model_version *v);
/* Does a request load it? With the lock held; v NULL: nobody has looked for the model's versions yet. */
bool ps_version_loadable(const ps_repository *repo, const ps_entry *e, const ps_model_version *v);
ps_model_version *ps_entry_version(const ps_entry *e, int64_t number);

/* ---- repository_stats.c ---- */

/* Its counters, made if need be: with the lock held. NULL: out of memory. */
ps_stats *ps_version_stats(ps_repository *repo, ps_entry *e, ps_model_version *v);
/* As if nothing had ever happened to the model. With the lock held. */
void ps_entry_forget_stats(ps_entry *e);

/* ---- repository.c ---- */

/* The version that `version` (NULL: none; digits or a label) asks for; NULL: there is none. With the lock held. */
ps_model_version *ps_entry_pick(const ps_repository *repo, const ps_entry *e, const char *version);
/* With the lock held; v NULL: nobody has looked for the model's versions yet. */
bool ps_version_loading(const ps_entry *e, const ps_model_version *v);
/* As the index calls it. With the lock held. */
const char *ps_version_state(const ps_entry *e, const ps_model_version *v);
/* Why there is no such version. With the lock held. */
ps_status ps_entry_no_version(const ps_entry *e, const char *version, ps_error *err);

/* ---- repository_traffic.c ---- */

/* The version for requests without one, by the rules; NULL: none of theirs is there. With the lock held. */
ps_model_version *ps_entry_main(const ps_repository *repo, const ps_entry *e);
/* What an earlier server kept of the model; ps_free it. NULL: nothing. Reads a file. */
char *ps_entry_read_kept(ps_repository *repo, const ps_entry *e);
/* The model is gone: what comes under its name later is another one. With the lock held. */
void ps_entry_drop_rules(ps_repository *repo, ps_entry *e);
/* Once its versions are known, and again once they are loaded: takes up what was kept (may be NULL), and `rules`. With
 * the lock held. */
void ps_entry_take_rules(ps_repository *repo, ps_entry *e, const char *kept);

/* ---- repository_kept.c ---- */

/* The file in the state folder for a path; ps_free it. NULL: out of memory. */
char *ps_repository_kept_path(ps_repository *repo, const char *kind, const char *path);

/* What was loaded and unloaded by hand when an earlier server had this folder. Before the repository is shared. */
void ps_repository_recall(ps_repository *repo);
/* Writes that down for the next one; with load_lock held. A failure is logged: it is about the next start only. */
void ps_repository_keep(ps_repository *repo);

/* Stands in the state folder while a file is being loaded. */
typedef struct ps_load_mark {
    char *path; /* NULL: there is none */
    uint64_t size;
    int64_t changed_ns, times;
} ps_load_mark;

/* With load_lock held. An error: the process ended too often while it loaded this file. */
ps_status ps_load_mark_set(ps_repository *repo, const ps_entry *e, const char *file, ps_load_mark *m, ps_error *err);
void ps_load_mark_clear(ps_repository *repo, ps_load_mark *m);

/* ---- repository_load.c ---- */

/* Reads the configuration and the folder; with load_lock held. */
ps_status ps_entry_resolve(ps_repository *repo, ps_entry *e, ps_error *err);
/* With the lock held: has the loader load it, soon. False: its queue is full. */
bool ps_repository_queue(ps_repository *repo, ps_entry *e, ps_model_version *v);

/* What lies in the model's folder has changed, or it is gone. */
void ps_repository_take_up(ps_repository *repo, ps_entry *e, bool gone);

/* With the lock held: the loader looks for what there is to do. False: it cannot. */
bool ps_repository_wake_loader(ps_repository *repo);

/* ---- repository_devices.c ---- */

/* A run met a lost device (ps_served.on_lost): all models that were on it are loaded there again. */
void ps_repository_lost(void *ctx);
/* With the lock held: is it time for a try? */
bool ps_version_reopen_due(const ps_model_version *v, int64_t now);
/* With the lock held: what it is loaded of is new, or gone. */
void ps_version_forget_loss(ps_model_version *v);
/* With load_lock held, by the loader: a try; and when it is to look for the next one. */
void ps_repository_reopen(ps_repository *repo, ps_entry *e, ps_model_version *v);
void ps_repository_set_reopen_timer(ps_repository *repo);

/* ---- repository_poll.c ---- */

/* Of a version's files and its configuration (may be NULL). */
uint64_t ps_version_stamp(ps_repository *repo, const ps_entry *e, const char *file, const char *config);
/* Of all files of a model; 0: there is none. */
uint64_t ps_entry_stamp(ps_repository *repo, const ps_entry *e);

/* With the lock held, at every request: if requests have taken most of the room that loads leave them, the loader is to
 * make some. */
void ps_repository_watch_room(ps_repository *repo);

/* ---- repository_evict.c ---- */

/* As much as loads leave free. */
void ps_repository_restore_room(ps_repository *repo);
/* Is less than half of that free? */
bool ps_repository_is_crowded(const ps_repository *repo);

/* Makes models go until at least `bytes` come free and `count` are gone. False: that cannot be done, and none went. */
bool ps_repository_evict(ps_repository *repo, uint64_t bytes, size_t count);
/* Room for a model that takes `bytes`. PS_UNAVAILABLE: there will be when others are idle; PS_NO_MEMORY: never. */
ps_status ps_repository_make_room(ps_repository *repo, const ps_entry *e, uint64_t bytes, bool one_more, ps_error *err);

#endif
