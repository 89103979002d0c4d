/* test_alloc_fail.h - an allocator whose n-th call fails, and the sweep over all n.
 *
 * The sweep runs a scenario with the first allocation failing, then the second, and so on until none fails. Each time
 * every byte must have been given back. Works on a ps_alloc_state (ps_test_sweep) or by hand with an engine
 * (ps_engine_options.allocator = &test.allocator). */
#ifndef PS_TEST_ALLOC_FAIL_H
#define PS_TEST_ALLOC_FAIL_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

typedef struct ps_test_alloc {
    ps_allocator allocator;
    atomic_long left;   /* this many calls succeed, then one fails; negative: none fails */
    atomic_long live;   /* blocks not yet given back */
    atomic_bool failed; /* the failing call has happened */
} ps_test_alloc;

static inline void *ps_test_alloc_alloc(void *ctx, size_t size, size_t align) {
    ps_test_alloc *t = ctx;
    if (atomic_fetch_sub(&t->left, 1) == 0) {
        atomic_store(&t->failed, true);
        return NULL;
    }
    void *ptr = NULL;
    if (posix_memalign(&ptr, align < sizeof(void *) ? sizeof(void *) : align, size ? size : 1) != 0) return NULL;
    atomic_fetch_add(&t->live, 1);
    return ptr;
}

static inline void ps_test_alloc_free(void *ctx, void *ptr, size_t size) {
    ps_test_alloc *t = ctx;
    atomic_fetch_sub(&t->live, 1);
    free(ptr);
}

/* nth counts from 0; negative: never fails. The allocator points to t. */
static inline void ps_test_alloc_init(ps_test_alloc *t, long nth) {
    t->allocator = (ps_allocator) { ps_test_alloc_alloc, ps_test_alloc_free, t };
    atomic_init(&t->left, nth);
    atomic_init(&t->live, 0);
    atomic_init(&t->failed, false);
}

/* Returns PS_OK, or what the code under test reported. Must release all it holds either way. */
typedef ps_status (*ps_test_scenario)(ps_alloc_state *a, void *ctx);

/* Number of allocations of the scenario, or -1 with a line on stderr if a run leaked, did not report PS_NO_MEMORY, or
 * failed without a failing allocation. */
static inline long ps_test_sweep(ps_test_scenario scenario, void *ctx) {
    for (long nth = 0;; nth++) {
        ps_test_alloc t;
        ps_alloc_state a;
        ps_test_alloc_init(&t, nth);
        ps_alloc_state_init(&a, &t.allocator);
        ps_status status = scenario(&a, ctx);
        bool failed = atomic_load(&t.failed);
        if (atomic_load(&t.live) != 0 || atomic_load(&a.bytes) != 0) {
            fprintf(stderr, "allocation %ld failing: %ld blocks leaked\n", nth, atomic_load(&t.live));
            return -1;
        }
        if (status != (failed ? PS_NO_MEMORY : PS_OK)) {
            fprintf(stderr, "allocation %ld failing: status %s\n", nth, ps_status_name(status));
            return -1;
        }
        if (!failed) return nth;
    }
}

#endif
