/* Weights in files of their own. A model may name only files below its own folder, symlinks resolved.
 * Source: onnx docs, ExternalData.md: keys location, offset, length; checksum is not verified there either. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "onnx/onnx_int.h"

ps_status ps_onnx_external_init(ps_onnx_external *ext, ps_alloc_state *alloc, const char *path, ps_error *err) {
    memset(ext, 0, sizeof *ext);
    ext->alloc = alloc;
    if (!path) return PS_OK;
    /* Resolved as a whole: a model that is itself a symlink keeps its weights beside the target, as in a blob cache. */
    PS_TRY(ps_path_real(alloc, path, &ext->folder, err));
    char *slash = strrchr(ext->folder, '/');
    if (slash) slash[slash == ext->folder ? 1 : 0] = '\0';
    return PS_OK;
}

void ps_onnx_external_release(ps_onnx_external *ext) {
    if (!ext->alloc) return;
    for (size_t i = 0; i < ext->files.size; i++) {
        ps_free(ext->alloc, ext->files.data[i].location);
        ps_tensor_release(ext->files.data[i].bytes);
    }
    ps_vec_release(ext->alloc, &ext->files);
    ps_free(ext->alloc, ext->folder);
    memset(ext, 0, sizeof *ext);
}

static bool parse_size(const char *s, size_t *ret) {
    size_t v = 0;
    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        if (ps_mul_overflow_size(v, 10, &v) || ps_add_overflow_size(v, (size_t)(*s - '0'), &v)) return false;
    }
    *ret = v;
    return true;
}

/* Does some component of the path equal ".."? */
static bool climbs(const char *path) {
    for (const char *p = path; (p = strstr(p, "..")); p += 2) {
        if ((p == path || p[-1] == '/') && (p[2] == '\0' || p[2] == '/')) return true;
    }
    return false;
}

static bool lies_below(const char *folder, const char *real) {
    size_t n = strlen(folder);
    if (strncmp(folder, real, n) != 0) return false;
    return folder[n - 1] == '/' || real[n] == '/';
}

static ps_status resolve(const ps_onnx_external *ext, const char *location, const char *label, char **ret_real,
                         ps_error *err) {
    PS_FAIL_IF(!location[0], err, FORMAT, "%s: external data without a location", label);
    PS_FAIL_IF(location[0] == '/', err, FORMAT, "%s: external data '%s' is an absolute path", label, location);
    ps_str path;
    ps_str_init(&path, ext->alloc);
    ps_str_printf(&path, "%s/%s", ext->folder, location);
    if (path.failed) {
        ps_str_release(&path);
        return PS_FAIL_NOMEM(err, "a path");
    }
    char *real = NULL;
    ps_status status = ps_path_real(ext->alloc, path.data, &real, NULL);
    ps_str_release(&path);
    if (status == PS_NO_MEMORY) return PS_FAIL_NOMEM(err, "a path");
    /* Said of a path that climbs whether or not it exists: a model must not probe the file system. */
    if (status == PS_OK ? !lies_below(ext->folder, real) : climbs(location)) {
        ps_free(ext->alloc, real);
        return PS_FAIL(err, FORMAT, "%s: external data '%s' lies outside of the model's folder", label, location);
    }
    PS_FAIL_IF(status != PS_OK, err, NOT_FOUND, "%s: external data file '%s' is not in the model's folder", label,
               location);
    *ret_real = real;
    return PS_OK;
}

static ps_status map_bytes(ps_alloc_state *alloc, const char *real, ps_tensor **ret, ps_error *err) {
    ps_file_map map;
    PS_TRY(ps_file_map_open(real, &map, err));
    ps_status status = ps_tensor_new_map(alloc, &map, ret, err);
    ps_file_map_close(&map); /* of a map that was not taken */
    return status;
}

static ps_status map_file(ps_onnx_external *ext, const char *location, const char *label, ps_tensor **ret,
                          ps_error *err) {
    for (size_t i = 0; i < ext->files.size; i++) {
        if (strcmp(ext->files.data[i].location, location) == 0) {
            *ret = ext->files.data[i].bytes;
            return PS_OK;
        }
    }
    char *real = NULL;
    PS_TRY(resolve(ext, location, label, &real, err));
    ps_onnx_external_file file = { ps_strdup(ext->alloc, location), NULL };
    ps_status status = PS_OK;
    if (!file.location || !ps_vec_reserve(ext->alloc, &ext->files, 1)) {
        status = PS_FAIL_NOMEM(err, "external data");
    } else {
        status = map_bytes(ext->alloc, real, &file.bytes, err);
        if (status != PS_OK) ps_error_prefix(err, "%s", label);
    }
    ps_free(ext->alloc, real);
    if (status != PS_OK) {
        ps_free(ext->alloc, file.location);
        return status;
    }
    ext->files.data[ext->files.size++] = file;
    *ret = file.bytes;
    return PS_OK;
}

typedef struct where {
    const char *location;
    size_t offset, length;
    bool has_length;
} where;

static ps_status read_entries(const Onnx__TensorProto *t, const char *label, where *ret, ps_error *err) {
    *ret = (where) { "", 0, 0, false };
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *key = ps_onnx_text(t->external_data[i]->key), *value = ps_onnx_text(t->external_data[i]->value);
        bool ok = true;
        if (strcmp(key, "location") == 0) {
            ret->location = value;
        } else if (strcmp(key, "offset") == 0) {
            ok = parse_size(value, &ret->offset);
        } else if (strcmp(key, "length") == 0) {
            ok = ret->has_length = parse_size(value, &ret->length);
        }
        PS_FAIL_IF(!ok, err, FORMAT, "%s: external data %s '%.40s' is no number of bytes", label, key, value);
    }
    return ps_onnx_check_name("external data location", ret->location, err);
}

ps_status ps_onnx_external_find(ps_onnx_external *ext, const Onnx__TensorProto *t, const char *label, size_t bytes,
                                ps_tensor **ret_file, size_t *ret_offset, ps_error *err) {
    PS_FAIL_IF(!ext->folder, err, UNSUPPORTED, "%s: refers to external data, which needs a model file beside it",
               label);
    where w;
    ps_tensor *file;
    PS_TRY(read_entries(t, label, &w, err));
    PS_FAIL_IF(w.has_length && w.length != bytes, err, FORMAT, "%s: external data has %zu bytes, the shape needs %zu",
               label, w.length, bytes);
    PS_TRY(map_file(ext, w.location, label, &file, err));
    PS_FAIL_IF(w.offset > file->bytes || bytes > file->bytes - w.offset, err, FORMAT,
               "%s: external data file '%s' has %zu bytes, %zu at offset %zu are needed", label, w.location,
               file->bytes, bytes, w.offset);
    *ret_file = file;
    *ret_offset = w.offset;
    return PS_OK;
}
