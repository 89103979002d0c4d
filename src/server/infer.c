/* Checking a request against its model, and its way through the runner. */
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "server/classify.h"
#include "server/runner.h"

void ps_infer_init(ps_infer *infer, ps_engine *engine) {
    *infer = (ps_infer) { .engine = engine, .id = "", .sequence_id = "" };
    ps_arena_init(&infer->arena, ps_engine_alloc(engine));
}

void ps_infer_release(ps_infer *infer) {
    ps_infer_recycle(infer, 0);
}

void ps_infer_recycle(ps_infer *infer, size_t max_bytes) {
    for (size_t i = 0; i < infer->n_tensors; i++)
        ps_tensor_release(infer->tensors[i]);
    for (size_t i = 0; i < infer->n_wants; i++)
        ps_shm_release(infer->wants[i].shm);
    ps_shm_unreserve(infer->shm, infer->shm_bytes);
    ps_infer_drop_served(infer);
    ps_arena_reset(&infer->arena, max_bytes);
    *infer = (ps_infer) { .engine = infer->engine, .arena = infer->arena, .id = "", .sequence_id = "" };
}

void ps_infer_drop_served(ps_infer *infer) {
    if (infer->served) ps_served_use(infer->served); /* until now: a run may have taken longer than others' idle time */
    ps_served_release(infer->served);
    ps_served_release(infer->route.shadow);
    infer->served = infer->route.shadow = NULL;
}

/* ---- failures ---- */

ps_failure ps_core_failure(const ps_infer *infer, ps_status status) {
    if (status == PS_UNAVAILABLE && infer->refused == PS_SCHED_FULL) return PS_FAILURE_QUEUE_FULL;
    if (status == PS_UNAVAILABLE && infer->refused == PS_SCHED_TOO_LATE) return PS_FAILURE_TOO_LATE;
    return ps_failure_of(status);
}

void ps_core_count_unserved(ps_repository *repo, const char *name, const char *version, ps_status status,
                            int64_t arrived_ns) {
    ps_failure failure = status == PS_NOT_FOUND ? PS_FAILURE_UNAVAILABLE : ps_failure_of(status);
    ps_repository_count_failure(repo, name, version, failure, ps_clock_ns() - arrived_ns);
}

void ps_core_count_failure(ps_served *served, ps_status status, int64_t arrived_ns) {
    ps_stats_fail(served->stats, ps_failure_of(status), ps_clock_ns() - arrived_ns);
}

void ps_core_count_refusal(ps_infer *infer, ps_status status) {
    ps_stats_fail(infer->served->stats, ps_core_failure(infer, status), ps_clock_ns() - infer->arrived_ns);
    if (infer->route.entry) ps_routed_done(&infer->route, status, -1);
}

/* ---- its model ---- */

/* When the answer is of no use any more, as far as is known before the model is; 0: never. */
static int64_t latest(const ps_infer *infer) {
    const int64_t until = infer->timeout_us ? infer->arrived_ns + infer->timeout_us * 1000 : 0;
    return until && (!infer->deadline_ns || until < infer->deadline_ns) ? until : infer->deadline_ns;
}

ps_status ps_core_acquire(ps_repository *repo, ps_infer *infer, const char *name, const char *version, ps_served **ret,
                          ps_error *err) {
    bool routed = false;
    ps_wait *w = &infer->wait;
    ps_status status = PS_UNAVAILABLE;
    w->in_order = *infer->sequence_id && w->over && !w->until_ns && ps_repository_waits(repo);
    if (!w->in_order) status = ps_repository_acquire(repo, name, version, ret, &routed, err);
    infer->route = (ps_routed) { .repo = routed ? repo : NULL };
    if (w->until_ns) infer->loaded_ns = ps_clock_ns();
    if (status != PS_UNAVAILABLE || !w->over) return status;
    w->given_up = &infer->abandoned;
    w->most_ns = latest(infer);
    PS_FAIL_IF(w->most_ns && ps_clock_ns() >= w->most_ns, err, DEADLINE,
               "model '%.255s': the request's timeout of %lld microseconds passed while the model was being loaded",
               name, (long long)((w->most_ns - infer->arrived_ns) / 1000));
    if (infer->park) infer->park(infer); /* first: once it waits, another thread may have it at once */
    infer->park = NULL;
    status = ps_repository_await(repo, name, version, w, ret, &routed, err);
    if (status == PS_OK && *ret && routed) infer->route.repo = repo; /* else it may be another thread's already */
    return status;
}

/* ---- checks ---- */

static const char *shape_text(const ps_shape *shape, char *buf, size_t size) {
    size_t used = 0;
    buf[0] = '\0';
    if (shape->rank < 0) {
        ps_snprintf(buf, size, "of any rank");
        return buf;
    }
    ps_snprintf(buf, size, "[");
    for (int i = 0; i < shape->rank; i++) {
        used = strlen(buf);
        ps_snprintf(buf + used, size - used, "%s%lld", i ? "," : "",
                    (long long)(shape->dims[i] < 0 ? -1 : shape->dims[i]));
    }
    used = strlen(buf);
    ps_snprintf(buf + used, size - used, "]");
    return buf;
}

static bool shape_fits(const ps_shape *want, const ps_shape *got) {
    if (want->rank < 0) return true;
    if (want->rank != got->rank) return false;
    for (int i = 0; i < want->rank; i++)
        if (want->dims[i] >= 0 && want->dims[i] != got->dims[i]) return false;
    return true;
}

ps_status ps_core_check_input(const ps_infer *infer, const ps_infer_tensor *t, int *ret_index, ps_error *err) {
    const ps_served *s = infer->served;
    char want[128], got[128];
    *ret_index = ps_served_find_input(s, t->name);
    PS_FAIL_IF(*ret_index < 0, err, INVALID, "model '%s' has no input '%.128s'", s->name, t->name);
    const ps_value_info *info = &s->inputs[*ret_index];
    PS_FAIL_IF(t->dtype != info->dtype, err, TYPE, "model '%s': input '%s' is %s, the request has %s", s->name, t->name,
               ps_dtype_v2_name(info->dtype), ps_dtype_v2_name(t->dtype));
    PS_FAIL_IF(!shape_fits(&info->shape, &t->shape), err, SHAPE,
               "model '%s': input '%s' has shape %s, the request has %s", s->name, t->name,
               shape_text(&info->shape, want, sizeof want), shape_text(&t->shape, got, sizeof got));
    return PS_OK;
}

/* One tensor in the model's order for each input of the request. What needs more knowledge is left to the session:
 * whether a missing input (NULL) has a default, and that dims of the same symbol agree. */
static ps_status bind_inputs(ps_infer *infer, ps_error *err) {
    const ps_served *s = infer->served;
    infer->tensors = ps_arena_array(&infer->arena, s->n_inputs + 1, sizeof *infer->tensors);
    if (!infer->tensors) return PS_FAIL_NOMEM(err, "the inputs of a request");
    infer->n_tensors = s->n_inputs;
    for (size_t i = 0; i < infer->n_inputs; i++) {
        const ps_infer_tensor *t = &infer->inputs[i];
        int index;
        PS_TRY(ps_core_check_input(infer, t, &index, err));
        ps_tensor **slot = &infer->tensors[index];
        PS_FAIL_IF(*slot, err, INVALID, "model '%s': input '%s' is given twice", s->name, t->name);
        PS_TRY(ps_tensor_wrap(infer->engine, t->dtype, &t->shape, NULL, (void *)t->data, slot, err));
    }
    return PS_OK;
}

/* No list of outputs means all of them. */
static ps_status default_wants(ps_infer *infer, ps_error *err) {
    const ps_served *s = infer->served;
    if (infer->n_wants) return PS_OK;
    infer->wants = ps_arena_array(&infer->arena, s->n_outputs + 1, sizeof *infer->wants);
    if (!infer->wants) return PS_FAIL_NOMEM(err, "the outputs of a request");
    infer->wants_all = true;
    for (size_t i = 0; i < s->n_outputs; i++)
        infer->wants[i] = (ps_infer_want) { .name = s->outputs[i].name, .binary = infer->want_binary };
    infer->n_wants = s->n_outputs;
    return PS_OK;
}

static ps_status select_outputs(ps_infer *infer, ps_error *err) {
    const ps_served *s = infer->served;
    PS_TRY(default_wants(infer, err));
    infer->selected = ps_arena_array(&infer->arena, infer->n_wants + 1, sizeof *infer->selected);
    infer->results = ps_arena_array(&infer->arena, infer->n_wants + 1, sizeof *infer->results);
    if (!infer->selected || !infer->results) return PS_FAIL_NOMEM(err, "the outputs of a request");
    for (size_t i = 0; i < infer->n_wants; i++) {
        const ps_infer_want *w = &infer->wants[i];
        int index = infer->selected[i] = ps_served_find_output(s, w->name);
        PS_FAIL_IF(index < 0, err, INVALID, "model '%s' has no output '%.128s'", s->name, w->name);
        for (size_t j = 0; j < i; j++)
            PS_FAIL_IF(infer->selected[j] == index, err, INVALID, "model '%s': output '%s' is requested twice", s->name,
                       w->name);
        if (w->classes > 0) PS_TRY(ps_classify_check(s, &s->outputs[index], err));
    }
    return PS_OK;
}

/* ---- versions ---- */

static ps_status bind(ps_infer *infer, ps_error *err) {
    PS_TRY(bind_inputs(infer, err));
    return select_outputs(infer, err);
}

/* As if it had never been another's. */
static void unbind(ps_infer *infer) {
    for (size_t i = 0; i < infer->n_tensors; i++)
        ps_tensor_release(infer->tensors[i]);
    infer->n_tensors = 0;
    if (infer->wants_all) infer->n_wants = 0;
    infer->prepare = infer->prepare_again;
    infer->refused = PS_SCHED_OK;
}

bool ps_core_try_again(ps_infer *infer) {
    ps_error err = PS_ERROR_INIT;
    if (!infer->route.entry || infer->status == PS_OK || infer->encoding || *infer->sequence_id) return false;
    ps_served *other = ps_routed_again(&infer->route, infer->status);
    if (!other) return false;
    ps_core_count_failure(infer->served, infer->status, infer->arrived_ns);
    ps_served_release(infer->served);
    infer->served = other;
    unbind(infer);
    ps_status status = bind(infer, &err);
    if (status != PS_OK) {
        infer->status = status;
        infer->error = err;
        return false;
    }
    infer->status = PS_OK;
    infer->error = (ps_error)PS_ERROR_INIT;
    return true;
}

static void route(ps_infer *infer) {
    ps_route_key key = { infer->routing_key, infer->sequence_id, infer->sequence_start };
    infer->served = ps_repository_route(infer->route.repo, infer->served, &key, &infer->route);
}

ps_status ps_core_submit(ps_runner *runner, ps_infer *infer, ps_served *take_served, ps_error *err) {
    infer->served = take_served;
    infer->prepare_again = infer->prepare;
    if (infer->route.repo) route(infer);
    ps_status status = bind(infer, &infer->error);
    if (status != PS_OK) {
        infer->status = status;
        if (!ps_core_try_again(infer)) {
            if (err) *err = infer->error;
            return infer->status;
        }
    }
    int64_t most = infer->served->config.timeout_us;
    if (most && (!infer->timeout_us || most < infer->timeout_us)) infer->timeout_us = most;
    infer->deadline_ns = latest(infer);
    return ps_runner_submit(runner, infer, err);
}
