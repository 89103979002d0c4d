/* queue.c - W. Pugh, "Skip lists: a probabilistic alternative to balanced trees", CACM 1990, with the widths of its
 * section on linear list operations. */
#include "sched/queue.h"

#include <string.h>

enum { LEVELS = PS_SCHED_QUEUE_LEVELS };

/* The place before the first has links like a request, but is none. */
typedef struct place {
    ps_sched_request **link; /* [LEVELS] */
    uint32_t *width;
    uint32_t position; /* 0: before the first */
} place;

void ps_sched_queue_init(ps_sched_queue *q, uint32_t seed) {
    memset(q, 0, sizeof *q);
    q->random = seed | 1;
    for (int i = 0; i < LEVELS; i++)
        q->width[i] = 1;
}

static bool goes_before(const ps_sched_request *a, const ps_sched_request *b) {
    if (a->rank != b->rank) return a->rank < b->rank;
    if (a->order_ns != b->order_ns) return a->order_ns < b->order_ns;
    return a->serial < b->serial;
}

static place start(ps_sched_queue *q) {
    return (place) { q->link, q->width, 0 };
}

static void step(place *p, int level) {
    ps_sched_request *to = p->link[level];
    p->position += p->width[level];
    p->link = to->link;
    p->width = to->width;
}

/* The last place on each level that is before r. */
static void find(ps_sched_queue *q, const ps_sched_request *r, place *ret) {
    place p = start(q);
    for (int i = LEVELS - 1; i >= 0; i--) {
        while (p.link[i] && goes_before(p.link[i], r))
            step(&p, i);
        ret[i] = p;
    }
}

/* A quarter of the requests of each level are on the next one too. */
static uint8_t draw_level(ps_sched_queue *q) {
    q->random ^= q->random << 13;
    q->random ^= q->random >> 17;
    q->random ^= q->random << 5;
    uint8_t level = 1;
    for (uint32_t bits = q->random; level < LEVELS && (bits & 3) == 0; bits >>= 2)
        level++;
    return level;
}

static void append_by_age(ps_sched_queue *q, ps_sched_request *r) {
    r->older = q->newest;
    r->newer = NULL;
    *(q->newest ? &q->newest->newer : &q->oldest) = r;
    q->newest = r;
}

static void remove_by_age(ps_sched_queue *q, ps_sched_request *r) {
    *(r->older ? &r->older->newer : &q->oldest) = r->newer;
    *(r->newer ? &r->newer->older : &q->newest) = r->older;
}

static void link_in(ps_sched_queue *q, ps_sched_request *r) {
    place at[LEVELS];
    find(q, r, at);
    r->level = draw_level(q);
    uint32_t position = at[0].position + 1;
    for (int i = 0; i < LEVELS; i++) {
        if (i >= r->level) {
            at[i].width[i]++;
            continue;
        }
        uint32_t left = position - at[i].position;
        r->link[i] = at[i].link[i];
        r->width[i] = at[i].width[i] + 1 - left;
        at[i].link[i] = r;
        at[i].width[i] = left;
    }
}

static void link_out(ps_sched_queue *q, const ps_sched_request *r) {
    place at[LEVELS];
    find(q, r, at);
    for (int i = 0; i < LEVELS; i++) {
        if (at[i].link[i] == r) {
            at[i].link[i] = r->link[i];
            at[i].width[i] += r->width[i];
        }
        at[i].width[i]--;
    }
}

void ps_sched_queue_insert(ps_sched_queue *q, ps_sched_request *r) {
    link_in(q, r);
    append_by_age(q, r);
    q->count++;
    q->items += r->items;
}

void ps_sched_queue_remove(ps_sched_queue *q, ps_sched_request *r) {
    link_out(q, r);
    remove_by_age(q, r);
    q->count--;
    q->items -= r->items;
}

void ps_sched_queue_move(ps_sched_queue *q, ps_sched_request *r, int64_t order_ns) {
    link_out(q, r);
    r->order_ns = order_ns;
    link_in(q, r);
}

uint32_t ps_sched_queue_before(const ps_sched_queue *q, const ps_sched_request *r) {
    place at[LEVELS];
    find((ps_sched_queue *)q, r, at);
    return at[0].position;
}

uint32_t ps_sched_queue_before_order(const ps_sched_queue *q, uint32_t rank, int64_t order_ns) {
    ps_sched_request key;
    key.rank = rank;
    key.order_ns = order_ns;
    key.serial = 0;
    return ps_sched_queue_before(q, &key);
}

/* The last place on each level whose position is at most `position`. */
static void find_position(ps_sched_queue *q, uint32_t position, place *ret) {
    place p = start(q);
    for (int i = LEVELS - 1; i >= 0; i--) {
        while (p.link[i] && p.position + p.width[i] <= position)
            step(&p, i);
        ret[i] = p;
    }
}

ps_sched_request *ps_sched_queue_at(const ps_sched_queue *q, uint32_t position) {
    place at[LEVELS];
    find_position((ps_sched_queue *)q, position, at);
    return at[0].link[0];
}

ps_sched_request *ps_sched_queue_take(ps_sched_queue *q, uint32_t position, uint32_t n) {
    place at[LEVELS];
    find_position(q, position, at);
    ps_sched_request *first = at[0].link[0], *last = NULL;
    for (int i = 0; i < LEVELS; i++) {
        ps_sched_request *to = at[i].link[i];
        uint32_t span = at[i].position + at[i].width[i]; /* position of `to` */
        while (to && span <= position + n) {
            span += to->width[i];
            if (i == 0) {
                q->items -= to->items;
                remove_by_age(q, to);
                to->next = to->link[0];
                last = to;
            }
            to = to->link[i];
        }
        at[i].link[i] = to;
        at[i].width[i] = span - n - at[i].position;
    }
    last->next = NULL;
    q->count -= n;
    return first;
}
