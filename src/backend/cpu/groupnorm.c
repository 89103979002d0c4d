/* groupnorm.c - InstanceNormalization and GroupNormalization in the layout the input has.
 *
 * Plain: a group is one run of memory. Channels-last: sums are taken per channel, over pixels in blocks, and brought
 * together per group; an item is then a range of groups, so that one picture keeps all threads busy. Mean and variance
 * in two passes, as in the reference kernel. Source: ONNX operators InstanceNormalization-1, GroupNormalization-18 and
 * -21. */
#include <math.h>

#include "backend/cpu/cpu_int.h"

#define PIXELS 256  /* summed in f32 before they are added up in f64 */
#define CHANNELS 64 /* of an item, about */

typedef struct groupnorm_kernel {
    ps_kernel base;
    const ps_simd *simd;
    int64_t batch, channels, pixels, groups, per_group;
    int64_t repeat; /* channels that share an entry of scale and bias */
    int64_t item_groups;
    float epsilon;
    bool last;
    int threads;
} groupnorm_kernel;

typedef struct groupnorm_job {
    const groupnorm_kernel *k;
    const float *x, *scale, *bias;
    float *y;
    char *workspace; /* a slot for each thread */
} groupnorm_job;

/* Per channel of an item: a sum in f64, three numbers in f32. */
static size_t slot_bytes(const groupnorm_kernel *k) {
    return (size_t)(k->item_groups * k->per_group) * (sizeof(double) + 3 * sizeof(float)) / 64 * 64 + 64;
}

static int64_t items_of_picture(const groupnorm_kernel *k) {
    return (k->groups + k->item_groups - 1) / k->item_groups;
}

/* ---- plain ---- */

static void plain_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const groupnorm_job *j = ctx;
    const groupnorm_kernel *k = j->k;
    const int64_t size = k->per_group * k->pixels;
    for (int64_t item = begin; item < end; item++) {
        const float *x = j->x + item * size;
        float *y = j->y + item * size;
        k->simd->layernorm_row(x, NULL, NULL, y, size, k->epsilon);
        for (int64_t c = 0; c < k->per_group; c++) {
            const int64_t entry = (item % k->groups * k->per_group + c) / k->repeat;
            float *row = y + c * k->pixels;
            k->simd->unary(PS_POST_LINEAR, row, row, k->pixels, j->scale[entry], j->bias[entry]);
        }
    }
}

/* ---- channels-last ---- */

/* Sums of n channels over all pixels: of x, or of (x - mean)^2. */
static void channel_sums(const groupnorm_kernel *k, const float *x, int64_t n, const float *mean, double *sums) {
    float part[CHANNELS];
    for (int64_t from = 0; from < n; from += CHANNELS) {
        const int64_t width = n - from < CHANNELS ? n - from : CHANNELS;
        for (int64_t c = 0; c < width; c++)
            sums[from + c] = 0;
        for (int64_t p = 0; p < k->pixels; p += PIXELS) {
            const int64_t stop = p + PIXELS < k->pixels ? p + PIXELS : k->pixels;
            memset(part, 0, sizeof part);
            for (int64_t i = p; i < stop; i++) {
                const float *row = x + i * k->channels + from;
                if (mean) {
                    for (int64_t c = 0; c < width; c++)
                        part[c] += (row[c] - mean[from + c]) * (row[c] - mean[from + c]);
                } else {
                    k->simd->add_to(part, row, width);
                }
            }
            for (int64_t c = 0; c < width; c++)
                sums[from + c] += (double)part[c];
        }
    }
}

/* Each channel's entry becomes its group's average. */
static void average_groups(const groupnorm_kernel *k, double *sums, int64_t n) {
    for (int64_t g = 0; g < n; g += k->per_group) {
        double sum = 0;
        for (int64_t c = g; c < g + k->per_group; c++)
            sum += sums[c];
        for (int64_t c = g; c < g + k->per_group; c++)
            sums[c] = sum / (double)(k->per_group * k->pixels);
    }
}

static void last_items(void *ctx, int64_t begin, int64_t end, int thread) {
    const groupnorm_job *j = ctx;
    const groupnorm_kernel *k = j->k;
    const int64_t items = items_of_picture(k), most = k->item_groups * k->per_group;
    double *sums = (double *)(j->workspace + (size_t)thread * slot_bytes(k));
    float *mean = (float *)(sums + most), *factor = mean + most, *summand = factor + most;
    for (int64_t item = begin; item < end; item++) {
        const int64_t first = item % items * most, n = k->channels - first < most ? k->channels - first : most;
        const float *x = j->x + item / items * k->pixels * k->channels + first;
        float *y = j->y + (x - j->x);
        channel_sums(k, x, n, NULL, sums);
        average_groups(k, sums, n);
        for (int64_t c = 0; c < n; c++)
            mean[c] = (float)sums[c];
        channel_sums(k, x, n, mean, sums);
        average_groups(k, sums, n);
        for (int64_t c = 0; c < n; c++) {
            factor[c] = j->scale[(first + c) / k->repeat] / sqrtf((float)sums[c] + k->epsilon);
            summand[c] = j->bias[(first + c) / k->repeat];
        }
        for (int64_t i = 0; i < k->pixels; i++) {
            const float *from = x + i * k->channels;
            float *to = y + i * k->channels;
            for (int64_t c = 0; c < n; c++)
                to[c] = (from[c] - mean[c]) * factor[c] + summand[c];
        }
    }
}

/* ---- the kernel ---- */

static ps_status groupnorm_run(const ps_kernel *kernel, const ps_kernel_args *args, ps_error *err) {
    const groupnorm_kernel *k = (const groupnorm_kernel *)kernel;
    groupnorm_job job = { k, args->in[0], args->in[1], args->in[2], args->out[0], args->workspace };
    if (k->last)
        ps_parallel_for(k->batch * items_of_picture(k), 1, k->threads, last_items, &job);
    else
        ps_parallel_for(k->batch * k->groups, 1 + 4096 / (k->per_group * k->pixels), k->threads, plain_items, &job);
    return PS_OK;
}

ps_status cpu_lower_groupnorm(ps_device *device, ps_lowering *l, ps_error *err) {
    static const ps_kernel_ops ops = { groupnorm_run, cpu_kernel_free, NULL, NULL };
    const ps_node *n = l->node;
    const ps_shape *s = &n->in[0]->shape;
    const bool instance = strcmp(n->op_type, "InstanceNormalization") == 0;
    groupnorm_kernel *k;
    for (uint32_t i = 0; i < 3; i++) {
        if (n->in[i]->dtype != PS_DTYPE_F32) return PS_OK;
    }
    if (ps_shape_product(s, 0, s->rank) == 0) return PS_OK;
    PS_TRY(ps_kernel_new(l->alloc, sizeof *k, &ops, instance ? "cpu.instancenorm" : "cpu.groupnorm", &k, err));
    k->simd = cpu_of(device)->simd;
    k->threads = l->threads;
    k->batch = s->dims[0];
    k->channels = s->dims[1];
    k->pixels = ps_shape_product(s, 2, s->rank);
    k->groups = instance ? k->channels : ((const ps_groupnorm_params *)n->params)->num_groups;
    k->epsilon = instance ? ((const ps_epsilon_params *)n->params)->epsilon
                          : ((const ps_groupnorm_params *)n->params)->epsilon;
    k->per_group = k->channels / k->groups;
    k->repeat = !instance && n->op->since < 21 ? k->per_group : 1;
    k->item_groups = k->per_group < CHANNELS ? CHANNELS / k->per_group : 1;
    k->last = l->in_layout[0] != PS_LAYOUT_PLAIN;
    k->base.workspace = k->last ? slot_bytes(k) * (size_t)l->threads : 0;
    l->in_layout[1] = l->in_layout[2] = PS_LAYOUT_PLAIN;
    l->out_layout[0] = l->in_layout[0];
    l->inplace = 0;
    l->kernel = &k->base;
    return PS_OK;
}
