/* rnn.c - LSTM, GRU and RNN with the usual activations as one kernel: the input's part of all gates in one product,
 * then a small product and one fused cell update per step, state in place. Source: ONNX operators RNN, GRU, LSTM 7
 * to 22. Peepholes, sequence lengths, clipping, other activations and batch-first layout stay with the reference
 * kernel. */
#include <strings.h>

#include "backend/cpu/cpu_int.h"

typedef struct rnn_kernel rnn_kernel;
/* One step of a direction: x holds the input's part of the gates, [batch][gates H]; h and c, [batch][H], are replaced.
 */
typedef void (*step_fn)(const rnn_kernel *k, int64_t dir, const float *x, float *h, float *c, float *scratch);

typedef struct cell_kind {
    const char *op, *label;
    int64_t gates;
    size_t n_acts;
    const char *acts[3]; /* of one direction */
    step_fn step;
} cell_kind;

struct rnn_kernel {
    ps_kernel base;
    const ps_simd *simd;
    const cell_kind *cell;
    int64_t steps, batch, in, hidden, directions;
    bool reverse_first, linear_before_reset;
    ps_post_kind f; /* of an RNN */
    uint32_t n_in, n_out;
    const float *w[2], *r[2]; /* transposed: [in][gates H], [H][gates H] */
    const float *bias[2];     /* goes with the product with x, [gates H], or NULL */
    const float *bias_r[2];   /* of a GRU: goes with the product with h, [3 H], or NULL */
};

/* ---- the cells ---- */

static void lstm_step(const rnn_kernel *k, int64_t dir, const float *x, float *h, float *c, float *scratch) {
    int64_t n = k->hidden;
    for (int64_t b = 0; b < k->batch; b++) {
        k->simd->gemm_small(h + b * n, n, k->r[dir], 4 * n, x + b * 4 * n, scratch, 4 * n, 1, 4 * n, n);
        k->simd->lstm_cell(scratch, c + b * n, h + b * n, n);
    }
}

static void rnn_step(const rnn_kernel *k, int64_t dir, const float *x, float *h, float *c, float *scratch) {
    int64_t n = k->hidden;
    for (int64_t b = 0; b < k->batch; b++) {
        k->simd->gemm_small(h + b * n, n, k->r[dir], n, x + b * n, scratch, n, 1, n, n);
        k->simd->unary(k->f, scratch, h + b * n, n, 0, 0);
    }
}

/* z and r: sigmoid(x + h R); candidate: tanh(x + r (h R)), or tanh(x + (r h) R) where the reset comes first. */
static void gru_step(const rnn_kernel *k, int64_t dir, const float *x, float *h, float *c, float *scratch) {
    int64_t n = k->hidden;
    const ps_simd *v = k->simd;
    float *z = scratch, *r = z + n, *candidate = r + n, *reset = candidate + n;
    const float *w = k->r[dir], *init = k->bias_r[dir];
    for (int64_t b = 0; b < k->batch; b++, x += 3 * n, h += n) {
        v->gemm_small(h, n, w, 3 * n, init, z, 3 * n, 1, k->linear_before_reset ? 3 * n : 2 * n, n);
        v->add_to(z, x, 2 * n);
        v->unary(PS_POST_SIGMOID, z, z, 2 * n, 0, 0);
        if (k->linear_before_reset) {
            v->binary(PS_POST_MUL, candidate, r, candidate, n);
        } else {
            v->binary(PS_POST_MUL, h, r, reset, n);
            v->gemm_small(reset, n, w + 2 * n, 3 * n, init ? init + 2 * n : NULL, candidate, n, 1, n, n);
        }
        v->add_to(candidate, x + 2 * n, n);
        v->unary(PS_POST_TANH, candidate, candidate, n, 0, 0);
        for (int64_t i = 0; i < n; i++)
            h[i] = candidate[i] + z[i] * (h[i] - candidate[i]);
    }
}

static const cell_kind cells[] = {
    { "LSTM", "cpu.lstm", 4, 3, { "Sigmoid", "Tanh", "Tanh" }, lstm_step },
    { "GRU", "cpu.gru", 3, 2, { "Sigmoid", "Tanh" }, gru_step },
    { "RNN", "cpu.rnn", 1, 1, { "Tanh" }, rnn_step },
};

/* ---- running ---- */

static void load_state(float *state, const float *from, int64_t n) {
    if (from)
        memcpy(state, from, (size_t)n * sizeof *state);
    else
        memset(state, 0, (size_t)n * sizeof *state);
}

/* h and c of one direction live in Y_h and Y_c, or in the workspace where those outputs are omitted. */
static void run_direction(const rnn_kernel *k, void *const *in, void *const *out, float *workspace, int64_t dir) {
    int64_t gates_n = k->cell->gates * k->hidden, state = k->batch * k->hidden;
    float *gates = workspace, *scratch = gates + k->steps * k->batch * gates_n, *spare = scratch + gates_n + k->hidden;
    float *h = out[1] ? (float *)out[1] + dir * state : spare;
    float *c = out[2] ? (float *)out[2] + dir * state : spare + state;
    const float *h0 = in[5], *c0 = in[6];
    bool reverse = dir == 1 || k->reverse_first;
    load_state(h, h0 ? h0 + dir * state : NULL, state);
    load_state(c, c0 ? c0 + dir * state : NULL, state);
    k->simd->gemm_small(in[0], k->in, k->w[dir], gates_n, k->bias[dir], gates, gates_n, k->steps * k->batch, gates_n,
                        k->in);
    for (int64_t s = 0; s < k->steps; s++) {
        int64_t t = reverse ? k->steps - 1 - s : s;
        k->cell->step(k, dir, gates + t * k->batch * gates_n, h, c, scratch);
        if (out[0]) memcpy((float *)out[0] + (t * k->directions + dir) * state, h, (size_t)state * sizeof *h);
    }
}

static ps_status rnn_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const rnn_kernel *k = (const rnn_kernel *)kernel;
    void *in[8] = { NULL }, *out[3] = { NULL }; /* omitted trailing inputs and outputs read as NULL */
    memcpy(in, args->in, k->n_in * sizeof *in);
    memcpy(out, args->out, k->n_out * sizeof *out);
    for (int64_t dir = 0; dir < k->directions; dir++)
        run_direction(k, in, out, args->workspace, dir);
    return PS_OK;
}

/* ---- packing ---- */

typedef struct pack_job {
    const float *src;
    int64_t rows, cols;
    int64_t shared; /* rows whose two biases are added up */
} pack_job;

static ps_status pack_transposed(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    float *d = dst;
    for (int64_t r = 0; r < j->rows; r++) {
        for (int64_t c = 0; c < j->cols; c++)
            d[c * j->rows + r] = j->src[r * j->cols + c];
    }
    return PS_OK;
}

/* Wb + Rb, where both belong to one sum; else Wb alone. */
static ps_status pack_bias(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    float *d = dst;
    for (int64_t i = 0; i < j->rows; i++)
        d[i] = j->src[i] + (i < j->shared ? j->src[j->rows + i] : 0);
    return PS_OK;
}

/* The Rb that pack_bias left out. */
static ps_status pack_bias_r(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    float *d = dst;
    for (int64_t i = 0; i < j->rows; i++)
        d[i] = i < j->shared ? 0 : j->src[j->rows + i];
    return PS_OK;
}

/* `last`: nobody reads the tensor as it is after this, so the store may take it. */
static ps_status packed(ps_lowering *l, uint32_t input, const char *what, int64_t dir, bool last, int64_t n,
                        ps_pack_fn pack, pack_job *job, const float **ret, ps_error *err) {
    char key[48];
    const void *data;
    size_t bytes = (size_t)n * sizeof(float);
    ps_snprintf(key, sizeof key, "%s %d", what, (int)dir);
    if (last)
        PS_TRY(ps_weights_take(l, input, key, bytes, pack, job, &data, err));
    else
        PS_TRY(ps_weights_get(l->weights, l->node->in[input]->constant, key, bytes, pack, job, &data, err));
    *ret = data;
    return PS_OK;
}

static ps_status pack_direction(ps_lowering *l, rnn_kernel *k, int64_t dir, ps_error *err) {
    const ps_node *n = l->node;
    int64_t rows = k->cell->gates * k->hidden;
    bool gru = k->cell->gates == 3, last = dir + 1 == k->directions;
    pack_job w = { (const float *)n->in[1]->constant->data + dir * rows * k->in, rows, k->in, 0 };
    pack_job r = { (const float *)n->in[2]->constant->data + dir * rows * k->hidden, rows, k->hidden, 0 };
    PS_TRY(packed(l, 1, "rnn transposed", dir, last, rows * k->in, pack_transposed, &w, &k->w[dir], err));
    PS_TRY(packed(l, 2, "rnn transposed", dir, last, rows * k->hidden, pack_transposed, &r, &k->r[dir], err));
    if (!ps_has_in(n, 3)) return PS_OK;
    pack_job b = { (const float *)n->in[3]->constant->data + dir * 2 * rows, rows, 0, gru ? 2 * k->hidden : rows };
    PS_TRY(packed(l, 3, gru ? "gru bias" : "rnn bias", dir, false, rows, pack_bias, &b, &k->bias[dir], err));
    return gru ? packed(l, 3, "gru recurrent bias", dir, false, rows, pack_bias_r, &b, &k->bias_r[dir], err) : PS_OK;
}

/* ---- lowering ---- */

/* Exporters write the default activations out. An RNN may have Relu in all of its directions. */
static bool known_activations(const ps_strings *acts, const cell_kind *cell, ps_post_kind *ret_f) {
    *ret_f = PS_POST_TANH;
    bool relu = cell->n_acts == 1 && acts->n && strcasecmp(acts->data[0], "Relu") == 0;
    if (relu) *ret_f = PS_POST_RELU;
    for (size_t i = 0; i < acts->n; i++) {
        if (strcasecmp(acts->data[i], relu ? "Relu" : cell->acts[i % cell->n_acts]) != 0) return false;
    }
    return true;
}

static bool eligible(const ps_node *n) {
    const ps_lstm_params *p = n->params;
    if (n->in[0]->dtype != PS_DTYPE_F32 || !n->in[1]->constant || !n->in[2]->constant) return false;
    if (ps_has_in(n, 3) && !n->in[3]->constant) return false;
    if (ps_has_in(n, 4) || ps_has_in(n, 7) || p->clip > 0 || p->input_forget || p->layout) return false;
    const ps_shape *x = &n->in[0]->shape;
    return x->rank == 3 && ps_shape_product(x, 0, 3) > 0 && n->n_in <= 8 && n->n_out <= 3;
}

static ps_status lower(ps_device *device, ps_lowering *l, const cell_kind *cell, ps_error *err) {
    static const ps_kernel_ops ops = { rnn_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_lstm_params *p = n->params;
    ps_post_kind f;
    rnn_kernel *k;
    if (!eligible(n) || !known_activations(&p->activations, cell, &f)) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, cell->label, &k, err));
    k->simd = cpu_of(device)->simd;
    k->cell = cell;
    k->f = f;
    k->n_in = n->n_in;
    k->n_out = n->n_out;
    k->steps = n->in[0]->shape.dims[0];
    k->batch = n->in[0]->shape.dims[1];
    k->in = n->in[0]->shape.dims[2];
    k->hidden = n->in[2]->shape.dims[2];
    k->directions = n->in[1]->shape.dims[0];
    k->reverse_first = strcmp(p->direction, "reverse") == 0;
    k->linear_before_reset = cell->gates == 3 && ((const ps_gru_params *)n->params)->linear_before_reset != 0;
    ps_status status =
        k->directions <= 2 ? PS_OK : PS_FAIL(err, SHAPE, "%s '%s' has more than two directions", cell->op, n->name);
    for (int64_t dir = 0; dir < k->directions && status == PS_OK; dir++)
        status = pack_direction(l, k, dir, err);
    if (status != PS_OK) {
        cpu_kernel_free(&k->base);
        return status;
    }
    int64_t floats = (k->steps * k->batch + 1) * cell->gates * k->hidden + (1 + 2 * k->batch) * k->hidden;
    k->base.workspace = (size_t)floats * sizeof(float);
    l->kernel = &k->base;
    return PS_OK;
}

ps_status cpu_lower_lstm(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, &cells[0], err);
}

ps_status cpu_lower_gru(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, &cells[1], err);
}

ps_status cpu_lower_rnn(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, &cells[2], err);
}
