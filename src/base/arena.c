/* arena.c - bump allocation in a chain of growing blocks. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The payload follows the header. Both are multiples of 16 bytes, so bump offsets stay aligned. */
struct ps_arena_block {
    ps_arena_block *next;
    size_t room, used;
    size_t pad;
};

enum { FIRST_BLOCK = 2048, LAST_BLOCK = 1 << 20 };

_Static_assert(sizeof(ps_arena_block) % 16 == 0, "payload must stay 16-byte aligned");

void ps_arena_init(ps_arena *arena, ps_alloc_state *alloc) {
    *arena = (ps_arena) { .alloc = alloc };
}

void ps_arena_release(ps_arena *arena) {
    for (ps_arena_block *b = arena->head; b;) {
        ps_arena_block *next = b->next;
        ps_free(arena->alloc, b);
        b = next;
    }
    arena->head = NULL;
    arena->bytes = 0;
}

void ps_arena_reset(ps_arena *arena, size_t max_bytes) {
    ps_arena_block *kept = arena->head;
    if (!kept || kept->room > max_bytes) {
        ps_arena_release(arena);
        return;
    }
    arena->head = kept->next;
    ps_arena_release(arena);
    memset(kept + 1, 0, kept->used); /* allocations are zeroed */
    kept->used = 0;
    kept->next = NULL;
    arena->head = kept;
    arena->bytes = kept->room + sizeof *kept;
}

static ps_arena_block *new_block(ps_arena *arena, size_t room) {
    size_t total;
    if (ps_add_overflow_size(room, sizeof(ps_arena_block), &total)) return NULL;
    ps_arena_block *b = ps_alloc_zero(arena->alloc, total);
    if (!b) return NULL;
    b->room = room;
    arena->bytes += total;
    return b;
}

/* A block for `size` bytes: the next regular one, which becomes the head, or one of its own behind the head, so that a
 * large item does not waste what is left in the head. */
static ps_arena_block *block_for(ps_arena *arena, size_t size) {
    ps_arena_block *head = arena->head;
    size_t next_room = head ? head->room * 2 : FIRST_BLOCK;
    if (next_room > LAST_BLOCK) next_room = LAST_BLOCK;
    bool own = head && size > next_room / 4;
    ps_arena_block *b = new_block(arena, own || size > next_room ? size : next_room);
    if (!b) return NULL;
    if (own) {
        b->next = head->next;
        head->next = b;
    } else {
        b->next = head;
        arena->head = b;
    }
    return b;
}

void *ps_arena_alloc(ps_arena *arena, size_t size) {
    size_t rounded;
    if (ps_add_overflow_size(size ? size : 1, 15, &rounded)) return NULL;
    rounded &= ~(size_t)15;
    ps_arena_block *b = arena->head;
    if (!b || b->room - b->used < rounded) b = block_for(arena, rounded);
    if (!b) return NULL;
    unsigned char *ptr = (unsigned char *)(b + 1) + b->used;
    b->used += rounded;
    return ptr;
}

void *ps_arena_array(ps_arena *arena, size_t n, size_t size) {
    size_t bytes;
    return ps_mul_overflow_size(n, size, &bytes) ? NULL : ps_arena_alloc(arena, bytes);
}

void *ps_arena_memdup(ps_arena *arena, const void *data, size_t size) {
    void *copy = ps_arena_alloc(arena, size);
    if (copy && size) memcpy(copy, data, size);
    return copy;
}

char *ps_arena_strndup(ps_arena *arena, const char *s, size_t n) {
    size_t length = strnlen(s, n), room;
    if (ps_add_overflow_size(length, 1, &room)) return NULL;
    char *copy = ps_arena_alloc(arena, room);
    if (copy && length) memcpy(copy, s, length);
    return copy;
}

char *ps_arena_text(ps_arena *arena, const void *data, size_t n) {
    size_t room;
    if (ps_add_overflow_size(n, 1, &room)) return NULL;
    char *copy = ps_arena_alloc(arena, room); /* zeroed */
    if (copy && n) memcpy(copy, data, n);
    return copy;
}

char *ps_arena_strdup(ps_arena *arena, const char *s) {
    return ps_arena_memdup(arena, s, strlen(s) + 1);
}

char *ps_arena_printf(ps_arena *arena, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *text = n < 0 ? NULL : ps_arena_alloc(arena, (size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}
