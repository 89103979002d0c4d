/* coming.h - requests whose bodies are just being read: soon they are in the queue.
 *
 * A crowd's bodies are read side by side, so that all of them come late if there are too many. Whoever asks how long a
 * newcomer would wait must count those that came before it, wherever they are. The caller's lock guards everything. */
#ifndef PS_SERVER_COMING_H
#define PS_SERVER_COMING_H

#include <stddef.h>
#include <stdint.h>

#define PS_COMING_NS INT64_C(50000000) /* who takes longer has a slow client, and counts no more */

/* Embedded in the request; zero-initialised. */
typedef struct ps_coming {
    const void *key; /* its model; NULL: it is not in the list */
    int64_t since_ns;
    struct ps_coming *previous, *next;
} ps_coming;

typedef struct ps_coming_list {
    ps_coming *first, *last; /* in order of since_ns */
} ps_coming_list;

void ps_coming_add(ps_coming_list *list, ps_coming *c, const void *key, int64_t now_ns);
void ps_coming_remove(ps_coming_list *list, ps_coming *c); /* if it is there */
size_t ps_coming_count(ps_coming_list *list, const void *key, int64_t now_ns);

#endif
