/* conv.c - Conv and ConvTranspose through oneDNN, channels-last. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/dense.h"

static psd_md md_of(const ps_shape *s, ps_layout layout) {
    psd_md m = { .ndims = s->rank };
    ps_layout_strides(s, layout, m.strides);
    for (int i = 0; i < s->rank; i++)
        m.dims[i] = s->dims[i];
    return m;
}

/* ONNX weights as oneDNN sees them: [g, O/g, I/g, k…]; ConvTranspose stores [I, O/g, k…]. */
static psd_md weights_md(const ps_shape *w, int64_t groups, bool deconv) {
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
static bool operand_md(const ps_shape *s, const ps_shape *out, psd_md *ret) {
    ps_shape full = { out->rank, { 0 } };
    for (int i = 0; i < out->rank; i++) {
        int k = i - (out->rank - s->rank);
        full.dims[i] = k < 0 ? 1 : s->dims[k];
    }
    if (s->rank != out->rank && !ps_layout_same(&full)) return false;
    *ret = md_of(&full, PS_LAYOUT_CHANNELS_LAST);
    return true;
}

/* oneDNN's convolutions walk the last spatial dim: if that is 1 wide, exchange it with the one before. In channels-last
 * memory both are the same. */
static void exchange(int64_t *a, int64_t *b) {
    int64_t t = *a;
    *a = *b;
    *b = t;
}

static void exchange_spatial(psd_md *m) {
    int last = (int)m->ndims - 1;
    exchange(&m->dims[last], &m->dims[last - 1]);
    exchange(&m->strides[last], &m->strides[last - 1]);
}

/* Strides anew: oneDNN recognises channels-last by them, and those of dims of 1 are free to choose. */
static void exchange_image(psd_md *m) {
    ps_shape s = { (int32_t)m->ndims, { 0 } };
    exchange_spatial(m);
    memcpy(s.dims, m->dims, sizeof s.dims);
    *m = md_of(&s, PS_LAYOUT_CHANNELS_LAST);
}

static bool is_column(const ps_node *n) {
    const ps_shape *x = &n->in[0]->shape, *w = &n->in[1]->shape, *y = &n->out[0]->shape;
    return x->rank == 4 && x->dims[3] == 1 && w->dims[3] == 1 && y->dims[3] == 1 && x->dims[2] > 1;
}

static bool operand_md_column(const ps_shape *s, const ps_shape *out, psd_md *ret) {
    if (!operand_md(s, out, ret)) return false;
    exchange_image(ret);
    return true;
}

static void make_column(psd_desc *d, psd_md *from) {
    exchange_image(&d->src);
    exchange_image(&d->dst);
    exchange_spatial(&d->weights);
    exchange_spatial(from);
    exchange(&d->stride[0], &d->stride[1]);
    exchange(&d->dilation[0], &d->dilation[1]);
    exchange(&d->pad_begin[0], &d->pad_begin[1]);
    exchange(&d->pad_end[0], &d->pad_end[1]);
}

static ps_status describe(const ps_lowering *l, bool deconv, psd_desc *d, psd_md *from, ps_error *err) {
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

static bool eligible(const ps_lowering *l) {
    const ps_node *n = l->node;
    if (n->in[0]->dtype != PS_DTYPE_F32 || n->in[0]->shape.rank < 3 || n->in[0]->shape.rank > 5) return false;
    if (ps_has_in(n, 2) && !n->in[2]->constant) return false;
    const ps_shape *s[] = { &n->in[0]->shape, &n->in[1]->shape, &n->out[0]->shape };
    for (int i = 0; i < 3; i++) {
        if (ps_shape_product(s[i], 0, s[i]->rank) == 0) return false;
    }
    return true;
}

static ps_status lower(ps_device *device, ps_lowering *l, bool deconv, ps_error *err) {
    cpu_dense what = { .layout = PS_LAYOUT_CHANNELS_LAST,
                       .label = deconv ? "deconv" : "conv",
                       .operand_md = operand_md };
    if (!eligible(l)) return PS_OK;
    PS_TRY(describe(l, deconv, &what.desc, &what.from, err));
    what.weights = l->node->in[1]->constant;
    if (is_column(l->node)) {
        make_column(&what.desc, &what.from);
        what.operand_md = operand_md_column;
    }
    return cpu_lower_dense(device, l, &what, err);
}

ps_status cpu_lower_conv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, false, err);
}

ps_status cpu_lower_deconv(ps_device *device, ps_lowering *l, ps_error *err) {
    return lower(device, l, true, err);
}

#endif
