#include "server/photo.h"

#include <math.h>
#include <string.h>

#include "base/os.h"
#include "server/classify.h"
#include "server/json_number.h"
#include "server/json_text.h"
#include "server/repository_path.h"

#define MAX_LABELS_FILE ((size_t)16 << 20)
#define MAX_SIDE 16384

/* ---- settings ---- */

static size_t count_lines(const char *text) {
    size_t n = 0;
    for (const char *p = text; *p; n++) {
        p += strcspn(p, "\n");
        if (*p) p++;
    }
    return n;
}

/* One label a line; text ends in NUL. */
static ps_status split_labels(const char *text, ps_arena *arena, ps_photo_settings *ret, ps_error *err) {
    size_t n = count_lines(text);
    ret->labels = ps_arena_array(arena, n + 1, sizeof *ret->labels);
    if (!ret->labels) return PS_FAIL_NOMEM(err, "labels");
    for (const char *p = text; ret->n_labels < n;) {
        size_t line = strcspn(p, "\n"), size = line && p[line - 1] == '\r' ? line - 1 : line;
        PS_FAIL_IF(!ps_utf8_valid(p, size), err, FORMAT, "line %zu is not UTF-8", ret->n_labels + 1);
        ret->labels[ret->n_labels] = ps_arena_strndup(arena, p, size);
        if (!ret->labels[ret->n_labels++]) return PS_FAIL_NOMEM(err, "labels");
        p += line + (p[line] == '\n');
    }
    return PS_OK;
}

static ps_status read_labels(ps_alloc_state *alloc, ps_arena *arena, ps_photo_settings *ret, ps_error *err) {
    const char *path = ret->preprocess.labels;
    char *text;
    size_t size;
    PS_TRY(ps_file_read(alloc, path, MAX_LABELS_FILE, &text, &size, err));
    ps_status status =
        strlen(text) == size ? split_labels(text, arena, ret, err) : PS_FAIL(err, FORMAT, "there is a NUL in the text");
    ps_free(alloc, text);
    if (status != PS_OK) ps_error_prefix(err, "labels '%s'", path);
    return status;
}

ps_status ps_photo_load(ps_engine *engine, const char *model_file, ps_arena *arena, ps_photo_settings *ret,
                        ps_error *err) {
    ps_alloc_state *alloc = ps_engine_alloc(engine);
    char *path = ps_model_file_beside(alloc, model_file, ".preprocess.json");
    ps_status status = PS_OK;
    *ret = (ps_photo_settings) { 0 };
    if (!path) return PS_FAIL_NOMEM(err, "a path");
    ret->present = ps_file_exists(path);
    if (ret->present) status = ps_preprocess_load(engine, path, &ret->preprocess, err);
    ps_free(alloc, path);
    return status == PS_OK && ret->preprocess.labels[0] ? read_labels(alloc, arena, ret, err) : status;
}

/* ---- requests ---- */

/* The one input that can hold a photo: f32 with four dims, or of any shape. */
static ps_status find_input(const ps_served *s, size_t *ret, ps_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_inputs; i++) {
        const ps_value_info *v = &s->inputs[i];
        if (v->dtype != PS_DTYPE_F32 || (v->shape.rank >= 0 && v->shape.rank != 4)) continue;
        *ret = i;
        n++;
    }
    PS_FAIL_IF(n != 1, err, UNSUPPORTED, "model '%s' has %zu inputs that could take a photo (FP32, 4 dims), not one",
               s->name, n);
    return PS_OK;
}

/* Where nothing else says the size of the crop, the model's input does. */
static void size_from_input(const ps_value_info *input, ps_preprocess *p) {
    if (p->size || input->shape.rank != 4) return;
    int64_t side = input->shape.dims[p->nhwc ? 1 : 2];
    if (side > 0 && side <= MAX_SIDE) p->size = (int)side;
}

ps_status ps_photo_prepare(ps_infer *infer, const void *data, size_t size, ps_error *err) {
    const ps_served *s = infer->served;
    size_t index = 0;
    int found;
    PS_FAIL_IF(!s->photo.present, err, UNSUPPORTED,
               "model '%s' takes no photos: there is no .preprocess.json beside its file", s->name);
    PS_TRY(find_input(s, &index, err));
    ps_preprocess p = s->photo.preprocess;
    size_from_input(&s->inputs[index], &p);
    PS_TRY(ps_image_decode(infer->engine, data, size, &p, &infer->tensors[index], err));
    const ps_tensor *t = infer->tensors[index];
    ps_infer_tensor as_input = { s->inputs[index].name, ps_tensor_dtype(t), *ps_tensor_shape(t), ps_tensor_elements(t),
                                 ps_tensor_data_const(t) };
    return ps_core_check_input(infer, &as_input, &found, err);
}

static void write_class(const ps_photo_settings *photo, ps_class c, ps_dtype dtype, ps_str *out) {
    char number[PS_NUMBER_TEXT];
    ps_str_printf(out, "{\"index\":%zu", c.index);
    if (c.index < photo->n_labels) {
        ps_str_append(out, ",\"label\":");
        ps_json_write_string(out, photo->labels[c.index]);
    }
    ps_str_append(out, ",\"score\":");
    if (!isfinite(c.value))
        ps_str_append(out, isnan(c.value) ? "\"NaN\"" : c.value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        ps_str_append_n(out, number,
                        dtype == PS_DTYPE_F32 ? ps_number_write_f32(number, (float)c.value)
                                              : ps_number_write_f64(number, c.value));
    ps_str_char(out, '}');
}

ps_status ps_photo_write(ps_infer *infer, int64_t top, ps_str *out, ps_error *err) {
    const ps_served *s = infer->served;
    const ps_infer_tensor *t = &infer->results[0];
    ps_class *best;
    size_t n;
    PS_TRY(ps_classify_rank(&infer->arena, top, t, &best, &n, err));
    ps_str_append(out, "{\"model_name\":");
    ps_json_write_string(out, s->name);
    ps_str_append(out, ",\"model_version\":");
    ps_json_write_string(out, s->version);
    ps_str_append(out, ",\"output\":");
    ps_json_write_string(out, t->name);
    ps_str_append(out, ",\"classes\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) ps_str_char(out, ',');
        write_class(&s->photo, best[i], t->dtype, out);
    }
    ps_str_append(out, "]}");
    return out->failed ? PS_FAIL_NOMEM(err, "a reply") : PS_OK;
}
