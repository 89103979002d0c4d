#include "server/eviction.h"

/* A load that took next to no time is no reason to evict a model that was used just now. */
#define LEAST_RELOAD_NS 1000000

static double rank(const ps_resident *m, int64_t now_ns) {
    double idle = now_ns > m->used_ns ? (double)(now_ns - m->used_ns) : 0;
    return idle / (double)(m->reload_ns > LEAST_RELOAD_NS ? m->reload_ns : LEAST_RELOAD_NS);
}

/* Of those not chosen yet; among equals the larger, so that fewer go. */
static ps_resident *next_to_go(ps_resident *models, size_t n) {
    ps_resident *best = NULL;
    for (size_t i = 0; i < n; i++) {
        ps_resident *m = &models[i];
        if (m->kept || m->chosen) continue;
        if (!best || m->rank > best->rank || (m->rank == best->rank && m->bytes > best->bytes)) best = m;
    }
    return best;
}

/* Takes back whom the others make room enough without: those who were used most lately first. */
static void spare(ps_resident *models, size_t n, uint64_t more, size_t many) {
    for (;;) {
        ps_resident *best = NULL;
        for (size_t i = 0; i < n; i++) {
            ps_resident *m = &models[i];
            if (!m->chosen || m->bytes > more || !many) continue;
            if (!best || m->rank < best->rank) best = m;
        }
        if (!best) return;
        best->chosen = false;
        more -= best->bytes;
        many--;
    }
}

bool ps_eviction_choose(ps_resident *models, size_t n, uint64_t bytes, size_t count, int64_t now_ns) {
    uint64_t freed = 0;
    size_t gone = 0;
    for (size_t i = 0; i < n; i++) {
        models[i].chosen = false;
        models[i].rank = rank(&models[i], now_ns);
    }
    while (freed < bytes || gone < count) {
        ps_resident *m = next_to_go(models, n);
        if (!m) break;
        m->chosen = true;
        freed = freed + m->bytes < freed ? UINT64_MAX : freed + m->bytes;
        gone++;
    }
    if (freed >= bytes && gone >= count) {
        spare(models, n, freed - bytes, gone - count);
        return true;
    }
    for (size_t i = 0; i < n; i++)
        models[i].chosen = false;
    return false;
}
