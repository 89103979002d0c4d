/* memory.c - the routes of the shared memory extensions. */
#include <string.h>

#include "server/http/handlers.h"
#include "server/json_reader.h"

/* The region of the path, NULL for a path without one. */
static const char *region_of(const ps_exchange *x) {
    return *x->model ? x->model : NULL;
}

static void answer(ps_exchange *x, ps_status status, const ps_error *err) {
    if (status == PS_OK)
        ps_exchange_ok(x);
    else
        ps_exchange_fail(x, status, err);
}

void ps_handle_shm_status(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    answer(x, ps_shm_write_status(x->http->options.shm, region_of(x), &x->reply, &err), &err);
}

typedef struct registration {
    const char *key; /* in the arena */
    uint64_t offset, byte_size;
} registration;

static ps_status read_member(ps_json *r, const ps_string *key, void *ctx, ps_error *err) {
    registration *reg = ctx;
    if (ps_json_key_is(key, "key")) return ps_json_cstring(r, &reg->key, err);
    if (ps_json_key_is(key, "offset")) return ps_json_uint(r, &reg->offset, err);
    if (ps_json_key_is(key, "byte_size")) return ps_json_uint(r, &reg->byte_size, err);
    return ps_json_skip(r, err);
}

static ps_status read_registration(ps_json *r, registration *ret, ps_error *err) {
    PS_TRY(ps_json_object(r, read_member, ret, err));
    PS_TRY(ps_json_finish(r, err));
    PS_FAIL_IF(!ret->key, err, INVALID, "the registration has no \"key\"");
    PS_FAIL_IF(ret->offset > SIZE_MAX || ret->byte_size > SIZE_MAX, err, INVALID, "the region is too large");
    return PS_OK;
}

void ps_handle_shm_register(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    ps_arena arena;
    ps_json r;
    registration reg = { 0 };
    ps_arena_init(&arena, x->http->alloc);
    ps_json_init(&r, ps_exchange_body(x), x->body_size, &arena);
    ps_status status = read_registration(&r, &reg, &err);
    if (status == PS_OK)
        status =
            ps_shm_register(x->http->options.shm, x->model, reg.key, (size_t)reg.offset, (size_t)reg.byte_size, &err);
    ps_arena_release(&arena);
    answer(x, status, &err);
}

void ps_handle_shm_unregister(ps_exchange *x) {
    ps_shm_unregister(x->http->options.shm, region_of(x));
    ps_exchange_ok(x);
}

/* ---- CUDA: nothing can be registered, so nothing is ---- */

void ps_handle_cuda_status(ps_exchange *x) {
    if (region_of(x)) {
        ps_exchange_error(x, 404, "no CUDA shared memory region is registered: this server does not use CUDA");
        return;
    }
    ps_str_append(&x->reply, "[]");
    ps_exchange_ok(x);
}

void ps_handle_cuda_register(ps_exchange *x) {
    ps_exchange_error(x, 400, "CUDA shared memory is not supported: this server does not use CUDA");
}

void ps_handle_cuda_unregister(ps_exchange *x) {
    ps_exchange_ok(x);
}
