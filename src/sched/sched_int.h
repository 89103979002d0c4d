/* sched_int.h - what the files of this folder share: the objects, and what a policy is. */
#ifndef PS_SCHED_INT_H
#define PS_SCHED_INT_H

#include "sched/queue.h"

#define PS_SCHED_NEVER INT64_MAX
#define PS_SCHED_LATE (INT64_MAX / 4) /* added to order_ns of what is late */
#define PS_SCHED_LOOK 16              /* buckets that one decision looks at */
#define PS_SCHED_AGED_EVERY 8         /* items between two seats for requests that waited for too long */
#define PS_SCHED_MOST_ITEMS 65536     /* that a request is counted with: sums of them stay within 32 bits */
#define PS_SCHED_RECENT 50            /* batches that 'linear' fits its line to */

struct ps_sched_tenant {
    double weight;
    uint32_t queued;
    int64_t tag_ns; /* until when what was admitted keeps the tenant's share of the device busy */
    ps_sched_tenant *next, **at;
};

/* What a policy remembers of a model. */
typedef struct ps_sched_memory {
    double limit; /* aimd: the batch size, with its fraction */
    struct {
        float items, ns, wait_ns;
    } recent[PS_SCHED_RECENT]; /* linear: a ring */
    uint32_t n_recent, seen;
    int64_t fitted_ns; /* linear: when */
    double slope, offset, wait_ns;
} ps_sched_memory;

/* The requests of one shape, and how long they take. */
struct ps_sched_bucket {
    ps_sched_model *model;
    uint64_t shape, work;
    ps_sched_queue queue;
    ps_profile profile;
    double backlog_ns;                /* device time of what is queued */
    uint32_t held;                    /* requests that point here */
    uint32_t n_late;                  /* of the queue */
    uint32_t since_aged;              /* items run since the last seat for one that waited for too long */
    uint32_t cuts;                    /* runs of late that were all stopped */
    int64_t ran_ns;                   /* when a batch started last; 0: never */
    bool mixed;                       /* the queue's order is not that of due_ns */
    int64_t used_ns;                  /* last admission */
    int64_t tried_ns;                 /* last run that was measured, or tried against the prediction; 0: neither yet */
    ps_sched_bucket *chain;           /* same hash */
    ps_sched_bucket *next, *previous; /* of s->active, while something is queued */
};

struct ps_sched_model {
    ps_sched *sched;
    uint32_t max_batch, max_queue, max_shapes;
    double weight;
    int64_t target_ns; /* 0: automatic */
    const ps_sched_knobs *knobs;
    ps_sched_knobs own_knobs;
    ps_sched_model *next, **at;
    ps_sched_bucket **table; /* by hash of the shape */
    uint32_t table_mask, n_buckets;
    const ps_sched_bucket *last; /* used last, for statistics; NULL: none */
    uint32_t queued, running;
    ps_sched_bucket *urgent; /* within ps_sched_look */
    ps_sched_model *next_urgent;
    bool paused;
    int64_t give_up_ns;
    double virtual_ns; /* device time used, by weight (start-time fair queueing) */
    double load, lost; /* decayed shares of the device: what arrivals ask for; what was refused, dropped or late */
    int64_t load_ns, lost_ns; /* when that was */
    double guard;
    uint32_t answered, missed; /* since the guard was last looked at */
    int64_t guard_ns;
    ps_sched_stats stats;
    ps_sched_memory memory;
};

struct ps_sched {
    ps_alloc_state *alloc;
    const ps_sched_policy *policy;
    uint32_t slots, max_queue;
    int64_t ageing_ns;
    ps_sched_knobs knobs;
    ps_sched_model *models;
    ps_sched_tenant *tenants, everyone;
    double tenant_weight, model_weight; /* of those with something queued */
    uint32_t busy_tenants, paused_models;
    uint64_t serial;
    uint32_t queued, running;
    ps_sched_bucket *active, *active_last; /* with something queued; longest unserved first */
    uint32_t n_active;
    ps_sched_batch *batches;               /* that run */
    ps_sched_request *dropped, **dropped_end;
    double backlog_ns, virtual_ns;
    double load;     /* share of the device that arrivals ask for, decayed */
    int64_t load_ns; /* when that was */
    int64_t transit_ns;
    int64_t freed_ns;       /* a batch ended while others waited, and none has started since; 0: not so */
    double turn_ns, ran_ns; /* means over batches that were followed by another: until it started, of the run */
};

/* What a policy wants to run. */
typedef struct ps_sched_choice {
    ps_sched_bucket *bucket; /* NULL: nothing now */
    uint32_t skip, items;    /* requests left out at the front; items at most, and one request at least */
    int64_t until_ns;        /* without bucket: when to look again; PS_SCHED_NEVER */
} ps_sched_choice;

/* One file each. All calls are made under the caller's lock, like every other. */
struct ps_sched_policy {
    const char *name;
    bool by_deadline; /* queues are in order of due_ns, else of arrival */
    /* NULL, or may refuse what is not yet queued: fills finish_ns if it knows, and retry_after_ns if it refuses. */
    ps_sched_reason (*admit)(ps_sched *s, ps_sched_bucket *b, const ps_sched_request *r, int64_t now,
                             ps_sched_verdict *verdict);
    /* Something is queued and a slot is free. May drop. */
    void (*choose)(ps_sched *s, int64_t now, ps_sched_choice *ret);
    /* NULL, or after a batch that ran; the profile knows of it already. */
    void (*learn)(ps_sched *s, const ps_sched_batch *batch, int64_t measured_ns, int64_t now);
};

extern const ps_sched_policy ps_sched_policy_deadline, ps_sched_policy_fixed, ps_sched_policy_triton,
    ps_sched_policy_aimd, ps_sched_policy_linear;

/* For policies. */
void ps_sched_drop(ps_sched *s, ps_sched_request *r, ps_sched_reason reason);
int64_t ps_sched_target(const ps_sched_bucket *b); /* in force */
/* Most items that a batch may have now: twice what was ever run, so that sizes are tried one after the other. */
uint32_t ps_sched_limit(const ps_sched_bucket *b);
/* Of the decayed sums `load` and `lost`. */
double ps_sched_decayed(double load, int64_t since_ns, int64_t now);
/* The oldest request has waited for longer than the bound, and it is its turn: PS_SCHED_AGED_EVERY items have run
 * since it was such a one's, or nothing of its bucket has started for as long as the bound. */
bool ps_sched_is_aged(const ps_sched *s, const ps_sched_bucket *b, int64_t now);
void ps_sched_count_lost(const ps_sched_request *r, int64_t now);
/* When a slot is free, as predicted; now if one is. */
int64_t ps_sched_free_at(const ps_sched *s, int64_t now);
static inline bool ps_sched_is_full(const ps_sched *s) {
    return s->running == s->slots;
}

/* All that have something queued, models that load apart; of more than PS_SCHED_LOOK the half of so many that was not
 * served for longest, and of each model the most urgent one of the others, as far as there is room. Returns the number.
 */
int ps_sched_look(ps_sched *s, ps_sched_bucket **ret);

/* The model-wise rules: *ret_items to run now (0: not yet), else *ret_until_ns when to look again. */
typedef void (*ps_sched_ready_fn)(ps_sched *s, ps_sched_bucket *b, int64_t now, uint32_t *ret_items,
                                  int64_t *ret_until_ns);
/* Of the buckets that are ready, the one whose oldest request is oldest; its queue may shrink in `ready`. */
void ps_sched_choose_oldest(ps_sched *s, int64_t now, ps_sched_ready_fn ready, ps_sched_choice *ret);
/* Drops from the front what has waited longer than timeout_ns, 0: nothing, and what has passed its deadline. */
void ps_sched_drop_waited(ps_sched *s, ps_sched_bucket *b, int64_t now, int64_t timeout_ns);

/* The bucket of a shape; makes it, in an idle one's place if there are many. NULL: out of memory. */
ps_sched_bucket *ps_sched_bucket_find(const ps_sched_model *m, uint64_t shape);
ps_sched_bucket *ps_sched_bucket_get(ps_sched_model *m, uint64_t shape, uint64_t work, int64_t now);
void ps_sched_bucket_free_all(ps_sched_model *m);

#endif
