/* chain.c - see chain.h. Tiles of the innermost dim pass through all post-ops while they are in the first-level cache.
 */
#include "backend/cpu/chain.h"

#define TILE 1024

typedef struct chain_job {
    const ps_chain *c;
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
    const ps_chain *c = job->c;
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
    const ps_chain *c = job->c;
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

static chain_job job_of(const ps_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in) {
    chain_job job = { .c = c, .simd = simd, .x = x, .out = out };
    for (int k = 0; k < c->n; k++) {
        if (ps_post_is_binary(c->posts[k].kind)) job.operands[k] = in[c->posts[k].operand];
    }
    return job;
}

void cpu_chain_span(const ps_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in, int64_t begin,
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

void cpu_chain_run(const ps_chain *c, const ps_simd *simd, const float *x, float *out, void *const *in) {
    chain_job job = job_of(c, simd, x, out, in);
    int64_t rows = 1, row = c->dims[c->rank - 1];
    for (int d = 0; d < c->rank - 1; d++)
        rows *= c->dims[d];
    if (rows * row == 0) return;
    job.tiles = (row + TILE - 1) / TILE;
    int64_t per_item = row < TILE ? row : TILE;
    ps_parallel_for(rows * job.tiles, 1 + 8192 / per_item, c->threads, run_range, &job);
}
