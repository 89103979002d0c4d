/* dnnl_adapter.c - see dnnl_adapter.h. The two API generations differ in how primitive descriptors are made (2.x:
 * operation descriptors; 3.x: one call) and in memory descriptors (2.x: structs; 3.x: opaque pointers); the #if blocks
 * hide just that. */
#ifdef PS_WITH_DNNL
#include "backend/cpu/dnnl_adapter.h"

#include <dnnl.h>

#define V3 (DNNL_VERSION_MAJOR >= 3)

#if V3
typedef dnnl_memory_desc_t md_t; /* owned */
typedef const_dnnl_memory_desc_t cmd_t;
#define MD_ARG(m) (m)
#else
typedef dnnl_memory_desc_t md_t;
typedef const dnnl_memory_desc_t *cmd_t;
#define MD_ARG(m) (&(m))
#endif

struct psd_prim {
    ps_dnnl *owner;
    psd_prim *next;
    int refs;     /* guarded by owner->lock */
    bool charged; /* guarded by owner->lock */
    uint64_t hash;
    psd_desc desc;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
};

#define BUCKETS 512

struct ps_dnnl {
    ps_alloc_state *alloc;
    dnnl_engine_t engine;
    ps_mutex lock;
    psd_prim *buckets[BUCKETS]; /* guarded by lock */
};

struct psd_exec {
    const psd_prim *prim;
    dnnl_stream_t stream;
    int n;
    dnnl_exec_arg_t args[PSD_MAX_ARGS];
    int post[PSD_MAX_ARGS]; /* index into desc.posts of a binary operand, else -1 */
};

static ps_status fail(ps_error *err, dnnl_status_t s, const char *what) {
    if (s == dnnl_out_of_memory) return PS_FAIL(err, NO_MEMORY, "out of memory in oneDNN: %s", what);
    return PS_FAIL(err, INTERNAL, "oneDNN: %s failed with status %d", what, (int)s);
}

#define DNNL_TRY(call, what)                                                                                           \
    do {                                                                                                               \
        dnnl_status_t dnnl_try_ = (call);                                                                              \
        if (dnnl_try_ != dnnl_success) return fail(err, dnnl_try_, (what));                                            \
    } while (0)

/* ---- engine ---- */

ps_status psd_new(ps_alloc_state *alloc, ps_dnnl **ret, ps_error *err) {
    ps_dnnl *d = ps_alloc_zero(alloc, sizeof *d);
    if (!d) return PS_FAIL_NOMEM(err, "the oneDNN engine");
    d->alloc = alloc;
    if (!ps_mutex_init(&d->lock)) {
        ps_free(alloc, d);
        return PS_FAIL_NOMEM(err, "a lock");
    }
    /* Our cache knows when a plan dies; oneDNN's own would keep every primitive ever made. */
    dnnl_set_primitive_cache_capacity(0);
    dnnl_status_t s = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (s != dnnl_success) {
        psd_free(d);
        return fail(err, s, "creating the CPU engine");
    }
    *ret = d;
    return PS_OK;
}

void psd_free(ps_dnnl *d) {
    if (!d) return;
    if (d->engine) dnnl_engine_destroy(d->engine);
    ps_mutex_destroy(&d->lock);
    ps_free(d->alloc, d);
}

const char *psd_version_text(char *buf, size_t size) {
    const dnnl_version_t *v = dnnl_version();
    ps_snprintf(buf, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return buf;
}

const char *psd_isa_text(void) {
    static const struct {
        int isa;
        const char *name;
    } names[] = {
        { dnnl_cpu_isa_sse41, "SSE41" },
        { dnnl_cpu_isa_avx, "AVX" },
        { dnnl_cpu_isa_avx2, "AVX2" },
        { dnnl_cpu_isa_avx2_vnni, "AVX2_VNNI" },
        { dnnl_cpu_isa_avx512_core, "AVX512_CORE" },
        { dnnl_cpu_isa_avx512_core_vnni, "AVX512_CORE_VNNI" },
        { dnnl_cpu_isa_avx512_core_bf16, "AVX512_CORE_BF16" },
        { dnnl_cpu_isa_avx512_core_amx, "AVX512_CORE_AMX" },
    };
    int isa = dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].isa == isa) return names[i].name;
    }
    return "other";
}

/* ---- descriptors ---- */

static dnnl_status_t md_make(const psd_md *m, md_t *ret) {
    dnnl_dims_t dims, strides;
    memset(dims, 0, sizeof dims);
    memset(strides, 0, sizeof strides);
    for (int i = 0; i < PSD_MAX_DIMS; i++) {
        dims[i] = m->dims[i];
        strides[i] = m->strides[i];
    }
#if V3
    if (m->any) return dnnl_memory_desc_create_with_tag(ret, (int)m->ndims, dims, dnnl_f32, dnnl_format_tag_any);
    return dnnl_memory_desc_create_with_strides(ret, (int)m->ndims, dims, dnnl_f32, strides);
#else
    if (m->any) return dnnl_memory_desc_init_by_tag(ret, (int)m->ndims, dims, dnnl_f32, dnnl_format_tag_any);
    return dnnl_memory_desc_init_by_strides(ret, (int)m->ndims, dims, dnnl_f32, strides);
#endif
}

static void md_drop(md_t *m, bool made) {
#if V3
    if (made) dnnl_memory_desc_destroy(*m);
#endif
}

static psd_md bias_md(const psd_desc *d) {
    psd_md m = { 0 };
    if (d->kind != PSD_MATMUL) {
        m.ndims = 1;
        m.dims[0] = d->dst.dims[1];
        m.strides[0] = 1;
        return m;
    }
    m.ndims = d->dst.ndims;
    for (int i = 0; i < m.ndims; i++)
        m.dims[i] = 1;
    m.dims[m.ndims - 1] = d->dst.dims[m.ndims - 1];
    for (int i = 0; i < m.ndims; i++)
        m.strides[i] = i == m.ndims - 1 ? 1 : m.dims[m.ndims - 1];
    return m;
}

/* ---- post-ops ---- */

static dnnl_status_t eltwise(dnnl_post_ops_t po, dnnl_alg_kind_t alg, float alpha, float beta) {
#if V3
    return dnnl_post_ops_append_eltwise(po, alg, alpha, beta);
#else
    return dnnl_post_ops_append_eltwise(po, 1.0f, alg, alpha, beta);
#endif
}

static dnnl_alg_kind_t binary_alg(int64_t kind) {
    switch (kind) {
    case PS_POST_ADD: return dnnl_binary_add;
    case PS_POST_SUB: return dnnl_binary_sub;
    case PS_POST_MUL: return dnnl_binary_mul;
    case PS_POST_DIV: return dnnl_binary_div;
    case PS_POST_MAX: return dnnl_binary_max;
    case PS_POST_MIN: return dnnl_binary_min;
    default: return dnnl_alg_kind_undef;
    }
}

static bool near(float a, float b) {
    return a > b - 1e-6f && a < b + 1e-6f;
}

bool psd_post_possible(const psd_post *p) {
    switch (p->kind) {
    case PSD_POST_SUM:
    case PS_POST_RELU:
    case PS_POST_LEAKY_RELU:
    case PS_POST_CLIP:
    case PS_POST_SIGMOID:
    case PS_POST_TANH:
    case PS_POST_HARD_SIGMOID:
    case PS_POST_SWISH:
    case PS_POST_GELU:
    case PS_POST_GELU_TANH:
    case PS_POST_EXP:
    case PS_POST_SQRT:
    case PS_POST_ABS:
    case PS_POST_LINEAR: return true;
    case PS_POST_HARD_SWISH: return V3 || (near(p->alpha, 1.0f / 6) && near(p->beta, 0.5f));
    default: return binary_alg(p->kind) != dnnl_alg_kind_undef;
    }
}

static dnnl_status_t append_post(dnnl_post_ops_t po, const psd_post *p) {
    dnnl_status_t s;
    switch (p->kind) {
    case PSD_POST_SUM:
#if V3
        return dnnl_post_ops_append_sum(po, 1.0f, 0, dnnl_data_type_undef);
#else
        return dnnl_post_ops_append_sum(po, 1.0f);
#endif
    case PS_POST_RELU: return eltwise(po, dnnl_eltwise_relu, 0, 0);
    case PS_POST_LEAKY_RELU: return eltwise(po, dnnl_eltwise_relu, p->alpha, 0);
    case PS_POST_CLIP: return eltwise(po, dnnl_eltwise_clip, p->alpha, p->beta);
    case PS_POST_SIGMOID: return eltwise(po, dnnl_eltwise_logistic, 0, 0);
    case PS_POST_TANH: return eltwise(po, dnnl_eltwise_tanh, 0, 0);
    case PS_POST_HARD_SIGMOID:
        s = eltwise(po, dnnl_eltwise_linear, p->alpha, p->beta);
        return s == dnnl_success ? eltwise(po, dnnl_eltwise_clip, 0, 1) : s;
    case PS_POST_HARD_SWISH: return eltwise(po, dnnl_eltwise_hardswish, p->alpha, p->beta);
    case PS_POST_SWISH: return eltwise(po, dnnl_eltwise_swish, p->alpha, 0);
    case PS_POST_GELU: return eltwise(po, dnnl_eltwise_gelu_erf, 0, 0);
    case PS_POST_GELU_TANH: return eltwise(po, dnnl_eltwise_gelu_tanh, 0, 0);
    case PS_POST_EXP: return eltwise(po, dnnl_eltwise_exp, 0, 0);
    case PS_POST_SQRT: return eltwise(po, dnnl_eltwise_sqrt, 0, 0);
    case PS_POST_ABS: return eltwise(po, dnnl_eltwise_abs, 0, 0);
    case PS_POST_LINEAR: return eltwise(po, dnnl_eltwise_linear, p->alpha, p->beta);
    default: break;
    }
    md_t m;
    s = md_make(&p->operand, &m);
    if (s != dnnl_success) return s;
    s = dnnl_post_ops_append_binary(po, binary_alg(p->kind), MD_ARG(m));
    md_drop(&m, true);
    return s;
}

/* oneDNN 2.6 keeps one code generator per elementwise algorithm and primitive: a second use with other parameters would
 * run with those of the first (two relu, of which one leaky). */
static bool same_generator_twice(const psd_post *a, const psd_post *b) {
    static const struct {
        int64_t kind;
        unsigned generators;
    } table[] = { { PS_POST_RELU, 1 },  { PS_POST_LEAKY_RELU, 1 },   { PS_POST_CLIP, 2 },       { PS_POST_LINEAR, 4 },
                  { PS_POST_SWISH, 8 }, { PS_POST_HARD_SIGMOID, 6 }, { PS_POST_HARD_SWISH, 16 } };
    unsigned x = 0, y = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].kind == a->kind) x = table[i].generators;
        if (table[i].kind == b->kind) y = table[i].generators;
    }
    return (x & y) && !(a->kind == b->kind && a->alpha == b->alpha && a->beta == b->beta);
}

/* Operands that oneDNN 2.6 broadcasts rightly: one number, one per channel (the last dim of a matrix), or the full
 * shape. Others, such as one per image and channel, are taken for one per channel. */
static bool operand_sound(const psd_desc *d, const psd_md *m) {
    int channel = d->kind == PSD_MATMUL ? (int)d->dst.ndims - 1 : 1;
    bool full = true, row = true;
    for (int i = 0; i < m->ndims; i++) {
        full = full && m->dims[i] == d->dst.dims[i];
        row = row && (m->dims[i] == 1 || (i == channel && m->dims[i] == d->dst.dims[i]));
    }
    return full || row;
}

static bool posts_sound(const psd_desc *d) {
    for (int64_t i = 0; i < d->n_posts; i++) {
        if (d->posts[i].operand.ndims && !operand_sound(d, &d->posts[i].operand)) return false;
        for (int64_t k = 0; k < i; k++) {
            if (same_generator_twice(&d->posts[k], &d->posts[i])) return false;
        }
    }
    return true;
}

/* Position of posts[i] in oneDNN's list: a hard sigmoid takes two places. */
static int post_position(const psd_desc *d, int64_t i) {
    int at = 0;
    for (int64_t k = 0; k < i; k++)
        at += d->posts[k].kind == PS_POST_HARD_SIGMOID ? 2 : 1;
    return at;
}

static dnnl_status_t make_attr(const psd_desc *d, dnnl_primitive_attr_t *ret) {
    dnnl_post_ops_t po = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(ret);
    if (s != dnnl_success) return s;
    s = dnnl_primitive_attr_set_scratchpad_mode(*ret, dnnl_scratchpad_mode_user);
    if (s == dnnl_success) s = dnnl_post_ops_create(&po);
    for (int64_t i = 0; i < d->n_posts && s == dnnl_success; i++)
        s = append_post(po, &d->posts[i]);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*ret, po);
    if (po) dnnl_post_ops_destroy(po);
    if (s != dnnl_success) dnnl_primitive_attr_destroy(*ret);
    return s;
}

/* ---- primitive descriptors ---- */

typedef struct mds {
    md_t src, weights, bias, dst;
    bool has_src, has_weights, has_bias, has_dst;
} mds;

static dnnl_status_t mds_make(const psd_desc *d, mds *m) {
    psd_md bias = bias_md(d);
    memset(m, 0, sizeof *m);
    dnnl_status_t s = md_make(&d->src, &m->src);
    m->has_src = s == dnnl_success;
    if (s == dnnl_success) s = md_make(&d->dst, &m->dst), m->has_dst = s == dnnl_success;
    if (s == dnnl_success && d->weights.ndims)
        s = md_make(&d->weights, &m->weights), m->has_weights = s == dnnl_success;
    if (s == dnnl_success && d->bias) s = md_make(&bias, &m->bias), m->has_bias = s == dnnl_success;
    return s;
}

static void mds_drop(mds *m) {
    md_drop(&m->src, m->has_src);
    md_drop(&m->weights, m->has_weights);
    md_drop(&m->bias, m->has_bias);
    md_drop(&m->dst, m->has_dst);
}

static void spatial(const int64_t from[3], int64_t minus, dnnl_dims_t to) {
    for (int i = 0; i < DNNL_MAX_NDIMS; i++)
        to[i] = i < 3 ? from[i] - minus : 0;
}

static dnnl_status_t make_pd(ps_dnnl *dn, const psd_desc *d, mds *m, dnnl_primitive_attr_t attr,
                             dnnl_primitive_desc_t *ret) {
    dnnl_dims_t stride, dilation, pad_l, pad_r, kernel;
    spatial(d->stride, 0, stride);
    spatial(d->dilation, 1, dilation); /* oneDNN counts the skipped elements */
    spatial(d->pad_begin, 0, pad_l);
    spatial(d->pad_end, 0, pad_r);
    spatial(d->kernel, 0, kernel);
    dnnl_prop_kind_t prop = dnnl_forward_inference;
    dnnl_alg_kind_t pool = d->kind == PSD_POOL_MAX      ? dnnl_pooling_max
                           : d->kind == PSD_POOL_AVG_IN ? dnnl_pooling_avg_include_padding
                                                        : dnnl_pooling_avg_exclude_padding;
#if V3
    md_t bias = d->bias ? m->bias : NULL;
    switch (d->kind) {
    case PSD_CONV:
        return dnnl_convolution_forward_primitive_desc_create(
            ret, dn->engine, prop, d->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct, m->src,
            m->weights, bias, m->dst, stride, dilation, pad_l, pad_r, attr);
    case PSD_DECONV:
        return dnnl_deconvolution_forward_primitive_desc_create(ret, dn->engine, prop, dnnl_deconvolution_direct,
                                                                m->src, m->weights, bias, m->dst, stride, dilation,
                                                                pad_l, pad_r, attr);
    case PSD_MATMUL: return dnnl_matmul_primitive_desc_create(ret, dn->engine, m->src, m->weights, bias, m->dst, attr);
    default:
        return dnnl_pooling_forward_primitive_desc_create(ret, dn->engine, prop, pool, m->src, m->dst, stride, kernel,
                                                          dilation, pad_l, pad_r, attr);
    }
#else
    const dnnl_memory_desc_t *bias = d->bias ? &m->bias : NULL;
    union {
        dnnl_convolution_desc_t conv;
        dnnl_deconvolution_desc_t deconv;
        dnnl_matmul_desc_t matmul;
        dnnl_pooling_v2_desc_t pool;
    } op;
    dnnl_status_t s;
    switch (d->kind) {
    case PSD_CONV:
        s = dnnl_dilated_convolution_forward_desc_init(
            &op.conv, prop, d->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct, &m->src, &m->weights,
            bias, &m->dst, stride, dilation, pad_l, pad_r);
        break;
    case PSD_DECONV:
        s = dnnl_dilated_deconvolution_forward_desc_init(&op.deconv, prop, dnnl_deconvolution_direct, &m->src,
                                                         &m->weights, bias, &m->dst, stride, dilation, pad_l, pad_r);
        break;
    case PSD_MATMUL: s = dnnl_matmul_desc_init(&op.matmul, &m->src, &m->weights, bias, &m->dst); break;
    default:
        s = dnnl_pooling_v2_forward_desc_init(&op.pool, prop, pool, &m->src, &m->dst, stride, kernel, dilation, pad_l,
                                              pad_r);
        break;
    }
    return s == dnnl_success ? dnnl_primitive_desc_create(ret, &op, attr, dn->engine, NULL) : s;
#endif
}

static cmd_t query_md(const psd_prim *p, dnnl_query_t what, int index) {
    return dnnl_primitive_desc_query_md(p->pd, what, index);
}

/* ---- the cache ---- */

static dnnl_status_t build(ps_dnnl *dn, psd_prim *p) {
    dnnl_primitive_attr_t attr;
    mds m;
    dnnl_status_t s = mds_make(&p->desc, &m);
    if (s == dnnl_success) s = make_attr(&p->desc, &attr);
    if (s == dnnl_success) {
        s = make_pd(dn, &p->desc, &m, attr, &p->pd);
        dnnl_primitive_attr_destroy(attr);
    }
    mds_drop(&m);
    if (s == dnnl_success) s = dnnl_primitive_create(&p->prim, p->pd);
    return s;
}

/* oneDNN 2.6's convolution by gemm (below AVX2, where channels are no multiple of 8) reads a full-size operand at wrong
 * places when channels lie innermost. */
static bool impl_sound(const psd_prim *p) {
    const psd_desc *d = &p->desc;
    if (d->kind != PSD_CONV && d->kind != PSD_DECONV) return true;
    if (!strstr(psd_prim_info(p), "gemm")) return true;
    for (int64_t i = 0; i < d->n_posts; i++) {
        const psd_md *m = &d->posts[i].operand;
        if (m->ndims && memcmp(m->dims, d->dst.dims, sizeof m->dims) == 0) return false;
    }
    return true;
}

static void destroy(psd_prim *p) {
    if (p->prim) dnnl_primitive_destroy(p->prim);
    if (p->pd) dnnl_primitive_desc_destroy(p->pd);
    ps_free(p->owner->alloc, p);
}

static psd_prim *lookup(ps_dnnl *d, const psd_desc *desc, uint64_t hash) {
    for (psd_prim *p = d->buckets[hash % BUCKETS]; p; p = p->next) {
        if (p->hash == hash && memcmp(&p->desc, desc, sizeof *desc) == 0) return p;
    }
    return NULL;
}

static ps_status create(ps_dnnl *d, const psd_desc *desc, uint64_t hash, psd_prim **ret, ps_error *err) {
    psd_prim *p = ps_alloc_zero(d->alloc, sizeof *p);
    if (!p) return PS_FAIL_NOMEM(err, "a primitive");
    p->owner = d;
    p->hash = hash;
    p->desc = *desc;
    dnnl_status_t s = build(d, p);
    if (s != dnnl_success) {
        destroy(p);
        *ret = NULL;
        /* invalid_arguments too: what we describe is checked against ONNX, but not every such thing is one for oneDNN
         */
        return s == dnnl_unimplemented || s == dnnl_invalid_arguments ? PS_OK : fail(err, s, "creating a primitive");
    }
    if (!impl_sound(p)) {
        destroy(p);
        *ret = NULL;
        return PS_OK;
    }
    p->next = d->buckets[hash % BUCKETS];
    d->buckets[hash % BUCKETS] = p;
    *ret = p;
    return PS_OK;
}

ps_status psd_prim_get(ps_dnnl *d, const psd_desc *desc, psd_prim **ret, ps_error *err) {
    uint64_t hash = ps_hash_bytes(desc, sizeof *desc, 0);
    ps_status status = PS_OK;
    *ret = NULL;
    if (!posts_sound(desc)) return PS_OK;
    ps_mutex_lock(&d->lock);
    *ret = lookup(d, desc, hash);
    if (!*ret) status = create(d, desc, hash, ret, err);
    if (*ret) (*ret)->refs++;
    ps_mutex_unlock(&d->lock);
    return status;
}

void psd_prim_release(psd_prim *p) {
    if (!p) return;
    ps_dnnl *d = p->owner;
    ps_mutex_lock(&d->lock);
    bool last = --p->refs == 0;
    if (last) {
        psd_prim **at = &d->buckets[p->hash % BUCKETS];
        while (*at != p)
            at = &(*at)->next;
        *at = p->next;
    }
    ps_mutex_unlock(&d->lock);
    if (last) destroy(p);
}

const char *psd_prim_info(const psd_prim *p) {
    const char *info = NULL;
    if (dnnl_primitive_desc_query(p->pd, dnnl_query_impl_info_str, 0, &info) != dnnl_success || !info) return "";
    return info;
}

bool psd_prim_is_slow(const psd_prim *p) {
    return strncmp(psd_prim_info(p), "ref", 3) == 0;
}

/* oneDNN does not tell. Measured as growth of resident memory per primitive, mean over the models of docs/testing.md
 * (oneDNN 2.6.3, AVX-512): 1x1 convolutions 74 KiB, depthwise 37, others 141, transposed 100, matrix products 82. */
static size_t resident_bytes(const psd_prim *p) {
    const char *info = psd_prim_info(p);
    switch (p->desc.kind) {
    case PSD_CONV: return (size_t)(strstr(info, "dw") ? 37 : strstr(info, "1x1") ? 74 : 141) << 10;
    case PSD_DECONV: return (size_t)100 << 10;
    case PSD_MATMUL: return (size_t)82 << 10;
    default: return (size_t)40 << 10;
    }
}

size_t psd_prim_charge(psd_prim *p) {
    ps_mutex_lock(&p->owner->lock);
    bool first = !p->charged;
    p->charged = true;
    ps_mutex_unlock(&p->owner->lock);
    return first ? resident_bytes(p) : 0;
}

size_t psd_prim_scratchpad(const psd_prim *p) {
    cmd_t m = query_md(p, dnnl_query_scratchpad_md, 0);
    return m ? dnnl_memory_desc_get_size(m) : 0;
}

size_t psd_prim_weights_size(const psd_prim *p) {
    return dnnl_memory_desc_get_size(query_md(p, dnnl_query_weights_md, 0));
}

/* Numbers that tell one layout of weights from another; returns how many, at most LAYOUT_WORDS. */
#define LAYOUT_WORDS (4 * DNNL_MAX_NDIMS + 1)

static size_t layout_words(cmd_t m, int64_t *words) {
    size_t n = 0;
#if V3
    int ndims = 0, nblks = 0;
    const dnnl_dims_t *strides = NULL, *padded = NULL, *blks = NULL, *idxs = NULL;
    dnnl_memory_desc_query(m, dnnl_query_ndims_s32, &ndims);
    dnnl_memory_desc_query(m, dnnl_query_strides, &strides);
    dnnl_memory_desc_query(m, dnnl_query_padded_dims, &padded);
    dnnl_memory_desc_query(m, dnnl_query_inner_nblks_s32, &nblks);
    dnnl_memory_desc_query(m, dnnl_query_inner_blks, &blks);
    dnnl_memory_desc_query(m, dnnl_query_inner_idxs, &idxs);
    words[n++] = ndims;
    for (int i = 0; i < ndims && strides && padded; i++)
        words[n++] = (*strides)[i], words[n++] = (*padded)[i];
    for (int i = 0; i < nblks && blks && idxs; i++)
        words[n++] = (*blks)[i], words[n++] = (*idxs)[i];
#else
    const dnnl_blocking_desc_t *b = &m->format_desc.blocking;
    words[n++] = m->ndims;
    if (m->format_kind != dnnl_blocked) return n; /* a union: no such fields */
    for (int i = 0; i < m->ndims; i++)
        words[n++] = b->strides[i], words[n++] = m->padded_dims[i];
    for (int i = 0; i < b->inner_nblks; i++)
        words[n++] = b->inner_blks[i], words[n++] = b->inner_idxs[i];
#endif
    return n;
}

/* Hashes, not text: it has to fit and must not fail, for a key that is cut short would hand out the weights of another
 * layout. */
void psd_prim_weights_key(const psd_prim *p, const psd_md *from, char *buf, size_t size) {
    int64_t words[LAYOUT_WORDS];
    cmd_t m = query_md(p, dnnl_query_weights_md, 0);
    size_t n = layout_words(m, words) * sizeof *words;
    uint64_t source = ps_hash_bytes(from, sizeof *from, 0);
    uint64_t low = ps_hash_bytes(words, n, source), high = ps_hash_bytes(words, n, source + 1);
#if !V3
    if (m->format_kind != dnnl_blocked) { /* winograd and other opaque layouts: by their bytes */
        low = ps_hash_bytes(&m->format_desc, sizeof m->format_desc, source + (uint64_t)m->format_kind);
    }
#endif
    ps_snprintf(buf, size, "dnnl %016llx%016llx", (unsigned long long)high, (unsigned long long)low);
}

ps_status psd_pack(ps_dnnl *d, const psd_prim *p, const psd_md *from, const void *src, void *dst, ps_error *err) {
    md_t from_md;
    dnnl_memory_t a = NULL, b = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = NULL; /* its own: two models may be packed at once */
    cmd_t to = query_md(p, dnnl_query_weights_md, 0);
    dnnl_status_t s = md_make(from, &from_md);
    if (s != dnnl_success) return fail(err, s, "describing weights");
    s = dnnl_memory_create(&a, MD_ARG(from_md), d->engine, (void *)src);
    if (s == dnnl_success) s = dnnl_memory_create(&b, to, d->engine, dst);
    if (s == dnnl_success) s = dnnl_reorder_primitive_desc_create(&pd, MD_ARG(from_md), d->engine, to, d->engine, NULL);
    if (s == dnnl_success) s = dnnl_primitive_create(&reorder, pd);
    if (s == dnnl_success) s = dnnl_stream_create(&stream, d->engine, dnnl_stream_default_flags);
    if (s == dnnl_success) {
        dnnl_exec_arg_t args[2] = { { DNNL_ARG_FROM, a }, { DNNL_ARG_TO, b } };
        s = dnnl_primitive_execute(reorder, stream, 2, args);
        if (s == dnnl_success) s = dnnl_stream_wait(stream);
    }
    if (stream) dnnl_stream_destroy(stream);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (a) dnnl_memory_destroy(a);
    if (b) dnnl_memory_destroy(b);
    md_drop(&from_md, true);
    return s == dnnl_success ? PS_OK : fail(err, s, "packing weights");
}

/* ---- execution ---- */

static dnnl_status_t add_arg(ps_dnnl *d, psd_exec *x, int arg, cmd_t md, int post) {
    dnnl_status_t s = dnnl_memory_create(&x->args[x->n].memory, md, d->engine, DNNL_MEMORY_NONE);
    if (s != dnnl_success) return s;
    x->args[x->n].arg = arg;
    x->post[x->n++] = post;
    return s;
}

static dnnl_status_t add_operand(ps_dnnl *d, psd_exec *x, const psd_desc *desc, int post) {
    md_t m;
    dnnl_status_t s = md_make(&desc->posts[post].operand, &m);
    if (s != dnnl_success) return s;
    s = add_arg(d, x, DNNL_ARG_ATTR_MULTIPLE_POST_OP(post_position(desc, post)) | DNNL_ARG_SRC_1, MD_ARG(m), post);
    md_drop(&m, true);
    return s;
}

ps_status psd_exec_new(ps_dnnl *d, const psd_prim *p, ps_alloc_state *alloc, psd_exec **ret, ps_error *err) {
    psd_exec *x = ps_alloc_zero(alloc, sizeof *x);
    if (!x) return PS_FAIL_NOMEM(err, "a primitive's memory objects");
    x->prim = p;
    dnnl_status_t s = dnnl_stream_create(&x->stream, d->engine, dnnl_stream_default_flags);
    if (s == dnnl_success) s = add_arg(d, x, DNNL_ARG_SRC, query_md(p, dnnl_query_src_md, 0), -1);
    if (s == dnnl_success) s = add_arg(d, x, DNNL_ARG_DST, query_md(p, dnnl_query_dst_md, 0), -1);
    if (s == dnnl_success && p->desc.weights.ndims)
        s = add_arg(d, x, DNNL_ARG_WEIGHTS, query_md(p, dnnl_query_weights_md, 0), -1);
    if (s == dnnl_success && p->desc.bias) s = add_arg(d, x, DNNL_ARG_BIAS, query_md(p, dnnl_query_weights_md, 1), -1);
    if (s == dnnl_success && psd_prim_scratchpad(p)) {
        s = add_arg(d, x, DNNL_ARG_SCRATCHPAD, query_md(p, dnnl_query_scratchpad_md, 0), -1);
    }
    for (int i = 0; i < p->desc.n_posts && s == dnnl_success; i++) {
        if (p->desc.posts[i].operand.ndims) s = add_operand(d, x, &p->desc, i);
    }
    if (s != dnnl_success) {
        psd_exec_free(x, alloc);
        return fail(err, s, "creating memory objects");
    }
    *ret = x;
    return PS_OK;
}

void psd_exec_free(psd_exec *x, ps_alloc_state *alloc) {
    if (!x) return;
    for (int i = 0; i < x->n; i++)
        dnnl_memory_destroy(x->args[i].memory);
    if (x->stream) dnnl_stream_destroy(x->stream);
    ps_free(alloc, x);
}

static void *pick(const psd_exec *x, int i, const psd_args *a) {
    if (x->post[i] >= 0) return (void *)a->operands[x->post[i]];
    switch (x->args[i].arg) {
    case DNNL_ARG_SRC: return (void *)a->src;
    case DNNL_ARG_WEIGHTS: return (void *)a->weights;
    case DNNL_ARG_BIAS: return (void *)a->bias;
    case DNNL_ARG_DST: return a->dst;
    default: return a->scratchpad;
    }
}

ps_status psd_exec_run(psd_exec *x, const psd_args *args, ps_error *err) {
    for (int i = 0; i < x->n; i++) {
        DNNL_TRY(dnnl_memory_set_data_handle(x->args[i].memory, pick(x, i, args)), "setting an address");
    }
    DNNL_TRY(dnnl_primitive_execute(x->prim->prim, x->stream, x->n, x->args), "running a primitive");
    return PS_OK;
}

ps_status psd_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc, ps_error *err) {
    if (m == 0 || n == 0) return PS_OK;
    DNNL_TRY(dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc),
             "sgemm");
    return PS_OK;
}

#endif
