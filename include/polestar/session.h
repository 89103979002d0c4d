/* session.h - what one runner needs to run a model: arena, bindings, profile.
 *
 * A session is used by one thread at a time; make one per runner. Sessions of one model share its weights and plans.
 * The first run with new input shapes compiles a plan (cached in the model); later runs with those shapes allocate
 * nothing. */
#ifndef POLESTAR_SESSION_H
#define POLESTAR_SESSION_H

#include "polestar/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ps_session ps_session;

typedef struct ps_session_options {
    size_t size;
    int threads;        /* threads of one run; 0: the model's */
    bool profile;       /* time every step; see ps_session_profile */
    const char *device; /* of the model's devices the one to run on, as there or as ps_model_device calls it; NULL: the
                         * first */
} ps_session_options;

#define PS_SESSION_OPTIONS_INIT                                                                                        \
    { sizeof(ps_session_options), 0, false, 0 }

PS_API ps_status ps_session_create(ps_model *model, const ps_session_options *options, ps_session **ret_session,
                                   ps_error *reterr);
PS_API void ps_session_free(ps_session *session); /* NULL is allowed */
/* Was its device lost? Then nothing runs in it any more, also when the device is well again: ps_model_reopen, and make
 * another one. Any thread. */
PS_API bool ps_session_lost(const ps_session *session);

typedef struct ps_run_options {
    size_t size;
    int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none. Checked between operators: PS_DEADLINE */
    const int *cancel;   /* stop soon after *cancel becomes non-zero (atomic, any thread): PS_CANCELLED; may be NULL */
} ps_run_options;

#define PS_RUN_OPTIONS_INIT                                                                                            \
    { sizeof(ps_run_options), 0, 0 }

/* Runs the model once. inputs: one per model input, in the model's order, NULL only for an input that has a default.
 * outputs: one slot per model output. A slot holding NULL receives a tensor of the session, valid until its next run or
 * free (do not release it). A slot holding a row-major tensor of the right dtype and shape is written in place.
 * An input may lie where an output will be written (the last run's output given back, or one tensor given as both): it
 * is copied first. Symbolic dims of the same name must agree over all inputs. options may be NULL. */
PS_API ps_status ps_session_run(ps_session *session, const ps_tensor *const *inputs, size_t n_inputs,
                                ps_tensor **outputs, size_t n_outputs, const ps_run_options *options, ps_error *reterr);

/* One step of the last run's plan. */
typedef struct ps_step_info {
    size_t size;
    const char *node;   /* name of the (first) node in the file, "" if it has none */
    const char *op;     /* "Conv+Relu" */
    const char *kernel; /* "onednn.conv brgconv:avx512_core" */
    const char *device;
    ps_shape shape; /* of the first output */
    int64_t calls;  /* since the profile was reset; 0 without options.profile */
    int64_t total_ns;
    int64_t macs;         /* multiply-accumulates of one call, 0 if not counted */
    const char *note;     /* why it computes on floats what the model has quantised; NULL: nothing to say */
    const char *fallback; /* why it does not run on the model's device; NULL: it does */
    ps_dtype stored;      /* what the first output lies as: f16 where an f32 value is stored so; UNDEFINED: not known */
} ps_step_info;

/* Steps of the plan used last: index 0 … until PS_NOT_FOUND. Strings live as long as the session's last plan. */
PS_API ps_status ps_session_step(const ps_session *session, size_t index, ps_step_info *ret_info);
PS_API void ps_session_profile_reset(ps_session *session);

typedef struct ps_session_stats {
    size_t size;
    size_t arena_bytes;    /* activations of the plan used last, after planning */
    size_t no_reuse_bytes; /* the same if no memory were reused */
    size_t steps;
    size_t reorders;  /* of them, conversions of layout and storage */
    size_t transfers; /* of them, copies between the host's and the device's memory */
    int64_t macs;
    int64_t plans; /* plans compiled for this model since it was loaded */
} ps_session_stats;

PS_API ps_status ps_session_statistics(const ps_session *session, ps_session_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
