/* job.c - one call of ps_compress, from the input file to the output file. */
#include <stdarg.h>
#include <stdlib.h>

#include "compress/result.h"

#define SLACK 1e-6 /* per cent: float noise is no loss */
enum { DEFAULT_SAMPLES = 128, FEW_SAMPLES = 16 };

/* ---- progress, warnings ---- */

ps_status ps_job_step(ps_job *job, size_t done, size_t total) {
    const double share = job->done + job->span * (total ? (double)done / (double)total : 1);
    if (job->options.progress) job->options.progress(job->options.progress_ctx, share < 1 ? share : 1, job->stage);
    const int *cancel = job->options.cancel;
    if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
        return PS_FAIL(job->err, CANCELLED, "stopped while %s", job->stage);
    return PS_OK;
}

void ps_job_stage_end(ps_job *job) {
    const int64_t now = ps_clock_ns();
    if (job->stage && job->n_stages < sizeof job->stages / sizeof *job->stages) {
        job->stages[job->n_stages].name = job->stage;
        job->stages[job->n_stages++].seconds = (double)(now - job->stage_ns) / 1e9;
    }
    job->stage_ns = now;
    job->stage = NULL;
}

void ps_job_stage(ps_job *job, const char *stage, double share) {
    ps_job_stage_end(job);
    job->done += job->span;
    job->span = share;
    job->stage = stage;
    if (job->options.progress) job->options.progress(job->options.progress_ctx, job->done < 1 ? job->done : 1, stage);
}

void ps_job_warn(ps_job *job, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    ps_str s;
    ps_str_init(&s, job->alloc);
    ps_str_vprintf(&s, fmt, ap);
    va_end(ap);
    ps_snprintf(text, sizeof text, "%s", s.data);
    ps_str_release(&s);
    job->warnings++;
    if (job->options.warn) job->options.warn(job->options.warn_ctx, text);
}

/* ---- samples ---- */

ps_status ps_job_sample(ps_job *job, ps_dataset *data, size_t index, ps_tensor **ret, bool *ret_skipped) {
    ps_error err = PS_ERROR_INIT;
    *ret_skipped = data->bad[index];
    if (*ret_skipped) return PS_OK;
    const ps_status status = ps_dataset_get(data, index, ret, &err);
    if (status == PS_OK) return PS_OK;
    if (status == PS_NO_MEMORY || status == PS_SHAPE || status == PS_TYPE || status == PS_INVALID) {
        if (job->err) *job->err = err;
        return status;
    }
    data->bad[index] = *ret_skipped = true;
    job->skipped++;
    ps_job_warn(job, "%s; this sample is left out", err.msg);
    return PS_OK;
}

void ps_job_release(const ps_job *job, ps_tensor **in) {
    for (size_t i = 0; i < job->graph->n_inputs; i++)
        ps_tensor_release(in[i]);
}

/* Reads the samples once, so that what is wrong with them is known before the long work. */
static ps_status read_samples(ps_job *job, ps_dataset *data, size_t n, const char *what) {
    size_t good = 0;
    for (size_t i = 0; i < n; i++) {
        ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
        bool skipped;
        PS_TRY(ps_job_sample(job, data, i, in, &skipped));
        if (!skipped) ps_job_release(job, in);
        good += !skipped;
        PS_TRY(ps_job_step(job, i + 1, n));
    }
    PS_FAIL_IF(!good, job->err, INVALID, "none of the %zu %s samples of '%s' could be read", n, what, data->path);
    return PS_OK;
}

static ps_status open_data(ps_job *job) {
    const ps_compress_options *o = &job->options;
    const bool needs = o->type == PS_COMPRESS_INT8;
    PS_FAIL_IF(needs && !o->calibration, job->err, INVALID,
               "static INT8 needs calibration data: some hundred typical inputs; dynamic INT8 and FP16 need none");
    PS_FAIL_IF(job->graph->n_inputs > PS_COMPRESS_MAX_INPUTS, job->err, LIMIT,
               "the model has %zu inputs, at most %d are read", job->graph->n_inputs, PS_COMPRESS_MAX_INPUTS);
    ps_job_stage(job, "reading samples", 0.1);
    if (o->calibration) {
        PS_TRY(ps_dataset_open(job->engine, job->original, o->calibration, o->preprocess, &job->calibration, job->err));
        const size_t most = o->calibration_samples ? o->calibration_samples : DEFAULT_SAMPLES;
        job->n_calibration = job->calibration.n < most ? job->calibration.n : most;
        PS_TRY(read_samples(job, &job->calibration, job->n_calibration, "calibration"));
        if (needs && job->n_calibration < FEW_SAMPLES)
            ps_job_warn(job, "%zu samples are few: ranges may be too narrow for other data, some hundred are usual",
                        job->n_calibration);
    }
    const char *validation = o->validation ? o->validation : o->calibration;
    if (!validation) return PS_OK;
    PS_TRY(ps_dataset_open(job->engine, job->original, validation, o->preprocess, &job->validation, job->err));
    const bool same = o->calibration && strcmp(validation, o->calibration) == 0;
    for (size_t i = 0; same && i < job->validation.n; i++)
        job->validation.bad[i] = job->calibration.bad[i]; /* told and counted once */
    job->first_validation = same && job->validation.n > job->n_calibration ? job->n_calibration : 0;
    job->held_out = !same || job->first_validation;
    job->n_validation = job->validation.n - job->first_validation;
    if (o->validation_samples && o->validation_samples < job->n_validation) job->n_validation = o->validation_samples;
    return PS_OK;
}

/* ---- the model ---- */

/* op_type by output: a function's body may give its outputs the names of the call, but is another operator. */
static ps_status list_nodes(ps_job *job) {
    ps_onnx_edit *edit;
    ps_status status = PS_OK;
    PS_TRY(ps_onnx_edit_open(job->alloc, job->input, &edit, job->err));
    for (size_t i = 0; i < ps_onnx_edit_node_count(edit) && status == PS_OK; i++) {
        const ps_onnx_node_view v = ps_onnx_edit_node(edit, i);
        for (size_t k = 0; k < v.n_out && status == PS_OK; k++) {
            const ps_value *value = ps_graph_find(job->graph, v.out[k]);
            if (!value || !value->producer || strcmp(value->producer->op_type, v.op_type) != 0) continue;
            if (!ps_map_put(&job->in_file, value->name, value->producer))
                status = PS_FAIL_NOMEM(job->err, "a list of nodes");
        }
    }
    ps_onnx_edit_close(edit);
    return status;
}

static ps_status open_model(ps_job *job) {
    char *in = NULL, *out = NULL;
    bool same = false;
    if (job->output && ps_path_real(job->alloc, job->input, &in, NULL) == PS_OK &&
        ps_path_real(job->alloc, job->output, &out, NULL) == PS_OK)
        same = strcmp(in, out) == 0;
    ps_free(job->alloc, in);
    ps_free(job->alloc, out);
    PS_FAIL_IF(same, job->err, INVALID, "'%s' is input and output: the input is never overwritten", job->input);
    PS_TRY(ps_onnx_load_file(job->alloc, job->input, &job->graph, &job->info, job->err));
    PS_TRY(ps_ops_resolve(job->graph, job->err));
    PS_TRY(ps_ops_infer(job->graph, job->err));
    PS_TRY(list_nodes(job));
    PS_TRY(ps_model_load(job->engine, job->input, NULL, &job->original, job->err));
    if (ps_graph_opset(job->graph, "") <= 0)
        return PS_FAIL(job->err, UNSUPPORTED, "the model imports no version of ai.onnx");
    return PS_OK;
}

/* ---- static INT8 ---- */

static ps_status round_all(ps_job *job) {
    for (size_t i = 0; i < job->layers.size; i++)
        if (job->layers.data[i].shared == i) PS_TRY(ps_layer_round(job, &job->layers.data[i]));
    return PS_OK;
}

static ps_status quantize(ps_job *job) {
    const unsigned skip = job->options.skip;
    PS_TRY(ps_sites_find(job));
    PS_FAIL_IF(!job->layers.size, job->err, UNSUPPORTED,
               "the model has no layer with constant float weights to quantise");
    if (!(skip & PS_COMPRESS_EQUALIZE)) {
        ps_job_stage(job, "equalising channels", 0.1);
        PS_TRY(ps_equalize(job));
    }
    ps_job_stage(job, "finding ranges", 0.2);
    PS_TRY(ps_calibrate(job));
    ps_ranges_choose(job);
    PS_TRY(round_all(job));
    ps_job_stage(job, "rounding weights", 0.2);
    if (!(skip & PS_COMPRESS_ROUNDING)) PS_TRY(ps_round_weights(job));
    ps_sim_close(&job->looking);
    if (job->options.max_drop >= 0 && !(skip & PS_COMPRESS_MIXED)) {
        bool changed;
        ps_job_stage(job, "choosing layers", 0.1);
        PS_TRY(ps_choose_mixed(job, &changed));
    }
    if (job->options.sensitivity) {
        ps_job_stage(job, "measuring layers", 0.1);
        PS_TRY(ps_measure_layers(job));
    }
    ps_job_stage(job, "measuring noise", 0.03);
    return ps_measure_noise(job);
}

/* ---- the outcome ---- */

static ps_status emit(ps_job *job, ps_onnx_edit *edit) {
    switch (job->options.type) {
    case PS_COMPRESS_INT8: return ps_emit_static(job, edit);
    case PS_COMPRESS_INT8_DYNAMIC: return ps_emit_dynamic(job, edit);
    default: return ps_emit_half(job, edit);
    }
}

static int64_t wanted_opset(const ps_job *job) {
    const int64_t least = job->options.type == PS_COMPRESS_INT8           ? 13
                          : job->options.type == PS_COMPRESS_INT8_DYNAMIC ? 11
                          : job->options.type == PS_COMPRESS_BF16         ? 13
                                                                          : 0;
    return job->options.opset > least ? job->options.opset : least;
}

static ps_status make_edit(ps_job *job, ps_onnx_edit **ret) {
    ps_onnx_edit *edit;
    PS_TRY(ps_onnx_edit_open(job->alloc, job->input, &edit, job->err));
    ps_status status = ps_onnx_edit_upgrade(edit, wanted_opset(job), job->graph, job->err);
    job->opset_after = ps_onnx_edit_opset(edit, "");
    if (status == PS_OK) status = emit(job, edit);
    if (status == PS_OK) status = ps_recipe_write(job, edit);
    if (status != PS_OK) {
        ps_onnx_edit_close(edit);
        return status;
    }
    *ret = edit;
    return PS_OK;
}

/* The user's judge sees a file of a temporary name. */
static ps_status call_metric(ps_job *job, ps_onnx_edit *edit) {
    char folder[256], path[300];
    uint64_t tag;
    ps_judgement *j = &job->judged;
    const char *temp = getenv("TMPDIR");
    PS_TRY(ps_random_bytes(&tag, sizeof tag, job->err));
    ps_snprintf(folder, sizeof folder, "%.200s/polestar-%016llx", temp && *temp ? temp : "/tmp",
                (unsigned long long)tag);
    ps_snprintf(path, sizeof path, "%s/model.onnx", folder);
    PS_TRY(ps_dir_create(folder, 0700, job->err));
    ps_status status = ps_onnx_edit_write(edit, path, NULL, job->err);
    if (status == PS_OK && isnan(j->metric_before))
        status = job->options.metric(job->options.metric_ctx, job->input, &j->metric_before, job->err);
    if (status == PS_OK) status = job->options.metric(job->options.metric_ctx, path, &j->metric_after, job->err);
    (void)ps_file_remove(path);
    (void)ps_dir_remove(folder);
    PS_TRY(status);
    PS_FAIL_IF(j->metric_before == 0, job->err, INVALID, "the metric is 0 for the original: nothing can be lost");
    j->drop = 100 * (j->metric_before - j->metric_after) / fabs(j->metric_before);
    j->measure = "metric";
    return PS_OK;
}

/* The file as it will be, loaded, beside the original on the validation samples. */
static ps_status judge_file(ps_job *job, ps_onnx_edit *edit, ps_model **ret_after, ps_compress_result *result) {
    void *data;
    const double metric = job->judged.metric_before;
    PS_TRY(ps_onnx_edit_pack(edit, &data, &result->packed, job->err));
    ps_status status = ps_model_load_memory(job->engine, data, result->packed, NULL, ret_after, job->err);
    ps_free(job->alloc, data);
    PS_TRY(status);
    if (job->n_validation)
        PS_TRY(ps_judge(job, job->original, *ret_after, &job->validation, job->first_validation, job->n_validation,
                        &job->judged));
    job->judged.metric_before = metric;
    return job->options.metric ? call_metric(job, edit) : PS_OK;
}

/* Keeps more layers in float if the judges are not content. */
static ps_status once_more(ps_job *job, bool *ret) {
    const ps_compress_options *o = &job->options;
    *ret = false;
    if (o->max_drop < 0 || !(job->judged.drop > o->max_drop + SLACK)) return PS_OK;
    if (o->type == PS_COMPRESS_INT8 && !(o->skip & PS_COMPRESS_MIXED)) PS_TRY(ps_choose_mixed(job, ret));
    PS_FAIL_IF(!*ret, job->err, LIMIT, "the compressed model loses %.3g %% (%s), more than the %g %% of max_drop",
               job->judged.drop, job->judged.measure, o->max_drop);
    return PS_OK;
}

static ps_status write_file(ps_job *job, ps_onnx_edit *edit) {
    const size_t n = strlen(job->output);
    const bool packed = n > 4 && strcmp(job->output + n - 4, ".zst") == 0;
    const ps_onnx_write_options o = { .zstd_level = !packed                   ? 0
                                                    : job->options.zstd_level ? job->options.zstd_level
                                                                              : 19 };
    return ps_onnx_edit_write(edit, job->output, &o, job->err);
}

/* How small the original would be, packed alike. */
static ps_status pack_original(ps_job *job) {
    ps_onnx_edit *edit;
    const size_t n = strlen(job->output);
    if (n < 5 || strcmp(job->output + n - 4, ".zst") != 0) return PS_OK;
    PS_TRY(ps_onnx_edit_open(job->alloc, job->input, &edit, job->err));
    ps_status status = ps_onnx_edit_packed_bytes(edit, job->options.zstd_level ? job->options.zstd_level : 19,
                                                 &job->zstd_before, job->err);
    ps_onnx_edit_close(edit);
    return status;
}

static ps_status finish_once(ps_job *job, ps_compress_result *result, bool *ret_again) {
    ps_onnx_edit *edit;
    ps_model *after = NULL;
    PS_TRY(make_edit(job, &edit));
    ps_status status = judge_file(job, edit, &after, result);
    if (status == PS_OK) status = once_more(job, ret_again);
    if (status == PS_OK && !*ret_again) {
        if (job->n_validation && !job->options.no_latency) status = ps_time_models(job, after);
        ps_job_stage(job, "writing", 0.02);
        if (status == PS_OK) status = pack_original(job);
        if (status == PS_OK) status = write_file(job, edit);
    }
    ps_model_release(after);
    ps_onnx_edit_close(edit);
    return status;
}

static ps_status finish(ps_job *job, ps_compress_result *result) {
    bool again = true;
    ps_job_stage(job, "measuring the result", 0.3);
    while (again) {
        PS_TRY(finish_once(job, result, &again));
        if (again && job->options.type == PS_COMPRESS_INT8) PS_TRY(ps_measure_noise(job));
    }
    return PS_OK;
}

/* What the file would be, without data: layers are found, weights rounded, nothing is run. */
static ps_status estimate(ps_job *job, ps_compress_result *result) {
    ps_onnx_edit *edit;
    void *data;
    if (job->options.type == PS_COMPRESS_INT8) {
        PS_TRY(ps_sites_find(job));
        PS_FAIL_IF(!job->layers.size, job->err, UNSUPPORTED,
                   "the model has no layer with constant float weights to quantise");
        ps_ranges_choose(job);
        PS_TRY(round_all(job));
    }
    PS_TRY(make_edit(job, &edit));
    ps_status status = ps_onnx_edit_pack(edit, &data, &result->packed, job->err);
    if (status == PS_OK) ps_free(job->alloc, data);
    ps_onnx_edit_close(edit);
    return status;
}

static ps_status work(ps_job *job, ps_compress_result *result) {
    ps_job_stage(job, "reading the model", 0.02);
    PS_TRY(open_model(job));
    if (job->options.dry_run) {
        PS_TRY(estimate(job, result));
        return ps_result_fill(job, result);
    }
    PS_TRY(open_data(job));
    if (job->options.type == PS_COMPRESS_INT8) PS_TRY(quantize(job));
    PS_TRY(finish(job, result));
    if (job->n_validation && !job->options.no_latency) ps_measure_memory(job);
    ps_job_stage_end(job);
    return ps_result_fill(job, result);
}

static ps_status check_options(const ps_compress_options *o, const char *output, ps_error *err) {
    const size_t n = output ? strlen(output) : 0;
    PS_FAIL_IF(o->size != sizeof *o, err, INVALID, "options: not filled by PS_COMPRESS_OPTIONS_INIT");
    PS_FAIL_IF(!o->dry_run && (!output || !*output), err, INVALID, "the output has no name");
    const bool named =
        (n > 5 && strcmp(output + n - 5, ".onnx") == 0) || (n > 9 && strcmp(output + n - 9, ".onnx.zst") == 0);
    PS_FAIL_IF(output && !named, err, INVALID, "output '%s' ends neither in .onnx nor in .onnx.zst", output);
    PS_FAIL_IF(o->weight_bits != 0 && o->weight_bits != 7 && o->weight_bits != 8, err, INVALID,
               "weight_bits is %d: it is 7 or 8", o->weight_bits);
    PS_FAIL_IF(o->opset && (o->opset < 7 || o->opset > 21), err, INVALID, "opset %lld does not lie in 7 … 21",
               (long long)o->opset);
    PS_FAIL_IF(o->zstd_level < 0 || o->zstd_level > 19, err, INVALID, "zstd level %d does not lie in 1 … 19",
               o->zstd_level);
    return PS_OK;
}

static void release(ps_job *job) {
    ps_sim_close(&job->looking);
    for (size_t i = 0; i < job->sites.size; i++)
        ps_histogram_release(job->alloc, &job->sites.data[i].seen);
    for (size_t i = 0; i < job->layers.size; i++) {
        ps_layer *l = &job->layers.data[i];
        ps_tensor_release(l->weight);
        ps_tensor_release(l->bias);
        ps_tensor_release(l->codes);
        ps_free(job->alloc, l->scales);
    }
    ps_vec_release(job->alloc, &job->sites);
    ps_vec_release(job->alloc, &job->layers);
    ps_vec_release(job->alloc, &job->movers);
    ps_vec_release(job->alloc, &job->rewires);
    ps_free(job->alloc, job->site_of);
    ps_map_release(&job->in_file);
    ps_dataset_close(&job->calibration);
    ps_dataset_close(&job->validation);
    ps_model_release(job->original);
    ps_onnx_info_release(&job->info);
    ps_graph_free(job->graph);
}

ps_status ps_compress(ps_engine *engine, const char *input, const char *output, const ps_compress_options *options,
                      ps_compress_result **ret, ps_error *reterr) {
    static const ps_compress_options defaults = PS_COMPRESS_OPTIONS_INIT;
    ps_job job = {
        .engine = engine, .alloc = ps_engine_alloc(engine), .input = input, .output = output, .err = reterr
    };
    ps_compress_result *result;
    job.options = options ? *options : defaults;
    job.started_ns = ps_clock_ns();
    job.ms_before = job.ms_after = NAN;
    job.judged = (ps_judgement) { .cosine_least = 1, .metric_before = NAN, .metric_after = NAN, .measure = "" };
    ps_map_init(&job.in_file, job.alloc);
    PS_TRY(check_options(&job.options, output, reterr));
    PS_TRY(ps_result_new(job.alloc, &result, reterr));
    ps_status status = work(&job, result);
    if (status == PS_CANCELLED) status = PS_FAIL(reterr, CANCELLED, "stopped while %s", job.stage);
    release(&job);
    if (status != PS_OK) {
        ps_compress_result_free(result);
        return status;
    }
    *ret = result;
    return PS_OK;
}
