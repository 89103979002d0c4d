#include "base/folder_watch.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/os_int.h"

struct ps_folder_watch {
    ps_alloc_state *alloc;
    int inotify, wake;
};

/* A file that is written tells so when it is closed: until then it counts as changing by its size. */
#define EVENTS (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)

ps_status ps_folder_watch_create(ps_alloc_state *alloc, ps_folder_watch **ret, ps_error *err) {
    ps_folder_watch *w = ps_alloc_zero(alloc, sizeof *w);
    if (!w) return PS_FAIL_NOMEM(err, "watching folders");
    w->alloc = alloc;
    w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->inotify >= 0 && w->wake >= 0) {
        *ret = w;
        return PS_OK;
    }
    ps_status status = ps_fail_errno(err, "watch", "folders", errno);
    ps_folder_watch_free(w);
    return status;
}

void ps_folder_watch_free(ps_folder_watch *w) {
    if (!w) return;
    if (w->inotify >= 0) close(w->inotify);
    if (w->wake >= 0) close(w->wake);
    ps_free(w->alloc, w);
}

bool ps_folder_watch_add(ps_folder_watch *w, const char *path) {
    return inotify_add_watch(w->inotify, path, EVENTS | IN_ONLYDIR) >= 0;
}

/* Everything there is to read; the events say no more than that something has changed. */
static bool drain(int fd) {
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool any = false;
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n > 0) any = true;
        if (n <= 0 && !(n < 0 && errno == EINTR)) return any;
    }
}

bool ps_folder_watch_wait(ps_folder_watch *w, int milliseconds) {
    struct pollfd fds[] = { { .fd = w->inotify, .events = POLLIN }, { .fd = w->wake, .events = POLLIN } };
    if (poll(fds, 2, milliseconds) <= 0) return false;
    if (fds[1].revents) (void)drain(w->wake);
    return fds[0].revents && drain(w->inotify);
}

void ps_folder_watch_wake(ps_folder_watch *w) {
    uint64_t one = 1;
    ssize_t n = write(w->wake, &one, sizeof one);
    (void)n; /* full: it is awake already */
}
