/* dnnl_adapter.h - the one place that talks to oneDNN; API 2.6 (Debian 12) and 3.x (Debian 13) behind the same
 * functions.
 *
 * Everything is f32. A psd_prim is an immutable primitive with user-mode scratchpad, shared by plans and threads
 * through a cache keyed by its description; a psd_exec holds the memory objects of one session. Memory is given by dims
 * and strides, so that both layouts of ours can be said; weights may be left to oneDNN ("any") and are then packed with
 * psd_pack. */
#ifndef PS_BACKEND_CPU_DNNL_ADAPTER_H
#define PS_BACKEND_CPU_DNNL_ADAPTER_H

#include "backend/backend.h"

#define PSD_MAX_DIMS PS_MAX_RANK
#define PSD_MAX_ARGS (8 + PS_MAX_POSTS)

typedef struct ps_dnnl ps_dnnl; /* engine and primitive cache; thread-safe */
typedef struct psd_prim psd_prim;
typedef struct psd_exec psd_exec;

/* Zero-initialise; compared bytewise as cache key. */
typedef struct psd_md {
    int64_t ndims;
    int64_t dims[PSD_MAX_DIMS], strides[PSD_MAX_DIMS];
    int64_t any; /* 1: strides are oneDNN's to choose */
} psd_md;

typedef enum psd_kind { PSD_CONV = 1, PSD_DECONV, PSD_MATMUL, PSD_POOL_MAX, PSD_POOL_AVG_IN, PSD_POOL_AVG_EX } psd_kind;

typedef struct psd_post {
    int64_t kind; /* ps_post_kind; PSD_POST_SUM adds what lies in dst */
    float alpha, beta;
    psd_md operand; /* binary kinds */
} psd_post;

#define PSD_POST_SUM 1000

typedef struct psd_desc {
    int64_t kind, threads;
    psd_md src, weights, dst; /* matmul: a, b, c; weights unused by pools; grouped weights have a leading group dim */
    int64_t bias;             /* 1: [dst.dims[1]], for matmul [1, .., N] */
    int64_t winograd;
    int64_t kernel[3], stride[3], dilation[3], pad_begin[3], pad_end[3]; /* dilation 1 = none */
    int64_t n_posts;
    psd_post posts[PS_MAX_POSTS];
} psd_desc;

ps_status psd_new(ps_alloc_state *alloc, ps_dnnl **ret, ps_error *err);
void psd_free(ps_dnnl *d);
/* "oneDNN 2.6.3"; buf is returned. */
const char *psd_version_text(char *buf, size_t size);
/* Highest instruction set oneDNN will use, "AVX512_CORE_VNNI". */
const char *psd_isa_text(void);
/* Can this post-op (with its operand described) be said to oneDNN at all? */
bool psd_post_possible(const psd_post *p);

/* The primitive for desc, from the cache or created. *ret is NULL with PS_OK when oneDNN has no implementation. */
ps_status psd_prim_get(ps_dnnl *d, const psd_desc *desc, psd_prim **ret, ps_error *err);
void psd_prim_release(psd_prim *p);           /* NULL is allowed */
const char *psd_prim_info(const psd_prim *p); /* "brgconv:avx512_core" */
bool psd_prim_is_slow(const psd_prim *p);     /* a reference implementation */
/* Resident bytes of the primitive (descriptor and generated code, an estimate) for the first who asks, 0 for all
 * others: plans share primitives, and the plan that made one is charged for it. */
size_t psd_prim_charge(psd_prim *p);
size_t psd_prim_scratchpad(const psd_prim *p);
/* Bytes of weights as the primitive wants them, and a name of that layout for the weight store: it tells how the
 * weights lie in the model too, for one square matrix can be read as it is and transposed. */
size_t psd_prim_weights_size(const psd_prim *p);
void psd_prim_weights_key(const psd_prim *p, const psd_md *from, char *buf, size_t size);
/* Converts plain f32 weights, lying as `from` says, into the primitive's layout at dst. */
ps_status psd_pack(ps_dnnl *d, const psd_prim *p, const psd_md *from, const void *src, void *dst, ps_error *err);

typedef struct psd_args {
    const void *src, *weights, *bias;
    void *dst, *scratchpad;
    const void *operands[PS_MAX_POSTS]; /* by index into desc.posts; binary ones only */
} psd_args;

ps_status psd_exec_new(ps_dnnl *d, const psd_prim *p, ps_alloc_state *alloc, psd_exec **ret, ps_error *err);
void psd_exec_free(psd_exec *x, ps_alloc_state *alloc);
ps_status psd_exec_run(psd_exec *x, const psd_args *args, ps_error *err);

/* c[m][n] = alpha a b + beta c, row-major with leading dims; on the calling thread's team (one thread inside a
 * parallel-for). */
ps_status psd_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc, ps_error *err);

#endif
