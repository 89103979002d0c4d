/* cache.c - the cache's folder: finding, storing, evicting. The format of an entry is in cache_entry.c.
 *
 * Every path is relative to the folder's descriptor, opened and checked once: what is later put in the place of the
 * folder is not followed. */
#include "base/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cache_entry.h"
#include "base/os.h"
#include "base/os_int.h"
#include "base/str.h"
#include "base/vec.h"

struct ps_cache {
    ps_alloc_state *alloc;
    char *dir; /* for messages */
    int fd;    /* the folder */
    uint64_t max_bytes;
    atomic_uint_fast64_t hits, misses, damaged, stored, evicted;
    atomic_uint_fast64_t temp_number; /* makes names of temporary files distinct between threads */
};

/* ---- opening ---- */

static ps_status default_dir(char *buf, size_t size, ps_error *err) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    /* The XDG base directory specification has relative paths ignored. */
    if (xdg && xdg[0] == '/') {
        ps_snprintf(buf, size, "%s/polestar", xdg);
    } else if (home && home[0] == '/') {
        ps_snprintf(buf, size, "%s/.cache/polestar", home);
    } else {
        return PS_FAIL(err, NOT_FOUND, "no folder for the cache: neither XDG_CACHE_HOME nor HOME is an absolute path");
    }
    return PS_OK;
}

static ps_status check_owner(int fd, const char *dir, ps_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) return ps_fail_errno(err, "inspect cache folder", dir, errno);
    PS_FAIL_IF(st.st_uid != geteuid(), err, INVALID, "cache folder '%s' belongs to user %lu, not to this user (%lu)",
               dir, (unsigned long)st.st_uid, (unsigned long)geteuid());
    PS_FAIL_IF(st.st_mode & (S_IWGRP | S_IWOTH), err, INVALID,
               "cache folder '%s' has mode %03o: others may write to it, and cached programs are run", dir,
               (unsigned)(st.st_mode & 0777));
    return PS_OK;
}

static ps_status open_dir(const char *dir, int *ret_fd, ps_error *err) {
    PS_TRY(ps_dir_create(dir, 0700, err));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return ps_fail_errno(err, "open cache folder", dir, errno);
    ps_status status = check_owner(fd, dir, err);
    if (status == PS_OK) {
        *ret_fd = fd;
    } else {
        close(fd);
    }
    return status;
}

ps_status ps_cache_open(ps_alloc_state *a, const char *dir, uint64_t max_bytes, ps_cache **ret_cache, ps_error *err) {
    char buf[PATH_MAX];
    if (dir && !*dir) {
        *ret_cache = NULL;
        return PS_OK;
    }
    if (!dir) {
        PS_TRY(default_dir(buf, sizeof buf, err));
        dir = buf;
    }
    ps_cache *c = ps_alloc_zero(a, sizeof *c);
    if (!c) return PS_FAIL_NOMEM(err, "the cache");
    c->alloc = a;
    c->fd = -1;
    c->max_bytes = max_bytes ? max_bytes : PS_CACHE_DEFAULT_BYTES;
    ps_status status = PS_OK;
    c->dir = ps_strdup(a, dir);
    if (!c->dir) PS_TRY_OUT(PS_FAIL_NOMEM(err, "the cache"));
    PS_TRY_OUT(open_dir(dir, &c->fd, err));
    *ret_cache = c;
    return PS_OK;
out:
    ps_cache_close(c);
    return status;
}

void ps_cache_close(ps_cache *cache) {
    if (!cache) return;
    if (cache->fd >= 0) close(cache->fd);
    ps_free(cache->alloc, cache->dir);
    ps_free(cache->alloc, cache);
}

const char *ps_cache_dir(const ps_cache *cache) {
    return cache ? cache->dir : "";
}

/* ---- the folder's files ---- */

typedef struct cache_file {
    char name[PS_CACHE_NAME_SIZE];
    uint64_t bytes;
    int64_t mtime_ns;
} cache_file;

typedef PS_VEC(cache_file) cache_files;

enum { STALE_TEMP_SECONDS = 3600 }; /* no writer takes that long */

static const char temp_prefix[] = ".tmp-";

static int64_t mtime_ns(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Left behind by a process that died while writing. */
static void drop_stale_temp(ps_cache *c, const char *name) {
    struct stat st;
    if (fstatat(c->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (ps_clock_wall_ns() - mtime_ns(&st) > (int64_t)STALE_TEMP_SECONDS * 1000000000) unlinkat(c->fd, name, 0);
}

/* One name of the folder: an entry is added to files, anything else is left alone. */
static bool scan_name(ps_cache *c, const char *name, cache_files *files) {
    struct stat st;
    if (strncmp(name, temp_prefix, sizeof temp_prefix - 1) == 0) drop_stale_temp(c, name);
    if (!ps_cache_name_valid(name)) return true;
    /* Another process may have just deleted it. A link counts as itself: it can be evicted and cleared, not read. */
    if (fstatat(c->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || S_ISDIR(st.st_mode)) return true;
    cache_file file = { .bytes = (uint64_t)st.st_size, .mtime_ns = mtime_ns(&st) };
    memcpy(file.name, name, sizeof file.name);
    return ps_vec_push(c->alloc, files, file);
}

static int newest_first(const void *a, const void *b) {
    const cache_file *x = a, *y = b;
    if (x->mtime_ns != y->mtime_ns) return x->mtime_ns < y->mtime_ns ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* All entries, most recently used first. The caller releases files, also after a failure. */
static ps_status scan(ps_cache *c, cache_files *files, ps_error *err) {
    /* A descriptor of its own: the position in a folder is shared by duplicates, and threads may scan at once. */
    int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        int code = errno;
        if (fd >= 0) close(fd);
        return ps_fail_errno(err, "list cache folder", c->dir, code);
    }
    bool ok = true;
    const struct dirent *e;
    while (ok && (e = readdir(dir)))
        ok = scan_name(c, e->d_name, files);
    closedir(dir);
    if (!ok) return PS_FAIL_NOMEM(err, "the list of the cache");
    if (files->size) qsort(files->data, files->size, sizeof *files->data, newest_first);
    return PS_OK;
}

/* Deletes the least recently used entries until the rest fits. `keep` was written just now and stays: time stamps are
 * too coarse to tell. */
static void evict(ps_cache *c, const char *keep) {
    cache_files files = { 0 };
    if (scan(c, &files, NULL) == PS_OK) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < files.size; i++)
            bytes += files.data[i].bytes;
        for (size_t i = files.size; i-- > 0 && bytes > c->max_bytes;) {
            const cache_file *f = &files.data[i];
            if (strcmp(f->name, keep) == 0) continue;
            if (unlinkat(c->fd, f->name, 0) == 0) atomic_fetch_add(&c->evicted, 1);
            bytes -= f->bytes; /* if another process was faster it is gone as well */
        }
    }
    ps_vec_release(c->alloc, &files);
}

/* ---- reading ---- */

/* O_NONBLOCK: a FIFO in the folder must not hang us; it means nothing for files. */
static int open_entry(ps_cache *c, const char *name, struct stat *st) {
    int fd = openat(c->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid()) return fd;
    close(fd);
    errno = ELOOP; /* as for a link: not ours to read */
    return -1;
}

static ps_status miss(ps_cache *c, const ps_cache_key *key, ps_error *err) {
    if (c) atomic_fetch_add(&c->misses, 1);
    return PS_FAIL(err, NOT_FOUND, "the cache has no entry of kind '%s' for this content, version and target",
                   key->kind);
}

/* Deletes name if it is still the file that was found bad: a good one may have been put there meanwhile. */
static void drop_bad(ps_cache *c, const char *name, const struct stat *bad) {
    struct stat now;
    atomic_fetch_add(&c->damaged, 1);
    if (fstatat(c->fd, name, &now, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (bad && (now.st_ino != bad->st_ino || now.st_dev != bad->st_dev)) return;
    unlinkat(c->fd, name, 0);
}

ps_status ps_cache_get(ps_cache *cache, const ps_cache_key *key, void **ret_data, size_t *ret_size, ps_error *err) {
    ps_cache_packed_key packed;
    PS_TRY(ps_cache_key_pack(key, &packed, err));
    if (!cache) return miss(cache, key, err);
    struct stat st;
    int fd = open_entry(cache, packed.name, &st);
    if (fd < 0) {
        if (errno == ELOOP) drop_bad(cache, packed.name, NULL);
        return miss(cache, key, err);
    }
    ps_cache_read result = ps_cache_entry_read(cache->alloc, fd, (uint64_t)st.st_size, &packed, ret_data, ret_size);
    if (result == PS_CACHE_READ_OK) futimens(fd, NULL); /* last use; failing only makes the order of eviction worse */
    close(fd);
    switch (result) {
    case PS_CACHE_READ_OK: atomic_fetch_add(&cache->hits, 1); return PS_OK;
    case PS_CACHE_READ_NO_MEMORY: return PS_FAIL_NOMEM(err, "an entry of the cache");
    case PS_CACHE_READ_BAD: drop_bad(cache, packed.name, &st); break;
    case PS_CACHE_READ_OTHER_KEY: break; /* two keys with one name: the later put wins */
    }
    return miss(cache, key, err);
}

/* ---- reading in pieces ---- */

struct ps_cache_reader {
    ps_cache *cache;
    int fd;
    struct stat st;
    ps_cache_packed_key key;
    uint64_t left, hash; /* bytes not read yet; what the whole must come to */
    ps_cache_hash *sum;
    bool bad;
};

static ps_status found_bad(ps_cache_reader *r, ps_error *err) {
    if (!r->bad) drop_bad(r->cache, r->key.name, &r->st);
    r->bad = true;
    return PS_FAIL(err, NOT_FOUND, "an entry of the cache is damaged");
}

static ps_status open_reader(ps_cache_reader *r, const ps_cache_key *key, ps_error *err) {
    r->fd = open_entry(r->cache, r->key.name, &r->st);
    if (r->fd < 0 && errno == ELOOP) drop_bad(r->cache, r->key.name, NULL);
    if (r->fd < 0) return miss(r->cache, key, err);
    switch (ps_cache_entry_head(r->fd, (uint64_t)r->st.st_size, &r->key, &r->left, &r->hash)) {
    case PS_CACHE_READ_OK: break;
    case PS_CACHE_READ_NO_MEMORY: return PS_FAIL_NOMEM(err, "an entry of the cache");
    case PS_CACHE_READ_BAD: drop_bad(r->cache, r->key.name, &r->st); return miss(r->cache, key, err);
    default: return miss(r->cache, key, err);
    }
    r->sum = ps_cache_hash_new(r->cache->alloc);
    return r->sum ? PS_OK : PS_FAIL_NOMEM(err, "an entry of the cache");
}

ps_status ps_cache_reader_open(ps_cache *cache, const ps_cache_key *key, ps_cache_reader **ret, uint64_t *ret_size,
                               ps_error *err) {
    if (!cache) return miss(cache, key, err);
    ps_cache_reader *r = ps_alloc_zero(cache->alloc, sizeof *r);
    if (!r) return PS_FAIL_NOMEM(err, "an entry of the cache");
    r->cache = cache;
    r->fd = -1;
    ps_status status = ps_cache_key_pack(key, &r->key, err);
    if (status == PS_OK) status = open_reader(r, key, err);
    if (status != PS_OK) {
        ps_cache_reader_free(r);
        return status;
    }
    *ret = r;
    *ret_size = r->left;
    return PS_OK;
}

/* Summed up in pieces that are still in the processor's cache. */
ps_status ps_cache_reader_next(ps_cache_reader *r, void *dst, size_t size, ps_error *err) {
    const size_t piece = (size_t)256 << 10;
    if (r->bad || size > r->left) return found_bad(r, err);
    ps_pages_expect(dst, size);
    for (size_t at = 0; at < size;) {
        const size_t n = size - at < piece ? size - at : piece;
        if (!ps_read_exact(r->fd, (char *)dst + at, n)) return found_bad(r, err);
        ps_cache_hash_add(r->sum, (char *)dst + at, n);
        at += n;
    }
    r->left -= size;
    return PS_OK;
}

ps_status ps_cache_reader_end(ps_cache_reader *r, ps_error *err) {
    ps_status status = PS_OK;
    if (r->bad || r->left || ps_cache_hash_value(r->sum) != r->hash) status = found_bad(r, err);
    if (status == PS_OK) {
        futimens(r->fd, NULL);
        atomic_fetch_add(&r->cache->hits, 1);
    } else {
        atomic_fetch_add(&r->cache->misses, 1);
    }
    ps_cache_reader_free(r);
    return status;
}

void ps_cache_reader_free(ps_cache_reader *r) {
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    ps_free(r->cache->alloc, r->sum);
    ps_free(r->cache->alloc, r);
}

/* ---- storing ---- */

static int open_temp(ps_cache *c, char *name, size_t size) {
    ps_snprintf(name, size, "%s%ld-%llu-%llx", temp_prefix, (long)getpid(),
                (unsigned long long)atomic_fetch_add(&c->temp_number, 1), (unsigned long long)ps_clock_wall_ns());
    return openat(c->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

ps_status ps_cache_put(ps_cache *cache, const ps_cache_key *key, const void *data, size_t size, ps_error *err) {
    const ps_cache_part part = { data, size };
    return ps_cache_put_parts(cache, key, &part, 1, err);
}

ps_status ps_cache_put_parts(ps_cache *cache, const ps_cache_key *key, const ps_cache_part *parts, size_t n,
                             ps_error *err) {
    ps_cache_packed_key packed;
    size_t size = 0;
    PS_TRY(ps_cache_key_pack(key, &packed, err));
    if (!cache) return PS_OK;
    for (size_t i = 0; i < n; i++)
        PS_FAIL_IF(ps_add_overflow_size(size, parts[i].size, &size), err, LIMIT, "an entry of the cache is too large");
    PS_FAIL_IF(size > cache->max_bytes || PS_CACHE_HEADER_SIZE + packed.size > cache->max_bytes - size, err, LIMIT,
               "an entry of %zu bytes is larger than the cache (%llu bytes)", size,
               (unsigned long long)cache->max_bytes);
    char temp[96];
    int fd = open_temp(cache, temp, sizeof temp);
    if (fd < 0) return ps_fail_errno(err, "create a file in cache folder", cache->dir, errno);
    /* No fsync: an entry that a power failure cuts is found by its checksum. */
    int code = ps_cache_entry_write(fd, &packed, parts, n);
    if (close(fd) != 0 && code == 0) code = errno;
    if (code == 0 && renameat(cache->fd, temp, cache->fd, packed.name) != 0) code = errno;
    if (code != 0) {
        unlinkat(cache->fd, temp, 0);
        return ps_fail_errno(err, "write to cache folder", cache->dir, code);
    }
    atomic_fetch_add(&cache->stored, 1);
    evict(cache, packed.name);
    return PS_OK;
}

/* ---- looking and clearing ---- */

ps_status ps_cache_list(ps_cache *cache, ps_arena *arena, ps_cache_entry **ret_entries, size_t *ret_count,
                        ps_error *err) {
    cache_files files = { 0 };
    ps_status status = PS_OK;
    if (cache) PS_TRY_OUT(scan(cache, &files, err));
    ps_cache_entry *entries = ps_arena_array(arena, files.size, sizeof *entries);
    size_t n = 0;
    if (!entries) PS_TRY_OUT(PS_FAIL_NOMEM(err, "the list of the cache"));
    for (size_t i = 0; i < files.size; i++) {
        struct stat st;
        int fd = open_entry(cache, files.data[i].name, &st);
        if (fd < 0) continue;
        ps_cache_entry e = { .bytes = files.data[i].bytes, .last_used_ns = files.data[i].mtime_ns };
        ps_cache_read result = ps_cache_entry_describe(fd, (uint64_t)st.st_size, arena, &e);
        close(fd);
        if (result == PS_CACHE_READ_NO_MEMORY) PS_TRY_OUT(PS_FAIL_NOMEM(err, "the list of the cache"));
        if (result == PS_CACHE_READ_OK) entries[n++] = e;
    }
    *ret_entries = entries;
    *ret_count = n;
out:
    if (cache) ps_vec_release(cache->alloc, &files);
    return status;
}

ps_status ps_cache_clear(ps_cache *cache, size_t *ret_count, ps_error *err) {
    cache_files files = { 0 };
    size_t n = 0;
    ps_status status = PS_OK;
    if (cache) PS_TRY_OUT(scan(cache, &files, err));
    for (size_t i = 0; i < files.size; i++) {
        if (unlinkat(cache->fd, files.data[i].name, 0) == 0) {
            n++;
        } else if (errno != ENOENT) {
            PS_TRY_OUT(ps_fail_errno(err, "delete from cache folder", cache->dir, errno));
        }
    }
    if (ret_count) *ret_count = n;
out:
    if (cache) ps_vec_release(cache->alloc, &files);
    return status;
}

ps_status ps_cache_get_stats(ps_cache *cache, ps_cache_stats *ret_stats, ps_error *err) {
    ps_cache_stats stats = { 0 };
    if (cache) {
        cache_files files = { 0 };
        ps_status status = scan(cache, &files, err);
        stats = (ps_cache_stats) {
            .entries = files.size,
            .max_bytes = cache->max_bytes,
            .hits = atomic_load(&cache->hits),
            .misses = atomic_load(&cache->misses),
            .damaged = atomic_load(&cache->damaged),
            .stored = atomic_load(&cache->stored),
            .evicted = atomic_load(&cache->evicted),
        };
        for (size_t i = 0; i < files.size; i++)
            stats.bytes += files.data[i].bytes;
        ps_vec_release(cache->alloc, &files);
        PS_TRY(status);
    }
    *ret_stats = stats;
    return PS_OK;
}
