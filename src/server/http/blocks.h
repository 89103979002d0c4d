/* blocks.h - large blocks that bodies of earlier requests left, for the next ones: made anew, each page of a photo's
 * body would be a fault, and the system would clear it. Any thread. */
#ifndef PS_SERVER_HTTP_BLOCKS_H
#define PS_SERVER_HTTP_BLOCKS_H

#include "base/alloc.h"
#include "base/thread.h"

enum { PS_MAX_BLOCKS = 16, PS_BLOCKS_BYTES = 4 << 20 /* together, and of them a fourth at most for one */ };

typedef struct ps_blocks {
    ps_alloc_state *alloc;
    ps_mutex lock;
    size_t n, bytes;
    struct {
        char *data;
        size_t size;
    } all[PS_MAX_BLOCKS];
} ps_blocks;

bool ps_blocks_init(ps_blocks *b, ps_alloc_state *alloc);
void ps_blocks_release(ps_blocks *b); /* one of zeros is allowed */
/* The smallest that has `need` bytes, and no more than four times as many; NULL: none. It is the caller's. */
char *ps_blocks_take(ps_blocks *b, size_t need, size_t *ret_size);
/* Takes the block, and frees it if there is no room for it. */
void ps_blocks_put(ps_blocks *b, char *data, size_t size);
/* Frees all. */
void ps_blocks_clear(ps_blocks *b);

#endif
