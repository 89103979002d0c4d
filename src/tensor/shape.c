/* shape.c - arithmetic of shapes, fixed and symbolic. */
#include "tensor/tensor.h"

bool ps_shape_fixed(const ps_shape *s) {
    if (s->rank < 0 || s->rank > PS_MAX_RANK) return false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dims[i] < 0) return false;
    }
    return true;
}

bool ps_shape_equal(const ps_shape *a, const ps_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dims[i] != b->dims[i]) return false;
    }
    return true;
}

/* The product of the dims that are not zero must fit as well: code that multiplies part of the dims of a checked shape
 * (ps_shape_product, strides) then needs no check of its own. */
bool ps_shape_elements(const ps_shape *s, int64_t *ret) {
    if (!ps_shape_fixed(s)) return false;
    int64_t n = 1;
    bool empty = false;
    for (int i = 0; i < s->rank; i++) {
        if (s->dims[i] == 0) {
            empty = true;
        } else if (__builtin_mul_overflow(n, s->dims[i], &n)) {
            return false;
        }
    }
    *ret = empty ? 0 : n;
    return true;
}

int64_t ps_shape_product(const ps_shape *s, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dims[i];
    return n;
}

bool ps_shape_is_tail(const ps_shape *t, const ps_shape *s, int from) {
    for (int i = 1; i <= t->rank || i <= s->rank - from; i++) {
        const int64_t own = i <= t->rank ? t->dims[t->rank - i] : 1;
        const int64_t wanted = i <= s->rank - from ? s->dims[s->rank - i] : 1;
        if (own != wanted) return false;
    }
    return true;
}

void ps_shape_strides(const ps_shape *s, int64_t strides[PS_MAX_RANK]) {
    int64_t n = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        strides[i] = n;
        n *= s->dims[i];
    }
}

const char *ps_shape_text(const ps_shape *s, char *buf, size_t size) {
    if (s->rank < 0) {
        ps_snprintf(buf, size, "[...]");
        return buf;
    }
    char text[PS_MAX_RANK * 22 + 3];
    size_t at = 0;
    text[at++] = '[';
    for (int i = 0; i < s->rank && i < PS_MAX_RANK; i++) {
        char dim[24];
        int64_t d = s->dims[i];
        if (d >= 0) {
            ps_snprintf(dim, sizeof dim, "%lld", (long long)d);
        } else if (d == PS_DIM_UNKNOWN) {
            ps_snprintf(dim, sizeof dim, "?");
        } else {
            ps_snprintf(dim, sizeof dim, "s%lld", (long long)(PS_DIM_UNKNOWN - 1 - d));
        }
        ps_snprintf(text + at, sizeof text - at, i ? ",%s" : "%s", dim);
        at += strlen(text + at);
    }
    ps_snprintf(text + at, sizeof text - at, "]");
    ps_snprintf(buf, size, "%s", text);
    return buf;
}

ps_shape ps_shape_make(int rank, const int64_t *dims) {
    ps_shape s = { .rank = rank };
    for (int i = 0; i < rank && i < PS_MAX_RANK; i++)
        s.dims[i] = dims[i];
    return s;
}

ps_shape ps_shape_unknown(void) {
    return (ps_shape) { .rank = -1 };
}

/* One dim of a broadcast: a 1 gives way; a known dim other than 1 decides, for the other can only be 1 or the same. */
static bool broadcast_dim(int64_t a, int64_t b, int64_t *ret) {
    if (a == b || b == 1) {
        *ret = a;
    } else if (a == 1) {
        *ret = b;
    } else if (a >= 0 && b >= 0) {
        return false;
    } else {
        *ret = a >= 0 ? a : b >= 0 ? b : PS_DIM_UNKNOWN;
    }
    return true;
}

bool ps_shape_broadcast(const ps_shape *a, const ps_shape *b, ps_shape *ret) {
    if (a->rank > PS_MAX_RANK || b->rank > PS_MAX_RANK) return false;
    if (a->rank < 0 || b->rank < 0) {
        *ret = ps_shape_unknown();
        return true;
    }
    ps_shape out = { .rank = a->rank > b->rank ? a->rank : b->rank };
    for (int i = 0; i < out.rank; i++) {
        int ia = i - (out.rank - a->rank), ib = i - (out.rank - b->rank);
        if (!broadcast_dim(ia < 0 ? 1 : a->dims[ia], ib < 0 ? 1 : b->dims[ib], &out.dims[i])) return false;
    }
    *ret = out;
    return true;
}

bool ps_axis_normalize(int64_t axis, int rank, int *ret) {
    if (axis < -(int64_t)rank || axis >= rank) return false;
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return true;
}
