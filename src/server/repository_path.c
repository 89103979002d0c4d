#include "server/repository_path.h"

#include <string.h>

#include "base/os.h"
#include "base/str.h"

#define FILE_NAME "model.onnx"
#define SUFFIX ".onnx"
#define PACKED ".zst" /* may follow */

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

/* A file's name without the mark of compression. */
static size_t unpacked_size(const char *name, size_t size) {
    return ends_with(name, size, PACKED) ? size - strlen(PACKED) : size;
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

char *ps_model_name_of_path(ps_alloc_state *alloc, const char *path) {
    size_t end = strlen(path), size;
    const char *name = last_component(path, &end, &size);
    size = unpacked_size(name, size);
    if (size == strlen(FILE_NAME) && memcmp(name, FILE_NAME, size) == 0 && end > 0) {
        name = last_component(path, &end, &size);
        if (is_version(name, size) && end > 0) name = last_component(path, &end, &size);
    } else if (ends_with(name, size, SUFFIX)) {
        size -= strlen(SUFFIX);
    }
    char *copy = ps_alloc(alloc, size + 1);
    if (!copy) return NULL;
    memcpy(copy, name, size);
    copy[size] = '\0';
    return copy;
}

bool ps_model_path_plausible(ps_alloc_state *alloc, const char *path) {
    return ps_dir_exists(path) || ends_with(path, unpacked_size(path, strlen(path)), SUFFIX);
}

/* dir/model.onnx, or dir/model.onnx.zst if only that is a file. *ret_there: is it? NULL: out of memory. */
static char *model_file(ps_alloc_state *alloc, const char *dir, bool *ret_there) {
    static const char *const names[] = { FILE_NAME PACKED, FILE_NAME };
    char *file = NULL;
    *ret_there = ps_dir_exists(dir);
    for (size_t i = 2; i-- > 0;) {
        ps_free(alloc, file);
        file = ps_path_join(alloc, dir, names[i]);
        if (!file || ps_file_exists(file)) return file;
    }
    *ret_there = false;
    return file;
}

/* The model's file in path/version, or NULL. */
static char *version_file(ps_alloc_state *alloc, const char *path, const char *version) {
    bool there = false;
    char *dir = ps_path_join(alloc, path, version);
    char *file = dir ? model_file(alloc, dir, &there) : NULL;
    ps_free(alloc, dir);
    if (file && there) return file;
    ps_free(alloc, file);
    return NULL;
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
        bool there;
        file = model_file(alloc, path, &there);
        if (!file) return PS_FAIL_NOMEM(err, "a path");
        if (!there) {
            ps_free(alloc, file);
            return PS_FAIL(err, NOT_FOUND, "folder '%s' holds neither %s nor VERSION/%s", path, FILE_NAME, FILE_NAME);
        }
    }
    *ret_file = file;
    return PS_OK;
}
