/* count_calls.c - to be preloaded: counts calls of epoll_ctl in the first eight bytes of the file $COUNT_CALLS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int (*call)(int, int, int, struct epoll_event *);

static atomic_ullong *count;
static call real;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("COUNT_CALLS");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = fd >= 0 ? mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0) close(fd);
    if (page != MAP_FAILED) count = page;
    *(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
}

int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    if (count) atomic_fetch_add(count, 1);
    return real(epoll, what, fd, event);
}
