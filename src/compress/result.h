/* result.h - what a compression leaves behind: copies of its numbers, free of the job. */
#ifndef PS_COMPRESS_RESULT_H
#define PS_COMPRESS_RESULT_H

#include "compress/compress_int.h"

struct ps_compress_result {
    ps_alloc_state *alloc;
    ps_arena arena; /* strings and layers */
    ps_compress_summary summary;
    ps_compress_layer *layers;
    size_t n_layers;
    size_t packed; /* bytes of the model, uncompressed */
    const char *input, *output, *calibration, *validation;
    ps_compress_options options; /* without pointers */
    ps_preprocess preprocess;
    bool photos;
    struct {
        const char *name;
        double seconds;
    } stages[16];
    size_t n_stages;
    char hardware[128];
    int threads;
    char digest_before[24], digest_after[24];
};

ps_status ps_result_new(ps_alloc_state *alloc, ps_compress_result **ret, ps_error *err);
ps_status ps_result_fill(ps_job *job, ps_compress_result *result);
/* How the file was made, into its metadata. */
ps_status ps_recipe_write(ps_job *job, ps_onnx_edit *edit);

/* ---- measure.c ---- */
/* Median times of both models, run in turn. */
ps_status ps_time_models(ps_job *job, ps_model *after);
/* The most that each of the two files takes, loaded anew and run once. The output stands: a failure is a warning. */
void ps_measure_memory(ps_job *job);

const char *ps_compress_type_text(ps_compress_type type);    /* "int8" */
const char *ps_compress_range_text(ps_compress_range range); /* "auto" */

/* report_html.c */
ps_status ps_report_html(const ps_compress_result *result, ps_str *out);

#endif
