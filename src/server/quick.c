#include "server/quick.h"

#include <stddef.h>

#define MOST_NS (2u * PS_QUICK_ALONE_NS) /* of one run in the mean, so that one that was interrupted decides little */
#define MOST_STRIKES 12u
#define RUNS_PER_STRIKE 256u /* quick ones that take a strike back */

static unsigned get(const atomic_uint *v) {
    return atomic_load_explicit(v, memory_order_relaxed);
}

static void set(atomic_uint *v, unsigned value) {
    atomic_store_explicit(v, value, memory_order_relaxed);
}

uint64_t ps_quick_mix(uint64_t key, uint64_t more) { /* splitmix64's finisher */
    uint64_t v = key + more + UINT64_C(0x9e3779b97f4a7c15);
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    return v ^ v >> 31;
}

static bool is_of(const ps_quick_kind *k, uint64_t key) {
    return atomic_load_explicit(&k->key, memory_order_relaxed) == key;
}

bool ps_quick_is(const ps_quick *quick, uint64_t key, int64_t max_ns) {
    const ps_quick_kind *k = &quick->kinds[key % PS_QUICK_KINDS];
    return is_of(k, key) && get(&k->to_show) == 0 && get(&k->mean_ns) <= max_ns;
}

static void forget_strikes(ps_quick_kind *k) {
    unsigned good = get(&k->good_runs) + 1;
    if (good == RUNS_PER_STRIKE && get(&k->strikes)) set(&k->strikes, get(&k->strikes) - 1);
    set(&k->good_runs, good % RUNS_PER_STRIKE);
}

void ps_quick_count(ps_quick *quick, uint64_t key, int64_t ns, bool here) {
    ps_quick_kind *k = &quick->kinds[key % PS_QUICK_KINDS];
    unsigned took = ns < 0 ? 0 : ns < MOST_NS ? (unsigned)ns : MOST_NS;
    if (!is_of(k, key)) {
        if (here) return; /* its entry was taken in the meantime */
        set(&k->mean_ns, took);
        set(&k->to_show, PS_QUICK_FIRST_RUNS);
        set(&k->strikes, 0);
        set(&k->good_runs, 0);
        atomic_store_explicit(&k->key, key, memory_order_relaxed);
        return;
    }
    unsigned mean = get(&k->mean_ns), left = get(&k->to_show);
    bool first = left == PS_QUICK_FIRST_RUNS; /* the one before it also made a plan for its shapes */
    set(&k->mean_ns, first ? took : mean - mean / 8 + took / 8);
    if (here)
        forget_strikes(k);
    else if (left)
        set(&k->to_show, left - 1);
}

void ps_quick_strike(ps_quick *quick, uint64_t key) {
    ps_quick_kind *k = &quick->kinds[key % PS_QUICK_KINDS];
    unsigned strikes = get(&k->strikes);
    if (!is_of(k, key)) return;
    set(&k->to_show, 16u << strikes);
    set(&k->strikes, strikes < MOST_STRIKES ? strikes + 1 : strikes);
    set(&k->good_runs, 0);
}
