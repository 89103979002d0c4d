/* compress.h - smaller models: 8-bit integers and 16-bit floats, with the loss measured.
 *
 * ps_compress reads a model file, measures it on calibration data, writes a standard ONNX file and tells what it cost.
 * It blocks; one call at a time per engine is wise, for it uses all the engine's threads. The input file is never
 * touched, and nothing stands under the output's name before it is complete. docs/compress.md explains the methods. */
#ifndef POLESTAR_COMPRESS_H
#define POLESTAR_COMPRESS_H

#include "polestar/engine.h"
#include "polestar/io.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ps_compress_type {
    PS_COMPRESS_INT8,         /* weights and activations, ranges from calibration data; as QuantizeLinear pairs */
    PS_COMPRESS_INT8_DYNAMIC, /* weights, and activations by ranges found at run time; needs no data */
    PS_COMPRESS_FP16,         /* weights stored as IEEE half, computed in float */
    PS_COMPRESS_BF16          /* weights stored as bfloat16, computed in float */
} ps_compress_type;

/* How the range of an activation is chosen. */
typedef enum ps_compress_range {
    PS_RANGE_AUTO,       /* for each tensor the one with the least measured error */
    PS_RANGE_MINMAX,     /* all that was seen */
    PS_RANGE_PERCENTILE, /* all but one in 10,000 on either side */
    PS_RANGE_ENTROPY,    /* least Kullback-Leibler divergence */
    PS_RANGE_MSE         /* least mean squared error */
} ps_compress_range;

/* What max_drop bounds where neither labels nor a metric are given. */
typedef enum ps_compress_measure {
    PS_MEASURE_AUTO,   /* cosine for outputs of length 1, else argmax */
    PS_MEASURE_ARGMAX, /* samples whose argmax changed (of a picture: pixels) */
    PS_MEASURE_COSINE  /* 1 - mean cosine */
} ps_compress_measure;

/* Ways to win accuracy back; bits of ps_compress_options.skip turn them off. */
enum {
    PS_COMPRESS_EQUALIZE = 1, /* channels scaled between layers (cross-layer equalisation, SmoothQuant) */
    PS_COMPRESS_ROUNDING = 2, /* weights corrected and rounded for what the layer's inputs are */
    PS_COMPRESS_BIAS = 4,     /* biases moved by the mean error of each channel */
    PS_COMPRESS_MIXED = 8     /* costly layers kept in float */
};

/* The compressed model at a path, judged by the caller: larger is better. Return anything but PS_OK to stop. */
typedef ps_status (*ps_compress_metric_fn)(void *ctx, const char *model_path, double *ret_value, ps_error *reterr);
/* share: 0 to 1 of the whole; stage: static text of what is done now. Called from the calling thread. */
typedef void (*ps_compress_progress_fn)(void *ctx, double share, const char *stage);
typedef void (*ps_compress_warn_fn)(void *ctx, const char *sentence);

typedef struct ps_compress_options {
    size_t size;
    ps_compress_type type;
    /* Data: a folder of photos (with labels.txt, lines of "file class", if there are labels), of .npy or .npz files, or
     * of test_data_set_* folders; or one .npy or .npz file whose first dim counts samples. */
    const char *calibration;
    size_t calibration_samples;      /* the first so many; 0: 128 */
    const char *validation;          /* NULL: what of calibration was not used, or, if that is nothing, what was */
    size_t validation_samples;       /* 0: all */
    const ps_preprocess *preprocess; /* of photos; NULL: as they are */
    double max_drop;                 /* per cent of accuracy, or of agreement, that may be lost; negative: any */
    ps_compress_metric_fn metric;    /* NULL: labels if the data has them, else agreement with the original */
    void *metric_ctx;
    ps_compress_measure measure;
    ps_compress_range range;
    unsigned skip;    /* PS_COMPRESS_EQUALIZE … */
    int weight_bits;  /* 8, or 7: no sum of two products overflows 16 bits (CPUs without VNNI); 0: 8 */
    bool sensitivity; /* measure every layer alone, for the report, even if max_drop is kept */
    int zstd_level;   /* for .onnx.zst; 0: 19 */
    int64_t opset;    /* at least this version of ai.onnx (7 to 21); 0: the lowest that suffices */
    uint64_t seed;    /* of the positions that are sampled in feature maps */
    bool dry_run;     /* only estimate: nothing is written; output may be NULL */
    bool no_latency;  /* measure neither time nor memory of the two models */
    ps_compress_progress_fn progress;
    void *progress_ctx;
    ps_compress_warn_fn warn;
    void *warn_ctx;
    const int *cancel; /* stop soon after *cancel becomes non-zero: PS_CANCELLED; may be NULL */
} ps_compress_options;

#define PS_COMPRESS_OPTIONS_INIT                                                                                       \
    { .size = sizeof(ps_compress_options), .max_drop = -1 }

typedef struct ps_compress_result ps_compress_result;

/* output ends in .onnx or .onnx.zst. Free the result with ps_compress_result_free. */
PS_API ps_status ps_compress(ps_engine *engine, const char *input, const char *output,
                             const ps_compress_options *options, ps_compress_result **ret, ps_error *reterr);
PS_API void ps_compress_result_free(ps_compress_result *result); /* NULL is allowed */

/* Numbers that were not measured are NaN, counts 0. */
typedef struct ps_compress_summary {
    size_t size;
    uint64_t bytes_before, bytes_after; /* of the files; after a dry run an estimate */
    uint64_t zstd_before;               /* of the original at the level that the output has or would have */
    int64_t opset_before, opset_after;
    size_t layers, layers_quantized; /* with weights */
    size_t calibrated, validated;    /* samples */
    size_t skipped;                  /* samples that could not be read */
    bool held_out;                   /* none of the validated samples was calibrated with */
    double top1_before, top1_after;  /* per cent, if there are labels */
    size_t lost, won;                /* samples that only the original, only the result has right */
    double drop_low, drop_high;      /* 95 % interval of the difference before - after, per cent, paired */
    double agreement;                /* per cent of samples (rows) with the same argmax */
    double cosine, cosine_least;     /* mean and least over samples */
    double sqnr;                     /* dB, mean over samples of the first output */
    double metric_before, metric_after;
    double drop;                /* what max_drop bounds, per cent */
    const char *measure;        /* of it: "top-1", "argmax", "cosine", "metric" or "" */
    double ms_before, ms_after; /* median of one run, on this machine, all the engine's threads */
    uint64_t peak_bytes;        /* of the compression, of the engine's allocator */
    double seconds;
    uint64_t memory_before, memory_after; /* the most that a model takes, from loading to its first run; or 0 */
} ps_compress_summary;
PS_API ps_status ps_compress_summarize(const ps_compress_result *result, ps_compress_summary *ret);

/* One layer with weights, in the order of the graph. Strings are owned by the result. */
typedef struct ps_compress_layer {
    size_t size;
    const char *name, *op, *weight;
    size_t parameters;
    bool quantized;     /* false: kept in float */
    const char *reason; /* why it was kept, or "" */
    const char *range;  /* how its input's range was chosen: "mse" …, "" if not at all */
    double low, high;   /* that range */
    double weight_sqnr; /* dB of the rounded weights against the original ones */
    double sqnr;        /* dB of its output within the compressed model */
    double alone;       /* dB of the model's first output with this layer alone quantised */
} ps_compress_layer;
PS_API ps_status ps_compress_layer_at(const ps_compress_result *result, size_t index, ps_compress_layer *ret);

/* A .json or a self-contained .html file. */
PS_API ps_status ps_compress_report(const ps_compress_result *result, const char *path, ps_error *reterr);
/* The JSON document; free with ps_compress_text_free. */
PS_API ps_status ps_compress_report_text(const ps_compress_result *result, char **ret_text, ps_error *reterr);
PS_API void ps_compress_text_free(ps_compress_result *result, char *text);

#ifdef __cplusplus
}
#endif
#endif
