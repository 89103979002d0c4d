/* cache.h - the one cache on disk: tuning results, compiled device programs, packed weights.
 *
 * A folder of files, one an entry; nothing in it is ever needed, everything can be made again. An entry is found by its
 * whole key and checked by a checksum before it is handed out: damaged, cut or foreign entries are deleted and count as
 * a miss. Total size is kept below a limit by deleting what was not used for the longest time.
 *
 * Safety: the folder must belong to this user and be writable by nobody else, because cached programs are run. Links in
 * it are never followed. Several processes, and several threads with one ps_cache, may use it at once: an entry appears
 * whole, by rename, or not at all.
 *
 * A NULL cache is allowed everywhere and is always empty: caching is off. */
#ifndef PS_BASE_CACHE_H
#define PS_BASE_CACHE_H

#include "base/arena.h"
#include "base/error.h"

typedef struct ps_cache ps_cache;

#define PS_CACHE_DEFAULT_BYTES ((uint64_t)1 << 30)

/* Everything the content depends on. Strings may not be NULL. Limits: kind 64 bytes, digest 64, version 256, target
 * 1024; a longer key fails with PS_LIMIT. */
typedef struct ps_cache_key {
    const char *kind;   /* what it is: "opencl-program", "tune", "weights" */
    const void *digest; /* hash of what it was made from */
    size_t digest_size;
    const char *version; /* of this library, ps_version() */
    const char *target;  /* what it was made for: instruction set or device and driver version */
} ps_cache_key;

typedef struct ps_cache_entry {
    const char *kind, *version, *target;
    uint64_t bytes;       /* of the file */
    int64_t last_used_ns; /* wall clock */
} ps_cache_entry;

typedef struct ps_cache_stats {
    uint64_t entries, bytes, max_bytes; /* on disk now */
    uint64_t hits, misses, damaged;     /* by this ps_cache; a damaged entry is a miss too */
    uint64_t stored, evicted;
} ps_cache_stats;

/* dir: NULL for $XDG_CACHE_HOME/polestar or $HOME/.cache/polestar, "" for no cache (*ret_cache is NULL then). The
 * folder is created with mode 0700. max_bytes 0: the default of 1 GiB. Fails with PS_INVALID and one sentence if the
 * folder belongs to another user or others may write to it. */
ps_status ps_cache_open(ps_alloc_state *a, const char *dir, uint64_t max_bytes, ps_cache **ret_cache, ps_error *err);
void ps_cache_close(ps_cache *cache);
/* The folder; "" for NULL. Owned by the cache. */
const char *ps_cache_dir(const ps_cache *cache);
/* That of an engine, opened when it is first asked for; NULL if it is off. Implemented by runtime. */
ps_status ps_engine_cache(ps_engine *engine, ps_cache **ret, ps_error *err);

/* PS_NOT_FOUND is a miss. *ret_data is PS_ALIGN aligned and ps_free'd by the caller. */
ps_status ps_cache_get(ps_cache *cache, const ps_cache_key *key, void **ret_data, size_t *ret_size, ps_error *err);
/* Adds or replaces. Callers may ignore a failure: the entry is just not there. PS_LIMIT if it is larger than the cache.
 */
ps_status ps_cache_put(ps_cache *cache, const ps_cache_key *key, const void *data, size_t size, ps_error *err);
/* The same for content that lies in pieces, which become one behind the other. */
typedef struct ps_cache_part {
    const void *data;
    size_t size;
} ps_cache_part;
ps_status ps_cache_put_parts(ps_cache *cache, const ps_cache_key *key, const ps_cache_part *parts, size_t n,
                             ps_error *err);

/* ---- an entry in pieces: what is large goes where it shall lie, without a second copy ----
 * PS_NOT_FOUND is a miss at each step; a damaged entry is deleted. What ps_cache_reader_next gave may be looked at,
 * with bounds, but not be used before ps_cache_reader_end said PS_OK: only then is the checksum known to be right. */
typedef struct ps_cache_reader ps_cache_reader;
ps_status ps_cache_reader_open(ps_cache *cache, const ps_cache_key *key, ps_cache_reader **ret, uint64_t *ret_size,
                               ps_error *err);
ps_status ps_cache_reader_next(ps_cache_reader *reader, void *dst, size_t size, ps_error *err);
/* PS_OK if all of the entry was read and is what was stored. Frees the reader. */
ps_status ps_cache_reader_end(ps_cache_reader *reader, ps_error *err);
void ps_cache_reader_free(ps_cache_reader *reader); /* without a verdict; NULL is allowed */

/* Entries with an intact header, in the arena, most recently used first. */
ps_status ps_cache_list(ps_cache *cache, ps_arena *arena, ps_cache_entry **ret_entries, size_t *ret_count,
                        ps_error *err);
/* Deletes all entries; other files in the folder stay. ret_count may be NULL. */
ps_status ps_cache_clear(ps_cache *cache, size_t *ret_count, ps_error *err);
ps_status ps_cache_get_stats(ps_cache *cache, ps_cache_stats *ret_stats, ps_error *err);

#endif
