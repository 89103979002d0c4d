/* equalize.c - channels of one tensor made equally large, so that one scale for all of them wastes no codes.
 *
 * A tensor that only layers read is divided by a number for each channel; the layers' weights are multiplied by the
 * same, and whatever made the tensor divides: weights and bias of a layer before it, the scale of a normalisation, a
 * constant factor (which becomes one for each channel). Between them may stand what a positive factor passes through:
 * ReLU, pooling. In float nothing changes. For depthwise layers the tensor's channels become equal; for others part of
 * the way is gone, so that weights do not pay more than activations gain, by the noise that both add to the layer's
 * outputs.
 *
 * Sources: Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction (2019); Xiao et al.,
 * SmoothQuant (2022). */
#include "compress/loops.h"
#include "compress/patches.h"

enum { MAX_READERS = 16, MAX_STEPS = 12, SAMPLES = 48, STRENGTHS = 8 };
#define ROUNDING_GAIN 0.1 /* what adaptive rounding leaves of the noise of weights */

/* Divides by the channel's factor, or multiplies. */
typedef struct change {
    ps_node *node;
    size_t index; /* of in[] */
    bool multiply;
    int axis; /* of a weight: where its channels are; -1: a constant that is broadcast */
} change;

typedef struct plan {
    ps_value *value;
    int64_t channels;
    int axis; /* of value */
    ps_layer *readers[MAX_READERS];
    size_t n_readers;
    change changes[MAX_STEPS];
    size_t n_changes;
    float *low, *high; /* [channels] as seen */
    float *image;      /* sum of squares of one image, */
    double *square;    /* and of all */
    uint64_t count;    /* values of a channel */
} plan;

typedef PS_VEC(plan) plans;

static bool is(const ps_node *n, const char *op) {
    return n && !*n->domain && strcmp(n->op_type, op) == 0;
}

static ps_layer *layer_of(const ps_job *job, const ps_node *n) {
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].node == n) return &job->layers.data[i];
    return NULL;
}

static bool constant_f32(const ps_value *v) {
    return v && v->constant && !v->is_input && v->dtype == PS_DTYPE_F32;
}

static int64_t group_count(const ps_layer *l) {
    const ps_attr *a = ps_node_attr(l->node, "group");
    return a && a->type == PS_ATTR_INT && a->u.i > 0 ? a->u.i : 1;
}

static bool depthwise(const ps_layer *l) {
    return is(l->node, "Conv") && group_count(l) > 1 && l->weight->shape.dims[1] == 1;
}

/* ---- who reads it ---- */

/* Channels of the layer's input, and their axis; 0: it is of no use here. */
static int64_t input_channels(const ps_layer *l, int *ret_axis) {
    const ps_shape *s = &l->weight->shape;
    *ret_axis = 1;
    if (is(l->node, "Conv")) return depthwise(l) || group_count(l) == 1 ? s->dims[1] * group_count(l) : 0;
    if (is(l->node, "ConvTranspose")) return group_count(l) == 1 ? s->dims[0] : 0;
    *ret_axis = l->node->in[0]->shape.rank - 1;
    if (s->rank != 2 || *ret_axis < 1) return 0;
    return is(l->node, "Gemm") && l->axis == 0 ? s->dims[1] : s->dims[0];
}

/* The axis of the weight along which inputs lie. */
static int weight_axis(const ps_layer *l) {
    if (is(l->node, "Conv")) return depthwise(l) ? 0 : 1;
    if (is(l->node, "ConvTranspose")) return 0;
    return is(l->node, "Gemm") && l->axis == 0 ? 1 : 0;
}

static bool find_readers(const ps_job *job, ps_value *v, plan *p) {
    if (v->n_outputs || !v->n_uses || v->n_uses > MAX_READERS || v->is_input) return false;
    for (uint32_t u = 0; u < v->n_uses; u++) {
        ps_layer *l = v->uses[u].index == 0 ? layer_of(job, v->uses[u].node) : NULL;
        int axis;
        const int64_t channels = l && l->node->in[1]->n_uses == 1 ? input_channels(l, &axis) : 0;
        if (!channels || (u && (channels != p->channels || axis != p->axis))) return false;
        p->channels = channels;
        p->axis = axis;
        p->readers[p->n_readers++] = l;
    }
    return true;
}

/* ---- who can take the factor ---- */

static bool add_change(plan *p, ps_node *n, size_t index, bool multiply, int axis) {
    if (p->n_changes == MAX_STEPS) return false;
    p->changes[p->n_changes++] = (change) { n, index, multiply, axis };
    return true;
}

/* One number, or one for each channel in the right place. */
static bool broadcasts(const plan *p, const ps_value *c, const ps_value *with) {
    if (!constant_f32(c) || with->shape.rank < 0) return false;
    const ps_shape *s = &c->constant->shape;
    const int64_t n = (int64_t)ps_tensor_count(c->constant);
    if (n == 1) return s->rank <= with->shape.rank;
    const int at = p->axis - (with->shape.rank - s->rank);
    return n == p->channels && at >= 0 && at < s->rank && s->dims[at] == n;
}

static bool passes(const ps_node *n) {
    static const char *const ops[] = { "Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity" };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (is(n, ops[i])) return n->n_out == 1;
    return false;
}

static bool take(const ps_job *job, plan *p, ps_value *v, int depth);

static bool take_layer(plan *p, ps_layer *l) {
    if (l->channels != p->channels || l->axis < 0 || l->node->in[1]->n_uses != 1) return false;
    if (l->bias_node != l->node && l->can_bias) return false; /* the Add behind it comes first */
    if (l->node->n_in > 2 && l->node->in[2] && !broadcasts(p, l->node->in[2], l->node->in[2])) {
        const ps_tensor *b = l->node->in[2]->constant;
        if (!b || (int64_t)ps_tensor_count(b) != l->channels) return false;
    }
    if (l->node->n_in > 2 && l->node->in[2] && !add_change(p, l->node, 2, false, 0)) return false;
    return add_change(p, l->node, 1, false, l->axis);
}

static bool take_pair(const ps_job *job, plan *p, ps_node *n, int depth) {
    for (size_t i = 0; i < 2; i++) {
        ps_value *c = n->in[i], *x = n->in[1 - i];
        if (!broadcasts(p, c, n->out[0]) || x->constant || (is(n, "Div") && i == 0)) continue;
        if (x->shape.rank != n->out[0]->shape.rank) return false;
        if (is(n, "Add")) return add_change(p, n, i, false, -1) && take(job, p, x, depth + 1);
        return add_change(p, n, i, is(n, "Div"), -1);
    }
    if (!is(n, "Mul") || n->in[0] == n->in[1]) return false;
    const size_t before = p->n_changes;
    for (size_t i = 0; i < 2; i++) { /* a product: either factor may take it */
        if (n->in[i]->shape.rank == n->out[0]->shape.rank && take(job, p, n->in[i], depth + 1)) return true;
        p->n_changes = before;
    }
    return false;
}

/* v is divided if what makes it is changed as noted. depth 0: v is the tensor itself, others have one reader. */
static bool take(const ps_job *job, plan *p, ps_value *v, int depth) {
    ps_node *n = v->producer;
    if (depth > MAX_STEPS || !n || !ps_job_in_file(job, n) || v->n_outputs || (depth && v->n_uses != 1)) return false;
    if (v->dtype != PS_DTYPE_F32 || v->constant) return false;
    ps_layer *l = layer_of(job, n);
    if (l) return take_layer(p, l);
    if (passes(n)) return take(job, p, n->in[0], depth + 1);
    if (is(n, "LayerNormalization") || is(n, "BatchNormalization")) {
        if (n->n_out != 1 || n->n_in < 2 || !broadcasts(p, n->in[1], n->in[1])) {
            const ps_tensor *g = n->n_out == 1 && n->n_in > 1 && constant_f32(n->in[1]) ? n->in[1]->constant : NULL;
            if (!g || (int64_t)ps_tensor_count(g) != p->channels) return false;
        }
        if (n->n_in > 2 && n->in[2] && (!constant_f32(n->in[2]) || !add_change(p, n, 2, false, 0))) return false;
        return add_change(p, n, 1, false, 0);
    }
    if (is(n, "Add") || is(n, "Mul") || is(n, "Div")) return take_pair(job, p, n, depth);
    return false;
}

static ps_status find_plans(ps_job *job, plans *ret) {
    for (size_t i = 0; i < job->sites.size; i++) {
        plan p = { .value = job->sites.data[i].value };
        if (!job->sites.data[i].used || job->sites.data[i].group != i) continue;
        if (!find_readers(job, p.value, &p) || !take(job, &p, p.value, 0)) continue;
        p.low = ps_alloc_zero(job->alloc, (size_t)p.channels * sizeof *p.low);
        p.high = ps_alloc_zero(job->alloc, (size_t)p.channels * sizeof *p.high);
        p.image = ps_alloc_zero(job->alloc, (size_t)p.channels * sizeof *p.image);
        p.square = ps_alloc_zero(job->alloc, (size_t)p.channels * sizeof *p.square);
        const bool kept = ps_vec_push(job->alloc, ret, p);
        if (!kept) {
            ps_free(job->alloc, p.low);
            ps_free(job->alloc, p.high);
            ps_free(job->alloc, p.image);
            ps_free(job->alloc, p.square);
        }
        if (!kept || !p.low || !p.high || !p.image || !p.square) return PS_FAIL_NOMEM(job->err, "channels");
    }
    return PS_OK;
}

/* ---- what the channels look like ---- */

typedef struct looking {
    const ps_job *job;
    plans *all;
} looking;

typedef struct view {
    plan *p;
    const float *x;
    int64_t outer, inner; /* of the channels */
    bool last;            /* they lie innermost, in images of `inner` pixels */
} view;

static void look_at_channel(const view *v, int64_t c) {
    const float *x = v->x + c * v->inner;
    plan *p = v->p;
    for (int64_t o = 0; o < v->outer; o++, x += p->channels * v->inner) {
        float low = p->low[c], high = p->high[c], sum = 0;
        for (int64_t i = 0; i < v->inner; i++) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
            sum += x[i] * x[i];
        }
        p->low[c] = low;
        p->high[c] = high;
        p->square[c] += (double)sum;
    }
}

static void look_at_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const view *v = ctx;
    plan *p = v->p;
    const ps_loops *loops = ps_loops_pick();
    (void)thread;
    if (!v->last) {
        for (int64_t c = begin; c < end; c++)
            look_at_channel(v, c);
        return;
    }
    for (int64_t o = 0; o < v->outer; o++) {
        const float *x = v->x + o * v->inner * p->channels + begin;
        memset(p->image + begin, 0, (size_t)(end - begin) * sizeof *p->image);
        for (int64_t i = 0; i < v->inner; i++, x += p->channels)
            loops->extend(x, end - begin, p->low + begin, p->high + begin, p->image + begin);
        for (int64_t c = begin; c < end; c++)
            p->square[c] += (double)p->image[c];
    }
}

static ps_status look(void *ctx, size_t index, const ps_tensor *t, ps_error *err) {
    const looking *l = ctx;
    plan *p = &l->all->data[index];
    const ps_shape *s = &t->shape;
    if (t->dtype != PS_DTYPE_F32 || s->rank <= p->axis || s->dims[p->axis] != p->channels) return PS_OK;
    view v = { p, t->data, ps_shape_product(s, 0, p->axis), ps_shape_product(s, p->axis + 1, s->rank), false };
    ps_tensor *packed = NULL;
    v.last = t->strides && p->axis == 1;
    if (t->strides && !v.last) {
        PS_TRY(ps_tensor_copy(l->job->alloc, t, &packed, err));
        v.x = packed->data;
    }
    ps_parallel_for(p->channels, 16, l->job->engine->threads, look_at_channels, &v);
    ps_tensor_release(packed);
    p->count += (uint64_t)(v.outer * v.inner);
    return PS_OK;
}

static ps_status look_all(ps_job *job, plans *all) {
    ps_sim sim;
    const size_t n = job->n_calibration < SAMPLES ? job->n_calibration : SAMPLES;
    ps_value **extra = ps_alloc_array(job->alloc, all->size, sizeof *extra);
    if (!extra) return PS_FAIL_NOMEM(job->err, "a list of tensors");
    for (size_t i = 0; i < all->size; i++)
        extra[i] = all->data[i].value;
    ps_status status = ps_sim_open(job, false, PS_NO_SITE, extra, all->size, &sim);
    ps_free(job->alloc, extra);
    PS_TRY(status);
    for (size_t i = 0; i < n && status == PS_OK; i++) {
        ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
        bool skipped;
        status = ps_job_sample(job, &job->calibration, i, in, &skipped);
        if (status != PS_OK || skipped) continue;
        looking l = { job, all };
        status = ps_sim_run(job, &sim, in, look, &l);
        ps_job_release(job, in);
        if (status == PS_OK) status = ps_job_step(job, i + 1, n);
    }
    ps_sim_close(&sim);
    return status;
}

/* ---- how far to go ---- */

static double reach(const plan *p, int64_t c) {
    return fmax(fabs((double)p->low[c]), fabs((double)p->high[c]));
}

/* Largest weight that reads channel c, over all readers. */
static double weight_reach(const plan *p, int64_t c) {
    double most = 0;
    for (size_t r = 0; r < p->n_readers; r++) {
        const ps_layer *l = p->readers[r];
        const ps_shape *s = &l->weight->shape;
        const int axis = weight_axis(l);
        const int64_t outer = ps_shape_product(s, 0, axis), inner = ps_shape_product(s, axis + 1, s->rank);
        const float *w = l->weight->data;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                const double reach = fabs((double)w[(o * s->dims[axis] + c) * inner + i]);
                if (reach > most) most = reach; /* no fmax: see plan_noise */
            }
    }
    return most;
}

/* Noise that codes of inputs and of weights add to the layer's outputs, channels divided by f. */
static double layer_noise(const plan *p, const ps_layer *l, const double *f, double step) {
    const ps_weight_view v = ps_weight_view_of(l);
    const float *w = l->weight->data;
    const int64_t taps = is(l->node, "Conv") ? v.cols * v.groups / p->channels : 1;
    double noise = 0;
    for (int64_t g = 0; g < v.groups; g++) {
        for (int64_t r = 0; r < v.rows; r++) {
            double inputs = 0, largest = 0, squares = 0;
            for (int64_t c = 0; c < v.cols; c++) {
                const int64_t channel = (g * v.cols + c) / taps;
                const double x = fabs((double)w[g * v.group_stride + r * v.row_stride + c * v.col_stride]) * f[channel];
                inputs += x * x;
                largest = fmax(largest, x);
                squares += p->square[channel] / (double)p->count / (f[channel] * f[channel]);
            }
            noise += inputs * step * step / 12 + ROUNDING_GAIN * squares * (largest / 127) * (largest / 127) / 12;
        }
    }
    return noise;
}

static double plan_noise(const plan *p, const double *f) {
    double low = 0, high = 0, sum = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        /* not fmin and fmax: GCC 12 for aarch64 makes reductions of them that end in an internal error */
        const double least = p->low[c] / f[c], most = p->high[c] / f[c];
        if (least < low) low = least;
        if (most > high) high = most;
    }
    for (size_t r = 0; r < p->n_readers; r++)
        sum += layer_noise(p, p->readers[r], f, (high - low) / 255);
    return sum;
}

/* Factors of one strength: channels' reach to the power of it, weights' to that of the rest. */
static void factors(const plan *p, double strength, bool weights, double *f) {
    double log_sum = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        const double x = reach(p, c), w = weights ? weight_reach(p, c) : 1;
        f[c] = x > 0 && w > 0 ? pow(x, strength) / (weights ? pow(w, 1 - strength) : 1) : 0;
    }
    int64_t n = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        if (f[c] <= 0) continue;
        log_sum += log(f[c]);
        n++;
    }
    const double mean = n ? exp(log_sum / (double)n) : 1;
    for (int64_t c = 0; c < p->channels; c++) /* dead channels stay; none is moved by more than 2^12 */
        f[c] = f[c] > 0 ? fmin(fmax(f[c] / mean, 1.0 / 4096), 4096) : 1;
}

enum { TRIALS = 2 * STRENGTHS };

typedef struct trials {
    const plan *p;
    double *factors; /* of each trial */
    double noise[TRIALS];
} trials;

static void try_some(void *ctx, int64_t begin, int64_t end, int thread) {
    trials *t = ctx;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        double *f = t->factors + k * t->p->channels;
        factors(t->p, (double)(k % STRENGTHS + 1) / STRENGTHS, k >= STRENGTHS, f);
        t->noise[k] = plan_noise(t->p, f);
    }
}

/* The best factors, into the first of `room`, which is for those of all trials and one more. false: as it is, it is
 * best. */
static bool choose(const plan *p, int threads, double *room) {
    trials t = { .p = p, .factors = room + p->channels };
    for (int64_t c = 0; c < p->channels; c++)
        room[c] = 1;
    double least = plan_noise(p, room) * 0.95;
    bool found = false;
    ps_parallel_for(TRIALS, 1, threads, try_some, &t);
    for (int k = 0; k < TRIALS; k++) {
        if (!(t.noise[k] < least)) continue;
        least = t.noise[k];
        found = true;
        memcpy(room, t.factors + k * p->channels, (size_t)p->channels * sizeof *room);
    }
    return found;
}

/* ---- doing it ---- */

/* in[index] becomes a constant of its own, scaled; one that was broadcast gets the channels' dim. */
static ps_status scale_constant(ps_job *job, ps_node *n, size_t index, int axis, bool broadcast, const plan *p,
                                const double *f, bool multiply) {
    const ps_tensor *old = n->in[index]->constant;
    ps_shape shape = old->shape;
    ps_tensor *t;
    ps_value *v;
    PS_TRY(ps_tensor_need(old, job->err));
    if (broadcast) {
        const int rank = n->out[0]->shape.rank;
        shape = ps_shape_make(0, NULL);
        shape.rank = rank;
        for (int d = 0; d < rank; d++)
            shape.dims[d] = d == p->axis ? p->channels : 1;
        axis = p->axis;
    }
    PS_TRY(ps_tensor_new(job->alloc, PS_DTYPE_F32, &shape, &t, job->err));
    const int64_t outer = ps_shape_product(&shape, 0, axis), inner = ps_shape_product(&shape, axis + 1, shape.rank);
    const float *x = old->data;
    const bool one = ps_tensor_count(old) == 1;
    for (int64_t o = 0, at = 0; o < outer; o++)
        for (int64_t c = 0; c < p->channels; c++)
            for (int64_t i = 0; i < inner; i++, at++)
                ((float *)t->data)[at] = (float)(multiply ? x[one ? 0 : at] * f[c] : x[one ? 0 : at] / f[c]);
    ps_status status = ps_graph_add_constant(job->graph, NULL, t, &v, job->err);
    ps_tensor_release(t);
    PS_TRY(status);
    v->dtype = PS_DTYPE_F32;
    v->shape = shape;
    const ps_rewire edit = { n, index, n->in[index]->name };
    if (!ps_vec_push(job->alloc, &job->rewires, edit)) return PS_FAIL_NOMEM(job->err, "a list of constants");
    return ps_node_set_input(n, index, v, job->err);
}

static ps_status apply(ps_job *job, plan *p, const double *f) {
    for (size_t i = 0; i < p->n_changes; i++) {
        const change *c = &p->changes[i];
        PS_TRY(scale_constant(job, c->node, c->index, c->axis, c->axis < 0, p, f, c->multiply));
        ps_layer *l = layer_of(job, c->node);
        if (l) PS_TRY(ps_layer_prepare(job, l));
    }
    for (size_t r = 0; r < p->n_readers; r++) {
        ps_layer *l = p->readers[r];
        PS_TRY(scale_constant(job, l->node, 1, weight_axis(l), false, p, f, true));
        PS_TRY(ps_layer_prepare(job, l));
    }
    for (size_t i = 0; i < job->layers.size; i++) /* an Add that is some layer's bias may have been scaled */
        for (size_t k = 0; k < p->n_changes; k++)
            if (job->layers.data[i].bias_node == p->changes[k].node)
                PS_TRY(ps_layer_prepare(job, &job->layers.data[i]));
    job->equalized++;
    return PS_OK;
}

static ps_status equalize_one(ps_job *job, plan *p) {
    double *f = ps_alloc_array(job->alloc, (size_t)p->channels * (TRIALS + 1), sizeof *f);
    if (!f) return PS_FAIL_NOMEM(job->err, "channels");
    ps_status status = PS_OK;
    if (p->count && choose(p, job->engine->threads, f)) status = apply(job, p, f);
    ps_free(job->alloc, f);
    return status;
}

ps_status ps_equalize(ps_job *job) {
    plans all = { 0 };
    ps_status status = find_plans(job, &all);
    if (status == PS_OK && all.size) status = look_all(job, &all);
    for (size_t i = 0; i < all.size && status == PS_OK; i++)
        status = equalize_one(job, &all.data[i]);
    for (size_t i = 0; i < all.size; i++) {
        ps_free(job->alloc, all.data[i].low);
        ps_free(job->alloc, all.data[i].high);
        ps_free(job->alloc, all.data[i].image);
        ps_free(job->alloc, all.data[i].square);
    }
    ps_vec_release(job->alloc, &all);
    return status;
}
