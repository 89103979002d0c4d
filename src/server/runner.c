#include "server/runner.h"

#include "base/os.h"
#include "server/classify.h"

struct ps_runner {
    ps_alloc_state *alloc;
    ps_pool *pool;
    ps_trace *trace;
    int threads;
    int cancel; /* atomic; ps_run_options.cancel of every run */
};

/* A request that is alone gets all threads of the engine; requests that share the machine get one each. */
static ps_session_kind choose_kind(ps_runner *runner) {
    return runner->threads > 1 && ps_pool_load(runner->pool) > 1 ? PS_SESSION_NARROW : PS_SESSION_WIDE;
}

static ps_status collect(ps_infer *infer, ps_tensor *const *outputs, ps_error *err) {
    for (size_t i = 0; i < infer->n_wants; i++) {
        const ps_infer_want *w = &infer->wants[i];
        const ps_tensor *t = outputs[infer->selected[i]];
        infer->results[i] = (ps_infer_tensor) { w->name, ps_tensor_dtype(t), *ps_tensor_shape(t), ps_tensor_elements(t),
                                                ps_tensor_data_const(t) };
        if (w->classes > 0) PS_TRY(ps_classify(infer->served, &infer->arena, w->classes, &infer->results[i], err));
    }
    return PS_OK;
}

static int64_t earlier(int64_t a, int64_t b) { /* 0: never */
    return a && (!b || a < b) ? a : b;
}

/* stop_ns: of ps_clock_ns, or 0; the run ends with PS_DEADLINE then, as at the request's own deadline. */
static ps_status run_session(ps_infer *infer, ps_session *session, int64_t stop_ns, ps_stats_sample *sample,
                             ps_error *err) {
    const ps_served *s = infer->served;
    ps_run_options options = PS_RUN_OPTIONS_INIT;
    int64_t start = ps_clock_ns();
    ps_tensor **outputs = ps_arena_array(&infer->arena, s->n_outputs + 1, sizeof *outputs);
    if (!outputs) return PS_FAIL_NOMEM(err, "the outputs of a request");
    options.cancel = &infer->runner->cancel;
    options.deadline_ns = earlier(infer->deadline_ns, stop_ns);
    if (infer->sequence) PS_TRY(ps_sequence_bind(infer, err));
    if (infer->prepare) PS_TRY(infer->prepare(infer, err));
    int64_t bound = ps_clock_ns();
    ps_status status = ps_session_run(session, (const ps_tensor *const *)infer->tensors, s->n_inputs, outputs,
                                      s->n_outputs, &options, err);
    if (status != PS_OK) {
        ps_error_prefix(err, "model '%s'", s->name);
        return status;
    }
    int64_t ran = ps_clock_ns();
    PS_TRY(collect(infer, outputs, err));
    PS_TRY(infer->encode(infer, err));
    if (infer->sequence) PS_TRY(ps_sequence_keep(infer, outputs, err));
    sample->input = bound - start;
    sample->infer = ran - bound;
    sample->output = ps_clock_ns() - ran;
    return PS_OK;
}

static ps_status run_infer(ps_infer *infer, ps_session_kind kind, int64_t stop_ns, ps_stats_sample *sample,
                           ps_error *err) {
    ps_session *session;
    PS_FAIL_IF(__atomic_load_n(&infer->runner->cancel, __ATOMIC_RELAXED), err, UNAVAILABLE,
               "the server is shutting down");
    PS_FAIL_IF(infer->deadline_ns && ps_clock_ns() >= infer->deadline_ns, err, DEADLINE,
               "model '%s': the request waited for longer than its timeout of %lld microseconds", infer->served->name,
               (long long)((infer->deadline_ns - infer->arrived_ns) / 1000));
    PS_FAIL_IF(atomic_load_explicit(&infer->abandoned, memory_order_relaxed), err, CANCELLED,
               "model '%s': the client gave the request up", infer->served->name);
    PS_TRY(ps_served_take_session(infer->served, kind, &session, err));
    ps_status status = run_session(infer, session, stop_ns, sample, err);
    ps_served_put_session(infer->served, kind, session);
    if (status == PS_NO_MEMORY) ps_served_drop_idle(infer->served); /* what earlier, larger requests left */
    return status;
}

/* Puts the request into the queue. */
static ps_status enqueue(ps_infer *infer, ps_error *err) {
    return ps_pool_submit(infer->runner->pool, &infer->job, err);
}

/* The last that the core does with a request. */
static void finish(ps_infer *infer) {
    ps_infer_drop_served(infer); /* not when the reply has been sent: a slow client must not hold a model */
    infer->done(infer);
}

/* The request gives its turn to the next of its sequence, if it has one. */
static void leave_sequence(ps_infer *infer) {
    ps_infer *next = infer->sequence ? ps_sequence_leave(infer) : NULL;
    while (next && (next->status = enqueue(next, &next->error)) != PS_OK) {
        ps_infer *refused = next;
        next = ps_sequence_leave(refused);
        ps_core_count_failure(refused->served, refused->arrived_ns);
        finish(refused);
    }
}

/* The request has run, or failed. */
static void conclude(ps_infer *infer, ps_status status, ps_stats_sample *sample) {
    infer->status = status;
    sample->total = ps_clock_ns() - infer->arrived_ns;
    if (status == PS_OK)
        ps_stats_success(&infer->served->stats, sample);
    else
        ps_stats_fail(&infer->served->stats, sample->total);
    ps_trace_request(infer->runner->trace, infer, sample);
    leave_sequence(infer);
    finish(infer);
}

static void count_quick(ps_infer *infer, const ps_stats_sample *sample, bool here) {
    if (infer->quick_key)
        ps_quick_count(&infer->served->quick, infer->quick_key, sample->input + sample->infer + sample->output, here);
}

static void run_job(ps_job *job) {
    ps_infer *infer = (ps_infer *)job; /* its first member */
    ps_stats_sample sample = { .queue = ps_clock_ns() - infer->queued_ns };
    ps_status status = run_infer(infer, choose_kind(infer->runner), 0, &sample, &infer->error);
    if (status == PS_OK) count_quick(infer, &sample, false);
    conclude(infer, status, &sample);
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

/* Only while nobody waits, so that no request overtakes another. A quick request gains nothing from more threads.
 * false: the run was stopped because it is not quick at all; nothing has happened to the request. */
static bool run_here(ps_infer *infer) {
    ps_quick *quick = &infer->served->quick;
    ps_stats_sample sample = { .queue = 0 };
    if (ps_pool_has_queue(infer->runner->pool) || !ps_quick_is(quick, infer->quick_key)) return false;
    ps_status status =
        run_infer(infer, PS_SESSION_NARROW, infer->queued_ns + PS_QUICK_LIMIT_NS, &sample, &infer->error);
    if (status == PS_DEADLINE && !(infer->deadline_ns && ps_clock_ns() >= infer->deadline_ns)) {
        ps_quick_strike(quick, infer->quick_key);
        infer->error = (ps_error)PS_ERROR_INIT;
        return false;
    }
    if (status == PS_OK) count_quick(infer, &sample, true);
    conclude(infer, status, &sample);
    return true;
}

ps_status ps_runner_create(ps_alloc_state *alloc, int runners, ps_trace *trace, ps_runner **ret, ps_error *err) {
    ps_runner *runner = ps_alloc_zero(alloc, sizeof *runner);
    if (!runner) return PS_FAIL_NOMEM(err, "the runners");
    runner->alloc = alloc;
    runner->trace = trace;
    runner->threads = runners ? runners : ps_cpu_count();
    ps_status status = ps_pool_create(alloc, "ps-run", runner->threads, PS_RUNNER_MAX_QUEUE, &runner->pool, err);
    if (status != PS_OK) {
        ps_free(alloc, runner);
        return status;
    }
    *ret = runner;
    return PS_OK;
}

void ps_runner_free(ps_runner *runner) {
    if (!runner) return;
    ps_pool_free(runner->pool);
    ps_free(runner->alloc, runner);
}

ps_status ps_runner_submit(ps_runner *runner, ps_infer *infer, ps_error *err) {
    infer->runner = runner;
    infer->job.run = run_job;
    infer->queued_ns = ps_clock_ns();
    bool waits = false;
    if (infer->may_run_here && !*infer->sequence_id) {
        infer->quick_key = quick_key(infer);
        if (run_here(infer)) return PS_OK;
    }
    if (infer->park) infer->park(infer);
    if (*infer->sequence_id) PS_TRY(ps_sequence_enter(infer, &waits, err));
    if (waits) return PS_OK; /* it belongs to whoever runs before it */
    ps_status status = enqueue(infer, err);
    if (status == PS_OK || !infer->sequence) return status; /* if OK, it belongs to a thread of the pool */
    infer->status = status;
    leave_sequence(infer);
    return status;
}

void ps_runner_cancel(ps_runner *runner) {
    __atomic_store_n(&runner->cancel, 1, __ATOMIC_RELAXED);
}
