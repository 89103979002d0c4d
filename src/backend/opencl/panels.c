/* panels.c - constant weights of products, packed: in f32, or in the storage that the model has them in: f16, bf16, or
 * codes of 8 or 4 bits. */
#include "backend/opencl/gemm.h"

#include <math.h>

#include "tensor/codes.h"
#include "tensor/convert.h"

static int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

static int64_t room(const ocl_panels *p) {
    return p->k2_room ? p->k2_room : p->k2_n;
}

int64_t ocl_panel_rows(const ocl_panels *p) {
    return up(p->k1_n * room(p), OCL_GEMM_DEPTH);
}

int64_t ocl_panel_columns(const ocl_panels *p) {
    return up(p->n, 4);
}

/* Group g, row k1, k2, column c of the panels is this element of the tensor. */
static int64_t element_of(const ocl_panels *p, int64_t g, int64_t k1, int64_t k2, int64_t c) {
    return g * p->group + k1 * p->k1 + k2 * p->k2 + c * p->column;
}

static void name_panels(char *key, size_t size, const char *kind, const ocl_panels *p) {
    ps_snprintf(key, size, "opencl.%s %lld %lld %lld %lld %lld %lld %lld %lld %lld", kind, (long long)p->groups,
                (long long)p->k1_n, (long long)p->k2_n, (long long)room(p), (long long)p->n, (long long)p->group,
                (long long)p->k1, (long long)p->k2, (long long)p->column);
}

typedef struct pack_job {
    const ocl_panels *p;
    const ps_tensor *src;
    const ocl_weights *w;
    int threads;
    const void *from; /* src's content in the panels' type */
    void *to;
    ocl_device *device; /* of place */
} pack_job;

/* Of the panels: entry k of a column that has k1_n * k2_n. */
static int64_t row_of(const pack_job *j, int64_t g, int64_t k) {
    return g * j->w->rows + k / j->p->k2_n * room(j->p) + k % j->p->k2_n;
}

/* ---- elements of 32 and 16 bits ----
 * Columns that lie side by side in the tensor are copied row by row; else each column is read as it lies, and the rows
 * of a strip of columns stay in the cache until their lines are full. */

#define STRIP 16

#define PACK(type, bits)                                                                                               \
    static void pack_rows_##bits(void *ctx, int64_t begin, int64_t end, int thread) {                                  \
        const pack_job *j = ctx;                                                                                       \
        const int64_t depth = j->p->k1_n * j->p->k2_n;                                                                 \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            const int64_t g = i / depth, k = i % depth;                                                                \
            memcpy((type *)j->to + row_of(j, g, k) * j->w->columns,                                                    \
                   (const type *)j->from + element_of(j->p, g, k / j->p->k2_n, k % j->p->k2_n, 0),                     \
                   (size_t)j->p->n * sizeof(type));                                                                    \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void pack_column_##bits(const pack_job *j, int64_t g, int64_t c) {                                          \
        const ocl_panels *p = j->p;                                                                                    \
        const int64_t columns = j->w->columns;                                                                         \
        for (int64_t k2 = 0; k2 < p->k2_n; k2++) {                                                                     \
            const type *from = (const type *)j->from + element_of(p, g, 0, k2, c);                                     \
            type *to = (type *)j->to + (g * j->w->rows + k2) * columns + c;                                            \
            for (int64_t k1 = 0; k1 < p->k1_n; k1++)                                                                   \
                to[k1 * room(p) * columns] = from[k1 * p->k1];                                                         \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void pack_strips_##bits(void *ctx, int64_t begin, int64_t end, int thread) {                                \
        const pack_job *j = ctx;                                                                                       \
        const int64_t strips = (j->p->n + STRIP - 1) / STRIP;                                                          \
        for (int64_t i = begin; i < end; i++) {                                                                        \
            const int64_t first = i % strips * STRIP, last = first + STRIP < j->p->n ? first + STRIP : j->p->n;        \
            for (int64_t c = first; c < last; c++)                                                                     \
                pack_column_##bits(j, i / strips, c);                                                                  \
        }                                                                                                              \
    }

PACK(uint32_t, 32)
PACK(uint16_t, 16)

static void pack_elements(pack_job *j, ps_parallel_fn by_rows, ps_parallel_fn by_strips) {
    const ocl_panels *p = j->p;
    const int64_t rows = p->groups * p->k1_n * p->k2_n, strips = p->groups * ((p->n + STRIP - 1) / STRIP);
    if (j->w->rows * j->w->columns != p->k1_n * p->k2_n * p->n) memset(j->to, 0, j->w->bytes);
    if (p->column == 1)
        ps_parallel_for(rows, 1 + 65536 / p->n, j->threads, by_rows, j);
    else
        ps_parallel_for(strips, 1 + 65536 / (STRIP * p->k1_n * p->k2_n), j->threads, by_strips, j);
}

static ps_status pack(void *ctx, void *dst, ps_error *err) {
    pack_job *j = ctx;
    j->from = j->src->data;
    j->to = dst;
    pack_elements(j, pack_rows_32, pack_strips_32);
    return PS_OK;
}

/* Content in f32 that 16 bits hold. */
static void pack_narrowed(const pack_job *j, ps_dtype type) {
    const ocl_panels *p = j->p;
    memset(j->to, 0, j->w->bytes);
    for (int64_t g = 0; g < p->groups; g++) {
        for (int64_t k = 0; k < p->k1_n * p->k2_n; k++) {
            const float *from = (const float *)j->src->data + element_of(p, g, k / p->k2_n, k % p->k2_n, 0);
            uint16_t *row = (uint16_t *)j->to + row_of(j, g, k) * j->w->columns;
            for (int64_t c = 0; c < p->n; c++)
                ps_convert(from + c * p->column, PS_DTYPE_F32, row + c, type, 1, true);
        }
    }
}

static ps_status pack_halves(void *ctx, void *dst, ps_error *err) {
    pack_job *j = ctx;
    j->to = dst;
    if (j->src->narrow) {
        j->from = j->src->narrow->data;
        pack_elements(j, pack_rows_16, pack_strips_16);
    } else {
        pack_narrowed(j, j->w->form == OCL_FORM_F16 ? PS_DTYPE_F16 : PS_DTYPE_BF16);
    }
    return PS_OK;
}

/* ---- the same by the device ---- */

/* Elements that the device has only to bring into order. */
static bool can_place(const pack_job *j) {
    const size_t bits = j->w->form == OCL_FORM_F32 ? 32 : 16;
    const bool as_is = j->w->form == OCL_FORM_F32 || (j->w->form < OCL_FORM_U8 && j->src->narrow);
    return as_is && ocl_places(j->device) && j->w->bytes / (bits / 8) <= INT32_MAX &&
           ps_tensor_count(j->src) <= INT32_MAX;
}

static ps_status place(void *ctx, const void *content, void *dst, ps_error *err) {
    static const size_t local[2] = { 32, 2 }; /* for 32 x 32 elements */
    const pack_job *j = ctx;
    const ocl_panels *p = j->p;
    const cl_int numbers[16] = { (cl_int)p->k1_n,     (cl_int)p->k2_n,       (cl_int)room(p),
                                 (cl_int)p->n,        (cl_int)j->w->rows,    (cl_int)j->w->columns,
                                 p->column != 1,      0,                     (cl_int)p->group,
                                 (cl_int)p->k1,       (cl_int)p->k2,         (cl_int)p->column };
    const int64_t size[3] = { up(j->w->columns, 32), up(j->w->rows, 32) / 16, p->groups };
    return ocl_place(j->device, "panels", j->w->form == OCL_FORM_F32 ? "-DENTRY=0 -DELEMENT=uint"
                                                                     : "-DENTRY=0 -DELEMENT=ushort",
                     content, dst, numbers, size, local, err);
}

/* ---- codes ----
 * Codes are unsigned, with zero points to match. A column has a factor; a block of its rows a scale, if there are
 * blocks: f32 beside a factor of 1, or a part of the factor in 16 bits (value / 2^16), which is at most 2^-17 of the
 * column's largest scale off. */

#define PART 65535.0f /* of a factor of largest * 65536 / PART */
#define LEAST_PART 64 /* a scale that is smaller against the largest of its column wants f32 */

/* The panels' strides as the codes lie. */
typedef struct strides {
    int64_t group, k1, k2, column;
} strides;

static int64_t stride_of(const ps_tensor *t, int64_t stride) {
    if (!t->codes->row) return stride;
    return stride == t->shape.dims[1] ? 1 : t->codes->row; /* [K, N]: down a column, or along a row */
}

static strides strides_of(const ps_tensor *t, const ocl_panels *p) {
    return (strides) { stride_of(t, p->group), stride_of(t, p->k1), stride_of(t, p->k2), stride_of(t, p->column) };
}

/* An index of the axis of a list is one of each column: it stays along k, and goes on by one a column. */
static bool list_fits(const ps_codes *c, const ocl_panels *p, const strides *s) {
    const int64_t period = c->n * c->inner;
    const int64_t along = (s->k1 % period ? (p->k1_n - 1) * s->k1 : 0) + (s->k2 % period ? (p->k2_n - 1) * s->k2 : 0);
    return along < c->inner && (p->n == 1 || s->column == c->inner);
}

/* Rows of a block are neighbours in the panels, and whole steps of a product. Windows of several places want the
 * registers that scales take. */
static bool blocks_fit(const ps_codes *c, const ocl_panels *p, const strides *s) {
    return c->block % OCL_GEMM_MOST_DEPTH == 0 && p->k1_n == 1 && (p->k2_n == 1 || s->k2 == c->inner);
}

static bool codes_fit(const ps_tensor *t, const ocl_panels *p) {
    const strides s = strides_of(t, p);
    if (t->codes->row && (p->groups != 1 || p->k1_n != 1)) return false;
    switch (t->codes->kind) {
    case PS_CODES_ONE: return true;
    case PS_CODES_LIST: return list_fits(t->codes, p, &s);
    case PS_CODES_BLOCKS: return blocks_fit(t->codes, p, &s);
    }
    return false;
}

/* The group of block b (0 without blocks) of a column. */
static int64_t group_at(const pack_job *j, int64_t g, int64_t b, int64_t c) {
    const int64_t k = b * j->w->block;
    const int64_t element = element_of(j->p, g, k / j->p->k2_n, k % j->p->k2_n, c);
    return ps_codes_group(j->src->codes, ps_codes_place(j->src->codes, &j->src->shape, element));
}

static int64_t blocks_with_rows(const pack_job *j) {
    return j->w->block ? (j->p->k1_n * j->p->k2_n - 1) / j->w->block + 1 : 1;
}

/* Unsigned codes: i8 and i4 are raised by half of the range. */
static int raise(const ps_codes *c) {
    return c->is_signed ? 1 << (c->bits - 1) : 0;
}

static float largest_scale(const pack_job *j, int64_t g, int64_t c) {
    float largest = 0;
    for (int64_t b = 0, n = blocks_with_rows(j); b < n; b++) {
        const float s = ps_codes_scale(j->src->codes, group_at(j, g, b, c));
        largest = s > largest ? s : largest;
    }
    return largest;
}

static bool column_needs_floats(const pack_job *j, int64_t g, int64_t c) {
    const float largest = largest_scale(j, g, c);
    for (int64_t b = 0, n = blocks_with_rows(j); b < n; b++) {
        const float s = ps_codes_scale(j->src->codes, group_at(j, g, b, c));
        if (!(s >= 0) || isinf(s) || (s > 0 && s * LEAST_PART < largest)) return true;
    }
    return largest > 1e30f;
}

/* What of the form only the numbers tell. */
static void look_at_scales(const pack_job *j, ocl_weights *w) {
    const int first = ps_codes_zero(j->src->codes, group_at(j, 0, 0, 0));
    w->wide_scales = w->block && w->form == OCL_FORM_U8; /* 16 bits would tell in results of 8-bit codes */
    w->zeros = false;
    for (int64_t g = 0; g < j->p->groups; g++) {
        for (int64_t c = 0; c < j->p->n; c++) {
            if (w->block && !w->wide_scales) w->wide_scales = column_needs_floats(j, g, c);
            for (int64_t b = 0, n = blocks_with_rows(j); b < n && !w->zeros; b++)
                w->zeros = ps_codes_zero(j->src->codes, group_at(j, g, b, c)) != first;
        }
    }
}

static void put_code(uint8_t *codes, const ocl_weights *w, int64_t at, int code) {
    if (w->form == OCL_FORM_U8)
        codes[at] = (uint8_t)code;
    else
        codes[at / 2] |= (uint8_t)(code << at % 2 * 4);
}

static void pack_group(const pack_job *j, int64_t g, uint8_t *codes) {
    const ps_codes *c = j->src->codes;
    const strides s = strides_of(j->src, j->p);
    for (int64_t k = 0; k < j->p->k1_n * j->p->k2_n; k++) {
        int64_t place = g * s.group + k / j->p->k2_n * s.k1 + k % j->p->k2_n * s.k2;
        const int64_t row = row_of(j, g, k) * j->w->columns;
        for (int64_t i = 0; i < j->p->n; i++, place += s.column)
            put_code(codes, j->w, row + i, ps_codes_code(c, place) + raise(c));
    }
}

/* Of one column of a group; `at` counts the columns of all groups. */
static void pack_scales(const pack_job *j, int64_t g, int64_t c, uint8_t *to) {
    const ocl_weights *w = j->w;
    const ps_codes *codes = j->src->codes;
    float *factor = (float *)(void *)(to + w->factors_at) + g * w->columns + c;
    const float largest = w->block ? largest_scale(j, g, c) : 0;
    *factor = !w->block ? ps_codes_scale(codes, group_at(j, g, 0, c)) : w->wide_scales ? 1 : largest * (65536 / PART);
    for (int64_t b = 0, n = blocks_with_rows(j); b < n; b++) {
        const int64_t group = group_at(j, g, b, c), at = (g * w->blocks + b) * w->columns + c;
        const float s = ps_codes_scale(codes, group);
        if (w->zeros) to[w->zeros_at + (size_t)at] = (uint8_t)(ps_codes_zero(codes, group) + raise(codes));
        if (w->block && w->wide_scales)
            ((float *)(void *)(to + w->scales_at))[at] = s;
        else if (w->block)
            ((uint16_t *)(void *)(to + w->scales_at))[at] = largest > 0 ? (uint16_t)lrintf(s / largest * PART) : 0;
    }
}

static ps_status pack_codes(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    uint8_t *to = dst;
    PS_TRY(ps_codes_need(j->src->codes, err));
    memset(dst, 0, j->w->bytes);
    to[j->w->zeros_at] = (uint8_t)(ps_codes_zero(j->src->codes, group_at(j, 0, 0, 0)) + raise(j->src->codes));
    for (int64_t g = 0; g < j->p->groups; g++) {
        pack_group(j, g, to);
        for (int64_t c = 0; c < j->p->n; c++)
            pack_scales(j, g, c, to);
    }
    return PS_OK;
}

/* ---- the form of a weight ---- */

static size_t section(size_t *at, size_t bytes) {
    const size_t begin = *at;
    *at = (begin + bytes + PS_ALIGN - 1) / PS_ALIGN * PS_ALIGN;
    return begin;
}

/* Fills in sizes for the form and what else is there of w. No sum overflows: all sections together take less than the
 * same elements in f32. */
static ps_status measure(const ocl_panels *p, ocl_weights *w, ps_error *err) {
    static const unsigned bits[] = { 32, 16, 16, 8, 4 };
    int64_t elements;
    size_t bytes;
    w->rows = ocl_panel_rows(p);
    w->columns = w->form == OCL_FORM_F32 ? ocl_panel_columns(p) : up(p->n, 8);
    const ps_shape s = ps_shape_make(3, (int64_t[]) { p->groups, w->rows, w->columns });
    PS_FAIL_IF(!ps_shape_elements(&s, &elements) || !ps_dtype_bytes(PS_DTYPE_F64, elements, &bytes), err, LIMIT,
               "weights are too large to pack");
    w->blocks = w->block ? (w->rows - 1) / w->block + 1 : 1;
    const size_t columns = (size_t)(p->groups * w->columns), scales = columns * (size_t)w->blocks;
    w->bytes = (size_t)elements * bits[w->form] / 8;
    if (w->form < OCL_FORM_U8) return PS_OK;
    w->bytes = 0;
    section(&w->bytes, (size_t)elements * bits[w->form] / 8);
    w->factors_at = section(&w->bytes, columns * sizeof(float));
    w->scales_at = section(&w->bytes, w->block ? scales * (w->wide_scales ? sizeof(float) : sizeof(uint16_t)) : 0);
    w->zeros_at = section(&w->bytes, w->zeros ? scales : 1);
    return PS_OK;
}

static void name_form(char *key, size_t size, const ocl_panels *p, const ocl_weights *w) {
    static const char *const names[] = { "", "f16", "bf16", "u8", "u4" };
    char kind[96];
    if (w->form == OCL_FORM_F32) {
        name_panels(key, size, "panels", p);
        return;
    }
    ps_snprintf(kind, sizeof kind, "weights %s %lld%s%s", names[w->form], (long long)w->block,
                w->wide_scales ? " wide" : "", w->zeros ? " zeros" : "");
    name_panels(key, size, kind, p);
}

/* Is this form there from an earlier plan? The content may be away, and codes given up. */
static ps_status find_form(ps_device *device, const ps_lowering *l, const ps_tensor *t, const ocl_panels *p,
                           ocl_weights *w, bool *ret, ps_error *err) {
    char key[320];
    PS_TRY(measure(p, w, err));
    name_form(key, sizeof key, p, w);
    *ret = ps_weights_has(l->weights, device, t, key, w->bytes);
    return PS_OK;
}

static ocl_weights coded_form(const ps_codes *c, bool wide, bool zeros) {
    return (ocl_weights) { .form = c->bits == 8 ? OCL_FORM_U8 : OCL_FORM_U4,
                           .block = c->kind == PS_CODES_BLOCKS ? c->block : 0,
                           .wide_scales = wide,
                           .zeros = zeros };
}

static ps_status find_any_form(ps_device *device, const ps_lowering *l, const ps_tensor *t, const ocl_panels *p,
                               ocl_weights *w, bool *ret, ps_error *err) {
    static const ocl_form plain[] = { OCL_FORM_F16, OCL_FORM_BF16, OCL_FORM_F32 };
    *ret = false;
    for (int i = 0; t->codes && i < 4 && !*ret; i++) {
        *w = coded_form(t->codes, i & 1, i >> 1);
        PS_TRY(find_form(device, l, t, p, w, ret, err));
    }
    for (int i = 0; i < 3 && !*ret; i++) {
        *w = (ocl_weights) { .form = plain[i] };
        PS_TRY(find_form(device, l, t, p, w, ret, err));
    }
    return PS_OK;
}

static ps_status choose_form(ps_device *device, const ps_lowering *l, const ps_tensor *t, const ocl_panels *p,
                             ocl_weights *w, ps_error *err) {
    bool there;
    ps_dtype type;
    PS_TRY(find_any_form(device, l, t, p, w, &there, err));
    if (there) return PS_OK;
    if (t->codes && t->codes->code && codes_fit(t, p)) {
        PS_TRY(ps_codes_need(t->codes, err));
        *w = coded_form(t->codes, false, false);
        const pack_job job = { .p = p, .src = t, .w = w };
        look_at_scales(&job, w);
        return measure(p, w, err);
    }
    PS_TRY(ps_weights_narrowest(t, &type, err));
    *w = (ocl_weights) { .form = type == PS_DTYPE_F16    ? OCL_FORM_F16
                                 : type == PS_DTYPE_BF16 ? OCL_FORM_BF16
                                                         : OCL_FORM_F32 };
    return measure(p, w, err);
}

static ps_status take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, ocl_weights *w,
                      ps_error *err) {
    char key[320];
    pack_job job = { p, l->node->in[index]->constant, w, l->threads, NULL, NULL, ocl_of(device) };
    const ps_packing packing = { .size = w->bytes,
                                 .pack = w->form == OCL_FORM_F32  ? pack
                                         : w->form < OCL_FORM_U8 ? pack_halves
                                                                 : pack_codes,
                                 .place = can_place(&job) ? place : NULL,
                                 .ctx = &job,
                                 .narrow = w->form != OCL_FORM_F32 };
    name_form(key, sizeof key, p, w);
    return ps_weights_take_on(l, device, index, key, &packing, &w->buffer, err);
}

ps_status ocl_weights_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, ocl_weights *ret,
                           ps_error *err) {
    PS_TRY(choose_form(device, l, l->node->in[index]->constant, p, ret, err));
    return take(device, l, index, p, ret, err);
}

ps_status ocl_weights_narrow(ps_device *device, const ps_lowering *l, uint32_t index, const ocl_panels *p, bool *ret,
                             ps_error *err) {
    const ps_tensor *t = l->node->in[index]->constant;
    ocl_weights w = { .form = OCL_FORM_F32 };
    *ret = t->narrow || t->codes;
    if (*ret) return PS_OK;
    PS_TRY(find_any_form(device, l, t, p, &w, ret, err)); /* an earlier plan has them, and the tensor has forgotten */
    *ret = *ret && w.form != OCL_FORM_F32;
    return PS_OK;
}

ps_status ocl_panels_take(ps_device *device, ps_lowering *l, uint32_t index, const ocl_panels *p, void **ret,
                          ps_error *err) {
    ocl_weights w = { .form = OCL_FORM_F32 };
    PS_TRY(measure(p, &w, err));
    PS_TRY(take(device, l, index, p, &w, err));
    *ret = w.buffer;
    return PS_OK;
}

ps_status ocl_weights_own(ocl_kernel *k, const ps_lowering *l, uint32_t index, const ocl_panels *p, ocl_weights *ret,
                          ps_error *err) {
    pack_job job = { p, l->node->in[index]->constant, ret, l->threads, NULL, NULL, NULL };
    *ret = (ocl_weights) { .form = OCL_FORM_F32 };
    PS_TRY(measure(p, ret, err));
    PS_TRY(ps_tensor_need(job.src, err));
    void *packed = ps_alloc(l->alloc, ret->bytes);
    if (!packed) return PS_FAIL_NOMEM(err, "packed weights");
    ps_status status = pack(&job, packed, err);
    if (status == PS_OK) status = ocl_kernel_table(k, packed, ret->bytes, &ret->buffer, err);
    ps_free(l->alloc, packed);
    return status;
}

/* ---- in kernels ---- */

const char *ocl_weights_options(const ocl_weights *w, char *buf, size_t size) {
    buf[0] = 0;
    if (w->form != OCL_FORM_F32)
        ps_snprintf(buf, size, " -DFORM=%d -DBLOCKED=%d -DWIDE_SCALES=%d -DZEROS=%d", (int)w->form, w->block > 0,
                    w->wide_scales, w->zeros);
    return buf;
}

static void arg_part(ocl_launch *l, const ocl_weights *w, size_t at) {
    ocl_arg_buffer(l, w->buffer);
    l->args[l->n_args - 1].at = at;
}

void ocl_weights_args(ocl_launch *l, const ocl_weights *w) {
    if (w->form < OCL_FORM_U8) return;
    arg_part(l, w, w->factors_at);
    arg_part(l, w, w->scales_at);
    arg_part(l, w, w->zeros_at);
    ocl_arg_ints(l, (int64_t[]) { w->block ? w->block : w->rows, w->blocks }, 2);
}
