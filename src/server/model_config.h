/* model_config.h - what a model's config.pbtxt or config.json says (Triton's ModelConfig, the part of it that means
 * something here).
 *
 * A key that is not supported is kept by name in `unsupported`, for the log; what cannot be served at all (an ensemble,
 * another framework's file) and what makes no sense is refused with a sentence that names the line. Everything lies in
 * the arena. Immutable once read: any thread. */
#ifndef PS_SERVER_MODEL_CONFIG_H
#define PS_SERVER_MODEL_CONFIG_H

#include "base/arena.h"
#include "base/error.h"
#include "polestar/model.h"
#include "sched/sched.h"

#define PS_CONFIG_MAX_TENSORS 1024  /* inputs, outputs, states, inputs of a warm-up */
#define PS_CONFIG_MAX_VERSIONS 1024 /* of version_policy.specific */
#define PS_CONFIG_MAX_WARMUPS 64
#define PS_CONFIG_MAX_WARMUP_RUNS 1000 /* of one warm-up */
#define PS_CONFIG_MAX_PARAMETERS 256
#define PS_CONFIG_MAX_GPUS 32        /* numbers in instance_group */
#define PS_CONFIG_MAX_UNSUPPORTED 32 /* names that are kept */

/* An input or output as the file has it: dims are without the batch's where max_batch_size is not 0. */
typedef struct ps_config_tensor {
    const char *name;
    ps_dtype dtype; /* UNDEFINED: not said */
    ps_shape shape; /* rank -1: not said; a dim -1 is any */
} ps_config_tensor;

typedef struct ps_config_state {
    const char *input, *output;
    ps_shape shape; /* rank -1: the model's */
} ps_config_state;

typedef enum ps_warmup_data { PS_WARMUP_ZERO, PS_WARMUP_RANDOM, PS_WARMUP_FILE } ps_warmup_data;

typedef struct ps_warmup_input {
    const char *name;
    ps_dtype dtype;
    ps_shape shape; /* without the batch's dim where max_batch_size is not 0 */
    ps_warmup_data data;
    const char *file; /* in the folder `warmup` of the model */
} ps_warmup_input;

typedef struct ps_warmup {
    const char *name;
    int64_t batch, count; /* rows, runs */
    ps_warmup_input *inputs;
    size_t n_inputs;
} ps_warmup;

typedef struct ps_config_parameter {
    const char *key, *value;
} ps_config_parameter;

/* instance_group: where the model is to run. */
typedef struct ps_config_devices {
    bool cpu, gpu; /* KIND_CPU; KIND_GPU without numbers: all */
    uint32_t gpus; /* bit i: number i of them */
} ps_config_devices;

typedef enum ps_version_policy { PS_VERSIONS_LATEST, PS_VERSIONS_ALL, PS_VERSIONS_SPECIFIC } ps_version_policy;

typedef struct ps_model_config {
    const char *name; /* NULL: not said */
    const char *file; /* default_model_filename; NULL: model.onnx and its like */
    bool has_max_batch;
    int64_t max_batch; /* 0: requests are not put together, and dims are whole */
    ps_config_tensor *inputs, *outputs;
    size_t n_inputs, n_outputs;

    ps_version_policy policy;
    int64_t latest; /* at least 1 */
    int64_t *versions;
    size_t n_versions;

    ps_sched_knobs knobs; /* dynamic_batching, for the policies that have any */
    int64_t queue_size;   /* 0: the server's */
    int64_t timeout_us;   /* of requests that name none, and the most that they may name; 0: none */

    ps_config_devices devices;

    ps_config_state *states;
    size_t n_states;
    int64_t idle_us; /* 0: the server's */

    ps_warmup *warmups;
    size_t n_warmups;
    ps_config_parameter *parameters;
    size_t n_parameters;

    const char **unsupported; /* "dynamic_batching.priority_levels" */
    size_t n_unsupported;     /* kept; at most PS_CONFIG_MAX_UNSUPPORTED */
} ps_model_config;

/* As if there were no file. */
void ps_model_config_init(ps_model_config *config);
ps_status ps_model_config_read(const char *text, size_t size, bool json, ps_arena *arena, ps_model_config *ret,
                               ps_error *err);

/* A whole file, JSON if its name ends so; errors begin with its name. path NULL: as if there were none. */
ps_status ps_model_config_load(const char *path, ps_arena *arena, ps_model_config *ret, ps_error *err);

/* Of a parameter; NULL: none. */
const char *ps_model_config_parameter(const ps_model_config *config, const char *key);

/* The file against the model: names, types and dims of inputs and outputs. */
ps_status ps_model_config_check(const ps_model_config *config, const ps_value_info *inputs, size_t n_inputs,
                                const ps_value_info *outputs, size_t n_outputs, ps_error *err);
/* The states as the text of a .state.json (sequence.h), in the arena; *ret is NULL if there are none. */
ps_status ps_model_config_states(const ps_model_config *config, ps_arena *arena, const char **ret, ps_error *err);

#endif
