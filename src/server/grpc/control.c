#include "server/grpc/control.h"

#include <string.h>

static void *arena_alloc(void *arena, size_t size) {
    return ps_arena_alloc(arena, size);
}

static void arena_free(void *arena, void *block) {}

ps_status ps_control_read(ps_call *c, const ProtobufCMessageDescriptor *type, void **ret, ps_error *err) {
    ProtobufCAllocator allocator = { arena_alloc, arena_free, &c->infer.arena };
    PS_FAIL_IF(c->message.size > PS_CONTROL_MAX, err, LIMIT, "the request has %zu bytes, allowed are %zu",
               c->message.size, PS_CONTROL_MAX);
    *ret = protobuf_c_message_unpack(type, &allocator, c->message.size, c->message.data);
    PS_FAIL_IF(!*ret, err, FORMAT, "the message is not what %s takes", c->method->path);
    return PS_OK;
}

void ps_control_reply(ps_call *c, const ProtobufCMessage *m) {
    uint8_t *p;
    c->reply_size = protobuf_c_message_get_packed_size(m);
    c->reply = ps_message_create(c->grpc->alloc, c->reply_size, &p);
    if (!c->reply) {
        ps_call_fail(c, PS_FAIL_NOMEM(&c->infer.error, "a reply"));
        return;
    }
    protobuf_c_message_pack(m, p);
    ps_call_finish(c);
}

void ps_control_answer(ps_call *c, ps_status status, const ProtobufCMessage *m) {
    if (status == PS_OK)
        ps_control_reply(c, m);
    else
        ps_call_fail(c, status);
}

void *ps_control_list(ps_call *c, size_t n, size_t size) {
    char **list = ps_arena_array(&c->infer.arena, n + 1, sizeof *list);
    char *items = ps_arena_array(&c->infer.arena, n + 1, size);
    if (!list || !items) return NULL;
    for (size_t i = 0; i < n; i++)
        list[i] = items + i * size;
    return list;
}

char *ps_control_text(ps_call *c, const char *text, bool *ok) {
    static char none[] = "";
    char *copy = ps_arena_strdup(&c->infer.arena, text);
    if (copy) return copy;
    *ok = false;
    return none;
}
