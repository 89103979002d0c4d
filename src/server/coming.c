#include "server/coming.h"

void ps_coming_add(ps_coming_list *list, ps_coming *c, const void *key, int64_t now_ns) {
    *c = (ps_coming) { .key = key, .since_ns = now_ns, .previous = list->last };
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
}

void ps_coming_remove(ps_coming_list *list, ps_coming *c) {
    if (!c->key) return;
    *(c->previous ? &c->previous->next : &list->first) = c->next;
    *(c->next ? &c->next->previous : &list->last) = c->previous;
    *c = (ps_coming) { .key = NULL };
}

size_t ps_coming_count(ps_coming_list *list, const void *key, int64_t now_ns) {
    size_t n = 0;
    while (list->first && now_ns - list->first->since_ns > PS_COMING_NS)
        ps_coming_remove(list, list->first);
    for (const ps_coming *c = list->first; c; c = c->next)
        n += c->key == key;
    return n;
}
