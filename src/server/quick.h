/* quick.h - which requests of a model take so little time that handing them to another thread costs more than running
 * them.
 *
 * Requests are told apart by what fixes their time: the shapes of their inputs and the form of their reply. A kind of
 * request is quick when its latest runs, encoding included, took at most so long on average; at first none is. Two
 * bounds: below PS_QUICK_SHARED_NS a run costs the thread less than the hand-over would, so it is always better there;
 * below PS_QUICK_ALONE_NS it is better for a client that is alone, while with several the runners work beside each
 * other.
 *
 * A quick run that is stopped at PS_QUICK_LIMIT_NS is a strike: after each the kind has to show twice as many runs
 * elsewhere before it is quick again. So a kind whose time its shapes do not fix ends up where it cannot hold up
 * others.
 *
 * Any thread may call these: entries are words that are read and written one by one, and a mixed-up estimate only sends
 * a request the other way. */
#ifndef PS_SERVER_QUICK_H
#define PS_SERVER_QUICK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PS_QUICK_SHARED_NS 10000
#define PS_QUICK_ALONE_NS 50000
#define PS_QUICK_LIMIT_NS INT64_C(2000000)
#define PS_QUICK_KINDS 32 /* of one model that are known at once */
#define PS_QUICK_FIRST_RUNS 4u

typedef struct ps_quick_kind {
    atomic_ullong key;     /* 0: none */
    atomic_uint mean_ns;   /* decaying */
    atomic_uint to_show;   /* runs elsewhere before it may be quick */
    atomic_uint strikes;   /* taken back one by one by runs that were quick */
    atomic_uint good_runs; /* since a strike was taken back */
} ps_quick_kind;

typedef struct ps_quick {
    ps_quick_kind kinds[PS_QUICK_KINDS];
} ps_quick;

/* Joins what tells kinds apart; start from 0. */
uint64_t ps_quick_mix(uint64_t key, uint64_t more);

bool ps_quick_is(const ps_quick *quick, uint64_t key, int64_t max_ns);
/* A run took so long; `here`: on the thread that read the request. */
void ps_quick_count(ps_quick *quick, uint64_t key, int64_t ns, bool here);
/* A quick run was stopped at the limit. */
void ps_quick_strike(ps_quick *quick, uint64_t key);

#endif
