/* cast.c - Cast and CastLike between all number types, bool and strings; BitCast.
 *
 * Numbers convert as ps_convert says. A number becomes the shortest text that reads back as the same value; text
 * becomes a number as strtod and strtoll read it, with "INF" and "NaN" in any case. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/kernel_util.h"
#include "ops/params.h"
#include "tensor/convert.h"

enum { TEXT_SIZE = 64 };

/* ---- text ---- */

static int format_real(char *buf, double v, bool single) {
    if (isnan(v)) return snprintf(buf, TEXT_SIZE, "NaN");
    if (isinf(v)) return snprintf(buf, TEXT_SIZE, "%s", v > 0 ? "INF" : "-INF");
    for (int digits = 1; digits < 17; digits++) {
        const int n = snprintf(buf, TEXT_SIZE, "%.*g", digits, v);
        if (single ? strtof(buf, NULL) == (float)v : strtod(buf, NULL) == v) return n;
    }
    return snprintf(buf, TEXT_SIZE, "%.17g", v);
}

static ps_status to_string(const ps_tensor *x, ps_tensor *z, size_t i, ps_error *err) {
    char buf[TEXT_SIZE];
    int n;
    const char *at = (const char *)x->data + i * ps_dtype_size(x->dtype);
    if (ps_dtype_is_int(x->dtype) || x->dtype == PS_DTYPE_BOOL) {
        uint64_t v = 0;
        const bool is_unsigned = x->dtype == PS_DTYPE_U64;
        ps_convert(at, x->dtype, &v, is_unsigned ? PS_DTYPE_U64 : PS_DTYPE_I64, 1, false);
        n = is_unsigned ? snprintf(buf, sizeof buf, "%llu", (unsigned long long)v)
                        : snprintf(buf, sizeof buf, "%lld", (long long)v);
    } else {
        double v = 0;
        ps_convert(at, x->dtype, &v, PS_DTYPE_F64, 1, false);
        n = format_real(buf, v, x->dtype != PS_DTYPE_F64);
    }
    return ps_tensor_set_string(z, i, buf, (size_t)n, err);
}

/* One number of text, NUL-terminated: integers exactly where the target is one. */
static bool parse_number(const char *text, ps_dtype to, void *dst) {
    char *end;
    errno = 0;
    if (to == PS_DTYPE_U64) {
        const uint64_t v = strtoull(text, &end, 10);
        if (end != text && !*end && !errno) return ps_convert(&v, PS_DTYPE_U64, dst, to, 1, false);
    } else if (ps_dtype_is_int(to)) {
        const int64_t v = strtoll(text, &end, 10);
        if (end != text && !*end && !errno) return ps_convert(&v, PS_DTYPE_I64, dst, to, 1, false);
    }
    const double v = strtod(text, &end); /* out of range gives inf or 0, as rounding does */
    return end != text && !*end && ps_convert(&v, PS_DTYPE_F64, dst, to, 1, true);
}

static ps_status from_string(const ps_node *node, const ps_string *s, ps_dtype to, void *dst, ps_error *err) {
    char text[TEXT_SIZE * 8];
    PS_NODE_FAIL_IF(s->size >= sizeof text, node, err, FORMAT, "a text of %zu bytes is no number", s->size);
    if (s->size) memcpy(text, s->data, s->size);
    text[s->size] = 0;
    PS_NODE_FAIL_IF(!parse_number(text, to, dst), node, err, FORMAT, "'%.60s' is no number", text);
    return PS_OK;
}

static ps_status cast_strings(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *z = ctx->out[0];
    const size_t n = ps_tensor_count(x);
    for (size_t i = 0; i < n; i++) {
        const ps_string *s = x->dtype == PS_DTYPE_STRING ? (const ps_string *)x->data + i : NULL;
        if (s && z->dtype == PS_DTYPE_STRING)
            PS_TRY(ps_tensor_set_string(z, i, s->data, s->size, err));
        else if (s)
            PS_TRY(from_string(ctx->node, s, z->dtype, (char *)z->data + i * ps_dtype_size(z->dtype), err));
        else
            PS_TRY(to_string(x, z, i, err));
    }
    return PS_OK;
}

/* ---- numbers ---- */

typedef struct cast_job {
    const ps_tensor *x;
    ps_tensor *z;
    bool saturate;
    ps_e8m0_round round;
} cast_job;

/* Powers of two by another rounding than the one ps_convert uses. */
static void cast_e8m0(const cast_job *j, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        double v = 0;
        float f;
        ps_tensor_get_double(j->x, (size_t)i, &v);
        ps_convert(&v, PS_DTYPE_F64, &f, PS_DTYPE_F32, 1, false);
        ((uint8_t *)j->z->data)[i] = ps_f32_to_e8m0(f, j->round, j->saturate);
    }
}

static bool is_packed_int(ps_dtype t) {
    return t == PS_DTYPE_I4 || t == PS_DTYPE_U4 || t == PS_DTYPE_I2 || t == PS_DTYPE_U2;
}

/* What a number is beyond 2 or 4 bits the specification leaves open; the newest conformance suite keeps the low bits,
 * as between integers. In pieces of whole bytes. */
static void cast_to_packed(const cast_job *j, int64_t n) {
    enum { PIECE = 256 };
    int64_t wide[PIECE];
    const size_t size = ps_dtype_size(j->x->dtype), bits = ps_dtype_bits(j->z->dtype);
    for (int64_t at = 0; at < n; at += PIECE) {
        const size_t count = (size_t)(n - at < PIECE ? n - at : PIECE);
        ps_convert((const char *)j->x->data + (size_t)at * size, j->x->dtype, wide, PS_DTYPE_I64, count, false);
        ps_convert(wide, PS_DTYPE_I64, (char *)j->z->data + (size_t)at * bits / 8, j->z->dtype, count, false);
    }
}

static void cast_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const cast_job *j = ctx;
    if (j->z->dtype == PS_DTYPE_F8E8M0 && j->round != PS_E8M0_UP) {
        cast_e8m0(j, begin, end);
        return;
    }
    if (is_packed_int(j->z->dtype) && ps_dtype_size(j->x->dtype)) {
        cast_to_packed(j, end); /* packed: one piece from the first on */
        return;
    }
    ps_convert((const char *)j->x->data + (size_t)begin * ps_dtype_size(j->x->dtype), j->x->dtype,
               (char *)j->z->data + (size_t)begin * ps_dtype_size(j->z->dtype), j->z->dtype, (size_t)(end - begin),
               j->saturate);
}

static ps_status rounding(const ps_node *node, ps_e8m0_round *ret, ps_error *err) {
    const char *mode = ((const ps_cast_params *)node->params)->round_mode;
    *ret = strcmp(mode, "down") == 0 ? PS_E8M0_DOWN : strcmp(mode, "nearest") == 0 ? PS_E8M0_NEAREST : PS_E8M0_UP;
    PS_NODE_FAIL_IF(*ret == PS_E8M0_UP && strcmp(mode, "up") != 0, node, err, INVALID,
                    "round_mode is '%s', must be up, down or nearest", mode);
    return PS_OK;
}

static ps_status cast_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_tensor *z = ctx->out[0];
    if (x->dtype == PS_DTYPE_STRING || z->dtype == PS_DTYPE_STRING) return cast_strings(ctx, err);
    cast_job job = { x, z, ((const ps_cast_params *)ctx->params)->saturate != 0, PS_E8M0_UP };
    PS_TRY(rounding(ctx->node, &job.round, err));
    const size_t n = ps_tensor_count(x);
    /* packed types share bytes between elements: one piece */
    bool packed = !ps_dtype_size(x->dtype) || !ps_dtype_size(z->dtype);
    ps_parallel_for((int64_t)n, 32768, packed ? 1 : ctx->threads, cast_range, &job);
    return PS_OK;
}

/* ---- shape rules ---- */

static bool castable(ps_dtype t) {
    return t != PS_DTYPE_C64 && t != PS_DTYPE_C128;
}

/* Text is read and written for types of whole bytes; everything else must be known to ps_convert. */
static ps_status infer_to(const ps_node *node, ps_dtype to, ps_error *err) {
    const ps_dtype from = node->in[0]->dtype;
    bool ok = castable(from) && castable(to);
    if (ok && from != PS_DTYPE_UNDEFINED && to != PS_DTYPE_UNDEFINED && from != to) {
        if (from == PS_DTYPE_STRING || to == PS_DTYPE_STRING)
            ok = ps_dtype_size(from == PS_DTYPE_STRING ? to : from) > 0;
        else
            ok = ps_convert(NULL, from, NULL, to, 0, true);
    }
    PS_NODE_FAIL_IF(!ok, node, err, UNSUPPORTED, "no conversion from %s to %s", ps_dtype_name(from), ps_dtype_name(to));
    ps_e8m0_round round;
    PS_TRY(rounding(node, &round, err));
    ps_infer_set(node, 0, to, &node->in[0]->shape);
    return PS_OK;
}

static ps_status infer_cast(const ps_node *node, ps_error *err) {
    const int64_t to = ((const ps_cast_params *)node->params)->to;
    PS_NODE_FAIL_IF(to <= 0 || to >= PS_DTYPE_COUNT, node, err, FORMAT, "to is %lld, which is no element type",
                    (long long)to);
    return infer_to(node, (ps_dtype)to, err);
}

static ps_status infer_cast_like(const ps_node *node, ps_error *err) {
    return infer_to(node, node->in[1]->dtype, err);
}

/* ---- BitCast ---- */
static ps_status infer_bitcast(const ps_node *node, ps_error *err) {
    const int64_t to = ((const ps_cast_params *)node->params)->to;
    const ps_dtype from = node->in[0]->dtype;
    PS_NODE_FAIL_IF(to <= 0 || to >= PS_DTYPE_COUNT || to == PS_DTYPE_STRING || from == PS_DTYPE_STRING, node, err,
                    TYPE, "the bits of %s cannot be read as element type %lld", ps_dtype_name(from), (long long)to);
    PS_NODE_FAIL_IF(from != PS_DTYPE_UNDEFINED && ps_dtype_bits(from) != ps_dtype_bits((ps_dtype)to), node, err, TYPE,
                    "%s has %zu bits, %s has %zu", ps_dtype_name(from), ps_dtype_bits(from),
                    ps_dtype_name((ps_dtype)to), ps_dtype_bits((ps_dtype)to));
    ps_infer_set(node, 0, (ps_dtype)to, &node->in[0]->shape);
    return PS_OK;
}

static ps_status bitcast_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    (void)err;
    if (ctx->in[0]->bytes) memcpy(ctx->out[0]->data, ctx->in[0]->data, ctx->in[0]->bytes);
    return PS_OK;
}

/* ---- table ---- */

static const ps_attr_def cast_attrs[] = {
    PS_A_INT_REQ(ps_cast_params, to),
    PS_A_INT(ps_cast_params, saturate, 1),
    PS_A_STR(ps_cast_params, round_mode, "up"),
    PS_ATTRS_END,
};
static const ps_attr_def bitcast_attrs[] = { PS_A_INT_REQ(ps_cast_params, to), PS_ATTRS_END };
static const ps_attr_def cast_like_attrs[] = {
    PS_A_INT(ps_cast_params, saturate, 1),
    PS_A_STR(ps_cast_params, round_mode, "up"),
    PS_ATTRS_END,
};

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    { "Cast", "", 6, 1, 1, 1, 1, cast_attrs, sizeof(ps_cast_params), infer_cast, cast_ref,
      PS_OP_POINTWISE | PS_OP_EXPANDS },
    { "CastLike", "", 15, 2, 2, 1, 1, cast_like_attrs, sizeof(ps_cast_params), infer_cast_like, cast_ref,
      PS_OP_EXPANDS },
    { "BitCast", "", 26, 1, 1, 1, 1, bitcast_attrs, sizeof(ps_cast_params), infer_bitcast, bitcast_ref, 0 },
};

const ps_op_family ps_ops_cast = PS_OP_FAMILY("cast", ops);
