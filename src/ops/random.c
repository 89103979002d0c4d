/* random.c - RandomUniform, RandomNormal and their Like forms, Bernoulli, Multinomial, Dropout.
 *
 * See random.h for where the numbers come from. Source: ONNX operator specs, opsets 1 to 22. */
#include "ops/random.h"

#include <math.h>

#include "base/os.h"
#include "ops/kernel_util.h"
#include "ops/move.h"
#include "tensor/convert.h"

#define PI 3.14159265358979323846

/* ---- the generator ---- */
void ps_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t ret[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    memcpy(ret, counter, 4 * sizeof *ret);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * ret[0], b = (uint64_t)0xCD9E8D57 * ret[2];
        uint32_t next[4] = { (uint32_t)(b >> 32) ^ ret[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ ret[3] ^ k1,
                             (uint32_t)a };
        memcpy(ret, next, sizeof next);
        k0 += 0x9E3779B9; /* the golden ratio */
        k1 += 0xBB67AE85; /* sqrt(3) - 1 */
    }
}

ps_status ps_random_init(ps_random *r, const ps_node *node, ps_error *err) {
    const ps_attr *seed = ps_node_attr(node, "seed");
    *r = (ps_random) { { 0, 0 }, { 0, 0 } };
    if (!seed) return ps_random_bytes(r, sizeof *r, err);
    PS_FAIL_IF(seed->type != PS_ATTR_FLOAT && seed->type != PS_ATTR_INT, err, FORMAT,
               "%s: attribute 'seed' is no number", PS_LABEL(node));
    if (seed->type == PS_ATTR_FLOAT) {
        memcpy(&r->key[0], &seed->u.f, sizeof r->key[0]);
    } else {
        r->key[0] = (uint32_t)(uint64_t)seed->u.i;
        r->key[1] = (uint32_t)((uint64_t)seed->u.i >> 32);
    }
    return PS_OK;
}

/* Two numbers in [0, 1) from block k. */
static void uniform_pair(const ps_random *r, uint64_t k, double ret[2]) {
    uint32_t counter[4] = { (uint32_t)k, (uint32_t)(k >> 32), r->high[0], r->high[1] }, word[4];
    ps_philox(r->key, counter, word);
    for (int i = 0; i < 2; i++)
        ret[i] = (double)(((uint64_t)word[2 * i + 1] << 32 | word[2 * i]) >> 11) * 0x1p-53;
}

double ps_random_uniform(const ps_random *r, uint64_t k) {
    double u[2];
    uniform_pair(r, k, u);
    return u[0];
}

/* Box and Muller, "A note on the generation of random normal deviates", 1958. */
double ps_random_normal(const ps_random *r, uint64_t k) {
    double u[2];
    uniform_pair(r, k, u);
    return sqrt(-2 * log(1 - u[0])) * cos(2 * PI * u[1]);
}

/* ---- RandomUniform, RandomNormal ---- */
typedef struct draw_params {
    ps_ints shape;
    int64_t dtype;
    float a, b; /* low and high, or mean and scale */
} draw_params;

#define DRAW_ATTRS(first, first_default, second)                                                                       \
    { #first, PS_ATTR_FLOAT, offsetof(draw_params, a), 0, first_default, NULL, 0 }, {                                  \
#second, PS_ATTR_FLOAT, offsetof(draw_params, b), 0, 1, NULL, 0                                                \
    }
#define DRAW_SHAPE                                                                                                     \
    { "shape", PS_ATTR_INTS, offsetof(draw_params, shape), 0, 0, NULL, PS_ATTR_REQUIRED }

static const ps_attr_def uniform_attrs[] = { PS_A_INT(draw_params, dtype, PS_DTYPE_F32), DRAW_SHAPE,
                                             DRAW_ATTRS(low, 0, high), PS_ATTRS_END };
static const ps_attr_def normal_attrs[] = { PS_A_INT(draw_params, dtype, PS_DTYPE_F32), DRAW_SHAPE,
                                            DRAW_ATTRS(mean, 0, scale), PS_ATTRS_END };
static const ps_attr_def uniform_like_attrs[] = { PS_A_INT(draw_params, dtype, 0), DRAW_ATTRS(low, 0, high),
                                                  PS_ATTRS_END };
static const ps_attr_def normal_like_attrs[] = { PS_A_INT(draw_params, dtype, 0), DRAW_ATTRS(mean, 0, scale),
                                                 PS_ATTRS_END };

static ps_status float_attr(const ps_node *node, int64_t value, ps_dtype *ret, ps_error *err) {
    *ret = value > 0 && value < PS_DTYPE_COUNT ? (ps_dtype)value : PS_DTYPE_UNDEFINED;
    PS_FAIL_IF(!ps_dtype_is_float(*ret), err, TYPE, "%s: dtype is %lld, it must be a float type", PS_LABEL(node),
               (long long)value);
    return PS_OK;
}

static ps_status draw_infer(const ps_node *node, ps_error *err) {
    const draw_params *p = node->params;
    ps_dtype dtype;
    PS_TRY(float_attr(node, p->dtype, &dtype, err));
    PS_FAIL_IF(p->shape.n > PS_MAX_RANK, err, LIMIT, "%s: shape has %zu entries, at most %d are supported",
               PS_LABEL(node), p->shape.n, PS_MAX_RANK);
    ps_shape y = ps_shape_make((int)p->shape.n, p->shape.data);
    for (int d = 0; d < y.rank; d++)
        PS_FAIL_IF(y.dims[d] < 0, err, SHAPE, "%s: shape[%d] is %lld", PS_LABEL(node), d, (long long)y.dims[d]);
    return ps_infer_checked(node, 0, dtype, &y, err);
}

static ps_status like_infer(const ps_node *node, ps_error *err) {
    const draw_params *p = node->params;
    ps_dtype dtype = node->in[0]->dtype;
    if (p->dtype || dtype != PS_DTYPE_UNDEFINED)
        PS_TRY(float_attr(node, p->dtype ? p->dtype : (int64_t)dtype, &dtype, err));
    return ps_infer_checked(node, 0, dtype, &node->in[0]->shape, err);
}

typedef struct draw_job {
    const ps_kernel_ctx *ctx;
    ps_random random;
    bool normal;
} draw_job;

static void draw_range(void *ctx, int64_t begin, int64_t end, int thread) {
    const draw_job *job = ctx;
    const draw_params *p = job->ctx->params;
    ps_tensor *out = job->ctx->out[0];
    double a = (double)p->a, b = (double)p->b;
    (void)thread;
    for (int64_t k = begin; k < end; k++) {
        double v = job->normal ? a + b * ps_random_normal(&job->random, (uint64_t)k)
                               : a + (b - a) * ps_random_uniform(&job->random, (uint64_t)k);
        ps_row_store(out->data, out->dtype, k, 1, &v, 1);
    }
}

static ps_status draw(const ps_kernel_ctx *ctx, bool normal, ps_error *err) {
    draw_job job = { .ctx = ctx, .normal = normal };
    PS_TRY(ps_random_init(&job.random, ctx->node, err));
    ps_parallel_for((int64_t)ps_tensor_count(ctx->out[0]), 4096, ctx->threads, draw_range, &job);
    return PS_OK;
}

static ps_status uniform_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return draw(ctx, false, err);
}

static ps_status normal_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    return draw(ctx, true, err);
}

/* ---- Bernoulli ---- */
static const ps_attr_def bernoulli_attrs[] = { PS_A_INT(draw_params, dtype, 0), PS_ATTRS_END };

static ps_status bernoulli_infer(const ps_node *node, ps_error *err) {
    const draw_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    ps_dtype dtype = p->dtype ? (ps_dtype)p->dtype : node->in[0]->dtype;
    bool number = p->dtype >= 0 && p->dtype < PS_DTYPE_COUNT &&
                  (ps_dtype_is_float(dtype) || ps_dtype_is_int(dtype) || dtype == PS_DTYPE_BOOL || !p->dtype);
    PS_FAIL_IF(!number, err, TYPE, "%s: dtype is %lld, it must be a number or bool", PS_LABEL(node),
               (long long)p->dtype);
    return ps_infer_checked(node, 0, dtype, &node->in[0]->shape, err);
}

static ps_status bernoulli_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0], *out = ctx->out[0];
    int64_t n = (int64_t)ps_tensor_count(x);
    ps_random random;
    PS_TRY(ps_random_init(&random, ctx->node, err));
    for (int64_t k = 0; k < n; k++) {
        double p;
        ps_row_load(&p, x->dtype, x->data, k, 1, 1);
        PS_FAIL_IF(!(p >= 0 && p <= 1), err, INVALID, "%s: probability %lld is %g, outside [0, 1]", PS_LABEL(ctx->node),
                   (long long)k, p);
        double v = ps_random_uniform(&random, (uint64_t)k) < p;
        ps_row_store(out->data, out->dtype, k, 1, &v, 1);
    }
    return PS_OK;
}

/* ---- Multinomial ---- */
typedef struct multinomial_params {
    int64_t dtype, sample_size;
} multinomial_params;

static const ps_attr_def multinomial_attrs[] = {
    PS_A_INT(multinomial_params, dtype, PS_DTYPE_I32),
    PS_A_INT(multinomial_params, sample_size, 1),
    PS_ATTRS_END,
};

static ps_status multinomial_infer(const ps_node *node, ps_error *err) {
    const multinomial_params *p = node->params;
    PS_TRY(ps_check_float(node, 0, err));
    PS_TRY(ps_check_rank(node, 0, 2, err));
    PS_FAIL_IF(p->dtype != PS_DTYPE_I32 && p->dtype != PS_DTYPE_I64, err, TYPE,
               "%s: dtype is %lld, it must be i32 or i64", PS_LABEL(node), (long long)p->dtype);
    PS_FAIL_IF(p->sample_size < 1, err, INVALID, "%s: sample_size is %lld", PS_LABEL(node), (long long)p->sample_size);
    int64_t batch = ps_in_known(node, 0) ? node->in[0]->shape.dims[0] : PS_DIM_UNKNOWN;
    ps_shape y = ps_shape_make(2, (int64_t[]) { batch, p->sample_size });
    return ps_infer_checked(node, 0, (ps_dtype)p->dtype, &y, err);
}

/* Log-probabilities → running sums of probabilities, up to a common factor; false if there is nothing to choose. */
static bool cumulate(double *row, int64_t n) {
    double top = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++)
        top = fmax(top, row[c]);
    for (int64_t c = 0; c < n; c++)
        row[c] = sum += exp(row[c] - top);
    return isfinite(sum) && sum > 0;
}

/* The first class whose running sum is above v. */
static int64_t class_of(const double *sums, int64_t n, double v) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (sums[middle] > v)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static ps_status sample_row(const ps_kernel_ctx *ctx, const ps_random *random, int64_t row, double *sums,
                            ps_error *err) {
    const ps_tensor *x = ctx->in[0], *out = ctx->out[0];
    int64_t classes = x->shape.dims[1], samples = out->shape.dims[1];
    ps_row_load(sums, x->dtype, x->data, row * classes, 1, classes);
    PS_FAIL_IF(!cumulate(sums, classes), err, INVALID, "%s: row %lld holds no class with a probability",
               PS_LABEL(ctx->node), (long long)row);
    for (int64_t k = row * samples; k < (row + 1) * samples; k++) {
        double v = (double)class_of(sums, classes, ps_random_uniform(random, (uint64_t)k) * sums[classes - 1]);
        ps_row_store(out->data, out->dtype, k, 1, &v, 1);
    }
    return PS_OK;
}

static ps_status multinomial_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *x = ctx->in[0];
    ps_random random;
    PS_TRY(ps_random_init(&random, ctx->node, err));
    double *sums = ps_alloc_array(ctx->alloc, (size_t)x->shape.dims[1], sizeof(double));
    if (!sums) return PS_FAIL_NOMEM(err, "running sums of probabilities");
    ps_status status = PS_OK;
    for (int64_t row = 0; row < x->shape.dims[0] && status == PS_OK; row++)
        status = sample_row(ctx, &random, row, sums, err);
    ps_free(ctx->alloc, sums);
    return status;
}

/* ---- Dropout ----
 * In inference out = in. From opset 12 on an input may ask for training, which drops elements at random and scales the
 * rest; before opset 7 `is_test` defaults to training in files that were only ever meant for inference, and is ignored.
 * Not a view for the planner, since there may be a mask to make; a pass removes nodes without one. */

/* The share to drop: 0 in inference. */
static ps_status dropout_ratio(const ps_facts *f, double *ret, ps_error *err) {
    double training = 0, ratio = 0.5;
    *ret = 0;
    if (f->node->op->since < 12 || !ps_facts_double(f, 2, &training) || training == 0) return PS_OK;
    if (ps_facts_has(f, 1) && !ps_facts_double(f, 1, &ratio)) return PS_OK;
    PS_FAIL_IF(!(ratio >= 0 && ratio < 1), err, INVALID, "%s: ratio %g is outside [0, 1)", PS_LABEL(f->node), ratio);
    *ret = ratio;
    return PS_OK;
}

static ps_dtype mask_type(const ps_node *node, ps_dtype in) {
    return node->op->since < 10 ? in : PS_DTYPE_BOOL;
}

static ps_status dropout_infer(const ps_node *node, ps_error *err) {
    ps_facts f = ps_facts_graph(node);
    double ratio;
    PS_TRY(dropout_ratio(&f, &ratio, err));
    PS_TRY(ps_infer_same(node, err));
    ps_infer_set(node, 1, mask_type(node, node->in[0]->dtype), &node->in[0]->shape);
    return PS_OK;
}

/* The mask of nothing dropped: all true; before opset 10 it has the input's type and is unspecified in inference, so
 * zero. */
static ps_status dropout_nothing(const ps_kernel_ctx *ctx, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    if (ctx->n_out > 1 && ctx->out[1]) {
        PS_TRY(ps_move_output(ctx, 1, mask_type(ctx->node, in->dtype), &in->shape, err));
        if (ctx->out[1]->bytes) memset(ctx->out[1]->data, ctx->node->op->since >= 12, ctx->out[1]->bytes);
    }
    return ctx->out[0] ? ps_move_view(ctx, &in->shape, err) : PS_OK;
}

static ps_status dropout_draw(const ps_kernel_ctx *ctx, double ratio, ps_error *err) {
    const ps_tensor *in = ctx->in[0];
    size_t n = ps_tensor_count(in), size = ps_dtype_size(in->dtype);
    char *out = NULL, *mask = NULL;
    ps_random random;
    PS_TRY(ps_random_init(&random, ctx->node, err));
    if (ctx->out[0]) {
        PS_TRY(ps_move_output(ctx, 0, in->dtype, &in->shape, err));
        out = ctx->out[0]->data;
    }
    if (ctx->n_out > 1 && ctx->out[1]) {
        PS_TRY(ps_move_output(ctx, 1, PS_DTYPE_BOOL, &in->shape, err));
        mask = ctx->out[1]->data;
    }
    for (size_t k = 0; k < n; k++) {
        bool keep = ps_random_uniform(&random, k) >= ratio;
        double v;
        if (mask) mask[k] = keep;
        bool ok = ps_convert((const char *)in->data + k * size, in->dtype, &v, PS_DTYPE_F64, 1, false);
        v = keep ? v / (1 - ratio) : 0;
        if (out) ok = ok && ps_convert(&v, PS_DTYPE_F64, out + k * size, in->dtype, 1, true);
        PS_FAIL_IF(!ok, err, TYPE, "%s: elements of %s cannot be scaled", PS_LABEL(ctx->node),
                   ps_dtype_name(in->dtype));
    }
    return PS_OK;
}

static ps_status dropout_ref(const ps_kernel_ctx *ctx, ps_error *err) {
    ps_facts f = ps_facts_ctx(ctx);
    double ratio;
    PS_TRY(dropout_ratio(&f, &ratio, err));
    return ratio > 0 ? dropout_draw(ctx, ratio, err) : dropout_nothing(ctx, err);
}

#define RANDOM PS_OP_RANDOM
static const ps_op ops[] = {
    { "RandomUniform", "", 1, 0, 0, 1, 1, uniform_attrs, sizeof(draw_params), draw_infer, uniform_ref, RANDOM },
    { "RandomNormal", "", 1, 0, 0, 1, 1, normal_attrs, sizeof(draw_params), draw_infer, normal_ref, RANDOM },
    { "RandomUniformLike", "", 1, 1, 1, 1, 1, uniform_like_attrs, sizeof(draw_params), like_infer, uniform_ref,
      RANDOM },
    { "RandomNormalLike", "", 1, 1, 1, 1, 1, normal_like_attrs, sizeof(draw_params), like_infer, normal_ref, RANDOM },
    { "Bernoulli", "", 15, 1, 1, 1, 1, bernoulli_attrs, sizeof(draw_params), bernoulli_infer, bernoulli_ref, RANDOM },
    { "Multinomial", "", 7, 1, 1, 1, 1, multinomial_attrs, sizeof(multinomial_params), multinomial_infer,
      multinomial_ref, RANDOM },
    { "Dropout", "", 1, 1, 1, 1, 2, NULL, 0, dropout_infer, dropout_ref, 0 },
    { "Dropout", "", 10, 1, 1, 1, 2, NULL, 0, dropout_infer, dropout_ref, 0 },
    { "Dropout", "", 12, 1, 3, 1, 2, NULL, 0, dropout_infer, dropout_ref, RANDOM },
};
const ps_op_family ps_ops_random = PS_OP_FAMILY("random", ops);
