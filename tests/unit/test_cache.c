/* The cache on disk: damage, collisions, foreign owners, eviction, several processes. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cache.h"
#include "base/cache_entry.h"
#include "base/os.h"
#include "base/str.h"
#include "base/thread.h"
#include "test_alloc_fail.h"
#include "test_temp_dir.h"

typedef struct fixture {
    char top[256], dir[300];
    ps_alloc_state alloc;
    ps_cache *cache;
    ps_error err;
} fixture;

static int setup(void **state) {
    static fixture f;
    memset(&f, 0, sizeof f);
    ps_alloc_state_init(&f.alloc, NULL);
    if (!ps_test_temp_dir(f.top, sizeof f.top)) return -1;
    ps_snprintf(f.dir, sizeof f.dir, "%s/cache", f.top);
    *state = &f;
    return ps_cache_open(&f.alloc, f.dir, 0, &f.cache, &f.err) == PS_OK ? 0 : -1;
}

static int teardown(void **state) {
    fixture *f = *state;
    ps_cache_close(f->cache);
    ps_test_remove_tree(f->top);
    return atomic_load(&f->alloc.bytes) == 0 ? 0 : -1;
}

static ps_cache_key key_of(const char *kind, const char *digest) {
    return (ps_cache_key) { kind, digest, strlen(digest), "0.1.0", "AVX2" };
}

static void put(ps_cache *c, const char *digest, const void *data, size_t size) {
    ps_cache_key key = key_of("test", digest);
    ps_error err = PS_ERROR_INIT;
    if (ps_cache_put(c, &key, data, size, &err) != PS_OK) fail_msg("%s", err.msg);
}

/* true on a hit with exactly this content */
static bool has(fixture *f, const char *digest, const void *want, size_t want_size) {
    ps_cache_key key = key_of("test", digest);
    void *data = NULL;
    size_t size;
    ps_status status = ps_cache_get(f->cache, &key, &data, &size, &f->err);
    if (status == PS_NOT_FOUND) return false;
    assert_int_equal(status, PS_OK);
    assert_int_equal(size, want_size);
    assert_memory_equal(data, want, size);
    assert_int_equal((uintptr_t)data % PS_ALIGN, 0);
    ps_free(&f->alloc, data);
    return true;
}

static ps_cache_stats stats_of(ps_cache *c) {
    ps_cache_stats stats;
    assert_int_equal(ps_cache_get_stats(c, &stats, NULL), PS_OK);
    return stats;
}

static void path_of(const fixture *f, const char *digest, char path[512]) {
    ps_cache_key key = key_of("test", digest);
    ps_cache_packed_key packed;
    assert_int_equal(ps_cache_key_pack(&key, &packed, NULL), PS_OK);
    ps_snprintf(path, 512, "%s/%s", f->dir, packed.name);
}

static bool exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

static void test_round_trip(void **state) {
    fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_string_equal(ps_cache_dir(f->cache), f->dir);
    assert_false(has(f, "a", "", 0));
    assert_non_null(strstr(f->err.msg, "'test'"));
    put(f->cache, "a", "first", 5);
    put(f->cache, "b", NULL, 0);
    assert_true(has(f, "a", "first", 5));
    assert_true(has(f, "b", "", 0));
    put(f->cache, "a", "second", 6);
    assert_true(has(f, "a", "second", 6));
    ps_cache_stats s = stats_of(f->cache);
    assert_true(s.entries == 2 && s.hits == 3 && s.misses == 1 && s.stored == 3 && s.damaged == 0 && s.evicted == 0);
    assert_int_equal(s.max_bytes, PS_CACHE_DEFAULT_BYTES);
    char path[512];
    path_of(f, "a", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* A second opening finds what the first stored. */
    ps_cache_close(f->cache);
    assert_int_equal(ps_cache_open(&f->alloc, f->dir, 0, &f->cache, NULL), PS_OK);
    assert_true(has(f, "a", "second", 6));
}

static void test_every_part_of_the_key_counts(void **state) {
    fixture *f = *state;
    ps_cache_key base = { "k", "dd", 2, "v", "t" };
    ps_cache_key others[] = { { "K", "dd", 2, "v", "t" }, { "k", "dX", 2, "v", "t" }, { "k", "d", 1, "v", "t" },
                              { "k", "dd", 2, "w", "t" }, { "k", "dd", 2, "v", "u" }, { "kd", "d", 1, "v", "t" } };
    assert_int_equal(ps_cache_put(f->cache, &base, "x", 1, NULL), PS_OK);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        void *data;
        size_t size;
        assert_int_equal(ps_cache_get(f->cache, &others[i], &data, &size, NULL), PS_NOT_FOUND);
    }
    char longer[1026];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    base.target = longer;
    assert_int_equal(ps_cache_put(f->cache, &base, "x", 1, &f->err), PS_LIMIT);
    assert_non_null(strstr(f->err.msg, "target has 1025 bytes"));
    longer[1024] = 0;
    assert_int_equal(ps_cache_put(f->cache, &base, "x", 1, &f->err), PS_OK);
}

/* Flips each byte of an entry in turn: no flip may go unnoticed, and each bad file goes away. */
static void test_corruption(void **state) {
    fixture *f = *state;
    char path[512], *good;
    size_t size;
    path_of(f, "a", path);
    put(f->cache, "a", "payload", 7);
    assert_int_equal(ps_file_read(&f->alloc, path, 4096, &good, &size, NULL), PS_OK);
    for (size_t i = 0; i < size; i++) {
        good[i] ^= 0x10;
        assert_int_equal(ps_file_write(path, good, size, 0600, NULL), PS_OK);
        assert_false(has(f, "a", "payload", 7));
        assert_false(exists(path));
        good[i] ^= 0x10;
    }
    assert_int_equal(stats_of(f->cache).damaged, size);
    assert_int_equal(ps_file_write(path, good, size, 0600, NULL), PS_OK);
    assert_true(has(f, "a", "payload", 7));
    ps_free(&f->alloc, good);
}

static void test_truncation_and_growth(void **state) {
    fixture *f = *state;
    char path[512], *good;
    size_t size;
    path_of(f, "a", path);
    put(f->cache, "a", "payload", 7);
    assert_int_equal(ps_file_read(&f->alloc, path, 4096, &good, &size, NULL), PS_OK);
    for (size_t n = 0; n <= size + 1; n++) { /* one more than the file: the NUL that ps_file_read adds */
        assert_int_equal(ps_file_write(path, good, n, 0600, NULL), PS_OK);
        assert_int_equal(has(f, "a", "payload", 7), n == size);
        assert_int_equal(exists(path), n == size);
    }
    ps_free(&f->alloc, good);
}

/* Reads an entry in pieces of 3 bytes; true if the verdict is that it is whole. */
static bool read_in_pieces(fixture *f, const char *digest, char *dst, size_t size) {
    ps_cache_key key = key_of("test", digest);
    ps_cache_reader *r;
    uint64_t total;
    if (ps_cache_reader_open(f->cache, &key, &r, &total, &f->err) != PS_OK) return false;
    assert_int_equal(total, size);
    for (size_t at = 0; at < size; at += 3)
        if (ps_cache_reader_next(r, dst + at, size - at < 3 ? size - at : 3, &f->err) != PS_OK) break;
    return ps_cache_reader_end(r, &f->err) == PS_OK;
}

static void test_in_pieces(void **state) {
    fixture *f = *state;
    ps_cache_key key = key_of("test", "a");
    const ps_cache_part parts[] = { { "pay", 3 }, { NULL, 0 }, { "lo", 2 }, { "ad", 2 } };
    char path[512], *good, got[7];
    size_t size;
    uint64_t total;
    ps_cache_reader *r;
    assert_false(read_in_pieces(f, "a", got, 7));
    assert_int_equal(ps_cache_put_parts(f->cache, &key, parts, 4, &f->err), PS_OK);
    assert_true(has(f, "a", "payload", 7));
    assert_true(read_in_pieces(f, "a", got, 7));
    assert_memory_equal(got, "payload", 7);
    /* Neither less nor more than all of it. */
    assert_int_equal(ps_cache_reader_open(f->cache, &key, &r, &total, NULL), PS_OK);
    assert_int_equal(ps_cache_reader_next(r, got, 6, NULL), PS_OK);
    assert_int_equal(ps_cache_reader_end(r, NULL), PS_NOT_FOUND);
    assert_int_equal(ps_cache_put_parts(f->cache, &key, parts, 4, NULL), PS_OK);
    assert_int_equal(ps_cache_reader_open(f->cache, &key, &r, &total, NULL), PS_OK);
    assert_int_equal(ps_cache_reader_next(r, got, 7, NULL), PS_OK);
    assert_int_equal(ps_cache_reader_next(r, got, 1, NULL), PS_NOT_FOUND);
    assert_int_equal(ps_cache_reader_end(r, NULL), PS_NOT_FOUND);
    /* Every byte counts, and what is bad goes away. */
    assert_int_equal(ps_cache_put_parts(f->cache, &key, parts, 4, NULL), PS_OK);
    path_of(f, "a", path);
    assert_int_equal(ps_file_read(&f->alloc, path, 4096, &good, &size, NULL), PS_OK);
    for (size_t i = 0; i < size; i++) {
        good[i] ^= 0x10;
        assert_int_equal(ps_file_write(path, good, size, 0600, NULL), PS_OK);
        assert_false(read_in_pieces(f, "a", got, 7));
        assert_false(exists(path));
        good[i] ^= 0x10;
    }
    for (size_t n = 0; n < size; n++) {
        assert_int_equal(ps_file_write(path, good, n, 0600, NULL), PS_OK);
        assert_false(read_in_pieces(f, "a", got, 7));
        assert_false(exists(path));
    }
    assert_int_equal(ps_cache_reader_open(NULL, &key, &r, &total, NULL), PS_NOT_FOUND);
    ps_free(&f->alloc, good);
}

static ps_status piecewise(ps_alloc_state *a, void *ctx) {
    const ps_cache_part parts[] = { { "pay", 3 }, { "load", 4 } };
    ps_cache_key key = key_of("test", "a");
    ps_cache *cache;
    ps_cache_reader *r;
    uint64_t total;
    char got[7];
    PS_TRY(ps_cache_open(a, ctx, 0, &cache, NULL));
    ps_status status = ps_cache_put_parts(cache, &key, parts, 2, NULL);
    if (status == PS_OK) status = ps_cache_reader_open(cache, &key, &r, &total, NULL);
    if (status == PS_OK) {
        status = ps_cache_reader_next(r, got, sizeof got, NULL);
        if (status == PS_OK)
            status = ps_cache_reader_end(r, NULL);
        else
            ps_cache_reader_free(r);
    }
    ps_cache_close(cache);
    return status;
}

/* Of put_parts, only the list of the folder's files is allocated, and doing without that is no failure. */
static void test_in_pieces_without_memory(void **state) {
    fixture *f = *state;
    for (long nth = 0; nth < 3; nth++) {
        ps_test_alloc t;
        ps_alloc_state a;
        ps_test_alloc_init(&t, nth);
        ps_alloc_state_init(&a, &t.allocator);
        assert_int_equal(piecewise(&a, f->dir), nth < 2 ? PS_NO_MEMORY : PS_OK);
        assert_int_equal(atomic_load(&t.live), 0);
    }
}

static void test_name_collision(void **state) {
    fixture *f = *state;
    char a[512], b[512];
    path_of(f, "a", a);
    path_of(f, "b", b);
    put(f->cache, "a", "of a", 4);
    assert_int_equal(rename(a, b), 0); /* as if b's key had the name of a's */
    assert_false(has(f, "b", "of a", 4));
    assert_int_equal(stats_of(f->cache).damaged, 0);
    put(f->cache, "b", "of b", 4);
    assert_true(has(f, "b", "of b", 4));
}

static void test_links_are_not_followed(void **state) {
    fixture *f = *state;
    char path[512], target[512];
    path_of(f, "a", path);
    ps_snprintf(target, sizeof target, "%s/target", f->top);
    put(f->cache, "a", "data", 4);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(symlink(target, path), 0);
    assert_false(has(f, "a", "data", 4));
    assert_false(exists(path)); /* the link is gone, what it points to is not */
    assert_true(exists(target));
    assert_int_equal(symlink(target, path), 0);
    put(f->cache, "a", "new", 3); /* replaces the link */
    assert_true(has(f, "a", "new", 3));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not hang */
    assert_false(has(f, "a", "new", 3));
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(has(f, "a", "new", 3));
    ps_cache_key key = key_of("test", "a");
    assert_int_equal(ps_cache_put(f->cache, &key, "x", 1, NULL), PS_IO);
}

static void test_foreign_folder(void **state) {
    fixture *f = *state;
    ps_cache *other = NULL;
    char path[512];
    static const unsigned bad[] = { 0770, 0707, 0720, 0777 };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(chmod(f->dir, bad[i]), 0);
        assert_int_equal(ps_cache_open(&f->alloc, f->dir, 0, &other, &f->err), PS_INVALID);
        assert_non_null(strstr(f->err.msg, "others may write"));
    }
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(ps_cache_open(&f->alloc, f->dir, 0, &other, &f->err), PS_OK);
    ps_cache_close(other);
    ps_snprintf(path, sizeof path, "%s/file", f->top);
    assert_int_equal(ps_file_write(path, "", 0, 0600, NULL), PS_OK);
    assert_int_not_equal(ps_cache_open(&f->alloc, path, 0, &other, &f->err), PS_OK);
    if (geteuid() != 0) return; /* the rest needs to give files away */
    put(f->cache, "a", "data", 4);
    path_of(f, "a", path);
    assert_int_equal(chown(path, 12345, 12345), 0);
    assert_false(has(f, "a", "data", 4));
    assert_false(exists(path));
    assert_int_equal(chown(f->dir, 12345, 12345), 0);
    assert_int_equal(ps_cache_open(&f->alloc, f->dir, 0, &other, &f->err), PS_INVALID);
    assert_non_null(strstr(f->err.msg, "belongs to user 12345"));
}

static void set_age(const char *path, int seconds) {
    int64_t now = ps_clock_wall_ns() / 1000000000;
    struct timespec times[2] = { { (time_t)(now - seconds), 0 }, { (time_t)(now - seconds), 0 } };
    assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_eviction(void **state) {
    fixture *f = *state;
    static char data[1000];
    char path[512], name[2] = "a";
    ps_cache_close(f->cache);
    assert_int_equal(ps_cache_open(&f->alloc, f->dir, 3500, &f->cache, NULL), PS_OK);
    for (int i = 0; i < 3; i++, name[0]++) { /* a is the oldest */
        put(f->cache, name, data, sizeof data);
        path_of(f, name, path);
        set_age(path, 100 - i * 10);
    }
    assert_true(has(f, "a", data, sizeof data)); /* now it is the youngest */
    put(f->cache, "d", data, sizeof data);
    assert_false(has(f, "b", data, sizeof data));
    assert_true(has(f, "a", data, sizeof data) && has(f, "c", data, sizeof data) && has(f, "d", data, sizeof data));
    ps_cache_stats s = stats_of(f->cache);
    assert_true(s.entries == 3 && s.evicted == 1 && s.bytes <= 3500);
    ps_cache_key key = key_of("test", "huge");
    static char huge[3500];
    assert_int_equal(ps_cache_put(f->cache, &key, huge, sizeof huge, &f->err), PS_LIMIT);
    assert_int_equal(stats_of(f->cache).entries, 3);
    put(f->cache, "most", huge, 3400); /* pushes out all others, never itself */
    assert_true(has(f, "most", huge, 3400));
    assert_int_equal(stats_of(f->cache).entries, 1);
}

static void test_list_and_clear(void **state) {
    fixture *f = *state;
    char path[512], keep[512], stale[512];
    ps_arena arena;
    ps_cache_entry *entries;
    size_t n;
    ps_arena_init(&arena, &f->alloc);
    put(f->cache, "a", "1", 1);
    put(f->cache, "b", "22", 2);
    put(f->cache, "bad", "333", 3);
    path_of(f, "a", path);
    set_age(path, 50);
    path_of(f, "bad", path);
    assert_int_equal(truncate(path, 20), 0);
    ps_snprintf(keep, sizeof keep, "%s/README", f->dir);
    ps_snprintf(stale, sizeof stale, "%s/.tmp-1-2-3", f->dir);
    assert_int_equal(ps_file_write(keep, "", 0, 0600, NULL), PS_OK);
    assert_int_equal(ps_file_write(stale, "", 0, 0600, NULL), PS_OK);
    assert_int_equal(ps_cache_list(f->cache, &arena, &entries, &n, NULL), PS_OK);
    assert_int_equal(n, 2);
    assert_true(entries[0].last_used_ns > entries[1].last_used_ns);
    assert_int_equal(entries[0].bytes, entries[1].bytes + 1);
    assert_string_equal(entries[0].kind, "test");
    assert_string_equal(entries[0].version, "0.1.0");
    assert_string_equal(entries[0].target, "AVX2");
    assert_true(exists(stale)); /* somebody may still be writing it */
    set_age(stale, 7200);
    assert_int_equal(ps_cache_clear(f->cache, &n, NULL), PS_OK);
    assert_int_equal(n, 3);
    assert_false(exists(stale));
    assert_true(exists(keep));
    assert_int_equal(stats_of(f->cache).entries, 0);
    ps_arena_release(&arena);
}

static void test_off(void **state) {
    fixture *f = *state;
    ps_cache *off = f->cache;
    ps_cache_key key = key_of("test", "a");
    ps_arena arena;
    ps_cache_entry *entries;
    void *data;
    size_t n;
    ps_arena_init(&arena, &f->alloc);
    assert_int_equal(ps_cache_open(&f->alloc, "", 0, &off, NULL), PS_OK);
    assert_null(off);
    assert_int_equal(ps_cache_put(off, &key, "x", 1, NULL), PS_OK);
    assert_int_equal(ps_cache_get(off, &key, &data, &n, NULL), PS_NOT_FOUND);
    assert_int_equal(ps_cache_list(off, &arena, &entries, &n, NULL), PS_OK);
    assert_int_equal(n, 0);
    assert_int_equal(ps_cache_clear(off, &n, NULL), PS_OK);
    assert_int_equal(stats_of(off).entries, 0);
    assert_string_equal(ps_cache_dir(off), "");
    ps_cache_close(off);
    ps_arena_release(&arena);
}

static void test_default_folder(void **state) {
    fixture *f = *state;
    char want[512];
    ps_cache *c;
    setenv("XDG_CACHE_HOME", f->top, 1);
    assert_int_equal(ps_cache_open(&f->alloc, NULL, 0, &c, NULL), PS_OK);
    ps_snprintf(want, sizeof want, "%s/polestar", f->top);
    assert_string_equal(ps_cache_dir(c), want);
    ps_cache_close(c);
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", f->top, 1);
    assert_int_equal(ps_cache_open(&f->alloc, NULL, 0, &c, NULL), PS_OK);
    ps_snprintf(want, sizeof want, "%s/.cache/polestar", f->top);
    assert_string_equal(ps_cache_dir(c), want);
    ps_cache_close(c);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_int_equal(ps_cache_open(&f->alloc, NULL, 0, &c, &f->err), PS_NOT_FOUND);
}

/* ---- many at once ---- */

enum { ROUNDS = 300, SHARED_KEYS = 5 };

/* Puts, gets and clears keys that all workers share. Content is its own check: one byte value, repeated. */
static bool hammer(const char *dir, unsigned seed) {
    ps_alloc_state a;
    ps_cache *c;
    ps_alloc_state_init(&a, NULL);
    if (ps_cache_open(&a, dir, 20000, &c, NULL) != PS_OK) return false;
    bool ok = true;
    for (unsigned i = 0; i < ROUNDS && ok; i++) {
        char digest[2] = { (char)('a' + (i + seed) % SHARED_KEYS), 0 };
        ps_cache_key key = key_of("test", digest);
        unsigned char data[6000];
        memset(data, (int)(i * 7 + seed), sizeof data);
        ok = ps_cache_put(c, &key, data, 1000 + i * 13, NULL) == PS_OK;
        unsigned char *got;
        size_t size;
        ps_status status = ps_cache_get(c, &key, (void **)&got, &size, NULL);
        if (status == PS_OK) {
            for (size_t k = 1; k < size; k++)
                ok = ok && got[k] == got[0];
            ps_free(&a, got);
        } else {
            ok = ok && status == PS_NOT_FOUND;
        }
        if (i % 50 == 49) ok = ok && ps_cache_clear(c, NULL, NULL) == PS_OK;
    }
    ps_cache_stats stats;
    ok = ok && ps_cache_get_stats(c, &stats, NULL) == PS_OK && stats.damaged == 0 && stats.hits > 0;
    ps_cache_close(c);
    return ok && atomic_load(&a.bytes) == 0;
}

static void test_processes(void **state) {
    fixture *f = *state;
    pid_t children[3];
    for (unsigned i = 0; i < 3; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) _exit(hammer(f->dir, i) ? 0 : 1);
    }
    for (int i = 0; i < 3; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    DIR *dir = opendir(f->dir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        assert_true(strncmp(e->d_name, ".tmp", 4) != 0);
    closedir(dir);
    assert_true(stats_of(f->cache).bytes <= 20000);
}

typedef struct thread_arg {
    fixture *f;
    int id;
    bool ok;
} thread_arg;

static void thread_body(void *ctx) {
    thread_arg *t = ctx;
    char digest[2] = { 's', 0 };
    ps_cache_key key = key_of("test", digest);
    t->ok = true;
    for (int i = 0; i < 100; i++) {
        void *data;
        size_t size;
        char text[16];
        ps_snprintf(text, sizeof text, "%d-%d", t->id, i);
        t->ok = t->ok && ps_cache_put(t->f->cache, &key, text, sizeof text, NULL) == PS_OK;
        ps_status status = ps_cache_get(t->f->cache, &key, &data, &size, NULL);
        t->ok = t->ok && status == PS_OK && size == sizeof text;
        if (status == PS_OK) ps_free(&t->f->alloc, data);
    }
}

static void test_threads(void **state) {
    thread_arg args[3];
    ps_thread threads[3];
    for (int i = 0; i < 3; i++) {
        args[i] = (thread_arg) { *state, i, false };
        assert_true(ps_thread_start(&threads[i], "cache-test", thread_body, &args[i]));
    }
    for (int i = 0; i < 3; i++)
        ps_thread_join(threads[i]);
    for (int i = 0; i < 3; i++)
        assert_true(args[i].ok);
    ps_cache_stats s = stats_of(((fixture *)*state)->cache);
    assert_true(s.hits == 300 && s.stored == 300 && s.damaged == 0);
}

/* A put that cannot make its list for eviction still stores: only the other functions report NO_MEMORY. */
static ps_status cache_scenario(ps_alloc_state *a, void *ctx) {
    const fixture *f = ctx;
    ps_cache *c = NULL;
    ps_cache_entry *entries;
    void *data = NULL;
    size_t n;
    ps_arena arena;
    ps_cache_key key = key_of("test", "a");
    ps_cache_stats stats;
    ps_status status = PS_OK;
    ps_arena_init(&arena, a);
    PS_TRY_OUT(ps_cache_open(a, f->dir, 0, &c, NULL));
    PS_TRY_OUT(ps_cache_get(c, &key, &data, &n, NULL));
    PS_TRY_OUT(ps_cache_list(c, &arena, &entries, &n, NULL));
    PS_TRY_OUT(ps_cache_get_stats(c, &stats, NULL));
out:
    ps_free(a, data);
    ps_arena_release(&arena);
    ps_cache_close(c);
    return status;
}

static void test_allocation_failure(void **state) {
    fixture *f = *state;
    char name[2] = "a";
    for (int i = 0; i < 6; i++, name[0]++)
        put(f->cache, name, "data", 4);
    assert_in_range(ps_test_sweep(cache_scenario, f), 5, 50);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),     TEST(test_every_part_of_the_key_counts),
        TEST(test_corruption),     TEST(test_truncation_and_growth),
        TEST(test_in_pieces),      TEST(test_in_pieces_without_memory),
        TEST(test_name_collision), TEST(test_links_are_not_followed),
        TEST(test_foreign_folder), TEST(test_eviction),
        TEST(test_list_and_clear), TEST(test_off),
        TEST(test_default_folder), TEST(test_processes),
        TEST(test_threads),        TEST(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
