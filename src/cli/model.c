/* model.c - what commands do with models: open them, settle input shapes, make input data, read elements. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* ---- opening ---- */

/* What an engine may keep on disk; 0 is nothing at all. */
static bool read_cache_size(const cli_args *args, ps_engine_options *o) {
    size_t bytes = 0;
    const char *text = cli_get(args, "cache-size");
    if (!text) return true;
    if (strcmp(text, "0") == 0) {
        o->cache_dir = "";
        return true;
    }
    if (!cli_get_size(args, "cache-size", &bytes)) return false;
    o->cache_bytes = bytes;
    return true;
}

int cli_engine_open(const cli_args *args, ps_log_fn log, void *log_ctx, ps_engine **ret) {
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    ps_error err = PS_ERROR_INIT;
    *ret = NULL;
    if (!cli_get_int(args, "threads", 1, 1024, &o.threads) || !read_cache_size(args, &o)) return CLI_USAGE;
    o.log = log;
    o.log_ctx = log_ctx;
    return ps_engine_create(&o, ret, &err) == PS_OK ? CLI_OK : cli_fail_error(args, &err);
}

ps_dtype cli_activations(const cli_args *args) {
    const char *text = cli_get(args, "activations");
    return text && strcmp(text, "f16") == 0 ? PS_DTYPE_F16 : PS_DTYPE_F32;
}

ps_status cli_model_load(const cli_args *args, ps_engine *engine, const char *path, ps_model **ret, ps_error *err) {
    ps_model_options o = PS_MODEL_OPTIONS_INIT;
    o.device = cli_get(args, "device");
    o.no_fusion = cli_has(args, "no-fusion");
    o.activations = cli_activations(args);
    if (o.device && strchr(o.device, ',')) {
        snprintf(err->msg, sizeof err->msg, "--device '%.64s': several devices are for 'polestar serve'", o.device);
        return err->status = PS_INVALID;
    }
    return ps_model_load(engine, path, &o, ret, err);
}

int cli_model_open(const cli_args *args, const char *path, cli_model *ret) {
    ps_error err = PS_ERROR_INIT;
    *ret = (cli_model) { 0 };
    const int code = cli_engine_open(args, NULL, NULL, &ret->engine);
    if (code != CLI_OK) return code;
    char *file = cli_model_path(path);
    const int64_t start = cli_now_ns();
    const ps_status status = cli_model_load(args, ret->engine, file, &ret->model, &err);
    ret->load_ns = cli_now_ns() - start;
    free(file);
    return status == PS_OK ? CLI_OK : cli_fail_error(args, &err);
}

void cli_model_close(cli_model *m) {
    ps_model_release(m->model);
    ps_engine_free(m->engine);
    *m = (cli_model) { 0 };
}

/* ---- shapes ---- */

size_t cli_input_index(const ps_model *model, const char *name, size_t length) {
    for (size_t i = 0; i < ps_model_input_count(model); i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(model, i, &info);
        if (strlen(info.name) == length && strncmp(info.name, name, length) == 0) return i;
    }
    return SIZE_MAX;
}

typedef struct input_names {
    const ps_model *model;
} input_names;

static const char *next_input(const void *ctx, size_t i) {
    ps_value_info info = { .size = sizeof info };
    return ps_model_input(((const input_names *)ctx)->model, i, &info) == PS_OK ? info.name : NULL;
}

/* "1x3x224x224", "" for a scalar. */
static bool parse_shape(const char *text, ps_shape *ret) {
    *ret = (ps_shape) { 0 };
    while (*text) {
        char *end;
        errno = 0;
        const long long v = strtoll(text, &end, 10);
        if (ret->rank == PS_MAX_RANK || end == text || errno || v < 0 || (*end && *end != 'x')) return false;
        if (*end == 'x' && !end[1]) return false;
        ret->dims[ret->rank++] = v;
        text = *end ? end + 1 : end;
    }
    return true;
}

/* What --shape and --batch said about symbols: one extent each. */
typedef struct symbol_table {
    int64_t dims[128], extents[128];
    size_t n;
} symbol_table;

static void learn_symbol(symbol_table *t, int64_t dim, int64_t extent) {
    if (dim >= PS_DIM_UNKNOWN || t->n == sizeof t->dims / sizeof *t->dims) return;
    t->dims[t->n] = dim;
    t->extents[t->n++] = extent;
}

static int64_t symbol_extent(const symbol_table *t, int64_t dim) {
    for (size_t i = 0; i < t->n; i++)
        if (t->dims[i] == dim) return t->extents[i];
    return 1;
}

/* One --shape NAME=DIMS (DIMS alone if the model has one input). */
static int apply_shape(const cli_args *args, const ps_model *model, const char *text, ps_shape *shapes, bool *given,
                       symbol_table *symbols) {
    const size_t length = cli_name_length(text), count = ps_model_input_count(model);
    const input_names names = { model };
    const size_t index = length ? cli_input_index(model, text, length) : count == 1 ? 0 : SIZE_MAX;
    ps_value_info info = { .size = sizeof info };
    ps_shape shape;
    char buf[256];
    if (index == SIZE_MAX) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)(length ? length : strlen(text)), text);
        const char *near = cli_nearest(name, next_input, &names);
        return near ? cli_usage(args, "--shape %s: the model has no input '%s'; did you mean '%s'?", text, name, near)
                    : cli_usage(args, "--shape %s: the model has no input '%s'; 'polestar inspect' lists them", text,
                                name);
    }
    ps_model_input(model, index, &info);
    if (!parse_shape(length ? text + length + 1 : text, &shape))
        return cli_usage(args, "--shape %s: dims are written 1x3x224x224", text);
    bool fits = info.shape.rank < 0 || info.shape.rank == shape.rank;
    for (int d = 0; fits && d < info.shape.rank; d++)
        fits = info.shape.dims[d] < 0 || info.shape.dims[d] == shape.dims[d];
    if (!fits)
        return cli_usage(args, "--shape %s does not fit input '%s', which is %s", text, info.name,
                         cli_shape_text(model, &info.shape, buf, sizeof buf));
    for (int d = 0; d < info.shape.rank; d++)
        learn_symbol(symbols, info.shape.dims[d], shape.dims[d]);
    shapes[index] = shape;
    given[index] = true;
    return CLI_OK;
}

static int apply_batch(const cli_args *args, const ps_model *model, int batch, const bool *given,
                       symbol_table *symbols) {
    bool open = false;
    for (size_t i = 0; i < ps_model_input_count(model); i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(model, i, &info);
        if (given[i] || info.shape.rank < 1) continue;
        const int64_t dim = info.shape.dims[0];
        learn_symbol(symbols, dim, batch);
        open |= dim < 0 || dim == batch;
    }
    return open || batch == 1 ? CLI_OK
                              : cli_usage(args, "--batch %d: the file fixes the first dim of every input", batch);
}

int cli_input_shapes(const cli_args *args, const ps_model *model, int batch, ps_shape *ret) {
    const size_t count = ps_model_input_count(model);
    bool *given = cli_alloc(count, sizeof *given);
    symbol_table symbols = { .n = 0 };
    int code = CLI_OK;
    const char *text;
    for (size_t i = 0; code == CLI_OK && (text = cli_get_nth(args, "shape", i)); i++)
        code = apply_shape(args, model, text, ret, given, &symbols);
    if (code == CLI_OK && batch > 0) code = apply_batch(args, model, batch, given, &symbols);
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        if (given[i]) continue;
        ps_value_info info = { .size = sizeof info };
        ps_model_input(model, i, &info);
        ret[i] = info.shape;
        if (ret[i].rank < 0) ret[i].rank = 0;
        for (int d = 0; d < ret[i].rank; d++) {
            if (ret[i].dims[d] >= 0) continue;
            const bool unknown_batch = d == 0 && batch > 0 && ret[i].dims[d] == PS_DIM_UNKNOWN;
            ret[i].dims[d] = unknown_batch ? batch : symbol_extent(&symbols, ret[i].dims[d]);
        }
    }
    free(given);
    return code;
}

/* ---- random data ---- */

/* splitmix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double cli_random(uint64_t *state) {
    return ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller's transform, one of the pair. */
double cli_random_normal(uint64_t *state) {
    const double u = cli_random(state), v = cli_random(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* The upper bits of f32 that f16 has, truncated: the values are arbitrary anyway. Magnitudes below 2^-14 become 0. */
static uint16_t short_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const int exponent = (int)(bits >> 23 & 255) - 127 + 15;
    return (uint16_t)((bits >> 16 & 0x8000) | (exponent > 0 ? (uint32_t)exponent << 10 | (bits >> 13 & 0x3FF) : 0));
}

static void fill_random(ps_tensor *t, uint64_t *state) {
    const size_t n = ps_tensor_elements(t);
    void *data = ps_tensor_data(t);
    const size_t size = ps_dtype_bits(ps_tensor_dtype(t)) / 8;
    for (size_t i = 0; i < n; i++) {
        const float f = cli_dtype_float(ps_tensor_dtype(t)) ? (float)cli_random_normal(state) : 0;
        uint32_t bits;
        memcpy(&bits, &f, 4);
        switch (ps_tensor_dtype(t)) {
        case PS_DTYPE_F32: ((float *)data)[i] = f; break;
        case PS_DTYPE_F64: ((double *)data)[i] = (double)f; break;
        case PS_DTYPE_BF16: ((uint16_t *)data)[i] = (uint16_t)(bits >> 16); break;
        case PS_DTYPE_F16: ((uint16_t *)data)[i] = short_float(f); break;
        case PS_DTYPE_STRING: /* "0" or "1", which are words and numbers; out of memory leaves them empty */
            (void)ps_tensor_set_string(t, i, next_random(state) >> 63 ? "1" : "0", 1, NULL);
            break;
        default: /* little-endian integers and bool: 0 or 1 in the lowest byte */
            if (size) ((uint8_t *)data)[i * size] = (uint8_t)(next_random(state) >> 63);
        }
    }
}

ps_status cli_tensor_random(ps_engine *engine, ps_dtype dtype, const ps_shape *shape, uint64_t seed, ps_tensor **ret,
                            ps_error *err) {
    const ps_status status = ps_tensor_create(engine, dtype, shape, ret, err);
    if (status == PS_OK) fill_random(*ret, &seed);
    return status;
}

int cli_random_inputs(const cli_args *args, const cli_model *m, int batch, ps_tensor **ret) {
    const size_t n = ps_model_input_count(m->model);
    ps_shape *shapes = cli_alloc(n, sizeof *shapes);
    ps_error err = PS_ERROR_INIT;
    int code = cli_input_shapes(args, m->model, batch, shapes);
    for (size_t i = 0; i < n && code == CLI_OK; i++) {
        ps_value_info info = { .size = sizeof info };
        ps_model_input(m->model, i, &info);
        if (cli_dtype_container(info.dtype))
            code = cli_fail(args, "input '%s' is of type %s, which has no random data: give a file", info.name,
                            ps_dtype_name(info.dtype));
        else if (cli_tensor_random(m->engine, info.dtype, &shapes[i], 1 + i, &ret[i], &err) != PS_OK)
            code = cli_fail_error(args, &err);
    }
    free(shapes);
    return code;
}

void cli_tensors_release(ps_tensor **tensors, size_t n) {
    for (size_t i = 0; i < n; i++) {
        ps_tensor_release(tensors[i]);
        tensors[i] = NULL;
    }
}

/* ---- elements ---- */

bool cli_dtype_float(ps_dtype t) {
    return t == PS_DTYPE_F32 || t == PS_DTYPE_F64 || t == PS_DTYPE_F16 || t == PS_DTYPE_BF16;
}

bool cli_dtype_container(ps_dtype t) {
    return t == PS_DTYPE_SEQUENCE || t == PS_DTYPE_OPTIONAL || t == PS_DTYPE_MAP;
}

double cli_element(const ps_tensor *t, size_t i) {
    double v = NAN;
    ps_tensor_get_double(t, i, &v);
    return v;
}
