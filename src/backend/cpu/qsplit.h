/* qsplit.h - how a product of codes is cut into items of work for threads.
 *
 * An item is one panel of columns against one chunk of rows, and a chunk meets panels while it is in the second-level
 * cache. Items are numbered so that equal parts of them are equal work: threads either share out the rows, and each
 * reads all weights, or the columns, and each gathers all rows. */
#ifndef PS_BACKEND_CPU_QSPLIT_H
#define PS_BACKEND_CPU_QSPLIT_H

#include <stdbool.h>
#include <stdint.h>

/* What there is to do: `groups` products of m rows and `panels` panels. */
typedef struct q_load {
    int64_t m, groups, panels;
    int64_t tile;                   /* rows that a kernel treats at a time, at most */
    int64_t row_bytes, panel_bytes; /* of the left and of the right side */
    bool gathered;                  /* rows are copied before they are read */
} q_load;

typedef struct q_split {
    int64_t m, tiles, chunks; /* of one group: tiles are of equal size but for one row, chunks but for one tile */
    int64_t most;             /* rows of a chunk */
    int64_t groups, shares, share_panels;
    int64_t items; /* some with a panel that is not there, if the panels are no multiple of the shares */
} q_split;

typedef struct q_item {
    int64_t group, chunk, panel;
} q_item;

q_split q_split_of(const q_load *load, int threads);
/* First row of a chunk; of chunk `chunks`: m. */
int64_t q_split_row(const q_split *s, int64_t chunk);
/* i < s->items. Items that follow each other have the same chunk where that can be. */
q_item q_split_item(const q_split *s, int64_t i);

#endif
