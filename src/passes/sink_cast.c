/* sink_cast.c - Gather(Cast(W), i) becomes Cast(Gather(W, i)) for constant W, so that only the rows read are converted.
 * The same for DequantizeLinear, whose scales and zero points are gathered too where they lie along the gathered axis:
 *
 *     one scale                             as it is
 *     a list along another axis             as it is, the axis moves with the dims that the indices bring
 *     blocks along another axis             gathered by the same indices
 *     one for each row of a matrix          gathered as [n, 1]: each row is a block of its own */
#include "passes/rewrite.h"

typedef struct sink_job {
    ps_rw *rw;
    ps_node *gather, *convert; /* as they are before */
    int gather_axis, axis, n_index_dims;
    int64_t block; /* block_size; 0: not blocked */
    bool rows, gather_params;
} sink_job;

static bool is_const_or_absent(const ps_value *v) {
    return !v || ps_const(v);
}

/* Where the scales of a DequantizeLinear lie, and whether that survives below the Gather. */
static bool place_scales(sink_job *j, const ps_tensor *w, const ps_tensor *scale) {
    const int rank = w->shape.rank;
    const bool blocked = j->block > 0 && scale->shape.rank == rank;
    if (ps_tensor_count(scale) == 1 && !blocked) {
        j->axis = -1;
        return true;
    }
    if (j->n_index_dims < 0 || !ps_axis_normalize(ps_attr_int(j->convert, "axis", 1), rank, &j->axis)) return false;
    if (j->axis != j->gather_axis) {
        j->gather_params = blocked;
        if (j->axis > j->gather_axis) j->axis += j->n_index_dims - 1;
        return blocked || scale->shape.rank == 1;
    }
    if (blocked || rank != 2 || j->gather_axis != 0 || w->shape.dims[1] == 0) return false;
    j->rows = j->gather_params = true;
    j->axis = j->n_index_dims;
    j->block = w->shape.dims[1];
    return true;
}

static bool sinks(sink_job *j) {
    const ps_node *p = j->convert;
    const ps_tensor *w = ps_const(ps_in(p, 0));
    if (!w || !ps_axis_normalize(ps_attr_int(j->gather, "axis", 0), w->shape.rank, &j->gather_axis)) return false;
    j->axis = -1;
    if (ps_is(p, "Cast")) return true;
    const ps_tensor *scale = ps_const(ps_in(p, 1));
    if (!ps_is(p, "DequantizeLinear") || !scale || !is_const_or_absent(ps_in(p, 2))) return false;
    j->block = ps_attr_int(p, "block_size", 0);
    return place_scales(j, w, scale);
}

static ps_status gather_from(sink_job *j, ps_value *v, ps_value **ret) {
    ps_value *in[] = { v, j->gather->in[1] };
    ps_node *made;
    PS_TRY(ps_rw_insert(j->rw, j->gather, "Gather", "", in, 2, &made));
    PS_TRY(ps_node_copy_attrs(made, j->gather, j->rw->err));
    made->op = j->gather->op;
    PS_TRY(ps_rw_finish(j->rw, made, 0));
    *ret = made->out[0];
    return PS_OK;
}

/* Input i of the conversion, a scale or zero point, as it belongs behind the Gather. */
static ps_status sink_param(sink_job *j, size_t i, ps_value **ret) {
    ps_value *v = ps_in(j->convert, i);
    *ret = v;
    if (!v || !j->gather_params) return PS_OK;
    if (j->rows) {
        ps_tensor *t = v->constant, *column;
        const ps_shape shape = ps_shape_make(2, (int64_t[]) { t->shape.dims[0], 1 });
        PS_TRY(ps_tensor_new_view(j->rw->root->alloc, t->dtype, &shape, t->data, t, &column, j->rw->err));
        PS_TRY(ps_rw_constant(j->rw, j->gather->graph, column, &v));
    }
    return gather_from(j, v, ret);
}

static ps_status set_attrs(sink_job *j, ps_node *made, const ps_attr *attrs, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        PS_TRY(ps_node_set_attr(made, &attrs[i], j->rw->err));
    if (j->axis >= 0) PS_TRY(ps_node_set_int(made, "axis", j->axis, j->rw->err));
    if (j->rows) PS_TRY(ps_node_set_int(made, "block_size", j->block, j->rw->err));
    return PS_OK;
}

static ps_status sink(ps_rw *rw, ps_node *n) {
    if (!ps_is(n, "Gather") || !n->in[0]->producer) return PS_OK;
    sink_job j = { .rw = rw, .gather = n, .convert = n->in[0]->producer, .n_index_dims = n->in[1]->shape.rank };
    if (j.convert->graph != n->graph || !sinks(&j)) return PS_OK;
    ps_value *args[3];
    PS_TRY(gather_from(&j, j.convert->in[0], &args[0]));
    PS_TRY(sink_param(&j, 1, &args[1]));
    PS_TRY(sink_param(&j, 2, &args[2]));
    /* The conversion may go with the Gather. */
    const ps_op *op = j.convert->op;
    const ps_attr *attrs = j.convert->attrs;
    const uint32_t n_attrs = j.convert->n_attrs, n_in = j.convert->n_in;
    const char *type = j.convert->op_type;
    ps_node *made;
    PS_TRY(ps_rw_replace(rw, n, type, "", args, n_in, &made));
    PS_TRY(set_attrs(&j, made, attrs, n_attrs));
    if (j.rows) return ps_rw_finish(rw, made, 21); /* the first with blocks */
    made->op = op;
    return ps_rw_finish(rw, made, 0);
}

ps_status ps_pass_sink_cast(ps_rw *rw) {
    return ps_rw_each(rw, sink);
}
