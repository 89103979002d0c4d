/* request.c - the bytes of the requests: what the model takes is asked of the server. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "open_loop.h"
#include "polestar/io.h"

enum { MAX_RANK = 16, ASK_SECONDS = 120 };

/* ---- one question, one answer, before the run ---- */

void ol_server_resolve(ol_server *server, const char *url) {
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *list = NULL;
    if (strncmp(url, "http://", 7) == 0) url += 7;
    server->host = ol_format("%s", url);
    server->host[strcspn(server->host, "/")] = '\0';
    const char *colon = strrchr(server->host, ':');
    if (!colon) ol_die("'%s' is not HOST:PORT", url);
    char *name = ol_format("%.*s", (int)(colon - server->host), server->host);
    int rc = getaddrinfo(name, colon + 1, &hints, &list);
    if (rc != 0) ol_die("'%s': %s", url, gai_strerror(rc));
    memcpy(&server->address, list->ai_addr, sizeof server->address);
    freeaddrinfo(list);
    free(name);
}

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0) ol_die("the server hung up: %s", strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

/* Sends the bytes on a connection of their own and waits for the reply. */
static void ask(const ol_server *server, const char *data, size_t size, ol_reply *reply) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { .tv_sec = ASK_SECONDS };
    if (fd < 0 || connect(fd, (const struct sockaddr *)&server->address, sizeof server->address) != 0)
        ol_die("%s: %s", server->host, strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    send_all(fd, data, size);
    ol_reply_reset(reply);
    while (!ol_reply_complete(reply)) {
        size_t room = ol_reply_reserve(reply);
        ssize_t n = recv(fd, reply->data + reply->size, room, 0);
        if (n <= 0) ol_die("%s gave no whole reply to '%.*s'", server->host, (int)strcspn(data, "\r"), data);
        reply->size += (size_t)n;
    }
    close(fd);
    if (reply->status == OL_UNREADABLE) ol_die("%s gave a reply without a length", server->host);
}

/* The name as it stands in a path. */
static char *quote(const char *name) {
    char *text = ol_alloc(3 * strlen(name) + 1, 1), *to = text;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z') || (*p && strchr("-._~", *p));
        to += snprintf(to, 4, plain ? "%c" : "%%%02X", *p);
    }
    return text;
}

static json_t *ask_metadata(const ol_server *server, const char *model) {
    char *name = quote(model);
    char *text = ol_format("GET /v2/models/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name, server->host);
    ol_reply reply = { 0 };
    json_error_t where;
    ask(server, text, strlen(text), &reply);
    if (reply.status != 200)
        ol_die("model '%s': %d %.*s", model, reply.status, (int)reply.body, reply.data + reply.head);
    json_t *root = json_loadb(reply.data + reply.head, reply.body, 0, &where);
    if (!root) ol_die("model '%s': its metadata is no JSON: %s", model, where.text);
    ol_reply_release(&reply);
    free(text);
    free(name);
    return root;
}

/* ---- tensors ---- */

typedef struct tensor {
    const char *name, *datatype;
    int64_t dims[MAX_RANK];
    size_t rank, elements;
    char *data; /* raw */
    size_t size;
} tensor;

static size_t element_size(const char *datatype) {
    ps_dtype dtype = ps_dtype_parse(datatype);
    return dtype == PS_DTYPE_STRING ? 0 : ps_dtype_bits(dtype) / 8;
}

static void read_shape_text(tensor *t, const char *text) {
    t->rank = 0;
    for (const char *p = text; *p;) {
        char *end;
        long long dim = strtoll(p, &end, 10);
        if (end == p || dim < 0 || t->rank == MAX_RANK || (*end && *end != 'x' && *end != ','))
            ol_die("'%s' is no shape such as 1x3x224x224", text);
        t->dims[t->rank++] = dim;
        p = *end ? end + 1 : end;
    }
}

/* Open dims are 1. */
static void read_shape_json(tensor *t, const json_t *shape) {
    t->rank = json_array_size(shape);
    if (t->rank > MAX_RANK) ol_die("input '%s' has more than %d dims", t->name, MAX_RANK);
    for (size_t d = 0; d < t->rank; d++) {
        t->dims[d] = json_integer_value(json_array_get(shape, d));
        if (t->dims[d] < 0) t->dims[d] = 1;
    }
}

static void count_elements(tensor *t) {
    t->elements = 1;
    for (size_t d = 0; d < t->rank; d++) {
        if (t->dims[d] > 0 && t->elements > ((size_t)1 << 28) / (size_t)t->dims[d])
            ol_die("input '%s' is larger than a request should be", t->name);
        t->elements *= (size_t)t->dims[d];
    }
}

static double gaussian(uint64_t *random) {
    double u = 1 - ol_uniform(random), v = ol_uniform(random);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Half precision and bfloat16: 2^-k, exact in both and never too large. */
static uint16_t half(const char *datatype, uint64_t *random) {
    unsigned k = (unsigned)(ol_random(random) % 8);
    return strcmp(datatype, "FP16") == 0 ? (uint16_t)((15 - k) << 10) : (uint16_t)((127 - k) << 7);
}

/* Floats as from a normal distribution, integers from 0 to 99 (which every vocabulary has), booleans. */
static void fill_random(tensor *t, uint64_t *random) {
    const size_t bytes = element_size(t->datatype);
    t->size = t->elements * bytes;
    t->data = ol_alloc(t->size + 1, 1);
    for (size_t i = 0; i < t->elements; i++) {
        char *to = t->data + i * bytes;
        double d = gaussian(random);
        float f = (float)d;
        uint64_t whole = ol_random(random) % (strcmp(t->datatype, "BOOL") == 0 ? 2 : 100); /* little-endian below */
        uint16_t h = half(t->datatype, random);
        if (strcmp(t->datatype, "FP32") == 0)
            memcpy(to, &f, sizeof f);
        else if (strcmp(t->datatype, "FP64") == 0)
            memcpy(to, &d, sizeof d);
        else if (strcmp(t->datatype, "FP16") == 0 || strcmp(t->datatype, "BF16") == 0)
            memcpy(to, &h, sizeof h);
        else
            memcpy(to, &whole, bytes);
    }
}

/* BYTES: a length and as many letters for each element. */
static void fill_words(tensor *t, uint64_t *random) {
    enum { LENGTH = 8 };
    t->size = t->elements * (4 + LENGTH);
    t->data = ol_alloc(t->size + 1, 1);
    for (size_t i = 0; i < t->elements; i++) {
        char *to = t->data + i * (4 + LENGTH);
        to[0] = LENGTH;
        for (int c = 0; c < LENGTH; c++)
            to[4 + c] = (char)('a' + ol_random(random) % 26);
    }
}

static void fill_from_file(ps_engine *engine, tensor *t, const char *file) {
    ps_tensor *loaded;
    ps_error err = PS_ERROR_INIT;
    if (ps_tensor_load(engine, file, &loaded, &err) != PS_OK) ol_die("%s: %s", file, err.msg);
    const ps_shape *shape = ps_tensor_shape(loaded);
    if (strcmp(ps_dtype_v2_name(ps_tensor_dtype(loaded)), t->datatype) != 0)
        ol_die("%s holds %s, input '%s' takes %s", file, ps_dtype_v2_name(ps_tensor_dtype(loaded)), t->name,
               t->datatype);
    if (ps_tensor_dtype(loaded) == PS_DTYPE_STRING) ol_die("%s: files of texts are not supported", file);
    t->rank = (size_t)shape->rank;
    memcpy(t->dims, shape->dims, t->rank * sizeof *t->dims);
    t->size = ps_tensor_bytes(loaded);
    t->data = ol_alloc(t->size + 1, 1);
    memcpy(t->data, ps_tensor_data_const(loaded), t->size);
    ps_tensor_release(loaded);
}

static const ol_input *said_of(const ol_model *m, const char *name, bool file) {
    for (size_t i = 0; i < m->n_inputs; i++)
        if (strcmp(m->inputs[i].name, name) == 0 && (file ? m->inputs[i].file : m->inputs[i].shape))
            return &m->inputs[i];
    return NULL;
}

static void make_tensor(ps_engine *engine, const ol_model *m, const json_t *input, uint64_t *random, tensor *ret) {
    *ret = (tensor) { .name = json_string_value(json_object_get(input, "name")),
                      .datatype = json_string_value(json_object_get(input, "datatype")) };
    if (!ret->name || !ret->datatype) ol_die("model '%s': an input without name or datatype", m->name);
    const ol_input *file = said_of(m, ret->name, true), *shape = said_of(m, ret->name, false);
    if (file) {
        fill_from_file(engine, ret, file->file);
        return;
    }
    if (shape)
        read_shape_text(ret, shape->shape);
    else
        read_shape_json(ret, json_object_get(input, "shape"));
    count_elements(ret);
    if (strcmp(ret->datatype, "BYTES") == 0)
        fill_words(ret, random);
    else if (element_size(ret->datatype))
        fill_random(ret, random);
    else
        ol_die("model '%s': no values for datatype '%s'", m->name, ret->datatype);
}

/* ---- bodies ---- */

static json_t *describe(const tensor *t) {
    json_t *dims = json_array();
    for (size_t d = 0; d < t->rank; d++)
        json_array_append_new(dims, json_integer(t->dims[d]));
    return json_pack("{s:s, s:s, s:o, s:{s:I}}", "name", t->name, "datatype", t->datatype, "shape", dims, "parameters",
                     "binary_data_size", (json_int_t)t->size);
}

static char *make_json(const ol_model *m, const tensor *tensors, size_t n) {
    json_t *inputs = json_array(), *parameters = json_pack("{s:b}", "binary_data_output", 1);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(inputs, describe(&tensors[i]));
    if (m->timeout_us) json_object_set_new(parameters, "timeout", json_integer(m->timeout_us));
    if (m->priority) json_object_set_new(parameters, "priority", json_integer(m->priority));
    json_t *root = json_pack("{s:o, s:o}", "inputs", inputs, "parameters", parameters);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (!text) ol_die("out of memory");
    json_decref(root);
    return text;
}

static void make_body(const ol_server *server, const ol_model *m, const tensor *tensors, size_t n, ol_body *ret) {
    char *json = make_json(m, tensors, n), *name = quote(m->name);
    size_t json_size = strlen(json), raw = 0;
    for (size_t i = 0; i < n; i++)
        raw += tensors[i].size;
    char *head = ol_format("POST /v2/models/%s/infer HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\n"
                           "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n\r\n",
                           name, server->host, json_size, json_size + raw);
    size_t at = strlen(head);
    ret->size = at + json_size + raw;
    ret->data = ol_alloc(ret->size + 1, 1);
    memcpy(ret->data, head, at);
    memcpy(ret->data + at, json, json_size);
    at += json_size;
    for (size_t i = 0; i < n; at += tensors[i++].size)
        memcpy(ret->data + at, tensors[i].data, tensors[i].size);
    free(head);
    free(json);
    free(name);
}

/* The first request of a model may compile a plan: every body is sent once before the run, which is the answer too. */
static void ask_alone(const ol_server *server, ol_model *m, ol_body *body) {
    ol_reply reply = { 0 };
    ask(server, body->data, body->size, &reply);
    if (reply.status != 200)
        ol_die("model '%s': %d %.*s", m->name, reply.status, (int)reply.body, reply.data + reply.head);
    if (!reply.json) ol_die("model '%s': the server answers in JSON where raw tensors are asked for", m->name);
    body->answer_size = reply.body - reply.json;
    body->answer = ol_alloc(body->answer_size + 1, 1);
    memcpy(body->answer, reply.data + reply.head + reply.json, body->answer_size);
    ol_reply_release(&reply);
}

static bool all_f32(const json_t *outputs) {
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(outputs, i), "datatype"));
        if (!type || strcmp(type, "FP32") != 0) return false;
    }
    return true;
}

static void check_names(const ol_model *m, const tensor *tensors, size_t n) {
    for (size_t i = 0; i < m->n_inputs; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found |= strcmp(tensors[k].name, m->inputs[i].name) == 0;
        if (!found) ol_die("model '%s' has no input '%s'", m->name, m->inputs[i].name);
    }
}

void ol_model_prepare(const ol_server *server, ol_model *m, uint64_t *random, bool check) {
    json_t *about = ask_metadata(server, m->name), *inputs = json_object_get(about, "inputs");
    const size_t n = json_array_size(inputs);
    tensor *tensors = ol_alloc(n, sizeof *tensors);
    ps_engine_options options = PS_ENGINE_OPTIONS_INIT;
    ps_engine *engine;
    options.threads = 1;
    if (ps_engine_create(&options, &engine, NULL) != PS_OK) ol_die("out of memory");
    m->answers_f32 = all_f32(json_object_get(about, "outputs"));
    m->n_bodies = (size_t)m->samples;
    m->bodies = ol_alloc(m->n_bodies, sizeof *m->bodies);
    for (size_t b = 0; b < m->n_bodies; b++) {
        for (size_t i = 0; i < n; i++)
            make_tensor(engine, m, json_array_get(inputs, i), random, &tensors[i]);
        check_names(m, tensors, n);
        make_body(server, m, tensors, n, &m->bodies[b]);
        for (size_t i = 0; i < n; i++)
            free(tensors[i].data);
        if (check) ask_alone(server, m, &m->bodies[b]);
    }
    ps_engine_free(engine);
    free(tensors);
    json_decref(about);
}

bool ol_answer_equal(const ol_model *m, const ol_body *body, const ol_reply *reply) {
    const char *data = reply->data + reply->head + reply->json;
    const size_t size = reply->body - reply->json;
    if (size != body->answer_size) return false;
    if (memcmp(data, body->answer, size) == 0) return true;
    if (!m->answers_f32) return false;
    for (size_t i = 0; i + sizeof(float) <= size; i += sizeof(float)) {
        float a, b;
        memcpy(&a, data + i, sizeof a);
        memcpy(&b, body->answer + i, sizeof b);
        if (!(fabsf(a - b) <= 1e-4f + 1e-3f * fabsf(b)) && memcmp(&a, &b, sizeof a) != 0) return false;
    }
    return true;
}
