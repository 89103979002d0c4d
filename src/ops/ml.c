/* ml.c - see ml.h. */
#include "ops/ml.h"

#include <math.h>

#include "base/map.h"

/* ---- features ---- */

ps_ml_rows ps_ml_rows_of(const ps_shape *shape) {
    if (shape->rank < 1) return (ps_ml_rows) { PS_DIM_UNKNOWN, PS_DIM_UNKNOWN };
    if (shape->rank == 1) return (ps_ml_rows) { 1, shape->dims[0] };
    return (ps_ml_rows) { shape->dims[0], shape->dims[1] };
}

ps_status ps_ml_check(const ps_node *node, size_t i, ps_ml_rows *ret, ps_error *err) {
    const ps_value *v = node->in[i];
    bool fits = v->dtype == PS_DTYPE_UNDEFINED || v->dtype == PS_DTYPE_F32 || v->dtype == PS_DTYPE_F64 ||
                v->dtype == PS_DTYPE_I32 || v->dtype == PS_DTYPE_I64;
    PS_NODE_FAIL_IF(!fits, node, err, TYPE, "input %zu is %s; f32, f64, i32 or i64 is needed", i,
                    ps_dtype_name(v->dtype));
    PS_NODE_FAIL_IF(v->shape.rank == 0 || v->shape.rank > 2, node, err, SHAPE, "input %zu is %s, not [N,F] or [F]", i,
                    PS_SHAPE_TEXT(&v->shape));
    if (ret) *ret = ps_ml_rows_of(&v->shape);
    return PS_OK;
}

void ps_ml_row(const ps_tensor *t, int64_t row, int64_t features, double *dst) {
    ps_row_load(dst, t->dtype, t->data, row * features, 1, features);
    for (int64_t k = 0; k < features && ps_dtype_is_int(t->dtype); k++)
        dst[k] = (double)(float)dst[k];
}

/* ---- labels ---- */

ps_status ps_ml_put_label(ps_tensor *out, size_t i, const ps_ml_labels *labels, size_t index, ps_error *err) {
    char text[24];
    if (out->dtype == PS_DTYPE_STRING) {
        const char *label = text;
        if (index < labels->strings.n)
            label = labels->strings.data[index];
        else
            ps_snprintf(text, sizeof text, "%zu", index);
        return ps_tensor_set_string(out, i, label, strlen(label), err);
    }
    ((int64_t *)out->data)[i] = index < labels->ints.n ? labels->ints.data[index] : (int64_t)index;
    return PS_OK;
}

/* ---- scores ---- */

ps_status ps_ml_transform_parse(const ps_node *node, const char *name, ps_ml_transform *ret, ps_error *err) {
    static const char *const names[] = { "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT" };
    for (int k = 0; k < PS_ML_TRANSFORM_COUNT; k++) {
        if (strcmp(name, names[k]) != 0) continue;
        *ret = (ps_ml_transform)k;
        return PS_OK;
    }
    return PS_NODE_FAIL(node, err, FORMAT, "post_transform '%.40s' is not known", name);
}

double ps_ml_logistic(double x) {
    double v = 1 / (1 + exp(-fabs(x)));
    return x < 0 ? 1 - v : v;
}

/* The inverse of the normal distribution by S. Winitzki's formula for the inverse of erf (A handy approximation for the
 * error function and its inverse, 2008), with the constants that ONNX Runtime uses. */
double ps_ml_probit(double x) {
    double v = 2 * x - 1, sign = v < 0 ? -1 : 1, l = log((1 - v) * (1 + v));
    double a = 2 / (3.14159 * 0.147) + 0.5 * l, b = l / 0.147;
    return 1.41421356 * sign * sqrt(sqrt(a * a - b) - a);
}

static void softmax(double *scores, int64_t n, bool skip_zero) {
    double most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < n; k++)
        most = fmax(most, scores[k]);
    for (int64_t k = 0; k < n; k++) {
        bool zero = skip_zero && fabs(scores[k]) <= 1e-7;
        scores[k] = zero ? scores[k] * exp(-most) : exp(scores[k] - most);
        if (!zero) sum += scores[k];
    }
    for (int64_t k = 0; k < n; k++)
        scores[k] /= sum;
}

void ps_ml_apply(ps_ml_transform transform, double *scores, int64_t n) {
    if (transform == PS_ML_SOFTMAX || transform == PS_ML_SOFTMAX_ZERO)
        softmax(scores, n, transform == PS_ML_SOFTMAX_ZERO);
    for (int64_t k = 0; k < n; k++) {
        if (transform == PS_ML_LOGISTIC) scores[k] = ps_ml_logistic(scores[k]);
        if (transform == PS_ML_PROBIT) scores[k] = ps_ml_probit(scores[k]);
    }
}

void ps_ml_expand(ps_ml_transform transform, ps_ml_second how, double score, double ret[2]) {
    bool logistic = transform == PS_ML_LOGISTIC;
    ret[1] = logistic ? ps_ml_logistic(score) : score;
    ret[0] = logistic ? ps_ml_logistic(-score) : how == PS_ML_MIRROR ? -score : 1 - score;
}

/* ---- tables of keys ---- */

uint64_t ps_ml_key_real(double v) {
    uint64_t bits;
    if (v == 0) v = 0;
    if (isnan(v)) return UINT64_MAX; /* a NaN itself, but the same for all */
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static size_t slot_of(const ps_ml_keys *keys, uint64_t number, const ps_string *s) {
    uint64_t hash = s ? ps_hash_bytes(s->data, s->size, 0) : ps_hash_bytes(&number, sizeof number, 0);
    size_t slot = hash & (keys->room - 1);
    for (; keys->slots[slot]; slot = (slot + 1) & (keys->room - 1)) {
        size_t k = keys->slots[slot] - 1;
        if (!s && keys->numbers[k] == number) break;
        if (s && keys->strings[k].size == s->size && memcmp(keys->strings[k].data, s->data, s->size) == 0) break;
    }
    return slot;
}

/* keys->n and one of the arrays are set. */
static ps_status index_keys(ps_arena *arena, bool last, ps_ml_keys *keys, ps_error *err) {
    PS_FAIL_IF(keys->n >= UINT32_MAX / 4, err, LIMIT, "%zu keys are too many", keys->n);
    for (keys->room = 8; keys->room < 2 * keys->n;)
        keys->room *= 2;
    uint32_t *slots = ps_arena_array(arena, keys->room, sizeof *slots);
    if (!slots) return PS_FAIL_NOMEM(err, "a table of keys");
    keys->slots = slots;
    for (size_t k = 0; k < keys->n; k++) {
        size_t slot = slot_of(keys, keys->numbers ? keys->numbers[k] : 0, keys->strings ? &keys->strings[k] : NULL);
        if (last || !slots[slot]) slots[slot] = (uint32_t)k + 1;
    }
    return PS_OK;
}

static ps_status new_numbers(ps_arena *arena, size_t n, uint64_t **ret, ps_ml_keys *keys, ps_error *err) {
    *ret = ps_arena_array(arena, n + 1, sizeof **ret);
    *keys = (ps_ml_keys) { .n = n, .numbers = *ret };
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a table of keys");
}

ps_status ps_ml_keys_ints(ps_arena *arena, const int64_t *v, size_t n, bool last, ps_ml_keys *ret, ps_error *err) {
    uint64_t *numbers;
    PS_TRY(new_numbers(arena, n, &numbers, ret, err));
    for (size_t k = 0; k < n; k++)
        numbers[k] = ps_ml_key_int(v[k]);
    return index_keys(arena, last, ret, err);
}

ps_status ps_ml_keys_floats(ps_arena *arena, const float *v, size_t n, bool last, ps_ml_keys *ret, ps_error *err) {
    uint64_t *numbers;
    PS_TRY(new_numbers(arena, n, &numbers, ret, err));
    for (size_t k = 0; k < n; k++)
        numbers[k] = ps_ml_key_real(v[k]);
    return index_keys(arena, last, ret, err);
}

ps_status ps_ml_keys_strings(ps_arena *arena, const char *const *v, size_t n, bool last, ps_ml_keys *ret,
                             ps_error *err) {
    ps_string *strings = ps_arena_array(arena, n + 1, sizeof *strings);
    if (!strings) return PS_FAIL_NOMEM(err, "a table of keys");
    for (size_t k = 0; k < n; k++)
        strings[k] = (ps_string) { v[k], strlen(v[k]) };
    *ret = (ps_ml_keys) { .n = n, .strings = strings };
    return index_keys(arena, last, ret, err);
}

static uint64_t number_at(const ps_tensor *t, size_t k) {
    double v = 0;
    int64_t i = 0;
    switch (t->dtype) {
    case PS_DTYPE_I64: return ps_ml_key_int(((const int64_t *)t->data)[k]);
    case PS_DTYPE_U64: return ((const uint64_t *)t->data)[k];
    default:
        ps_row_load(&v, t->dtype, t->data, (int64_t)k, 1, 1);
        i = ps_dtype_is_int(t->dtype) || t->dtype == PS_DTYPE_BOOL ? (int64_t)v : 0;
        return ps_dtype_is_float(t->dtype) ? ps_ml_key_real(v) : ps_ml_key_int(i);
    }
}

ps_status ps_ml_keys_tensor(ps_arena *arena, const ps_tensor *t, bool last, ps_ml_keys *ret, ps_error *err) {
    size_t n = ps_tensor_count(t);
    if (t->dtype == PS_DTYPE_STRING) {
        ps_string *strings = ps_arena_array(arena, n + 1, sizeof *strings);
        if (!strings) return PS_FAIL_NOMEM(err, "a table of keys");
        for (size_t k = 0; k < n; k++) {
            const ps_string *s = (const ps_string *)t->data + k;
            strings[k] = (ps_string) { s->data ? s->data : "", s->size };
        }
        *ret = (ps_ml_keys) { .n = n, .strings = strings };
    } else {
        uint64_t *numbers;
        PS_TRY(new_numbers(arena, n, &numbers, ret, err));
        for (size_t k = 0; k < n; k++)
            numbers[k] = number_at(t, k);
    }
    return index_keys(arena, last, ret, err);
}

int64_t ps_ml_find(const ps_ml_keys *keys, uint64_t number) {
    return (int64_t)keys->slots[slot_of(keys, number, NULL)] - 1;
}

int64_t ps_ml_find_string(const ps_ml_keys *keys, const char *data, size_t size) {
    ps_string s = { data ? data : "", size };
    return (int64_t)keys->slots[slot_of(keys, 0, &s)] - 1;
}

int64_t ps_ml_find_element(const ps_ml_keys *keys, const ps_tensor *t, size_t k) {
    if (!keys->strings) return ps_ml_find(keys, number_at(t, k));
    const ps_string *s = (const ps_string *)t->data + k;
    return ps_ml_find_string(keys, s->data, s->size);
}
