/* arrivals.c - Poisson and constant arrivals, at one rate or in phases of a high and a low one. */
#include <math.h>

#include "open_loop.h"

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t ol_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double ol_uniform(uint64_t *state) {
    return (double)(ol_random(state) >> 11) * 0x1p-53;
}

/* The rate at time t, and the end of the phase that holds it. */
static double rate_at(const ol_arrivals *a, double t, double *ret_end) {
    if (a->period <= 0) {
        *ret_end = INFINITY;
        return a->rate;
    }
    double phase = floor(t / a->period), low = 2 * a->rate / (1 + a->ratio);
    *ret_end = (phase + 1) * a->period;
    return fmod(phase, 2) == 0 ? low * a->ratio : low;
}

/* Moves `next` on by so many expected arrivals: exact for a rate that is constant in pieces. */
static void advance_by(ol_arrivals *a, double expected) {
    for (;;) {
        double end, rate = rate_at(a, a->next, &end), room = (end - a->next) * rate;
        if (expected <= room || !(end < INFINITY)) {
            a->next += expected / rate;
            return;
        }
        expected -= room;
        a->next = end;
    }
}

void ol_arrivals_advance(ol_arrivals *a) {
    advance_by(a, a->pattern == OL_CONSTANT ? 1 : -log(1 - ol_uniform(&a->random)));
}

/* Constant arrivals of several models do not start together. */
void ol_arrivals_start(ol_arrivals *a, uint64_t seed) {
    a->random = seed;
    a->next = 0;
    if (a->pattern == OL_CONSTANT)
        advance_by(a, ol_uniform(&a->random));
    else
        ol_arrivals_advance(a);
}
