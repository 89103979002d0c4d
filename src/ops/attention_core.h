/* attention_core.h - scaled dot-product attention over dense heads: what every attention operator comes down to.
 *
 * An operator loads its inputs into dense arrays of doubles, says what is masked, and ps_attn_run does the rest. Not
 * for backends: this is the oracle. */
#ifndef PS_OPS_ATTENTION_CORE_H
#define PS_OPS_ATTENTION_CORE_H

#include "ops/kernel_util.h"

/* Element (b, h, s, d) of a tensor at first + b * batch_step + h * head_step + s * row_step + d. */
typedef struct ps_heads {
    const ps_tensor *tensor;
    int64_t batch, heads, rows, depth;
    int64_t first, batch_step, head_step, row_step;
} ps_heads;

ps_heads ps_heads_4d(const ps_tensor *t);                /* [B, H, S, D] */
ps_heads ps_heads_3d(const ps_tensor *t, int64_t heads); /* [B, S, H*D] */
/* Room for [batch, heads, rows, depth] doubles, cleared. */
ps_status ps_heads_alloc(ps_alloc_state *alloc, int64_t batch, int64_t heads, int64_t rows, int64_t depth, double **ret,
                         ps_error *err);
/* Copies into dst [batch, heads, total, depth] from row `at` on. */
void ps_heads_load(const ps_heads *h, double *dst, int64_t total, int64_t at);

typedef struct ps_attn ps_attn;
/* Adds to `bias` (one entry a key) for one query; -inf hides a key. */
typedef void (*ps_attn_mask_fn)(const ps_attn *a, int64_t batch, int64_t head, int64_t row, double *bias);

/* Which state of the scores goes to `scores`. */
typedef enum ps_attn_stage { PS_ATTN_RAW, PS_ATTN_CAPPED, PS_ATTN_BIASED, PS_ATTN_SOFTMAX } ps_attn_stage;

struct ps_attn {
    int64_t batch, heads, kv_heads, rows, cols, depth, depth_v; /* query head h reads key head h / (heads / kv_heads) */
    double *q;     /* [batch, heads, rows, depth]; these three are freed by ps_attn_free */
    double *k, *v; /* [batch, kv_heads, cols, depth or depth_v] */
    double scale;
    double softcap;        /* 0: none */
    ps_dtype type;         /* intermediate results are rounded to it; f32 and f64 are left in double */
    ps_dtype softmax_type; /* the same of the softmax */
    const ps_tensor *bias; /* numbers to add, or bool: false hides; may be narrower than cols: the rest is hidden */
    ps_bcast bias_view;    /* over [batch, heads, rows, columns of the bias] */
    ps_attn_mask_fn mask;  /* may be NULL */
    const void *mask_arg;  /* for it */
    const double *sink;    /* one logit per head that takes part in the softmax and has no value, or NULL */
    bool smooth;           /* the same with a logit of 0 */
    ps_tensor *y;          /* written at b * y_batch + h * y_head + i * y_row */
    int64_t y_batch, y_head, y_row;
    ps_tensor *scores; /* [batch, heads, rows, cols] or NULL */
    ps_attn_stage stage;
    double *scratch;
};

/* y is [B, H, S, D] or [B, S, H*D]. */
void ps_attn_output_4d(ps_attn *a, ps_tensor *y);
void ps_attn_output_3d(ps_attn *a, ps_tensor *y);
/* The bias broadcasts, right-aligned, to [batch, heads, rows, cols]; its last dim may be shorter. */
ps_status ps_attn_set_bias(ps_attn *a, const ps_node *node, const ps_tensor *bias, ps_error *err);
/* A query that may see no key at all gives zeros. */
ps_status ps_attn_run(ps_attn *a, const ps_kernel_ctx *ctx, ps_error *err);
void ps_attn_free(ps_attn *a, ps_alloc_state *alloc);
/* Rotates the first `width` numbers of a head, in place: pairs (i, i + width/2), or neighbours where interleaved.
 * cosine and sine hold width/2 numbers. */
void ps_rotate(double *x, const double *cosine, const double *sine, int64_t width, bool interleaved);
/* Rounds n numbers to a type and back; nothing for f32 and f64. */
void ps_round_row(ps_dtype type, double *x, int64_t n);

#endif
