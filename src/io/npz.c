/* npz.c - numpy's .npz: a zip archive with one .npy file for each array, stored or deflated. */
#include <string.h>
#include <unzip.h>

#include "base/os.h"
#include "io/io.h"

enum { MAX_ARRAYS = 65536, MAX_NAME = 512 };

static ps_status read_entry(ps_alloc_state *a, unzFile zip, size_t size, const char *name, ps_tensor **ret,
                            ps_error *err) {
    size_t done = 0;
    uint8_t *data = ps_alloc(a, size ? size : 1);
    if (!data) return PS_FAIL(err, NO_MEMORY, "array '%s': out of memory for %zu bytes", name, size);
    ps_status status = unzOpenCurrentFile(zip) == UNZ_OK
                           ? PS_OK
                           : PS_FAIL(err, UNSUPPORTED, "array '%s' is encrypted or packed in an unknown way", name);
    while (status == PS_OK && done < size) {
        const size_t left = size - done;
        const int n = unzReadCurrentFile(zip, data + done, left > 1 << 24 ? 1 << 24 : (unsigned)left);
        if (n <= 0) status = PS_FAIL(err, FORMAT, "array '%s' is damaged", name);
        if (n > 0) done += (size_t)n;
    }
    /* Closing compares the checksum, once all was read. */
    if (unzCloseCurrentFile(zip) != UNZ_OK && status == PS_OK)
        status = PS_FAIL(err, FORMAT, "array '%s': its checksum is wrong", name);
    if (status == PS_OK) {
        status = ps_npy_read(a, data, size, ret, err);
        if (status != PS_OK) ps_error_prefix(err, "array '%s'", name);
    }
    ps_free(a, data);
    return status;
}

static ps_status next_array(ps_alloc_state *a, unzFile zip, ps_npz_fn fn, void *ctx, ps_error *err) {
    unz_file_info64 info;
    char name[MAX_NAME];
    ps_tensor *t;
    PS_FAIL_IF(unzGetCurrentFileInfo64(zip, &info, name, sizeof name, NULL, 0, NULL, 0) != UNZ_OK, err, FORMAT,
               "its directory is damaged");
    PS_FAIL_IF(info.size_filename >= sizeof name, err, LIMIT, "an array's name has %lu bytes, at most %d are read",
               (unsigned long)info.size_filename, MAX_NAME - 1);
    const size_t n = strlen(name);
    if (n < 4 || strcmp(name + n - 4, ".npy") != 0) return PS_OK;
    name[n - 4] = 0;
    /* deflate gains a factor of 1032 at most: a size beyond was made up */
    PS_FAIL_IF(info.uncompressed_size / 1032 > info.compressed_size + 1 || info.uncompressed_size > ps_memory_total(),
               err, LIMIT, "array '%s' would have %llu bytes", name, (unsigned long long)info.uncompressed_size);
    PS_TRY(read_entry(a, zip, (size_t)info.uncompressed_size, name, &t, err));
    return fn(ctx, name, t, err);
}

ps_status ps_npz_read(ps_alloc_state *a, const char *path, ps_npz_fn fn, void *ctx, ps_error *err) {
    PS_FAIL_IF(!ps_file_exists(path), err, NOT_FOUND, "%s: there is no such file", path);
    unzFile zip = unzOpen64(path);
    ps_status status = zip ? PS_OK : PS_FAIL(err, FORMAT, "this is no .npz file, or a damaged one");
    if (zip && unzGoToFirstFile(zip) != UNZ_OK) status = PS_FAIL(err, FORMAT, "it holds no array");
    for (int i = 0; status == PS_OK; i++) {
        if (i == MAX_ARRAYS) {
            status = PS_FAIL(err, LIMIT, "it holds more than %d arrays", MAX_ARRAYS);
            break;
        }
        status = next_array(a, zip, fn, ctx, err);
        if (status == PS_OK && unzGoToNextFile(zip) != UNZ_OK) break;
    }
    if (zip) unzClose(zip);
    if (status != PS_OK) ps_error_prefix(err, "%s", path);
    return status;
}
