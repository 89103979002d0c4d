/* rnn.c - RNN, GRU and LSTM as ONNX-7 to 22 define them.
 *
 * One item is one batch element in one direction: nothing else depends on anything else. Its weights are read in place,
 * its states are kept in double and rounded when they are stored. A reversed direction walks the first
 * sequence_lens[b] steps backwards; steps beyond that give zeros and leave the last states as they are. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "ops/kernel_util.h"
#include "ops/params.h"

#define RNN_ATTRS                                                                                                      \
    PS_A_STR(ps_lstm_params, direction, "forward"), PS_A_INT_REQ(ps_lstm_params, hidden_size),                         \
        PS_A_INT(ps_lstm_params, layout, 0), PS_A_FLOAT(ps_lstm_params, clip, 0),                                      \
        PS_A_STRINGS(ps_lstm_params, activations), PS_A_FLOATS(ps_lstm_params, activation_alpha),                      \
        PS_A_FLOATS(ps_lstm_params, activation_beta)
static const ps_attr_def rnn_attrs[] = { RNN_ATTRS, PS_ATTRS_END };
static const ps_attr_def lstm_attrs[] = { RNN_ATTRS, PS_A_INT(ps_lstm_params, input_forget, 0), PS_ATTRS_END };
static const ps_attr_def gru_attrs[] = { RNN_ATTRS, PS_A_INT(ps_gru_params, linear_before_reset, 0), PS_ATTRS_END };

/* ---- activations ---- */

typedef enum act_kind {
    ACT_RELU,
    ACT_TANH,
    ACT_SIGMOID,
    ACT_AFFINE,
    ACT_LEAKY_RELU,
    ACT_THRESHOLDED_RELU,
    ACT_SCALED_TANH,
    ACT_HARD_SIGMOID,
    ACT_ELU,
    ACT_SOFTSIGN,
    ACT_SOFTPLUS,
    ACT_COUNT
} act_kind;

typedef struct activation {
    act_kind kind;
    double alpha, beta;
} activation;

/* has_alpha, has_beta: whether the kind consumes an entry of activation_alpha, activation_beta. */
static const struct {
    const char *name;
    bool has_alpha, has_beta;
    double alpha, beta; /* defaults, those of the ONNX operators */
} act_table[ACT_COUNT] = {
    [ACT_RELU] = { "Relu", false, false, 0, 0 },
    [ACT_TANH] = { "Tanh", false, false, 0, 0 },
    [ACT_SIGMOID] = { "Sigmoid", false, false, 0, 0 },
    [ACT_AFFINE] = { "Affine", true, true, 1, 0 },
    [ACT_LEAKY_RELU] = { "LeakyRelu", true, false, 0.01, 0 },
    [ACT_THRESHOLDED_RELU] = { "ThresholdedRelu", true, false, 1, 0 },
    [ACT_SCALED_TANH] = { "ScaledTanh", true, true, 1, 1 },
    [ACT_HARD_SIGMOID] = { "HardSigmoid", true, true, 0.2, 0.5 },
    [ACT_ELU] = { "Elu", true, false, 1, 0 },
    [ACT_SOFTSIGN] = { "Softsign", false, false, 0, 0 },
    [ACT_SOFTPLUS] = { "Softplus", false, false, 0, 0 },
};

static double act_apply(const activation *a, double x) {
    switch (a->kind) {
    case ACT_RELU: return x > 0 ? x : 0;
    case ACT_TANH: return tanh(x);
    case ACT_SIGMOID: return 1 / (1 + exp(-x));
    case ACT_AFFINE: return a->alpha * x + a->beta;
    case ACT_LEAKY_RELU: return x < 0 ? a->alpha * x : x;
    case ACT_THRESHOLDED_RELU: return x > a->alpha ? x : 0;
    case ACT_SCALED_TANH: return a->alpha * tanh(a->beta * x);
    case ACT_HARD_SIGMOID: return fmin(fmax(a->alpha * x + a->beta, 0), 1);
    case ACT_ELU: return x < 0 ? a->alpha * (exp(x) - 1) : x;
    case ACT_SOFTSIGN: return x / (1 + fabs(x));
    case ACT_SOFTPLUS: return x > 30 ? x : log1p(exp(x));
    case ACT_COUNT: break;
    }
    return x;
}

/* Functions of all directions, `per` for each: what the attributes say, else `defaults`. Alphas and betas are handed
 * out in order to the functions that take one. */
static ps_status read_activations(const ps_node *node, const act_kind *defaults, size_t per, size_t dirs,
                                  activation *ret, ps_error *err) {
    const ps_lstm_params *p = node->params;
    size_t alpha = 0, beta = 0;
    PS_NODE_FAIL_IF(p->activations.n && p->activations.n != per * dirs, node, err, INVALID,
                    "activations has %zu entries, it must have %zu", p->activations.n, per * dirs);
    for (size_t i = 0; i < per * dirs; i++) {
        int kind = (int)defaults[i % per];
        if (p->activations.n)
            for (kind = 0; kind < ACT_COUNT && strcasecmp(act_table[kind].name, p->activations.data[i]); kind++) {
            }
        PS_NODE_FAIL_IF(kind == ACT_COUNT, node, err, UNSUPPORTED, "activation '%s' is unknown",
                        p->activations.data[i]);
        ret[i] = (activation) { (act_kind)kind, act_table[kind].alpha, act_table[kind].beta };
        if (act_table[kind].has_alpha && alpha < p->activation_alpha.n)
            ret[i].alpha = (double)p->activation_alpha.data[alpha++];
        if (act_table[kind].has_beta && beta < p->activation_beta.n)
            ret[i].beta = (double)p->activation_beta.data[beta++];
    }
    return PS_OK;
}

/* ---- the three cells ---- */

enum { IN_X, IN_W, IN_R, IN_B, IN_LENS, IN_H, IN_C, IN_P, MAX_ACTS = 6 };

typedef struct rnn_job rnn_job;
/* One time step: gates holds x W^T of all gates; reads and replaces the states h and c. */
typedef void (*step_fn)(const rnn_job *job, int64_t dir, double *gates, double *h, double *c, double *tmp);

typedef struct cell_def {
    int gates, per_dir_acts;
    act_kind acts[3];
    step_fn step;
} cell_def;

struct rnn_job {
    const cell_def *cell;
    int64_t seq, batch, input, hidden, dirs, gates;
    bool batch_first, backward_only;
    ps_operand x, w, r, b, h0, c0, p;
    const int32_t *lens;
    activation acts[MAX_ACTS];
    double clip; /* 0: none */
    bool input_forget, linear_before_reset;
    ps_tensor *y, *y_h, *y_c;
    double *scratch;
    size_t room; /* doubles a thread */
};

static double clipped(const rnn_job *job, double v) {
    if (job->clip <= 0) return v;
    return v > job->clip ? job->clip : v < -job->clip ? -job->clip : v;
}

static double act_clipped(const rnn_job *job, const activation *a, double v) {
    return act_apply(a, clipped(job, v));
}

/* Row `row` of the direction's recurrence matrix times a state given as double. */
static double recur(const rnn_job *job, int64_t dir, int64_t row, const double *h) {
    int64_t first = (dir * job->gates * job->hidden + row) * job->hidden;
    double sum = 0;
    if (job->r.f64) {
        const double *r = (const double *)job->r.data + first;
        for (int64_t i = 0; i < job->hidden; i++)
            sum += r[i] * h[i];
    } else {
        const float *r = (const float *)job->r.data + first;
        for (int64_t i = 0; i < job->hidden; i++)
            sum += (double)r[i] * h[i];
    }
    return sum;
}

/* Biases of a gate row: W's, and R's. 0 without B. */
static double bias_w(const rnn_job *job, int64_t dir, int64_t row) {
    return job->b.data ? ps_operand_at(&job->b, dir * 2 * job->gates * job->hidden + row) : 0;
}

static double bias_r(const rnn_job *job, int64_t dir, int64_t row) {
    return job->b.data ? ps_operand_at(&job->b, (dir * 2 + 1) * job->gates * job->hidden + row) : 0;
}

static double peephole(const rnn_job *job, int64_t dir, int64_t gate, int64_t i) {
    return job->p.data ? ps_operand_at(&job->p, (dir * 3 + gate) * job->hidden + i) : 0;
}

/* Ht = f(Xt W^T + Ht-1 R^T + Wb + Rb) */
static void rnn_step(const rnn_job *job, int64_t dir, double *gates, double *h, double *c, double *tmp) {
    (void)c, (void)tmp;
    const activation *f = &job->acts[dir];
    for (int64_t i = 0; i < job->hidden; i++)
        gates[i] += recur(job, dir, i, h) + bias_w(job, dir, i) + bias_r(job, dir, i);
    for (int64_t i = 0; i < job->hidden; i++)
        h[i] = act_clipped(job, f, gates[i]);
}

/* Gates z (update), r (reset), h (candidate): Ht = (1 - z) candidate + z Ht-1. */
static void gru_step(const rnn_job *job, int64_t dir, double *gates, double *h, double *c, double *tmp) {
    (void)c;
    const activation *f = &job->acts[dir * 2], *g = f + 1;
    int64_t n = job->hidden;
    double *z = gates, *r = gates + n, *candidate = gates + 2 * n;
    for (int64_t i = 0; i < 2 * n; i++)
        gates[i] = act_clipped(job, f, gates[i] + recur(job, dir, i, h) + bias_w(job, dir, i) + bias_r(job, dir, i));
    for (int64_t i = 0; i < n; i++)
        tmp[i] = r[i] * h[i];
    for (int64_t i = 0; i < n; i++) {
        int64_t row = 2 * n + i;
        double from_h = job->linear_before_reset ? r[i] * (recur(job, dir, row, h) + bias_r(job, dir, row))
                                                 : recur(job, dir, row, tmp) + bias_r(job, dir, row);
        candidate[i] = act_clipped(job, g, candidate[i] + from_h + bias_w(job, dir, row));
    }
    for (int64_t i = 0; i < n; i++)
        h[i] = (1 - z[i]) * candidate[i] + z[i] * h[i];
}

/* Gates i, o, f, c: Ct = f Ct-1 + i c, Ht = o h(Ct); peepholes look from C into i, f (old state) and o (new state). */
static void lstm_step(const rnn_job *job, int64_t dir, double *gates, double *h, double *c, double *tmp) {
    (void)tmp;
    const activation *f = &job->acts[dir * 3], *g = f + 1, *hact = f + 2;
    int64_t n = job->hidden;
    double *in = gates, *out = gates + n, *forget = gates + 2 * n, *update = gates + 3 * n;
    for (int64_t i = 0; i < 4 * n; i++)
        gates[i] += recur(job, dir, i, h) + bias_w(job, dir, i) + bias_r(job, dir, i);
    for (int64_t i = 0; i < n; i++) {
        double a = act_clipped(job, f, in[i] + peephole(job, dir, 0, i) * c[i]);
        double keep = job->input_forget ? 1 - a : act_clipped(job, f, forget[i] + peephole(job, dir, 2, i) * c[i]);
        c[i] = keep * c[i] + a * act_clipped(job, g, update[i]);
        h[i] = act_clipped(job, f, out[i] + peephole(job, dir, 1, i) * c[i]) * act_apply(hact, c[i]);
    }
}

static const cell_def rnn_cell = { 1, 1, { ACT_TANH }, rnn_step };
static const cell_def gru_cell = { 3, 2, { ACT_SIGMOID, ACT_TANH }, gru_step };
static const cell_def lstm_cell = { 4, 3, { ACT_SIGMOID, ACT_TANH, ACT_TANH }, lstm_step };

/* ---- shape rules ---- */

static ps_status directions(const ps_node *node, int64_t *ret, ps_error *err) {
    const char *d = ((const ps_lstm_params *)node->params)->direction;
    *ret = strcmp(d, "bidirectional") == 0 ? 2 : 1;
    PS_NODE_FAIL_IF(*ret == 1 && strcmp(d, "forward") != 0 && strcmp(d, "reverse") != 0, node, err, INVALID,
                    "direction is '%s', it must be forward, reverse or bidirectional", d);
    return PS_OK;
}

static ps_status check_input(const ps_node *node, size_t i, int rank, const int64_t *dims, ps_error *err) {
    PS_TRY(ps_check_rank(node, i, rank, err));
    for (int d = 0; d < rank; d++)
        PS_TRY(ps_check_dim(node, i, d, dims[d], "the extent that goes with the others", err));
    return PS_OK;
}

static ps_status infer(const ps_node *node, const cell_def *cell, ps_error *err) {
    const ps_lstm_params *p = node->params;
    int64_t dirs, hidden = p->hidden_size, gates = cell->gates, seq = PS_DIM_UNKNOWN, batch = PS_DIM_UNKNOWN;
    activation acts[MAX_ACTS];
    PS_TRY(directions(node, &dirs, err));
    PS_TRY(read_activations(node, cell->acts, (size_t)cell->per_dir_acts, (size_t)dirs, acts, err));
    PS_NODE_FAIL_IF(hidden < 1 || hidden > 1 << 24, node, err, LIMIT, "hidden_size is %lld, it must be 1 to 2^24",
                    (long long)hidden);
    PS_NODE_FAIL_IF(p->layout != 0 && p->layout != 1, node, err, INVALID, "layout is %lld, it must be 0 or 1",
                    (long long)p->layout);
    for (size_t i = 0; i < node->n_in; i++)
        if (i != IN_LENS) {
            PS_TRY(ps_check_float(node, i, err));
            PS_TRY(ps_check_same_type(node, i, 0, err));
        }
    int64_t input = PS_DIM_UNKNOWN;
    PS_TRY(ps_check_rank(node, IN_X, 3, err));
    if (ps_in_known(node, IN_X)) {
        const int64_t *d = node->in[IN_X]->shape.dims;
        seq = d[p->layout ? 1 : 0];
        batch = d[p->layout ? 0 : 1];
        input = d[2];
    }
    PS_TRY(check_input(node, IN_W, 3, (int64_t[]) { dirs, gates * hidden, input }, err));
    PS_TRY(check_input(node, IN_R, 3, (int64_t[]) { dirs, gates * hidden, hidden }, err));
    PS_TRY(check_input(node, IN_B, 2, (int64_t[]) { dirs, 2 * gates * hidden }, err));
    PS_TRY(check_input(node, IN_LENS, 1, &batch, err));
    PS_NODE_FAIL_IF(ps_has_in(node, IN_LENS) && node->in[IN_LENS]->dtype != PS_DTYPE_UNDEFINED &&
                        node->in[IN_LENS]->dtype != PS_DTYPE_I32,
                    node, err, TYPE, "sequence_lens is %s, it must be i32", ps_dtype_name(node->in[IN_LENS]->dtype));
    const int64_t state[3] = { p->layout ? batch : dirs, p->layout ? dirs : batch, hidden };
    PS_TRY(check_input(node, IN_H, 3, state, err));
    PS_TRY(check_input(node, IN_C, 3, state, err));
    PS_TRY(check_input(node, IN_P, 2, (int64_t[]) { dirs, 3 * hidden }, err));

    ps_shape y = ps_shape_make(4, p->layout ? (int64_t[]) { batch, seq, dirs, hidden }
                                            : (int64_t[]) { seq, dirs, batch, hidden });
    ps_shape last = ps_shape_make(3, state);
    ps_infer_set(node, 0, node->in[0]->dtype, &y);
    ps_infer_set(node, 1, node->in[0]->dtype, &last);
    ps_infer_set(node, 2, node->in[0]->dtype, &last);
    return PS_OK;
}

static ps_status rnn_infer(const ps_node *node, ps_error *err) {
    return infer(node, &rnn_cell, err);
}

static ps_status gru_infer(const ps_node *node, ps_error *err) {
    return infer(node, &gru_cell, err);
}

static ps_status lstm_infer(const ps_node *node, ps_error *err) {
    return infer(node, &lstm_cell, err);
}

/* ---- kernel ---- */

/* First element of a state tensor's row: [dirs, batch, hidden], or [batch, dirs, hidden] in layout 1. */
static int64_t state_row(const rnn_job *job, int64_t dir, int64_t b) {
    return (job->batch_first ? b * job->dirs + dir : dir * job->batch + b) * job->hidden;
}

static void load_state(const rnn_job *job, const ps_operand *from, int64_t dir, int64_t b, double *state) {
    int64_t first = state_row(job, dir, b);
    for (int64_t i = 0; i < job->hidden; i++)
        state[i] = from->data ? ps_operand_at(from, first + i) : 0;
}

static void store_row(const rnn_job *job, ps_tensor *t, int64_t first, const double *row) {
    if (t) ps_row_store(t->data, t->dtype, first, 1, row, job->hidden);
}

static void run_sequence(const rnn_job *job, int64_t dir, int64_t b, double *scratch) {
    int64_t hidden = job->hidden, rows = job->gates * hidden, len = job->lens ? job->lens[b] : job->seq;
    double *h = scratch, *c = h + hidden, *tmp = c + hidden, *gates = tmp + hidden;
    bool backward = job->backward_only || dir == 1;
    load_state(job, &job->h0, dir, b, h);
    load_state(job, &job->c0, dir, b, c);
    for (int64_t step = 0; step < job->seq; step++) {
        int64_t t = backward && step < len ? len - 1 - step : step;
        int64_t x = (job->batch_first ? b * job->seq + t : t * job->batch + b) * job->input;
        int64_t y = job->batch_first ? ((b * job->seq + t) * job->dirs + dir) * hidden
                                     : ((t * job->dirs + dir) * job->batch + b) * hidden;
        if (step >= len) {
            memset(tmp, 0, (size_t)hidden * sizeof *tmp);
            store_row(job, job->y, y, tmp);
            continue;
        }
        for (int64_t i = 0; i < rows; i++)
            gates[i] = ps_operand_dot(&job->w, (dir * rows + i) * job->input, 1, &job->x, x, 1, job->input);
        job->cell->step(job, dir, gates, h, c, tmp);
        store_row(job, job->y, y, h);
    }
    store_row(job, job->y_h, state_row(job, dir, b), h);
    store_row(job, job->y_c, state_row(job, dir, b), c);
}

static void run_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const rnn_job *job = ctx;
    for (int64_t item = begin; item < end; item++)
        run_sequence(job, item / job->batch, item % job->batch, job->scratch + (size_t)thread * job->room);
}

static const ps_tensor *input_or_null(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_in ? ctx->in[i] : NULL;
}

static ps_tensor *output_or_null(const ps_kernel_ctx *ctx, size_t i) {
    return i < ctx->n_out ? ctx->out[i] : NULL;
}

static ps_status job_init(rnn_job *job, const ps_kernel_ctx *ctx, const cell_def *cell, ps_error *err) {
    const ps_lstm_params *p = ctx->params;
    const int64_t *x = ctx->in[IN_X]->shape.dims;
    *job = (rnn_job) { .cell = cell, .input = x[2], .hidden = p->hidden_size, .gates = cell->gates };
    job->batch_first = p->layout == 1;
    job->seq = x[job->batch_first ? 1 : 0];
    job->batch = x[job->batch_first ? 0 : 1];
    job->backward_only = strcmp(p->direction, "reverse") == 0;
    job->clip = (double)p->clip;
    job->y = output_or_null(ctx, 0);
    job->y_h = output_or_null(ctx, 1);
    job->y_c = output_or_null(ctx, 2);
    job->room = (size_t)job->hidden * (size_t)(3 + cell->gates);
    PS_TRY(directions(ctx->node, &job->dirs, err));
    PS_TRY(read_activations(ctx->node, cell->acts, (size_t)cell->per_dir_acts, (size_t)job->dirs, job->acts, err));
    const ps_tensor *lens = input_or_null(ctx, IN_LENS);
    job->lens = lens ? lens->data : NULL;
    for (int64_t b = 0; job->lens && b < job->batch; b++)
        PS_NODE_FAIL_IF(job->lens[b] < 0 || job->lens[b] > job->seq, ctx->node, err, INVALID,
                        "sequence_lens[%lld] is %d, it must be 0 to %lld", (long long)b, (int)job->lens[b],
                        (long long)job->seq);
    return PS_OK;
}

static ps_status run(const ps_kernel_ctx *ctx, rnn_job *job, ps_error *err) {
    const struct {
        size_t input;
        ps_operand *operand;
    } operands[] = { { IN_X, &job->x },  { IN_W, &job->w },  { IN_R, &job->r }, { IN_B, &job->b },
                     { IN_H, &job->h0 }, { IN_C, &job->c0 }, { IN_P, &job->p } };
    enum { N_OPERANDS = sizeof operands / sizeof operands[0] };
    ps_status status = PS_OK;
    for (size_t i = 0; i < N_OPERANDS; i++)
        PS_TRY_OUT(ps_operand_init(operands[i].operand, input_or_null(ctx, operands[i].input), ctx->alloc, err));
    status = ps_parallel_scratch(ctx, job->dirs * job->batch, 1, job->room, &job->scratch, run_items, job, err);
out:
    for (size_t i = 0; i < N_OPERANDS; i++)
        ps_operand_release(operands[i].operand);
    return status;
}

static ps_status rnn_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    rnn_job job;
    PS_TRY(job_init(&job, ctx, &rnn_cell, err));
    return run(ctx, &job, err);
}

static ps_status gru_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    rnn_job job;
    PS_TRY(job_init(&job, ctx, &gru_cell, err));
    job.linear_before_reset = ((const ps_gru_params *)ctx->params)->linear_before_reset != 0;
    return run(ctx, &job, err);
}

static ps_status lstm_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    rnn_job job;
    PS_TRY(job_init(&job, ctx, &lstm_cell, err));
    job.input_forget = ((const ps_lstm_params *)ctx->params)->input_forget != 0;
    return run(ctx, &job, err);
}

static const ps_op ops[] = {
    { "RNN", "", 7, 3, 6, 0, 2, rnn_attrs, sizeof(ps_lstm_params), rnn_infer, rnn_ref, 0 },
    { "GRU", "", 7, 3, 6, 0, 2, gru_attrs, sizeof(ps_gru_params), gru_infer, gru_ref, 0 },
    { "LSTM", "", 7, 3, 8, 0, 3, lstm_attrs, sizeof(ps_lstm_params), lstm_infer, lstm_ref, 0 },
};
const ps_op_family ps_ops_rnn = PS_OP_FAMILY("rnn", ops);
