/* preprocess.c - how a photo becomes a model's input: settings from JSON or a preset, and the work itself. */
#include <jansson.h>
#include <math.h>

#include "base/os.h"
#include "io/io.h"

enum { MAX_SIDE = 16384, MAX_JSON = 1 << 20 };

/* ---- settings ---- */
void ps_preprocess_init(ps_preprocess *ret) {
    *ret = (ps_preprocess) { .size_of = sizeof *ret, .std = { 1, 1, 1 } };
}

static const struct {
    const char *name;
    ps_preprocess value;
} presets[] = {
    { "efficientnet-lite0",
      { .size_of = sizeof(ps_preprocess),
        .resize = 256,
        .size = 224,
        .mean = { 127, 127, 127 },
        .std = { 128, 128, 128 } } },
    { "imagenet",
      { .size_of = sizeof(ps_preprocess),
        .resize = 256,
        .size = 224,
        .bilinear = true,
        .mean = { 123.675f, 116.28f, 103.53f },
        .std = { 58.395f, 57.12f, 57.375f } } },
};
enum { N_PRESETS = sizeof presets / sizeof *presets };

ps_status ps_preprocess_preset(const char *name, ps_preprocess *ret, ps_error *reterr) {
    char names[256] = "";
    size_t n = 0;
    for (size_t k = 0; k < N_PRESETS; k++) {
        if (strcmp(name, presets[k].name) == 0) {
            *ret = presets[k].value;
            return PS_OK;
        }
        ps_snprintf(names + n, sizeof names - n, "%s%s", k ? ", " : "", presets[k].name);
        n = strlen(names);
    }
    return PS_FAIL(reterr, NOT_FOUND, "preset '%s' is none of %s", name, names);
}

ps_status ps_preprocess_check(const ps_preprocess *p, const char *what, ps_error *err) {
    PS_FAIL_IF(p->size_of != sizeof *p, err, INVALID, "%s: not filled by ps_preprocess_init", what);
    PS_FAIL_IF(p->resize < 0 || p->resize > MAX_SIDE, err, INVALID, "%s: resize %d is outside [0, %d]", what, p->resize,
               MAX_SIDE);
    PS_FAIL_IF(p->size < 0 || p->size > MAX_SIDE, err, INVALID, "%s: size %d is outside [0, %d]", what, p->size,
               MAX_SIDE);
    PS_FAIL_IF(p->resize > 0 && p->resize < p->size, err, INVALID, "%s: resize %d is below size %d", what, p->resize,
               p->size);
    PS_FAIL_IF(p->bgr && p->gray, err, INVALID, "%s: color cannot be both BGR and gray", what);
    for (int c = 0; c < 3; c++)
        PS_FAIL_IF(!isfinite(p->mean[c]) || !isfinite(p->std[c]) || p->std[c] == 0, err, INVALID,
                   "%s: mean %g or std %g of channel %d is not a usable number", what, (double)p->mean[c],
                   (double)p->std[c], c);
    return PS_OK;
}

/* ---- JSON ---- */
typedef ps_status (*key_fn)(ps_preprocess *p, const char *key, const json_t *v, ps_error *err);

static ps_status read_side(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    PS_FAIL_IF(!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > MAX_SIDE, err, FORMAT,
               "'%s' is not an integer in [0, %d]", key, MAX_SIDE);
    *(key[0] == 'r' ? &p->resize : &p->size) = (int)json_integer_value(v);
    return PS_OK;
}

/* One number for all channels, or a list of one or three. */
static ps_status read_channels(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    float *to = key[0] == 'm' ? p->mean : p->std;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    PS_FAIL_IF(n != 1 && n != 3, err, FORMAT, "'%s' has %zu numbers, not one or three", key, n);
    for (size_t c = 0; c < 3; c++) {
        const json_t *x = json_is_array(v) ? json_array_get(v, n == 1 ? 0 : c) : v;
        PS_FAIL_IF(!json_is_number(x), err, FORMAT, "'%s' is neither a number nor a list of numbers", key);
        to[c] = (float)json_number_value(x);
    }
    return PS_OK;
}

/* Index of the string value in a NULL-terminated list. */
static ps_status read_choice(const char *key, const json_t *v, const char *const *names, int *ret, ps_error *err) {
    char all[128] = "";
    for (int k = 0; names[k]; k++) {
        if (json_is_string(v) && strcmp(json_string_value(v), names[k]) == 0) {
            *ret = k;
            return PS_OK;
        }
        size_t n = strlen(all);
        ps_snprintf(all + n, sizeof all - n, "%s'%s'", k ? ", " : "", names[k]);
    }
    return PS_FAIL(err, FORMAT, "'%s' is none of %s", key, all);
}

static ps_status read_filter(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    static const char *const names[] = { "bicubic", "bilinear", NULL };
    int k = 0;
    PS_TRY(read_choice(key, v, names, &k, err));
    p->bilinear = k == 1;
    return PS_OK;
}

static ps_status read_layout(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    static const char *const names[] = { "NCHW", "NHWC", NULL };
    int k = 0;
    PS_TRY(read_choice(key, v, names, &k, err));
    p->nhwc = k == 1;
    return PS_OK;
}

static ps_status read_color(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    static const char *const names[] = { "RGB", "BGR", "gray", NULL };
    int k = 0;
    PS_TRY(read_choice(key, v, names, &k, err));
    p->bgr = k == 1;
    p->gray = k == 2;
    return PS_OK;
}

static ps_status read_labels(ps_preprocess *p, const char *key, const json_t *v, ps_error *err) {
    PS_FAIL_IF(!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v)), err, FORMAT,
               "'%s' is not a path", key);
    PS_FAIL_IF(json_string_length(v) >= sizeof p->labels, err, LIMIT, "'%s' is longer than %zu bytes", key,
               sizeof p->labels - 1);
    ps_snprintf(p->labels, sizeof p->labels, "%s", json_string_value(v));
    return PS_OK;
}

static const struct {
    const char *name;
    key_fn read;
} keys[] = {
    { "resize", read_side },  { "size", read_side },     { "filter", read_filter }, { "mean", read_channels },
    { "std", read_channels }, { "layout", read_layout }, { "color", read_color },   { "labels", read_labels },
};
enum { N_KEYS = sizeof keys / sizeof *keys, MAX_KEY = 32 };

/* Levenshtein distance of two short words, for "did you mean". */
static int distance(const char *a, const char *b) {
    int row[MAX_KEY + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1, change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[n];
}

static ps_status unknown_key(const char *key, ps_error *err) {
    size_t best = 0;
    if (strlen(key) <= MAX_KEY) {
        for (size_t k = 1; k < N_KEYS; k++)
            if (distance(key, keys[k].name) < distance(key, keys[best].name)) best = k;
        return PS_FAIL(err, FORMAT, "unknown key '%s'; the nearest is '%s'", key, keys[best].name);
    }
    return PS_FAIL(err, FORMAT, "unknown key '%.*s…'", MAX_KEY, key);
}

static ps_status read_object(const json_t *root, ps_preprocess *p, ps_error *err) {
    const char *key;
    json_t *v;
    PS_FAIL_IF(!json_is_object(root), err, FORMAT, "the file is not a JSON object");
    json_object_foreach((json_t *)(uintptr_t)root, key, v) {
        size_t k = 0;
        while (k < N_KEYS && strcmp(keys[k].name, key) != 0)
            k++;
        if (k == N_KEYS) return unknown_key(key, err);
        PS_TRY(keys[k].read(p, key, v, err));
    }
    return PS_OK;
}

/* A relative path of the labels is seen from the JSON file's folder. */
static ps_status place_labels(const char *json_path, ps_preprocess *p, ps_error *err) {
    const char *slash = strrchr(json_path, '/');
    char labels[sizeof p->labels];
    if (!p->labels[0] || p->labels[0] == '/' || !slash) return PS_OK;
    size_t folder = (size_t)(slash - json_path) + 1;
    PS_FAIL_IF(folder + strlen(p->labels) >= sizeof labels, err, LIMIT,
               "the path of the labels is longer than %zu bytes", sizeof labels - 1);
    memcpy(labels, json_path, folder);
    memcpy(labels + folder, p->labels, strlen(p->labels) + 1);
    memcpy(p->labels, labels, sizeof labels);
    return PS_OK;
}

static ps_status parse_json(const char *path, const char *text, size_t size, ps_preprocess *p, ps_error *err) {
    json_error_t where;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root) return PS_FAIL(err, FORMAT, "line %d: %s", where.line, where.text);
    ps_status status = read_object(root, p, err);
    json_decref(root);
    if (status == PS_OK) status = place_labels(path, p, err);
    return status == PS_OK ? ps_preprocess_check(p, "preprocessing", err) : status;
}

ps_status ps_preprocess_load(ps_engine *engine, const char *path, ps_preprocess *ret, ps_error *reterr) {
    ps_alloc_state *a = ps_engine_alloc(engine);
    char *text;
    size_t size;
    ps_preprocess p;
    ps_preprocess_init(&p);
    PS_TRY(ps_file_read(a, path, MAX_JSON, &text, &size, reterr));
    ps_status status = parse_json(path, text, size, &p, reterr);
    ps_free(a, text);
    if (status != PS_OK)
        ps_error_prefix(reterr, "%s", path);
    else
        *ret = p;
    return status;
}

/* ---- the work ---- */
/* Size after the resize; equal to the photo's where there is none. The longer side is cut to whole pixels. */
static void target_size(const ps_image *image, const ps_preprocess *p, int64_t *width, int64_t *height) {
    int64_t w = image->width, h = image->height, least = w < h ? w : h, want = p->resize;
    if (want == 0 && least < p->size) want = p->size;
    if (want == 0) want = least;
    *width = w <= h ? want : want * w / h;
    *height = w <= h ? want * h / w : want;
}

/* First row or column of the crop: the middle, halves to the even side. */
static int crop_start(int extent, int size) {
    int rest = extent - size;
    return rest / 2 + (rest % 2 && rest / 2 % 2);
}

static ps_status normalise(ps_alloc_state *a, const ps_image *image, const ps_preprocess *p, ps_tensor **ret,
                           ps_error *err) {
    int rows = p->size ? p->size : image->height, cols = p->size ? p->size : image->width, channels = image->channels;
    int top = crop_start(image->height, rows), left = crop_start(image->width, cols);
    ps_shape shape = { 4, { 1, channels, rows, cols } };
    if (p->nhwc) shape = (ps_shape) { 4, { 1, rows, cols, channels } };
    PS_TRY(ps_tensor_new(a, PS_DTYPE_F32, &shape, ret, err));
    float *dst = (*ret)->data;
    size_t plane = (size_t)rows * (size_t)cols;
    for (int c = 0; c < channels; c++) {
        int from = p->bgr ? channels - 1 - c : c;
        for (int y = 0; y < rows; y++) {
            const uint8_t *src =
                image->data + ((size_t)(top + y) * (size_t)image->width + (size_t)left) * (size_t)channels;
            for (int x = 0; x < cols; x++) {
                size_t at = (size_t)y * (size_t)cols + (size_t)x;
                float v = ((float)src[x * channels + from] - p->mean[c]) / p->std[c];
                dst[p->nhwc ? at * (size_t)channels + (size_t)c : (size_t)c * plane + at] = v;
            }
        }
    }
    return PS_OK;
}

static ps_status prepare_sized(ps_alloc_state *a, const ps_image *image, const ps_preprocess *p, ps_tensor **ret,
                               ps_error *err) {
    int64_t width, height;
    target_size(image, p, &width, &height);
    if (width == image->width && height == image->height) return normalise(a, image, p, ret, err);
    ps_image resized;
    PS_TRY(ps_image_resize(image, width, height, p->bilinear ? PS_FILTER_BILINEAR : PS_FILTER_BICUBIC, &resized, err));
    ps_status status = normalise(a, &resized, p, ret, err);
    ps_image_release(&resized);
    return status;
}

ps_status ps_image_prepare(ps_alloc_state *a, const ps_image *image, const ps_preprocess *p, ps_tensor **ret,
                           ps_error *err) {
    if (!p->gray) return prepare_sized(a, image, p, ret, err);
    ps_image luma;
    PS_TRY(ps_image_luma(image, &luma, err));
    ps_status status = prepare_sized(a, &luma, p, ret, err);
    ps_image_release(&luma);
    return status;
}

ps_status ps_image_decode(ps_engine *engine, const void *data, size_t size, const ps_preprocess *preprocess,
                          ps_tensor **ret_tensor, ps_error *reterr) {
    ps_alloc_state *a = ps_engine_alloc(engine);
    ps_preprocess identity;
    ps_image image;
    ps_preprocess_init(&identity);
    if (!preprocess) preprocess = &identity;
    PS_TRY(ps_preprocess_check(preprocess, "preprocessing", reterr));
    PS_TRY(ps_image_read(a, data, size, &image, reterr));
    ps_status status = ps_image_prepare(a, &image, preprocess, ret_tensor, reterr);
    ps_image_release(&image);
    return status;
}

ps_status ps_image_load(ps_engine *engine, const char *path, const ps_preprocess *preprocess, ps_tensor **ret_tensor,
                        ps_error *reterr) {
    ps_alloc_state *a = ps_engine_alloc(engine);
    char *data;
    size_t size;
    PS_TRY(ps_file_read(a, path, PS_IMAGE_MAX_FILE, &data, &size, reterr));
    ps_status status = ps_image_decode(engine, data, size, preprocess, ret_tensor, reterr);
    ps_free(a, data);
    if (status != PS_OK) ps_error_prefix(reterr, "%s", path);
    return status;
}
