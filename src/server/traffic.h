/* traffic.h - which version of a model a request that names none goes to: labels, a weighted split, a rollout, a
 * shadow.
 *
 * A label is a name for a version; `stable` is the one that gets what nothing else decides. A split divides requests
 * between versions by weight. A rollout moves traffic from the stable version to another in steps of so many per cent,
 * each for some time, and then moves the label `stable`; what is seen of the two versions meanwhile (errors, latency,
 * answers that disagree) can abort it, and then all traffic is back on the stable version at once. A shadow gets copies
 * of requests whose answers nobody sees but the comparison.
 *
 * Knows no server: versions are numbers, `now` is whatever monotonic clock the caller has in nanoseconds, and whether a
 * version is ready the caller says. Not thread-safe; allocates nothing. */
#ifndef PS_SERVER_TRAFFIC_H
#define PS_SERVER_TRAFFIC_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

#define PS_LABEL_MAX 63 /* bytes */
#define PS_LABEL_STABLE "stable"
#define PS_TRAFFIC_MAX_LABELS 16
#define PS_TRAFFIC_MAX_TARGETS 8 /* of a split */
#define PS_TRAFFIC_MAX_WEIGHT 1000000
#define PS_TRAFFIC_MAX_STEPS 32
#define PS_TRAFFIC_MAX_SECONDS 31536000 /* of a step */
#define PS_TRAFFIC_VERSIONS 16   /* whose requests are counted apart; the one that is not seen for longest goes */
#define PS_TRAFFIC_LATENCIES 160 /* four an octave, from 1 ns on */

/* A version by number, or by label: then it is whatever the label names at the time. */
typedef struct ps_traffic_ref {
    char label[PS_LABEL_MAX + 1]; /* "": by number */
    int64_t version;              /* where the label is now; 0: nowhere */
} ps_traffic_ref;

typedef struct ps_traffic_target {
    ps_traffic_ref to;
    uint32_t weight;
} ps_traffic_target;

typedef struct ps_traffic_label {
    char name[PS_LABEL_MAX + 1];
    int64_t version;
} ps_traffic_label;

typedef struct ps_traffic_move {
    char name[PS_LABEL_MAX + 1];
    ps_traffic_ref to; /* neither label nor version: the label is taken away */
} ps_traffic_move;

/* What aborts a rollout. Each limit is of a share of requests, and is broken once the evidence for that is such as
 * chance gives a version that keeps all of them in at most one of 1000 rollouts (ps_traffic_evidence). */
typedef struct ps_traffic_limits {
    uint64_t min_requests; /* that the new version must have answered in a step before the next */
    double error_rate;     /* above the stable version's; negative: not looked at, like the next three */
    double latency_ratio;  /* p95 of the new version over the stable one's */
    double latency_ms;     /* its p95 */
    double disagreement;   /* of the answers compared by the shadow */
} ps_traffic_limits;

typedef struct ps_traffic_step {
    double percent;
    int64_t ns;
} ps_traffic_step;

typedef enum ps_rollout_phase {
    PS_ROLLOUT_NONE,
    PS_ROLLOUT_PROGRESSING,
    PS_ROLLOUT_PAUSED,
    PS_ROLLOUT_SUCCEEDED,
    PS_ROLLOUT_ABORTED
} ps_rollout_phase;

/* So many of so many. */
typedef struct ps_share {
    uint64_t n, k;
} ps_share;

typedef struct ps_latencies {
    uint32_t counts[PS_TRAFFIC_LATENCIES], n; /* recent ones weigh more */
} ps_latencies;

typedef struct ps_rollout {
    ps_rollout_phase phase;
    int64_t from, to;      /* versions; from 0 in a change: the stable one */
    ps_traffic_ref wanted; /* what `to` was named as, in a change */
    ps_traffic_step steps[PS_TRAFFIC_MAX_STEPS];
    size_t n_steps, step;
    int64_t since_ns; /* of the step, but for pauses; while paused: how long it had been */
    ps_traffic_limits limits;
    uint64_t answered; /* by `to`, in this step */
    ps_share errors_from, errors, slower,
        too_slow; /* since the start; `slower` than the stable version, than the limit */
    ps_share disagreed;
    ps_latencies latencies_from;
    char reason[256]; /* of phase ABORTED, else "" */
} ps_rollout;

typedef struct ps_traffic_shadow {
    bool on;
    ps_traffic_ref to;
    double percent;    /* of requests that are copied */
    double rtol, atol; /* |got - expected| <= atol + rtol |expected| */
    bool by_argmax;    /* answers agree where their highest scores are at the same places, else within the tolerance */
} ps_traffic_shadow;

/* Of one version, of requests that were routed to it. */
typedef struct ps_traffic_count {
    int64_t version;
    uint64_t requests, errors, fallbacks; /* fallbacks: that were its own and another version took */
    int64_t seen_ns;
} ps_traffic_count;

/* Of the shadow, whichever version it was. */
typedef struct ps_shadow_count {
    uint64_t copied, dropped, failed, compared, agreed, argmax_compared, argmax_agreed;
    double largest; /* difference */
} ps_shadow_count;

typedef struct ps_shadow_result {
    bool failed, close; /* it gave no answer; all numbers are within the tolerance */
    bool has_argmax, argmax_same;
    double largest; /* difference */
} ps_shadow_result;

typedef struct ps_traffic {
    ps_traffic_label labels[PS_TRAFFIC_MAX_LABELS];
    ps_traffic_target split[PS_TRAFFIC_MAX_TARGETS];
    size_t n_labels, n_split;
    ps_rollout rollout;
    ps_traffic_shadow shadow;
    uint64_t source;            /* hash of the configuration's text that was taken last; 0: none */
    uint64_t turn, shadow_turn; /* requests without a key so far */
    ps_traffic_count counts[PS_TRAFFIC_VERSIONS];
    ps_shadow_count shadow_count;
} ps_traffic;

typedef enum ps_rollout_action {
    PS_ROLLOUT_KEEP,
    PS_ROLLOUT_START,
    PS_ROLLOUT_PAUSE,
    PS_ROLLOUT_RESUME,
    PS_ROLLOUT_PROMOTE,
    PS_ROLLOUT_ABORT,
    PS_ROLLOUT_FORGET
} ps_rollout_action;

/* A part of it that is to be different. */
typedef struct ps_traffic_change {
    ps_traffic_move moves[PS_TRAFFIC_MAX_LABELS];
    size_t n_moves;
    bool set_split, set_shadow;
    ps_traffic_target split[PS_TRAFFIC_MAX_TARGETS];
    size_t n_split; /* 0: no split */
    ps_traffic_shadow shadow;
    ps_rollout_action action;
    ps_rollout rollout;
    uint64_t source; /* of an earlier server's */
} ps_traffic_change;

/* What the caller knows of the model. */
typedef struct ps_traffic_model {
    const char *name;
    bool (*there)(void *ctx, int64_t version);
    bool (*ready)(void *ctx, int64_t version);
    int64_t latest; /* that gets requests as long as there is no label `stable`; 0: none */
    bool waits;     /* of a file, or an earlier server: what is named for the first time need not be ready yet */
    void *ctx;
} ps_traffic_model;

/* 1 to PS_LABEL_MAX letters, digits, '.', '_' and '-', the first a letter: never a number. */
bool ps_label_valid(const char *name, size_t size);
/* The label's version; 0: there is no such label. */
int64_t ps_traffic_label_version(const ps_traffic *t, const char *label);
/* All of the change or, with an error, nothing. PS_NOT_FOUND: no such version or label; PS_UNAVAILABLE: it is not
 * ready. */
ps_status ps_traffic_apply(ps_traffic *t, const ps_traffic_change *change, const ps_traffic_model *model, int64_t now,
                           ps_error *err);
/* Is there anything here that decides, now or later? Else the highest ready version gets all. */
bool ps_traffic_decides(const ps_traffic *t);
/* Does any part name the version? */
bool ps_traffic_names(const ps_traffic *t, int64_t version);

/* The version for a request. Equal hashes go to the same version for as long as weights stay, and one whose share only
 * grows keeps what it had. `hashed` false: the request has no key, and shares are kept as exactly as whole requests
 * can. 0: whatever is best. */
int64_t ps_traffic_choose(ps_traffic *t, bool hashed, uint64_t hash);
/* The version that requests go to where the chosen one is not ready; 0: whatever is best. */
int64_t ps_traffic_stable(const ps_traffic *t);
/* The version that gets most; 0: whatever is best. */
int64_t ps_traffic_main(const ps_traffic *t);
/* Is a copy of this request to go to the shadow? The version, or 0. */
int64_t ps_traffic_shadow_choose(ps_traffic *t, int64_t answering);

/* A request went to `version`, which was its own or (fallback) took the place of `chosen`. */
void ps_traffic_routed(ps_traffic *t, int64_t chosen, int64_t version, int64_t now);
/* It was answered. latency_ns below 0: says nothing of the version's. */
void ps_traffic_answered(ps_traffic *t, int64_t version, bool failed, int64_t latency_ns, int64_t now);
/* A request was copied to the shadow, or dropped because it is busy. */
void ps_traffic_copied(ps_traffic *t, bool copied);
/* The shadow's answer beside the answer. */
void ps_traffic_compared(ps_traffic *t, int64_t version, const ps_shadow_result *result);
/* Time has passed, or something was counted: steps go on, a rollout ends. True: labels or the rollout are different
 * now. */
bool ps_traffic_advance(ps_traffic *t, int64_t now);
double ps_traffic_percent(const ps_traffic *t); /* of the rollout's step */
const char *ps_rollout_phase_name(ps_rollout_phase phase);

/* ---- traffic_analysis.c ---- */

/* The logarithm of the evidence that more than `limit` of all requests would be such as the k of n. A mixture of
 * likelihood ratios against the limit: for a share within it the chance that this ever gets above log(c), however often
 * one looks, is at most 1/c (Ville's inequality; Robbins 1970). */
double ps_traffic_evidence(ps_share share, double limit);
#define PS_TRAFFIC_BROKEN 8.2940 /* log 4000: four limits, one in 1000 for all */
void ps_latencies_add(ps_latencies *l, int64_t ns);
void ps_latencies_age(ps_latencies *l); /* what came so far weighs half as much */
/* Not below the true one by more than chance; 0: too few to say. */
int64_t ps_latencies_p95(const ps_latencies *l);
/* Which limit is broken: fills `reason` and is true. */
bool ps_rollout_broken(const ps_rollout *r, char *reason, size_t size);

/* ---- traffic_json.c ---- */

/* {"labels":{…},"split":[…],"rollout":…,"shadow":…}, any of them; docs/versions.md. `restoring`: also what
 * ps_traffic_write adds of a rollout's state. */
ps_status ps_traffic_read(const char *text, size_t size, bool restoring, ps_alloc_state *alloc, ps_traffic_change *ret,
                          ps_error *err);
/* The members of such an object, without its braces. With counters: also what was counted, and times; else what another
 * server needs to go on. */
void ps_traffic_write(const ps_traffic *t, bool counters, int64_t now, ps_str *out);

#endif
