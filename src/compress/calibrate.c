/* calibrate.c - one pass of the original model over the calibration data: a histogram of every site. Where runs show
 * the tensors only when they are through, and these would take too much memory, the pass is made again for each part.
 */
#include "compress/compress_int.h"

#define PART_BYTES ((size_t)192 << 20) /* of tensors looked at in one run */

typedef struct collector {
    ps_job *job;
    size_t *sites; /* of this part */
} collector;

static ps_status look(void *ctx, size_t index, const ps_tensor *t, ps_error *err) {
    const collector *c = ctx;
    ps_histogram_values v = { t->data, ps_tensor_count(t), 0, 0 };
    if (t->dtype != PS_DTYPE_F32) return PS_OK;
    if (t->strides) { /* channels lie innermost */
        v.channels = (size_t)t->shape.dims[1];
        v.pixels = (size_t)ps_shape_product(&t->shape, 2, t->shape.rank);
    }
    if (!ps_histogram_add(c->job->alloc, &c->job->sites.data[c->sites[index]].seen, v, c->job->engine->threads))
        return PS_FAIL_NOMEM(err, "a histogram");
    return PS_OK;
}

static ps_status one_sample(collector *c, ps_sim *sim, size_t index) {
    ps_job *job = c->job;
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
    bool skipped;
    PS_TRY(ps_job_sample(job, &job->calibration, index, in, &skipped));
    if (skipped) return PS_OK;
    const ps_status status = ps_sim_run(job, sim, in, look, c);
    ps_job_release(job, in);
    return status;
}

/* Looks at the sites [*begin, end) that fit; *begin moves behind them. */
static ps_status one_part(collector *c, size_t *begin, size_t budget) {
    ps_job *job = c->job;
    const size_t n = job->sites.size - *begin < budget ? job->sites.size - *begin : budget;
    ps_value **extra = ps_alloc_array(job->alloc, n, sizeof *extra);
    if (!extra) return PS_FAIL_NOMEM(job->err, "a list of tensors");
    for (size_t i = 0; i < n; i++) {
        c->sites[i] = *begin + i;
        extra[i] = job->sites.data[*begin + i].value;
    }
    ps_sim sim;
    ps_status status = ps_sim_open(job, false, PS_NO_SITE, extra, n, &sim);
    ps_free(job->alloc, extra);
    PS_TRY(status);
    for (size_t i = 0; i < job->n_calibration && status == PS_OK; i++) {
        status = one_sample(c, &sim, i);
        if (status == PS_OK)
            status = ps_job_step(job, *begin * job->n_calibration + n * i, job->sites.size * job->n_calibration);
    }
    if (status == PS_OK && n == job->sites.size)
        job->looking = sim;
    else
        ps_sim_close(&sim);
    *begin += n;
    return status;
}

/* So many sites that their tensors, as far as shapes are known, fit into PART_BYTES. */
static size_t part_size(const ps_job *job, size_t begin) {
    size_t bytes = 0, n = 0;
    for (size_t i = begin; i < job->sites.size; i++, n++) {
        const ps_shape *s = &job->sites.data[i].value->shape;
        int64_t count = 1;
        for (int d = 0; d < s->rank; d++)
            count *= s->dims[d] > 0 && s->dims[d] < 1 << 20 ? s->dims[d] : 1;
        if (n && bytes + (size_t)count * sizeof(float) > PART_BYTES) break;
        bytes += (size_t)count * sizeof(float);
    }
    return n;
}

/* Does the model run as one plan? It shows each tensor when it is made, then, and holds none for that. */
static ps_status runs_at_once(ps_job *job, bool *ret) {
    ps_sim sim;
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
    bool skipped = true;
    PS_TRY(ps_sim_open(job, false, PS_NO_SITE, NULL, 0, &sim));
    ps_status status = PS_OK;
    for (size_t i = 0; i < job->n_calibration && status == PS_OK && skipped; i++)
        status = ps_job_sample(job, &job->calibration, i, in, &skipped);
    if (status == PS_OK && !skipped) {
        status = ps_sim_run(job, &sim, in, NULL, NULL);
        *ret = ps_session_one_plan(sim.session);
        ps_job_release(job, in);
    }
    ps_sim_close(&sim);
    return status;
}

static void warn_odd(ps_job *job) {
    size_t constant = 0;
    for (size_t i = 0; i < job->sites.size; i++) {
        const ps_histogram *h = &job->sites.data[i].seen;
        if (h->odd)
            ps_job_warn(job,
                        "tensor '%.100s' holds %llu values that are infinite or no numbers; its range ignores them",
                        job->sites.data[i].value->name, (unsigned long long)h->odd);
        constant += h->bins && h->min == h->max && job->sites.data[i].value->is_input;
    }
    if (constant)
        ps_job_warn(job, "the calibration data is constant: ranges found with it fit nothing else, expect a useless "
                         "model on real data");
}

ps_status ps_calibrate(ps_job *job) {
    collector c = { .job = job };
    size_t begin = 0;
    ps_status status = PS_OK;
    c.sites = ps_alloc_array(job->alloc, job->sites.size + 1, sizeof *c.sites);
    if (!c.sites) return PS_FAIL_NOMEM(job->err, "a list of tensors");
    bool at_once = part_size(job, 0) == job->sites.size;
    if (!at_once) status = runs_at_once(job, &at_once);
    while (begin < job->sites.size && status == PS_OK)
        status = one_part(&c, &begin, at_once ? job->sites.size : part_size(job, begin));
    ps_free(job->alloc, c.sites);
    PS_TRY(status);
    warn_odd(job);
    for (size_t i = 0; i < job->sites.size; i++) {
        const size_t group = job->sites.data[i].group;
        if (group == i) continue;
        if (!ps_histogram_merge(job->alloc, &job->sites.data[group].seen, &job->sites.data[i].seen))
            return PS_FAIL_NOMEM(job->err, "a histogram");
        ps_histogram_release(job->alloc, &job->sites.data[i].seen);
    }
    return PS_OK;
}
