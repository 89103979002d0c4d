/* os_write.c - files that stand under their name completely or not at all. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_TMPFILE */
#endif
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/os_int.h"
#include "base/str.h"

enum { MAX_TRANSFER = 1 << 30 }; /* of one write: Linux stops a little below 2 GiB */

int ps_write_all(int fd, const void *data, size_t size) {
    const char *in = data;
    while (size > 0) {
        ssize_t n = write(fd, in, size < MAX_TRANSFER ? size : MAX_TRANSFER);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        in += n;
        size -= (size_t)n;
    }
    return 0;
}

static void folder_of(const char *path, char dir[PATH_MAX]) {
    ps_snprintf(dir, PATH_MAX, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = 0;
    else
        ps_snprintf(dir, PATH_MAX, ".");
}

/* A name beside path that is most likely free; false if it is too long. */
static bool temp_name(const char *path, int attempt, char temp[PATH_MAX]) {
    int n = snprintf(temp, PATH_MAX, "%s.tmp-%ld-%llx", path, (long)getpid(),
                     (unsigned long long)ps_clock_ns() + (unsigned long long)attempt);
    if (n >= 0 && n < PATH_MAX) return true;
    errno = ENAMETOOLONG;
    return false;
}

/* By this path linkat finds a file that has no name. */
static void nameless_path(int fd, char buf[32]) {
    ps_snprintf(buf, 32, "/proc/self/fd/%d", fd);
}

/* A file without a name in path's folder: of a process that is killed nothing stays. -1 where the file system has no
 * such files, or /proc is not there to name it. */
static int open_nameless(const char *path, int mode) {
    char text[PATH_MAX];
    folder_of(path, text);
    int fd = open(text, O_WRONLY | O_TMPFILE | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) return -1;
    nameless_path(fd, text);
    if (access(text, F_OK) == 0) return fd;
    close(fd);
    return -1;
}

/* A new file for path: without a name (temp is empty then), or beside path under a name of its own, never an existing
 * one and never through a link. */
static int open_temp(const char *path, int mode, char temp[PATH_MAX]) {
    int fd = open_nameless(path, mode);
    temp[0] = 0;
    for (int attempt = 0; fd < 0 && attempt < 100; attempt++) {
        if (!temp_name(path, attempt, temp)) return -1;
        fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)mode);
        if (fd < 0 && errno != EEXIST) return -1;
    }
    return fd;
}

/* Makes the rename itself durable; best effort, some file systems cannot sync a folder. */
static void sync_parent(const char *path) {
    char dir[PATH_MAX];
    folder_of(path, dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

/* A file without a name gets path's if that is free, else a name of its own, by which it can take path's place. */
static int give_name(int fd, const char *path, char temp[PATH_MAX]) {
    char from[32];
    nameless_path(fd, from);
    if (linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return 0;
    for (int attempt = 0; errno == EEXIST && attempt < 100; attempt++) {
        if (!temp_name(path, attempt, temp)) break;
        if (linkat(AT_FDCWD, from, AT_FDCWD, temp, AT_SYMLINK_FOLLOW) == 0) return 0;
    }
    temp[0] = 0;
    return errno;
}

/* What is in fd stands under path, completely, or (an errno) nothing of it is left. code: what failed before. Closes
 * fd. */
static int commit_file(int fd, const char *path, char temp[PATH_MAX], bool sync, int code) {
    if (code == 0 && sync && fsync(fd) != 0) code = errno;
    if (code == 0 && !temp[0]) code = give_name(fd, path, temp);
    if (close(fd) != 0 && code == 0) code = errno;
    if (code == 0 && temp[0] && rename(temp, path) != 0) code = errno;
    if (code && temp[0]) unlink(temp);
    if (code == 0 && sync) sync_parent(path);
    return code;
}

static ps_status write_file(const char *path, const void *data, size_t size, int mode, bool sync, ps_error *err) {
    char temp[PATH_MAX];
    int fd = open_temp(path, mode, temp);
    if (fd < 0) return ps_fail_errno(err, "create", path, errno);
    int code = commit_file(fd, path, temp, sync, ps_write_all(fd, data, size));
    return code ? ps_fail_errno(err, "write", path, code) : PS_OK;
}

ps_status ps_file_write(const char *path, const void *data, size_t size, int mode, ps_error *err) {
    return write_file(path, data, size, mode, true, err);
}

ps_status ps_file_note(const char *path, const void *data, size_t size, int mode, ps_error *err) {
    return write_file(path, data, size, mode, false, err);
}

static void forget_writer(ps_file_writer *w) {
    ps_free(w->alloc, w->temp);
    ps_free(w->alloc, w->path);
    *w = (ps_file_writer) { 0 };
}

ps_status ps_file_writer_open(ps_file_writer *w, ps_alloc_state *a, const char *path, int mode, ps_error *err) {
    char temp[PATH_MAX];
    *w = (ps_file_writer) { .alloc = a };
    int fd = open_temp(path, mode, temp);
    if (fd < 0) return ps_fail_errno(err, "create", path, errno);
    w->fd = fd + 1;
    w->temp = ps_strdup(a, temp);
    w->path = ps_strdup(a, path);
    if (w->temp && w->path) return PS_OK;
    if (temp[0]) unlink(temp);
    ps_file_writer_abort(w);
    return PS_FAIL_NOMEM(err, path);
}

ps_status ps_file_writer_append(ps_file_writer *w, const void *data, size_t size, ps_error *err) {
    int code = ps_write_all(w->fd - 1, data, size);
    return code ? ps_fail_errno(err, "write", w->path, code) : PS_OK;
}

ps_status ps_file_writer_commit(ps_file_writer *w, ps_error *err) {
    char temp[PATH_MAX];
    ps_snprintf(temp, sizeof temp, "%s", w->temp);
    int code = commit_file(w->fd - 1, w->path, temp, true, 0);
    ps_status status = code ? ps_fail_errno(err, "write", w->path, code) : PS_OK;
    forget_writer(w);
    return status;
}

void ps_file_writer_abort(ps_file_writer *w) {
    if (!w->alloc) return;
    if (w->fd) close(w->fd - 1);
    if (w->fd && w->temp && w->temp[0]) unlink(w->temp);
    forget_writer(w);
}
