/* model.h - a loaded model: parsed, checked, optimised; immutable and shared.
 *
 * Any number of threads may use one model at once. It is reference counted; sessions hold a reference. */
#ifndef POLESTAR_MODEL_H
#define POLESTAR_MODEL_H

#include "polestar/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_model ps_model;

typedef struct ps_model_options {
    size_t size;
    const char *device; /* NULL or "auto" (the CPU), "cpu", "gpu" (the first OpenCL device, a graphics card if there
                         * is one), "opencl:N", "ref" (reference kernels only); or several of them with commas between,
                         * "opencl:0,opencl:1": each session of the model is on one of them */
    int threads;        /* 0: the engine's */
    size_t plan_cache_bytes; /* memory for compiled plans (one per set of input shapes); 0: 64 MiB */
    bool no_fusion;          /* run the graph as it stands in the file, for debugging */
    int64_t loop_limit;      /* iterations of one Loop, beyond which a run fails with PS_LIMIT; 0: 10,000,000 */
    /* What a file may ask for; a model beyond fails to load with PS_LIMIT. docs/limits.md has all limits. */
    size_t node_limit;     /* nodes of all graphs, with those of called functions; 0: 1,048,576 */
    int depth_limit;       /* nested subgraphs, 1 … 64; 0: 64 */
    uint64_t tensor_limit; /* bytes of one constant; 0: the machine's memory */
    uint64_t weight_limit; /* bytes of all different constants; 0: the machine's memory */
    /* Bytes that the model and its sessions may hold together: what would need more fails with PS_NO_MEMORY; 0: what
     * the engine may. */
    size_t memory_limit;
    /* Names the content of the file, such as a digest of it in hexadecimal: what ps_model_cache kept under this name is
     * taken instead of reading and optimising the file. NULL: the cache on disk is not asked. Of files only. */
    const char *cache_name;
    /* On a device with memory of its own: milliseconds from now in which plans may try variants of their kernels; what
     * is fastest is kept in the cache on disk for later loads. 0: only what was found before is used. */
    int64_t tune_ms;
    /* What f32 values between the operators lie as in the memory of an OpenCL device: PS_DTYPE_F32 (or 0), or
     * PS_DTYPE_F16, which takes half of that memory and of its bandwidth, rounds each stored number to 11 bits and
     * makes those beyond 65504 that. Sums stay f32, inputs and outputs too. PS_UNSUPPORTED on other devices.
     * docs/gpu.md */
    ps_dtype activations;
} ps_model_options;

#define PS_MODEL_OPTIONS_INIT                                                                                          \
    { sizeof(ps_model_options), 0, 0, 0, false, 0, 0, 0, 0, 0, 0, 0, 0, PS_DTYPE_UNDEFINED }

/* Loads an ONNX file or a torch.export archive (.pt2), told apart by their content. Nothing is kept of a model that
 * fails to load. options may be NULL. */
PS_API ps_status ps_model_load(ps_engine *engine, const char *path, const ps_model_options *options,
                               ps_model **ret_model, ps_error *reterr);
/* The same from memory, which is copied; external data is refused. */
PS_API ps_status ps_model_load_memory(ps_engine *engine, const void *data, size_t size, const ps_model_options *options,
                                      ps_model **ret_model, ps_error *reterr);
/* Keeps the optimised graph and all that was packed so far in the engine's cache on disk, under the name that the model
 * was loaded with, for later loads by the same build on the same processor; nothing is written if it is there already.
 * `note` (may be NULL) is any text, given back by ps_model_cache_note. PS_UNSUPPORTED with a sentence where that cannot
 * be: no name, no cache, weights in files beside the model, a device with memory of its own. The model's file has to
 * stay: rare layouts are still made from it. May be called while sessions run. */
PS_API ps_status ps_model_cache(ps_model *model, const char *note, ps_error *reterr);
/* The note of a model that came out of the cache; NULL: it was loaded from its file. Owned by the model. */
PS_API const char *ps_model_cache_note(const ps_model *model);
PS_API ps_model *ps_model_retain(ps_model *model);
PS_API void ps_model_release(ps_model *model); /* NULL is allowed */

/* One of the model's devices, in the order of ps_model_options.device. */
typedef struct ps_model_device_info {
    size_t size;
    const char *name; /* "cpu", "opencl:0"; owned by the engine */
    bool lost;        /* what sessions there run fails with PS_UNAVAILABLE, and no new ones are made: ps_model_reopen */
    size_t memory;    /* bytes of the device's own memory that weights and sessions hold; 0: it works in the host's */
} ps_model_device_info;

/* index 0 … until PS_NOT_FOUND. Any thread. */
PS_API ps_status ps_model_device(ps_model *model, size_t index, ps_model_device_info *ret_info);
/* After a device was lost (reset, taken out, its driver gone): opens it anew and loads the model there again, from its
 * file, which has to say what it said. device NULL: all of the model's devices that were lost. Sessions from before
 * stay lost (ps_session_lost) and are to be freed, before or after; those on other devices do not notice. Nothing
 * happens where nothing was lost. PS_NOT_FOUND: the model is not on that device. */
PS_API ps_status ps_model_reopen(ps_model *model, const char *device, ps_error *reterr);

/* Bytes that the model and its sessions hold now, weights, packed forms, plans and arenas, and the highest so far. It
 * is a part of ps_engine_memory. Mapped files are not counted: their pages are the system's. ret_peak may be NULL. */
PS_API size_t ps_model_memory(const ps_model *model, size_t *ret_peak);

/* One input or output as declared by the file. Declared output shapes are a hint: real files get them wrong. */
typedef struct ps_value_info {
    size_t size;
    const char *name; /* owned by the model */
    ps_dtype dtype;
    ps_shape shape; /* symbols: ps_model_symbol */
} ps_value_info;

PS_API size_t ps_model_input_count(const ps_model *model);
PS_API size_t ps_model_output_count(const ps_model *model);
PS_API ps_status ps_model_input(const ps_model *model, size_t index, ps_value_info *ret_info);
PS_API ps_status ps_model_output(const ps_model *model, size_t index, ps_value_info *ret_info);
/* Name of a symbolic dim (a number below PS_DIM_UNKNOWN), or NULL. Owned by the model. */
PS_API const char *ps_model_symbol(const ps_model *model, int64_t dim);

/* metadata_props of the file; NULL if the key is absent. */
PS_API const char *ps_model_metadata(const ps_model *model, const char *key);
PS_API size_t ps_model_metadata_count(const ps_model *model);
PS_API ps_status ps_model_metadata_at(const ps_model *model, size_t index, const char **ret_key,
                                      const char **ret_value);

/* What the file holds. Counts include subgraphs. */
typedef struct ps_model_summary {
    size_t size;
    const char *graph_name;
    const char *producer;
    int64_t ir_version;
    int64_t opset;       /* of the default domain */
    size_t nodes;        /* in the file */
    size_t nodes_fused;  /* after the model-level passes */
    size_t parameters;   /* elements of weights, each tensor once */
    size_t weight_bytes; /* bytes of the same */
    size_t file_bytes;
} ps_model_summary;

PS_API ps_status ps_model_summarize(const ps_model *model, ps_model_summary *ret_summary);

/* What ps_model_options.tune_ms came to so far: problems (tiles of a product; Winograd's filtering or not; pixels of a
 * depthwise convolution) whose variants were timed, variants timed, problems solved by another variant than the
 * device's table gives, variants refused because their results differed; and the time of one run of all those problems,
 * by the table and as chosen. */
typedef struct ps_model_tuning_info {
    size_t size;
    uint64_t problems, tried, faster, wrong;
    double usual_ms, chosen_ms;
} ps_model_tuning_info;

PS_API ps_status ps_model_tuning(ps_model *model, ps_model_tuning_info *ret_info);

/* Operators of the file by name: index 0 … until PS_NOT_FOUND, most frequent first. */
PS_API ps_status ps_model_operator(const ps_model *model, size_t index, const char **ret_name, size_t *ret_count);

/* The optimised graph as text; free with ps_text_free. */
PS_API ps_status ps_model_print(const ps_model *model, char **ret_text, ps_error *reterr);
PS_API void ps_text_free(ps_model *model, char *text);

#ifdef __cplusplus
}
#endif
#endif
