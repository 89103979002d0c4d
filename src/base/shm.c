#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os_int.h"
#include "base/str.h"

enum { MAX_NAME = 254, MAX_TRANSFER = 1 << 30 };

bool ps_shm_name_valid(const char *name) {
    const char *rest = name + (*name == '/');
    size_t n = strlen(rest);
    if (n == 0 || n > MAX_NAME || strcmp(rest, ".") == 0 || strcmp(rest, "..") == 0) return false;
    for (const char *p = rest; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/') return false;
    return true;
}

ps_status ps_shm_open(const char *name, int *ret_fd, size_t *ret_size, ps_error *err) {
    char path[MAX_NAME + 2];
    struct stat s;
    PS_FAIL_IF(!ps_shm_name_valid(name), err, INVALID,
               "'%.80s' is no name of a shared memory object: 1 to %d bytes, no '/' but the first", name, MAX_NAME);
    ps_snprintf(path, sizeof path, "/%s", name + (*name == '/'));
    int fd = shm_open(path, O_RDWR, 0);
    if (fd < 0) return ps_fail_errno(err, "open shared memory", path, errno);
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode) || s.st_size < 0 || (uintmax_t)s.st_size > SIZE_MAX) {
        close(fd);
        return PS_FAIL(err, INVALID, "'%s' is no shared memory object", path);
    }
    *ret_fd = fd;
    *ret_size = (size_t)s.st_size;
    return PS_OK;
}

void ps_shm_close(int fd) {
    (void)close(fd);
}

ps_status ps_shm_read(int fd, size_t offset, void *dst, size_t size, ps_error *err) {
    char *to = dst;
    while (size > 0) {
        ssize_t n = pread(fd, to, size < MAX_TRANSFER ? size : MAX_TRANSFER, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        PS_FAIL_IF(n < 0, err, IO, "shared memory cannot be read");
        PS_FAIL_IF(n == 0, err, INVALID, "shared memory has become shorter than it was registered");
        to += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return PS_OK;
}

ps_status ps_shm_write(int fd, size_t offset, const void *src, size_t size, ps_error *err) {
    const char *from = src;
    struct stat s;
    PS_FAIL_IF(fstat(fd, &s) != 0 || s.st_size < 0 || (uintmax_t)s.st_size < offset + size, err, INVALID,
               "shared memory has become shorter than it was registered");
    while (size > 0) {
        ssize_t n = pwrite(fd, from, size < MAX_TRANSFER ? size : MAX_TRANSFER, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        PS_FAIL_IF(n <= 0, err, IO, "shared memory cannot be written");
        from += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return PS_OK;
}
