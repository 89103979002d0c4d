/* arena.h - many small allocations freed at once: graphs, plans, requests. Not thread-safe. */
#ifndef PS_BASE_ARENA_H
#define PS_BASE_ARENA_H

#include "base/alloc.h"

typedef struct ps_arena_block ps_arena_block;

typedef struct ps_arena {
    ps_alloc_state *alloc;
    ps_arena_block *head;
    size_t bytes; /* taken from the allocator */
} ps_arena;

void ps_arena_init(ps_arena *arena, ps_alloc_state *alloc);
void ps_arena_release(ps_arena *arena);
/* The same, but one block is kept for the next allocations if it has at most so many bytes. */
void ps_arena_reset(ps_arena *arena, size_t max_bytes);

/* Zeroed, 16-byte aligned; NULL on failure. */
void *ps_arena_alloc(ps_arena *arena, size_t size);
void *ps_arena_array(ps_arena *arena, size_t n, size_t size);
char *ps_arena_strdup(ps_arena *arena, const char *s);
char *ps_arena_strndup(ps_arena *arena, const char *s, size_t n);
/* n bytes as they are, NULs among them kept, and a closing NUL. */
char *ps_arena_text(ps_arena *arena, const void *data, size_t n);
char *ps_arena_printf(ps_arena *arena, const char *fmt, ...) PS_PRINTF(2, 3);
void *ps_arena_memdup(ps_arena *arena, const void *data, size_t size);

#define PS_ARENA_NEW(arena, type) ((type *)ps_arena_alloc((arena), sizeof(type)))

#endif
