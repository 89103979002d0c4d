/* result.c - numbers of a compression, the recipe in the file's metadata, the JSON report. */
#include "compress/result.h"

#include <jansson.h>
#include <stdlib.h>

const char *ps_compress_type_text(ps_compress_type type) {
    static const char *const names[] = { "int8", "int8-dynamic", "fp16", "bf16" };
    return names[type];
}

const char *ps_compress_range_text(ps_compress_range range) {
    static const char *const names[] = { "auto", "minmax", "percentile", "entropy", "mse" };
    return names[range];
}

/* ---- life ---- */

ps_status ps_result_new(ps_alloc_state *alloc, ps_compress_result **ret, ps_error *err) {
    ps_compress_result *r = ps_alloc_zero(alloc, sizeof *r);
    if (!r) return PS_FAIL_NOMEM(err, "a result");
    r->alloc = alloc;
    ps_arena_init(&r->arena, alloc);
    *ret = r;
    return PS_OK;
}

void ps_compress_result_free(ps_compress_result *r) {
    if (!r) return;
    ps_arena_release(&r->arena);
    ps_free(r->alloc, r);
}

ps_status ps_compress_summarize(const ps_compress_result *r, ps_compress_summary *ret) {
    *ret = r->summary;
    return PS_OK;
}

ps_status ps_compress_layer_at(const ps_compress_result *r, size_t index, ps_compress_layer *ret) {
    if (index >= r->n_layers) return PS_NOT_FOUND;
    *ret = r->layers[index];
    return PS_OK;
}

/* ---- recipe ---- */

static void put_recipe(const ps_job *job, ps_str *s) {
    const ps_compress_options *o = &job->options;
    ps_str_printf(s, "type=%s", ps_compress_type_text(o->type));
    if (o->type == PS_COMPRESS_INT8) {
        ps_str_printf(s, " range=%s samples=%zu seed=%llu weight_bits=%d", ps_compress_range_text(o->range),
                      job->n_calibration, (unsigned long long)o->seed, o->weight_bits == 7 ? 7 : 8);
        ps_str_printf(s, " equalize=%d rounding=%d bias=%d mixed=%d", !(o->skip & PS_COMPRESS_EQUALIZE),
                      !(o->skip & PS_COMPRESS_ROUNDING), !(o->skip & PS_COMPRESS_BIAS), !(o->skip & PS_COMPRESS_MIXED));
    }
    if (o->max_drop >= 0) ps_str_printf(s, " max_drop=%g", o->max_drop);
}

static void put_digest(char buf[24], uint64_t digest) {
    ps_snprintf(buf, 24, "xxh3-64:%016llx", (unsigned long long)digest);
}

/* Of all calibration samples that were read. */
static ps_status data_digest(ps_job *job, uint64_t *ret) {
    *ret = 0;
    for (size_t i = 0; i < job->n_calibration; i++) {
        ps_tensor *in[PS_COMPRESS_MAX_INPUTS];
        bool skipped;
        PS_TRY(ps_job_sample(job, &job->calibration, i, in, &skipped));
        if (skipped) continue;
        for (size_t k = 0; k < job->graph->n_inputs; k++) {
            const uint64_t h = ps_tensor_hash(in[k]);
            *ret = ps_hash_bytes(&h, sizeof h, *ret);
        }
        ps_job_release(job, in);
    }
    return PS_OK;
}

ps_status ps_recipe_write(ps_job *job, ps_onnx_edit *edit) {
    char digest[24];
    uint64_t data;
    ps_str s;
    ps_str_init(&s, job->alloc);
    put_recipe(job, &s);
    ps_status status = s.failed ? PS_FAIL_NOMEM(job->err, "the recipe") : PS_OK;
    if (status == PS_OK) status = ps_onnx_edit_set_metadata(edit, "polestar.recipe", s.data, job->err);
    ps_str_release(&s);
    PS_TRY(status);
    PS_TRY(ps_onnx_edit_set_metadata(edit, "polestar.version", ps_version(), job->err));
    put_digest(digest, ps_onnx_edit_digest(edit));
    PS_TRY(ps_onnx_edit_set_metadata(edit, "polestar.source", digest, job->err));
    if (!job->n_calibration) return PS_OK;
    PS_TRY(data_digest(job, &data));
    put_digest(digest, data);
    return ps_onnx_edit_set_metadata(edit, "polestar.calibration", digest, job->err);
}

/* ---- filling ---- */

static double db(double signal, double noise) {
    return signal > 0 ? 10 * log10(signal / fmax(noise, signal * 1e-12)) : NAN;
}

static const char *keep(ps_compress_result *r, const char *s) {
    const char *copy = ps_arena_strdup(&r->arena, s ? s : "");
    return copy ? copy : "";
}

static double weight_sqnr(const ps_job *job, const ps_layer *l) {
    const ps_layer *from = &job->layers.data[l->shared];
    const ps_channels c = ps_layer_channels(l);
    const float *w = l->node->in[1]->constant->data;
    double signal = 0, noise = 0;
    if (!from->codes) return NAN;
    for (int64_t o = 0, at = 0; o < c.outer; o++)
        for (int64_t k = 0; k < c.count; k++)
            for (int64_t i = 0; i < c.inner; i++, at++) {
                const double d = w[at] - (double)((const int8_t *)from->codes->data)[at] * from->scales[k];
                signal += (double)w[at] * w[at];
                noise += d * d;
            }
    return db(signal, noise);
}

static void fill_layer(ps_job *job, ps_compress_result *r, const ps_layer *l, ps_compress_layer *ret) {
    char label[160];
    const ps_site *range = ps_site_range(job, l->site);
    *ret = (ps_compress_layer) {
        .size = sizeof *ret,
        .name = keep(r, *l->node->name ? l->node->name : ps_node_label(l->node, label, sizeof label)),
        .op = keep(r, l->node->op_type),
        .weight = keep(r, l->weight_name),
        .parameters = ps_tensor_count(l->weight),
        .quantized = l->quantized,
        .reason = l->reason,
        .range = l->quantized ? range->method : "",
        .low = l->quantized ? range->low : NAN,
        .high = l->quantized ? range->high : NAN,
        .weight_sqnr = l->quantized ? weight_sqnr(job, l) : NAN,
        .sqnr = db(l->signal, l->noise),
        .alone = l->alone,
    };
}

static uint64_t file_bytes(const ps_job *job, const char *path, char digest[24]) {
    ps_file_map map;
    if (ps_file_map_open(path, &map, NULL) != PS_OK) return 0;
    const uint64_t n = map.size;
    put_digest(digest, ps_hash_bytes(map.data, map.size, 0));
    ps_file_map_close(&map);
    (void)job;
    return n;
}

static void fill_judgement(const ps_judgement *j, ps_compress_summary *s) {
    s->lost = j->lost;
    s->won = j->won;
    s->top1_before = j->labelled ? 100.0 * (double)j->right_before / (double)j->labelled : NAN;
    s->top1_after = j->labelled ? 100.0 * (double)j->right_after / (double)j->labelled : NAN;
    ps_drop_interval(j, &s->drop_low, &s->drop_high);
    s->agreement = j->samples ? ps_agreement(j) : NAN;
    s->cosine = j->samples ? j->cosine / (double)j->samples : NAN;
    s->cosine_least = j->samples ? j->cosine_least : NAN;
    s->sqnr = j->sqnr_count ? j->sqnr / (double)j->sqnr_count : NAN;
    s->metric_before = j->metric_before;
    s->metric_after = j->metric_after;
    s->drop = j->samples || j->metric_after == j->metric_after ? j->drop : NAN;
    s->measure = j->measure;
    s->validated = j->samples;
}

ps_status ps_result_fill(ps_job *job, ps_compress_result *r) {
    ps_compress_summary *s = &r->summary;
    ps_device_info device = { .size = sizeof device };
    size_t peak;
    s->size = sizeof *s;
    fill_judgement(&job->judged, s);
    s->bytes_before = file_bytes(job, job->input, r->digest_before);
    s->bytes_after = job->options.dry_run ? r->packed : file_bytes(job, job->output, r->digest_after);
    s->opset_before = job->info.opset;
    s->opset_after = job->opset_after;
    s->calibrated = job->n_calibration;
    s->skipped = job->skipped;
    s->held_out = job->held_out && s->validated;
    s->ms_before = job->ms_before;
    s->ms_after = job->ms_after;
    s->zstd_before = job->zstd_before;
    s->memory_before = job->memory[0];
    s->memory_after = job->memory[1];
    r->layers = ps_arena_array(&r->arena, job->layers.size + 1, sizeof *r->layers);
    if (!r->layers) return PS_FAIL_NOMEM(job->err, "the result");
    r->n_layers = s->layers = job->layers.size;
    for (size_t i = 0; i < job->layers.size; i++) {
        fill_layer(job, r, &job->layers.data[i], &r->layers[i]);
        s->layers_quantized += job->layers.data[i].quantized;
    }
    for (r->n_stages = 0; r->n_stages < job->n_stages; r->n_stages++) {
        r->stages[r->n_stages].name = job->stages[r->n_stages].name;
        r->stages[r->n_stages].seconds = job->stages[r->n_stages].seconds;
    }
    r->options = job->options;
    r->input = keep(r, job->input);
    r->output = keep(r, job->output);
    r->calibration = keep(r, job->options.calibration);
    r->validation = keep(r, job->options.validation);
    r->photos = job->calibration.alloc && job->calibration.kind == PS_DATA_PHOTOS;
    r->preprocess = job->calibration.preprocess;
    r->threads = job->engine->threads;
    if (ps_engine_device_info(job->engine, 0, &device) == PS_OK)
        ps_snprintf(r->hardware, sizeof r->hardware, "%s", device.hardware);
    (void)ps_engine_memory(job->engine, &peak);
    s->peak_bytes = peak;
    s->seconds = (double)(ps_clock_ns() - job->started_ns) / 1e9;
    return PS_OK;
}

/* ---- JSON ---- */

static json_t *real(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *text(const char *s) {
    json_t *j = json_string(s);
    return j ? j : json_string("?"); /* bytes that are no UTF-8 */
}

static json_t *layer_json(const ps_compress_layer *l) {
    return json_pack("{s:o, s:o, s:o, s:I, s:b, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", text(l->name), "op",
                     text(l->op), "weight", text(l->weight), "parameters", (json_int_t)l->parameters, "quantized",
                     (int)l->quantized, "reason", l->reason, "range", l->range, "low", real(l->low), "high",
                     real(l->high), "weight_sqnr_db", real(l->weight_sqnr), "sqnr_db", real(l->sqnr), "alone_sqnr_db",
                     real(l->alone));
}

static json_t *settings_json(const ps_compress_result *r) {
    const ps_compress_options *o = &r->options;
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:i, s:b, s:b, s:b, s:b, s:o, s:o, s:o}", "type", ps_compress_type_text(o->type),
                  "range", ps_compress_range_text(o->range), "seed", (json_int_t)o->seed, "weight_bits",
                  o->weight_bits == 7 ? 7 : 8, "equalize", !(o->skip & PS_COMPRESS_EQUALIZE), "rounding",
                  !(o->skip & PS_COMPRESS_ROUNDING), "bias", !(o->skip & PS_COMPRESS_BIAS), "mixed",
                  !(o->skip & PS_COMPRESS_MIXED), "max_drop", o->max_drop >= 0 ? json_real(o->max_drop) : json_null(),
                  "calibration", text(r->calibration), "validation", text(r->validation));
    if (!r->photos) return j;
    const ps_preprocess *p = &r->preprocess;
    json_object_set_new(j, "preprocess",
                        json_pack("{s:i, s:i, s:s, s:[f,f,f], s:[f,f,f], s:s, s:s}", "resize", p->resize, "size",
                                  p->size, "filter", p->bilinear ? "bilinear" : "bicubic", "mean", (double)p->mean[0],
                                  (double)p->mean[1], (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1],
                                  (double)p->std[2], "layout", p->nhwc ? "NHWC" : "NCHW", "color",
                                  p->gray  ? "gray"
                                  : p->bgr ? "BGR"
                                           : "RGB"));
    return j;
}

static json_t *accuracy_json(const ps_compress_summary *s) {
    return json_pack("{s:I, s:I, s:b, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "samples",
                     (json_int_t)s->validated, "skipped", (json_int_t)s->skipped, "held_out", (int)s->held_out,
                     "top1_before", real(s->top1_before), "top1_after", real(s->top1_after), "lost",
                     (json_int_t)s->lost, "won", (json_int_t)s->won, "drop_low", real(s->drop_low), "drop_high",
                     real(s->drop_high), "agreement", real(s->agreement), "cosine", real(s->cosine), "cosine_least",
                     real(s->cosine_least), "sqnr_db", real(s->sqnr), "metric_before", real(s->metric_before),
                     "metric_after", real(s->metric_after), "drop", real(s->drop), "measure",
                     s->measure ? s->measure : "");
}

static json_t *report_json(const ps_compress_result *r) {
    const ps_compress_summary *s = &r->summary;
    json_t *size = json_pack("{s:I, s:I, s:o, s:I, s:I}", "before", (json_int_t)s->bytes_before, "after",
                             (json_int_t)s->bytes_after, "ratio",
                             real(s->bytes_after ? (double)s->bytes_before / (double)s->bytes_after : NAN),
                             "zstd_before", (json_int_t)s->zstd_before, "unpacked_after", (json_int_t)r->packed);
    json_t *machine = json_pack("{s:o, s:i}", "cpu", text(r->hardware), "threads", r->threads);
    return json_pack("{s:s, s:o, s:o, s:s, s:s, s:b, s:o, s:o, s:o, s:[I,I], s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:o, "
                     "s:I, s:o}",
                     "polestar", ps_version(), "input", text(r->input), "output", text(r->output), "input_digest",
                     r->digest_before, "output_digest", r->digest_after, "dry_run", (int)r->options.dry_run, "size",
                     size, "accuracy", accuracy_json(s), "machine", machine, "opset", (json_int_t)s->opset_before,
                     (json_int_t)s->opset_after, "layers_total", (json_int_t)s->layers, "layers_quantized",
                     (json_int_t)s->layers_quantized, "calibrated", (json_int_t)s->calibrated, "ms_before",
                     real(s->ms_before), "ms_after", real(s->ms_after), "memory_before", (json_int_t)s->memory_before,
                     "memory_after", (json_int_t)s->memory_after, "seconds", real(s->seconds), "peak_bytes",
                     (json_int_t)s->peak_bytes, "settings", settings_json(r));
}

ps_status ps_compress_report_text(const ps_compress_result *r, char **ret, ps_error *err) {
    json_t *j = report_json(r), *layers = json_array();
    for (size_t i = 0; i < r->n_layers; i++)
        json_array_append_new(layers, layer_json(&r->layers[i]));
    if (j) json_object_set_new(j, "layers", layers);
    json_t *stages = json_object();
    for (size_t i = 0; i < r->n_stages; i++)
        json_object_set_new(stages, r->stages[i].name, json_real(r->stages[i].seconds));
    if (j) json_object_set_new(j, "stages", stages);
    char *dumped = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    *ret = dumped ? ps_strdup(r->alloc, dumped) : NULL;
    free(dumped);
    json_decref(j);
    return *ret ? PS_OK : PS_FAIL_NOMEM(err, "a report");
}

void ps_compress_text_free(ps_compress_result *r, char *s) {
    ps_free(r->alloc, s);
}

ps_status ps_compress_report(const ps_compress_result *r, const char *path, ps_error *err) {
    const size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".html") == 0) {
        ps_str s;
        ps_str_init(&s, r->alloc);
        ps_status status = ps_report_html(r, &s);
        if (s.failed) status = PS_FAIL_NOMEM(err, "a report");
        if (status == PS_OK) status = ps_file_write(path, s.data, s.size, 0644, err);
        ps_str_release(&s);
        return status;
    }
    PS_FAIL_IF(n < 6 || strcmp(path + n - 5, ".json") != 0, err, INVALID,
               "report '%s' ends neither in .json nor in .html", path);
    char *json;
    PS_TRY(ps_compress_report_text(r, &json, err));
    ps_status status = ps_file_write(path, json, strlen(json), 0644, err);
    ps_free(r->alloc, json);
    return status;
}
