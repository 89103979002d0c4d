/* lstm.c - LSTM with the default activations as one kernel: the input's part of all gates in one product, then a small
 * product and one fused cell update per step, state in place. Source: ONNX operator LSTM-7/14. Peepholes, sequence
 * lengths, clipping, other activations and batch-first layout stay with the reference kernel. */
#include "backend/cpu/cpu_int.h"

typedef struct lstm_kernel {
    ps_kernel base;
    const ps_simd *simd;
    int64_t steps, batch, in, hidden, directions;
    bool reverse_first;
    uint32_t n_in, n_out;
    const float *w[2], *r[2]; /* transposed: [in][4H], [H][4H] */
    const float *bias[2];     /* Wb + Rb, or NULL */
} lstm_kernel;

/* h and c of one direction live in Y_h and Y_c, or in the workspace where those outputs are omitted. */
static void run_direction(const lstm_kernel *k, const ps_kernel_args *args, int64_t dir) {
    int64_t hidden = k->hidden, gates_n = 4 * hidden, state = k->batch * hidden;
    float *gates = args->workspace, *row = gates + k->steps * k->batch * gates_n, *spare = row + gates_n;
    float *h = args->out[1] ? (float *)args->out[1] + dir * state : spare;
    float *c = args->out[2] ? (float *)args->out[2] + dir * state : spare + state;
    const float *h0 = args->in[5], *c0 = args->in[6];
    bool reverse = dir == 1 || k->reverse_first;
    if (h0)
        memcpy(h, h0 + dir * state, (size_t)state * sizeof *h);
    else
        memset(h, 0, (size_t)state * sizeof *h);
    if (c0)
        memcpy(c, c0 + dir * state, (size_t)state * sizeof *c);
    else
        memset(c, 0, (size_t)state * sizeof *c);
    k->simd->gemm_small(args->in[0], k->in, k->w[dir], gates_n, k->bias[dir], gates, gates_n, k->steps * k->batch,
                        gates_n, k->in);
    for (int64_t s = 0; s < k->steps; s++) {
        int64_t t = reverse ? k->steps - 1 - s : s;
        for (int64_t b = 0; b < k->batch; b++) {
            k->simd->gemm_small(h + b * hidden, hidden, k->r[dir], gates_n, gates + (t * k->batch + b) * gates_n, row,
                                gates_n, 1, gates_n, hidden);
            k->simd->lstm_cell(row, c + b * hidden, h + b * hidden, hidden);
        }
        if (args->out[0]) {
            memcpy((float *)args->out[0] + (t * k->directions + dir) * state, h, (size_t)state * sizeof *h);
        }
    }
}

static ps_status lstm_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const lstm_kernel *k = (const lstm_kernel *)kernel;
    void *in[8] = { NULL }, *out[3] = { NULL };
    ps_kernel_args full = *args; /* omitted trailing inputs and outputs read as NULL */
    memcpy(in, args->in, k->n_in * sizeof *in);
    memcpy(out, args->out, k->n_out * sizeof *out);
    full.in = in;
    full.out = out;
    for (int64_t dir = 0; dir < k->directions; dir++)
        run_direction(k, &full, dir);
    return PS_OK;
}

typedef struct pack_job {
    const float *src;
    int64_t rows, cols;
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

static ps_status pack_bias(void *ctx, void *dst, ps_error *err) {
    const pack_job *j = ctx;
    float *d = dst;
    for (int64_t i = 0; i < j->rows; i++)
        d[i] = j->src[i] + j->src[j->rows + i];
    return PS_OK;
}

/* The last direction takes the tensor: nobody reads it as it is after that. */
static ps_status pack_matrix(ps_lowering *l, uint32_t index, const lstm_kernel *k, int64_t dir, const char *key,
                             pack_job *job, const float **ret, ps_error *err) {
    const ps_tensor *t = l->node->in[index]->constant;
    size_t bytes = (size_t)(job->rows * job->cols) * sizeof(float);
    const void *data;
    if (dir + 1 < k->directions)
        PS_TRY(ps_weights_get(l->weights, t, key, bytes, pack_transposed, job, &data, err));
    else
        PS_TRY(ps_weights_take(l, index, key, bytes, pack_transposed, job, &data, err));
    *ret = data;
    return PS_OK;
}

static ps_status pack_direction(ps_lowering *l, lstm_kernel *k, int64_t dir, ps_error *err) {
    const ps_node *n = l->node;
    int64_t rows = 4 * k->hidden;
    char key[48];
    const void *data;
    pack_job job = { (const float *)n->in[1]->constant->data + dir * rows * k->in, rows, k->in };
    ps_snprintf(key, sizeof key, "lstm transposed %d", (int)dir);
    PS_TRY(pack_matrix(l, 1, k, dir, key, &job, &k->w[dir], err));
    job = (pack_job) { (const float *)n->in[2]->constant->data + dir * rows * k->hidden, rows, k->hidden };
    PS_TRY(pack_matrix(l, 2, k, dir, key, &job, &k->r[dir], err));
    if (!ps_has_in(n, 3)) return PS_OK;
    job = (pack_job) { (const float *)n->in[3]->constant->data + dir * 2 * rows, rows, 0 };
    ps_snprintf(key, sizeof key, "lstm bias %d", (int)dir);
    PS_TRY(ps_weights_get(l->weights, n->in[3]->constant, key, (size_t)rows * 4, pack_bias, &job, &data, err));
    k->bias[dir] = data;
    return PS_OK;
}

static bool eligible(const ps_node *n) {
    const ps_lstm_params *p = n->params;
    if (n->in[0]->dtype != PS_DTYPE_F32 || !n->in[1]->constant || !n->in[2]->constant) return false;
    if (ps_has_in(n, 3) && !n->in[3]->constant) return false;
    if (ps_has_in(n, 4) || ps_has_in(n, 7) || p->activations.n || p->clip > 0 || p->input_forget || p->layout)
        return false;
    const ps_shape *x = &n->in[0]->shape;
    return x->rank == 3 && ps_shape_product(x, 0, 3) > 0 && n->n_in <= 8 && n->n_out <= 3;
}

static void lstm_free(ps_kernel *kernel) {
    ps_free(kernel->alloc, kernel);
}

ps_status cpu_lower_lstm(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { lstm_run, lstm_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_lstm_params *p = n->params;
    lstm_kernel *k;
    if (!eligible(n)) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, "cpu.lstm", &k, err));
    k->simd = cpu_of(device)->simd;
    k->n_in = n->n_in;
    k->n_out = n->n_out;
    k->steps = n->in[0]->shape.dims[0];
    k->batch = n->in[0]->shape.dims[1];
    k->in = n->in[0]->shape.dims[2];
    k->hidden = n->in[2]->shape.dims[2];
    k->directions = n->in[1]->shape.dims[0];
    k->reverse_first = strcmp(p->direction, "reverse") == 0;
    ps_status status =
        k->directions <= 2 ? PS_OK : PS_FAIL(err, SHAPE, "LSTM '%s' has more than two directions", n->name);
    for (int64_t dir = 0; dir < k->directions && status == PS_OK; dir++)
        status = pack_direction(l, k, dir, err);
    if (status != PS_OK) {
        lstm_free(&k->base);
        return status;
    }
    int64_t floats = (k->steps * k->batch + 1) * 4 * k->hidden + 2 * k->batch * k->hidden;
    k->base.workspace = (size_t)floats * sizeof(float);
    l->kernel = &k->base;
    return PS_OK;
}
