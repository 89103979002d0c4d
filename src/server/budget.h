/* budget.h - bytes that all requests together may hold, whatever they came by. Any thread. */
#ifndef PS_SERVER_BUDGET_H
#define PS_SERVER_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct ps_budget {
    atomic_size_t used;
    size_t max;
} ps_budget;

/* false: there is no room now. */
static inline bool ps_budget_take(ps_budget *b, size_t bytes) {
    if (atomic_fetch_add_explicit(&b->used, bytes, memory_order_relaxed) + bytes <= b->max) return true;
    atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);
    return false;
}

static inline void ps_budget_give(ps_budget *b, size_t bytes) {
    atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);
}

#endif
