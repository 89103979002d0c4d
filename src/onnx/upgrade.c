/* upgrade.c - models of ai.onnx 7 to 20 rewritten for a later version, up to 21.
 *
 * One row per change of meaning: the operator, the version that changed it, and the rule that writes a node of the
 * version before in the words of that one. What only allows more (types, optional inputs, negative axes) needs no rule.
 * Rules run version after version, so that each starts from what the one before left.
 *
 * Source: ONNX's Changelog.md, operator by operator. */
#include <string.h>

#include "onnx/edit_int.h"
#include "tensor/convert.h"

enum { NEWEST = 21, OLDEST = 7 };

typedef struct upgrader {
    ps_onnx_edit *edit;
    const ps_graph *types;
    unsigned fresh;
    ps_error *err;
} upgrader;

/* A node where it stands; rules that insert nodes keep `at` on it. */
typedef struct place {
    upgrader *u;
    Onnx__GraphProto *graph;
    size_t at;
    Onnx__NodeProto *node;
} place;

typedef ps_status (*rule_fn)(place *p);

/* ---- attributes ---- */

static Onnx__AttributeProto *attr(const Onnx__NodeProto *n, const char *name) {
    for (size_t i = 0; i < n->n_attribute; i++)
        if (strcmp(ps_onnx_text(n->attribute[i]->name), name) == 0) return n->attribute[i];
    return NULL;
}

static int64_t attr_int(const Onnx__NodeProto *n, const char *name, int64_t absent) {
    const Onnx__AttributeProto *a = attr(n, name);
    return a ? a->i : absent;
}

static float attr_float(const Onnx__NodeProto *n, const char *name, float absent) {
    const Onnx__AttributeProto *a = attr(n, name);
    return a ? a->f : absent;
}

static void drop_attr(place *p, const char *name) {
    Onnx__NodeProto *n = p->node;
    for (size_t i = 0; i < n->n_attribute; i++) {
        if (strcmp(ps_onnx_text(n->attribute[i]->name), name) != 0) continue;
        ps_onnx_edit_free_message(p->u->edit, &n->attribute[i]->base);
        memmove(n->attribute + i, n->attribute + i + 1, (n->n_attribute - i - 1) * sizeof *n->attribute);
        n->n_attribute--;
        return;
    }
}

static ps_status set_string(place *p, const char *name, const char *value) {
    ps_onnx_attr_spec spec = { .name = name, .type = PS_ATTR_STRING, .s = value };
    drop_attr(p, name);
    return ps_onnx_edit_add_attr(p->u->edit, p->node, &spec, p->u->err);
}

static ps_status set_int(place *p, const char *name, int64_t value) {
    ps_onnx_attr_spec spec = { .name = name, .type = PS_ATTR_INT, .i = value };
    drop_attr(p, name);
    return ps_onnx_edit_add_attr(p->u->edit, p->node, &spec, p->u->err);
}

static bool has_text(const Onnx__NodeProto *n, const char *name, const char *value) {
    const Onnx__AttributeProto *a = attr(n, name);
    return a && a->s.len == strlen(value) && memcmp(a->s.data, value, a->s.len) == 0;
}

/* ---- values ---- */

static bool has_output(const Onnx__NodeProto *n, size_t i) {
    return i < n->n_output && n->output[i][0];
}

static bool has_input(const Onnx__NodeProto *n, size_t i) {
    return i < n->n_input && n->input[i][0];
}

static ps_status refuse(const place *p, int version, const char *why) {
    return PS_FAIL(p->u->err, UNSUPPORTED, "%s producing '%.120s' has no equivalent in opset %d: %s", p->node->op_type,
                   p->node->n_output ? p->node->output[0] : "", version, why);
}

/* The value in the graph that the caller brought, or NULL. */
static const ps_value *typed(const place *p, const char *name) {
    const ps_graph *root = p->u->types;
    if (!root) return NULL;
    for (const ps_graph *g = root; g; g = g == root ? root->all_graphs : g->next_all) {
        const ps_value *v = ps_graph_find(g, name);
        if (v) return v;
    }
    return NULL;
}

static ps_dtype float_type(const place *p, const char *name) {
    const ps_value *v = typed(p, name);
    return v && v->dtype ? v->dtype : PS_DTYPE_F32;
}

static int known_rank(const place *p, const char *name) {
    const ps_value *v = typed(p, name);
    return v ? v->shape.rank : -1;
}

/* A name that nothing has. */
static void fresh_name(place *p, const char *what, char *buf, size_t size) {
    do
        ps_snprintf(buf, size, "polestar/%s_%u", what, p->u->fresh++);
    while (ps_onnx_edit_is_defined(p->u->edit, buf) || typed(p, buf));
}

static ps_status rename_text(place *p, char **at, const char *name) {
    char *copy = ps_onnx_edit_text(p->u->edit, name, p->u->err);
    if (!copy) return PS_NO_MEMORY;
    ps_onnx_edit_free_text(p->u->edit, *at);
    *at = copy;
    return PS_OK;
}

/* Input `index` becomes `name`; inputs in between are omitted ones. */
static ps_status set_input(place *p, size_t index, const char *name) {
    Onnx__NodeProto *n = p->node;
    while (n->n_input <= index) {
        char *empty = ps_onnx_edit_text(p->u->edit, "", p->u->err);
        if (!empty) return PS_NO_MEMORY;
        ps_status status = ps_onnx_edit_open_gap(p->u->edit, (void ***)&n->input, &n->n_input, n->n_input, p->u->err);
        if (status != PS_OK) {
            ps_free(p->u->edit->alloc, empty);
            return status;
        }
        n->input[n->n_input - 1] = empty;
    }
    return rename_text(p, &n->input[index], name);
}

/* A constant beside the node; buf gets its name. */
static ps_status constant(place *p, const char *what, ps_tensor *take, char *buf, size_t size) {
    fresh_name(p, what, buf, size);
    ps_status status = ps_onnx_edit_add_to(p->u->edit, p->graph, buf, take, p->u->err);
    ps_tensor_release(take);
    return status;
}

static ps_status ints_input(place *p, size_t index, const char *what, const int64_t *v, size_t n) {
    char name[64];
    const int64_t dims[] = { (int64_t)n };
    const ps_shape shape = ps_shape_make(1, dims);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_I64, &shape, &t, p->u->err));
    if (n) memcpy(t->data, v, n * sizeof *v);
    PS_TRY(constant(p, what, t, name, sizeof name));
    return set_input(p, index, name);
}

/* A number of the type of the node's first input. */
static ps_status number_input(place *p, size_t index, const char *what, float v) {
    char name[64];
    const ps_shape shape = ps_shape_make(0, NULL);
    ps_tensor *t;
    const ps_dtype dtype = float_type(p, p->node->input[0]);
    PS_TRY(ps_tensor_new(p->u->edit->alloc, dtype, &shape, &t, p->u->err));
    ps_convert(&v, PS_DTYPE_F32, t->data, dtype, 1, true);
    PS_TRY(constant(p, what, t, name, sizeof name));
    return set_input(p, index, name);
}

static ps_status floats_input(place *p, size_t index, const char *what, const float *v, size_t n) {
    char name[64];
    const int64_t dims[] = { (int64_t)n };
    const ps_shape shape = ps_shape_make(1, dims);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_F32, &shape, &t, p->u->err));
    if (n) memcpy(t->data, v, n * sizeof *v);
    PS_TRY(constant(p, what, t, name, sizeof name));
    return set_input(p, index, name);
}

/* A list attribute becomes input `index`; where it is absent, the input is. */
static ps_status list_to_input(place *p, const char *name, size_t index) {
    const Onnx__AttributeProto *a = attr(p->node, name);
    if (!a) return PS_OK;
    PS_TRY(ints_input(p, index, name, a->ints, a->n_ints));
    drop_attr(p, name);
    return PS_OK;
}

/* ---- opset 9, 10, 11 ---- */

static ps_status upsample_9(place *p) {
    const Onnx__AttributeProto *a = attr(p->node, "scales");
    if (!a) return refuse(p, 9, "it has no scales");
    PS_TRY(floats_input(p, 1, "scales", a->floats, a->n_floats));
    drop_attr(p, "scales");
    return PS_OK;
}

static ps_status batchnorm_9(place *p) {
    if (attr_int(p->node, "spatial", 1) != 1) return refuse(p, 9, "spatial 0 (a mean for each pixel) is gone");
    drop_attr(p, "spatial");
    return PS_OK;
}

static ps_status scan_9(place *p) {
    return refuse(p, 9, "Scan of opset 8 scans within a batch");
}

static ps_status upsample_10(place *p) {
    return rename_text(p, &p->node->op_type, "Resize");
}

static ps_status slice_10(place *p) {
    PS_TRY(list_to_input(p, "starts", 1));
    PS_TRY(list_to_input(p, "ends", 2));
    return list_to_input(p, "axes", 3);
}

static ps_status topk_10(place *p) {
    const int64_t k = attr_int(p->node, "k", 0);
    PS_TRY(ints_input(p, 1, "k", &k, 1));
    drop_attr(p, "k");
    return PS_OK;
}

static ps_status dropout_10(place *p) {
    return has_output(p->node, 1) ? refuse(p, 10, "its mask has another type") : PS_OK;
}

/* How opset 10 rounds, as ONNX Runtime has it: down where a picture grows, up where it shrinks. */
static ps_status rounding(place *p, const char *scales, const char **ret) {
    const ps_value *v = typed(p, scales);
    double scale;
    bool grows = false, shrinks = false;
    *ret = "floor";
    for (size_t i = 0; v && v->constant && i < ps_tensor_count(v->constant); i++) {
        if (!ps_tensor_get_double(v->constant, i, &scale)) break;
        grows |= scale > 1;
        shrinks |= scale < 1;
    }
    if (grows && shrinks) return refuse(p, 11, "it grows in one dim and shrinks in another");
    if (shrinks) *ret = "ceil";
    return PS_OK;
}

/* Until 10, one way of coordinates. */
static ps_status resize_11(place *p) {
    char scales[256];
    const char *nearest;
    if (!has_input(p->node, 1)) return refuse(p, 11, "it has no scales");
    ps_snprintf(scales, sizeof scales, "%s", p->node->input[1]);
    if (strlen(p->node->input[1]) >= sizeof scales) return refuse(p, 11, "the name of its scales is too long");
    PS_TRY(rounding(p, scales, &nearest));
    PS_TRY(floats_input(p, 1, "roi", NULL, 0));
    PS_TRY(set_input(p, 2, scales));
    PS_TRY(set_string(p, "coordinate_transformation_mode", "asymmetric"));
    return has_text(p->node, "mode", "linear") ? PS_OK : set_string(p, "nearest_mode", nearest);
}

static ps_status clip_11(place *p) {
    if (attr(p->node, "min")) PS_TRY(number_input(p, 1, "min", attr_float(p->node, "min", 0)));
    if (attr(p->node, "max")) PS_TRY(number_input(p, 2, "max", attr_float(p->node, "max", 0)));
    drop_attr(p, "min");
    drop_attr(p, "max");
    return PS_OK;
}

static ps_status pad_11(place *p) {
    const float value = attr_float(p->node, "value", 0);
    PS_TRY(list_to_input(p, "pads", 1));
    if (attr(p->node, "value")) PS_TRY(number_input(p, 2, "value", value));
    drop_attr(p, "value");
    return PS_OK;
}

static ps_status scatter_11(place *p) {
    return rename_text(p, &p->node->op_type, "ScatterElements");
}

/* ---- opset 12 to 15 ---- */

/* Outside of training nothing is dropped, whatever the ratio. */
static ps_status dropout_12(place *p) {
    drop_attr(p, "ratio");
    return PS_OK;
}

static ps_status axes_13(place *p) {
    return list_to_input(p, "axes", 1);
}

static ps_status split_13(place *p) {
    return list_to_input(p, "split", 1);
}

/* op(in) -> a new value, before the node. */
static ps_status insert(place *p, const char *op, const char *const *in, size_t n_in, const char *out,
                        const ps_onnx_attr_spec *attrs, size_t n_attrs) {
    const ps_onnx_node_spec spec = {
        .op_type = op, .in = in, .n_in = n_in, .out = &out, .n_out = 1, .attrs = attrs, .n_attrs = n_attrs
    };
    PS_TRY(ps_onnx_edit_insert_into(p->u->edit, p->graph, p->at, &spec, p->u->err));
    p->at++;
    return PS_OK;
}

/* Y = Reshape(op(Flatten(X, axis)), Shape(X)): what Softmax and its like were before 13. */
static ps_status by_rows(place *p, int64_t axis) {
    char rows[64], shape[64], result[64];
    const ps_onnx_attr_spec flat = { .name = "axis", .type = PS_ATTR_INT, .i = axis };
    const char *in = p->node->input[0];
    fresh_name(p, "rows", rows, sizeof rows);
    fresh_name(p, "shape", shape, sizeof shape);
    fresh_name(p, "result", result, sizeof result);
    PS_TRY(insert(p, "Shape", &in, 1, shape, NULL, 0));
    PS_TRY(insert(p, "Flatten", &in, 1, rows, &flat, 1));
    PS_TRY(set_input(p, 0, rows));
    const char *back[] = { result, shape }, *out = p->node->output[0];
    const ps_onnx_node_spec spec = { .op_type = "Reshape", .in = back, .n_in = 2, .out = &out, .n_out = 1 };
    PS_TRY(ps_onnx_edit_insert_into(p->u->edit, p->graph, p->at + 1, &spec, p->u->err));
    PS_TRY(rename_text(p, &p->node->output[0], result));
    return set_int(p, "axis", -1);
}

/* Before 13 all dims from `axis` on were one. That is the same for the last one. */
static ps_status softmax_13(place *p) {
    const int64_t axis = attr_int(p->node, "axis", 1);
    const int rank = known_rank(p, p->node->input[0]);
    if (axis == -1 || (rank >= 1 && axis == rank - 1)) return set_int(p, "axis", -1);
    return by_rows(p, axis);
}

static ps_status batchnorm_14(place *p) {
    for (size_t i = 1; i < p->node->n_output; i++)
        if (has_output(p->node, i)) return refuse(p, 14, "it gives the statistics of a training step");
    return PS_OK;
}

/* ---- opset 16 to 21 ---- */

static ps_status roialign_16(place *p) {
    return set_string(p, "coordinate_transformation_mode", "output_half_pixel");
}

static ps_status split_18(place *p) {
    return has_input(p->node, 1) ? PS_OK : set_int(p, "num_outputs", (int64_t)p->node->n_output);
}

static ps_status gridsample_20(place *p) {
    if (has_text(p->node, "mode", "bilinear")) return set_string(p, "mode", "linear");
    return has_text(p->node, "mode", "bicubic") ? set_string(p, "mode", "cubic") : PS_OK;
}

static ps_status dft_20(place *p) {
    char name[64];
    const ps_shape shape = ps_shape_make(0, NULL);
    const int64_t axis = attr_int(p->node, "axis", 1);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_I64, &shape, &t, p->u->err));
    memcpy(t->data, &axis, sizeof axis);
    PS_TRY(constant(p, "axis", t, name, sizeof name));
    drop_attr(p, "axis");
    return set_input(p, 2, name);
}

/* per_group[G] -> per_channel[C]: each number C / G times. */
static ps_status per_channel(place *p, size_t index, int64_t groups, int64_t channels) {
    char column[64], wide[64], flat[64], target[64], one[64];
    const char *in[2] = { p->node->input[index], column };
    const int64_t dims[] = { 2 }, ones[] = { 1 }, to_column[] = { groups, 1 }, to[] = { groups, channels / groups },
                  all = channels;
    const ps_shape two = ps_shape_make(1, dims), single = ps_shape_make(1, ones);
    ps_tensor *t;
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_I64, &two, &t, p->u->err));
    memcpy(t->data, to_column, sizeof to_column);
    PS_TRY(constant(p, "column", t, column, sizeof column));
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_I64, &two, &t, p->u->err));
    memcpy(t->data, to, sizeof to);
    PS_TRY(constant(p, "repeat", t, target, sizeof target));
    PS_TRY(ps_tensor_new(p->u->edit->alloc, PS_DTYPE_I64, &single, &t, p->u->err));
    memcpy(t->data, &all, sizeof all);
    PS_TRY(constant(p, "channels", t, one, sizeof one));
    fresh_name(p, "groups", wide, sizeof wide);
    PS_TRY(insert(p, "Reshape", in, 2, wide, NULL, 0));
    in[0] = wide;
    in[1] = target;
    fresh_name(p, "groups", flat, sizeof flat);
    PS_TRY(insert(p, "Expand", in, 2, flat, NULL, 0));
    in[0] = flat;
    in[1] = one;
    fresh_name(p, "groups", wide, sizeof wide);
    PS_TRY(insert(p, "Reshape", in, 2, wide, NULL, 0));
    return set_input(p, index, wide);
}

static ps_status groupnorm_21(place *p) {
    const ps_value *x = typed(p, p->node->input[0]);
    const int64_t groups = attr_int(p->node, "num_groups", 0);
    const int64_t channels = x && x->shape.rank > 1 ? x->shape.dims[1] : -1;
    if (groups <= 0 || channels <= 0 || channels % groups)
        return refuse(p, 21, "the number of channels must be known to give each its scale");
    PS_TRY(per_channel(p, 1, groups, channels));
    return per_channel(p, 2, groups, channels);
}

/* ---- the table ---- */

static const struct {
    int version;
    const char *op;
    rule_fn rule;
} rules[] = {
    { 9, "Upsample", upsample_9 },
    { 9, "BatchNormalization", batchnorm_9 },
    { 9, "Scan", scan_9 },
    { 10, "Upsample", upsample_10 },
    { 10, "Slice", slice_10 },
    { 10, "TopK", topk_10 },
    { 10, "Dropout", dropout_10 },
    { 11, "Resize", resize_11 },
    { 11, "Clip", clip_11 },
    { 11, "Pad", pad_11 },
    { 11, "Scatter", scatter_11 },
    { 12, "Dropout", dropout_12 },
    { 13, "Softmax", softmax_13 },
    { 13, "LogSoftmax", softmax_13 },
    { 13, "Hardmax", softmax_13 },
    { 13, "Squeeze", axes_13 },
    { 13, "Unsqueeze", axes_13 },
    { 13, "ReduceSum", axes_13 },
    { 13, "Split", split_13 },
    { 14, "BatchNormalization", batchnorm_14 },
    { 16, "RoiAlign", roialign_16 },
    { 18, "Split", split_18 },
    { 18, "ReduceMax", axes_13 },
    { 18, "ReduceMin", axes_13 },
    { 18, "ReduceMean", axes_13 },
    { 18, "ReduceProd", axes_13 },
    { 18, "ReduceL1", axes_13 },
    { 18, "ReduceL2", axes_13 },
    { 18, "ReduceLogSum", axes_13 },
    { 18, "ReduceLogSumExp", axes_13 },
    { 18, "ReduceSumSquare", axes_13 },
    { 20, "GridSample", gridsample_20 },
    { 20, "DFT", dft_20 },
    { 21, "GroupNormalization", groupnorm_21 },
};
enum { N_RULES = sizeof rules / sizeof *rules };

static ps_status upgrade_graph(upgrader *u, Onnx__GraphProto *g, int version);

static ps_status upgrade_subgraphs(upgrader *u, const Onnx__NodeProto *n, int version) {
    for (size_t i = 0; i < n->n_attribute; i++) {
        if (n->attribute[i]->g) PS_TRY(upgrade_graph(u, n->attribute[i]->g, version));
        for (size_t k = 0; k < n->attribute[i]->n_graphs; k++)
            PS_TRY(upgrade_graph(u, n->attribute[i]->graphs[k], version));
    }
    return PS_OK;
}

static ps_status upgrade_node(upgrader *u, Onnx__GraphProto *g, size_t *at, int version) {
    place p = { u, g, *at, g->node[*at] };
    PS_TRY(upgrade_subgraphs(u, p.node, version));
    if (*ps_onnx_domain(p.node->domain)) return PS_OK;
    for (size_t r = 0; r < N_RULES; r++) {
        if (rules[r].version != version || strcmp(rules[r].op, ps_onnx_text(p.node->op_type)) != 0) continue;
        PS_FAIL_IF(!p.node->n_input || !p.node->n_output, u->err, FORMAT, "%s '%.120s' has no input or no output",
                   rules[r].op, ps_onnx_text(p.node->name));
        PS_TRY(rules[r].rule(&p));
        *at = p.at;
        return PS_OK; /* one rule an operator and version */
    }
    return PS_OK;
}

/* Recursion: bounded by cut.c. */
static ps_status upgrade_graph(upgrader *u, Onnx__GraphProto *g, int version) {
    for (size_t i = 0; i < g->n_node; i++)
        PS_TRY(upgrade_node(u, g, &i, version));
    return PS_OK;
}

ps_status ps_onnx_edit_upgrade(ps_onnx_edit *e, int64_t version, const ps_graph *types, ps_error *err) {
    upgrader u = { .edit = e, .types = types, .err = err };
    const int64_t from = ps_onnx_edit_opset(e, "");
    if (from >= version) return PS_OK;
    PS_FAIL_IF(from < OLDEST, err, UNSUPPORTED, "models of opset %lld are not upgraded: the oldest is %d",
               (long long)from, OLDEST);
    PS_FAIL_IF(version > NEWEST, err, UNSUPPORTED, "models are upgraded to opset %d at most, not %lld", NEWEST,
               (long long)version);
    for (int v = (int)from + 1; v <= version; v++)
        PS_TRY(upgrade_graph(&u, ((Onnx__ModelProto *)e->proto.message)->graph, v));
    return ps_onnx_edit_set_opset(e, "", version, err);
}
