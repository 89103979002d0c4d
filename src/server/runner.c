#include "server/runner.h"

#include "base/os.h"
#include "server/batch.h"
#include "server/schedule.h"
#include "server/tenants.h"

typedef struct worker {
    ps_runner *runner;
    ps_thread thread;
    ps_cond wake;
    struct worker *next_idle;
    bool idle; /* in the runner's list */
    ps_batch_room room;
    PS_VEC(ps_infer *) infers; /* of the batch that runs */
} worker;

struct ps_runner {
    ps_alloc_state *alloc;
    ps_runner_options options;
    ps_mutex lock;
    ps_sched *sched;      /* guarded by lock, like all below */
    ps_tenants *tenants;  /* not guarded: does not change */
    worker *idle;         /* last in, first out: the thread whose caches are warm */
    atomic_size_t queued; /* admitted and not yet taken to run or dropped; may be read without the lock */
    int busy, leaving;    /* leaving: requests that were given up and are being answered by whoever did that */
    ps_cond left;         /* the last of them is */
    bool stopping;
    int cancel;                         /* atomic; ps_run_options.cancel of every run */
    atomic_llong run_ns;                /* mean of the last runs */
    atomic_llong way_ns, way_spread_ns; /* from a run's end until the answer is sent: mean, mean distance from it */
    ps_coming_list coming;
    ps_waits *unread; /* deferred requests; keys are served models */
    worker *workers;
    int n_workers, started;
};

/* deferred requests that are read when one ends, or at a look that finds nothing else to do */
enum { READ_EACH = 2, READ_IDLE = 256 };
/* Who waited for so long has a seat, whoever else is there: as long as a request may be deferred. */
#define AGEING_NS INT64_C(10000000000)

static ps_infer *infer_of(ps_sched_request *r) {
    return (ps_infer *)r; /* its first member */
}

/* ---- ends ---- */

/* The last that the core does with a request. */
static void finish(ps_infer *infer) {
    ps_infer_drop_served(infer); /* not when the reply has been sent: a slow client must not hold a model */
    infer->done(infer);
}

static ps_status enqueue(ps_infer *infer, ps_error *err);

/* Returns the sequence's next request, whose turn it is. */
static ps_infer *pass_turn(ps_infer *infer) {
    ps_runner *runner = infer->runner;
    ps_mutex_lock(&runner->lock);
    ps_infer *next = ps_sequence_leave(infer);
    if (next) next->behind = false;
    ps_mutex_unlock(&runner->lock);
    return next;
}

/* The request gives its turn to the next of its sequence, if it has one. */
static void leave_sequence(ps_infer *infer) {
    ps_infer *next = infer->sequence ? pass_turn(infer) : NULL;
    ps_error err = PS_ERROR_INIT;
    ps_status status;
    while (next && (status = enqueue(next, &err)) != PS_OK) { /* if OK, it may be another thread's already */
        ps_infer *refused = next;
        refused->status = status;
        refused->error = err;
        err = (ps_error)PS_ERROR_INIT;
        next = pass_turn(refused);
        ps_core_count_refusal(refused, refused->status);
        finish(refused);
    }
}

/* Called with the lock held. */
static uint32_t coming_to(ps_runner *runner, const ps_served *served, int64_t now) {
    return (uint32_t)ps_coming_count(&runner->coming, served, now);
}

static bool has_room(ps_runner *runner, const ps_served *served) {
    const int64_t now = ps_clock_ns();
    ps_mutex_lock(&runner->lock);
    const bool room = runner->stopping || !served->schedule ||
                      ps_sched_has_room(runner->sched, served->schedule, coming_to(runner, served, now));
    ps_mutex_unlock(&runner->lock);
    return room;
}

/* Whoever leaves may make room for those that are deferred. */
static void read_some(ps_runner *runner, const ps_served *served) {
    if (ps_waits_any(runner->unread) && has_room(runner, served))
        ps_waits_end_some(runner->unread, served, READ_EACH);
}

static void end(ps_runner *runner, ps_infer *infer) {
    infer->sample.total = ps_clock_ns() - infer->arrived_ns;
    infer->sample.missed = infer->loaded_ns != 0;
    if (infer->status == PS_OK)
        ps_stats_success(infer->served->stats, &infer->sample);
    else
        ps_stats_fail(infer->served->stats, ps_core_failure(infer, infer->status), infer->sample.total);
    ps_trace_request(runner->options.trace, infer, &infer->sample);
    if (infer->route.entry) ps_routed_done(&infer->route, infer->status, infer->loaded_ns ? -1 : infer->sample.total);
    leave_sequence(infer);
    read_some(runner, infer->served);
    finish(infer);
}

/* Without the lock. */
static void end_dropped(ps_runner *runner, ps_sched_request *dropped) {
    while (dropped) {
        ps_infer *infer = infer_of(dropped);
        dropped = dropped->next;
        infer->status = ps_schedule_dropped(infer, &infer->error);
        end(runner, infer);
    }
}

/* ---- crowds ---- */

enum { RUN_WEIGHT = 8, CROWD = 16 /* requests a worker, which keep it busy longer than the pause */ };
#define LONG_RUN_NS (4 * PS_GATHER_NS)

bool ps_runner_is_crowded(const ps_runner *runner) {
    return atomic_load_explicit(&runner->queued, memory_order_relaxed) >= CROWD * (size_t)runner->n_workers &&
           atomic_load_explicit(&runner->run_ns, memory_order_relaxed) >= LONG_RUN_NS;
}

/* ---- the way to the client ---- */

#define MOST_WAY_NS INT64_C(50000000) /* more is a client's doing */
enum { WAY_WEIGHT = 32 };

/* Threads of a front end may lose each other's samples; there are more. */
void ps_runner_sent(ps_runner *runner, const ps_infer *infer, int64_t now_ns) {
    if (!infer->sample.queue) return; /* it did not wait for a thread */
    long long way = now_ns - (infer->arrived_ns + infer->sample.total);
    if (way > MOST_WAY_NS) way = MOST_WAY_NS;
    long long mean = atomic_load_explicit(&runner->way_ns, memory_order_relaxed), apart = way - mean;
    long long spread = atomic_load_explicit(&runner->way_spread_ns, memory_order_relaxed);
    atomic_store_explicit(&runner->way_ns, mean + apart / WAY_WEIGHT, memory_order_relaxed);
    spread += ((apart < 0 ? -apart : apart) - spread) / WAY_WEIGHT;
    atomic_store_explicit(&runner->way_spread_ns, spread, memory_order_relaxed);
}

/* There and back. The way of a request to its front end leaves no trace, but it is the same threads and the same
 * processor that are busy. With two deviations, as the time of a run. */
static int64_t transit(ps_runner *runner) {
    return 2 * (atomic_load_explicit(&runner->way_ns, memory_order_relaxed) +
                2 * atomic_load_explicit(&runner->way_spread_ns, memory_order_relaxed));
}

/* ---- quick requests ---- */

static uint64_t quick_key(const ps_infer *infer) {
    uint64_t key = ps_quick_mix(infer->form, infer->n_inputs);
    for (size_t i = 0; i < infer->n_tensors; i++) {
        const ps_tensor *t = infer->tensors[i];
        const ps_shape *shape = t ? ps_tensor_shape(t) : NULL;
        key = ps_quick_mix(key, shape ? (uint64_t)shape->rank : UINT64_MAX);
        for (int k = 0; shape && k < shape->rank; k++)
            key = ps_quick_mix(key, (uint64_t)shape->dims[k]);
    }
    for (size_t i = 0; i < infer->n_wants; i++) {
        const ps_infer_want *w = &infer->wants[i];
        key = ps_quick_mix(key, (uint64_t)infer->selected[i] << 2 | (uint64_t)w->binary << 1 | (w->shm != NULL));
        key = ps_quick_mix(key, (uint64_t)w->classes);
    }
    return key ? key : 1;
}

static void count_quick(ps_infer *infer, bool here) {
    const ps_stats_sample *sample = &infer->sample;
    if (infer->quick_key && infer->status == PS_OK && sample->batch)
        ps_quick_count(&infer->served->quick, infer->quick_key, sample->input + sample->infer + sample->output, here);
}

/* Only while nobody waits, so that no request overtakes another. A quick request gains nothing from more threads.
 * false: the run was stopped because it is not quick at all, and nothing has happened to the request; or it failed, and
 * the request is another version's now. */
static bool run_here(ps_runner *runner, ps_infer *infer) {
    ps_quick *quick = &infer->served->quick;
    ps_batch_run run = { .kind = PS_SESSION_NARROW, .cancel = &runner->cancel, .shadow = runner->options.shadow };
    if (atomic_load_explicit(&runner->queued, memory_order_relaxed) ||
        !ps_quick_is(quick, infer->quick_key, infer->here_ns))
        return false;
    infer->sample = (ps_stats_sample) { 0 };
    run.stop_ns = infer->queued_ns + PS_QUICK_LIMIT_NS;
    ps_batch_run_all(&run, &infer, 1);
    if (infer->status == PS_DEADLINE && !(infer->deadline_ns && ps_clock_ns() >= infer->deadline_ns)) {
        ps_quick_strike(quick, infer->quick_key);
        infer->error = (ps_error)PS_ERROR_INIT;
        return false;
    }
    if (infer->status != PS_OK && ps_core_try_again(infer)) return false;
    count_quick(infer, true);
    end(runner, infer);
    return true;
}

/* ---- threads ---- */

static void wake_one(ps_runner *runner) {
    worker *w = runner->idle;
    if (!w) return;
    runner->idle = w->next_idle;
    w->idle = false;
    ps_cond_signal(&w->wake);
}

/* Until it is woken, or until_ns (0: no end). */
static void sleep_until(worker *w, int64_t until_ns) {
    ps_runner *runner = w->runner;
    w->idle = true;
    w->next_idle = runner->idle;
    runner->idle = w;
    while (w->idle) {
        if (!until_ns)
            ps_cond_wait(&w->wake, &runner->lock);
        else if (!ps_cond_wait_until(&w->wake, &runner->lock, until_ns))
            break;
    }
    for (worker **at = &runner->idle; w->idle && *at; at = &(*at)->next_idle)
        if (*at == w) {
            *at = w->next_idle;
            w->idle = false;
            break;
        }
}

/* Those of a batch as an array, as far as there is room. */
static size_t list_infers(worker *w, const ps_sched_batch *batch) {
    int64_t now = ps_clock_ns();
    w->infers.size = 0;
    for (ps_sched_request *r = batch->first; r; r = r->next) {
        ps_infer *infer = infer_of(r);
        infer->sample = (ps_stats_sample) { .queue = now - infer->queued_ns };
        infer->status = PS_NO_MEMORY;
        if (ps_vec_push(w->runner->alloc, &w->infers, infer)) continue;
        (void)PS_FAIL_NOMEM(&infer->error, "a batch");
    }
    return w->infers.size;
}

static void run_batch(worker *w, ps_sched_batch *batch, bool alone, int64_t *ret_measured) {
    ps_runner *runner = w->runner;
    ps_batch_run run = { .cancel = &runner->cancel, .room = &w->room, .shadow = runner->options.shadow };
    /* A request that is alone gets all threads of the engine; runs that share the machine get one each. */
    run.kind = runner->n_workers > 1 && !alone ? PS_SESSION_NARROW : PS_SESSION_WIDE;
    size_t n = list_infers(w, batch);
    if (n) ps_batch_run_all(&run, w->infers.data, n);
    *ret_measured = run.measured_ns;
    if (run.measured_ns) batch->items = run.items;
    batch->cut = run.cut;
}

/* Those that their version failed, by the one that is to try instead: here, as they have been admitted once. */
static void run_again(worker *w, size_t n) {
    ps_runner *runner = w->runner;
    ps_infer **infers = w->infers.data;
    for (size_t from = 0, to; from < n; from = to) {
        ps_batch_run run = {
            .kind = PS_SESSION_NARROW, .cancel = &runner->cancel, .room = &w->room, .shadow = runner->options.shadow
        };
        for (to = from + 1; to < n && infers[to]->served == infers[from]->served; to++)
            continue;
        ps_batch_run_all(&run, infers + from, to - from);
        for (size_t i = from; i < to; i++)
            end(runner, infers[i]);
    }
}

/* The lock is held before and after. */
static void run_next(worker *w, ps_sched_batch *batch) {
    ps_runner *runner = w->runner;
    int64_t measured = 0;
    runner->queued -= batch->requests;
    runner->busy++;
    bool alone = runner->busy == 1 && runner->queued == 0;
    if (runner->queued) wake_one(runner);
    ps_mutex_unlock(&runner->lock);
    run_batch(w, batch, alone, &measured);
    ps_mutex_lock(&runner->lock);
    runner->busy--;
    const long long mean = atomic_load_explicit(&runner->run_ns, memory_order_relaxed);
    atomic_store_explicit(&runner->run_ns, mean + (measured - mean) / RUN_WEIGHT, memory_order_relaxed);
    ps_sched_complete(runner->sched, batch, measured, ps_clock_ns());
    ps_mutex_unlock(&runner->lock);
    size_t again = 0;
    for (ps_sched_request *r = batch->first, *next; r; r = next) {
        ps_infer *infer = infer_of(r);
        next = r->next;
        count_quick(infer, false);
        if (again < w->infers.size && ps_core_try_again(infer))
            w->infers.data[again++] = infer; /* they have been run: the list is free */
        else
            end(runner, infer);
    }
    run_again(w, again);
    ps_mutex_lock(&runner->lock);
}

static size_t count(const ps_sched_request *r) {
    size_t n = 0;
    for (; r; r = r->next)
        n++;
    return n;
}

static void work(void *ctx) {
    worker *w = ctx;
    ps_runner *runner = w->runner;
    ps_mutex_lock(&runner->lock);
    for (;;) {
        ps_sched_batch batch;
        int64_t until_ns = 0;
        ps_sched_action action = ps_sched_next(runner->sched, ps_clock_ns(), &batch, &until_ns);
        ps_sched_request *dropped = ps_sched_take_dropped(runner->sched);
        if (dropped) {
            runner->queued -= count(dropped);
            ps_mutex_unlock(&runner->lock);
            end_dropped(runner, dropped);
            ps_mutex_lock(&runner->lock);
        }
        if (action == PS_SCHED_RUN)
            run_next(w, &batch);
        else if (runner->stopping && !runner->queued)
            break;
        else if (!dropped)
            sleep_until(w, action == PS_SCHED_WAIT ? until_ns : 0);
    }
    while (runner->idle)
        wake_one(runner);
    ps_mutex_unlock(&runner->lock);
}

/* ---- submitting ---- */

/* Puts the request into the scheduler's queue. */
static ps_status enqueue(ps_infer *infer, ps_error *err) {
    ps_runner *runner = infer->runner;
    ps_sched_verdict verdict = { .reason = PS_SCHED_REMOVED };
    ps_schedule_fill(infer, runner->options.target_ns, runner->tenants);
    ps_mutex_lock(&runner->lock);
    ps_status status = PS_OK;
    if (!runner->stopping)
        status = ps_schedule_model(runner->sched, runner->options.target_ns, runner, infer->served, err);
    ps_sched_set_transit(runner->sched, transit(runner));
    if (!runner->stopping && status == PS_OK)
        verdict = ps_sched_admit(runner->sched, infer->served->schedule, &infer->request, ps_clock_ns());
    bool gone = verdict.reason == PS_SCHED_OK && atomic_load_explicit(&infer->abandoned, memory_order_relaxed) &&
                ps_sched_cancel(runner->sched, &infer->request); /* given up before it was here */
    runner->queued += verdict.reason == PS_SCHED_OK && !gone;
    wake_one(runner); /* also after a refusal, which may have dropped others */
    ps_mutex_unlock(&runner->lock);
    if (gone) return ps_schedule_given_up(infer, err);
    if (status != PS_OK || verdict.reason == PS_SCHED_OK) return status;
    return ps_schedule_refused(infer, &verdict, err);
}

/* Where others wait already: is there no time for this one? To park a request costs a front end several system calls,
 * and in a crowd most may be refused. */
static bool refused_at_once(ps_infer *infer, ps_status *ret, ps_error *err) {
    ps_runner *runner = infer->runner;
    ps_sched_verdict verdict;
    bool refused = false;
    if (*infer->sequence_id || !atomic_load_explicit(&runner->queued, memory_order_relaxed)) return false;
    ps_schedule_fill(infer, runner->options.target_ns, runner->tenants);
    ps_mutex_lock(&runner->lock);
    if (!runner->stopping && infer->served->schedule && infer->request.deadline_ns) {
        ps_sched_set_transit(runner->sched, transit(runner));
        refused =
            ps_sched_refuses(runner->sched, infer->served->schedule, &infer->request, ps_clock_ns(), &verdict);
        if (refused) wake_one(runner); /* others may have been dropped */
    }
    ps_mutex_unlock(&runner->lock);
    if (refused) *ret = ps_schedule_refused(infer, &verdict, err);
    return refused;
}

static ps_status enter_sequence(ps_infer *infer, bool *ret_waits, ps_error *err) {
    ps_runner *runner = infer->runner;
    ps_mutex_lock(&runner->lock);
    ps_status status = ps_sequence_enter(infer, ret_waits, err);
    bool gone = *ret_waits && atomic_load_explicit(&infer->abandoned, memory_order_relaxed);
    if (gone) ps_sequence_withdraw(infer);
    infer->behind = *ret_waits && !gone;
    ps_mutex_unlock(&runner->lock);
    return gone ? ps_schedule_given_up(infer, err) : status;
}

ps_status ps_runner_submit(ps_runner *runner, ps_infer *infer, ps_error *err) {
    infer->runner = runner;
    infer->queued_ns = ps_clock_ns();
    bool waits = false;
    if (infer->here_ns && !*infer->sequence_id) {
        infer->quick_key = quick_key(infer);
        if (run_here(runner, infer)) return PS_OK;
    }
    ps_status status;
    if (refused_at_once(infer, &status, err)) return status;
    if (infer->park) infer->park(infer);
    if (*infer->sequence_id) PS_TRY(enter_sequence(infer, &waits, err));
    if (waits) return PS_OK; /* it belongs to whoever runs before it */
    status = enqueue(infer, err);
    if (status == PS_OK || !infer->sequence) return status; /* if OK, it belongs to a thread */
    infer->status = status;
    leave_sequence(infer);
    return status;
}

/* ---- bodies that are not read yet ---- */

bool ps_runner_defers(ps_runner *runner, const ps_served *served, ps_coming *c) {
    bool late = false;
    if (runner->options.target_ns || served->config.timeout_us || ps_tenants_any(runner->tenants)) return false;
    const int64_t now = ps_clock_ns();
    ps_mutex_lock(&runner->lock);
    if (!runner->stopping && served->schedule) {
        ps_sched_set_transit(runner->sched, transit(runner));
        late = ps_sched_defers(runner->sched, served->schedule, coming_to(runner, served, now), now);
    }
    if (!late) ps_coming_add(&runner->coming, c, served, now);
    ps_mutex_unlock(&runner->lock);
    return late;
}

void ps_runner_comes(ps_runner *runner, const void *served, ps_coming *c) {
    const int64_t now = ps_clock_ns();
    ps_mutex_lock(&runner->lock);
    ps_coming_add(&runner->coming, c, served, now);
    ps_mutex_unlock(&runner->lock);
}

void ps_runner_came(ps_runner *runner, ps_coming *c) {
    ps_mutex_lock(&runner->lock);
    ps_coming_remove(&runner->coming, c);
    ps_mutex_unlock(&runner->lock);
}

bool ps_runner_defer(ps_runner *runner, const ps_served *served, ps_wait *w) {
    w->until_ns = ps_clock_ns() + AGEING_NS;
    if (!ps_waits_add(runner->unread, served, w)) return false;
    /* those that it was to wait for may have gone before it was in the list */
    return !has_room(runner, served) || !ps_runner_undefer(runner, w);
}

bool ps_runner_undefer(ps_runner *runner, ps_wait *w) {
    return ps_waits_remove(runner->unread, w);
}

void ps_runner_read_next(ps_runner *runner, const void *served) {
    if (ps_waits_any(runner->unread)) ps_waits_end_some(runner->unread, served, 1);
}

void ps_runner_read_if_idle(ps_runner *runner) {
    ps_mutex_lock(&runner->lock);
    const bool idle = runner->busy == 0 && runner->queued == 0;
    ps_mutex_unlock(&runner->lock);
    if (idle && ps_waits_any(runner->unread)) ps_waits_end_some(runner->unread, NULL, READ_IDLE);
}

void ps_runner_read_all(ps_runner *runner) {
    ps_waits_end(runner->unread, NULL);
}

/* ---- giving up ---- */

/* Called with the lock held. */
static bool withdraw(ps_runner *runner, ps_infer *infer) {
    if (infer->behind) {
        infer->behind = false;
        ps_sequence_withdraw(infer);
        return true;
    }
    if (!ps_sched_cancel(runner->sched, &infer->request)) return false;
    runner->queued--;
    wake_one(runner); /* what it held up may go; a runner that stops may have waited for it */
    return true;
}

bool ps_runner_give_up(ps_runner *runner, ps_infer *infer) {
    ps_mutex_lock(&runner->lock);
    atomic_store_explicit(&infer->abandoned, true, memory_order_relaxed);
    bool left = withdraw(runner, infer);
    runner->leaving += left;
    ps_mutex_unlock(&runner->lock);
    return left;
}

void ps_runner_end_given_up(ps_runner *runner, ps_infer *infer) {
    infer->status = ps_schedule_given_up(infer, &infer->error);
    end(runner, infer);
    ps_mutex_lock(&runner->lock);
    if (--runner->leaving == 0) ps_cond_broadcast(&runner->left);
    ps_mutex_unlock(&runner->lock);
}

void ps_runner_cancel(ps_runner *runner) {
    __atomic_store_n(&runner->cancel, 1, __ATOMIC_RELAXED);
}

void ps_runner_forget(ps_runner *runner, ps_served *s) {
    ps_schedule_keep(s, &runner->lock);
    ps_mutex_lock(&runner->lock);
    ps_sched_remove_model(runner->sched, s->schedule);
    ps_mutex_unlock(&runner->lock);
    s->schedule = NULL;
    ps_waits_end(runner->unread, s);
}

bool ps_runner_stats(ps_runner *runner, const ps_served *served, ps_sched_stats *ret) {
    ps_mutex_lock(&runner->lock);
    bool known = served->schedule != NULL;
    if (known) ps_sched_model_stats(served->schedule, ret);
    ps_mutex_unlock(&runner->lock);
    if (known) ret->deferred = (uint32_t)ps_waits_count(runner->unread, served);
    return known;
}

/* ---- life ---- */

static ps_status start(ps_runner *runner, ps_error *err) {
    ps_sched_options o = { .policy = runner->options.policy,
                           .slots = (uint32_t)runner->n_workers,
                           .max_queue = PS_RUNNER_MAX_QUEUE,
                           .ageing_ns = AGEING_NS,
                           .knobs = runner->options.knobs };
    if (o.slots > PS_SCHED_MAX_SLOTS) o.slots = PS_SCHED_MAX_SLOTS;
    PS_TRY(ps_sched_create(runner->alloc, &o, &runner->sched, err));
    PS_TRY(ps_waits_create(runner->alloc, &runner->unread, err));
    PS_TRY(ps_tenants_create(runner->alloc, runner->sched, runner->options.tenants, &runner->tenants, err));
    runner->options.tenants = NULL;
    runner->workers = ps_alloc_zero(runner->alloc, (size_t)runner->n_workers * sizeof *runner->workers);
    if (!runner->workers) return PS_FAIL_NOMEM(err, "the runners");
    for (int i = 0; i < runner->n_workers; i++) {
        worker *w = &runner->workers[i];
        w->runner = runner;
        if (!ps_cond_init(&w->wake) || !ps_thread_start(&w->thread, "ps-run", work, w))
            return PS_FAIL(err, NO_MEMORY, "no thread for the runners could be started");
        runner->started++;
    }
    return PS_OK;
}

ps_status ps_runner_create(ps_alloc_state *alloc, const ps_runner_options *options, ps_runner **ret, ps_error *err) {
    ps_runner *runner = ps_alloc_zero(alloc, sizeof *runner);
    if (!runner) return PS_FAIL_NOMEM(err, "the runners");
    bool lock = ps_mutex_init(&runner->lock);
    if (!lock || !ps_cond_init(&runner->left)) {
        if (lock) ps_mutex_destroy(&runner->lock);
        ps_free(alloc, runner);
        return PS_FAIL_NOMEM(err, "the runners");
    }
    runner->alloc = alloc;
    runner->options = *options;
    runner->n_workers = options->threads ? options->threads : ps_cpu_count();
    ps_status status = start(runner, err);
    if (status != PS_OK) {
        ps_runner_free(runner);
        return status;
    }
    *ret = runner;
    return PS_OK;
}

void ps_runner_stop(ps_runner *runner) {
    ps_mutex_lock(&runner->lock);
    runner->stopping = true;
    while (runner->idle)
        wake_one(runner);
    ps_mutex_unlock(&runner->lock);
    if (runner->unread) ps_runner_read_all(runner);
    for (int i = 0; i < runner->started; i++)
        ps_thread_join(runner->workers[i].thread);
    runner->started = 0;
    ps_mutex_lock(&runner->lock);
    while (runner->leaving)
        ps_cond_wait(&runner->left, &runner->lock);
    ps_mutex_unlock(&runner->lock);
}

void ps_runner_free(ps_runner *runner) {
    if (!runner) return;
    ps_runner_stop(runner);
    for (int i = 0; runner->workers && i < runner->n_workers; i++) {
        ps_batch_room_release(runner->alloc, &runner->workers[i].room);
        ps_vec_release(runner->alloc, &runner->workers[i].infers);
        ps_cond_destroy(&runner->workers[i].wake);
    }
    ps_tenants_free(runner->tenants);
    ps_waits_free(runner->unread);
    ps_sched_free(runner->sched);
    ps_cond_destroy(&runner->left);
    ps_mutex_destroy(&runner->lock);
    ps_free(runner->alloc, runner->workers);
    ps_free(runner->alloc, runner);
}
