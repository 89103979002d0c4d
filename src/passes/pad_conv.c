/* pad_conv.c - a constant Pad in front of a window operator becomes its pads.
 *
 * Conv: zeros. AveragePool: zeros, and only where they are counted anyway (count_include_pad and no ceil_mode).
 * MaxPool: minus infinity. Batch and channel dims must not be padded. */
#include <math.h>

#include "passes/rewrite.h"

/* Pads of all dims of a Pad node as begin[rank], end[rank]; false if unknown, negative or not constant mode. */
static bool pad_amounts(const ps_node *n, int rank, int64_t ret[2 * PS_MAX_RANK]) {
    int64_t v[2 * PS_MAX_RANK], axes[PS_MAX_RANK];
    size_t count = 0, n_axes = (size_t)rank;
    const ps_attr *mode = ps_node_attr(n, "mode"), *pads = ps_node_attr(n, "pads");
    if (mode && (mode->type != PS_ATTR_STRING || strcmp(mode->u.s, "constant") != 0)) return false;
    if (pads && pads->type == PS_ATTR_INTS && pads->n <= 2 * PS_MAX_RANK) {
        memcpy(v, pads->u.ints, pads->n * sizeof *v);
        count = pads->n;
    } else if (!ps_const_ints(n, 1, v, 2 * PS_MAX_RANK, &count)) {
        return false;
    }
    for (int d = 0; d < rank; d++)
        axes[d] = d;
    if (ps_has_in(n, 3) && !ps_const_ints(n, 3, axes, PS_MAX_RANK, &n_axes)) return false;
    if (count != 2 * n_axes) return false;
    memset(ret, 0, 2 * PS_MAX_RANK * sizeof *ret);
    for (size_t i = 0; i < n_axes; i++) {
        int d;
        if (!ps_axis_normalize(axes[i], rank, &d) || v[i] < 0 || v[n_axes + i] < 0) return false;
        ret[d] = v[i];
        ret[rank + d] = v[n_axes + i];
    }
    return true;
}

static bool pad_value(const ps_node *n, double *ret) {
    const ps_attr *a = ps_node_attr(n, "value");
    *ret = a && a->type == PS_ATTR_FLOAT ? (double)a->u.f : 0.0;
    return !ps_has_in(n, 2) || ps_const_double(n, 2, ret);
}

/* May padding with `value` become the node's own? */
static bool takes(const ps_node *n, double value) {
    if (ps_is(n, "Conv")) return value == 0;
    if (ps_is(n, "MaxPool")) {
        return value < 0 && isinf(value) && !ps_attr_int(n, "ceil_mode", 0) && n->n_out == 1;
    }
    return ps_is(n, "AveragePool") && value == 0 && ps_attr_int(n, "count_include_pad", 0) &&
           !ps_attr_int(n, "ceil_mode", 0);
}

static bool explicit_pads(const ps_node *n) {
    const ps_attr *a = ps_node_attr(n, "auto_pad");
    return !a || (a->type == PS_ATTR_STRING && (strcmp(a->u.s, "NOTSET") == 0 || strcmp(a->u.s, "VALID") == 0));
}

static ps_status rewrite(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "Conv") && !ps_is(n, "MaxPool") && !ps_is(n, "AveragePool")) return PS_OK;
    ps_node *pad = ps_sole_producer(n->in[0], n->graph);
    int64_t amounts[2 * PS_MAX_RANK], pads[2 * PS_MAX_RANK] = { 0 };
    double value;
    if (!ps_is(pad, "Pad") || !explicit_pads(n)) return PS_OK;
    int rank = pad->in[0]->shape.rank;
    if (rank < 3 || !pad_amounts(pad, rank, amounts) || !pad_value(pad, &value) || !takes(n, value)) return PS_OK;
    if (amounts[0] || amounts[1] || amounts[rank] || amounts[rank + 1]) return PS_OK;
    const ps_attr *old = ps_node_attr(n, "pads"), *mode = ps_node_attr(n, "auto_pad");
    size_t spatial = (size_t)rank - 2;
    bool valid = mode && strcmp(mode->u.s, "VALID") == 0;
    if (old && (old->type != PS_ATTR_INTS || old->n != 2 * spatial)) return PS_OK;
    for (size_t d = 0; d < spatial; d++) {
        pads[d] = amounts[2 + d] + (old && !valid ? old->u.ints[d] : 0);
        pads[spatial + d] = amounts[(size_t)rank + 2 + d] + (old && !valid ? old->u.ints[spatial + d] : 0);
    }
    /* A max pool may not own pads as wide as its window. */
    const ps_attr *kernel = ps_node_attr(n, "kernel_shape");
    for (size_t d = 0; d < 2 * spatial && !ps_is(n, "Conv"); d++) {
        if (!kernel || kernel->n != spatial || pads[d] >= kernel->u.ints[d % spatial]) return PS_OK;
    }
    PS_TRY(ps_node_set_ints(n, "pads", pads, 2 * spatial, rw->err));
    if (mode) PS_TRY(ps_node_set_string(n, "auto_pad", "NOTSET", rw->err));
    PS_TRY(ps_node_set_input(n, 0, pad->in[0], rw->err));
    ps_rw_prune(pad);
    rw->changes++;
    return ps_rw_finish(rw, n, 0);
}

ps_status ps_pass_pad_conv(ps_rw *rw) {
    return ps_rw_each(rw, rewrite);
}
