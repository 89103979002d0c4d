/* TensorMeta: element type and sizes; and the text of symbolic sizes. */
#include <ctype.h>
#include <string.h>

#include "torch/program.h"

ps_dtype ps_torch_dtype(int64_t scalar_type) {
    static const ps_dtype types[] = {
        [1] = PS_DTYPE_U8,          [2] = PS_DTYPE_I8,        [3] = PS_DTYPE_I16,     [4] = PS_DTYPE_I32,
        [5] = PS_DTYPE_I64,         [6] = PS_DTYPE_F16,       [7] = PS_DTYPE_F32,     [8] = PS_DTYPE_F64,
        [10] = PS_DTYPE_C64,        [11] = PS_DTYPE_C128,     [12] = PS_DTYPE_BOOL,   [13] = PS_DTYPE_BF16,
        [28] = PS_DTYPE_U16,        [29] = PS_DTYPE_F8E4M3FN, [30] = PS_DTYPE_F8E5M2, [31] = PS_DTYPE_F8E4M3FNUZ,
        [32] = PS_DTYPE_F8E5M2FNUZ,
    };
    return scalar_type > 0 && (size_t)scalar_type < sizeof types / sizeof *types ? types[scalar_type]
                                                                                 : PS_DTYPE_UNDEFINED;
}

/* ---- symbolic expressions: sympy's srepr, or (before PyTorch 2.7) what str() gives ---- */

#define MAX_EXPR_DEPTH 16

static const char *skip(const char *p) {
    while (*p == ' ' || *p == ',')
        p++;
    return p;
}

/* Symbol('s77', positive=True, …): the name; p stands behind the parenthesis. */
static const char *symbol(const char *p, ps_str *out) {
    if (*p++ != '\'') return NULL;
    const char *end = strchr(p, '\'');
    if (!end || end == p || end - p > 64) return NULL;
    for (const char *c = p; c < end; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_' && *c != '.') return NULL;
    }
    ps_str_append_n(out, p, (size_t)(end - p));
    p = strchr(end, ')');
    return p ? p + 1 : NULL;
}

static const char *expr(const char *p, int depth, ps_str *out);

/* Operands of Mul(…) or Add(…) joined by the sign. */
static const char *joined(const char *p, char sign, int depth, ps_str *out) {
    for (bool first = true; *(p = skip(p)) != ')'; first = false) {
        if (!first) ps_str_char(out, sign);
        p = expr(p, depth + 1, out);
        if (!p) return NULL;
    }
    return p + 1;
}

static const char *expr(const char *p, int depth, ps_str *out) {
    if (depth > MAX_EXPR_DEPTH) return NULL;
    if (strncmp(p, "Symbol(", 7) == 0) return symbol(p + 7, out);
    if (strncmp(p, "Integer(", 8) == 0) {
        size_t n = strspn(p + 8, "-0123456789");
        ps_str_append_n(out, p + 8, n);
        return n && p[8 + n] == ')' ? p + 9 + n : NULL;
    }
    if (strncmp(p, "Mul(", 4) == 0) return joined(p + 4, '*', depth, out);
    if (strncmp(p, "Add(", 4) != 0) return NULL;
    if (depth) ps_str_char(out, '(');
    p = joined(p + 4, '+', depth, out);
    if (depth) ps_str_char(out, ')');
    return p;
}

bool ps_torch_expr_text(const char *text, ps_str *out) {
    size_t n = strlen(text),
           plain = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_*+- ");
    if (n == 0 || n > 200) return false;
    if (plain == n) {
        ps_str_append(out, text);
        return true;
    }
    const char *end = expr(text, 0, out);
    return end && *end == '\0' && out->size <= 200;
}

/* ---- sizes ---- */

/* A size that is computed: a symbol if it has a name, else unknown. */
static ps_status symbolic(const json_t *e, ps_graph *root, int64_t *ret, ps_error *err) {
    const char *text = json_string_value(json_object_get(e, "expr_str"));
    ps_str name;
    *ret = PS_DIM_UNKNOWN;
    if (!text || !root) return PS_OK;
    ps_str_init(&name, root->alloc);
    if (ps_torch_expr_text(text, &name) && !name.failed) {
        *ret = ps_graph_symbol(root, name.data);
        if (*ret == 0) name.failed = true;
    }
    bool failed = name.failed;
    ps_str_release(&name);
    return failed ? PS_FAIL_NOMEM(err, "a symbol") : PS_OK;
}

ps_status ps_torch_meta(const json_t *meta, const char *what, ps_graph *root, ps_dtype *ret_dtype, ps_shape *ret_shape,
                        ps_error *err) {
    int64_t type, layout;
    json_t *sizes;
    PS_TRY(ps_member_int(meta, "dtype", what, &type, err));
    PS_TRY(ps_member_array(meta, "sizes", what, &sizes, err));
    *ret_dtype = ps_torch_dtype(type);
    PS_FAIL_IF(*ret_dtype == PS_DTYPE_UNDEFINED, err, UNSUPPORTED,
               "%s: has PyTorch's scalar type %lld, which is not supported", what, (long long)type);
    PS_TRY(ps_member_int(meta, "layout", what, &layout, err));
    PS_FAIL_IF(layout != 7, err, UNSUPPORTED, "%s: is no strided tensor (layout %lld); sparse ones are not supported",
               what, (long long)layout);
    size_t rank = json_array_size(sizes);
    PS_FAIL_IF(rank > PS_MAX_RANK, err, LIMIT, "%s: has %zu dims, at most %d are supported", what, rank, PS_MAX_RANK);
    *ret_shape = (ps_shape) { .rank = (int)rank };
    for (size_t i = 0; i < rank; i++) {
        const char *kind;
        const json_t *v = ps_json_union(json_array_get(sizes, i), &kind);
        if (v && strcmp(kind, "as_int") == 0 && json_is_integer(v)) {
            ret_shape->dims[i] = json_integer_value(v);
            PS_FAIL_IF(ret_shape->dims[i] < 0, err, FORMAT, "%s: dim %zu is %lld", what, i,
                       (long long)ret_shape->dims[i]);
        } else {
            PS_FAIL_IF(!v || strcmp(kind, "as_expr") != 0, err, FORMAT,
                       "%s: dim %zu is neither a number nor an expression", what, i);
            PS_TRY(symbolic(v, root, &ret_shape->dims[i], err));
        }
    }
    int64_t n;
    size_t bytes;
    PS_FAIL_IF(ps_shape_fixed(ret_shape) &&
                   (!ps_shape_elements(ret_shape, &n) || !ps_dtype_bytes(*ret_dtype, n, &bytes)),
               err, LIMIT, "%s: is too large", what);
    return PS_OK;
}
