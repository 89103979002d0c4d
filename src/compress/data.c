/* data.c - see data.h. */
#include "compress/data.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>

#include "io/io.h"
#include "tensor/convert.h"

#define KEEP_BYTES ((size_t)64 << 20) /* of decoded samples, so that a second pass need not read them again */
enum { MAX_LABELS_FILE = 64 << 20 };

/* ---- names ---- */

static bool ends_with(const char *path, const char *suffix) {
    const size_t n = strlen(path), k = strlen(suffix);
    return n > k && strcasecmp(path + n - k, suffix) == 0;
}

static bool is_photo(const char *name) {
    static const char *const kinds[] = { ".jpg", ".jpeg", ".png",  ".bmp",  ".ppm", ".pgm",
                                         ".pbm", ".tif",  ".tiff", ".webp", ".jp2" };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (ends_with(name, kinds[i])) return true;
    return false;
}

static bool is_array(const char *name) {
    return ends_with(name, ".npy") || ends_with(name, ".npz");
}

static ps_status join(ps_alloc_state *a, const char *folder, const char *name, char **ret, ps_error *err) {
    ps_str s;
    ps_str_init(&s, a);
    ps_str_printf(&s, "%s/%s", folder, name);
    *ret = ps_str_take(&s);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a path");
}

/* ---- checking a tensor against an input ---- */

static ps_status check_shape(const ps_dataset *d, size_t input, const ps_shape *have, bool rows, const char *where,
                             ps_error *err) {
    ps_value_info info = { .size = sizeof info };
    char want[200], got[200];
    ps_model_input(d->model, input, &info);
    if (info.shape.rank < 0) return PS_OK;
    ps_shape_text(&info.shape, want, sizeof want);
    ps_shape_text(have, got, sizeof got);
    PS_FAIL_IF(have->rank != info.shape.rank, err, SHAPE, "%s: its shape is %s, input '%s' wants %s", where, got,
               info.name, want);
    for (int k = rows ? 1 : 0; k < have->rank; k++)
        PS_FAIL_IF(info.shape.dims[k] >= 0 && info.shape.dims[k] != have->dims[k], err, SHAPE,
                   "%s: its shape is %s, input '%s' wants %s", where, got, info.name, want);
    return PS_OK;
}

/* Numbers of another width are converted; what would change values is not. */
static ps_status match_type(const ps_dataset *d, size_t input, ps_tensor **t, const char *where, ps_error *err) {
    ps_value_info info = { .size = sizeof info };
    ps_model_input(d->model, input, &info);
    if (info.dtype == (*t)->dtype || info.dtype == PS_DTYPE_UNDEFINED) return PS_OK;
    const bool floats = ps_dtype_is_float(info.dtype) && ps_dtype_is_float((*t)->dtype);
    const bool ints = ps_dtype_is_int(info.dtype) && ps_dtype_is_int((*t)->dtype);
    PS_FAIL_IF(!floats && !ints, err, TYPE, "%s: its elements are %s, input '%s' wants %s", where,
               ps_dtype_name((*t)->dtype), info.name, ps_dtype_name(info.dtype));
    ps_tensor *made;
    PS_TRY(ps_tensor_new(d->alloc, info.dtype, &(*t)->shape, &made, err));
    ps_convert((*t)->data, (*t)->dtype, made->data, info.dtype, ps_tensor_count(made), true);
    ps_tensor_release(*t);
    *t = made;
    return PS_OK;
}

static ps_status accept(const ps_dataset *d, size_t input, ps_tensor **t, bool rows, const char *where, ps_error *err) {
    PS_TRY(check_shape(d, input, &(*t)->shape, rows, where, err));
    return match_type(d, input, t, where, err);
}

/* ---- arrays ---- */

static size_t input_index(const ps_dataset *d, const char *name) {
    for (size_t i = 0; i < d->n_inputs; i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(d->model, i, &info);
        if (strcmp(info.name, name) == 0) return i;
    }
    return SIZE_MAX;
}

typedef struct npz_target {
    const ps_dataset *data;
    ps_tensor **ret;
    const char *path;
} npz_target;

static ps_status take_array(void *ctx, const char *name, ps_tensor *take, ps_error *err) {
    npz_target *t = ctx;
    size_t input = input_index(t->data, name);
    if (input == SIZE_MAX && t->data->n_inputs == 1 && !t->ret[0]) input = 0; /* numpy's "arr_0" */
    if (input == SIZE_MAX || t->ret[input]) {
        ps_tensor_release(take);
        return PS_OK; /* labels, ids … */
    }
    t->ret[input] = take;
    return PS_OK;
}

static ps_status load_npz(const ps_dataset *d, const char *path, ps_tensor **ret, ps_error *err) {
    npz_target target = { d, ret, path };
    PS_TRY(ps_npz_read(d->alloc, path, take_array, &target, err));
    for (size_t i = 0; i < d->n_inputs; i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(d->model, i, &info);
        PS_FAIL_IF(!ret[i], err, NOT_FOUND, "%s: it has no array '%s', which is an input of the model", path,
                   info.name);
    }
    return PS_OK;
}

/* Fills ret[n_inputs], also in part on failure. rows: the first dim counts samples. */
static ps_status load_arrays(const ps_dataset *d, const char *path, bool rows, ps_tensor **ret, ps_error *err) {
    if (ends_with(path, ".npz")) {
        PS_TRY(load_npz(d, path, ret, err));
    } else {
        PS_FAIL_IF(d->n_inputs != 1, err, INVALID,
                   "%s: the model has %zu inputs, so give a .npz file with one array for each", path, d->n_inputs);
        PS_TRY(ps_tensor_load(d->engine, path, &ret[0], err));
    }
    for (size_t i = 0; i < d->n_inputs; i++)
        PS_TRY(accept(d, i, &ret[i], rows, path, err));
    return PS_OK;
}

static ps_status open_rows(ps_dataset *d, ps_error *err) {
    ps_value_info info = { .size = sizeof info };
    d->kind = PS_DATA_ROWS;
    PS_TRY(load_arrays(d, d->path, true, d->rows, err));
    ps_model_input(d->model, 0, &info);
    const ps_shape *s = &d->rows[0]->shape;
    if (s->rank == 0) {
        d->n = 1;
        return PS_OK;
    }
    d->step = info.shape.rank > 0 && info.shape.dims[0] > 0 ? info.shape.dims[0] : 1;
    d->n = (size_t)(s->dims[0] / d->step);
    for (size_t i = 1; i < d->n_inputs; i++) {
        const ps_shape *o = &d->rows[i]->shape;
        PS_FAIL_IF(o->rank == 0 || o->dims[0] != s->dims[0], err, SHAPE,
                   "%s: its arrays have different numbers of samples in their first dim", d->path);
    }
    return PS_OK;
}

static ps_status slice_row(ps_dataset *d, size_t index, size_t input, ps_tensor **ret, ps_error *err) {
    ps_tensor *all = d->rows[input];
    ps_shape shape = all->shape;
    if (!d->step) {
        *ret = ps_tensor_retain(all);
        return PS_OK;
    }
    shape.dims[0] = d->step;
    const size_t bytes = all->bytes / (size_t)all->shape.dims[0] * (size_t)d->step;
    return ps_tensor_new_view(d->alloc, all->dtype, &shape, (uint8_t *)all->data + index * bytes, all, ret, err);
}

/* ---- photos ---- */

static ps_status load_photo(const ps_dataset *d, const char *path, ps_tensor **ret, ps_error *err) {
    ps_value_info info = { .size = sizeof info };
    ps_preprocess p = d->preprocess;
    ps_model_input(d->model, 0, &info);
    if (!p.size && info.shape.rank == 4) {
        const int64_t side = info.shape.dims[p.nhwc ? 1 : 2];
        if (side > 0 && side <= 16384) p.size = (int)side;
    }
    PS_TRY(ps_image_load(d->engine, path, &p, ret, err));
    return accept(d, 0, ret, false, path, err);
}

/* ---- folders of test data ---- */

static ps_status load_set(const ps_dataset *d, const char *folder, ps_tensor **ret, ps_error *err) {
    for (size_t i = 0; i < d->n_inputs; i++) {
        char name[40], *path;
        ps_value_info info = { .size = sizeof info };
        ps_model_input(d->model, i, &info);
        ps_snprintf(name, sizeof name, "input_%zu.pb", i);
        PS_TRY(join(d->alloc, folder, name, &path, err));
        ps_status status = ps_tensor_load_as(d->engine, path, info.dtype, &ret[i], err);
        if (status == PS_OK && !ps_dtype_is_object(info.dtype)) status = accept(d, i, &ret[i], false, path, err);
        ps_free(d->alloc, path);
        PS_TRY(status);
    }
    return PS_OK;
}

/* ---- folders ---- */

static ps_status add_item(ps_dataset *d, const char *name, int64_t label, ps_error *err) {
    ps_data_item item = { ps_strdup(d->alloc, name), label };
    if (!item.name || !ps_vec_push(d->alloc, &d->items, item)) {
        ps_free(d->alloc, item.name);
        return PS_FAIL_NOMEM(err, "the list of samples");
    }
    return PS_OK;
}

/* "file class …" a line. */
static ps_status read_label_lines(ps_dataset *d, char *text, const char *path, ps_error *err) {
    size_t number = 0;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        number++;
        line += strspn(line, " \t\r");
        if (!*line || *line == '#') continue;
        char *rest = line + strcspn(line, " \t\r"), *end;
        if (*rest) *rest++ = 0;
        errno = 0;
        const long long label = strtoll(rest, &end, 10);
        PS_FAIL_IF(end == rest || errno || label < 0 || (*end && !strchr(" \t\r", *end)), err, FORMAT,
                   "%s: line %zu is not \"file class\", with the class as a number", path, number);
        PS_TRY(add_item(d, line, label, err));
    }
    return PS_OK;
}

static ps_status read_labels(ps_dataset *d, ps_error *err) {
    char *path, *text;
    size_t size;
    PS_TRY(join(d->alloc, d->path, "labels.txt", &path, err));
    ps_status status = ps_file_exists(path) ? PS_OK : PS_NOT_FOUND;
    if (status == PS_OK) {
        status = ps_file_read(d->alloc, path, MAX_LABELS_FILE, &text, &size, err);
        if (status == PS_OK) {
            status = read_label_lines(d, text, path, err);
            ps_free(d->alloc, text);
        }
        d->labelled = status == PS_OK && d->items.size;
    } else {
        status = PS_OK;
    }
    ps_free(d->alloc, path);
    return status;
}

static int by_length(const void *a, const void *b) {
    const char *x = ((const ps_data_item *)a)->name, *y = ((const ps_data_item *)b)->name;
    const size_t n = strlen(x), m = strlen(y);
    return n != m ? (n > m) - (n < m) : strcmp(x, y);
}

typedef bool (*pick_fn)(const ps_dataset *d, const char *name);

static bool pick_photo(const ps_dataset *d, const char *name) {
    return is_photo(name) && d != NULL;
}

static bool pick_array(const ps_dataset *d, const char *name) {
    return is_array(name) && d != NULL;
}

static bool pick_set(const ps_dataset *d, const char *name) {
    char *path;
    if (strncmp(name, "test_data_set_", 14) != 0 || join(d->alloc, d->path, name, &path, NULL) != PS_OK) return false;
    const bool there = ps_dir_exists(path);
    ps_free(d->alloc, path);
    return there;
}

static ps_status pick_all(ps_dataset *d, char *const *names, size_t count, ps_data_kind kind, pick_fn pick,
                          ps_error *err) {
    for (size_t i = 0; i < count; i++)
        if (pick(d, names[i])) PS_TRY(add_item(d, names[i], -1, err));
    d->kind = kind;
    return PS_OK;
}

static ps_status list_folder(ps_dataset *d, char *const *names, size_t count, ps_error *err) {
    PS_TRY(read_labels(d, err));
    d->kind = PS_DATA_PHOTOS;
    if (d->items.size && is_array(d->items.data[0].name)) d->kind = PS_DATA_ARRAYS;
    if (!d->items.size) PS_TRY(pick_all(d, names, count, PS_DATA_PHOTOS, pick_photo, err));
    if (!d->items.size) PS_TRY(pick_all(d, names, count, PS_DATA_ARRAYS, pick_array, err));
    if (!d->items.size) PS_TRY(pick_all(d, names, count, PS_DATA_SETS, pick_set, err));
    if (d->kind == PS_DATA_SETS && d->items.size) /* 2 before 10 */
        qsort(d->items.data, d->items.size, sizeof *d->items.data, by_length);
    PS_FAIL_IF(!d->items.size, err, NOT_FOUND,
               "'%s' holds no samples: neither photos, nor .npy or .npz files, nor test_data_set_* folders", d->path);
    PS_FAIL_IF(d->kind == PS_DATA_PHOTOS && d->n_inputs != 1, err, INVALID,
               "'%s' holds photos, but the model has %zu inputs", d->path, d->n_inputs);
    d->n = d->items.size;
    return PS_OK;
}

static ps_status open_folder(ps_dataset *d, ps_error *err) {
    char **names;
    size_t count;
    PS_TRY(ps_dir_list(d->alloc, d->path, &names, &count, err));
    ps_status status = list_folder(d, names, count, err);
    ps_dir_free(d->alloc, names, count);
    return status;
}

static ps_status fill(ps_dataset *d, const char *path, ps_error *err) {
    d->path = ps_strdup(d->alloc, path);
    d->rows = ps_alloc_zero(d->alloc, (d->n_inputs + 1) * sizeof *d->rows);
    if (!d->path || !d->rows) return PS_FAIL_NOMEM(err, "samples");
    PS_FAIL_IF(!d->n_inputs, err, INVALID, "the model has no inputs");
    if (ps_dir_exists(path)) {
        PS_TRY(open_folder(d, err));
    } else {
        PS_FAIL_IF(!ps_file_exists(path), err, NOT_FOUND, "data '%s' is not there", path);
        PS_FAIL_IF(!is_array(path), err, INVALID, "data '%s' is neither a folder nor a .npy or .npz file", path);
        PS_TRY(open_rows(d, err));
    }
    PS_FAIL_IF(!d->n, err, INVALID, "data '%s' holds no sample", path);
    d->bad = ps_alloc_zero(d->alloc, d->n * sizeof *d->bad);
    if (!d->bad) return PS_FAIL_NOMEM(err, "samples");
    size_t slots;
    if (d->kind == PS_DATA_ROWS || ps_mul_overflow_size(d->n, d->n_inputs, &slots)) return PS_OK;
    d->kept = ps_alloc_zero(d->alloc, slots * sizeof *d->kept);
    d->room = KEEP_BYTES;
    return d->kept ? PS_OK : PS_FAIL_NOMEM(err, "samples");
}

ps_status ps_dataset_open(ps_engine *engine, const ps_model *model, const char *path, const ps_preprocess *preprocess,
                          ps_dataset *ret, ps_error *err) {
    *ret = (ps_dataset) { .engine = engine, .alloc = ps_engine_alloc(engine), .model = model };
    ret->n_inputs = ps_model_input_count(model);
    if (preprocess)
        ret->preprocess = *preprocess;
    else
        ps_preprocess_init(&ret->preprocess);
    ps_status status = fill(ret, path, err);
    if (status != PS_OK) ps_dataset_close(ret);
    return status;
}

void ps_dataset_close(ps_dataset *d) {
    if (!d->alloc) return;
    for (size_t i = 0; d->kept && i < d->n * d->n_inputs; i++)
        ps_tensor_release(d->kept[i]);
    for (size_t i = 0; d->rows && i < d->n_inputs; i++)
        ps_tensor_release(d->rows[i]);
    for (size_t i = 0; i < d->items.size; i++)
        ps_free(d->alloc, d->items.data[i].name);
    ps_vec_release(d->alloc, &d->items);
    ps_free(d->alloc, d->kept);
    ps_free(d->alloc, d->bad);
    ps_free(d->alloc, d->rows);
    ps_free(d->alloc, d->path);
    *d = (ps_dataset) { 0 };
}

/* ---- samples ---- */

static ps_status load_item(ps_dataset *d, size_t index, ps_tensor **ret, ps_error *err) {
    char *path;
    PS_TRY(join(d->alloc, d->path, d->items.data[index].name, &path, err));
    ps_status status = d->kind == PS_DATA_PHOTOS   ? load_photo(d, path, ret, err)
                       : d->kind == PS_DATA_ARRAYS ? load_arrays(d, path, false, ret, err)
                                                   : load_set(d, path, ret, err);
    ps_free(d->alloc, path);
    return status;
}

static void keep(ps_dataset *d, size_t index, ps_tensor *const *t) {
    size_t bytes = 0;
    for (size_t i = 0; i < d->n_inputs; i++)
        bytes += t[i]->bytes;
    if (bytes > d->room) return;
    d->room -= bytes;
    for (size_t i = 0; i < d->n_inputs; i++)
        d->kept[index * d->n_inputs + i] = ps_tensor_retain(t[i]);
}

ps_status ps_dataset_get(ps_dataset *d, size_t index, ps_tensor **ret, ps_error *err) {
    ps_status status = PS_OK;
    for (size_t i = 0; i < d->n_inputs; i++)
        ret[i] = NULL;
    if (d->kept && d->kept[index * d->n_inputs]) {
        for (size_t i = 0; i < d->n_inputs; i++)
            ret[i] = ps_tensor_retain(d->kept[index * d->n_inputs + i]);
        return PS_OK;
    }
    if (d->kind != PS_DATA_ROWS) {
        status = load_item(d, index, ret, err);
        if (status == PS_OK) keep(d, index, ret);
    } else {
        for (size_t i = 0; i < d->n_inputs && status == PS_OK; i++)
            status = slice_row(d, index, i, &ret[i], err);
    }
    if (status == PS_OK) return PS_OK;
    for (size_t i = 0; i < d->n_inputs; i++) {
        ps_tensor_release(ret[i]);
        ret[i] = NULL;
    }
    return status;
}

int64_t ps_dataset_label(const ps_dataset *d, size_t index) {
    return index < d->items.size ? d->items.data[index].label : -1;
}

const char *ps_dataset_name(const ps_dataset *d, size_t index, char *buf, size_t size) {
    if (index < d->items.size) return d->items.data[index].name;
    ps_snprintf(buf, size, "sample %zu", index);
    return buf;
}
