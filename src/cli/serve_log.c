#include "serve_log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOM ((size_t)512 << 10)
#define BATCH_NS 10000000L
#define PATIENCE_MS 1000 /* of the last lines with a reader that takes nothing */

/* One fills while the thread writes the other. */
typedef struct buffer {
    char *data;
    size_t size;
} buffer;

struct serve_log {
    pthread_t thread;
    bool to_file; /* standard error is a file: nobody can fail to read it */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    buffer filling, writing; /* filling: guarded by lock, like all below; writing: the thread's */
    bool asleep, urgent, stopping;
    unsigned long dropped;
    time_t second; /* of `when` */
    char when[32];
};

static const char *const level_names[] = { "error", "warn", "info", "debug" };

/* ---- the thread ---- */

static bool is_stopping(serve_log *log) {
    pthread_mutex_lock(&log->lock);
    bool stopping = log->stopping;
    pthread_mutex_unlock(&log->lock);
    return stopping;
}

/* false: nobody will take more. */
static bool wait_writable(serve_log *log) {
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    for (int waited = 0; poll(&p, 1, PATIENCE_MS / 10) == 0; waited++)
        if (waited >= 10 && is_stopping(log)) return false;
    return true; /* an error is for write to meet */
}

/* To a pipe in pieces that do not block once it is writable, which end between two lines. */
static size_t piece(const serve_log *log, const char *data, size_t size) {
    if (log->to_file || size <= PIPE_BUF) return size;
    for (size_t n = PIPE_BUF; n > 0; n--)
        if (data[n - 1] == '\n') return n;
    return PIPE_BUF;
}

static void write_all(serve_log *log, const char *data, size_t size) {
    while (size > 0) {
        if (!log->to_file && !wait_writable(log)) return;
        ssize_t n = write(STDERR_FILENO, data, piece(log, data, size));
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return; /* a full disk or a reader that is gone: the lines are lost, the server goes on */
        data += n;
        size -= (size_t)n;
    }
}

/* With the lock held: until there is a batch to write. */
static void wait_for_batch(serve_log *log) {
    struct timespec until;
    log->asleep = true;
    while (!log->filling.size && !log->stopping)
        pthread_cond_wait(&log->changed, &log->lock);
    log->asleep = false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += BATCH_NS;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (!log->urgent && !log->stopping)
        if (pthread_cond_timedwait(&log->changed, &log->lock, &until) != 0) break;
    log->urgent = false;
}

static void *write_batches(void *arg) {
    serve_log *log = arg;
    pthread_mutex_lock(&log->lock);
    while (log->filling.size || !log->stopping) {
        wait_for_batch(log);
        buffer full = log->filling;
        log->filling = (buffer) { log->writing.data, 0 };
        log->writing = full;
        pthread_mutex_unlock(&log->lock);
        write_all(log, full.data, full.size);
        pthread_mutex_lock(&log->lock);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* ---- lines ---- */

/* With the lock held. The date and time to the second change rarely. */
static void read_clock(serve_log *log, long *ret_ms) {
    struct timespec now;
    struct tm t;
    clock_gettime(CLOCK_REALTIME, &now);
    *ret_ms = now.tv_nsec / 1000000;
    if (now.tv_sec == log->second) return;
    log->second = now.tv_sec;
    if (!gmtime_r(&now.tv_sec, &t) || !strftime(log->when, sizeof log->when, "%Y-%m-%dT%H:%M:%S", &t))
        log->when[0] = '\0';
}

static char *put(char *to, const char *text, size_t n) {
    memcpy(to, text, n);
    return to + n;
}

/* With the lock held. */
static void append(serve_log *log, ps_log_level level, const char *line) {
    char missing[48] = "";
    size_t n = strlen(line), level_n = strlen(level_names[level]);
    if (log->dropped) snprintf(missing, sizeof missing, " dropped_lines=%lu", log->dropped);
    if (log->filling.size + n + 128 > ROOM) { /* the rest of the line is shorter than that */
        log->dropped++;
        return;
    }
    long ms;
    read_clock(log, &ms);
    char *start = log->filling.data + log->filling.size, *p = put(start, "time=", 5);
    p = put(p, log->when, strlen(log->when));
    char rest[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z' };
    p = put(put(p, rest, sizeof rest), " level=", 7);
    p = put(put(put(p, level_names[level], level_n), " ", 1), line, n);
    p = put(put(p, missing, strlen(missing)), "\n", 1);
    log->filling.size += (size_t)(p - start);
    log->dropped = 0;
}

void serve_log_line(void *ctx, ps_log_level level, const char *line) {
    serve_log *log = ctx;
    if (level > PS_LOG_INFO) return;
    pthread_mutex_lock(&log->lock);
    append(log, level, line);
    bool wake = log->asleep && log->filling.size;
    if ((level <= PS_LOG_WARN || log->filling.size > ROOM / 2) && !log->urgent) log->urgent = wake = true;
    if (wake) log->asleep = false;
    pthread_mutex_unlock(&log->lock);
    if (wake) pthread_cond_signal(&log->changed);
}

/* ---- life ---- */

static bool start_thread(serve_log *log) {
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) return false;
    bool ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&log->changed, &attr) == 0;
    pthread_condattr_destroy(&attr);
    if (!ok) return false;
    if (pthread_mutex_init(&log->lock, NULL) == 0) {
        if (pthread_create(&log->thread, NULL, write_batches, log) == 0) return true;
        pthread_mutex_destroy(&log->lock);
    }
    pthread_cond_destroy(&log->changed);
    return false;
}

static void release(serve_log *log) {
    free(log->filling.data);
    free(log->writing.data);
    free(log);
}

serve_log *serve_log_start(void) {
    struct stat st;
    serve_log *log = calloc(1, sizeof *log);
    if (!log) return NULL;
    log->to_file = fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);
    log->filling.data = malloc(ROOM);
    log->writing.data = malloc(ROOM);
    if (log->filling.data && log->writing.data && start_thread(log)) return log;
    release(log);
    return NULL;
}

void serve_log_stop(serve_log *log) {
    if (!log) return;
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_mutex_unlock(&log->lock);
    pthread_cond_signal(&log->changed);
    pthread_join(log->thread, NULL);
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->lock);
    release(log);
}
