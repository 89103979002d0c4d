/* measure.c - what one run takes, before and after: time, and memory. */
#include <stdlib.h>

#include "compress/result.h"

enum { TIMED_RUNS = 15, WARM_RUNS = 2 };

/* The first sample that can be read; *ret_skipped: there is none. */
static ps_status first_sample(ps_job *job, ps_tensor **in, bool *ret_skipped) {
    *ret_skipped = true;
    for (size_t i = 0; i < job->n_validation && *ret_skipped; i++)
        PS_TRY(ps_job_sample(job, &job->validation, job->first_validation + i, in, ret_skipped));
    return PS_OK;
}

/* ---- time ---- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static ps_status time_run(ps_job *job, ps_session *s, ps_tensor *const *in, ps_tensor **out, size_t n_out,
                          double *ret) {
    for (size_t i = 0; i < n_out; i++)
        out[i] = NULL;
    const int64_t start = ps_clock_ns();
    PS_TRY(ps_session_run(s, (const ps_tensor *const *)in, job->graph->n_inputs, out, n_out, NULL, job->err));
    *ret = (double)(ps_clock_ns() - start) / 1e6;
    return PS_OK;
}

static ps_status time_both(ps_job *job, ps_session *const s[2], ps_tensor *const *in, ps_tensor **out, size_t n_out) {
    double ms[2][TIMED_RUNS];
    for (int i = -WARM_RUNS; i < TIMED_RUNS; i++)
        for (int k = 0; k < 2; k++)
            PS_TRY(time_run(job, s[k], in, out, n_out, &ms[k][i < 0 ? 0 : i]));
    for (int k = 0; k < 2; k++)
        qsort(ms[k], TIMED_RUNS, sizeof ms[k][0], by_value);
    job->ms_before = ms[0][TIMED_RUNS / 2];
    job->ms_after = ms[1][TIMED_RUNS / 2];
    return PS_OK;
}

ps_status ps_time_models(ps_job *job, ps_model *after) {
    ps_session *s[2] = { 0 };
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS] = { 0 };
    const size_t n_out = ps_model_output_count(after);
    bool skipped = true;
    ps_tensor **out = ps_alloc_zero(job->alloc, (n_out + 1) * sizeof *out);
    ps_status status = out ? first_sample(job, in, &skipped) : PS_FAIL_NOMEM(job->err, "outputs");
    if (status == PS_OK && !skipped) {
        status = ps_session_create(job->original, NULL, &s[0], job->err);
        if (status == PS_OK) status = ps_session_create(after, NULL, &s[1], job->err);
        if (status == PS_OK) status = time_both(job, s, in, out, n_out);
        ps_job_release(job, in);
    }
    ps_session_free(s[0]);
    ps_session_free(s[1]);
    ps_free(job->alloc, out);
    return status;
}

/* ---- memory ---- */

/* The most that the model of a file and a session hold, from loading to the end of the first run. */
static ps_status memory_of(ps_job *job, const char *path, ps_tensor *const *in, size_t *ret) {
    ps_model *model;
    ps_session *session = NULL;
    double ms;
    PS_TRY(ps_model_load(job->engine, path, NULL, &model, job->err));
    const size_t n_out = ps_model_output_count(model);
    ps_tensor **out = ps_alloc_zero(job->alloc, (n_out + 1) * sizeof *out);
    ps_status status = out ? PS_OK : PS_FAIL_NOMEM(job->err, "outputs");
    if (status == PS_OK) status = ps_session_create(model, NULL, &session, job->err);
    if (status == PS_OK) status = time_run(job, session, in, out, n_out, &ms);
    if (status == PS_OK) (void)ps_model_memory(model, ret);
    ps_session_free(session);
    ps_model_release(model);
    ps_free(job->alloc, out);
    return status;
}

static ps_status memory_of_both(ps_job *job) {
    ps_tensor *in[PS_COMPRESS_MAX_INPUTS] = { 0 };
    bool skipped;
    PS_TRY(first_sample(job, in, &skipped));
    if (skipped) return PS_OK;
    ps_status status = memory_of(job, job->input, in, &job->memory[0]);
    if (status == PS_OK) status = memory_of(job, job->output, in, &job->memory[1]);
    ps_job_release(job, in);
    return status;
}

void ps_measure_memory(ps_job *job) {
    ps_error err = PS_ERROR_INIT, *outer = job->err;
    job->err = &err;
    if (memory_of_both(job) != PS_OK) ps_job_warn(job, "the memory of the models was not measured: %s", err.msg);
    job->err = outer;
}
