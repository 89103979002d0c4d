/* repository_path.h - where in a repository the file of a model lies. */
#ifndef PS_SERVER_REPOSITORY_PATH_H
#define PS_SERVER_REPOSITORY_PATH_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/vec.h"

#define PS_MODEL_VERSION_TEXT 20 /* room for a version's digits */

/* dir/name; NULL when out of memory, as the next. */
char *ps_path_join(ps_alloc_state *alloc, const char *dir, const char *name);
/* The folder of a file: "a/b.x" → "a", "b.x" → ".". */
char *ps_path_parent(ps_alloc_state *alloc, const char *path);
/* "dir/resnet.onnx", "dir/resnet", "dir/resnet/model.onnx", "dir/resnet/3/model.onnx" → "resnet"; NULL when out of
 * memory. */
char *ps_model_name_of_path(ps_alloc_state *alloc, const char *path);
/* Could a repository item be a model: a folder, or a file *.onnx or *.pt2? */
bool ps_model_path_plausible(ps_alloc_state *alloc, const char *path);

/* A version that is there. */
typedef struct ps_version_file {
    int64_t number;
    char *file;
} ps_version_file;
typedef PS_VEC(ps_version_file) ps_version_files;

/* The versions of a model's path (file or folder), ascending, at least one: VERSION/FILE, else FILE in the folder or
 * the file itself as version 1. FILE is file_name, or, if that is NULL, model.onnx or its like. */
ps_status ps_model_path_versions(ps_alloc_state *alloc, const char *path, const char *file_name, ps_version_files *ret,
                                 ps_error *err);
void ps_version_files_clear(ps_alloc_state *alloc, ps_version_files *files);
/* The model's config.pbtxt or config.json: in its folder, or STEM.config.pbtxt beside a file. *ret is NULL if there is
 * none. */
ps_status ps_model_path_config(ps_alloc_state *alloc, const char *path, char **ret, ps_error *err);

/* MODEL and the suffix for MODEL.onnx, MODEL.onnx.zst or MODEL.pt2; NULL: out of memory. ps_free it. */
char *ps_model_file_beside(ps_alloc_state *alloc, const char *model_file, const char *suffix);

#endif
