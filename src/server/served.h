/* served.h - one loaded version of a model: what requests hold on to while they use it.
 *
 * Reference counted, so that unload and reload never free what a request uses. Sessions are kept in a free list: as
 * many as were ever needed at once. After ps_served_retire no session is kept any more, and the last release frees the
 * model. */
#ifndef PS_SERVER_SERVED_H
#define PS_SERVER_SERVED_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/cache.h"
#include "base/thread.h"
#include "base/vec.h"
#include "polestar/session.h"
#include "sched/sched.h"
#include "server/devices.h"
#include "server/model_config.h"
#include "server/photo.h"
#include "server/quick.h"
#include "server/sequence.h"
#include "server/stats.h"

/* Sessions that run on all threads of the engine, and sessions that run on one. */
typedef enum ps_session_kind { PS_SESSION_WIDE, PS_SESSION_NARROW, PS_SESSION_KINDS } ps_session_kind;

/* A session for one run, and where it came from. */
typedef struct ps_served_session {
    ps_session *session;
    ps_session_kind kind;
    size_t place; /* of ps_served.places */
    int64_t since_ns;
} ps_served_session;

/* One of the model's devices. */
typedef struct ps_served_place {
    ps_used_device *device;
    PS_VEC(ps_session *) idle[PS_SESSION_KINDS]; /* guarded by the model's lock */
} ps_served_place;

typedef struct ps_runner ps_runner;

typedef struct ps_served {
    atomic_int refs;
    ps_alloc_state *alloc;
    const char *name, *version; /* in the arena, like the value infos */
    ps_model *model;
    ps_value_info *inputs, *outputs;
    size_t n_inputs, n_outputs;
    ps_model_config config; /* in the arena */
    ps_photo_settings photo;
    ps_sequences *sequences; /* NULL: the model keeps no state */
    ps_stats *stats; /* the version's, a reference */
    ps_quick quick;
    uint32_t max_batch; /* rows that may share a run; 1: requests run alone, for the reason in `unbatched` */
    const char *unbatched;
    const char *verdict; /* of the trial (probe.h), as text for the cache; NULL: there was none */
    bool may_keep;       /* the verdict is of the model, not of what memory there was */
    ps_cache *cache;    /* keeps what is learnt of the model's times; NULL: nothing is kept */
    uint64_t digest[2]; /* of the model file, if there is a cache */
    int weight;         /* share of the devices beside other models, 1 to 1000 */
    uint64_t setup;     /* of ps_served_options */
    const char *device; /* never NULL; in the arena: the name of one, or a list of several */
    ps_dtype activations;
    bool elsewhere;     /* its configuration asks for devices, and the server uses none of them */
    ps_served_place *places;
    size_t n_places;
    char *profiles;     /* what an earlier server kept, or NULL; until `schedule` has it */
    size_t profiles_size;
    ps_sched_model *schedule; /* the runner's, from the first request on; guarded by its lock */
    void (*unschedule)(ps_runner *runner, struct ps_served *s); /* set with it, called before the model is freed */
    ps_runner *runner;
    atomic_llong used_ns; /* of ps_clock_ns: when it was loaded, or asked for last */

    /* NULL, or called by a run that found no memory: true if some came free and it may try again */
    bool (*relieve)(void *ctx);
    void *relieve_ctx;
    /* NULL, or called by whoever meets a lost device, once until ps_served_reopen is through */
    void (*on_lost)(void *ctx);
    void *lost_ctx;
    atomic_bool lost_told;
    void (*on_gone)(void *ctx); /* NULL, or called when all is freed; set before the last reference can go */
    void *gone_ctx;

    ps_mutex lock;
    bool retired; /* guarded by lock */
    ps_arena arena;
} ps_served;

typedef struct ps_served_options {
    const char *name, *version, *path;
    ps_stats *stats; /* of the version */
    ps_used_devices *devices;
    ps_dtype activations; /* as ps_model_options */
    const char *states; /* may be NULL, like the next: instead of the model's .state.json: its text */
    const char *config; /* the model's config.pbtxt or config.json */
    uint32_t max_batch; /* 1: no batching; else the most rows of a run, if the model allows it (probe.h) */
    ps_cache *cache;    /* may be NULL; outlives the model */
    uint64_t setup;     /* a hash of what times depend on beside the model: devices, runners, threads */
    bool (*relieve)(void *ctx); /* of the model, from the start: see ps_served */
    void *relieve_ctx;
} ps_served_options;

/* Loads the file; slow. Fails with the loader's sentence, or if an input or output has an element type that the
 * protocol cannot carry. */
ps_status ps_served_load(ps_engine *engine, const ps_served_options *options, ps_served **ret, ps_error *err);
ps_served *ps_served_retain(ps_served *s);
void ps_served_release(ps_served *s); /* NULL is allowed */
void ps_served_retire(ps_served *s);
/* Its optimised and packed form goes to the cache on disk, so that loading it again takes less: before an eviction. */
void ps_served_keep(ps_served *s);
/* It came from there. */
bool ps_served_was_kept(const ps_served *s);
/* Frees the sessions that wait for requests; the next request makes a new one. */
void ps_served_drop_idle(ps_served *s);

/* A session for one run, on the device of the model's that has least to do; give it back with ps_served_put_session.
 * PS_UNAVAILABLE: all of its devices were lost. */
ps_status ps_served_take_session(ps_served *s, ps_session_kind kind, ps_served_session *ret, ps_error *err);
/* The same on the device of one of its places, lost or not. */
ps_status ps_served_take_session_on(ps_served *s, size_t place, ps_session_kind kind, ps_served_session *ret,
                                    ps_error *err);
/* False: its device was lost. What it ran is to be run again, on another one. */
bool ps_served_put_session(ps_served *s, ps_served_session *session);

/* How many of the model's devices are lost, and whether all are. Any thread. */
size_t ps_served_lost(ps_served *s, bool *ret_all);
/* Those are opened anew and the model is loaded there again; slow. */
ps_status ps_served_reopen(ps_served *s, ps_error *err);

/* Bytes it holds with its sessions, and the most so far (ret_peak may be NULL). */
size_t ps_served_memory(ps_served *s, size_t *ret_peak);
/* Somebody asks for it, or has been answered: idle time begins anew. */
void ps_served_use(ps_served *s);
int64_t ps_served_used(const ps_served *s);

/* Index of the input or output of that name, or -1. */
int ps_served_find_input(const ps_served *s, const char *name);
int ps_served_find_output(const ps_served *s, const char *name);

#endif
