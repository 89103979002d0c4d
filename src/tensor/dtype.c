/* dtype.c - the table of element types. */
#include "tensor/tensor.h"

typedef struct dtype_row {
    size_t bits;
    const char *name, *v2;
} dtype_row;

static const dtype_row rows[PS_DTYPE_COUNT] = {
#define ROW(name, value, bits, text, v2) [PS_DTYPE_##name] = { bits, text, v2 },
    PS_DTYPE_MAP(ROW)
#undef ROW
};

_Static_assert(sizeof(ps_string) * 8 <= 128, "PS_DTYPE_MAP gives strings 128 bits");
_Static_assert(sizeof(ps_tensor *) * 8 <= 64, "PS_DTYPE_MAP gives elements of containers 64 bits");

/* Safe for any number a file or a caller may hold. */
static const dtype_row *row_of(int value) {
    return value >= 0 && value < PS_DTYPE_COUNT ? &rows[value] : NULL;
}

bool ps_dtype_valid(int value) {
    return row_of(value) && value != PS_DTYPE_UNDEFINED && !ps_dtype_is_container((ps_dtype)value);
}

bool ps_dtype_is_container(ps_dtype t) {
    return t == PS_DTYPE_SEQUENCE || t == PS_DTYPE_OPTIONAL || t == PS_DTYPE_MAP;
}

bool ps_dtype_is_object(ps_dtype t) {
    return t == PS_DTYPE_STRING || ps_dtype_is_container(t);
}

size_t ps_dtype_bits(ps_dtype dtype) {
    const dtype_row *row = row_of((int)dtype);
    return row ? row->bits : 0;
}

const char *ps_dtype_name(ps_dtype dtype) {
    const dtype_row *row = row_of((int)dtype);
    return row ? row->name : "?";
}

const char *ps_dtype_v2_name(ps_dtype dtype) {
    const dtype_row *row = row_of((int)dtype);
    return row ? row->v2 : "";
}

ps_dtype ps_dtype_parse(const char *name) {
    if (!name || !*name) return PS_DTYPE_UNDEFINED;
    for (int i = 1; i < PS_DTYPE_COUNT; i++) {
        if (strcmp(name, rows[i].name) == 0 || strcmp(name, rows[i].v2) == 0) return (ps_dtype)i;
    }
    return PS_DTYPE_UNDEFINED;
}

bool ps_dtype_is_float(ps_dtype t) {
    return t == PS_DTYPE_F64 || t == PS_DTYPE_F32 || t == PS_DTYPE_F16 || t == PS_DTYPE_BF16;
}

bool ps_dtype_is_int(ps_dtype t) {
    switch (t) {
    case PS_DTYPE_U8:
    case PS_DTYPE_I8:
    case PS_DTYPE_U16:
    case PS_DTYPE_I16:
    case PS_DTYPE_U32:
    case PS_DTYPE_I32:
    case PS_DTYPE_U64:
    case PS_DTYPE_I64: return true;
    default: return false;
    }
}

size_t ps_dtype_size(ps_dtype t) {
    return ps_dtype_bits(t) / 8;
}

bool ps_dtype_bytes(ps_dtype t, int64_t n, size_t *ret) {
    size_t bits = ps_dtype_bits(t), bytes;
    if (n < 0 || (uint64_t)n > SIZE_MAX / 2 || bits == 0) return false;
    if (bits < 8) {
        bytes = (size_t)n / 8 * bits + ((size_t)n % 8 * bits + 7) / 8;
    } else if (ps_mul_overflow_size((size_t)n, bits / 8, &bytes) || bytes > PTRDIFF_MAX) {
        return false; /* beyond PTRDIFF_MAX pointers into it could not be subtracted */
    }
    *ret = bytes;
    return true;
}
