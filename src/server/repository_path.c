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

char *ps_path_parent(ps_alloc_state *alloc, const char *path) {
    const char *slash = strrchr(path, '/');
    ps_str s;
    ps_str_init(&s, alloc);
    if (!slash)
        ps_str_char(&s, '.');
    else
        ps_str_append_n(&s, path, slash == path ? 1 : (size_t)(slash - path));
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
static ps_status file_in(ps_alloc_state *alloc, const char *dir, const char *file_name, char **ret_file,
                         ps_error *err) {
    for (size_t i = 0; i < (file_name ? 1 : N_KINDS) && !*ret_file; i++) {
        char *file = ps_path_join(alloc, dir, file_name ? file_name : kinds[i].file);
        if (!file) return PS_FAIL_NOMEM(err, "a path");
        if (ps_file_exists(file))
            *ret_file = file;
        else
            ps_free(alloc, file);
    }
    return PS_OK;
}

/* ---- versions ---- */

void ps_version_files_clear(ps_alloc_state *alloc, ps_version_files *files) {
    for (size_t i = 0; i < files->size; i++)
        ps_free(alloc, files->data[i].file);
    ps_vec_release(alloc, files);
}

/* Takes the file's name over, also on failure. */
static ps_status add_version(ps_alloc_state *alloc, int64_t number, char *file, ps_version_files *list, ps_error *err) {
    ps_version_file v = { number, file };
    if (!ps_vec_push(alloc, list, v)) {
        ps_free(alloc, file);
        return PS_FAIL_NOMEM(err, "a model's versions");
    }
    size_t i = list->size - 1;
    for (; i > 0 && list->data[i - 1].number > number; i--)
        list->data[i] = list->data[i - 1];
    list->data[i] = v;
    return PS_OK;
}

static int64_t number_of(const char *version) {
    int64_t n = 0;
    while (*version)
        n = n * 10 + (*version++ - '0'); /* 18 digits at most */
    return n;
}

/* path/version/FILE, if that is a file. */
static ps_status look_in(ps_alloc_state *alloc, const char *path, const char *version, const char *file_name,
                         ps_version_files *list, ps_error *err) {
    char *dir = ps_path_join(alloc, path, version), *file = NULL;
    if (!dir) return PS_FAIL_NOMEM(err, "a path");
    ps_status status = file_in(alloc, dir, file_name, &file, err);
    if (file) status = add_version(alloc, number_of(version), file, list, err);
    ps_free(alloc, dir);
    return status;
}

static ps_status list_versions(ps_alloc_state *alloc, const char *path, const char *file_name, ps_version_files *list,
                               ps_error *err) {
    char **names;
    size_t n;
    ps_status status = PS_OK;
    PS_TRY(ps_dir_list(alloc, path, &names, &n, err));
    for (size_t i = 0; i < n && status == PS_OK; i++)
        if (is_version(names[i], strlen(names[i]))) status = look_in(alloc, path, names[i], file_name, list, err);
    ps_dir_free(alloc, names, n);
    return status;
}

static ps_status find_versions(ps_alloc_state *alloc, const char *path, const char *file_name, ps_version_files *list,
                               ps_error *err) {
    char *file = NULL;
    if (!ps_dir_exists(path)) {
        PS_FAIL_IF(!ps_file_exists(path), err, NOT_FOUND, "'%s' does not exist", path);
        file = ps_strdup(alloc, path);
        return file ? add_version(alloc, 1, file, list, err) : PS_FAIL_NOMEM(err, "a path");
    }
    PS_TRY(list_versions(alloc, path, file_name, list, err));
    if (list->size) return PS_OK;
    PS_TRY(file_in(alloc, path, file_name, &file, err));
    if (file) return add_version(alloc, 1, file, list, err);
    PS_FAIL_IF(file_name, err, NOT_FOUND, "folder '%s' holds neither '%s' nor it in a VERSION", path, file_name);
    return PS_FAIL(err, NOT_FOUND, "folder '%s' holds neither model.onnx (or model.pt2) nor VERSION/model.onnx", path);
}

ps_status ps_model_path_versions(ps_alloc_state *alloc, const char *path, const char *file_name, ps_version_files *ret,
                                 ps_error *err) {
    *ret = (ps_version_files) { 0 };
    ps_status status = find_versions(alloc, path, file_name, ret, err);
    if (status != PS_OK) ps_version_files_clear(alloc, ret);
    return status;
}

/* ---- files beside ---- */

ps_status ps_model_path_config(ps_alloc_state *alloc, const char *path, char **ret, ps_error *err) {
    static const char *const names[] = { "config.pbtxt", "config.json" };
    bool folder = ps_dir_exists(path);
    *ret = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char suffix[32];
        ps_snprintf(suffix, sizeof suffix, ".%s", names[i]);
        char *file = folder ? ps_path_join(alloc, path, names[i]) : ps_model_file_beside(alloc, path, suffix);
        if (!file) return PS_FAIL_NOMEM(err, "a path");
        if (ps_file_exists(file)) {
            *ret = file;
            return PS_OK;
        }
        ps_free(alloc, file);
    }
    return PS_OK;
}

char *ps_model_file_beside(ps_alloc_state *alloc, const char *model_file, const char *suffix) {
    ps_str s;
    size_t n = strlen(model_file);
    ps_str_init(&s, alloc);
    ps_str_append_n(&s, model_file, n - suffix_size(model_file, n));
    ps_str_append(&s, suffix);
    return ps_str_take(&s);
}
