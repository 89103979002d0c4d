/* Recurrent layers, one ONNX node a layer. Both sides stack the gates of all units; the orders differ:
 * LSTM i f g o → i o f g, GRU r z n → z r n. */
#include <string.h>

#include "torch/aten.h"

typedef struct kind {
    const char *onnx, *activation;
    size_t gates, order[4];
} kind;

static kind kind_of(const ps_tb *b) {
    if (b->op->name[0] == 'l') return (kind) { "LSTM", NULL, 4, { 0, 3, 1, 2 } };
    if (b->op->name[0] == 'g') return (kind) { "GRU", NULL, 3, { 1, 0, 2 } };
    return (kind) { "RNN", strstr(b->op->name, "relu") ? "Relu" : "Tanh", 1, { 0 } };
}

typedef struct rnn {
    kind k;
    int64_t hidden, layers, directions;
    bool biases, batch_first, single;
    ps_value **params, *h, *c; /* initial states [layers * directions, N, hidden] */
    size_t n_params;
} rnn;

/* The gates of a weight [gates * hidden, …] or bias in ONNX's order, with a dim for the direction in front. */
static ps_value *reorder(ps_tb *b, const rnn *r, ps_value *w) {
    ps_value *parts[4];
    if (r->k.gates == 1) return ps_tb_unsqueeze(b, w, 0);
    for (size_t i = 0; i < r->k.gates; i++) {
        int64_t from = (int64_t)r->k.order[i] * r->hidden;
        parts[i] = ps_tb_slice(b, w, 0, from, from + r->hidden);
    }
    return ps_tb_unsqueeze(b, ps_tb_concat(b, parts, r->k.gates, 0), 0);
}

/* Parameters of one direction: w_ih, w_hh, then b_ih, b_hh. */
static void gather_weights(ps_tb *b, const rnn *r, size_t layer, ps_value **ret) {
    ps_value *w[2], *u[2], *bias[2];
    size_t each = r->biases ? 4 : 2, n = (size_t)r->directions;
    for (size_t d = 0; d < n; d++) {
        ps_value **p = r->params + (layer * n + d) * each;
        w[d] = reorder(b, r, p[0]);
        u[d] = reorder(b, r, p[1]);
        if (!r->biases) continue;
        ps_value *both[2] = { reorder(b, r, p[2]), reorder(b, r, p[3]) };
        bias[d] = ps_tb_concat(b, both, 2, 1);
    }
    ret[0] = n == 1 ? w[0] : ps_tb_concat(b, w, n, 0);
    ret[1] = n == 1 ? u[0] : ps_tb_concat(b, u, n, 0);
    ret[2] = !r->biases ? NULL : n == 1 ? bias[0] : ps_tb_concat(b, bias, n, 0);
}

/* x [T, N, *] → [T, N, directions * hidden]; final states [directions, N, hidden]. */
static ps_value *layer(ps_tb *b, const rnn *r, ps_value *x, size_t index, ps_value **ret_h, ps_value **ret_c) {
    ps_value *in[7] = { x }, *y[3];
    int64_t from = (int64_t)index * r->directions, merged[3] = { 0, 0, -1 };
    static const int64_t perm[] = { 0, 2, 1, 3 };
    gather_weights(b, r, index, in + 1);
    in[5] = ps_tb_slice(b, r->h, 0, from, from + r->directions);
    if (r->c) in[6] = ps_tb_slice(b, r->c, 0, from, from + r->directions);
    ps_tb_emit_n(b, r->k.onnx, in, r->c ? 7 : 6, y, r->c ? 3 : 2);
    ps_tb_set_int(b, "hidden_size", r->hidden);
    ps_tb_set_text(b, "direction", r->directions == 2 ? "bidirectional" : "forward");
    if (strcmp(r->k.onnx, "GRU") == 0) ps_tb_set_int(b, "linear_before_reset", 1);
    if (r->k.activation && b->status == PS_OK) {
        const char *names[2] = { r->k.activation, r->k.activation };
        ps_attr attr = { .name = "activations", .type = PS_ATTR_STRINGS, .n = (size_t)r->directions };
        attr.u.strings = ps_arena_memdup(&b->g->root->arena, names, sizeof names);
        if (!attr.u.strings)
            ps_tb_no_memory(b);
        else
            b->status = ps_node_set_attr(b->last, &attr, b->err);
    }
    *ret_h = y[1];
    *ret_c = r->c ? y[2] : NULL;
    if (r->directions == 1) return ps_tb_squeeze(b, y[0], 1);
    return ps_tb_reshape_to(b, ps_tb_transpose(b, y[0], perm, 4), merged, 3);
}

static void check(ps_tb *b, rnn *r) {
    size_t each = r->biases ? 4 : 2, want;
    if (ps_tb_bool(b, "train", false))
        PS_TB_FAIL(b, UNSUPPORTED, "%s: is in training mode: call model.eval() before torch.export", b->label);
    if (r->layers < 1 || r->layers > 1024 ||
        ps_mul_overflow_size((size_t)r->layers * (size_t)r->directions, each, &want) || want != r->n_params)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: %zu weights do not make %lld layers (projections are not supported)", b->label,
                   r->n_params, (long long)r->layers);
    if (b->status != PS_OK) return;
    r->hidden = ps_tb_dim(b, r->params[1], 1);
    if (r->hidden < 1 || r->hidden > (1 << 24) || ps_tb_dim(b, r->params[1], 0) != (int64_t)r->k.gates * r->hidden)
        PS_TB_FAIL(b, FORMAT, "%s: its recurrent weight has the wrong shape", b->label);
    for (size_t i = 0; i < r->n_params; i++) {
        if (!r->params[i] || ps_tb_rank(b, r->params[i]) != (i % each < 2 ? 2 : 1))
            PS_TB_FAIL(b, FORMAT, "%s: weight %zu has the wrong rank", b->label, i);
    }
}

/* Runs all layers; h and c of all of them are joined. */
static void run(ps_tb *b, rnn *r, ps_value *x) {
    size_t n = (size_t)r->layers;
    ps_value **h = b->status == PS_OK ? ps_arena_array(&b->arena, 2 * n, sizeof *h) : NULL;
    if (!h) {
        ps_tb_no_memory(b);
        return;
    }
    for (size_t i = 0; i < n && b->status == PS_OK; i++)
        x = layer(b, r, x, i, &h[i], &h[n + i]);
    if (b->status != PS_OK) return;
    ps_value *last = n == 1 ? h[0] : ps_tb_concat(b, h, n, 0);
    ps_value *cell = !r->c ? NULL : n == 1 ? h[n] : ps_tb_concat(b, h + n, n, 0);
    if (r->single) {
        x = ps_tb_squeeze(b, x, 1);
        last = ps_tb_squeeze(b, last, 1);
        if (cell) cell = ps_tb_squeeze(b, cell, 1);
    } else if (r->batch_first) {
        x = ps_tb_swap(b, x, 0, 1);
    }
    ps_tb_out(b, 0, x);
    ps_tb_out(b, 1, last);
    if (cell) ps_tb_out(b, 2, cell);
}

static void map_rnn(ps_tb *b) {
    rnn r = { .k = kind_of(b),
              .biases = ps_tb_bool(b, "has_biases", true),
              .layers = ps_tb_int(b, "num_layers", 1),
              .directions = ps_tb_bool(b, "bidirectional", false) ? 2 : 1,
              .batch_first = ps_tb_bool(b, "batch_first", false) };
    ps_value *x = ps_tb_tensor(b, "input");
    if (strcmp(b->overload, "input") != 0)
        PS_TB_FAIL(b, UNSUPPORTED, "%s: packed sequences are not supported", b->label);
    r.params = ps_tb_tensors(b, "params", &r.n_params);
    if (strcmp(r.k.onnx, "LSTM") == 0) {
        size_t states;
        ps_value **hx = ps_tb_tensors(b, "hx", &states);
        if (states != 2 || !hx[0] || !hx[1]) PS_TB_FAIL(b, FORMAT, "%s: has no two initial states", b->label);
        if (b->status != PS_OK) return;
        r.h = hx[0];
        r.c = hx[1];
    } else {
        r.h = ps_tb_tensor(b, "hx");
    }
    check(b, &r);
    r.single = ps_tb_rank(b, x) == 2;
    if (r.single) {
        x = ps_tb_unsqueeze(b, x, 1);
        r.h = ps_tb_unsqueeze(b, r.h, 1);
        if (r.c) r.c = ps_tb_unsqueeze(b, r.c, 1);
    } else if (r.batch_first) {
        x = ps_tb_swap(b, x, 0, 1);
    }
    run(b, &r, x);
}

/* One step of one layer: x [N, *], states [N, hidden]. */
static void map_cell(ps_tb *b) {
    static const char *const names[] = { "w_ih", "w_hh", "b_ih", "b_hh" };
    ps_value *params[4], *h, *c = NULL, *x = ps_tb_tensor(b, "input");
    rnn r = { .k = kind_of(b), .biases = ps_tb_has(b, "b_ih"), .layers = 1, .directions = 1, .params = params };
    r.n_params = r.biases ? 4 : 2;
    for (size_t i = 0; i < r.n_params; i++)
        params[i] = ps_tb_tensor(b, names[i]);
    if (strcmp(r.k.onnx, "LSTM") == 0) {
        size_t states;
        ps_value **hx = ps_tb_tensors(b, "hx", &states);
        if (states != 2 || !hx[0] || !hx[1]) PS_TB_FAIL(b, FORMAT, "%s: has no two states", b->label);
        if (b->status != PS_OK) return;
        r.h = ps_tb_unsqueeze(b, hx[0], 0);
        r.c = ps_tb_unsqueeze(b, hx[1], 0);
    } else {
        r.h = ps_tb_unsqueeze(b, ps_tb_tensor(b, "hx"), 0);
    }
    check(b, &r);
    if (b->status != PS_OK) return;
    layer(b, &r, ps_tb_unsqueeze(b, x, 0), 0, &h, &c);
    ps_tb_out(b, 0, ps_tb_squeeze(b, h, 0));
    if (c) ps_tb_out(b, 1, ps_tb_squeeze(b, c, 0));
}

static const ps_torch_op ops[] = {
    { "lstm", map_rnn, NULL, 0 },           { "gru", map_rnn, NULL, 0 },
    { "rnn_tanh", map_rnn, NULL, 0 },       { "rnn_relu", map_rnn, NULL, 0 },
    { "lstm_cell", map_cell, NULL, 0 },     { "gru_cell", map_cell, NULL, 0 },
    { "rnn_tanh_cell", map_cell, NULL, 0 }, { "rnn_relu_cell", map_cell, NULL, 0 },
};

const ps_torch_family ps_torch_rnn = PS_TORCH_FAMILY("rnn", ops);
