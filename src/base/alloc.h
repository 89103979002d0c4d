/* alloc.h - all memory of the library passes here, so that a test can make the n-th allocation fail.
 *
 * An ps_alloc_state wraps the caller's ps_allocator and counts what it holds. One below another (a model's below its
 * engine's) counts its part of it: what it takes counts for both, and both limits hold. A block is given back to the
 * state it was taken from. Thread-safe (atomic counters). */
#ifndef PS_BASE_ALLOC_H
#define PS_BASE_ALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "polestar/engine.h"

#define PS_ALIGN 64 /* of tensor data: a cache line and an AVX-512 vector */

typedef struct ps_alloc_state {
    ps_allocator user;
    struct ps_alloc_state *above; /* NULL: none; outlives this one */
    atomic_size_t limit;          /* of `bytes`; 0: none */
    atomic_size_t bytes;          /* held now */
    atomic_size_t peak;
    atomic_size_t calls; /* successful allocations so far: a steady run must not move it */
} ps_alloc_state;

/* user may be NULL: malloc. */
void ps_alloc_state_init(ps_alloc_state *state, const ps_allocator *user);
void ps_alloc_state_init_below(ps_alloc_state *state, ps_alloc_state *above);

/* NULL on failure or beyond the limit; size 0 is a valid allocation. The size is remembered in front of the block. */
void *ps_alloc(ps_alloc_state *a, size_t size);           /* 16-byte aligned, not cleared */
void *ps_alloc_zero(ps_alloc_state *a, size_t size);      /* cleared */
void *ps_alloc_data(ps_alloc_state *a, size_t size);      /* PS_ALIGN aligned, for tensor data */
void *ps_alloc_data_zero(ps_alloc_state *a, size_t size); /* the same, cleared */
/* As ps_alloc_data, for blocks that stay as long as a model or a session. With malloc, large ones are pages of their
 * own, which go back to the system when they are freed: between blocks of other models they would be held for ever. */
void *ps_alloc_lasting(ps_alloc_state *a, size_t size);
void *ps_alloc_lasting_zero(ps_alloc_state *a, size_t size);
/* n * size with an overflow check. */
void *ps_alloc_array(ps_alloc_state *a, size_t n, size_t size);
void *ps_realloc(ps_alloc_state *a, void *ptr, size_t size); /* keeps the alignment; old block intact on failure */
void ps_free(ps_alloc_state *a, void *ptr);                  /* NULL is allowed */
/* Gives the pages of a block back to the system; the block stays where it is, its content is undefined until it is
 * written anew after ps_refill, which is false beyond the limit. What is given back does not count as held. */
void ps_discard(ps_alloc_state *a, void *ptr);
bool ps_refill(ps_alloc_state *a, void *ptr);
/* What another library holds for something of this state, measured or estimated: it counts like a block until it is
 * taken back. False, and not counted, beyond the limit. */
bool ps_alloc_count(ps_alloc_state *a, size_t bytes);
void ps_alloc_uncount(ps_alloc_state *a, size_t bytes);
char *ps_strdup(ps_alloc_state *a, const char *s);

/* The allocator of an engine; implemented by runtime, here so that tensor need not know the engine. */
ps_alloc_state *ps_engine_alloc(ps_engine *engine);
/* The part of it that all models hold together. */
ps_alloc_state *ps_engine_models_alloc(ps_engine *engine);

/* true on overflow; *ret is then unspecified. */
bool ps_mul_overflow_size(size_t a, size_t b, size_t *ret);
bool ps_add_overflow_size(size_t a, size_t b, size_t *ret);

#endif
