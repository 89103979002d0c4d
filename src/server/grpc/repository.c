/* RepositoryIndex, RepositoryModelLoad, RepositoryModelUnload. */
#include <stddef.h>
#include <string.h>

#include "base/vec.h"
#include "server/grpc/control.h"

/* ---- index ---- */

typedef struct index_list {
    ps_call *c;
    PS_VEC(Oip__IndexEntry) items;
    bool ok;
} index_list;

static void add_entry(void *ctx, const ps_index_entry *e) {
    index_list *list = ctx;
    Oip__IndexEntry item = OIP__INDEX_ENTRY__INIT;
    item.name = ps_control_text(list->c, e->name, &list->ok);
    if (e->version) {
        item.version = ps_control_text(list->c, e->version, &list->ok);
        item.state = ps_control_text(list->c, e->state, &list->ok);
        item.reason = ps_control_text(list->c, e->reason, &list->ok);
    }
    list->ok = list->ok && ps_vec_push(list->c->grpc->alloc, &list->items, item);
}

static ps_status fill_index(index_list *list, Oip__IndexReply *reply, ps_error *err) {
    ps_call *c = list->c;
    reply->n_models = list->items.size;
    reply->models = ps_arena_array(&c->infer.arena, list->items.size + 1, sizeof *reply->models);
    if (!list->ok || !reply->models) return PS_FAIL_NOMEM(err, "the index");
    for (size_t i = 0; i < list->items.size; i++)
        reply->models[i] = &list->items.data[i];
    return PS_OK;
}

void ps_grpc_handle_index(ps_call *c) {
    Oip__IndexReply reply = OIP__INDEX_REPLY__INIT;
    Oip__IndexRequest *request;
    index_list list = { .c = c, .ok = true };
    ps_alloc_state *alloc = c->grpc->alloc;
    ps_error *err = &c->infer.error;
    ps_status status = ps_control_read(c, &oip__index_request__descriptor, (void **)&request, err);
    if (status == PS_OK) {
        ps_repository_visit(c->grpc->options.repository, request->ready, add_entry, &list);
        status = fill_index(&list, &reply, err);
    }
    ps_control_answer(c, status, &reply.base);
    ps_vec_release(alloc, &list.items);
}

/* ---- load and unload ---- */

/* A model's configuration or files in the request are refused rather than ignored. No model depends on another here, so
 * unload_dependents says nothing. */
static ps_status check_parameters(const Oip__LoadRequest *request, ps_error *err) {
    for (size_t i = 0; i < request->n_parameters; i++) {
        const char *key = request->parameters[i]->key;
        PS_FAIL_IF(strcmp(key, "config") == 0 || strncmp(key, "file:", 5) == 0, err, UNSUPPORTED,
                   "the load parameter '%.64s' is not supported", key);
    }
    return PS_OK;
}

static ps_status read_load(ps_call *c, ps_error *err) {
    Oip__LoadRequest *request;
    PS_TRY(ps_control_read(c, &oip__load_request__descriptor, (void **)&request, err));
    c->other_shape = !*request->second;
    const char *name = c->other_shape ? request->first : request->second;
    PS_FAIL_IF(!ps_model_name_valid(name), err, INVALID, "'%.128s' is no name of a model", name);
    c->model = name;
    return check_parameters(request, err);
}

static void reply_load(ps_call *c) {
    Oip__LoadReply m = OIP__LOAD_REPLY__INIT;
    if (c->other_shape) {
        m.model_name = (char *)c->model;
        m.is_done = true;
    }
    ps_control_reply(c, &m.base);
}

static ps_call *call_of(ps_job *job) {
    return (ps_call *)((char *)job - offsetof(ps_call, job));
}

static void load_job(ps_job *job) {
    ps_call *c = call_of(job);
    ps_status status = ps_repository_load(c->grpc->options.repository, c->model, &c->infer.error);
    if (status == PS_OK)
        reply_load(c);
    else
        ps_call_fail(c, status);
}

static void unload_job(ps_job *job) {
    ps_call *c = call_of(job);
    ps_repository_unload(c->grpc->options.repository, c->model);
    reply_load(c);
}

/* Loads and unloads wait for each other, so they run on the loader's thread. */
static void submit(ps_call *c, void (*run)(ps_job *job)) {
    ps_error err = PS_ERROR_INIT;
    ps_status status = read_load(c, &err);
    c->job.run = run;
    if (status == PS_OK) status = ps_pool_submit(c->grpc->options.loader, &c->job, &err);
    if (status == PS_OK) return; /* the call belongs to the loader now */
    c->infer.error = err;
    ps_call_fail(c, status);
}

void ps_grpc_handle_load(ps_call *c) {
    submit(c, load_job);
}

void ps_grpc_handle_unload(ps_call *c) {
    submit(c, unload_job);
}
