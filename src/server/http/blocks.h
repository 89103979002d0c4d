/* blocks.h - large blocks that bodies of earlier requests left, for the next ones: made anew, each page of a photo's
 * body would be a fault, and the system would clear it. Where many wait at once, many blocks come and go; what nobody
 * needs any more goes back to the system bit by bit, all but a little. Any thread. */
#ifndef PS_SERVER_HTTP_BLOCKS_H
#define PS_SERVER_HTTP_BLOCKS_H

#include "base/alloc.h"
#include "base/thread.h"

enum {
    PS_MAX_BLOCKS = 4096,
    PS_BLOCKS_LARGEST = 1 << 20, /* bytes */
    PS_BLOCKS_BYTES = 4 << 20,   /* together, that stay for good */
    PS_BLOCKS_FADE = 32          /* a second a part of so much goes of what was not needed: half of it in 22 s */
};

typedef struct ps_blocks {
    ps_alloc_state *alloc;
    ps_mutex lock;
    size_t n, bytes, unused; /* unused: the fewest bytes that lay here since the last ps_blocks_fade */
    struct ps_block {
        char *data;
        size_t size;
    } all[PS_MAX_BLOCKS]; /* who came last is at the end */
} ps_blocks;

bool ps_blocks_init(ps_blocks *b, ps_alloc_state *alloc);
void ps_blocks_release(ps_blocks *b); /* one of zeros is allowed */
/* The smallest that has `need` bytes, or one that has hardly more; never more than four times as many. NULL: none. It
 * is the caller's. */
char *ps_blocks_take(ps_blocks *b, size_t need, size_t *ret_size);
/* Takes the block, and frees it if more than `most` bytes would lie here (PS_BLOCKS_BYTES always may). */
void ps_blocks_put(ps_blocks *b, char *data, size_t size, size_t most);
/* Frees what is more than that. */
void ps_blocks_limit(ps_blocks *b, size_t most);
/* To be called once a second while it says that more than PS_BLOCKS_BYTES lie here. */
bool ps_blocks_fade(ps_blocks *b);
/* Frees all. */
void ps_blocks_clear(ps_blocks *b);

#endif
