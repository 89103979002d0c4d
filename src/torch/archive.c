#include "torch/archive.h"

#include <string.h>
#include <unzip.h>

/* ---- what minizip reads from: the bytes in memory ---- */

static voidpf stream_open(voidpf opaque, const void *name, int mode) {
    (void)name;
    (void)mode;
    return opaque;
}

static uLong stream_read(voidpf opaque, voidpf stream, void *buf, uLong size) {
    (void)stream;
    ps_archive *a = opaque;
    size_t left = a->size - a->at, n = size < left ? size : left;
    memcpy(buf, a->data + a->at, n);
    a->at += n;
    return (uLong)n;
}

static uLong stream_write(voidpf opaque, voidpf stream, const void *buf, uLong size) {
    (void)opaque;
    (void)stream;
    (void)buf;
    (void)size;
    return 0;
}

static ZPOS64_T stream_tell(voidpf opaque, voidpf stream) {
    (void)stream;
    return ((const ps_archive *)opaque)->at;
}

static long stream_seek(voidpf opaque, voidpf stream, ZPOS64_T offset, int origin) {
    (void)stream;
    ps_archive *a = opaque;
    size_t base = origin == ZLIB_FILEFUNC_SEEK_CUR ? a->at : origin == ZLIB_FILEFUNC_SEEK_END ? a->size : 0;
    if (offset > a->size - base) return -1;
    a->at = base + (size_t)offset;
    return 0;
}

static int stream_nothing(voidpf opaque, voidpf stream) {
    (void)opaque;
    (void)stream;
    return 0;
}

/* ---- the directory ---- */

bool ps_archive_is_zip(const void *data, size_t size) {
    return size >= 4 && (memcmp(data, "PK\3\4", 4) == 0 || memcmp(data, "PK\5\6", 4) == 0);
}

static ps_status add_entry(ps_archive *a, ps_error *err) {
    char name[PS_ARCHIVE_MAX_NAME + 1] = { 0 };
    unz_file_info64 info;
    unz64_file_pos place;
    PS_FAIL_IF(unzGetCurrentFileInfo64(a->zip, &info, name, PS_ARCHIVE_MAX_NAME, NULL, 0, NULL, 0) != UNZ_OK ||
                   unzGetFilePos64(a->zip, &place) != UNZ_OK,
               err, FORMAT, "entry %zu of the zip file's directory is damaged", a->n);
    PS_FAIL_IF(info.size_filename > PS_ARCHIVE_MAX_NAME || strlen(name) != info.size_filename, err, FORMAT,
               "the name of entry %zu of the zip file is longer than %d bytes or holds a NUL", a->n,
               PS_ARCHIVE_MAX_NAME);
    PS_FAIL_IF(info.uncompressed_size > a->size && info.compression_method == 0, err, FORMAT,
               "entry '%.200s' claims %llu bytes, the file has %zu", name, (unsigned long long)info.uncompressed_size,
               a->size);
    ps_archive_entry *e = PS_ARENA_NEW(&a->arena, ps_archive_entry);
    if (e) e->name = ps_arena_strdup(&a->arena, name);
    if (!e || !e->name) return PS_FAIL_NOMEM(err, "the zip file's directory");
    e->packed = info.compression_method != 0 || (info.flag & 1) || info.compressed_size != info.uncompressed_size;
    e->size = (size_t)info.uncompressed_size;
    e->crc = (uint32_t)info.crc;
    e->place[0] = place.pos_in_zip_directory;
    e->place[1] = place.num_of_file;
    a->list[a->n++] = e;
    return PS_OK;
}

/* All of a torch archive lies in one folder, named after the file it was saved to. */
static ps_status cut_top(ps_archive *a, ps_error *err) {
    const char *first = a->list[0]->name, *slash = strchr(first, '/');
    size_t n = slash ? (size_t)(slash - first) + 1 : 0;
    for (size_t i = 0; i < a->n; i++) {
        if (strncmp(a->list[i]->name, first, n) != 0) n = 0;
    }
    a->top = ps_arena_strndup(&a->arena, first, n);
    if (!a->top) return PS_FAIL_NOMEM(err, "the zip file's directory");
    for (size_t i = 0; i < a->n; i++) {
        ps_archive_entry *e = a->list[i];
        e->name += n;
        PS_FAIL_IF(ps_map_get(&a->entries, e->name), err, FORMAT, "the zip file holds two entries '%.200s'", e->name);
        if (!ps_map_put(&a->entries, e->name, e)) return PS_FAIL_NOMEM(err, "the zip file's directory");
    }
    return PS_OK;
}

static ps_status read_directory(ps_archive *a, ps_error *err) {
    unz_global_info64 global;
    /* Some versions of minizip open a file whose directory is empty, others do not. */
    PS_FAIL_IF(!a->zip || unzGetGlobalInfo64(a->zip, &global) != UNZ_OK || global.number_entry == 0, err, FORMAT,
               "the zip file has no directory at its end, or an empty one: it is damaged or cut short");
    /* An entry of the directory takes 46 bytes at least. */
    PS_FAIL_IF(global.number_entry > a->size / 46 || global.number_entry > PS_ARCHIVE_MAX_ENTRIES, err, FORMAT,
               "the zip file claims %llu entries, which its %zu bytes cannot hold or which exceeds %zu",
               (unsigned long long)global.number_entry, a->size, PS_ARCHIVE_MAX_ENTRIES);
    a->list = ps_arena_array(&a->arena, (size_t)global.number_entry, sizeof(ps_archive_entry *));
    if (!a->list) return PS_FAIL_NOMEM(err, "the zip file's directory");
    int step = unzGoToFirstFile(a->zip);
    while (step == UNZ_OK && a->n < global.number_entry) {
        PS_TRY(add_entry(a, err));
        step = unzGoToNextFile(a->zip);
    }
    PS_FAIL_IF(a->n != global.number_entry, err, FORMAT, "the zip file's directory ends after %zu of %llu entries",
               a->n, (unsigned long long)global.number_entry);
    return cut_top(a, err);
}

static ps_status open_bytes(ps_archive *a, ps_error *err) {
    zlib_filefunc64_def io = { stream_open, stream_read,    stream_write,   stream_tell,
                               stream_seek, stream_nothing, stream_nothing, a };
    ps_arena_init(&a->arena, a->alloc);
    ps_map_init(&a->entries, a->alloc);
    a->zip = unzOpen2_64("memory", &io);
    ps_status status = read_directory(a, err);
    if (status != PS_OK) ps_archive_close(a);
    return status;
}

ps_status ps_archive_open_file(ps_alloc_state *alloc, const char *path, ps_archive *ret, ps_error *err) {
    *ret = (ps_archive) { .alloc = alloc };
    ps_file_map map;
    PS_TRY(ps_file_map_open(path, &map, err));
    ps_status status = ps_tensor_new_map(alloc, &map, &ret->file, err);
    ps_file_map_close(&map); /* of a map that was not taken */
    if (status != PS_OK) return status;
    ret->data = ret->file->data;
    ret->size = ret->file->bytes;
    return open_bytes(ret, err);
}

ps_status ps_archive_open_memory(ps_alloc_state *alloc, const void *data, size_t size, ps_archive *ret, ps_error *err) {
    *ret = (ps_archive) { .alloc = alloc, .data = data, .size = size };
    return open_bytes(ret, err);
}

void ps_archive_close(ps_archive *a) {
    if (a->zip) unzClose(a->zip);
    if (a->arena.alloc) ps_arena_release(&a->arena);
    if (a->entries.alloc) ps_map_release(&a->entries);
    ps_tensor_release(a->file);
    *a = (ps_archive) { 0 };
}

/* ---- entries ---- */

const ps_archive_entry *ps_archive_find(const ps_archive *a, const char *name) {
    return ps_map_get(&a->entries, name);
}

static ps_status locate(ps_archive *a, const ps_archive_entry *e, size_t *ret, ps_error *err) {
    int method, level;
    unz64_file_pos place = { e->place[0], e->place[1] };
    bool open = unzGoToFilePos64(a->zip, &place) == UNZ_OK && unzOpenCurrentFile2(a->zip, &method, &level, 1) == UNZ_OK;
    ZPOS64_T at = open ? unzGetCurrentFileZStreamPos64(a->zip) : 0;
    if (open) unzCloseCurrentFile(a->zip);
    PS_FAIL_IF(!open || at > a->size || e->size > a->size - at, err, FORMAT,
               "entry '%.200s' does not lie where the zip file's directory says", e->name);
    *ret = (size_t)at;
    return PS_OK;
}

static uint32_t checksum(const uint8_t *data, size_t size) {
    uLong crc = crc32(0, NULL, 0);
    while (size) {
        uInt n = size < (1u << 30) ? (uInt)size : 1u << 30;
        crc = crc32(crc, data, n);
        data += n;
        size -= n;
    }
    return (uint32_t)crc;
}

ps_status ps_archive_bytes(ps_archive *a, const ps_archive_entry *e, bool check, const uint8_t **ret, ps_error *err) {
    size_t at;
    PS_FAIL_IF(e->packed, err, UNSUPPORTED,
               "entry '%.200s' is compressed or encrypted: torch.export.save stores entries as they are", e->name);
    PS_TRY(locate(a, e, &at, err));
    PS_FAIL_IF(check && checksum(a->data + at, e->size) != e->crc, err, FORMAT,
               "entry '%.200s' is damaged: its checksum is wrong", e->name);
    *ret = a->data + at;
    return PS_OK;
}

void ps_archive_drop(const ps_archive *a) {
    ps_file_map map = { a->data, a->size };
    if (a->file) ps_file_map_drop(&map, 0, map.size);
}
