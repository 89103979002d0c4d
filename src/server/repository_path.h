/* repository_path.h - where in a repository the file of a model lies. */
#ifndef PS_SERVER_REPOSITORY_PATH_H
#define PS_SERVER_REPOSITORY_PATH_H

#include "base/alloc.h"
#include "base/error.h"

#define PS_MODEL_VERSION_TEXT 20 /* room for a version's digits */

/* dir/name; NULL when out of memory. */
char *ps_path_join(ps_alloc_state *alloc, const char *dir, const char *name);
/* "dir/resnet.onnx", "dir/resnet", "dir/resnet/model.onnx", "dir/resnet/3/model.onnx" → "resnet"; NULL when out of
 * memory. */
char *ps_model_name_of_path(ps_alloc_state *alloc, const char *path);
/* Could a repository item be a model: a folder, or a file *.onnx or *.pt2? */
bool ps_model_path_plausible(ps_alloc_state *alloc, const char *path);
/* The file to load and its version for a model's path (file or folder); free the file's name with ps_free. */
ps_status ps_model_path_resolve(ps_alloc_state *alloc, const char *path, char **ret_file,
                                char ret_version[PS_MODEL_VERSION_TEXT], ps_error *err);

#endif
