/* chain.c - see chain.h. Tiles of the innermost dim pass through all post-ops while they are in the first-level cache.
 */
#include "backend/cpu/chain.h"

#define TILE 1024

bool cpu_broadcast_strides(const ps_shape *shape, ps_layout layout, const ps_shape *out, int64_t strides[PS_MAX_RANK]) {
    int64_t own[PS_MAX_RANK];
    int shift = out->rank - shape->rank;
    if (shift < 0) return false;
    ps_layout_strides(shape, layout, own);
    for (int i = 0; i < out->rank; i++) {
        strides[i] = 0;
        if (i < shift || shape->dims[i - shift] == 1) continue;
        if (shape->dims[i - shift] != out->dims[i]) return false;
        strides[i] = own[i - shift];
    }
    return true;
}

bool cpu_layout_fits(const ps_shape *shape, ps_layout layout, ps_layout out_layout) {
    return layout == out_layout || ps_layout_same(shape);
}

static void memory_axes(int rank, ps_layout layout, int *order) {
    int n = 0;
    for (int i = 0; i < rank; i++) {
        if (i == 1 && layout == PS_LAYOUT_CHANNELS_LAST) continue;
        order[n++] = i;
    }
    if (n < rank) order[n] = 1;
}

static bool mergeable(int64_t outer, const int64_t *strides, int at, int64_t inner_dim) {
    return outer == strides[at] * inner_dim;
}

/* Appends the dim (strides of x and all operands over axis a), merging it into the one before where all agree. */
static void append_dim(cpu_chain *c, int64_t dim, const int64_t *x, int64_t (*ops)[PS_MAX_RANK], int a) {
    int last = c->rank - 1;
    bool merge = last >= 0 && mergeable(c->x[last], x, a, dim);
    for (int i = 0; i < c->n && merge; i++)
        merge = mergeable(c->operand[i][last], ops[i], a, dim);
    if (!merge) last = c->rank++;
    c->dims[last] = merge ? c->dims[last] * dim : dim;
    c->x[last] = x[a];
    for (int i = 0; i < c->n; i++)
        c->operand[i][last] = ops[i][a];
}

bool cpu_chain_init(cpu_chain *c, const ps_node *node, const ps_post *posts, int n, const ps_shape *start,
                    ps_layout start_layout, const ps_layout *in_layout, const ps_shape *out, ps_layout out_layout,
                    int threads) {
    int64_t x[PS_MAX_RANK] = { 0 }, ops[PS_MAX_POSTS][PS_MAX_RANK] = { { 0 } };
    int order[PS_MAX_RANK + 1];
    memset(c, 0, sizeof *c);
    c->n = n;
    c->threads = threads;
    if (!cpu_broadcast_strides(start, start_layout, out, x)) return false;
    for (int i = 0; i < n; i++) {
        c->posts[i] = posts[i];
        if (!ps_post_is_binary(posts[i].kind)) continue;
        int k = posts[i].operand;
        if (node->in[k]->dtype != PS_DTYPE_F32) return false;
        if (!cpu_broadcast_strides(&node->in[k]->shape, in_layout[k], out, ops[i])) return false;
    }
    memory_axes(out->rank, out_layout, order);
    for (int i = 0; i < out->rank; i++) {
        if (out->dims[order[i]] != 1) append_dim(c, out->dims[order[i]], x, ops, order[i]);
    }
    if (c->rank == 0) {
        c->rank = 1;
        c->dims[0] = 1;
    }
    return true;
}

/* ---- running ---- */

typedef struct chain_job {
    const cpu_chain *c;
    const ps_simd *simd;
    const float *x;
    float *out;
    const float *operands[PS_MAX_POSTS];
    int64_t tiles; /* per innermost row */
} chain_job;

/* The tile's operand as a vector of n, gathered if it is strided. */
static const float *operand_tile(const float *p, int64_t stride, int64_t n, float *buf) {
    if (stride == 1) return p;
    for (int64_t i = 0; i < n; i++)
        buf[i] = p[i * stride];
    return buf;
}

static void apply(const ps_simd *v, const ps_post *p, const float *src, const float *operand, int64_t stride,
                  float *dst, int64_t n, float *buf) {
    if (!operand)
        v->unary(p->kind, src, dst, n, p->alpha, p->beta);
    else if (stride == 0)
        v->binary_scalar(p->kind, src, *operand, dst, n);
    else
        v->binary(p->kind, src, operand_tile(operand, stride, n, buf), dst, n);
}

static void run_tile(const chain_job *job, const int64_t *index, int64_t begin, int64_t n, int64_t out_at) {
    const cpu_chain *c = job->c;
    float buf[TILE];
    int last = c->rank - 1;
    int64_t at = begin * c->x[last];
    for (int d = 0; d < last; d++)
        at += index[d] * c->x[d];
    const float *src = job->x + at;
    float *dst = job->out + out_at;
    if (c->x[last] == 0) {
        job->simd->fill(dst, *src, n);
        src = dst;
    } else if (c->x[last] != 1) {
        for (int64_t i = 0; i < n; i++)
            dst[i] = src[i * c->x[last]];
        src = dst;
    }
    for (int k = 0; k < c->n; k++) {
        const float *operand = job->operands[k];
        if (operand) {
            operand += begin * c->operand[k][last];
            for (int d = 0; d < last; d++)
                operand += index[d] * c->operand[k][d];
        }
        apply(job->simd, &c->posts[k], src, operand, c->operand[k][last], dst, n, buf);
        src = dst;
    }
    if (c->n == 0 && src != dst) memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void run_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const chain_job *job = ctx;
    const cpu_chain *c = job->c;
    int last = c->rank - 1;
    int64_t index[PS_MAX_RANK] = { 0 };
    int64_t tile = begin % job->tiles, row = begin / job->tiles, rem = row;
    for (int d = last - 1; d >= 0; d--) {
        index[d] = rem % c->dims[d];
        rem /= c->dims[d];
    }
    for (int64_t item = begin; item < end; item++) {
        int64_t from = tile * TILE, n = c->dims[last] - from < TILE ? c->dims[last] - from : TILE;
        run_tile(job, index, from, n, row * c->dims[last] + from);
        if (++tile < job->tiles) continue;
        tile = 0;
        row++;
        for (int d = last - 1; d >= 0 && ++index[d] == c->dims[d]; d--)
            index[d] = 0;
    }
}

static chain_job job_of(const cpu_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in) {
    chain_job job = { .c = c, .simd = simd, .x = x, .out = out };
    for (int k = 0; k < c->n; k++) {
        if (ps_post_is_binary(c->posts[k].kind)) job.operands[k] = in[c->posts[k].operand];
    }
    return job;
}

void cpu_chain_span(const cpu_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in, int64_t begin,
                    int64_t n) {
    chain_job job = job_of(c, simd, x, out, in);
    int64_t row = c->dims[c->rank - 1], end = begin + n;
    for (int64_t at = begin, count; at < end; at += count) {
        int64_t index[PS_MAX_RANK], rem = at / row, from = at % row;
        for (int d = c->rank - 2; d >= 0; d--) {
            index[d] = rem % c->dims[d];
            rem /= c->dims[d];
        }
        count = row - from < TILE ? row - from : TILE;
        if (count > end - at) count = end - at;
        run_tile(&job, index, from, count, at);
    }
}

void cpu_chain_run(const cpu_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in) {
    chain_job job = job_of(c, simd, x, out, in);
    int64_t rows = 1, row = c->dims[c->rank - 1];
    for (int d = 0; d < c->rank - 1; d++)
        rows *= c->dims[d];
    if (rows * row == 0) return;
    job.tiles = (row + TILE - 1) / TILE;
    int64_t per_item = row < TILE ? row : TILE;
    ps_parallel_for(rows * job.tiles, 1 + 8192 / per_item, c->threads, run_range, &job);
}
