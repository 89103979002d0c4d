/* policy_deadline.c - the default: earliest deadline first, in the largest batch that the deadlines allow.
 *
 * For each bucket a candidate is made: the front of its queue in the largest efficient batch whose predicted end meets
 * the front's due time. Candidates then compete: a model may not run ahead of its share; a batch is worth what it
 * serves less what others lose while they wait for it; one that wastes a scarce device waits until it is fuller; of the
 * rest, the one goes first that has to start soonest. "Scarce" is a number from 0 to 1, taken from what arrivals ask
 * for: at 0 nothing is skipped and no batch waits, at 1 device time has its full price. README.md has the reasons and
 * the sources. */
#include <math.h>

#include "sched/sched_int.h"

#define SCARCE_FROM 0.85 /* offered load at which device time begins to have a price */
#define SCARCE_RANGE 0.20
#define LOSS_WEIGHT 10      /* a model whose requests are lost by a tenth finds device time scarce */
#define GATE 0.90           /* at full price: efficiency below which a batch waits for company, if another can run */
#define AHEAD_NS 70000000.0 /* device time, by weight, that a model may be ahead of the one that is most behind */
#define HARM_WEIGHT 0.7     /* of what others lose by waiting: who comes later takes some of the seats of the lost */
#define SKIP_COST 0.02      /* of a request left out, in items, when all is scarce */
#define NEAR_BEST 0.99      /* of the best rate: nothing to gain by leaving some out */
#define SPARE 0.2           /* of a run, that its requests have left when all is scarce: a machine becomes slower */
#define SPLIT_COST 1.03     /* of the device time of one batch, that two may take for the same requests */
enum { SETTLE = 2, SETTLE_ON_ADMIT = 2, PROBES = 6, AGAIN = 32 };

typedef struct candidate {
    ps_sched_bucket *bucket;
    uint32_t skip, items;
    int64_t run_ns, latest_ns; /* with margin; when it must have started */
    double efficiency;         /* of full batches' rate */
    double load;               /* of its model */
    double harm, worth;        /* what others lose while it runs, ns; what it serves less that, of its time */
    uint32_t rank;
    bool aged;
} candidate;

static double within_0_1(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double scarcity(const ps_sched *s, int64_t now) {
    double load = ps_sched_decayed(s->load, s->load_ns, now) / s->slots;
    return within_0_1((load - SCARCE_FROM) / SCARCE_RANGE);
}

/* For one model: it may lose requests while the device has time, because they come in bursts. */
static double scarcity_of(const ps_sched_model *m, double device, int64_t now) {
    if (m->lost == 0 || device >= 1) return device;
    double load = ps_sched_decayed(m->load, m->load_ns, now), lost = ps_sched_decayed(m->lost, m->lost_ns, now);
    double own = load > 0 ? within_0_1(LOSS_WEIGHT * lost / load) : 0;
    return own > device ? own : device;
}

static uint32_t size_of(const ps_sched_bucket *b, const ps_sched_request *r) {
    return r->items < b->model->max_batch ? r->items : b->model->max_batch;
}

static int64_t with_margin(const ps_sched_bucket *b, int64_t ns) {
    return ns + (int64_t)(b->model->guard * (double)ns);
}

/* ns that a batch may take: with confidence. */
static int64_t run_of(const ps_sched_bucket *b, uint32_t size) {
    return with_margin(b, ps_profile_high(&b->profile, size));
}

/* When those must be due that run with time to spare, in a batch that starts then. */
static int64_t spare_end(const ps_sched_bucket *b, uint32_t size, int64_t start) {
    return start + (int64_t)((1 + SPARE) * (double)run_of(b, size));
}

/* ---- what cannot be in time any more ---- */

static bool is_hopeless(const ps_sched_bucket *b, const ps_sched_request *r, int64_t now) {
    return now + ps_profile_mean(&b->profile, size_of(b, r)) > r->due_ns;
}

/* Without a deadline nothing is dropped: it goes behind those that can still be in time. */
static void make_late(ps_sched_bucket *b, ps_sched_request *r) {
    r->late = true;
    b->n_late++;
    ps_sched_queue_move(&b->queue, r, r->order_ns + PS_SCHED_LATE);
}

/* Of the front and of the oldest, as many as the budget allows: decisions must not take long because many are late at
 * once. What is left is skipped by make_candidate, and found by the next calls. */
static void settle(ps_sched *s, ps_sched_bucket *b, int64_t now, int *budget) {
    ps_sched_request *r;
    while (*budget > 0 && (r = b->queue.link[0]) != NULL && !r->late && is_hopeless(b, r, now)) {
        --*budget;
        ps_sched_count_lost(r, now);
        if (r->deadline_ns)
            ps_sched_drop(s, r, PS_SCHED_TOO_LATE);
        else
            make_late(b, r);
    }
    while (*budget > 0 && (r = b->queue.oldest) != NULL && r->deadline_ns && is_hopeless(b, r, now)) {
        --*budget;
        ps_sched_count_lost(r, now);
        ps_sched_drop(s, r, PS_SCHED_TOO_LATE);
    }
}

/* ---- one bucket's candidate ---- */

/* The longest that work of no value to anybody any more may hold the device, so that who comes meanwhile can be in
 * time: half of the shortest target. */
static int64_t longest_late_run(const ps_sched *s, const ps_sched_bucket *b) {
    int64_t least = ps_sched_target(b);
    int look = PS_SCHED_LOOK;
    for (const ps_sched_model *m = s->models; m && look > 0; m = m->next, look--) {
        if (m->last && m->load > 0.001 && ps_sched_target(m->last) < least) least = ps_sched_target(m->last);
    }
    return least / 2;
}

/* Items to choose from: what is late only fills up a batch that stays short, and waits for its age while the device is
 * scarce. */
static uint32_t available(const ps_sched *s, const ps_sched_bucket *b, double scarce) {
    uint32_t late = b->n_late, all = b->queue.items < UINT32_MAX ? (uint32_t)b->queue.items : UINT32_MAX;
    if (late == 0) return all;
    uint32_t in_time = late < b->queue.count ? all - late : 0;
    if (in_time > 0 && scarce > 0.5) return in_time;
    uint32_t some = ps_profile_fits(&b->profile, longest_late_run(s, b), all);
    return some > in_time ? some : in_time ? in_time : 1;
}

/* Where batching gains nothing, several small batches end as early as a large one, and all but the last earlier. */
static uint32_t split(const ps_profile *p, uint32_t size) {
    uint32_t lean = ps_profile_lean(p, size);
    if (lean == size) return size;
    double apart = (double)(ps_profile_mean(p, lean) + ps_profile_mean(p, size - lean));
    return apart <= SPLIT_COST * (double)ps_profile_mean(p, size) ? lean : size;
}

/* The best size for a batch out of `cap` items whose tightest due time is `due`. */
static uint32_t best_size(const ps_sched_bucket *b, int64_t due, uint32_t cap, double scarce, int64_t now) {
    const ps_profile *p = &b->profile;
    uint32_t fit = cap;
    if (due != PS_SCHED_NEVER) {
        fit = ps_profile_fits(p, (int64_t)((double)(due - now) / (1 + b->model->guard)), cap);
        if (fit == 0) fit = 1;
    }
    if (fit > p->largest) return fit; /* what was never tried is tried when there is time for it */
    if (scarce == 0 && fit == b->queue.items) return split(p, fit);
    return ps_profile_best(p, fit);
}

static int64_t due_of(const ps_sched_request *r) {
    return r->late ? PS_SCHED_NEVER : r->due_ns;
}

/* Where classes or shares decide the order, the tightest of `n` requests from r on need not be r. */
static int64_t tightest(const ps_sched_bucket *b, const ps_sched_request *r, uint32_t n, int64_t now) {
    int64_t due = PS_SCHED_NEVER;
    for (; r && n > 0; r = r->link[0], n--) {
        if (due_of(r) < due && !is_hopeless(b, r, now)) due = r->due_ns;
    }
    return due;
}

/* Of `size` requests from r on, how many are in time if they run together. */
static uint32_t in_time(const ps_sched_bucket *b, const ps_sched_request *r, uint32_t size, int64_t now) {
    int64_t end = now + run_of(b, size);
    uint32_t n = 0;
    for (; r && size > 0; r = r->link[0], size--)
        n += due_of(r) >= end;
    return n;
}

/* The same question as in consider_skipping, where those that are too tight are not at the front: purge() takes them
 * out. */
static void consider_losing(const ps_sched_bucket *b, const ps_sched_request *front, candidate *c, uint32_t cap,
                            int64_t now) {
    const ps_profile *p = &b->profile;
    double most = in_time(b, front, c->items, now) / ps_profile_occupied(p, c->items);
    uint32_t small = c->items, size = ps_profile_best(p, cap);
    for (int probe = 0; probe < PROBES && size > small; probe++, size = ps_profile_best(p, size * 3 / 4)) {
        double rate = in_time(b, front, size, now) / ps_profile_occupied(p, size);
        if (rate <= most) continue;
        most = rate;
        c->items = size;
    }
}

/* Larger than what was measured: only a run can tell what it gains, and where every front is tight none would ever be
 * tried. */
static bool consider_trying(ps_sched_bucket *b, candidate *c, uint32_t n, const ps_sched_request *front, int64_t now) {
    uint32_t limit = ps_sched_limit(b), at, skip;
    if (limit <= b->profile.largest) return false;
    at = ps_sched_queue_before_order(&b->queue, front->rank, now + run_of(b, limit));
    skip = at > c->skip ? at - c->skip : 0;
    if (c->skip + skip >= b->queue.count - b->n_late || skip >= n || n - skip <= b->profile.largest) return false;
    c->skip += skip;
    c->items = n - skip < limit ? n - skip : limit;
    return true;
}

/* The front is so tight that its batch is small. Leaving some out may serve more (early drop: Nexus, SOSP 2019). While
 * nothing is scarce, whoever is left out is lost, and what the small batch makes late of the larger one is what
 * skipping saves. When all is scarce, somebody is lost for each that runs, and what counts is how many run in a second.
 * The larger a batch, the fewer have time for it: the largest size for which there are enough is looked for by halves
 * then. Before, smaller ones, which leave out fewer. */
static void consider_skipping(ps_sched_bucket *b, candidate *c, uint32_t n, double scarce, int64_t now) {
    const ps_profile *p = &b->profile;
    const ps_sched_request *front = ps_sched_queue_at(&b->queue, c->skip);
    if (consider_trying(b, c, n, front, now)) return;
    uint32_t base = c->skip, limit = ps_sched_limit(b), small = c->items;
    int64_t first_run = run_of(b, small);
    uint32_t size = ps_profile_best(p, n < limit ? n : limit), low = small, high = size, next;
    if (size <= small || small * ps_profile_occupied(p, size) >= NEAR_BEST * size * ps_profile_occupied(p, small))
        return;
    double rate = b->model->load / p->unit; /* items a ns */
    double each = 1 - scarce * (1 - SKIP_COST), common = (1 - scarce) * ps_profile_occupied(p, size);
    double most = scarce * small / (common + scarce * ps_profile_occupied(p, small));
    for (int probe = 0; probe < PROBES && size > small; probe++, size = next) {
        int64_t run = run_of(b, size);
        uint32_t at = ps_sched_queue_before_order(&b->queue, front->rank, now + run), skip = at > base ? at - base : 0;
        uint32_t have = skip < n ? n - skip : 0, items = ps_profile_best(p, have < size ? have : size);
        *(have < size ? &high : &low) = have < size ? size - 1 : size;
        next = scarce < 1 ? ps_profile_best(p, size * 3 / 4) : low < high ? (low + high + 1) / 2 : 0;
        if (base + skip >= b->queue.count || items <= small) continue;
        const ps_sched_request *r = ps_sched_queue_at(&b->queue, base + skip);
        if (r->late || r->rank != front->rank) continue;
        double short_by = (double)(now + first_run + run - r->due_ns);
        double lost = short_by > 0 ? rate * short_by : 0; /* of this batch, if the small one ran first */
        if (lost > items) lost = items;
        double gain = (scarce * items + (1 - scarce) * lost - each * skip) /
                      (common + scarce * ps_profile_occupied(p, items));
        if (gain <= most) continue;
        most = gain;
        c->skip = base + skip;
        c->items = items;
    }
}

/* While the device is full, not only one model in a burst, it costs nothing to run those that have time to spare
 * instead of those on the edge, as long as the batch stays as large. On the edge, all would be late if the machine
 * became slower, or the next batches small. */
static void leave_spare(const ps_sched_bucket *b, candidate *c, int64_t now) {
    const ps_sched_queue *q = &b->queue;
    const uint32_t in_time = q->count - b->n_late;
    const uint32_t seats = (uint32_t)ceil((double)c->items * q->count / (double)q->items);
    const uint32_t most = in_time > seats ? in_time - seats : 0;
    uint32_t skip = ps_sched_queue_before_order(q, c->rank, spare_end(b, c->items, now));
    if (skip > most) skip = most;
    if (skip > c->skip) c->skip = skip;
}

/* The first that can still be in time: on average, or where time is scarce with confidence, because half of those on
 * the edge would miss. Where none of the front's class can, the front itself, as one that is late. */
static const ps_sched_request *first_in_time(const ps_sched_bucket *b, double scarce, int64_t now, uint32_t *ret_skip,
                                             int64_t *ret_due) {
    const ps_sched_request *front = b->queue.link[0], *r;
    uint32_t size = size_of(b, front);
    int64_t need = ps_profile_mean(&b->profile, size);
    if (scarce > 0.5) need = run_of(b, size);
    *ret_skip = 0;
    *ret_due = due_of(front);
    if (front->late || now + need <= front->due_ns) return front;
    uint32_t skip = ps_sched_queue_before_order(&b->queue, front->rank, now + need);
    r = skip < b->queue.count ? ps_sched_queue_at(&b->queue, skip) : NULL;
    if (!r || r->late || r->rank != front->rank) {
        if (is_hopeless(b, front, now)) *ret_due = PS_SCHED_NEVER;
        return front;
    }
    *ret_skip = skip;
    *ret_due = due_of(r);
    return r;
}

static candidate make_candidate(ps_sched *s, ps_sched_bucket *b, double device, int64_t now) {
    double scarce = scarcity_of(b->model, device, now);
    int64_t due;
    candidate c = { .bucket = b, .efficiency = 1 };
    const ps_sched_request *front = first_in_time(b, scarce, now, &c.skip, &due);
    uint32_t limit = ps_sched_limit(b), n = available(s, b, scarce), first = c.skip;
    n = n > first ? n - first : 1;
    uint32_t cap = n < limit ? n : limit;
    c.rank = front->rank;
    c.aged = ps_sched_is_aged(s, b, now);
    c.items = best_size(b, due, cap, scarce, now);
    if (b->mixed) {
        due = tightest(b, front, c.items, now);
        c.items = best_size(b, due, cap, scarce, now);
        if (scarce > 0.5 && c.items < cap && b->profile.known) consider_losing(b, front, &c, cap, now);
    } else if (scarce > 0 && c.items < cap && due != PS_SCHED_NEVER && b->profile.known) {
        consider_skipping(b, &c, n, scarce, now);
    }
    uint32_t size = size_of(b, front) > c.items ? size_of(b, front) : c.items;
    c.run_ns = run_of(b, size);
    if (c.skip > first) due = now + c.run_ns;
    c.latest_ns = c.aged ? now : due == PS_SCHED_NEVER ? PS_SCHED_NEVER : due - c.run_ns;
    if (!b->mixed && due != PS_SCHED_NEVER && b->profile.known && device >= 1) leave_spare(b, &c, now);
    if (b->profile.known) c.efficiency = b->profile.unit * size / ps_profile_occupied(&b->profile, size);
    return c;
}

/* ---- between buckets ---- */

/* What is lost of `other`, in device time, if the device is taken until `run` from now: whatever is due within the time
 * by which its batch starts too late. What is queued is taken to be due evenly until its newest one is; a burst is due
 * all at once. What is to come is due after that. */
static double lost_by_waiting(const candidate *other, double run, int64_t now) {
    double slack = other->latest_ns > now ? (double)(other->latest_ns - now) : 0, over = run - slack;
    if (over <= 0 || other->latest_ns == PS_SCHED_NEVER) return 0;
    const ps_sched_bucket *b = other->bucket;
    double queued = b->backlog_ns * (b->queue.count - b->n_late) / b->queue.count;
    double span = (double)(b->queue.newest->due_ns - other->latest_ns - other->run_ns);
    if (span < 0) span = 0;
    return over < span ? queued * over / span : queued + other->load * (over - span);
}

/* A long batch makes requests with short targets late. The order of due times does not see it: it says
 * who has to start first, not who is lost then. */
static void weigh(candidate *c, const candidate *list, int n, double scarce, int64_t now) {
    double run = (double)c->run_ns / c->bucket->model->sched->slots;
    c->harm = 0;
    for (int i = 0; i < n; i++) {
        if (list[i].bucket->model != c->bucket->model) c->harm += lost_by_waiting(&list[i], run, now);
    }
    c->worth = scarce * c->efficiency - (c->harm > 0 ? HARM_WEIGHT * c->harm / run : 0);
}

static bool is_better(const candidate *a, const candidate *b, double gate, double behind) {
    if (a->bucket->model == b->bucket->model) { /* classes are a model's own */
        if (a->aged != b->aged) return a->aged;
        if (a->rank != b->rank) return a->rank < b->rank;
    }
    bool a_late = a->latest_ns == PS_SCHED_NEVER, b_late = b->latest_ns == PS_SCHED_NEVER;
    if (a_late != b_late) return b_late;
    bool a_share = a->bucket->model->virtual_ns <= behind + AHEAD_NS;
    bool b_share = b->bucket->model->virtual_ns <= behind + AHEAD_NS;
    if (a_share != b_share) return a_share;
    if ((a->harm > 0 || b->harm > 0) && (a->worth < b->worth || a->worth > b->worth)) return a->worth > b->worth;
    bool a_full = a->efficiency >= gate, b_full = b->efficiency >= gate;
    if (a_full != b_full) return a_full;
    return a->latest_ns < b->latest_ns;
}

/* Takes out of the batch's requests those that it would answer too late: they leave their seats to others. In order of
 * due times only a front that settle had no budget for can be among them. */
static void purge(ps_sched *s, const candidate *c, int64_t now) {
    ps_sched_bucket *b = c->bucket;
    int64_t end = now + ps_profile_mean(&b->profile, c->items);
    ps_sched_request *r = ps_sched_queue_at(&b->queue, c->skip), *next;
    for (uint32_t n = 0, seen = 0; r && !r->late && n < c->items && seen < 2 * c->items; r = next, seen++) {
        next = r->link[0];
        if (r->due_ns >= end) {
            n += r->items;
            continue;
        }
        ps_sched_count_lost(r, now);
        if (r->deadline_ns)
            ps_sched_drop(s, r, PS_SCHED_TOO_LATE);
        else
            make_late(b, r);
    }
}

static bool pick(ps_sched *s, int64_t now, candidate *ret) {
    candidate list[PS_SCHED_LOOK];
    int n = 0, budget = SETTLE;
    double scarce = scarcity(s, now), behind = 0;
    ps_sched_bucket *looked[PS_SCHED_LOOK];
    const int n_looked = ps_sched_look(s, looked);
    for (int i = 0; i < n_looked; i++) {
        ps_sched_bucket *b = looked[i];
        settle(s, b, now, &budget);
        if (b->queue.count == 0) continue;
        if (n == 0 || b->model->virtual_ns < behind) behind = b->model->virtual_ns;
        list[n++] = make_candidate(s, b, scarce, now);
    }
    if (n == 0) return false;
    const candidate *best = &list[0];
    for (int i = 0; n > 1 && i < n; i++) {
        const ps_sched_model *m = list[i].bucket->model;
        list[i].load = ps_sched_decayed(m->load, m->load_ns, now);
    }
    for (int i = 0; n > 1 && i < n; i++)
        weigh(&list[i], list, n, scarce, now);
    for (int i = 1; i < n; i++) {
        if (is_better(&list[i], best, scarce * GATE, behind)) best = &list[i];
    }
    *ret = *best;
    return true;
}

static void choose(ps_sched *s, int64_t now, ps_sched_choice *ret) {
    candidate c;
    /* Again where what was best is gone, or led by another one that nobody can answer in time; in order of due times
     * there is no better one behind it, and a run tells whether what is known of its time still holds. */
    for (int again = 0; pick(s, now, &c); again++) {
        const ps_sched_queue *q = &c.bucket->queue;
        const ps_sched_request *first = ps_sched_queue_at(q, c.skip);
        if (c.bucket->mixed || (!first->late && is_hopeless(c.bucket, first, now))) purge(s, &c, now);
        if (q->count == 0) continue;
        if (c.skip >= q->count) c.skip = 0;
        first = ps_sched_queue_at(q, c.skip);
        if (c.bucket->mixed && again < AGAIN && !first->late && is_hopeless(c.bucket, first, now)) continue;
        ret->bucket = c.bucket;
        ret->skip = c.skip;
        ret->items = c.items;
        return;
    }
}

/* ---- admission ---- */

/* The size of a full batch in a steady state: it leaves time to collect it, and to wait for the one before. At a rate
 * of `rate` items a ns that is the largest b with b / rate + L(b) <= target; at the rate that just fills the device, 2
 * L(b). */
static uint32_t steady_size(const ps_sched_bucket *b, double rate, double scarce) {
    const ps_profile *p = &b->profile;
    int64_t target = (int64_t)((double)ps_sched_target(b) / (1 + b->model->guard));
    uint32_t least = ps_profile_fits(p, target / 2, ps_sched_limit(b)), most = scarce > 0 ? ps_sched_limit(b) : least;
    while (least < most) {
        uint32_t middle = (least + most + 1) / 2;
        if (ps_profile_fits(p, target - (int64_t)(middle / rate), middle) == middle)
            least = middle;
        else
            most = middle - 1;
    }
    return ps_profile_best(p, least ? least : 1);
}

/* Of a batch of so many, which while all is scarce is going to be one of `full`: with confidence then, because who is
 * let in with less makes every batch after it smaller. */
static double time_of(const ps_sched_bucket *b, uint32_t size, uint32_t full, double scarce) {
    double mean = (double)ps_profile_mean(&b->profile, size);
    return mean + scarce * ((double)run_of(b, full) - mean);
}

/* Requests that have their turn before r. Not those that leave_spare will leave out for the next full batch: who comes
 * now would else be refused for the sake of some that are going to be dropped. */
static uint32_t queued_before(const ps_sched_bucket *b, const ps_sched_request *r, uint32_t full, double device,
                              int64_t now) {
    uint32_t before = ps_sched_queue_before(&b->queue, r);
    if (b->mixed || before == 0 || device < 1) return before;
    int64_t end = spare_end(b, full, ps_sched_free_at(b->model->sched, now));
    uint32_t tight = ps_sched_queue_before_order(&b->queue, b->queue.link[0]->rank, end);
    return before > tight ? before - tight : 0;
}

/* ns from when the device is free, until a request is done that comes now. */
static double time_until_done(const ps_sched_bucket *b, const ps_sched_request *r, double device, int64_t now) {
    double scarce = scarcity_of(b->model, device, now);
    /* Runs at once: no batch after it becomes smaller. */
    const bool at_once = b->queue.count == 0 && !ps_sched_is_full(b->model->sched);
    if (at_once) return time_of(b, size_of(b, r), size_of(b, r), scarce);
    uint32_t full = steady_size(b, b->model->load / b->profile.unit, scarce);
    double items_each = b->queue.count ? (double)b->queue.items / b->queue.count : 1;
    uint32_t items = (uint32_t)(queued_before(b, r, full, device, now) * items_each) + size_of(b, r);
    uint32_t rest = items % full ? items % full : full;
    return (double)(items - rest) / full * ps_profile_occupied(&b->profile, full) + time_of(b, rest, full, scarce);
}

/* Refused is what could not be in time even if its model had the device for itself: whether the others' requests will
 * come first is not known yet, and what turns out to be too late is dropped. */
static ps_sched_reason admit(ps_sched *s, ps_sched_bucket *b, const ps_sched_request *r, int64_t now,
                             ps_sched_verdict *verdict) {
    if (!b->profile.known) return PS_SCHED_OK;
    int budget = SETTLE_ON_ADMIT;
    settle(s, b, now, &budget);
    double own = time_until_done(b, r, scarcity(s, now), now);
    double others = s->backlog_ns - b->backlog_ns, weight = b->model->weight;
    double active = s->model_weight + (b->model->queued == 0 ? weight : 0);
    double share = own * (active / weight - 1); /* the others' part while this one is served */
    if (others > share) others = share;
    int64_t alone = ps_sched_free_at(s, now) + (int64_t)(own / s->slots);
    verdict->finish_ns = alone + (int64_t)((others > 0 ? others : 0) / s->slots);
    if (r->deadline_ns) verdict->finish_ns += r->deadline_ns - r->due_ns;
    if (!r->deadline_ns || alone <= r->due_ns) return PS_SCHED_OK;
    verdict->retry_after_ns = verdict->finish_ns - r->deadline_ns;
    return PS_SCHED_TOO_LATE;
}

const ps_sched_policy ps_sched_policy_deadline = { "deadline", true, admit, choose, NULL };
