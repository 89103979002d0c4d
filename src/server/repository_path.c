#include "server/repository_path.h"

#include <string.h>

#include "base/os.h"
#include "base/str.h"

/* The first that is there is taken. */
static const struct {
    const char *file, *suffix;
} kinds[] = { { "model.onnx", ".onnx" }, { "model.onnx.zst", ".onnx.zst" }, { "model.pt2", ".pt2" } };
enum { N_KINDS = sizeof kinds / sizeof *kinds };

char *ps_path_join(ps_alloc_state *alloc, const char *dir, const char *name) {
    ps_str s;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    ps_str_init(&s, alloc);
    ps_str_append_n(&s, dir, n);
    ps_str_char(&s, '/');
    ps_str_append(&s, name);
    return ps_str_take(&s);
}

static bool ends_with(const char *text, size_t size, const char *suffix) {
    size_t n = strlen(suffix);
    return size > n && memcmp(text + size - n, suffix, n) == 0;
}

/* Positive, without leading zero, at most 18 digits. */
static bool is_version(const char *name, size_t size) {
    if (size == 0 || size > 18 || name[0] == '0') return false;
    for (size_t i = 0; i < size; i++)
        if (name[i] < '0' || name[i] > '9') return false;
    return true;
}

/* Last component of path[0, *end), trailing slashes ignored; *end moves to its start. */
static const char *last_component(const char *path, size_t *end, size_t *ret_size) {
    size_t stop = *end;
    while (stop > 0 && path[stop - 1] == '/')
        stop--;
    size_t start = stop;
    while (start > 0 && path[start - 1] != '/')
        start--;
    *end = start;
    *ret_size = stop - start;
    return path + start;
}

static bool is_file_name(const char *name, size_t size) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (size == strlen(kinds[i].file) && memcmp(name, kinds[i].file, size) == 0) return true;
    return false;
}

/* Bytes of a model file's suffix, 0 if it has none. */
static size_t suffix_size(const char *name, size_t size) {
    for (size_t i = 0; i < N_KINDS; i++)
        if (ends_with(name, size, kinds[i].suffix)) return strlen(kinds[i].suffix);
    return 0;
}

char *ps_model_name_of_path(ps_alloc_state *alloc, const char *path) {
    size_t end = strlen(path), size;
    const char *name = last_component(path, &end, &size);
    if (is_file_name(name, size) && end > 0) {
        name = last_component(path, &end, &size);
        if (is_version(name, size) && end > 0) name = last_component(path, &end, &size);
    } else {
        size -= suffix_size(name, size);
    }
    char *copy = ps_alloc(alloc, size + 1);
    if (!copy) return NULL;
    memcpy(copy, name, size);
    copy[size] = '\0';
    return copy;
}

bool ps_model_path_plausible(ps_alloc_state *alloc, const char *path) {
    return ps_dir_exists(path) || suffix_size(path, strlen(path)) > 0;
}

/* The model file in a folder; *ret_file stays NULL if there is none. */
static ps_status file_in(ps_alloc_state *alloc, const char *dir, char **ret_file, ps_error *err) {
    for (size_t i = 0; i < N_KINDS && !*ret_file; i++) {
        char *file = ps_path_join(alloc, dir, kinds[i].file);
        if (!file) return PS_FAIL_NOMEM(err, "a path");
        if (ps_file_exists(file))
            *ret_file = file;
        else
            ps_free(alloc, file);
    }
    return PS_OK;
}

/* path/version/model.onnx if that is a file, else NULL. */
static char *version_file(ps_alloc_state *alloc, const char *path, const char *version) {
    char *dir = ps_path_join(alloc, path, version), *file = NULL;
    if (dir && file_in(alloc, dir, &file, NULL) != PS_OK) file = NULL;
    ps_free(alloc, dir);
    return file;
}

static bool version_above(const char *a, const char *b) {
    size_t na = strlen(a), nb = strlen(b);
    return na != nb ? na > nb : strcmp(a, b) > 0;
}

/* The highest version folder that holds a model; *ret_file stays NULL if there is none. */
static ps_status highest_version(ps_alloc_state *alloc, const char *path, char **ret_file,
                                 char ret_version[PS_MODEL_VERSION_TEXT], ps_error *err) {
    char **names;
    size_t n;
    PS_TRY(ps_dir_list(alloc, path, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (!is_version(names[i], strlen(names[i]))) continue;
        if (*ret_file && !version_above(names[i], ret_version)) continue;
        char *file = version_file(alloc, path, names[i]);
        if (!file) continue;
        ps_free(alloc, *ret_file);
        *ret_file = file;
        ps_snprintf(ret_version, PS_MODEL_VERSION_TEXT, "%s", names[i]);
    }
    ps_dir_free(alloc, names, n);
    return PS_OK;
}

ps_status ps_model_path_resolve(ps_alloc_state *alloc, const char *path, char **ret_file,
                                char ret_version[PS_MODEL_VERSION_TEXT], ps_error *err) {
    char *file = NULL;
    ps_snprintf(ret_version, PS_MODEL_VERSION_TEXT, "1");
    if (!ps_dir_exists(path)) {
        PS_FAIL_IF(!ps_file_exists(path), err, NOT_FOUND, "'%s' does not exist", path);
        *ret_file = ps_strdup(alloc, path);
        return *ret_file ? PS_OK : PS_FAIL_NOMEM(err, "a path");
    }
    PS_TRY(highest_version(alloc, path, &file, ret_version, err));
    if (!file) {
        PS_TRY(file_in(alloc, path, &file, err));
        PS_FAIL_IF(!file, err, NOT_FOUND, "folder '%s' holds neither model.onnx (or model.pt2) nor VERSION/model.onnx",
                   path);
    }
    *ret_file = file;
    return PS_OK;
}
