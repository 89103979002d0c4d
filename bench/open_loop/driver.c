/* driver.c - sends what is due, takes what comes: one thread over one epoll set. */
#define _GNU_SOURCE /* epoll_pwait2 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "open_loop.h"

enum { EVENTS = 256, SPIN_NS = 50000, MAX_WAIT_NS = 100000000 };
static const size_t no_request = (size_t)-1;

typedef struct connection {
    int fd; /* -1: closed */
    bool connecting, wants_write;
    size_t request; /* in flight, or no_request */
    const char *out;
    size_t out_left;
    ol_reply reply;
} connection;

typedef struct driver {
    ol_run *run;
    int epoll;
    int64_t start_ns;
    connection *all;
    size_t *idle; /* a stack: the connections used last are used first */
    size_t n_idle;
    size_t *closed; /* a stack of those without a descriptor */
    size_t n_closed;
    size_t next_to_send, in_flight; /* requests before next_to_send were sent or failed */
} driver;

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(const driver *d) {
    return clock_ns() - d->start_ns;
}

/* ---- the schedule ---- */

/* The model whose next request is due first. */
static ol_model *first_due(const ol_run *run) {
    ol_model *first = &run->models[0];
    for (size_t i = 1; i < run->n_models; i++)
        if (run->models[i].arrivals.next < first->arrivals.next) first = &run->models[i];
    return first;
}

/* All requests are drawn before the run, so that drawing costs nothing in it. */
static void draw_requests(ol_run *run) {
    const double end = run->warmup + run->duration;
    for (ol_model *m; (m = first_due(run))->arrivals.next < end; ol_arrivals_advance(&m->arrivals)) {
        if (run->n_requests == run->room) {
            run->room = run->room ? 2 * run->room : 4096;
            run->requests = ol_realloc(run->requests, run->room, sizeof *run->requests);
        }
        run->requests[run->n_requests++] = (ol_request) { .due = (int64_t)(m->arrivals.next * 1e9),
                                                          .model = (uint16_t)(m - run->models),
                                                          .body = (uint16_t)(ol_random(&run->random) % m->n_bodies) };
    }
}

/* ---- connections ---- */

static void watch(driver *d, connection *c, bool write, int how) {
    struct epoll_event e = { .events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.u64 = (uint64_t)(c - d->all) };
    c->wants_write = write;
    (void)epoll_ctl(d->epoll, how, c->fd, &e);
}

static void finish(driver *d, connection *c, int status) {
    ol_request *r = &d->run->requests[c->request];
    r->status = (int16_t)status;
    r->done = now_ns(d);
    c->request = no_request;
    d->in_flight--;
}

static void close_connection(driver *d, connection *c, int status) {
    if (c->request != no_request) finish(d, c, status);
    close(c->fd);
    c->fd = -1;
    d->closed[d->n_closed++] = (size_t)(c - d->all);
}

static void forget_idle(driver *d, size_t index) {
    for (size_t i = 0; i < d->n_idle; i++)
        if (d->idle[i] == index) {
            d->idle[i] = d->idle[--d->n_idle];
            return;
        }
}

/* false: no descriptor, or refused at once. */
static bool open_connection(driver *d, connection *c) {
    const int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return false;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const struct sockaddr *to = (const struct sockaddr *)&d->run->server->address;
    if (connect(c->fd, to, sizeof d->run->server->address) != 0 && errno != EINPROGRESS) {
        close(c->fd);
        c->fd = -1;
        return false;
    }
    c->connecting = true;
    watch(d, c, true, EPOLL_CTL_ADD);
    return true;
}

static void send_more(driver *d, connection *c) {
    while (c->out_left > 0) {
        ssize_t n = send(c->fd, c->out, c->out_left, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (n < 0) {
            close_connection(d, c, OL_LOST);
            return;
        }
        c->out += n;
        c->out_left -= (size_t)n;
    }
    bool more = c->out_left > 0;
    if (more != c->wants_write) watch(d, c, more, EPOLL_CTL_MOD);
}

static void start_request(driver *d, connection *c, size_t index) {
    ol_request *r = &d->run->requests[index];
    const ol_body *body = &d->run->models[r->model].bodies[r->body];
    c->request = index;
    c->out = body->data;
    c->out_left = body->size;
    ol_reply_reset(&c->reply);
    d->in_flight++;
    if (c->connecting) return;
    r->sent = now_ns(d);
    send_more(d, c);
}

/* A connection for the next request: an idle one, else a new one; NULL: all are in use. */
static connection *take_connection(driver *d, bool *ret_failed) {
    *ret_failed = false;
    if (d->n_idle) return &d->all[d->idle[--d->n_idle]];
    if (!d->n_closed) return NULL;
    connection *c = &d->all[d->closed[d->n_closed - 1]];
    *ret_failed = !open_connection(d, c);
    if (*ret_failed) return NULL;
    d->n_closed--;
    size_t open = d->run->connections - d->n_closed;
    if (open > d->run->peak_connections) d->run->peak_connections = open;
    return c;
}

static void send_due(driver *d) {
    ol_run *run = d->run;
    int64_t now = now_ns(d);
    while (d->next_to_send < run->n_requests && run->requests[d->next_to_send].due <= now) {
        bool failed;
        connection *c = take_connection(d, &failed);
        if (!c && !failed) return;
        ol_request *r = &run->requests[d->next_to_send];
        if (c) {
            start_request(d, c, d->next_to_send);
        } else {
            r->status = OL_NO_CONNECTION;
            r->sent = r->done = now_ns(d);
        }
        d->next_to_send++;
    }
}

/* ---- what happens on a connection ---- */

static void connected(driver *d, connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        close_connection(d, c, OL_NO_CONNECTION);
        return;
    }
    c->connecting = false;
    if (c->request != no_request) d->run->requests[c->request].sent = now_ns(d);
    send_more(d, c);
}

static int status_of(const driver *d, const connection *c) {
    const ol_request *r = &d->run->requests[c->request];
    const ol_model *m = &d->run->models[r->model];
    if (c->reply.status != 200 || !d->run->check) return c->reply.status;
    return ol_answer_equal(m, &m->bodies[r->body], &c->reply) ? 200 : OL_WRONG;
}

static void answered(driver *d, connection *c) {
    const bool keep = c->reply.status > 0 && !c->reply.close && c->out_left == 0;
    int64_t done = now_ns(d);
    size_t index = c->request;
    finish(d, c, status_of(d, c));
    d->run->requests[index].done = done;
    if (!keep) {
        close_connection(d, c, OL_LOST);
        return;
    }
    d->idle[d->n_idle++] = (size_t)(c - d->all);
}

/* The connection ended, or says something that nobody asked for. */
static void ended(driver *d, connection *c) {
    if (c->request == no_request) forget_idle(d, (size_t)(c - d->all));
    close_connection(d, c, OL_LOST);
}

static void receive(driver *d, connection *c) {
    for (;;) {
        size_t room = ol_reply_reserve(&c->reply);
        ssize_t n = recv(c->fd, c->reply.data + c->reply.size, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0 || c->request == no_request) {
            ended(d, c);
            return;
        }
        c->reply.size += (size_t)n;
        if (ol_reply_complete(&c->reply)) {
            answered(d, c);
            return;
        }
        if ((size_t)n < room) return;
    }
}

static void handle(driver *d, const struct epoll_event *e) {
    connection *c = &d->all[e->data.u64];
    if (c->fd < 0) return;
    if (c->connecting) {
        if (e->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) connected(d, c);
        return;
    }
    if (e->events & EPOLLOUT) send_more(d, c);
    if (c->fd >= 0 && (e->events & (EPOLLIN | EPOLLERR | EPOLLHUP))) receive(d, c);
}

/* Sleeps until something comes or is nearly due; a wait for the last 50 µs would oversleep. */
static void wait_events(driver *d) {
    const ol_run *run = d->run;
    struct epoll_event events[EVENTS];
    int64_t wait = MAX_WAIT_NS;
    if (d->next_to_send < run->n_requests) {
        int64_t left = run->requests[d->next_to_send].due - now_ns(d);
        if (left <= 0 && !d->n_idle && !d->n_closed) left = MAX_WAIT_NS; /* only a reply helps */
        wait = left < SPIN_NS ? 0 : left - SPIN_NS;
        if (wait > MAX_WAIT_NS) wait = MAX_WAIT_NS;
    }
    struct timespec timeout = { .tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000 };
    int n = epoll_pwait2(d->epoll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++)
        handle(d, &events[i]);
}

/* ---- the run ---- */

static void driver_init(driver *d, ol_run *run) {
    *d = (driver) { .run = run, .epoll = epoll_create1(EPOLL_CLOEXEC) };
    if (d->epoll < 0) ol_die("epoll: %s", strerror(errno));
    d->all = ol_alloc(run->connections, sizeof *d->all);
    d->idle = ol_alloc(run->connections, sizeof *d->idle);
    d->closed = ol_alloc(run->connections, sizeof *d->closed);
    for (size_t i = run->connections; i-- > 0;) {
        d->all[i].fd = -1;
        d->all[i].request = no_request;
        d->closed[d->n_closed++] = i;
    }
}

/* What has no reply yet stays unanswered. */
static void driver_release(driver *d) {
    for (size_t i = 0; i < d->run->connections; i++) {
        connection *c = &d->all[i];
        if (c->fd >= 0) close(c->fd);
        ol_reply_release(&c->reply);
    }
    close(d->epoll);
    free(d->all);
    free(d->idle);
    free(d->closed);
}

bool ol_run_all(ol_run *run) {
    driver d;
    for (size_t i = 0; i < run->n_models; i++)
        ol_arrivals_start(&run->models[i].arrivals, ol_random(&run->random));
    draw_requests(run);
    if (!run->n_requests) {
        fprintf(stderr, "open_loop: at this rate no request is due in the given time\n");
        return false;
    }
    driver_init(&d, run);
    d.start_ns = clock_ns();
    const int64_t end = (int64_t)((run->warmup + run->duration + run->drain) * 1e9);
    while ((d.next_to_send < run->n_requests || d.in_flight) && now_ns(&d) < end) {
        send_due(&d);
        wait_events(&d);
    }
    driver_release(&d);
    return true;
}
