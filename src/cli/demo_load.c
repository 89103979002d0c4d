/* demo_load.c - an open loop of HTTP requests: arrivals are drawn beforehand and latency counts from them, whatever the
 * server does. One thread, non-blocking sockets of this machine. */
#define _GNU_SOURCE /* ppoll */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "demo.h"

#define S_NS 1000000000.0
enum { HEAD = 4096 };

typedef struct connection {
    int fd; /* -1: not open */
    bool busy;
    size_t sent;
    char head[HEAD];   /* of the reply, cut off */
    size_t got, whole; /* bytes of the reply; whole 0: its head is not complete */
    size_t raw;        /* where its raw tensors begin; 0: it has none */
    char *reply;       /* of `whole` bytes, if its answer is looked at; free() it */
    int status;
    size_t arrival;
} connection;

typedef struct arrival {
    int64_t due_ns;
    double ms;        /* of its answer; < 0: none */
    bool good, wrong; /* 200; 200 with an answer that is not right */
    uint8_t step, request;
} arrival;

struct demo_client {
    const demo_request *requests;
    struct sockaddr_in address;
    int get_fd; /* for demo_client_get */
    uint64_t random;
    connection connections[DEMO_CONNECTIONS];
    arrival *arrivals;
    size_t n_arrivals, next, open; /* open: in flight */
};

/* ---- sockets ---- */

static int connect_to(const demo_client *c, bool blocking) {
    const int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&c->address, sizeof c->address) != 0 ||
        (!blocking && fcntl(fd, F_SETFL, O_NONBLOCK) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void hang_up(connection *k) {
    if (k->fd >= 0) close(k->fd);
    k->fd = -1;
    free(k->reply);
    k->reply = NULL;
}

/* The value of a header that is a number, or 0. `name` with the colon. */
static size_t number_of(const char *head, const char *name) {
    for (const char *p = head; (p = strchr(p, '\n')) != NULL;) {
        p++;
        if (strncasecmp(p, name, strlen(name)) == 0) return (size_t)strtoull(p + strlen(name), NULL, 10);
    }
    return 0;
}

/* Looks for the end of the head, once. */
static void read_head(connection *k) {
    if (k->whole || k->got >= HEAD) return;
    k->head[k->got] = '\0';
    const char *end = strstr(k->head, "\r\n\r\n");
    if (!end) return;
    k->status = strncmp(k->head, "HTTP/1.1 ", 9) == 0 ? (int)strtol(k->head + 9, NULL, 10) : 0;
    const size_t body = (size_t)(end + 4 - k->head), json = number_of(k->head, "inference-header-content-length:");
    k->whole = body + number_of(k->head, "content-length:");
    k->raw = json ? body + json : 0;
}

/* ---- requests ---- */

static const demo_request *request_of(const demo_client *c, const connection *k) {
    return &c->requests[c->arrivals[k->arrival].request];
}

static void finish(demo_client *c, connection *k, bool answered) {
    arrival *a = &c->arrivals[k->arrival];
    const demo_answer *right = request_of(c, k)->answer;
    if (answered) {
        a->ms = (double)(cli_now_ns() - a->due_ns) * 1e-6;
        a->good = k->status == 200;
        a->wrong = a->good && right &&
                   !(k->raw && k->raw <= k->whole && demo_answer_is_right(right, k->reply + k->raw, k->whole - k->raw));
        free(k->reply);
        k->reply = NULL;
    } else {
        hang_up(k);
    }
    k->busy = false;
    c->open--;
}

static void send_more(demo_client *c, connection *k) {
    const demo_request *request = request_of(c, k);
    while (k->sent < request->size) {
        const ssize_t n = send(k->fd, request->bytes + k->sent, request->size - k->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            finish(c, k, false);
            return;
        }
        k->sent += (size_t)n;
    }
}

/* The reply as a whole, which is so long as its head says; what came with the head is copied. */
static void begin_reply(connection *k) {
    k->reply = cli_alloc(k->whole, 1);
    memcpy(k->reply, k->head, k->got < k->whole ? k->got : k->whole);
}

/* Where the next bytes of the reply go, and how many: its head, all of it, or nowhere. */
static ssize_t receive(connection *k) {
    char rest[16384];
    if (!k->whole && k->got < HEAD - 1) return recv(k->fd, k->head + k->got, HEAD - 1 - k->got, 0);
    if (k->reply) return recv(k->fd, k->reply + k->got, k->whole - k->got, 0);
    return recv(k->fd, rest, sizeof rest, 0);
}

static void read_more(demo_client *c, connection *k) {
    for (;;) {
        const bool head = !k->whole;
        const ssize_t n = receive(k);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            finish(c, k, false);
            return;
        }
        k->got += (size_t)n;
        read_head(k);
        if (head && k->whole && request_of(c, k)->answer) begin_reply(k);
        if (k->whole && k->got >= k->whole) {
            finish(c, k, true);
            return;
        }
    }
}

static connection *idle_connection(demo_client *c, size_t most) {
    for (size_t i = 0; i < most; i++)
        if (!c->connections[i].busy) return &c->connections[i];
    return NULL;
}

/* What is due goes out, over at most so many connections. */
static void send_due(demo_client *c, size_t most, int64_t now) {
    connection *k;
    while (c->next < c->n_arrivals && c->arrivals[c->next].due_ns <= now && (k = idle_connection(c, most)) != NULL) {
        if (k->fd < 0 && (k->fd = connect_to(c, false)) < 0) return; /* tried again with the next event */
        *k = (connection) { .fd = k->fd, .busy = true, .arrival = c->next++ };
        c->open++;
        send_more(c, k);
    }
}

/* Until something comes, or until_ns. */
static void wait_for(demo_client *c, int64_t until_ns) {
    struct pollfd polls[DEMO_CONNECTIONS];
    connection *of[DEMO_CONNECTIONS];
    nfds_t n = 0;
    for (size_t i = 0; i < DEMO_CONNECTIONS; i++) {
        connection *k = &c->connections[i];
        if (!k->busy) continue;
        polls[n] =
            (struct pollfd) { .fd = k->fd, .events = k->sent < request_of(c, k)->size ? POLLOUT | POLLIN : POLLIN };
        of[n++] = k;
    }
    int64_t left = until_ns - cli_now_ns();
    if (left < 0) left = 0;
    const struct timespec time = { .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
    if (ppoll(polls, n, &time, NULL) <= 0) return;
    for (nfds_t i = 0; i < n; i++) {
        if (polls[i].revents & POLLOUT) send_more(c, of[i]);
        if (of[i]->busy && polls[i].revents & ~POLLOUT) read_more(c, of[i]);
    }
}

/* ---- other requests ---- */

json_t *demo_client_get(demo_client *c, const char *path) {
    connection k = { .fd = c->get_fd };
    char *text = cli_format("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path), *reply = NULL;
    size_t size = 0;
    const bool sent = send(k.fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
    while (sent && (!k.whole || size < k.whole)) {
        reply = cli_realloc(reply, size + HEAD, 1);
        const ssize_t n = recv(k.fd, reply + size, HEAD - 1, 0);
        if (n <= 0) break;
        size += (size_t)n;
        k.got = size < HEAD - 1 ? size : HEAD - 1;
        memcpy(k.head, reply, k.got);
        read_head(&k);
    }
    const char *at = k.whole && size >= k.whole && k.status == 200 ? strstr(k.head, "\r\n\r\n") : NULL;
    const size_t body = at ? (size_t)(at + 4 - k.head) : 0;
    json_t *root = at ? json_loadb(reply + body, k.whole - body, 0, NULL) : NULL;
    free(reply);
    free(text);
    return root;
}

/* ---- life ---- */

demo_client *demo_client_open(int port, ps_error *err) {
    demo_client *c = cli_alloc(1, sizeof *c);
    c->random = 1;
    c->address = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    c->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < DEMO_CONNECTIONS; i++)
        c->connections[i].fd = -1;
    c->get_fd = connect_to(c, true);
    if (c->get_fd >= 0) return c;
    cli_config_fail(err, "the server of the demo does not answer on port %d: %s", port, strerror(errno));
    demo_client_close(c);
    return NULL;
}

static void hang_up_all(demo_client *c) {
    for (size_t i = 0; i < DEMO_CONNECTIONS; i++) {
        connection *k = &c->connections[i];
        if (k->busy) finish(c, k, false);
    }
}

void demo_client_close(demo_client *c) {
    if (!c) return;
    for (size_t i = 0; i < DEMO_CONNECTIONS; i++)
        hang_up(&c->connections[i]);
    if (c->get_fd >= 0) close(c->get_fd);
    free(c->arrivals);
    free(c);
}

static void use_arrivals(demo_client *c, arrival *arrivals, size_t n) {
    free(c->arrivals);
    c->arrivals = arrivals;
    c->n_arrivals = n;
    c->next = 0;
}

double demo_client_saturate(demo_client *c, const demo_request *request, int n, double seconds) {
    const size_t most = 1 << 20;
    arrival *all = cli_alloc(most, sizeof *all); /* all are due at once; how many go out is the server's choice */
    const int64_t start = cli_now_ns(), end = start + (int64_t)(seconds * S_NS);
    size_t answered = 0;
    for (size_t i = 0; i < most; i++)
        all[i] = (arrival) { .due_ns = start, .ms = -1 };
    c->requests = request;
    use_arrivals(c, all, most);
    for (int64_t now; (now = cli_now_ns()) < end;) {
        send_due(c, (size_t)n, now);
        wait_for(c, end);
    }
    for (size_t i = 0; i < c->next; i++)
        answered += all[i].good;
    hang_up_all(c);
    return (double)answered / seconds;
}

/* ---- the load ---- */

static double uniform(uint64_t *state) { /* (0, 1) */
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 12) + 0.5) / 4503599627370496.0;
}

/* Of n, by their shares. */
static uint8_t draw_request(demo_client *c, const demo_count *step, size_t n) {
    if (n < 2) return 0;
    double at = uniform(&c->random);
    size_t i = 0;
    while (i + 1 < n && (at -= step->share[i]) >= 0)
        i++;
    return (uint8_t)i;
}

static void draw_arrivals(demo_client *c, const demo_load *load, demo_result *r, int64_t start) {
    size_t n = 0, room = 0;
    arrival *all = NULL;
    double from = 0;
    for (int s = 0; s < DEMO_STEPS; s++) {
        demo_count *step = &r->step[s];
        for (double at = 0; (at -= log(uniform(&c->random)) / step->rate) < step->seconds; n++) {
            if (n == room) all = cli_realloc(all, room = 2 * room + 1024, sizeof *all);
            all[n] = (arrival) { .due_ns = start + (int64_t)((from + at) * S_NS), .ms = -1, .step = (uint8_t)s };
            all[n].request = draw_request(c, step, load->n_requests);
            step->offered++;
        }
        from += step->seconds;
    }
    use_arrivals(c, all, n);
    r->n_ticks = (size_t)ceil(from * 1000 / DEMO_TICK_MS);
    r->tick = cli_alloc(r->n_ticks, sizeof *r->tick);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double p99_of_step(const demo_client *c, int step) {
    double *ms = cli_alloc(c->n_arrivals + 1, sizeof *ms);
    size_t n = 0;
    for (size_t i = 0; i < c->n_arrivals; i++)
        if (c->arrivals[i].step == step && c->arrivals[i].good) ms[n++] = c->arrivals[i].ms;
    qsort(ms, n, sizeof *ms, by_value);
    const double p99 = n ? ms[(n * 99 + 99) / 100 - 1] : NAN;
    free(ms);
    return p99;
}

static void count_one(demo_count *count, const arrival *a, double target_ms) {
    count->of[a->request]++;
    count->answered += a->good;
    count->in_time += a->good && a->ms <= target_ms;
    if (a->good) count->slowest_ms = fmax(count->slowest_ms, a->ms);
}

/* Answers count where their requests came. */
static void count_all(const demo_client *c, const demo_load *load, demo_result *r, int64_t start) {
    for (size_t i = 0; i < c->n_arrivals; i++) {
        const arrival *a = &c->arrivals[i];
        const size_t t = (size_t)((a->due_ns - start) / ((int64_t)DEMO_TICK_MS * 1000000));
        r->failed += !a->good;
        r->wrong += a->wrong;
        count_one(&r->step[a->step], a, load->target_ms);
        if (t >= r->n_ticks) continue;
        r->tick[t].offered++;
        count_one(&r->tick[t], a, load->target_ms);
    }
    for (int s = 0; s < DEMO_STEPS; s++)
        r->step[s].p99_ms = p99_of_step(c, s);
}

void demo_client_run(demo_client *c, const demo_load *load, demo_result *ret) {
    c->requests = load->requests;
    const int64_t start = cli_now_ns() + 10000000, tick_ns = (int64_t)DEMO_TICK_MS * 1000000;
    draw_arrivals(c, load, ret, start);
    size_t tick = 0;
    const int64_t last = start + (int64_t)ret->n_ticks * tick_ns + (int64_t)(load->patience_s * S_NS);
    for (int64_t now; (now = cli_now_ns()) < last && (c->next < c->n_arrivals || c->open || tick < ret->n_ticks);) {
        const int64_t tick_end = tick < ret->n_ticks ? start + (int64_t)(tick + 1) * tick_ns : last;
        if (now >= tick_end) {
            load->at_tick(load->ctx, &ret->tick[tick++]);
            continue;
        }
        send_due(c, DEMO_CONNECTIONS, now);
        int64_t until = tick_end;
        if (c->next < c->n_arrivals && c->arrivals[c->next].due_ns < until && c->open < DEMO_CONNECTIONS)
            until = c->arrivals[c->next].due_ns;
        wait_for(c, until);
    }
    hang_up_all(c);
    count_all(c, load, ret, start);
}
