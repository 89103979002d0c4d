/* qsplit.c - see qsplit.h. */
#include "backend/cpu/qsplit.h"

/* Bytes of a chunk's rows, which a panel meets while both are in the second-level cache; rows of a chunk at most. */
enum { CHUNK_BYTES = 128 * 1024, MAX_CHUNK = 192 };

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

int64_t q_split_row(const q_split *s, int64_t chunk) {
    return chunk * s->tiles / s->chunks * s->m / s->tiles;
}

q_item q_split_item(const q_split *s, int64_t i) {
    const int64_t run = i / s->share_panels, share = run / (s->groups * s->chunks);
    return (q_item) { run / s->chunks % s->groups, run % s->chunks, share * s->share_panels + i % s->share_panels };
}

/* Would the threads read less if they shared out the columns? What is gathered counts twice. */
static bool by_columns(const q_load *l, int threads) {
    const int64_t padded = divide_up(l->panels, threads) * threads;
    if (l->groups > 1 || threads == 1 || padded * 8 > l->panels * 9) return false;
    return l->panels * l->panel_bytes > l->m * l->row_bytes * (l->gathered ? 2 : 1);
}

/* Chunks and tiles become multiples of the threads, as far as there are rows for that. */
static void share_rows(q_split *s, int threads) {
    s->chunks = divide_up(s->chunks, threads) * threads;
    s->tiles = divide_up(s->tiles, threads) * threads;
    if (s->tiles < s->chunks) s->tiles = s->chunks;
    if (s->tiles > s->m) s->tiles = s->m;
    if (s->chunks > s->tiles) s->chunks = s->tiles;
}

q_split q_split_of(const q_load *l, int threads) {
    q_split s = { .m = l->m, .groups = l->groups, .shares = by_columns(l, threads) ? threads : 1 };
    int64_t rows = CHUNK_BYTES / l->row_bytes, least = 2 * l->tile;
    rows = rows < least ? least : rows > MAX_CHUNK ? MAX_CHUNK : rows;
    s.tiles = divide_up(l->m, l->tile);
    s.chunks = divide_up(s.tiles, rows / l->tile);
    if (s.shares == 1 && (s.chunks > 1 || l->panels == 1)) share_rows(&s, threads);
    for (int64_t i = 0; i < s.chunks; i++) {
        rows = q_split_row(&s, i + 1) - q_split_row(&s, i);
        if (rows > s.most) s.most = rows;
    }
    s.share_panels = divide_up(l->panels, s.shares);
    s.items = s.shares * s.groups * s.chunks * s.share_panels;
    return s;
}
