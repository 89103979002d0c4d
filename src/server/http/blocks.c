#include "server/http/blocks.h"

#include <string.h>

bool ps_blocks_init(ps_blocks *b, ps_alloc_state *alloc) {
    *b = (ps_blocks) { .n = 0 };
    if (!ps_mutex_init(&b->lock)) return false;
    b->alloc = alloc;
    return true;
}

void ps_blocks_release(ps_blocks *b) {
    if (!b->alloc) return;
    ps_blocks_clear(b);
    ps_mutex_destroy(&b->lock);
    b->alloc = NULL;
}

/* The smallest that fits; one that is hardly too large ends the search. */
static size_t find(const ps_blocks *b, size_t need) {
    size_t best = b->n;
    for (size_t i = b->n; i-- > 0;) {
        const size_t size = b->all[i].size;
        if (size < need || size / 4 > need || (best < b->n && size >= b->all[best].size)) continue;
        best = i;
        if (size - need <= need / 16) break;
    }
    return best;
}

char *ps_blocks_take(ps_blocks *b, size_t need, size_t *ret_size) {
    char *data = NULL;
    ps_mutex_lock(&b->lock);
    const size_t at = find(b, need);
    if (at < b->n) {
        data = b->all[at].data;
        *ret_size = b->all[at].size;
        b->bytes -= *ret_size;
        b->all[at] = b->all[--b->n];
        if (b->bytes < b->unused) b->unused = b->bytes;
    }
    ps_mutex_unlock(&b->lock);
    return data;
}

void ps_blocks_put(ps_blocks *b, char *data, size_t size, size_t most) {
    if (most < PS_BLOCKS_BYTES) most = PS_BLOCKS_BYTES;
    ps_mutex_lock(&b->lock);
    const bool keep = b->n < PS_MAX_BLOCKS && size <= PS_BLOCKS_LARGEST && b->bytes + size <= most;
    if (keep) {
        b->all[b->n++] = (struct ps_block) { data, size };
        b->bytes += size;
    }
    ps_mutex_unlock(&b->lock);
    if (!keep) ps_free(b->alloc, data);
}

/* Those that lay here for longest, until no more than `most` bytes are left; a few at a time, because others wait for
 * the lock. */
static void drop_first(ps_blocks *b, size_t most) {
    enum { SOME = 64 };
    char *gone[SOME];
    size_t n = 0;
    do {
        ps_mutex_lock(&b->lock);
        for (n = 0; n < SOME && n < b->n && b->bytes > most; n++) {
            gone[n] = b->all[n].data;
            b->bytes -= b->all[n].size;
        }
        b->n -= n;
        if (n) memmove(b->all, b->all + n, b->n * sizeof *b->all);
        if (b->bytes < b->unused) b->unused = b->bytes;
        ps_mutex_unlock(&b->lock);
        for (size_t i = 0; i < n; i++)
            ps_free(b->alloc, gone[i]);
    } while (n == SOME);
}

void ps_blocks_limit(ps_blocks *b, size_t most) {
    drop_first(b, most > PS_BLOCKS_BYTES ? most : PS_BLOCKS_BYTES);
}

bool ps_blocks_fade(ps_blocks *b) {
    ps_mutex_lock(&b->lock);
    const size_t part = (b->unused + PS_BLOCKS_FADE - 1) / PS_BLOCKS_FADE, before = b->bytes;
    b->unused = before;
    ps_mutex_unlock(&b->lock);
    if (part && before > PS_BLOCKS_BYTES) ps_blocks_limit(b, before - part);
    return before > PS_BLOCKS_BYTES;
}

void ps_blocks_clear(ps_blocks *b) {
    drop_first(b, 0);
}
