/* archive.h - a zip file whose entries lie in it uncompressed, as torch.export.save writes them: found by name, read in
 * place. Only the directory is parsed (by minizip, from memory); nothing is ever unpacked to a file, so the names are
 * keys and no paths. One thread at a time. */
#ifndef PS_TORCH_ARCHIVE_H
#define PS_TORCH_ARCHIVE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/map.h"
#include "base/os.h"
#include "tensor/tensor.h"

#define PS_ARCHIVE_MAX_ENTRIES ((size_t)1 << 20)
#define PS_ARCHIVE_MAX_NAME 1024

typedef struct ps_archive_entry {
    const char *name; /* with the archive's own top folder cut off */
    size_t size;
    uint32_t crc;
    bool packed;       /* compressed or encrypted: cannot be read in place */
    uint64_t place[2]; /* where minizip finds it again */
} ps_archive_entry;

typedef struct ps_archive {
    ps_alloc_state *alloc;
    ps_tensor *file; /* the mapped file, for views on parts of it; NULL if the bytes are the caller's */
    const uint8_t *data;
    size_t size;
    size_t at; /* of the reader that minizip sees */
    void *zip; /* unzFile */
    ps_arena arena;
    ps_map entries; /* name → ps_archive_entry */
    ps_archive_entry **list;
    size_t n;
    char *top; /* the folder that holds everything, with its slash, or "" */
} ps_archive;

/* Does it begin like a zip file? */
bool ps_archive_is_zip(const void *data, size_t size);

/* On failure nothing is left to close. data must outlive the archive. */
ps_status ps_archive_open_file(ps_alloc_state *alloc, const char *path, ps_archive *ret, ps_error *err);
ps_status ps_archive_open_memory(ps_alloc_state *alloc, const void *data, size_t size, ps_archive *ret, ps_error *err);
void ps_archive_close(ps_archive *archive);

const ps_archive_entry *ps_archive_find(const ps_archive *archive, const char *name); /* NULL if absent */
/* The entry's bytes where they lie, valid until close. Checks bounds and, if asked, the checksum. */
ps_status ps_archive_bytes(ps_archive *archive, const ps_archive_entry *entry, bool check, const uint8_t **ret,
                           ps_error *err);
/* Gives the pages of a mapped file back to the system once they were read. */
void ps_archive_drop(const ps_archive *archive);

#endif
