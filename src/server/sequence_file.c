/* sequence_file.c - the file that says which outputs of a model are its next inputs. */
#include <inttypes.h>
#include <string.h>

#include "server/json_reader.h"
#include "server/sequence_int.h"

#define MAX_PAIRS 256
#define MAX_IDLE_SECONDS (INT64_C(366) * 86400)
#define MAX_SEQUENCES INT64_C(1000000)

typedef struct reader {
    ps_json json;
    const ps_value_info *inputs, *outputs;
    size_t n_inputs, n_outputs;
    ps_arena *arena;
    ps_state_file *file;
} reader;

static ps_status find(ps_json *r, const char *what, const ps_value_info *values, size_t n, int *ret, ps_error *err) {
    const char *name;
    PS_TRY(ps_json_cstring(r, &name, err));
    PS_FAIL_IF(*ret >= 0, err, FORMAT, "a state names two %ss", what);
    for (size_t i = 0; i < n; i++)
        if (strcmp(values[i].name, name) == 0) *ret = (int)i;
    PS_FAIL_IF(*ret < 0, err, FORMAT, "the model has no %s '%.128s'", what, name);
    return PS_OK;
}

static ps_status read_shape(ps_json *r, ps_state_pair *pair, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    pair->has_shape = true;
    pair->shape.rank = 0;
    PS_TRY(ps_json_enter(r, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(r, &it, &key, &more, err));
        if (!more) return PS_OK;
        PS_FAIL_IF(pair->shape.rank == PS_MAX_RANK, err, SHAPE, "a state's shape has more than %d dims", PS_MAX_RANK);
        int64_t *dim = &pair->shape.dims[pair->shape.rank++];
        PS_TRY(ps_json_int(r, dim, err));
        PS_FAIL_IF(*dim < 0, err, SHAPE, "dim %" PRId64 " of a state's shape is negative", *dim);
    }
}

/* The first state needs a whole shape, which the model's input allows. */
static ps_status check_shape(const ps_value_info *input, ps_state_pair *pair, ps_error *err) {
    const ps_shape *s = &input->shape;
    if (!pair->has_shape) pair->shape = *s;
    PS_FAIL_IF(pair->shape.rank < 0, err, SHAPE, "state '%s' needs a \"shape\": the model leaves it open", input->name);
    PS_FAIL_IF(s->rank >= 0 && s->rank != pair->shape.rank, err, SHAPE, "state '%s' has %d dims, the input %d",
               input->name, pair->shape.rank, s->rank);
    for (int d = 0; d < pair->shape.rank; d++) {
        PS_FAIL_IF(pair->shape.dims[d] < 0, err, SHAPE, "state '%s' needs a \"shape\": the model leaves dim %d open",
                   input->name, d);
        PS_FAIL_IF(s->rank >= 0 && s->dims[d] >= 0 && s->dims[d] != pair->shape.dims[d], err, SHAPE,
                   "state '%s' has %" PRId64 " in dim %d, the input %" PRId64, input->name, pair->shape.dims[d], d,
                   s->dims[d]);
    }
    return PS_OK;
}

static ps_status check_pair(const reader *r, ps_state_pair *pair, ps_error *err) {
    PS_FAIL_IF(pair->input < 0 || pair->output < 0, err, FORMAT, "a state has no \"%s\"",
               pair->input < 0 ? "input" : "output");
    const ps_value_info *in = &r->inputs[pair->input], *out = &r->outputs[pair->output];
    PS_FAIL_IF(in->dtype != out->dtype || in->dtype == PS_DTYPE_STRING, err, TYPE,
               "state '%s' is %s, output '%s' is %s: they must be the same type of numbers", in->name,
               ps_dtype_v2_name(in->dtype), out->name, ps_dtype_v2_name(out->dtype));
    for (size_t i = 0; i < r->file->n_pairs; i++)
        PS_FAIL_IF(r->file->pairs[i].input == pair->input, err, FORMAT, "input '%s' is two states", in->name);
    return check_shape(in, pair, err);
}

static ps_status read_pair(reader *r, ps_error *err) {
    ps_state_pair pair = { .input = -1, .output = -1 };
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_FAIL_IF(r->file->n_pairs == MAX_PAIRS, err, LIMIT, "there are more than %d states", MAX_PAIRS);
    PS_TRY(ps_json_enter(&r->json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&r->json, &it, &key, &more, err));
        if (!more) break;
        if (ps_json_key_is(&key, "input"))
            PS_TRY(find(&r->json, "input", r->inputs, r->n_inputs, &pair.input, err));
        else if (ps_json_key_is(&key, "output"))
            PS_TRY(find(&r->json, "output", r->outputs, r->n_outputs, &pair.output, err));
        else if (ps_json_key_is(&key, "shape"))
            PS_TRY(read_shape(&r->json, &pair, err));
        else
            return PS_FAIL(err, FORMAT, "a state has no key '%.*s': there are input, output, shape",
                           (int)(key.size < 64 ? key.size : 64), key.data);
    }
    PS_TRY(check_pair(r, &pair, err));
    r->file->pairs[r->file->n_pairs++] = pair;
    return PS_OK;
}

static ps_status read_pairs(reader *r, ps_error *err) {
    ps_json_iter it;
    ps_string key;
    bool more;
    PS_FAIL_IF(r->file->pairs, err, FORMAT, "\"states\" twice");
    r->file->pairs = ps_arena_array(r->arena, MAX_PAIRS, sizeof *r->file->pairs);
    if (!r->file->pairs) return PS_FAIL_NOMEM(err, "states");
    PS_TRY(ps_json_enter(&r->json, '[', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&r->json, &it, &key, &more, err));
        if (!more) return PS_OK;
        PS_TRY(read_pair(r, err));
    }
}

static ps_status read_limit(reader *r, const char *name, int64_t max, int64_t *ret, ps_error *err) {
    PS_TRY(ps_json_int(&r->json, ret, err));
    PS_FAIL_IF(*ret < 1 || *ret > max, err, FORMAT, "%s is %" PRId64 ", allowed are 1 to %" PRId64, name, *ret, max);
    return PS_OK;
}

static ps_status read_member(reader *r, const ps_string *key, ps_error *err) {
    if (ps_json_key_is(key, "states")) return read_pairs(r, err);
    if (ps_json_key_is(key, "idle_seconds"))
        return read_limit(r, "idle_seconds", MAX_IDLE_SECONDS, &r->file->idle_seconds, err);
    if (ps_json_key_is(key, "max_sequences"))
        return read_limit(r, "max_sequences", MAX_SEQUENCES, &r->file->max_sequences, err);
    return PS_FAIL(err, FORMAT, "no key '%.*s': there are states, idle_seconds, max_sequences",
                   (int)(key->size < 64 ? key->size : 64), key->data);
}

ps_status ps_state_file_read(const char *text, size_t size, const ps_value_info *inputs, size_t n_inputs,
                             const ps_value_info *outputs, size_t n_outputs, ps_arena *arena, ps_state_file *ret,
                             ps_error *err) {
    reader r = { .inputs = inputs, .outputs = outputs, .n_inputs = n_inputs, .n_outputs = n_outputs };
    ps_json_iter it;
    ps_string key;
    bool more;
    *ret = (ps_state_file) { .idle_seconds = 60, .max_sequences = 1024 };
    r.arena = arena;
    r.file = ret;
    ps_json_init(&r.json, text, size, arena);
    PS_TRY(ps_json_enter(&r.json, '{', &it, err));
    for (;;) {
        PS_TRY(ps_json_next(&r.json, &it, &key, &more, err));
        if (!more) break;
        PS_TRY(read_member(&r, &key, err));
    }
    PS_TRY(ps_json_finish(&r.json, err));
    PS_FAIL_IF(ret->n_pairs == 0, err, FORMAT, "it names no state");
    return PS_OK;
}
