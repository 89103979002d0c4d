/* os.c - clocks and files (POSIX). What the machine offers is in os_machine.c, writing of files in os_write.c. */
#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os_int.h"
#include "base/str.h"
#include "base/vec.h"

enum { MAX_TRANSFER = 1 << 30 }; /* of one read or write: Linux stops a little below 2 GiB */

/* ---- clocks ---- */

static int64_t clock_ns(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t ps_clock_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t ps_clock_wall_ns(void) {
    return clock_ns(CLOCK_REALTIME);
}

int64_t ps_thread_cpu_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void ps_sleep_ns(int64_t ns) {
    if (ns <= 0) return;
    struct timespec ts = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };
    while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {
    }
}

/* ---- errors ---- */

/* The statuses tell apart what a caller may act on. */
ps_status ps_fail_errno(ps_error *err, const char *verb, const char *path, int code) {
    char text[128];
    if (strerror_r(code, text, sizeof text) != 0) ps_snprintf(text, sizeof text, "error %d", code);
    switch (code) {
    case ENOENT:
    case ENOTDIR: return PS_FAIL(err, NOT_FOUND, "cannot %s '%s': %s", verb, path, text);
    case ENOMEM: return PS_FAIL(err, NO_MEMORY, "cannot %s '%s': %s", verb, path, text);
    default: return PS_FAIL(err, IO, "cannot %s '%s': %s", verb, path, text);
    }
}

/* ---- randomness ---- */

ps_status ps_random_bytes(void *dst, size_t n, ps_error *err) {
    for (size_t done = 0; done < n;) {
        ssize_t got = getrandom((char *)dst + done, n - done, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ps_fail_errno(err, "read", "random bytes", errno);
        done += (size_t)got;
    }
    return PS_OK;
}

/* ---- reading ---- */

/* Opens a file that can be read from start to end. */
static ps_status open_read(const char *path, int flags, int *ret_fd, struct stat *ret_stat, ps_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | flags);
    if (fd < 0) return ps_fail_errno(err, "open", path, errno);
    int code = fstat(fd, ret_stat) != 0 ? errno : S_ISDIR(ret_stat->st_mode) ? EISDIR : 0;
    if (code) {
        close(fd);
        return ps_fail_errno(err, "read", path, code);
    }
    *ret_fd = fd;
    return PS_OK;
}

ps_status ps_file_map_open(const char *path, ps_file_map *ret_map, ps_error *err) {
    int fd = -1;
    struct stat st;
    /* Not waiting: nobody may ever write to a pipe that a hostile model names. */
    PS_TRY(open_read(path, O_NONBLOCK, &fd, &st, err));
    ps_status status = PS_OK;
    void *data = NULL;
    if (!S_ISREG(st.st_mode)) {
        PS_FAIL_OUT(err, IO, "cannot map '%s': not a regular file", path);
    }
    if ((uintmax_t)st.st_size > SIZE_MAX / 2) PS_FAIL_OUT(err, LIMIT, "cannot map '%s': too large", path);
    if (st.st_size > 0) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) PS_TRY_OUT(ps_fail_errno(err, "map", path, errno));
    }
    *ret_map = (ps_file_map) { data, (size_t)st.st_size };
out:
    close(fd);
    return status;
}

void ps_file_map_close(ps_file_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (ps_file_map) { NULL, 0 };
}

void ps_file_map_drop(const ps_file_map *map, size_t offset, size_t size) {
    if (!map->data || offset > map->size) return;
    if (size > map->size - offset) size = map->size - offset;
    /* Whole pages inside the range only: a neighbour may still be in use. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (offset + page - 1) / page * page, end = (offset + size) / page * page;
    if (begin < end) madvise((void *)(uintptr_t)(map->data + begin), end - begin, MADV_DONTNEED);
}

#define HUGE_PAGE ((size_t)2 << 20) /* of x86-64, and of aarch64 with pages of 4 KiB */

size_t ps_pages_lead(size_t size, size_t least) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return size >= HUGE_PAGE && page == 4096 && least <= page ? page : least;
}

static void *map_pages(size_t size) {
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

/* A block whose part behind `lead` begins at a huge page: more is mapped, and what surrounds it given back. Only whole
 * huge pages inside are asked for, so that no memory is held beyond the block. */
static void *map_huge(size_t lead, size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), total = (lead + size + page - 1) / page * page;
    uint8_t *all = map_pages(total + HUGE_PAGE);
    if (!all) return NULL;
    const size_t before = (size_t)(-((uintptr_t)all + lead) % HUGE_PAGE);
    if (before) munmap(all, before);
    munmap(all + before + total, HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    (void)madvise(all + before + lead, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return all + before;
}

void *ps_pages_new(size_t lead, size_t size) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > SIZE_MAX / 2 || lead > SIZE_MAX / 4) return NULL;
    return size >= HUGE_PAGE && lead == page ? map_huge(lead, size) : map_pages(lead + size);
}

void ps_pages_free(void *block, size_t size) {
    munmap(block, size);
}

/* Offset of the first whole page in a block, and the bytes of all of them. */
static size_t whole_pages(const void *block, size_t size, size_t *ret_skip) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (size_t)(-(uintptr_t)block % page);
    *ret_skip = skip;
    return size > skip ? (size - skip) / page * page : 0;
}

size_t ps_pages_inside(const void *block, size_t size) {
    size_t skip;
    return whole_pages(block, size, &skip);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since Linux 5.14; before, faults do it */
#endif

void ps_pages_expect(void *block, size_t size) {
    const size_t least = (size_t)64 << 10, piece = (size_t)1 << 20; /* who maps memory meanwhile waits for a piece */
    size_t skip, n = whole_pages(block, size, &skip);
    for (size_t at = 0; at < n && n >= least; at += piece)
        if (madvise((char *)block + skip + at, n - at < piece ? n - at : piece, MADV_POPULATE_WRITE) != 0) return;
}

size_t ps_pages_drop(void *block, size_t size) {
    size_t skip, n = whole_pages(block, size, &skip);
    /* Locked or huge pages refuse this: they stay, and their content with them. */
    if (!n || madvise((char *)block + skip, n, MADV_DONTNEED) != 0) return 0;
#ifndef NDEBUG
    (void)mprotect((char *)block + skip, n, PROT_NONE);
#endif
    return n;
}

void ps_pages_return(void *block, size_t size) {
#ifndef NDEBUG
    size_t skip, n = whole_pages(block, size, &skip);
    if (n) (void)mprotect((char *)block + skip, n, PROT_READ | PROT_WRITE);
#endif
}

bool ps_read_exact(int fd, void *data, size_t size) {
    char *out = data;
    while (size > 0) {
        ssize_t n = read(fd, out, size < MAX_TRANSFER ? size : MAX_TRANSFER);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        out += n;
        size -= (size_t)n;
    }
    return true;
}

/* Reads until the end of the file into s, at most max + 1 bytes so that the caller sees the excess. */
static ps_status read_all(int fd, const char *path, size_t max, ps_str *s, ps_error *err) {
    while (s->size <= max) {
        if (!ps_str_reserve(s, s->room > s->size + 1 ? 1 : 4096)) return PS_FAIL_NOMEM(err, path);
        size_t want = s->room - s->size - 1;
        ssize_t n = read(fd, s->data + s->size, want < MAX_TRANSFER ? want : MAX_TRANSFER);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ps_fail_errno(err, "read", path, errno);
        if (n == 0) return PS_OK;
        s->size += (size_t)n;
    }
    return PS_FAIL(err, LIMIT, "'%s' is longer than the limit of %zu bytes", path, max);
}

ps_status ps_file_read(ps_alloc_state *a, const char *path, size_t max, char **ret_data, size_t *ret_size,
                       ps_error *err) {
    int fd = -1;
    struct stat st;
    PS_TRY(open_read(path, 0, &fd, &st, err));
    ps_str s;
    ps_str_init(&s, a);
    ps_status status = PS_OK;
    if (S_ISREG(st.st_mode) && (uintmax_t)st.st_size > max) {
        PS_FAIL_OUT(err, LIMIT, "'%s' is longer than the limit of %zu bytes", path, max);
    }
    /* One byte more than the size, so that the end is seen without growing. */
    if (!ps_str_reserve(&s, (size_t)st.st_size + 1)) PS_TRY_OUT(PS_FAIL_NOMEM(err, path));
    PS_TRY_OUT(read_all(fd, path, max, &s, err));
    s.data[s.size] = 0;
    *ret_size = s.size;
    *ret_data = ps_str_take(&s);
out:
    close(fd);
    ps_str_release(&s);
    return status;
}

/* ---- paths and folders ---- */

uint64_t ps_file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

bool ps_file_stat(const char *path, uint64_t *ret_size, int64_t *ret_changed_ns) {
    struct stat st;
    if (stat(path, &st) != 0) return false;
    *ret_size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
    *ret_changed_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return true;
}

bool ps_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool ps_file_usable(const char *path) {
    return access(path, R_OK | W_OK) == 0;
}

void ps_env_default(const char *name, const char *value) {
    setenv(name, value, 0);
}

const char *ps_env_get(const char *name) {
    return getenv(name);
}

bool ps_dir_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool ps_file_remove(const char *path) {
    return unlink(path) == 0;
}

bool ps_dir_remove(const char *path) {
    return rmdir(path) == 0;
}

ps_status ps_path_real(ps_alloc_state *a, const char *path, char **ret_real, ps_error *err) {
    char real[PATH_MAX];
    if (!realpath(path, real)) return ps_fail_errno(err, "resolve", path, errno);
    char *copy = ps_strdup(a, real);
    if (!copy) return PS_FAIL_NOMEM(err, path);
    *ret_real = copy;
    return PS_OK;
}

ps_status ps_dir_create(const char *path, int mode, ps_error *err) {
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return ps_fail_errno(err, "create folder", path, n ? ENAMETOOLONG : ENOENT);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char end = part[i];
        part[i] = 0;
        if (mkdir(part, (mode_t)mode) != 0 && !ps_dir_exists(part)) {
            return ps_fail_errno(err, "create folder", part, errno);
        }
        part[i] = end;
    }
    return PS_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

ps_status ps_dir_list(ps_alloc_state *a, const char *path, char ***ret_names, size_t *ret_count, ps_error *err) {
    DIR *dir = opendir(path);
    if (!dir) return ps_fail_errno(err, "list", path, errno);
    PS_VEC(char *) names = { 0 };
    ps_status status = PS_OK;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno) PS_TRY_OUT(ps_fail_errno(err, "list", path, errno));
        if (!e) break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *name = ps_strdup(a, e->d_name);
        if (!name || !ps_vec_push(a, &names, name)) {
            ps_free(a, name);
            PS_TRY_OUT(PS_FAIL_NOMEM(err, path));
        }
    }
    if (names.size) qsort(names.data, names.size, sizeof *names.data, compare_names);
    *ret_names = names.data;
    *ret_count = names.size;
out:
    closedir(dir);
    if (status != PS_OK) ps_dir_free(a, names.data, names.size);
    return status;
}

void ps_dir_free(ps_alloc_state *a, char **names, size_t count) {
    for (size_t i = 0; i < count; i++)
        ps_free(a, names[i]);
    ps_free(a, names);
}
