/* photo.h - photos as requests: a served model's preprocessing file turns a JPEG or PNG into its input, and its labels
 * turn the scores into classes with names.
 *
 * The file lies beside the model (docs/preprocess.md) and is read once, when the model is loaded. */
#ifndef PS_SERVER_PHOTO_H
#define PS_SERVER_PHOTO_H

#include "base/arena.h"
#include "base/str.h"
#include "polestar/io.h"
#include "polestar/session.h"

#define PS_PHOTO_MAX_TOP 1000
#define PS_PHOTO_DEFAULT_TOP 5

typedef struct ps_photo_settings {
    bool present; /* there is a preprocessing file */
    ps_preprocess preprocess;
    const char **labels; /* in the arena given to ps_photo_load */
    size_t n_labels;
} ps_photo_settings;

typedef struct ps_infer ps_infer;

/* Reads MODEL.preprocess.json beside MODEL.onnx and the labels it names. No file is fine, a wrong one is an error. */
ps_status ps_photo_load(ps_engine *engine, const char *model_file, ps_arena *arena, ps_photo_settings *ret,
                        ps_error *err);
/* Decodes the photo and gives it to the request as the model's one image input. Slow: for ps_infer.prepare. */
ps_status ps_photo_prepare(ps_infer *infer, const void *data, size_t size, ps_error *err);
/* Appends {"model_name":…,"model_version":…,"output":…,"classes":[{"index":…,"label":…,"score":…}]}: the `top` highest
 * elements of the request's one output; without labels there is no "label". For ps_infer.encode. */
ps_status ps_photo_write(ps_infer *infer, int64_t top, ps_str *out, ps_error *err);

#endif
