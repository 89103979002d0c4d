#include "server/http/blocks.h"

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

char *ps_blocks_take(ps_blocks *b, size_t need, size_t *ret_size) {
    char *data = NULL;
    ps_mutex_lock(&b->lock);
    size_t best = b->n;
    for (size_t i = 0; i < b->n; i++) {
        const size_t size = b->all[i].size;
        if (size >= need && size / 4 <= need && (best == b->n || size < b->all[best].size)) best = i;
    }
    if (best < b->n) {
        data = b->all[best].data;
        *ret_size = b->all[best].size;
        b->bytes -= *ret_size;
        b->all[best] = b->all[--b->n];
    }
    ps_mutex_unlock(&b->lock);
    return data;
}

void ps_blocks_put(ps_blocks *b, char *data, size_t size) {
    ps_mutex_lock(&b->lock);
    const bool keep = b->n < PS_MAX_BLOCKS && size <= PS_BLOCKS_BYTES / 4 && b->bytes + size <= PS_BLOCKS_BYTES;
    if (keep) {
        b->all[b->n].data = data;
        b->all[b->n++].size = size;
        b->bytes += size;
    }
    ps_mutex_unlock(&b->lock);
    if (!keep) ps_free(b->alloc, data);
}

void ps_blocks_clear(ps_blocks *b) {
    for (;;) {
        ps_mutex_lock(&b->lock);
        char *data = b->n ? b->all[--b->n].data : NULL;
        if (data) b->bytes -= b->all[b->n].size;
        ps_mutex_unlock(&b->lock);
        if (!data) return;
        ps_free(b->alloc, data);
    }
}
