/* Arguments of the node at hand. What is missing has the default of PyTorch's schema, which the mapping knows. */
#include <string.h>

#include "torch/aten.h"

/* The argument's value and its kind ("as_int"); NULL if absent or None. */
static const json_t *find(ps_tb *b, const char *name, const char **ret_kind) {
    size_t i;
    const json_t *arg;
    json_array_foreach(b->inputs, i, arg) {
        const char *is = json_string_value(json_object_get(arg, "name"));
        if (!is || strcmp(is, name) != 0) continue;
        const json_t *v = ps_json_union(json_object_get(arg, "arg"), ret_kind);
        if (!v) PS_TB_FAIL(b, FORMAT, "%s: argument '%s' has no value", b->label, name);
        return v && strcmp(*ret_kind, "as_none") == 0 ? NULL : v;
    }
    return NULL;
}

static bool is(const char *kind, const char *want) {
    return strcmp(kind, want) == 0;
}

static void wrong_kind(ps_tb *b, const char *name, const char *kind, const char *want) {
    PS_TB_FAIL(b, UNSUPPORTED, "%s: argument '%.60s' is of kind '%.40s', %s is supported", b->label, name, kind, want);
}

bool ps_tb_has(ps_tb *b, const char *name) {
    const char *kind;
    return b->status == PS_OK && find(b, name, &kind) != NULL;
}

/* ---- names ---- */

static ps_torch_name *known_name(ps_tb *b, const char *text) {
    ps_torch_name *n = text ? ps_map_get(&b->scope->names, text) : NULL;
    if (!n)
        PS_TB_FAIL(b, FORMAT, "%s: reads '%.100s', which nothing before it defines", b->label, text ? text : "");
    else if (n->stale)
        PS_TB_FAIL(b, UNSUPPORTED,
                   "%s: reads '%.80s', a view of memory that %.100s changed: export with run_decompositions({}), which "
                   "leaves no in-place operators",
                   b->label, n->name, n->stale);
    return b->status == PS_OK ? n : NULL;
}

static ps_value *named_tensor(ps_tb *b, const json_t *holder) {
    ps_torch_name *n = known_name(b, json_string_value(json_object_get(holder, "name")));
    if (n && n->number) PS_TB_FAIL(b, FORMAT, "%s: '%.100s' is a number, a tensor is wanted", b->label, n->name);
    return n && !n->number ? n->value : NULL;
}

static ps_value *named_number(ps_tb *b, const json_t *holder) {
    ps_torch_name *n = known_name(b, json_string_value(json_object_get(holder, "as_name")));
    if (n && !n->number) PS_TB_FAIL(b, FORMAT, "%s: '%.100s' is a tensor, a number is wanted", b->label, n->name);
    return n && n->number ? n->value : NULL;
}

/* ---- tensors ---- */

/* {"as_tensor": …} or {"as_none": …} */
static ps_value *maybe_tensor(ps_tb *b, const json_t *v) {
    const char *kind;
    const json_t *inner = ps_json_union(v, &kind);
    if (inner && is(kind, "as_tensor")) return named_tensor(b, inner);
    if (!inner || !is(kind, "as_none"))
        PS_TB_FAIL(b, FORMAT, "%s: an optional tensor is neither one nor None", b->label);
    return NULL;
}

ps_value *ps_tb_tensor_or_null(ps_tb *b, const char *name) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return NULL;
    if (is(kind, "as_tensor")) return named_tensor(b, v);
    if (is(kind, "as_optional_tensor")) return maybe_tensor(b, v);
    wrong_kind(b, name, kind, "a tensor");
    return NULL;
}

ps_value *ps_tb_tensor(ps_tb *b, const char *name) {
    ps_value *v = ps_tb_tensor_or_null(b, name);
    if (!v) PS_TB_FAIL(b, FORMAT, "%s: has no tensor '%s'", b->label, name);
    return v;
}

ps_value **ps_tb_tensors(ps_tb *b, const char *name, size_t *ret_n) {
    const char *kind;
    *ret_n = 0;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) {
        PS_TB_FAIL(b, FORMAT, "%s: has no tensors '%s'", b->label, name);
        return NULL;
    }
    bool optional = is(kind, "as_optional_tensors");
    if ((!optional && !is(kind, "as_tensors")) || !json_is_array(v)) {
        wrong_kind(b, name, kind, "a list of tensors");
        return NULL;
    }
    size_t n = json_array_size(v);
    ps_value **list = ps_arena_array(&b->arena, n + 1, sizeof(ps_value *));
    if (!list) {
        ps_tb_no_memory(b);
        return NULL;
    }
    for (size_t i = 0; i < n && b->status == PS_OK; i++) {
        const json_t *item = json_array_get(v, i);
        list[i] = optional ? maybe_tensor(b, item) : named_tensor(b, item);
    }
    if (b->status != PS_OK) return NULL;
    *ret_n = n;
    return list;
}

/* ---- numbers known now ---- */

/* A vector of one that a constant holds. */
static bool constant_int(const ps_value *v, int64_t *ret) {
    size_t n;
    return v && v->constant && ps_tensor_get_ints(v->constant, ret, 1, &n) && n == 1;
}

int64_t ps_tb_int(ps_tb *b, const char *name, int64_t def) {
    const char *kind;
    int64_t n;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return def;
    if (json_is_integer(v) && (is(kind, "as_int") || is(kind, "as_scalar_type") || is(kind, "as_memory_format")))
        return json_integer_value(v);
    if (json_is_boolean(v)) return json_is_true(v);
    if (is(kind, "as_sym_int")) {
        const json_t *plain = json_object_get(v, "as_int");
        if (json_is_integer(plain)) return json_integer_value(plain);
        if (constant_int(named_number(b, v), &n)) return n;
        PS_TB_FAIL(b, UNSUPPORTED, "%s: argument '%s' is computed when the model runs; it must be known before",
                   b->label, name);
        return def;
    }
    wrong_kind(b, name, kind, "an integer");
    return def;
}

double ps_tb_double(ps_tb *b, const char *name, double def) {
    double d = def;
    if (ps_tb_has(b, name) && !ps_tb_known(b, name, &d))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: argument '%s' is no number that is known before the model runs", b->label,
                   name);
    return d;
}

bool ps_tb_known(ps_tb *b, const char *name, double *ret) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    int64_t n;
    if (!v) return false;
    if (is(kind, "as_int") || is(kind, "as_float")) return ps_json_double(v, ret);
    if (is(kind, "as_sym_float")) return ps_json_double(json_object_get(v, "as_float"), ret);
    if (json_is_boolean(v)) {
        *ret = json_is_true(v);
        return true;
    }
    if (!is(kind, "as_sym_int")) return false;
    if (ps_json_double(json_object_get(v, "as_int"), ret)) return true;
    if (!constant_int(named_number(b, v), &n)) return false;
    *ret = (double)n;
    return true;
}

bool ps_tb_bool(ps_tb *b, const char *name, bool def) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return def;
    if (json_is_boolean(v)) return json_is_true(v);
    if (json_is_integer(v)) return json_integer_value(v) != 0;
    wrong_kind(b, name, kind, "true or false");
    return def;
}

const char *ps_tb_text(ps_tb *b, const char *name, const char *def) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return def;
    if (json_is_string(v) && is(kind, "as_string")) return json_string_value(v);
    wrong_kind(b, name, kind, "text");
    return def;
}

ps_dtype ps_tb_type(ps_tb *b, const char *name, ps_dtype def) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return def;
    ps_dtype t = json_is_integer(v) ? ps_torch_dtype(json_integer_value(v)) : PS_DTYPE_UNDEFINED;
    if (t == PS_DTYPE_UNDEFINED) PS_TB_FAIL(b, UNSUPPORTED, "%s: '%s' is no supported scalar type", b->label, name);
    return t;
}

/* One entry of a list of numbers, or a number by itself. */
static bool one_int(ps_tb *b, const json_t *v, int64_t *ret) {
    if (json_is_boolean(v)) *ret = json_is_true(v);
    if (json_is_boolean(v)) return true;
    const json_t *plain = json_is_object(v) ? json_object_get(v, "as_int") : v;
    if (json_is_integer(plain)) {
        *ret = json_integer_value(plain);
        return true;
    }
    return json_is_object(v) && constant_int(named_number(b, v), ret);
}

size_t ps_tb_ints(ps_tb *b, const char *name, int64_t *ret, size_t max) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) return 0;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > max) {
        PS_TB_FAIL(b, LIMIT, "%s: argument '%s' lists %zu numbers, at most %zu are supported", b->label, name, n, max);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (one_int(b, json_is_array(v) ? json_array_get(v, i) : v, &ret[i])) continue;
        PS_TB_FAIL(b, UNSUPPORTED, "%s: argument '%s' holds what is no integer known before the model runs", b->label,
                   name);
        return 0;
    }
    return n;
}

void ps_tb_ints_n(ps_tb *b, const char *name, int64_t def, int64_t *ret, size_t n) {
    size_t got = ps_tb_ints(b, name, ret, n);
    if (got != 0 && got != 1 && got != n)
        PS_TB_FAIL(b, FORMAT, "%s: argument '%s' lists %zu numbers, not %zu", b->label, name, got, n);
    for (size_t i = got; i < n; i++)
        ret[i] = got == 1 ? ret[0] : def;
}

int64_t ps_tb_axis(ps_tb *b, const char *name, int64_t def, int rank) {
    int axis = 0;
    int64_t given = ps_tb_int(b, name, def);
    if (b->status == PS_OK && !ps_axis_normalize(given, rank ? rank : 1, &axis))
        PS_TB_FAIL(b, FORMAT, "%s: '%s' is %lld, the tensor has %d dims", b->label, name, (long long)given, rank);
    return axis;
}

/* ---- numbers that may be symbolic ---- */

/* An integer entry as a vector of one. */
static ps_value *int_value(ps_tb *b, const json_t *v) {
    int64_t n;
    if (one_int(b, v, &n)) return ps_tb_one(b, n);
    if (json_is_object(v)) return ps_tb_cast(b, named_number(b, v), PS_DTYPE_I64);
    PS_TB_FAIL(b, FORMAT, "%s: a size is no integer", b->label);
    return NULL;
}

ps_value *ps_tb_size(ps_tb *b, const char *name, int64_t def) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    return v ? int_value(b, v) : ps_tb_one(b, def);
}

static ps_value *vector_of(ps_tb *b, const json_t *list, size_t n) {
    ps_value *parts[PS_MAX_RANK * 2];
    int64_t fixed[PS_MAX_RANK * 2];
    bool all = true;
    for (size_t i = 0; i < n; i++)
        all = all && one_int(b, json_array_get(list, i), &fixed[i]);
    if (b->status != PS_OK) return NULL;
    if (all) return ps_tb_vector(b, fixed, n);
    for (size_t i = 0; i < n; i++)
        parts[i] = int_value(b, json_array_get(list, i));
    return n == 1 ? parts[0] : ps_tb_concat(b, parts, n, 0);
}

ps_value *ps_tb_dims(ps_tb *b, const char *name) {
    const char *kind;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v) {
        PS_TB_FAIL(b, FORMAT, "%s: has no list '%s'", b->label, name);
        return NULL;
    }
    if (!json_is_array(v)) return int_value(b, v);
    size_t n = json_array_size(v);
    if (n > PS_MAX_RANK * 2) {
        PS_TB_FAIL(b, LIMIT, "%s: argument '%s' lists %zu sizes", b->label, name, n);
        return NULL;
    }
    return vector_of(b, v, n);
}

static ps_value *known_number(ps_tb *b, ps_dtype t, double d, int64_t n) {
    static const int64_t one = 1;
    uint8_t flag = d != 0;
    return ps_tb_constant(b, t, &one, 1,
                          t == PS_DTYPE_I64    ? (const void *)&n
                          : t == PS_DTYPE_BOOL ? (void *)&flag
                                               : &d);
}

ps_value *ps_tb_number(ps_tb *b, const char *name) {
    const char *kind;
    double d;
    const json_t *v = b->status == PS_OK ? find(b, name, &kind) : NULL;
    if (!v || is(kind, "as_tensor") || is(kind, "as_optional_tensor")) return NULL;
    const json_t *plain = v;
    if (json_is_object(v)) {
        plain = json_object_get(v, "as_int");
        if (!plain) plain = json_object_get(v, "as_float");
        if (!plain) plain = json_object_get(v, "as_bool");
        if (!plain) return named_number(b, v);
    }
    if (json_is_integer(plain))
        return known_number(b, PS_DTYPE_I64, (double)json_integer_value(plain), json_integer_value(plain));
    if (json_is_boolean(plain)) return known_number(b, PS_DTYPE_BOOL, json_is_true(plain), 0);
    if (ps_json_double(plain, &d)) return known_number(b, PS_DTYPE_F64, d, 0);
    wrong_kind(b, name, kind, "a number");
    return NULL;
}

ps_value *ps_tb_operand(ps_tb *b, const char *name, bool *ret_number) {
    ps_value *v = ps_tb_number(b, name);
    *ret_number = v != NULL;
    return v ? ps_tb_squeeze(b, v, 0) : ps_tb_tensor(b, name);
}
