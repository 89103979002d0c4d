#include "server/classify.h"

#include <math.h>
#include <string.h>

#include "server/json_number.h"

static bool element(const ps_infer_tensor *t, size_t i, double *ret) {
    switch (t->dtype) {
    case PS_DTYPE_F32: *ret = (double)((const float *)t->data)[i]; return true;
    case PS_DTYPE_F64: *ret = ((const double *)t->data)[i]; return true;
    case PS_DTYPE_I8: *ret = ((const int8_t *)t->data)[i]; return true;
    case PS_DTYPE_I16: *ret = ((const int16_t *)t->data)[i]; return true;
    case PS_DTYPE_I32: *ret = ((const int32_t *)t->data)[i]; return true;
    case PS_DTYPE_I64: *ret = (double)((const int64_t *)t->data)[i]; return true;
    case PS_DTYPE_U8: *ret = ((const uint8_t *)t->data)[i]; return true;
    case PS_DTYPE_U16: *ret = ((const uint16_t *)t->data)[i]; return true;
    case PS_DTYPE_U32: *ret = ((const uint32_t *)t->data)[i]; return true;
    case PS_DTYPE_U64: *ret = (double)((const uint64_t *)t->data)[i]; return true;
    default: return false;
    }
}

static bool rankable(ps_dtype t) {
    return t != PS_DTYPE_STRING && t != PS_DTYPE_BOOL && t != PS_DTYPE_F16 && t != PS_DTYPE_BF16;
}

ps_status ps_classify_check(const ps_served *served, const ps_value_info *output, ps_error *err) {
    PS_FAIL_IF(!rankable(output->dtype), err, UNSUPPORTED,
               "model '%s': output '%s' is %s, which classification cannot rank", served->name, output->name,
               ps_dtype_v2_name(output->dtype));
    return PS_OK;
}

/* a ranks before b */
static bool before(ps_class a, ps_class b) {
    if (isnan(a.value) || isnan(b.value)) return isnan(a.value) == isnan(b.value) ? a.index < b.index : !isnan(a.value);
    return a.value != b.value ? a.value > b.value : a.index < b.index;
}

/* Moves item i of a heap whose root ranks last down to its place. */
static void sift(ps_class *heap, size_t n, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && before(heap[child], heap[child + 1])) child++;
        if (before(heap[child], heap[i])) return;
        ps_class tmp = heap[i];
        heap[i] = heap[child];
        heap[child] = tmp;
        i = child;
    }
}

/* The k best of the tensor, best first. */
static void select_best(const ps_infer_tensor *t, ps_class *heap, size_t k) {
    for (size_t i = 0; i < k; i++) {
        heap[i].index = i;
        (void)element(t, i, &heap[i].value);
    }
    for (size_t i = k / 2; i-- > 0;)
        sift(heap, k, i);
    for (size_t i = k; i < t->elements; i++) {
        ps_class s = { .index = i };
        (void)element(t, i, &s.value);
        if (!before(s, heap[0])) continue;
        heap[0] = s;
        sift(heap, k, 0);
    }
    for (size_t n = k; n > 1; n--) {
        ps_class last = heap[0];
        heap[0] = heap[n - 1];
        heap[n - 1] = last;
        sift(heap, n - 1, 0);
    }
}

static size_t write_score(char *buf, ps_class s, ps_dtype dtype) {
    size_t n;
    if (!isfinite(s.value)) {
        const char *text = isnan(s.value) ? "nan" : s.value > 0 ? "inf" : "-inf";
        n = strlen(text);
        memcpy(buf, text, n);
    } else {
        n = dtype == PS_DTYPE_F32 ? ps_number_write_f32(buf, (float)s.value) : ps_number_write_f64(buf, s.value);
    }
    buf[n++] = ':';
    return n + ps_number_write_u64(buf + n, s.index);
}

ps_status ps_classify_rank(ps_arena *arena, int64_t k, const ps_infer_tensor *t, ps_class **ret, size_t *ret_n,
                           ps_error *err) {
    size_t n = (uint64_t)k < t->elements ? (size_t)k : t->elements;
    PS_FAIL_IF(!rankable(t->dtype), err, UNSUPPORTED, "output '%s' is %s, which classification cannot rank", t->name,
               ps_dtype_v2_name(t->dtype));
    ps_class *heap = ps_arena_array(arena, n + 1, sizeof *heap);
    if (!heap) return PS_FAIL_NOMEM(err, "the classes of an output");
    if (n) select_best(t, heap, n);
    *ret = heap;
    *ret_n = n;
    return PS_OK;
}

/* "value:index" is in buf already. */
static ps_status add_label(const ps_served *served, ps_arena *arena, size_t index, ps_string *text, ps_error *err) {
    if (index >= served->photo.n_labels) return PS_OK;
    char *longer = ps_arena_printf(arena, "%.*s:%s", (int)text->size, text->data, served->photo.labels[index]);
    if (!longer) return PS_FAIL_NOMEM(err, "the classes of an output");
    *text = (ps_string) { longer, strlen(longer) };
    return PS_OK;
}

ps_status ps_classify(const ps_served *served, ps_arena *arena, int64_t k, ps_infer_tensor *t, ps_error *err) {
    ps_class *best;
    size_t n;
    PS_TRY(ps_classify_rank(arena, k, t, &best, &n, err));
    ps_string *text = ps_arena_array(arena, n + 1, sizeof *text);
    char *chars = ps_arena_array(arena, n + 1, 2 * PS_NUMBER_TEXT);
    if (!text || !chars) return PS_FAIL_NOMEM(err, "the classes of an output");
    for (size_t i = 0; i < n; i++) {
        char *buf = chars + i * 2 * PS_NUMBER_TEXT;
        text[i] = (ps_string) { buf, write_score(buf, best[i], t->dtype) };
        PS_TRY(add_label(served, arena, best[i].index, &text[i], err));
    }
    t->dtype = PS_DTYPE_STRING;
    t->shape = (ps_shape) { .rank = 1, .dims = { (int64_t)n } };
    t->elements = n;
    t->data = text;
    return PS_OK;
}
