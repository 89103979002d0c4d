#include "server/probe.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"
#include "polestar/tensor.h"

/* As `verify` has them: batched kernels may sum in another order. */
#define RTOL 1e-3
#define ATOL 1e-5
#define MAX_ELEMENTS (INT64_C(1) << 24) /* of one input in the trial */

/* Extents tried for dims that the model leaves open, one after the other until it runs: texts take any, pictures have
 * to survive their strides. */
static const int64_t extents[] = { 2, 16, 64, 224 };

typedef struct trial {
    const ps_probe *probe;
    ps_session *session;
    ps_arena arena;
    ps_tensor **rows[3]; /* inputs: row 0, row 1, both */
    ps_tensor **out;
    char **kept[2]; /* outputs of the rows, copied */
    size_t *bytes;  /* of each, for one row */
} trial;

/* ---- what the model declares ---- */


/* Output shapes are what an exporter believes, often under names of its own: they only have to be open. */
static ps_status check_shapes(const ps_probe *p, ps_error *err) {
    PS_FAIL_IF(!p->n_inputs || !p->n_outputs, err, UNSUPPORTED, "it has no inputs or no outputs");
    const ps_shape *first = &p->inputs[0].shape;
    for (size_t i = 0; i < p->n_inputs; i++) {
        const ps_shape *s = &p->inputs[i].shape;
        PS_FAIL_IF(s->rank < 1 || s->dims[0] >= 0, err, UNSUPPORTED, "the first dim of input '%s' is not symbolic",
                   p->inputs[i].name);
        PS_FAIL_IF(s->dims[0] != first->dims[0] || (i && s->dims[0] == PS_DIM_UNKNOWN), err, UNSUPPORTED,
                   "input '%s' does not share the first dim of '%s'", p->inputs[i].name, p->inputs[0].name);
    }
    for (size_t i = 0; i < p->n_outputs; i++) {
        const ps_shape *s = &p->outputs[i].shape;
        PS_FAIL_IF(s->rank == 0 || (s->rank > 0 && s->dims[0] >= 0), err, UNSUPPORTED,
                   "the first dim of output '%s' is not symbolic", p->outputs[i].name);
    }
    return PS_OK;
}

/* ---- data ---- */

void ps_probe_fill(ps_tensor *t, uint64_t seed) {
    ps_dtype dtype = ps_tensor_dtype(t);
    char *data = ps_tensor_data(t);
    size_t n = ps_tensor_elements(t), size = ps_dtype_bits(dtype) / 8;
    if (dtype == PS_DTYPE_STRING || size == 0) return; /* "" and 0 */
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int bit = (int)(seed >> 63);
        if (dtype == PS_DTYPE_F32)
            ((float *)(void *)data)[i] = (float)((double)(seed >> 40) / (1 << 24));
        else if (dtype == PS_DTYPE_F64)
            ((double *)(void *)data)[i] = (double)(seed >> 40) / (1 << 24);
        else if (dtype == PS_DTYPE_F16 || dtype == PS_DTYPE_BF16)
            ((uint16_t *)(void *)data)[i] = bit ? (dtype == PS_DTYPE_F16 ? 0x3c00 : 0x3f80) : 0;
        else
            data[i * size] = (char)bit; /* little-endian integers and bool */
    }
}

static ps_status make_input(trial *t, size_t i, int64_t extent, ps_error *err) {
    const ps_value_info *info = &t->probe->inputs[i];
    ps_shape shape = info->shape;
    int64_t count = 1;
    shape.dims[0] = 1;
    for (int d = 1; d < shape.rank; d++) {
        if (shape.dims[d] < 0) shape.dims[d] = extent;
        PS_FAIL_IF(__builtin_mul_overflow(count, shape.dims[d], &count) || count > MAX_ELEMENTS, err, LIMIT,
                   "input '%s' is too large for a trial", info->name);
    }
    for (int k = 0; k < 3; k++) {
        shape.dims[0] = k == 2 ? 2 : 1;
        ps_tensor_release(t->rows[k][i]);
        t->rows[k][i] = NULL;
        PS_TRY(ps_tensor_create(t->probe->engine, info->dtype, &shape, &t->rows[k][i], err));
        if (k < 2) ps_probe_fill(t->rows[k][i], 2 * i + (uint64_t)k + 1);
    }
    size_t bytes = ps_tensor_bytes(t->rows[0][i]);
    if (info->dtype == PS_DTYPE_STRING || bytes == 0) return PS_OK;
    char *both = ps_tensor_data(t->rows[2][i]);
    memcpy(both, ps_tensor_data(t->rows[0][i]), bytes);
    memcpy(both + bytes, ps_tensor_data(t->rows[1][i]), bytes);
    return PS_OK;
}

/* ---- running and comparing ---- */

static ps_status run(trial *t, int k, ps_error *err) {
    const ps_probe *p = t->probe;
    memset(t->out, 0, p->n_outputs * sizeof *t->out); /* the session's own, as of each run */
    return ps_session_run(t->session, (const ps_tensor *const *)t->rows[k], p->n_inputs, t->out, p->n_outputs, NULL,
                          err);
}

/* A run with some extent for open dims. */
static ps_status run_first(trial *t, ps_error *err) {
    for (size_t e = 0; e < sizeof extents / sizeof *extents; e++) {
        bool open = false;
        for (size_t i = 0; i < t->probe->n_inputs; i++) {
            const ps_shape *s = &t->probe->inputs[i].shape;
            for (int d = 1; d < s->rank; d++)
                open |= s->dims[d] < 0;
            PS_TRY(make_input(t, i, extents[e], err));
        }
        ps_status status = run(t, 0, err);
        if (status == PS_OK || status == PS_NO_MEMORY || !open || e + 1 == sizeof extents / sizeof *extents)
            return status;
    }
    return PS_OK;
}

static ps_status keep(trial *t, int k, ps_error *err) {
    for (size_t i = 0; i < t->probe->n_outputs; i++) {
        size_t bytes = ps_tensor_bytes(t->out[i]);
        PS_FAIL_IF(k == 1 && bytes != t->bytes[i], err, UNSUPPORTED,
                   "the shape of output '%s' depends on what the inputs hold", t->probe->outputs[i].name);
        PS_FAIL_IF(ps_tensor_dtype(t->out[i]) == PS_DTYPE_STRING, err, UNSUPPORTED, "output '%s' is text",
                   t->probe->outputs[i].name);
        t->bytes[i] = bytes;
        t->kept[k][i] = ps_arena_alloc(&t->arena, bytes ? bytes : 1);
        if (!t->kept[k][i]) return PS_FAIL_NOMEM(err, "a trial of batching");
        if (bytes) memcpy(t->kept[k][i], ps_tensor_data_const(t->out[i]), bytes);
    }
    return PS_OK;
}

static bool near(double a, double b) {
    return fabs(a - b) <= ATOL + RTOL * fabs(b) || a == b || (isnan(a) && isnan(b));
}

static bool equal(ps_dtype dtype, const char *a, const char *b, size_t bytes) {
    if (memcmp(a, b, bytes) == 0) return true;
    size_t size = dtype == PS_DTYPE_F32 ? 4 : dtype == PS_DTYPE_F64 ? 8 : 0;
    for (size_t i = 0; size && i < bytes / size; i++) {
        float x, y;
        double v, w;
        if (size == 4) {
            memcpy(&x, a + i * 4, 4);
            memcpy(&y, b + i * 4, 4);
            v = x;
            w = y;
        } else {
            memcpy(&v, a + i * 8, 8);
            memcpy(&w, b + i * 8, 8);
        }
        if (!near(v, w)) return false;
    }
    return size != 0;
}

static ps_status compare(const trial *t, ps_error *err) {
    for (size_t i = 0; i < t->probe->n_outputs; i++) {
        const ps_tensor *out = t->out[i];
        const ps_shape *s = ps_tensor_shape(out);
        const char *name = t->probe->outputs[i].name;
        PS_FAIL_IF(s->rank < 1 || s->dims[0] != 2 || ps_tensor_bytes(out) != 2 * t->bytes[i], err, UNSUPPORTED,
                   "output '%s' of two rows is not twice that of one", name);
        for (int k = 0; k < 2; k++)
            PS_FAIL_IF(!equal(ps_tensor_dtype(out), (const char *)ps_tensor_data_const(out) + (size_t)k * t->bytes[i],
                              t->kept[k][i], t->bytes[i]),
                       err, UNSUPPORTED, "output '%s' of a row depends on the other rows of a run", name);
    }
    return PS_OK;
}

static ps_status run_trial(trial *t, ps_error *err) {
    const ps_probe *p = t->probe;
    for (int k = 0; k < 3; k++)
        t->rows[k] = ps_arena_array(&t->arena, p->n_inputs + 1, sizeof *t->rows[k]);
    for (int k = 0; k < 2; k++)
        t->kept[k] = ps_arena_array(&t->arena, p->n_outputs + 1, sizeof *t->kept[k]);
    t->out = ps_arena_array(&t->arena, p->n_outputs + 1, sizeof *t->out);
    t->bytes = ps_arena_array(&t->arena, p->n_outputs + 1, sizeof *t->bytes);
    if (!t->rows[0] || !t->rows[1] || !t->rows[2] || !t->kept[0] || !t->kept[1] || !t->out || !t->bytes)
        return PS_FAIL_NOMEM(err, "a trial of batching");
    PS_TRY(ps_session_create(p->model, NULL, &t->session, err));
    PS_TRY(run_first(t, err));
    PS_TRY(keep(t, 0, err));
    PS_TRY(run(t, 1, err));
    PS_TRY(keep(t, 1, err));
    PS_TRY(run(t, 2, err));
    return compare(t, err);
}

ps_status ps_probe_batching(const ps_probe *probe, ps_error *err) {
    trial t = { .probe = probe };
    PS_TRY(check_shapes(probe, err));
    ps_arena_init(&t.arena, ps_engine_alloc(probe->engine));
    ps_status status = run_trial(&t, err);
    ps_session_free(t.session);
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; t.rows[k] && i < probe->n_inputs; i++)
            ps_tensor_release(t.rows[k][i]);
    ps_arena_release(&t.arena);
    return status;
}
