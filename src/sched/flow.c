/* flow.c - a request's way: admission, queue, batch, answer. */
#include <math.h>
#include <string.h>

#include "sched/sched_int.h"

#define LOAD_NS 2.5e8 /* time constant of the offered load */
#define TARGET_NS INT64_C(100000000)
#define SHARE_BEHIND 3 /* targets that a tenant's tag may lie behind the due time of a request */
#define GUARD_NS INT64_C(1000000000)
#define GUARD_LEAST 0.01
#define GUARD_MOST 0.25
#define MISS_SHARE 0.01
#define TRY_NS INT64_C(1000000000)
#define TRY_DUE_NS (PS_SCHED_LATE / 2) /* never hopeless: whoever runs it stops at its deadline */
#define TURN_WEIGHT 0.0625 /* of a batch in the means of what passes between runs */
enum { CUTS = 3 }; /* in a row */
enum { GUARD_ANSWERS = 200, SENT = 8, OURS = 4 /* parts of its time, of which its way may take one */ };

/* ---- helpers of policies ---- */

int64_t ps_sched_target(const ps_sched_bucket *b) {
    if (b->model->target_ns) return b->model->target_ns;
    int64_t twice = 2 * ps_profile_mean(&b->profile, 1);
    return twice > TARGET_NS ? twice : TARGET_NS;
}

uint32_t ps_sched_limit(const ps_sched_bucket *b) {
    uint32_t most = b->model->max_batch, tried = b->profile.largest;
    return tried == 0 ? 1 : most / 2 > tried ? 2 * tried : most;
}

double ps_sched_decayed(double load, int64_t since_ns, int64_t now) {
    return now > since_ns ? load * exp(-(double)(now - since_ns) / LOAD_NS) : load;
}

bool ps_sched_is_aged(const ps_sched *s, const ps_sched_bucket *b, int64_t now) {
    if (now - b->queue.oldest->arrival_ns <= s->ageing_ns) return false;
    return b->since_aged >= PS_SCHED_AGED_EVERY || !b->ran_ns || now - b->ran_ns > s->ageing_ns;
}

void ps_sched_count_lost(const ps_sched_request *r, int64_t now) {
    ps_sched_model *m = r->bucket->model;
    m->lost = ps_sched_decayed(m->lost, m->lost_ns, now) + (double)r->cost / LOAD_NS;
    m->lost_ns = now;
}

int64_t ps_sched_free_at(const ps_sched *s, int64_t now) {
    if (s->running < s->slots) return now;
    int64_t first = PS_SCHED_NEVER;
    for (const ps_sched_batch *b = s->batches; b; b = b->after) {
        int64_t end = b->start_ns + b->predicted_ns + (int64_t)s->turn_ns;
        if (end < first) first = end;
    }
    return first > now ? first : now;
}

/* ---- between runs ---- */

/* The device was free for so long though somebody waited: answers were handed out, other threads had the processor. A
 * pause that is longer than the runs is no turn. */
static void count_turn(ps_sched *s, int64_t now) {
    double turn = (double)(now - s->freed_ns);
    if (s->freed_ns && turn <= s->ran_ns) s->turn_ns += TURN_WEIGHT * (turn - s->turn_ns);
    s->freed_ns = 0;
}

static void count_end(ps_sched *s, int64_t measured_ns, int64_t now) {
    s->freed_ns = s->queued ? now : 0;
    if (s->freed_ns) s->ran_ns += (s->ran_ns > 0 ? TURN_WEIGHT : 1) * ((double)measured_ns - s->ran_ns);
}

/* ---- queues, and what is counted about them ---- */

static ps_sched_tenant *tenant_of(ps_sched *s, const ps_sched_request *r) {
    return r->tenant ? r->tenant : &s->everyone;
}

static void activate(ps_sched *s, ps_sched_bucket *b) {
    b->next = NULL;
    b->previous = s->active_last;
    *(s->active_last ? &s->active_last->next : &s->active) = b;
    s->active_last = b;
    s->n_active++;
}

static void deactivate(ps_sched *s, ps_sched_bucket *b) {
    *(b->previous ? &b->previous->next : &s->active) = b->next;
    *(b->next ? &b->next->previous : &s->active_last) = b->previous;
    s->n_active--;
}

/* Counts a request that came (1) or went (-1), wherever it waits. */
static void count_queued(ps_sched *s, ps_sched_request *r, int by) {
    ps_sched_model *m = r->bucket->model;
    ps_sched_tenant *t = tenant_of(s, r);
    if (by < 0) {
        s->queued--;
        if (--m->queued == 0) s->model_weight -= m->weight;
        if (--t->queued == 0) {
            s->tenant_weight -= t->weight;
            s->busy_tenants--;
        }
        return;
    }
    s->queued++;
    if (m->queued++ == 0) {
        s->model_weight += m->weight;
        if (m->virtual_ns < s->virtual_ns) m->virtual_ns = s->virtual_ns; /* idle time earns nothing */
    }
    if (t->queued++ == 0) {
        s->tenant_weight += t->weight;
        s->busy_tenants++;
    }
}

/* What a tenant has beyond its share of the device goes behind others: its place is the time at which its share alone
 * would have served it (a total bandwidth server: Spuri and Buttazzo, 1996). Alone, a tenant has the whole device. */
static int64_t place_in_share(ps_sched *s, const ps_sched_request *r, int64_t *ret_tag) {
    const ps_sched_tenant *t = tenant_of(s, r);
    *ret_tag = t->tag_ns;
    if (s->busy_tenants + (t->queued == 0) <= 1) return r->due_ns;
    double weights = s->tenant_weight + (t->queued == 0 ? t->weight : 0);
    int64_t most = r->due_ns + SHARE_BEHIND * ps_sched_target(r->bucket);
    int64_t from = t->tag_ns > r->arrival_ns ? t->tag_ns : r->arrival_ns;
    int64_t tag = from + (int64_t)((double)r->cost * weights / t->weight);
    *ret_tag = tag < most ? tag : most;
    return *ret_tag > r->due_ns ? *ret_tag : r->due_ns;
}

static void enqueue(ps_sched *s, ps_sched_request *r) {
    ps_sched_bucket *b = r->bucket;
    r->state = PS_SCHED_QUEUED;
    r->serial = s->serial++;
    r->order_ns = s->policy->by_deadline ? place_in_share(s, r, &tenant_of(s, r)->tag_ns) : r->arrival_ns;
    bool first = b->queue.count == 0;
    if (first) activate(s, b);
    b->mixed = b->mixed || r->order_ns != r->due_ns || (!first && r->rank != b->queue.link[0]->rank);
    ps_sched_queue_insert(&b->queue, r);
    b->backlog_ns += (double)r->cost;
    s->backlog_ns += (double)r->cost;
}

/* After it left the queue. */
static void uncount(ps_sched *s, ps_sched_request *r) {
    ps_sched_bucket *b = r->bucket;
    if (r->late) b->n_late--;
    r->late = false;
    b->backlog_ns -= (double)r->cost;
    s->backlog_ns -= (double)r->cost;
    if (b->queue.count == 0) {
        deactivate(s, b);
        b->mixed = false;
        b->backlog_ns = 0; /* sums of floats drift */
        if (!s->active) s->backlog_ns = 0;
    }
    count_queued(s, r, -1);
}

/* ---- sequences ---- */

static void wait_behind(ps_sched_sequence *q, ps_sched_request *r) {
    r->state = PS_SCHED_BEHIND;
    r->next = NULL;
    *(q->first ? &q->last->next : &q->first) = r;
    q->last = r;
}

/* The request of the sequence that had its turn is gone: the next one may queue. */
static void next_turn(ps_sched *s, ps_sched_request *gone) {
    ps_sched_sequence *q = gone->sequence;
    if (!q) return;
    ps_sched_request *r = q->first;
    q->busy = r != NULL;
    if (!r) return;
    q->first = r->next;
    enqueue(s, r);
}

static void leave_waiting(ps_sched_sequence *q, const ps_sched_request *r) {
    ps_sched_request **at = &q->first, *before = NULL;
    while (*at != r) {
        before = *at;
        at = &before->next;
    }
    *at = r->next;
    if (q->last == r) q->last = before;
}

/* ---- admission ---- */

static ps_sched_verdict refuse(ps_sched_model *m, ps_sched_verdict v, ps_sched_reason reason) {
    m->stats.refused[reason]++;
    v.reason = reason;
    return v;
}

/* The whole load counts, what is refused too: it tells how scarce the device is. */
static void count_load(ps_sched *s, ps_sched_bucket *b, const ps_sched_request *r, int64_t now) {
    double share = b->profile.known ? b->profile.unit * r->items / LOAD_NS : 0;
    ps_sched_model *m = b->model;
    m->load = ps_sched_decayed(m->load, m->load_ns, now) + share;
    s->load = ps_sched_decayed(s->load, s->load_ns, now) + share;
    m->load_ns = s->load_ns = now;
}

/* When a run has to end for an answer that has the time from `from` to `end`: a deadline, for which a request may be
 * refused, leaves less to its way than our own target does. */
static int64_t due_before(const ps_sched *s, int64_t from, int64_t end, int parts) {
    int64_t most = (end - from) / parts;
    return most > 0 ? end - (s->transit_ns < most ? s->transit_ns : most) : end;
}

static void fill(ps_sched *s, ps_sched_bucket *b, ps_sched_request *r) {
    r->bucket = b;
    r->next = NULL;
    r->reason = PS_SCHED_OK;
    r->late = false;
    r->rank = r->priority ? r->priority - 1 : UINT32_MAX;
    r->due_ns = r->deadline_ns ? due_before(s, r->arrival_ns, r->deadline_ns, SENT)
                               : due_before(s, r->arrival_ns, r->arrival_ns + ps_sched_target(b), OURS);
    r->serial = s->serial;
    r->cost = b->profile.known ? (float)(b->profile.unit * r->items) : 0;
    int64_t tag;
    r->order_ns = s->policy->by_deadline ? place_in_share(s, r, &tag) : r->arrival_ns;
}

/* Until a full queue has room for one more. */
static int64_t time_to_drain(const ps_sched *s) {
    int64_t ns = s->queued ? (int64_t)(s->backlog_ns / (double)s->queued) : 0;
    return ns > 1000000 ? ns : 1000000;
}

static ps_sched_request *last_if_late(const ps_sched_bucket *b) {
    if (b->n_late == 0) return NULL;
    ps_sched_request *last = ps_sched_queue_at(&b->queue, b->queue.count - 1);
    return last->late ? last : NULL;
}

/* Room for one more. Where a queue is full of requests that are late already, one of them is refused instead of one
 * that can still be in time: of the same shape, or of the shape that has most of them. */
static bool make_room(ps_sched *s, const ps_sched_bucket *b) {
    const ps_sched_model *m = b->model;
    bool model_full = m->queued >= m->max_queue;
    if (!model_full && s->queued < s->max_queue) return true;
    ps_sched_request *victim = last_if_late(b);
    int look = PS_SCHED_LOOK;
    uint32_t most = 0;
    for (const ps_sched_bucket *o = s->active; o && !victim && look > 0; o = o->next, look--) {
        if (o->n_late <= most || (model_full && o->model != m) || !last_if_late(o)) continue;
        most = o->n_late;
        b = o;
    }
    if (!victim && most) victim = last_if_late(b);
    if (victim) ps_sched_drop(s, victim, PS_SCHED_FULL);
    return victim && m->queued < m->max_queue && s->queued < s->max_queue;
}

/* Nothing runs or waits, and this shape has not run for a while. What is known of its times may be past, for other
 * programs have left the machine since, and as long as all is refused nothing would ever tell. */
static bool may_try(const ps_sched *s, ps_sched_bucket *b, int64_t now) {
    if (!b->tried_ns) b->tried_ns = now;
    return s->running == 0 && s->queued == 0 && now - b->tried_ns >= TRY_NS;
}

/* What the policy says of a request that has been filled in. */
static ps_sched_reason ask_policy(ps_sched *s, ps_sched_bucket *b, ps_sched_request *r, int64_t now,
                                  ps_sched_verdict *verdict) {
    if (r->deadline_ns && r->deadline_ns <= now) return PS_SCHED_TOO_LATE;
    bool behind = r->sequence && r->sequence->busy;
    if (b->model->paused || behind || !s->policy->admit) return PS_SCHED_OK;
    const ps_sched_reason reason = s->policy->admit(s, b, r, now, verdict);
    if (reason != PS_SCHED_TOO_LATE || !may_try(s, b, now)) return reason;
    r->due_ns = TRY_DUE_NS;
    return PS_SCHED_OK;
}

static ps_sched_verdict refuse_late(ps_sched_model *m, ps_sched_verdict v, const ps_sched_request *r, int64_t now) {
    if (r->deadline_ns > now) ps_sched_count_lost(r, now);
    return refuse(m, v, v.reason);
}

/* A shape without elements may have any number of rows. */
static void limit_items(ps_sched_request *r) {
    if (r->items < 1) r->items = 1;
    if (r->items > PS_SCHED_MOST_ITEMS) r->items = PS_SCHED_MOST_ITEMS;
}

ps_sched_verdict ps_sched_admit(ps_sched *s, ps_sched_model *m, ps_sched_request *r, int64_t now_ns) {
    ps_sched_verdict v = { .reason = PS_SCHED_OK };
    limit_items(r);
    ps_sched_bucket *b = ps_sched_bucket_get(m, r->shape, r->work, now_ns);
    if (!b) return refuse(m, v, PS_SCHED_NO_MEMORY);
    m->last = b;
    count_load(s, b, r, now_ns);
    fill(s, b, r);
    if (!make_room(s, b)) {
        v.retry_after_ns = time_to_drain(s);
        return refuse(m, v, PS_SCHED_FULL);
    }
    v.reason = ask_policy(s, b, r, now_ns, &v);
    if (v.reason != PS_SCHED_OK) return refuse_late(m, v, r, now_ns);
    r->expected_ns = v.finish_ns;
    if (r->due_ns == TRY_DUE_NS) b->tried_ns = now_ns;
    b->held++;
    m->stats.admitted++;
    count_queued(s, r, 1);
    const bool behind = r->sequence && r->sequence->busy;
    if (r->sequence) r->sequence->busy = true;
    if (behind)
        wait_behind(r->sequence, r);
    else
        enqueue(s, r);
    return v;
}

bool ps_sched_refuses(ps_sched *s, ps_sched_model *m, ps_sched_request *r, int64_t now_ns, ps_sched_verdict *ret) {
    ps_sched_verdict v = { .reason = PS_SCHED_OK };
    ps_sched_bucket *b = r->deadline_ns ? ps_sched_bucket_get(m, r->shape, r->work, now_ns) : NULL;
    if (!b) return false;
    limit_items(r);
    fill(s, b, r);
    v.reason = ask_policy(s, b, r, now_ns, &v);
    if (v.reason == PS_SCHED_OK) return false;
    m->last = b;
    count_load(s, b, r, now_ns);
    *ret = refuse_late(m, v, r, now_ns);
    return true;
}

/* Of a request like those that wait, as far as a batch has room for it. */
static uint32_t items_each(const ps_sched_bucket *b) {
    const uint64_t items = b->queue.count ? b->queue.items / b->queue.count : 1;
    return items < b->model->max_batch ? (uint32_t)items : b->model->max_batch;
}

/* Those that can still be in time, however many of the others have been found so far. */
static uint32_t count_in_time(const ps_sched_bucket *b, int64_t now) {
    const ps_sched_request *front = b->queue.link[0];
    const uint32_t n = b->queue.count - b->n_late;
    if (n == 0) return 0;
    const int64_t end = now + ps_profile_mean(&b->profile, 1);
    const uint32_t hopeless = ps_sched_queue_before_order(&b->queue, front->rank, end);
    return hopeless < n ? n - hopeless : 0;
}

bool ps_sched_defers(ps_sched *s, ps_sched_model *m, uint32_t coming, int64_t now_ns) {
    ps_sched_bucket *b = m->last;
    if (!b || m->paused || !b->profile.known || !s->policy->by_deadline) return false;
    const ps_profile *p = &b->profile;
    const uint32_t items = items_each(b), before = count_in_time(b, now_ns) + coming;
    const int64_t target = ps_sched_target(b), due = due_before(s, now_ns, now_ns + target, OURS);
    const uint32_t fits = ps_profile_best(p, ps_profile_fits(p, target / 2, ps_sched_limit(b)));
    const double wait = p->unit * items * before / s->slots;
    const double run = (double)ps_profile_mean(p, fits > items ? fits : items);
    if (wait + run <= (double)(due - now_ns)) return false;
    count_load(s, b, &(ps_sched_request) { .items = items }, now_ns);
    return true;
}

bool ps_sched_has_room(const ps_sched *s, const ps_sched_model *m, uint32_t coming) {
    const ps_sched_bucket *b = m->last;
    if (!b || m->paused || !b->profile.known) return true;
    return (b->backlog_ns + b->profile.unit * items_each(b) * coming) / s->slots < (double)ps_sched_target(b) / 2;
}

/* ---- leaving without an answer ---- */

/* The request goes from wherever it waits. */
static void withdraw(ps_sched *s, ps_sched_request *r) {
    r->bucket->held--;
    if (r->state == PS_SCHED_BEHIND) {
        leave_waiting(r->sequence, r);
        count_queued(s, r, -1);
    } else {
        ps_sched_queue_remove(&r->bucket->queue, r);
        uncount(s, r);
        next_turn(s, r);
    }
}

bool ps_sched_cancel(ps_sched *s, ps_sched_request *r) {
    if (r->state != PS_SCHED_QUEUED && r->state != PS_SCHED_BEHIND) return false;
    r->bucket->model->stats.dropped[PS_SCHED_CANCELLED]++;
    withdraw(s, r);
    r->state = PS_SCHED_OUTSIDE;
    return true;
}

void ps_sched_drop(ps_sched *s, ps_sched_request *r, ps_sched_reason reason) {
    r->bucket->model->stats.dropped[reason]++;
    withdraw(s, r);
    r->state = PS_SCHED_DROPPED;
    r->reason = reason;
    r->next = NULL;
    *s->dropped_end = r;
    s->dropped_end = &r->next;
}

ps_sched_request *ps_sched_take_dropped(ps_sched *s) {
    ps_sched_request *first = s->dropped;
    s->dropped = NULL;
    s->dropped_end = &s->dropped;
    for (ps_sched_request *r = first; r; r = r->next)
        r->state = PS_SCHED_OUTSIDE;
    return first;
}

/* ---- loading ---- */

void ps_sched_pause(ps_sched *s, ps_sched_model *m, int64_t give_up_ns) {
    if (!m->paused) s->paused_models++;
    m->paused = true;
    m->give_up_ns = give_up_ns;
}

/* What waited for the load has its whole target before it, from now. */
static void restart_targets(ps_sched_bucket *b, int64_t now) {
    int64_t due = due_before(b->model->sched, now, now + ps_sched_target(b), OURS);
    for (ps_sched_request *r = b->queue.oldest; r; r = r->newer) {
        if (r->deadline_ns || r->due_ns >= due) continue;
        r->due_ns = due;
        ps_sched_queue_move(&b->queue, r, due);
    }
    b->mixed = b->queue.count > 0;
}

void ps_sched_resume(ps_sched *s, ps_sched_model *m, int64_t now_ns) {
    if (!m->paused) return;
    m->paused = false;
    s->paused_models--;
    if (!s->policy->by_deadline) return;
    for (uint32_t i = 0; i <= m->table_mask; i++) {
        for (ps_sched_bucket *b = m->table[i]; b; b = b->chain)
            restart_targets(b, now_ns);
    }
}

/* When the first paused model gives up; drops what waited for those that did. */
static int64_t give_up_loads(ps_sched *s, int64_t now) {
    int64_t first = PS_SCHED_NEVER;
    for (ps_sched_model *m = s->paused_models ? s->models : NULL; m; m = m->next) {
        if (!m->paused || m->queued == 0) continue;
        if (now < m->give_up_ns) {
            if (m->give_up_ns < first) first = m->give_up_ns;
            continue;
        }
        for (uint32_t i = 0; i <= m->table_mask; i++) {
            for (ps_sched_bucket *b = m->table[i]; b; b = b->chain) {
                while (b->queue.oldest)
                    ps_sched_drop(s, b->queue.oldest, PS_SCHED_NOT_LOADED);
            }
        }
    }
    return first;
}

/* ---- batches ---- */

/* How many requests from `skip` on hold at most `items`; at least one. */
static uint32_t count_fitting(const ps_sched_queue *q, uint32_t skip, uint32_t items) {
    uint32_t left = q->count - skip;
    if (q->items == q->count) return items < left ? (items ? items : 1) : left;
    uint32_t n = 0, sum = 0;
    for (const ps_sched_request *r = ps_sched_queue_at(q, skip); r; r = r->link[0]) {
        sum += r->items < items ? r->items : items;
        if (n > 0 && sum > items) break;
        n++;
        if (sum >= items) break;
    }
    return n;
}

static void start_requests(ps_sched *s, ps_sched_batch *batch, ps_sched_request *first) {
    ps_sched_model *m = batch->model;
    ps_sched_request **end = batch->first ? &batch->first->next : &batch->first;
    *end = first;
    for (ps_sched_request *r = first; r; r = r->next) {
        uncount(s, r);
        r->state = PS_SCHED_RUNNING;
        batch->requests++;
        batch->items += r->items;
        m->stats.queue_ns += (uint64_t)(batch->start_ns > r->arrival_ns ? batch->start_ns - r->arrival_ns : 0);
    }
}

/* What the profile says of the batch; 0: nothing. */
static int64_t mean_of(const ps_sched_batch *batch) {
    const uint32_t most = batch->model->max_batch, size = batch->items < most ? batch->items : most;
    return ps_profile_mean(&batch->bucket->profile, size);
}

static void charge(ps_sched *s, ps_sched_batch *batch) {
    ps_sched_model *m = batch->model;
    batch->predicted_ns = mean_of(batch);
    batch->charged_ns = batch->predicted_ns;
    s->virtual_ns = m->virtual_ns > s->virtual_ns ? m->virtual_ns : s->virtual_ns;
    m->virtual_ns += (double)batch->charged_ns / m->weight;
}

static void link_batch(ps_sched *s, ps_sched_batch *batch) {
    batch->before = NULL;
    batch->after = s->batches;
    if (s->batches) s->batches->before = batch;
    s->batches = batch;
    s->running++;
    batch->model->running++;
}

static void unlink_batch(ps_sched *s, ps_sched_batch *batch) {
    *(batch->before ? &batch->before->after : &s->batches) = batch->after;
    if (batch->after) batch->after->before = batch->before;
    s->running--;
    batch->model->running--;
}

static uint32_t histogram_bin(uint32_t items) {
    uint32_t bin = 0;
    while (bin < PS_SCHED_HISTOGRAM - 1 && items > 1u << bin)
        bin++;
    return bin;
}

/* Returns the items that are left for others. Such a seat in every batch would cost a model that gains nothing from
 * batching half of its rate. */
static uint32_t seat_aged(ps_sched *s, ps_sched_batch *batch, uint32_t items) {
    ps_sched_request *oldest = batch->bucket->queue.oldest;
    batch->bucket->since_aged = 0;
    ps_sched_queue_remove(&batch->bucket->queue, oldest);
    oldest->next = NULL;
    start_requests(s, batch, oldest);
    return items - (oldest->items < items ? oldest->items : items);
}

static void count_batch(ps_sched_batch *batch) {
    ps_sched_stats *stats = &batch->model->stats;
    uint32_t *since = &batch->bucket->since_aged;
    stats->batches++;
    stats->items += batch->items;
    stats->sizes[histogram_bin(batch->items)]++;
    *since = *since < PS_SCHED_AGED_EVERY ? *since + batch->items : *since;
    batch->bucket->ran_ns = batch->start_ns;
}

static void start_batch(ps_sched *s, const ps_sched_choice *choice, int64_t now, ps_sched_batch *batch) {
    ps_sched_bucket *b = choice->bucket;
    ps_sched_queue *q = &b->queue;
    *batch = (ps_sched_batch) { .model = b->model, .bucket = b, .shape = b->shape, .start_ns = now };
    uint32_t items = choice->items ? choice->items : 1;
    if (ps_sched_is_aged(s, b, now)) items = seat_aged(s, batch, items);
    uint32_t skip = choice->skip < q->count ? choice->skip : 0;
    if (q->count > 0 && items > 0 && (batch->requests == 0 || ps_sched_queue_at(q, skip)->items <= items))
        start_requests(s, batch, ps_sched_queue_take(q, skip, count_fitting(q, skip, items)));
    if (q->count > 0) { /* the others come first now */
        deactivate(s, b);
        activate(s, b);
    }
    charge(s, batch);
    link_batch(s, batch);
    count_batch(batch);
}

ps_sched_action ps_sched_next(ps_sched *s, int64_t now_ns, ps_sched_batch *batch, int64_t *ret_until_ns) {
    int64_t until = give_up_loads(s, now_ns);
    if (s->active && !ps_sched_is_full(s)) {
        ps_sched_choice choice = { .until_ns = PS_SCHED_NEVER };
        s->policy->choose(s, now_ns, &choice);
        if (choice.bucket) {
            count_turn(s, now_ns);
            start_batch(s, &choice, now_ns, batch);
            return PS_SCHED_RUN;
        }
        if (choice.until_ns < until) until = choice.until_ns;
    }
    if (until == PS_SCHED_NEVER) return PS_SCHED_IDLE;
    *ret_until_ns = until;
    return PS_SCHED_WAIT;
}

/* Misses widen the margin by half, a clean second narrows it by a twentieth: it settles where about a hundredth of the
 * answers miss. */
static void adapt_guard(ps_sched_model *m, int64_t now) {
    if (m->answered < GUARD_ANSWERS && now - m->guard_ns < GUARD_NS) return;
    if (m->missed > MISS_SHARE * m->answered) {
        m->guard = (m->guard > GUARD_LEAST ? m->guard : GUARD_LEAST) * 1.5;
        if (m->guard > GUARD_MOST) m->guard = GUARD_MOST;
    } else if (now - m->guard_ns >= GUARD_NS || m->answered >= GUARD_ANSWERS) {
        m->guard *= 0.95;
    }
    m->answered = m->missed = 0;
    m->guard_ns = now;
}

/* A miss counts against the margin only if the request could have been in time when its batch started. */
static void count_answer(ps_sched_model *m, const ps_sched_batch *batch, ps_sched_request *r, int64_t now) {
    bool on_time = now <= r->due_ns;
    m->stats.completed++;
    *(now <= (r->deadline_ns ? r->deadline_ns : r->due_ns) ? &m->stats.on_time : &m->stats.late) += 1;
    if (!on_time) ps_sched_count_lost(r, now);
    if (!batch->predicted_ns || batch->start_ns + batch->predicted_ns > r->due_ns) return;
    m->answered++;
    if (!on_time) m->missed++;
}

/* Does the run say how long such batches take? Stopped ones are the slow ones: to learn from one now and then would
 * make large batches look slower than they are. Of several in a row, that they take longer than what was expected. */
static bool tells(const ps_sched_batch *batch, int64_t measured_ns) {
    ps_sched_bucket *b = batch->bucket;
    b->cuts = batch->cut ? b->cuts + 1 : 0;
    return !batch->cut || (b->cuts >= CUTS && measured_ns > mean_of(batch));
}

void ps_sched_complete(ps_sched *s, ps_sched_batch *batch, int64_t measured_ns, int64_t now_ns) {
    ps_sched_model *m = batch->model;
    ps_sched_bucket *b = batch->bucket;
    unlink_batch(s, batch);
    if (measured_ns > 0) {
        count_end(s, measured_ns, now_ns);
        b->profile.turn = s->turn_ns;
        if (tells(batch, measured_ns)) ps_profile_add(&b->profile, batch->items, measured_ns);
        b->tried_ns = now_ns;
        m->virtual_ns += (double)(measured_ns - batch->charged_ns) / m->weight;
        m->stats.run_ns += (uint64_t)measured_ns;
        if (s->policy->learn) s->policy->learn(s, batch, measured_ns, now_ns);
    }
    for (ps_sched_request *r = batch->first; r; r = r->next) {
        count_answer(m, batch, r, now_ns);
        r->state = PS_SCHED_OUTSIDE;
        b->held--;
        next_turn(s, r);
    }
    adapt_guard(m, now_ns);
}

/* ---- what the policies without deadlines share ---- */

void ps_sched_drop_waited(ps_sched *s, ps_sched_bucket *b, int64_t now, int64_t timeout_ns) {
    for (ps_sched_request *r; (r = b->queue.oldest) != NULL;) {
        if (timeout_ns && now - r->arrival_ns > timeout_ns)
            ps_sched_drop(s, r, PS_SCHED_TIMEOUT);
        else if (r->deadline_ns && now >= r->deadline_ns)
            ps_sched_drop(s, r, PS_SCHED_TOO_LATE);
        else
            return;
    }
}

void ps_sched_choose_oldest(ps_sched *s, int64_t now, ps_sched_ready_fn ready, ps_sched_choice *ret) {
    ps_sched_bucket *next;
    int look = PS_SCHED_LOOK;
    for (ps_sched_bucket *b = s->active; b && look > 0; b = next) {
        uint32_t items = 0;
        int64_t until = PS_SCHED_NEVER;
        next = b->next;
        if (b->model->paused) continue;
        look--;
        ready(s, b, now, &items, &until);
        if (b->queue.count == 0) continue;
        if (items == 0) {
            if (until < ret->until_ns) ret->until_ns = until;
            continue;
        }
        if (ret->bucket && ret->bucket->queue.oldest->arrival_ns <= b->queue.oldest->arrival_ns) continue;
        ret->bucket = b;
        ret->items = items;
    }
}
