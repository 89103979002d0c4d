#include "server/shadow.h"

#include <math.h>
#include <string.h>

#include "base/os.h"

#define LONGEST_NS (30 * INT64_C(1000000000)) /* of one run */

struct ps_shadow {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_pool *pool; /* one thread */
    atomic_size_t bytes;
    int cancel;   /* atomic; ps_run_options.cancel */
    bool yielded; /* the thread's */
};

/* One copy. Names are of the served model that answered, which it holds as well. */
typedef struct copy {
    ps_job job; /* first */
    ps_shadow *shadow;
    ps_routed route; /* with the reference to the version that is to run */
    ps_served *answered;
    size_t bytes;
    size_t n_in, n_want;
    ps_tensor **in; /* as the inputs of `answered`; NULL: the request had none */
    ps_tensor **want;
    int *selected; /* outputs of `answered` */
} copy;

/* ---- comparing ---- */

static double element(const ps_tensor *t, size_t i) {
    double v = NAN;
    ps_tensor_get_double(t, i, &v);
    return v;
}

static bool is_float(ps_dtype dtype) {
    return dtype == PS_DTYPE_F32 || dtype == PS_DTYPE_F64 || dtype == PS_DTYPE_F16 || dtype == PS_DTYPE_BF16;
}

/* Types of the protocol but for BYTES. */
static bool is_number(ps_dtype dtype) {
    return dtype != PS_DTYPE_STRING && *ps_dtype_v2_name(dtype);
}

static bool alike(const ps_tensor *a, const ps_tensor *b) {
    const ps_shape *s = ps_tensor_shape(a), *t = ps_tensor_shape(b);
    return ps_tensor_dtype(a) == ps_tensor_dtype(b) && s->rank == t->rank &&
           (!s->rank || memcmp(s->dims, t->dims, (size_t)s->rank * sizeof *s->dims) == 0);
}

static size_t argmax(const ps_tensor *t, size_t from, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (element(t, from + i) > element(t, from + best)) best = i;
    return best;
}

/* Of scores: along the last dim of floats, row by row. */
static void compare_argmax(const ps_tensor *got, const ps_tensor *want, ps_shadow_result *result) {
    const ps_shape *s = ps_tensor_shape(want);
    size_t n = s->rank ? (size_t)s->dims[s->rank - 1] : 0, all = ps_tensor_elements(want);
    if (!is_float(ps_tensor_dtype(want)) || n < 2 || !all) return;
    result->has_argmax = true;
    for (size_t at = 0; result->argmax_same && at < all; at += n)
        result->argmax_same = argmax(got, at, n) == argmax(want, at, n);
}

void ps_shadow_compare(const ps_tensor *got, const ps_tensor *want, double rtol, double atol,
                       ps_shadow_result *result) {
    if (!alike(got, want)) {
        result->close = result->argmax_same = false;
        return;
    }
    size_t bytes = ps_tensor_bytes(want);
    bool equal = !bytes || memcmp(ps_tensor_data_const(got), ps_tensor_data_const(want), bytes) == 0;
    for (size_t i = 0; !equal && i < ps_tensor_elements(want); i++) {
        double a = element(got, i), b = element(want, i), error = fabs(a - b);
        if (!isfinite(a) || !isfinite(b)) {
            result->close &= (isnan(a) && isnan(b)) || a == b;
            continue;
        }
        if (error > result->largest) result->largest = error;
        result->close &= error <= atol + rtol * fabs(b);
    }
    compare_argmax(got, want, result);
}

/* ---- running ---- */

static void copy_free(copy *c) {
    ps_shadow *shadow = c->shadow;
    for (size_t i = 0; i < c->n_in; i++)
        ps_tensor_release(c->in[i]);
    for (size_t i = 0; i < c->n_want; i++)
        ps_tensor_release(c->want[i]);
    atomic_fetch_sub(&shadow->bytes, c->bytes);
    ps_served_release(c->answered);
    ps_served_release(c->route.shadow);
    ps_free(shadow->alloc, c);
}

/* The inputs in the order of the other version, which need not be that of the first. False: it lacks one. */
static bool order_inputs(const copy *c, const ps_tensor **ret) {
    for (size_t i = 0; i < c->n_in; i++) {
        if (!c->in[i]) continue;
        int to = ps_served_find_input(c->route.shadow, c->answered->inputs[i].name);
        if (to < 0) return false;
        ret[to] = c->in[i];
    }
    return true;
}

static bool compare_all(const copy *c, ps_tensor *const *outputs, ps_shadow_result *result) {
    for (size_t i = 0; i < c->n_want; i++) {
        int at = ps_served_find_output(c->route.shadow, c->answered->outputs[c->selected[i]].name);
        if (at < 0) return false;
        ps_shadow_compare(outputs[at], c->want[i], c->route.rtol, c->route.atol, result);
    }
    return true;
}

/* No other model goes to make room for it. */
static bool run_session(const copy *c, const ps_tensor **in, ps_tensor **out, ps_shadow_result *result) {
    ps_served *s = c->route.shadow;
    ps_served_session taken;
    ps_run_options options = PS_RUN_OPTIONS_INIT;
    options.cancel = &c->shadow->cancel;
    options.deadline_ns = ps_clock_ns() + LONGEST_NS;
    if (!order_inputs(c, in) || ps_served_take_session(s, PS_SESSION_NARROW, &taken, NULL) != PS_OK) return false;
    bool ok = ps_session_run(taken.session, in, s->n_inputs, out, s->n_outputs, &options, NULL) == PS_OK &&
              compare_all(c, out, result);
    (void)ps_served_put_session(s, &taken);
    return ok;
}

static bool run(const copy *c, ps_shadow_result *result) {
    const ps_served *s = c->route.shadow;
    const ps_tensor **in = ps_alloc_zero(s->alloc, (s->n_inputs + 1) * sizeof *in);
    ps_tensor **out = ps_alloc_zero(s->alloc, (s->n_outputs + 1) * sizeof *out);
    bool ok = in && out && run_session(c, in, out, result);
    ps_free(s->alloc, in);
    ps_free(s->alloc, out);
    return ok;
}

/* An unload waits for it: then it is not begun. */
static bool is_retired(ps_served *s) {
    ps_mutex_lock(&s->lock);
    bool retired = s->retired;
    ps_mutex_unlock(&s->lock);
    return retired;
}

static void run_copy(ps_job *job) {
    copy *c = (copy *)job;
    ps_shadow *shadow = c->shadow;
    ps_shadow_result result = PS_SHADOW_SAME;
    if (!shadow->yielded) ps_thread_yield_to_others();
    shadow->yielded = true;
    if (!__atomic_load_n(&shadow->cancel, __ATOMIC_RELAXED) && !is_retired(c->route.shadow)) {
        result.failed = !run(c, &result);
        if (!__atomic_load_n(&shadow->cancel, __ATOMIC_RELAXED)) ps_routed_compared(&c->route, &result);
    }
    copy_free(c);
}

/* ---- copying ---- */

/* 0: it cannot be compared. */
static size_t bytes_of(const ps_infer *infer) {
    size_t total = sizeof(copy);
    for (size_t i = 0; i < infer->n_tensors; i++) {
        const ps_tensor *t = infer->tensors[i];
        if (t && !is_number(ps_tensor_dtype(t))) return 0;
        if (t && ps_add_overflow_size(total, ps_tensor_bytes(t), &total)) return 0;
    }
    for (size_t i = 0; i < infer->n_wants; i++) {
        const ps_infer_tensor *r = &infer->results[i];
        if (infer->wants[i].classes > 0 || !is_number(r->dtype)) return 0;
        if (ps_add_overflow_size(total, r->elements * ps_dtype_bits(r->dtype) / 8, &total)) return 0;
    }
    return total;
}

static ps_tensor *copy_tensor(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, const void *data) {
    ps_tensor *t;
    if (ps_tensor_create(engine, dtype, shape, &t, NULL) != PS_OK) return NULL;
    if (ps_tensor_bytes(t)) memcpy(ps_tensor_data(t), data, ps_tensor_bytes(t));
    return t;
}

static bool fill(copy *c, const ps_infer *infer) {
    ps_engine *engine = c->shadow->engine;
    for (; c->n_in < infer->n_tensors; c->n_in++) {
        const ps_tensor *t = infer->tensors[c->n_in];
        c->in[c->n_in] =
            t ? copy_tensor(engine, ps_tensor_dtype(t), ps_tensor_shape(t), ps_tensor_data_const(t)) : NULL;
        if (t && !c->in[c->n_in]) return false;
    }
    for (; c->n_want < infer->n_wants; c->n_want++) {
        const ps_infer_tensor *r = &infer->results[c->n_want];
        c->selected[c->n_want] = infer->selected[c->n_want];
        c->want[c->n_want] = copy_tensor(engine, r->dtype, &r->shape, r->data);
        if (!c->want[c->n_want]) return false;
    }
    return true;
}

/* Takes the route's reference over in any case. */
static bool submit(ps_shadow *shadow, ps_infer *infer, ps_routed route, size_t bytes) {
    size_t lists = (infer->n_tensors + infer->n_wants) * sizeof(ps_tensor *);
    copy *c = ps_alloc_zero(shadow->alloc, sizeof *c + lists + infer->n_wants * sizeof *c->selected);
    if (!c) {
        ps_served_release(route.shadow);
        atomic_fetch_sub(&shadow->bytes, bytes);
        return false;
    }
    c->job.run = run_copy;
    c->shadow = shadow;
    c->route = route;
    c->bytes = bytes;
    c->answered = ps_served_retain(infer->served);
    c->in = (ps_tensor **)(c + 1);
    c->want = c->in + infer->n_tensors;
    c->selected = (int *)(c->want + infer->n_wants);
    if (fill(c, infer) && ps_pool_submit(shadow->pool, &c->job, NULL) == PS_OK) return true;
    copy_free(c);
    return false;
}

void ps_shadow_copy(ps_shadow *shadow, ps_infer *infer) {
    ps_routed route = infer->route;
    infer->route.shadow = NULL;
    size_t bytes = shadow && infer->status == PS_OK && !infer->sequence ? bytes_of(infer) : 0;
    if (!bytes || route.shadow == infer->served) { /* nothing to compare: neither copied nor dropped */
        ps_served_release(route.shadow);
        return;
    }
    bool room = atomic_fetch_add(&shadow->bytes, bytes) + bytes <= PS_SHADOW_MAX_BYTES &&
                ps_pool_load(shadow->pool) < PS_SHADOW_QUEUE;
    if (!room) {
        atomic_fetch_sub(&shadow->bytes, bytes);
        ps_served_release(route.shadow);
    }
    ps_routed_copied(&route, room && submit(shadow, infer, route, bytes));
}

/* ---- life ---- */

ps_status ps_shadow_create(ps_engine *engine, ps_shadow **ret, ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    ps_shadow *shadow = ps_alloc_zero(alloc, sizeof *shadow);
    if (!shadow) return PS_FAIL_NOMEM(err, "the shadow");
    shadow->engine = engine;
    shadow->alloc = alloc;
    ps_status status = ps_pool_create(alloc, "ps-shadow", 1, PS_SHADOW_QUEUE, &shadow->pool, err);
    if (status != PS_OK) {
        ps_free(alloc, shadow);
        return status;
    }
    *ret = shadow;
    return PS_OK;
}

void ps_shadow_free(ps_shadow *shadow) {
    if (!shadow) return;
    __atomic_store_n(&shadow->cancel, 1, __ATOMIC_RELAXED);
    ps_pool_free(shadow->pool);
    ps_free(shadow->alloc, shadow);
}
