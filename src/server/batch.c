#include "server/batch.h"

#include <string.h>

#include "base/map.h"
#include "base/os.h"
#include "server/classify.h"
#include "server/schedule.h"
#include "server/shadow.h"

#define ALIGN 64 /* of each input in a room */

/* ---- what is alike ---- */

/* Rows of the first input there is; 0: it cannot share a run. */
static int64_t rows_of(const ps_infer *infer) {
    for (size_t i = 0; i < infer->n_tensors; i++) {
        const ps_shape *s = infer->tensors[i] ? ps_tensor_shape(infer->tensors[i]) : NULL;
        if (s) return s->rank > 0 && s->dims[0] > 0 ? s->dims[0] : 0;
    }
    return 0;
}

uint64_t ps_batch_shape(const ps_infer *infer) {
    int first = infer->served->max_batch > 1 ? 1 : 0;
    uint64_t hash = first && rows_of(infer) == 0; /* which shares no run, and takes no time */
    for (size_t i = 0; i < infer->n_tensors; i++) {
        const ps_tensor *t = infer->tensors[i];
        const ps_shape *s = t ? ps_tensor_shape(t) : NULL;
        int rank = s ? s->rank : -1;
        hash = ps_hash_bytes(&rank, sizeof rank, hash);
        if (rank > first) hash = ps_hash_bytes(s->dims + first, (size_t)(rank - first) * sizeof *s->dims, hash);
    }
    return hash;
}

uint32_t ps_batch_items(const ps_infer *infer, uint64_t *ret_work) {
    int64_t rows = infer->served->max_batch > 1 ? rows_of(infer) : 1;
    uint64_t work = 0;
    for (size_t i = 0; i < infer->n_tensors; i++)
        if (infer->tensors[i]) work += ps_tensor_elements(infer->tensors[i]);
    if (rows < 1) rows = 1;
    if (rows > UINT32_MAX) rows = UINT32_MAX;
    *ret_work = work / (uint64_t)rows;
    return (uint32_t)rows;
}

/* ---- inputs of several requests in one tensor ---- */

typedef struct joined {
    ps_infer **infers;
    size_t n;
    int64_t rows; /* of all */
    ps_tensor **in;
    size_t n_in;
} joined;

/* Input i of every request has this one's type and dims, but for the first, which is the request's rows. */
static bool inputs_alike(const joined *j, size_t i) {
    const ps_tensor *a = j->infers[0]->tensors[i];
    for (size_t k = 0; k < j->n; k++) {
        const ps_tensor *b = j->infers[k]->tensors[i];
        if (!a != !b) return false;
        if (!a) continue;
        const ps_shape *s = ps_tensor_shape(a), *t = ps_tensor_shape(b);
        if (ps_tensor_dtype(a) != ps_tensor_dtype(b) || s->rank != t->rank || s->rank < 1) return false;
        if (t->dims[0] != rows_of(j->infers[k])) return false;
        if (memcmp(s->dims + 1, t->dims + 1, (size_t)(s->rank - 1) * sizeof *s->dims) != 0) return false;
    }
    return true;
}

static bool can_join(joined *j) {
    const ps_served *s = j->infers[0]->served;
    if (j->n < 2 || s->max_batch < 2) return false;
    j->n_in = s->n_inputs;
    j->rows = 0;
    for (size_t k = 0; k < j->n; k++) {
        int64_t rows = rows_of(j->infers[k]);
        if (rows < 1 || j->infers[k]->sequence || __builtin_add_overflow(j->rows, rows, &j->rows)) return false;
    }
    for (size_t i = 0; i < j->n_in; i++)
        if (!inputs_alike(j, i)) return false;
    return true;
}

/* Bytes of input i of all, rounded up; false on overflow. */
static bool room_of(const joined *j, size_t i, size_t *total) {
    for (size_t k = 0; k < j->n; k++)
        if (j->infers[k]->tensors[i] && ps_add_overflow_size(*total, ps_tensor_bytes(j->infers[k]->tensors[i]), total))
            return false;
    return !ps_add_overflow_size(*total, ALIGN, total);
}

static bool reserve(ps_alloc_state *alloc, ps_batch_room *room, size_t size) {
    if (size <= room->size) return true;
    ps_free(alloc, room->data);
    room->size = 0;
    room->data = ps_alloc(alloc, size);
    if (room->data) room->size = size;
    return room->data != NULL;
}

static ps_status join_input(const joined *j, size_t i, char **at, ps_error *err) {
    const ps_tensor *first = j->infers[0]->tensors[i];
    ps_shape shape = *ps_tensor_shape(first);
    char *to = *at + (ALIGN - (uintptr_t)*at % ALIGN) % ALIGN;
    shape.dims[0] = j->rows;
    PS_TRY(ps_tensor_wrap(j->infers[0]->engine, ps_tensor_dtype(first), &shape, NULL, to, &j->in[i], err));
    for (size_t k = 0; k < j->n; k++) {
        const ps_tensor *t = j->infers[k]->tensors[i];
        size_t bytes = ps_tensor_bytes(t);
        if (bytes) memcpy(to, ps_tensor_data_const(t), bytes);
        to += bytes;
    }
    *at = to;
    return PS_OK;
}

static ps_status join(joined *j, ps_batch_room *room, ps_error *err) {
    ps_infer *first = j->infers[0];
    size_t total = 0;
    for (size_t i = 0; i < j->n_in; i++)
        PS_FAIL_IF(!room_of(j, i, &total), err, LIMIT, "a batch is too large");
    j->in = ps_arena_array(&first->arena, j->n_in + 1, sizeof *j->in);
    if (!j->in || !reserve(first->served->alloc, room, total)) return PS_FAIL_NOMEM(err, "the inputs of a batch");
    char *at = room->data;
    for (size_t i = 0; i < j->n_in; i++)
        if (first->tensors[i]) PS_TRY(join_input(j, i, &at, err));
    return PS_OK;
}

/* ---- results ---- */

/* A request's part of the outputs: `rows` rows from `from`; rows -1: all of them. */
static ps_status collect(ps_infer *infer, ps_tensor *const *outputs, int64_t from, int64_t rows, ps_error *err) {
    for (size_t i = 0; i < infer->n_wants; i++) {
        const ps_infer_want *w = &infer->wants[i];
        const ps_tensor *t = outputs[infer->selected[i]];
        ps_infer_tensor *r = &infer->results[i];
        *r = (ps_infer_tensor) { w->name, ps_tensor_dtype(t), *ps_tensor_shape(t), ps_tensor_elements(t),
                                 ps_tensor_data_const(t) };
        if (rows >= 0) {
            size_t all = (size_t)r->shape.dims[0];
            r->data = (const char *)r->data + ps_tensor_bytes(t) / all * (size_t)from;
            r->elements = r->elements / all * (size_t)rows;
            r->shape.dims[0] = rows;
        }
        if (w->classes > 0) PS_TRY(ps_classify(infer->served, &infer->arena, w->classes, r, err));
    }
    return PS_OK;
}

static bool has_rows(ps_tensor *const *outputs, size_t n, int64_t rows) {
    for (size_t i = 0; i < n; i++) {
        const ps_shape *s = ps_tensor_shape(outputs[i]);
        if (s->rank < 1 || s->dims[0] != rows) return false;
    }
    return true;
}

/* ---- running ---- */

static ps_status prepare(ps_infer *infer, ps_error *err) {
    if (infer->sequence) PS_TRY(ps_sequence_bind(infer, err));
    if (!infer->prepare) return PS_OK;
    ps_status status = infer->prepare(infer, err);
    infer->prepare = NULL; /* once, also if the batch is taken apart */
    return status;
}

/* Before anything is run; a request that fails here fails alone. */
static ps_status check(const ps_infer *infer, const int *cancel, ps_error *err) {
    PS_FAIL_IF(__atomic_load_n(cancel, __ATOMIC_RELAXED), err, UNAVAILABLE, "the server is shutting down");
    PS_FAIL_IF(infer->deadline_ns && ps_clock_ns() >= infer->deadline_ns, err, DEADLINE,
               "model '%s': the request waited for longer than its timeout of %lld microseconds", infer->served->name,
               (long long)((infer->deadline_ns - infer->arrived_ns) / 1000));
    if (atomic_load_explicit(&infer->abandoned, memory_order_relaxed)) return ps_schedule_given_up(infer, err);
    return PS_OK;
}

static int64_t earlier(int64_t a, int64_t b) { /* 0: never */
    return a && (!b || a < b) ? a : b;
}

/* A run that finds no memory is begun anew as often as another model makes room. */
static ps_status run_session(const ps_served *s, ps_session *session, ps_tensor **in, ps_tensor **out,
                             const ps_run_options *options, ps_error *err) {
    ps_status status;
    for (;;) {
        status = ps_session_run(session, (const ps_tensor *const *)in, s->n_inputs, out, s->n_outputs, options, err);
        if (status != PS_NO_MEMORY || !s->relieve || !s->relieve(s->relieve_ctx)) break;
        memset(out, 0, s->n_outputs * sizeof *out);
        if (err) *err = (ps_error)PS_ERROR_INIT;
    }
    if (status != PS_OK) ps_error_prefix(err, "model '%s'", s->name);
    return status;
}

/* As a run: a reply that finds no memory is written anew as often as another model makes room. */
static ps_status encode(ps_infer *infer, ps_error *err) {
    const ps_served *s = infer->served;
    ps_status status;
    infer->encoding = true;
    while ((status = infer->encode(infer, err)) == PS_NO_MEMORY && s->relieve && s->relieve(s->relieve_ctx)) {
        if (err) *err = (ps_error)PS_ERROR_INIT;
    }
    return status;
}

static void note_cut(ps_batch_run *run, ps_status status, int64_t after_ns) {
    if (status != PS_DEADLINE) return;
    run->cut = true;
    run->measured_ns = after_ns;
}

/* The outputs are the session's: encoding comes before it is given back. */
static ps_status run_one(ps_batch_run *run, ps_session *session, ps_infer *infer, ps_error *err) {
    const ps_served *s = infer->served;
    ps_run_options options = PS_RUN_OPTIONS_INIT;
    int64_t start = ps_clock_ns();
    ps_tensor **outputs = ps_arena_array(&infer->arena, s->n_outputs + 1, sizeof *outputs);
    if (!outputs) return PS_FAIL_NOMEM(err, "the outputs of a request");
    options.cancel = run->cancel;
    options.deadline_ns = earlier(infer->deadline_ns, run->stop_ns);
    PS_TRY(prepare(infer, err));
    int64_t bound = ps_clock_ns();
    ps_status status = run_session(s, session, infer->tensors, outputs, &options, err);
    int64_t ran = ps_clock_ns();
    note_cut(run, status, ran - start);
    PS_TRY(status);
    PS_TRY(collect(infer, outputs, 0, -1, err));
    PS_TRY(encode(infer, err));
    if (infer->route.shadow) ps_shadow_copy(run->shadow, infer);
    if (infer->sequence) PS_TRY(ps_sequence_keep(infer, outputs, err));
    infer->sample.input = bound - start;
    infer->sample.infer = ran - bound;
    infer->sample.output = ps_clock_ns() - ran;
    run->measured_ns = infer->sample.input + infer->sample.infer + infer->sample.output;
    return PS_OK;
}

/* False: the device was lost under it, and nothing came of it. */
static bool run_once(ps_batch_run *run, ps_infer *infer) {
    ps_served_session taken;
    ps_served *s = infer->served;
    infer->status = ps_served_take_session(s, run->kind, &taken, &infer->error);
    if (infer->status != PS_OK) return true;
    infer->status = run_one(run, taken.session, infer, &infer->error);
    const bool there = ps_served_put_session(s, &taken);
    return there || infer->status != PS_UNAVAILABLE || infer->encoding;
}

/* What a lost device leaves, the model's other devices run. */
static void run_alone(ps_batch_run *run, ps_infer *infer) {
    ps_served *s = infer->served;
    infer->status = check(infer, run->cancel, &infer->error);
    if (infer->status != PS_OK) return;
    for (size_t tries = 0; !run_once(run, infer) && tries < s->n_places; tries++)
        infer->error = (ps_error)PS_ERROR_INIT;
    if (infer->status == PS_NO_MEMORY) ps_served_drop_idle(s); /* what earlier, larger requests left */
    uint64_t work;
    infer->sample.items = infer->sample.batch = ps_batch_items(infer, &work);
}

/* The latest deadline, if every request has one: a run is not ended while somebody can use it. */
static int64_t last_deadline(const joined *j) {
    int64_t last = 0;
    for (size_t k = 0; k < j->n; k++) {
        if (!j->infers[k]->deadline_ns) return 0;
        if (j->infers[k]->deadline_ns > last) last = j->infers[k]->deadline_ns;
    }
    return last;
}

static void encode_all(const ps_batch_run *run, joined *j, ps_tensor *const *outputs, const ps_stats_sample *common) {
    int64_t from = 0;
    uint32_t batch = j->rows < UINT32_MAX ? (uint32_t)j->rows : UINT32_MAX;
    for (size_t k = 0; k < j->n; k++) {
        ps_infer *infer = j->infers[k];
        int64_t start = ps_clock_ns(), rows = rows_of(infer);
        infer->status = collect(infer, outputs, from, rows, &infer->error);
        if (infer->status == PS_OK) infer->status = encode(infer, &infer->error);
        if (infer->status == PS_OK && infer->route.shadow) ps_shadow_copy(run->shadow, infer);
        infer->sample.input = common->input;
        infer->sample.infer = common->infer;
        infer->sample.output = ps_clock_ns() - start;
        infer->sample.items = (uint32_t)rows;
        infer->sample.batch = infer->status == PS_OK ? batch : 0;
        if (infer->status == PS_OK) batch = 0; /* one request counts the run */
        from += rows;
    }
}

/* False: nothing came of it, and each is to be run alone. */
static bool run_joined(ps_batch_run *run, ps_session *session, joined *j, int64_t start) {
    ps_error err = PS_ERROR_INIT;
    ps_run_options options = PS_RUN_OPTIONS_INIT;
    ps_served *s = j->infers[0]->served;
    ps_stats_sample common = { 0 };
    ps_tensor **outputs = ps_arena_array(&j->infers[0]->arena, s->n_outputs + 1, sizeof *outputs);
    options.cancel = run->cancel;
    options.deadline_ns = last_deadline(j);
    if (!outputs || join(j, run->room, &err) != PS_OK) return false;
    int64_t bound = ps_clock_ns();
    ps_status status = run_session(s, session, j->in, outputs, &options, &err);
    int64_t ran = ps_clock_ns();
    note_cut(run, status, ran - start);
    if (status != PS_OK) return false;
    if (!has_rows(outputs, s->n_outputs, j->rows)) return false;
    common.input = bound - start;
    common.infer = ran - bound;
    encode_all(run, j, outputs, &common);
    run->measured_ns = ps_clock_ns() - start;
    return true;
}

/* start: when their inputs were begun to be prepared. */
static bool run_together(ps_batch_run *run, joined *j, int64_t start) {
    ps_served_session taken;
    ps_error err = PS_ERROR_INIT;
    ps_served *s = j->infers[0]->served;
    if (!can_join(j) || ps_served_take_session(s, run->kind, &taken, &err) != PS_OK) return false;
    bool done = run_joined(run, taken.session, j, start);
    for (size_t i = 0; j->in && i < j->n_in; i++)
        ps_tensor_release(j->in[i]);
    (void)ps_served_put_session(s, &taken);
    return done;
}

/* Takes those that fail before a run out of the list; returns how many are left. */
static size_t prepare_all(ps_batch_run *run, ps_infer **infers, size_t n, ps_infer **ready) {
    size_t left = 0;
    for (size_t k = 0; k < n; k++) {
        ps_infer *infer = infers[k];
        infer->status = check(infer, run->cancel, &infer->error);
        if (infer->status == PS_OK && !infer->sequence) infer->status = prepare(infer, &infer->error);
        if (infer->status == PS_OK) ready[left++] = infer;
    }
    return left;
}

/* Returns false if one of them has no rows: it takes no time, and tells nothing of others. */
static bool count_items(ps_batch_run *run, ps_infer *const *infers, size_t n) {
    bool rows = true;
    run->items = 0;
    for (size_t k = 0; k < n; k++) {
        run->items += infers[k]->request.items;
        rows = rows && (infers[k]->served->max_batch < 2 || rows_of(infers[k]) > 0);
    }
    return rows;
}

static void run_each(ps_batch_run *run, ps_infer **infers, size_t n) {
    for (size_t k = 0; k < n; k++)
        run_alone(run, infers[k]);
    if (n == 1) return;
    run->cut = false;
    run->measured_ns = 0;
}

void ps_batch_run_all(ps_batch_run *run, ps_infer **infers, size_t n) {
    const int64_t start = ps_clock_ns();
    ps_infer **ready = n > 1 ? ps_arena_array(&infers[0]->arena, n, sizeof *ready) : NULL;
    run->measured_ns = 0;
    run->cut = false;
    if (ready) {
        n = prepare_all(run, infers, n, ready);
        infers = ready;
    }
    const bool tells = count_items(run, infers, n);
    joined j = { .infers = ready, .n = n };
    if (n == 0 || (ready && run_together(run, &j, start))) return; /* 0: all are too late, or given up */
    const int64_t cut_ns = run->cut ? run->measured_ns : 0; /* then each is too late now */
    run_each(run, infers, n);
    if (cut_ns) {
        run->cut = true;
        run->measured_ns = cut_ns;
    } else if (run->measured_ns) {
        if (ready) run->measured_ns = ps_clock_ns() - start; /* the others took time before they failed, too */
        if (!tells) run->measured_ns = 0;
    }
}

void ps_batch_room_release(ps_alloc_state *alloc, ps_batch_room *room) {
    ps_free(alloc, room->data);
    *room = (ps_batch_room) { 0 };
}
