/* optional.c - values that may be absent: Optional, OptionalGetElement, OptionalHasElement.
 *
 * An optional is a container of one place or none. Where one is wanted, what it would hold may stand itself: a tensor
 * or a sequence is an optional that is there.
 *
 * Source: ONNX operator specs Optional (15), OptionalGetElement and OptionalHasElement (15, 18). */
#include "ops/kernel_util.h"
#include "ops/move.h"

/* `type` is a TypeProto; the importer hands it over as the kind of the element and, of a container, of its elements. */
typedef struct optional_params {
    ps_ints type;
} optional_params;

static const ps_attr_def optional_attrs[] = { PS_A_INTS(optional_params, type), PS_ATTRS_END };

static ps_status optional_infer(const ps_node *node, ps_error *err) {
    const optional_params *p = node->params;
    bool there = ps_has_in(node, 0);
    ps_dtype elem = there ? node->in[0]->dtype : PS_DTYPE_UNDEFINED;
    PS_NODE_FAIL_IF(!there && p->type.n == 0, node, err, FORMAT, "an empty optional needs the attribute type");
    if (elem == PS_DTYPE_UNDEFINED && p->type.n && p->type.data[0] > 0 && p->type.data[0] < PS_DTYPE_COUNT)
        elem = (ps_dtype)p->type.data[0];
    ps_infer_container(node, 0, PS_DTYPE_OPTIONAL, elem, there);
    return PS_OK;
}

static ps_status optional_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *in = ctx->n_in ? ctx->in[0] : NULL;
    ps_shape shape = { 1, { in != NULL } };
    PS_TRY(ps_move_output(ctx, 0, PS_DTYPE_OPTIONAL, &shape, err));
    return in ? ps_move_element(ctx, ctx->out[0], 0, in, false, err) : PS_OK;
}

/* What an input holds; NULL if that is nothing. */
static const ps_tensor *content(const ps_tensor *in) {
    return in && in->dtype == PS_DTYPE_OPTIONAL ? ps_tensor_element(in, 0) : in;
}

static ps_status get_infer(const ps_node *node, ps_error *err) {
    const ps_value *in = node->in[0];
    ps_shape shape = ps_shape_unknown();
    if (in->dtype == PS_DTYPE_UNDEFINED) return PS_OK;
    if (in->dtype != PS_DTYPE_OPTIONAL) return ps_infer_same(node, err);
    if (in->elem == PS_DTYPE_SEQUENCE || in->elem == PS_DTYPE_OPTIONAL)
        ps_infer_container(node, 0, in->elem, PS_DTYPE_UNDEFINED, -1);
    else
        ps_infer_set(node, 0, in->elem, &shape);
    return PS_OK;
}

static ps_status get_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *t = content(ctx->in[0]);
    PS_NODE_FAIL_IF(!t, ctx->node, err, INVALID, "the optional is empty");
    return ps_move_tensor(ctx, 0, t, err);
}

static ps_status has_infer(const ps_node *node, ps_error *err) {
    ps_shape scalar = { 0 };
    ps_infer_set(node, 0, PS_DTYPE_BOOL, &scalar);
    return PS_OK;
}

static ps_status has_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    *(uint8_t *)ctx->out[0]->data = content(ctx->n_in ? ctx->in[0] : NULL) != NULL;
    return PS_OK;
}

static const ps_op ops[] = {
    /* name, domain, since, inputs, outputs, attributes, shape rule, reference kernel, traits */
    { "Optional", "", 15, 0, 1, 1, 1, optional_attrs, sizeof(optional_params), optional_infer, optional_ref,
      PS_OP_CONTAINERS },
    { "OptionalGetElement", "", 15, 1, 1, 1, 1, NULL, 0, get_infer, get_ref, PS_OP_CONTAINERS | PS_OP_DATA_SHAPE },
    { "OptionalHasElement", "", 15, 1, 1, 1, 1, NULL, 0, has_infer, has_ref, PS_OP_CONTAINERS },
    { "OptionalHasElement", "", 18, 0, 1, 1, 1, NULL, 0, has_infer, has_ref, PS_OP_CONTAINERS },
};

const ps_op_family ps_ops_optional = PS_OP_FAMILY("optional", ops);
