/* conv.c - Conv and ConvTranspose through oneDNN, channels-last. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/dense.h"

static psd_md md_of(const ps_shape *s, ps_layout layout)
{
    psd_md m = { .ndims = s->rank };
    ps_layout_strides(s, layout, m.strides);
    for (int i = 0; i < s->rank; i++) m.dims[i] = s->dims[i];
    return m;
}

/* ONNX weights as oneDNN sees them: [g, O/g, I/g, k…]; ConvTranspose stores [I, O/g, k…]. */
static psd_md weights_md(const ps_shape *w, int64_t groups, bool deconv)
{
    psd_md m = { 0 };
    int64_t plain[PS_MAX_RANK];
    int at = 0;
    ps_shape_strides(w, plain);
    int64_t first = w->dims[0] / groups;
    if (groups > 1) {
        m.dims[at] = groups;
        m.strides[at++] = first * plain[0];
    }
    m.dims[at] = deconv ? w->dims[1] : first;
    m.strides[at++] = deconv ? plain[1] : plain[0];
    m.dims[at] = deconv ? first : w->dims[1];
    m.strides[at++] = deconv ? plain[0] : plain[1];
    for (int i = 2; i < w->rank; i++) {
        m.dims[at] = w->dims[i];
        m.strides[at++] = plain[i];
    }
    m.ndims = at;
    return m;
}

/* Shape of a post-op's operand under the output, for oneDNN: rank of the output, 1 where broadcast. */
static bool operand_md(const ps_shape *s, const ps_shape *out, psd_md *ret)
{
    ps_shape full = { out->rank, { 0 } };
    for (int i = 0; i < out->rank; i++) {
        int k = i - (out->rank - s->rank);
        full.dims[i] = k < 0 ? 1 : s->dims[k];
    }
    if (s->rank != out->rank && !ps_layout_same(&full)) return false;
    *ret = md_of(&full, PS_LAYOUT_CHANNELS_LAST);
    return true;
}

static ps_status describe(const ps_lowering *l, bool deconv, psd_desc *d, psd_md *from, ps_error *err)
{
    const ps_node *n = l->node;
    const ps_conv_params *p = n->params;
    ps_window w[PS_MAX_SPATIAL];
    int count;
    memset(d, 0, sizeof *d);
    PS_TRY(deconv ? ps_deconv_windows(n, w, &count, err) : ps_conv_windows(n, w, &count, err));
    d->kind = deconv ? PSD_DECONV : PSD_CONV;
    d->threads = l->threads;
    d->src = md_of(&n->in[0]->shape, PS_LAYOUT_CHANNELS_LAST);
    d->dst = md_of(&n->out[0]->shape, PS_LAYOUT_CHANNELS_LAST);
    *from = weights_md(&n->in[1]->shape, p->group, deconv);
    d->weights.ndims = from->ndims;
    memcpy(d->weights.dims, from->dims, sizeof from->dims);
    d->weights.any = n->in[1]->constant != NULL;
    if (!d->weights.any) d->weights = *from; /* weights made at run time are used as they lie */
    d->bias = ps_has_in(n, 2);
    for (int i = 0; i < count && i < 3; i++) {
        d->stride[i] = w[i].stride;
        d->dilation[i] = w[i].dilation;
        d->pad_begin[i] = w[i].pad_begin;
        d->pad_end[i] = w[i].pad_end;
    }
    return PS_OK;
}

static bool eligible(const ps_lowering *l)
{
    const ps_node *n = l->node;
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->in[0]->shape.rank < 3 || n->in[0]->shape.rank > 5) return false;
    if (ps_has_in(n, 2) && !n->in[2]->constant) return false;
    const ps_shape *s[] = { &n->in[0]->shape, &n->in[1]->shape, &n->out[0]->shape };
    for (int i = 0; i < 3; i++) {
        if (ps_shape_product(s[i], 0, s[i]->rank) == 0) return false;
    }
    return true;
}

static ps_status lower(ps_device *device, ps_lowering *l, bool deconv, ps_error *err)
{
    cpu_dense what = { .layout = PS_LAYOUT_CHANNELS_LAST, .label = deconv ? "deconv" : "conv", .operand_md = operand_md };
    if (!eligible(l)) return PS_OK;
    PS_TRY(describe(l, deconv, &what.desc, &what.from, err));
    what.weights = l->node->in[1]->constant;
    return cpu_lower_dense(device, l, &what, err);
}

ps_status cpu_lower_conv(ps_device *device, ps_lowering *l, ps_error *err)
{
    return lower(device, l, false, err);
}

ps_status cpu_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err)
{
    return lower(device, l, true, err);
}

#endif
