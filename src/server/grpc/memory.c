/* The shared memory extensions. */
#include <string.h>

#include "base/vec.h"
#include "server/grpc/control.h"

/* An entry of the map and its value. */
typedef struct region_item {
    Oip__RegionEntry entry;
    Oip__Region region;
} region_item;

typedef struct region_list {
    ps_call *c;
    PS_VEC(region_item) items;
    bool ok;
} region_list;

static void add_region(void *ctx, const char *name, const char *key, size_t offset, size_t byte_size) {
    region_list *list = ctx;
    region_item item = { OIP__REGION_ENTRY__INIT, OIP__REGION__INIT };
    item.entry.key = item.region.name = ps_control_text(list->c, name, &list->ok);
    item.region.key = ps_control_text(list->c, key, &list->ok);
    item.region.offset = offset;
    item.region.byte_size = byte_size;
    list->ok = list->ok && ps_vec_push(list->c->grpc->alloc, &list->items, item);
}

static ps_status fill_regions(region_list *list, Oip__RegionsReply *reply, ps_error *err) {
    reply->n_regions = list->items.size;
    reply->regions = ps_arena_array(&list->c->infer.arena, list->items.size + 1, sizeof *reply->regions);
    if (!list->ok || !reply->regions) return PS_FAIL_NOMEM(err, "the list of regions");
    for (size_t i = 0; i < list->items.size; i++) {
        list->items.data[i].entry.value = &list->items.data[i].region;
        reply->regions[i] = &list->items.data[i].entry;
    }
    return PS_OK;
}

void ps_grpc_handle_shm_status(ps_call *c) {
    Oip__RegionsReply reply = OIP__REGIONS_REPLY__INIT;
    Oip__RegionRef *request;
    region_list list = { .c = c, .ok = true };
    ps_alloc_state *alloc = c->grpc->alloc;
    ps_error *err = &c->infer.error;
    ps_status status = ps_control_read(c, &oip__region_ref__descriptor, (void **)&request, err);
    if (status == PS_OK)
        status = ps_shm_visit(c->grpc->options.shm, *request->name ? request->name : NULL, add_region, &list, err);
    if (status == PS_OK) status = fill_regions(&list, &reply, err);
    ps_control_answer(c, status, &reply.base);
    ps_vec_release(alloc, &list.items);
}

static ps_status register_region(ps_call *c, ps_error *err) {
    Oip__Region *r;
    PS_TRY(ps_control_read(c, &oip__region__descriptor, (void **)&r, err));
    PS_FAIL_IF(!*r->name, err, INVALID, "the region has no name");
    PS_FAIL_IF(!*r->key, err, INVALID, "the registration has no key");
    PS_FAIL_IF(r->offset > SIZE_MAX || r->byte_size > SIZE_MAX, err, INVALID, "the region is too large");
    return ps_shm_register(c->grpc->options.shm, r->name, r->key, (size_t)r->offset, (size_t)r->byte_size, err);
}

static void reply_empty(ps_call *c, ps_status status) {
    Oip__Empty m = OIP__EMPTY__INIT;
    ps_control_answer(c, status, &m.base);
}

void ps_grpc_handle_shm_register(ps_call *c) {
    reply_empty(c, register_region(c, &c->infer.error));
}

void ps_grpc_handle_shm_unregister(ps_call *c) {
    Oip__RegionRef *request;
    ps_status status = ps_control_read(c, &oip__region_ref__descriptor, (void **)&request, &c->infer.error);
    if (status == PS_OK) ps_shm_unregister(c->grpc->options.shm, *request->name ? request->name : NULL);
    reply_empty(c, status);
}

/* ---- CUDA: nothing can be registered, so nothing is ---- */

void ps_grpc_handle_cuda_status(ps_call *c) {
    Oip__RegionRef *request;
    ps_error *err = &c->infer.error;
    ps_status status = ps_control_read(c, &oip__region_ref__descriptor, (void **)&request, err);
    if (status == PS_OK && *request->name)
        status = PS_FAIL(err, NOT_FOUND, "no CUDA shared memory region is registered: this server does not use CUDA");
    reply_empty(c, status);
}

void ps_grpc_handle_cuda_register(ps_call *c) {
    reply_empty(
        c, PS_FAIL(&c->infer.error, UNSUPPORTED, "CUDA shared memory is not supported: this server does not use CUDA"));
}

void ps_grpc_handle_cuda_unregister(ps_call *c) {
    reply_empty(c, PS_OK);
}
