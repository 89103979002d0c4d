/* first_result.c - from the start of a process to the first result of a model, with compiled programs to be had or not.
 *
 *     build/release/tests/first_result FILE [DEVICE] [STARTS]       defaults: gpu, 4
 *
 * Writes ResNet-50 with made-up weights to FILE if there is no such file. Each start is a process of its own; the cache
 * FILE.cache is emptied before the first. The clock starts before fork and exec, and stops when the outputs of one
 * image are in host memory. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/opencl/opencl_int.h"
#include "base/os.h"
#include "base/wire.h"
#include "networks.h"
#include "passes/passes.h"
#include "runtime/runtime_int.h"

static int fail(const ps_error *err) {
    fprintf(stderr, "first_result: %s\n", err->msg);
    return 1;
}

/* ---- writing the model (onnx.proto): fields by number ---- */

static void put_number(ps_str *s, uint32_t field, uint64_t v) {
    uint8_t buf[24], *end = ps_wire_put_varint(ps_wire_put_tag(buf, field, PS_WIRE_VARINT), v);
    ps_str_append_n(s, buf, (size_t)(end - buf));
}

static void put_bytes(ps_str *s, uint32_t field, const void *data, size_t size) {
    uint8_t buf[24], *end = ps_wire_put_varint(ps_wire_put_tag(buf, field, PS_WIRE_LEN), size);
    ps_str_append_n(s, buf, (size_t)(end - buf));
    ps_str_append_n(s, data, size);
}

static void put_text(ps_str *s, uint32_t field, const char *text) {
    put_bytes(s, field, text, strlen(text));
}

static void put_part(ps_str *s, uint32_t field, ps_str *part) {
    put_bytes(s, field, part->data, part->size);
    ps_str_clear(part);
}

static void put_attr(ps_str *node, const ps_attr *a, ps_str *part) {
    enum { ATTR = 5, NAME = 1, I = 3, INTS = 8, TYPE = 20, TYPE_INT = 2, TYPE_INTS = 7 };
    put_text(part, NAME, a->name);
    put_number(part, TYPE, a->type == PS_ATTR_INT ? TYPE_INT : TYPE_INTS);
    if (a->type == PS_ATTR_INT) put_number(part, I, (uint64_t)a->u.i);
    for (size_t i = 0; a->type == PS_ATTR_INTS && i < a->n; i++)
        put_number(part, INTS, (uint64_t)a->u.ints[i]);
    put_part(node, ATTR, part);
}

static void put_node(ps_str *graph, const ps_node *n, ps_str *node, ps_str *part) {
    for (uint32_t i = 0; i < n->n_in; i++)
        put_text(node, 1, n->in[i] ? n->in[i]->name : "");
    for (uint32_t i = 0; i < n->n_out; i++)
        put_text(node, 2, n->out[i]->name);
    put_text(node, 4, n->op_type);
    for (uint32_t i = 0; i < n->n_attrs; i++)
        put_attr(node, &n->attrs[i], part);
    put_part(graph, 1, node);
}

static void put_tensor(ps_str *graph, const ps_value *v, ps_str *part) {
    const ps_tensor *t = v->constant;
    for (int i = 0; i < t->shape.rank; i++)
        put_number(part, 1, (uint64_t)t->shape.dims[i]);
    put_number(part, 2, (uint64_t)t->dtype);
    put_text(part, 8, v->name);
    put_bytes(part, 9, t->data, t->bytes);
    put_part(graph, 5, part);
}

static void put_end(ps_str *graph, uint32_t field, const ps_value *v, ps_str *info, ps_str *part) {
    ps_str shape, type;
    ps_str_init(&shape, graph->alloc);
    ps_str_init(&type, graph->alloc);
    for (int i = 0; i < v->shape.rank; i++) {
        put_number(part, 1, (uint64_t)v->shape.dims[i]);
        put_part(&shape, 1, part);
    }
    put_number(part, 1, (uint64_t)v->dtype);
    put_part(part, 2, &shape);
    put_part(&type, 1, part);
    put_text(info, 1, v->name);
    put_part(info, 2, &type);
    put_part(graph, field, info);
    ps_str_release(&shape);
    ps_str_release(&type);
}

static void put_graph(ps_str *graph, const ps_graph *g) {
    ps_str a, b;
    ps_str_init(&a, graph->alloc);
    ps_str_init(&b, graph->alloc);
    for (const ps_node *n = g->first; n; n = n->next)
        put_node(graph, n, &a, &b);
    put_text(graph, 2, "resnet50");
    for (const ps_value *v = g->all_values; v; v = v->next_all)
        if (v->constant && v->n_uses) put_tensor(graph, v, &a);
    put_end(graph, 11, g->inputs[0], &a, &b);
    put_end(graph, 12, g->outputs[0], &a, &b);
    ps_str_release(&a);
    ps_str_release(&b);
}

static ps_status write_graph(const ps_graph *g, const char *path, ps_alloc_state *alloc, ps_error *err) {
    ps_str graph, model, opset;
    ps_str_init(&graph, alloc);
    ps_str_init(&model, alloc);
    ps_str_init(&opset, alloc);
    put_graph(&graph, g);
    put_number(&opset, 2, 20); /* as networks.h writes */
    put_number(&model, 1, 8);
    put_part(&model, 8, &opset);
    put_part(&model, 7, &graph);
    ps_status status = model.failed || graph.failed ? PS_FAIL_NOMEM(err, "a model")
                                                    : ps_file_write(path, model.data, model.size, 0644, err);
    ps_str_release(&graph);
    ps_str_release(&model);
    ps_str_release(&opset);
    return status;
}

/* Constants are folded first, so that the file has plain weights. */
static ps_status write_model(ps_engine *e, const char *path, ps_error *err) {
    ps_graph *g = NULL;
    net t = { .n = 0 };
    ps_str_init(&t.text, &e->alloc);
    resnet50(&t, 1, false);
    ps_status status = t.text.failed ? PS_FAIL_NOMEM(err, "a network") : ps_graph_parse(&e->alloc, t.text.data, &g, err);
    ps_str_release(&t.text);
    if (status != PS_OK) return status;
    status = ps_ops_resolve(g, err);
    if (status == PS_OK) status = ps_passes_run(g, PS_PASSES_BASIC, NULL, err);
    if (status == PS_OK) status = write_graph(g, path, &e->alloc, err);
    ps_graph_free(g);
    return status;
}

/* ---- one start ---- */

static double ms_since(int64_t ns) {
    return (double)(ps_clock_ns() - ns) / 1e6;
}

typedef struct starts {
    double load, result; /* ms since the process was asked for */
} starts;

static ps_status first_run(ps_model *m, ps_engine *e, ps_error *err) {
    ps_session *s = NULL;
    ps_tensor *in = NULL, *out = NULL;
    ps_value_info info = { .size = sizeof info };
    PS_TRY(ps_model_input(m, 0, &info));
    for (int i = 0; i < info.shape.rank; i++)
        if (info.shape.dims[i] < 0) info.shape.dims[i] = 1;
    PS_TRY(ps_tensor_create(e, info.dtype, &info.shape, &in, err));
    ps_status status = ps_session_create(m, NULL, &s, err);
    if (status == PS_OK) status = ps_session_run(s, (const ps_tensor *const *)&in, 1, &out, 1, NULL, err);
    ps_tensor_release(in);
    ps_session_free(s);
    return status;
}

static ps_status one_start(const char *path, const char *device, const char *cache, int64_t asked, ps_error *err) {
    ps_engine *e = NULL;
    ps_model *m = NULL;
    ps_device *d;
    ps_engine_options eo = PS_ENGINE_OPTIONS_INIT;
    ps_model_options mo = PS_MODEL_OPTIONS_INIT;
    ps_cache_stats stats = { 0 };
    starts t = { 0 };
    eo.cache_dir = cache;
    mo.device = device;
    PS_TRY(ps_engine_create(&eo, &e, err));
    ps_status status = ps_model_load(e, path, &mo, &m, err); /* opens the device meanwhile */
    t.load = ms_since(asked);
    if (status == PS_OK) status = first_run(m, e, err);
    t.result = ms_since(asked);
    if (status == PS_OK) status = ps_engine_device(e, device, &d, err);
    if (status == PS_OK && d->ops->memory) status = ps_cache_get_stats(ocl_of(d)->cache, &stats, err);
    if (status == PS_OK)
        printf(
            "%8.1f ms to the first result: device and model %.1f, plan and run %.1f; programs: %llu compiled, %llu "
            "from the cache\n",
            t.result, t.load, t.result - t.load, (unsigned long long)stats.stored,
            (unsigned long long)stats.hits);
    ps_model_release(m);
    ps_engine_free(e);
    return status;
}

static int start(char **argv, const char *path, const char *device, const char *cache) {
    char asked[32];
    int code = 1;
    ps_snprintf(asked, sizeof asked, "%lld", (long long)ps_clock_ns());
    const pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", argv[0], "--start", path, device, cache, asked, (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &code, 0) != child) return 1;
    return code != 0;
}

static ps_status prepare(const char *path, const char *cache, ps_error *err) {
    ps_engine *e;
    ps_engine_options o = PS_ENGINE_OPTIONS_INIT;
    o.cache_dir = cache;
    PS_TRY(ps_engine_create(&o, &e, err));
    ps_status status = ps_file_exists(path) ? PS_OK : write_model(e, path, err);
    if (status == PS_OK) status = ps_cache_clear(ps_engine_disk(e), NULL, err);
    ps_engine_free(e);
    return status;
}

int main(int argc, char **argv) {
    char cache[512];
    ps_error err = PS_ERROR_INIT;
    if (argc == 6 && strcmp(argv[1], "--start") == 0)
        return one_start(argv[2], argv[3], argv[4], strtoll(argv[5], NULL, 10), &err) == PS_OK ? 0 : fail(&err);
    if (argc < 2) {
        fprintf(stderr, "usage: first_result FILE [DEVICE] [STARTS]\n");
        return 2;
    }
    ps_snprintf(cache, sizeof cache, "%s.cache", argv[1]);
    if (prepare(argv[1], cache, &err) != PS_OK) return fail(&err);
    for (int i = 0, n = argc > 3 ? atoi(argv[3]) : 4; i < n; i++)
        if (start(argv, argv[1], argc > 2 ? argv[2] : "gpu", cache)) return 1;
    return 0;
}
