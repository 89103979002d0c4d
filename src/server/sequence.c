#include "server/sequence.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"
#include "base/os.h"
#include "base/thread.h"
#include "server/core.h"
#include "server/json_text.h"
#include "server/repository_path.h"
#include "server/sequence_int.h"

#define MAX_FILE ((size_t)1 << 20)

struct ps_sequence {
    ps_sequences *owner;
    char *id;
    bool busy; /* a request has its turn: only that request's thread touches `live` and `states` */
    bool live; /* started and not ended */
    ps_infer *first_waiting, **last_waiting;
    size_t n_waiting;
    ps_tensor **states; /* one for each pair; NULL while not live */
    int64_t used_ns;
    ps_sequence *older, *newer; /* by used_ns */
};

struct ps_sequences {
    ps_engine *engine;
    ps_alloc_state *alloc;
    ps_arena arena;
    ps_state_file file;
    const ps_value_info *inputs, *outputs;
    ps_mutex lock;
    ps_map by_id; /* guarded by lock, like the list and what is not said otherwise above */
    ps_sequence *oldest, *newest;
    size_t count;
};

/* ---- the model's file ---- */

static ps_status read_file(ps_sequences *s, const char *path, size_t n_inputs, size_t n_outputs, ps_error *err) {
    char *text;
    size_t size;
    PS_TRY(ps_file_read(s->alloc, path, MAX_FILE, &text, &size, err));
    ps_status status =
        ps_state_file_read(text, size, s->inputs, n_inputs, s->outputs, n_outputs, &s->arena, &s->file, err);
    ps_free(s->alloc, text);
    if (status != PS_OK) ps_error_prefix(err, "%s", path);
    return status;
}

static ps_sequences *create(ps_engine *engine) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    ps_sequences *s = ps_alloc_zero(alloc, sizeof *s);
    if (!s) return NULL;
    if (!ps_mutex_init(&s->lock)) {
        ps_free(alloc, s);
        return NULL;
    }
    s->engine = engine;
    s->alloc = alloc;
    ps_arena_init(&s->arena, alloc);
    ps_map_init(&s->by_id, alloc);
    return s;
}

/* What the server's configuration says of the model. */
static ps_status read_text(ps_sequences *s, const char *text, size_t n_inputs, size_t n_outputs, ps_error *err) {
    ps_status status =
        ps_state_file_read(text, strlen(text), s->inputs, n_inputs, s->outputs, n_outputs, &s->arena, &s->file, err);
    if (status != PS_OK) ps_error_prefix(err, "the model's configuration");
    return status;
}

ps_status ps_sequences_load(ps_engine *engine, const char *model_file, const char *text, const ps_value_info *inputs,
                            size_t n_inputs, const ps_value_info *outputs, size_t n_outputs, ps_sequences **ret,
                            ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    char *path = ps_model_file_beside(alloc, model_file, ".state.json");
    ps_sequences *s = NULL;
    ps_status status = PS_OK;
    *ret = NULL;
    if (!path) return PS_FAIL_NOMEM(err, "a path");
    if (!text && !ps_file_exists(path)) goto out;
    s = create(engine);
    if (!s) PS_FAIL_OUT(err, NO_MEMORY, "out of memory for the sequences of a model");
    s->inputs = inputs;
    s->outputs = outputs;
    PS_TRY_OUT(text ? read_text(s, text, n_inputs, n_outputs, err) : read_file(s, path, n_inputs, n_outputs, err));
    *ret = s;
out:
    if (status != PS_OK) ps_sequences_free(s);
    ps_free(alloc, path);
    return status;
}

/* ---- one sequence; the lock is held where there are others ---- */

static void forget_states(ps_sequence *q) {
    for (size_t i = 0; i < q->owner->file.n_pairs; i++) {
        ps_tensor_release(q->states[i]);
        q->states[i] = NULL;
    }
    q->live = false;
}

static void unlink_sequence(ps_sequence *q) {
    ps_sequences *s = q->owner;
    *(q->older ? &q->older->newer : &s->oldest) = q->newer;
    *(q->newer ? &q->newer->older : &s->newest) = q->older;
    q->older = q->newer = NULL;
}

static void link_newest(ps_sequence *q) {
    ps_sequences *s = q->owner;
    q->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = q;
    s->newest = q;
    q->used_ns = ps_clock_ns();
}

static void sequence_free(ps_sequence *q) {
    ps_sequences *s = q->owner;
    if (q->states) forget_states(q);
    ps_free(s->alloc, q->states);
    ps_free(s->alloc, q->id);
    ps_free(s->alloc, q);
}

static void remove_sequence(ps_sequence *q) {
    ps_map_remove(&q->owner->by_id, q->id);
    unlink_sequence(q);
    q->owner->count--;
    sequence_free(q);
}

void ps_sequences_free(ps_sequences *s) {
    if (!s) return;
    while (s->oldest)
        remove_sequence(s->oldest);
    ps_map_release(&s->by_id);
    ps_mutex_destroy(&s->lock);
    ps_arena_release(&s->arena);
    ps_free(s->alloc, s);
}

static ps_status add_sequence(ps_sequences *s, const ps_infer *infer, ps_sequence **ret, ps_error *err) {
    PS_FAIL_IF(s->count >= (size_t)s->file.max_sequences, err, UNAVAILABLE,
               "model '%s' has %zu sequences in progress, which is its limit", infer->served->name, s->count);
    ps_sequence *q = ps_alloc_zero(s->alloc, sizeof *q);
    if (!q) return PS_FAIL_NOMEM(err, "a sequence");
    q->owner = s;
    q->last_waiting = &q->first_waiting;
    q->id = ps_strdup(s->alloc, infer->sequence_id);
    q->states = ps_alloc_zero(s->alloc, s->file.n_pairs * sizeof *q->states);
    if (!q->id || !q->states || !ps_map_put(&s->by_id, q->id, q)) {
        sequence_free(q);
        return PS_FAIL_NOMEM(err, "a sequence");
    }
    link_newest(q);
    s->count++;
    *ret = q;
    return PS_OK;
}

/* Those that nobody asked about for too long. Busy ones are never among them: they move to the end when they finish. */
static void remove_idle(ps_sequences *s) {
    int64_t limit = ps_clock_ns() - s->file.idle_seconds * INT64_C(1000000000);
    for (ps_sequence *q = s->oldest, *next; q && q->used_ns < limit; q = next) {
        next = q->newer;
        if (!q->busy) remove_sequence(q);
    }
}

bool ps_sequences_live(ps_sequences *s) {
    if (!s) return false;
    ps_mutex_lock(&s->lock);
    remove_idle(s);
    bool live = s->count > 0;
    ps_mutex_unlock(&s->lock);
    return live;
}

bool ps_sequences_has(ps_sequences *s, const char *id) {
    if (!s) return false;
    ps_mutex_lock(&s->lock);
    remove_idle(s);
    bool has = ps_map_get(&s->by_id, id) != NULL;
    ps_mutex_unlock(&s->lock);
    return has;
}

bool ps_sequences_end(ps_sequences *s, const char *id) {
    ps_mutex_lock(&s->lock);
    ps_sequence *q = ps_map_get(&s->by_id, id);
    bool busy = q && q->busy;
    if (q && !busy) remove_sequence(q);
    ps_mutex_unlock(&s->lock);
    return !busy;
}

/* ---- a request's way ---- */

static ps_status not_started(const ps_infer *infer, ps_error *err) {
    return PS_FAIL(err, INVALID,
                   "model '%s': sequence '%.128s' is not in progress: it ended, was idle for too long, or its first "
                   "request had no sequence_start",
                   infer->served->name, infer->sequence_id + 1);
}

static ps_status enter(ps_sequences *s, ps_infer *infer, bool *ret_waits, ps_error *err) {
    remove_idle(s);
    ps_sequence *q = ps_map_get(&s->by_id, infer->sequence_id);
    if (!q && !infer->sequence_start) return not_started(infer, err);
    if (!q) PS_TRY(add_sequence(s, infer, &q, err));
    infer->refused = q->n_waiting == PS_SEQUENCE_MAX_WAITING ? PS_SCHED_FULL : PS_SCHED_OK;
    PS_FAIL_IF(infer->refused != PS_SCHED_OK, err, UNAVAILABLE,
               "model '%s': %d requests of sequence '%.128s' wait already", infer->served->name,
               PS_SEQUENCE_MAX_WAITING, infer->sequence_id + 1);
    infer->sequence = q;
    *ret_waits = q->busy;
    if (q->busy) {
        infer->next_of_sequence = NULL;
        *q->last_waiting = infer;
        q->last_waiting = &infer->next_of_sequence;
        q->n_waiting++;
    }
    q->busy = true;
    return PS_OK;
}

ps_status ps_sequence_enter(ps_infer *infer, bool *ret_waits, ps_error *err) {
    ps_sequences *s = infer->served->sequences;
    PS_FAIL_IF(!s, err, UNSUPPORTED,
               "model '%s' keeps no state: neither its configuration nor a .state.json beside its file names one",
               infer->served->name);
    ps_mutex_lock(&s->lock);
    ps_status status = enter(s, infer, ret_waits, err);
    ps_mutex_unlock(&s->lock);
    return status;
}

void ps_sequence_withdraw(ps_infer *infer) {
    ps_sequence *q = infer->sequence;
    ps_mutex_lock(&q->owner->lock);
    ps_infer **at = &q->first_waiting;
    while (*at != infer)
        at = &(*at)->next_of_sequence;
    *at = infer->next_of_sequence;
    if (!*at) q->last_waiting = at;
    q->n_waiting--;
    infer->sequence = NULL;
    ps_mutex_unlock(&q->owner->lock);
}

static ps_status first_state(const ps_sequences *s, const ps_state_pair *pair, ps_tensor **ret, ps_error *err) {
    PS_TRY(ps_tensor_create(s->engine, s->inputs[pair->input].dtype, &pair->shape, ret, err));
    memset(ps_tensor_data(*ret), 0, ps_tensor_bytes(*ret));
    return PS_OK;
}

ps_status ps_sequence_bind(ps_infer *infer, ps_error *err) {
    ps_sequence *q = infer->sequence;
    const ps_sequences *s = q->owner;
    if (!q->live && !infer->sequence_start) return not_started(infer, err);
    for (size_t i = 0; i < s->file.n_pairs; i++) {
        ps_tensor **slot = &infer->tensors[s->file.pairs[i].input];
        if (*slot) continue; /* the request brings its own */
        if (infer->sequence_start)
            PS_TRY(first_state(s, &s->file.pairs[i], slot, err));
        else
            *slot = ps_tensor_retain(q->states[i]);
    }
    return PS_OK;
}

/* *state becomes a copy of t. */
static ps_status keep_state(const ps_sequences *s, ps_tensor **state, const ps_tensor *t, ps_error *err) {
    const ps_shape *shape = ps_tensor_shape(t);
    if (!*state || ps_tensor_shape(*state)->rank != shape->rank ||
        memcmp(ps_tensor_shape(*state)->dims, shape->dims, (size_t)shape->rank * sizeof *shape->dims) != 0) {
        ps_tensor *fresh;
        PS_TRY(ps_tensor_create(s->engine, ps_tensor_dtype(t), shape, &fresh, err));
        ps_tensor_release(*state);
        *state = fresh;
    }
    memcpy(ps_tensor_data(*state), ps_tensor_data_const(t), ps_tensor_bytes(t));
    return PS_OK;
}

ps_status ps_sequence_keep(ps_infer *infer, ps_tensor *const *outputs, ps_error *err) {
    ps_sequence *q = infer->sequence;
    const ps_sequences *s = q->owner;
    q->live = true;
    for (size_t i = 0; i < s->file.n_pairs; i++) {
        ps_status status = keep_state(s, &q->states[i], outputs[s->file.pairs[i].output], err);
        if (status == PS_OK) continue;
        forget_states(q); /* half of the states would be wrong answers */
        return status;
    }
    return PS_OK;
}

ps_infer *ps_sequence_leave(ps_infer *infer) {
    ps_sequence *q = infer->sequence;
    ps_sequences *s = q->owner;
    ps_mutex_lock(&s->lock);
    infer->sequence = NULL;
    if (infer->sequence_end && infer->status == PS_OK) forget_states(q);
    ps_infer *next = q->first_waiting;
    if (next) {
        q->first_waiting = next->next_of_sequence;
        if (!q->first_waiting) q->last_waiting = &q->first_waiting;
        q->n_waiting--;
    }
    q->busy = next != NULL;
    unlink_sequence(q);
    link_newest(q);
    if (!q->busy && !q->live) remove_sequence(q);
    ps_mutex_unlock(&s->lock);
    return next;
}

/* ---- description ---- */

size_t ps_sequences_states(const ps_sequences *s) {
    return s ? s->file.n_pairs : 0;
}

ps_sequence_state ps_sequences_state(const ps_sequences *s, size_t i) {
    const ps_state_pair *p = &s->file.pairs[i];
    return (ps_sequence_state) { p->input, p->output, p->shape };
}

int64_t ps_sequences_idle_us(const ps_sequences *s) {
    return s->file.idle_seconds * 1000000;
}

void ps_sequences_write_config(const ps_sequences *s, ps_str *out) {
    if (!s) return;
    ps_str_printf(out, ",\"sequence_batching\":{\"max_sequence_idle_microseconds\":%" PRId64 ",\"state\":[",
                  ps_sequences_idle_us(s));
    for (size_t i = 0; i < s->file.n_pairs; i++) {
        const ps_state_pair *p = &s->file.pairs[i];
        ps_str_append(out, i ? ",{\"input_name\":" : "{\"input_name\":");
        ps_json_write_string(out, s->inputs[p->input].name);
        ps_str_append(out, ",\"output_name\":");
        ps_json_write_string(out, s->outputs[p->output].name);
        ps_str_printf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":[", ps_dtype_v2_name(s->inputs[p->input].dtype));
        for (int d = 0; d < p->shape.rank; d++)
            ps_str_printf(out, "%s%" PRId64, d ? "," : "", p->shape.dims[d]);
        ps_str_append(out, "]}");
    }
    ps_str_append(out, "]}");
}
