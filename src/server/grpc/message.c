#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <string.h>

#include "server/coding.h"
#include "server/grpc/call.h"
#include "server/grpc/infer_wire.h"

#define OWN_MEMORY ((size_t)64 << 10) /* larger replies come from the engine's allocator, which may refuse */
#define FIRST_ROOM ((size_t)16 << 10)

/* ---- requests ---- */

static ps_status hold(ps_grpc *g, ps_message *m, size_t bytes, ps_error *err) {
    PS_FAIL_IF(bytes > g->options.max_body_bytes, err, LIMIT, "the message has more than the limit of %zu bytes",
               g->options.max_body_bytes);
    PS_FAIL_IF(!ps_budget_take(g->options.bodies, bytes), err, NO_MEMORY,
               "the server has no memory for this message now");
    m->held += bytes;
    return PS_OK;
}

/* Copies slices together, the first raw tensor at an aligned place. */
static ps_status gather(ps_grpc *g, ps_message *m, const grpc_slice_buffer *slices, ps_error *err) {
    size_t raw =
        ps_infer_wire_raw_offset(GRPC_SLICE_START_PTR(slices->slices[0]), GRPC_SLICE_LENGTH(slices->slices[0]));
    size_t pad = (PS_ALIGN - raw % PS_ALIGN) % PS_ALIGN;
    m->block = ps_repository_alloc(g->options.repository, NULL, pad + slices->length);
    if (!m->block) return PS_FAIL_NOMEM(err, "a message");
    char *p = m->block + pad;
    m->data = p;
    for (size_t i = 0; i < slices->count; i++) {
        size_t n = GRPC_SLICE_LENGTH(slices->slices[i]);
        if (n) memcpy(p, GRPC_SLICE_START_PTR(slices->slices[i]), n);
        p += n;
    }
    return PS_OK;
}

/* Growing room for what is unpacked. */
typedef struct unpacked {
    ps_grpc *grpc;
    ps_message *m;
    char *block;
    size_t size, room;
    ps_status status;
    ps_error *err;
} unpacked;

static ps_status grow(unpacked *u, size_t need) {
    size_t limit = u->grpc->options.max_body_bytes, room = u->room ? u->room * 2 : FIRST_ROOM;
    PS_FAIL_IF(need > limit, u->err, LIMIT, "the unpacked message has more than the limit of %zu bytes", limit);
    if (room < need) room = need;
    if (room > limit) room = limit;
    PS_TRY(hold(u->grpc, u->m, room - u->room, u->err));
    char *block = ps_repository_alloc(u->grpc->options.repository, u->block, room);
    if (!block) return PS_FAIL_NOMEM(u->err, "a message");
    u->block = block;
    u->room = room;
    return PS_OK;
}

static bool keep(void *ctx, const char *data, size_t size) {
    unpacked *u = ctx;
    if (u->size + size > u->room) u->status = grow(u, u->size + size);
    if (u->status != PS_OK) return false;
    memcpy(u->block + u->size, data, size);
    u->size += size;
    return true;
}

/* m->data becomes what it unpacks to. The limits hold for that too, piece by piece. */
static ps_status unpack(ps_grpc *g, ps_message *m, grpc_compression_algorithm algorithm, ps_error *err) {
    unpacked u = { .grpc = g, .m = m, .err = err };
    ps_error why = PS_ERROR_INIT;
    PS_FAIL_IF(algorithm != GRPC_COMPRESS_GZIP && algorithm != GRPC_COMPRESS_DEFLATE, err, UNSUPPORTED,
               "the message is compressed with neither gzip nor deflate");
    ps_coding coding = algorithm == GRPC_COMPRESS_GZIP ? PS_CODING_GZIP : PS_CODING_DEFLATE;
    ps_status status = ps_coding_unpack(g->alloc, coding, m->data, m->size, keep, &u, &why);
    ps_free(g->alloc, m->block);
    m->block = u.block;
    m->data = u.block ? u.block : "";
    m->size = u.size;
    if (u.status != PS_OK) return u.status; /* err is set */
    if (status != PS_OK && err) *err = why;
    return status;
}

ps_status ps_message_read(ps_grpc *g, ps_message *m, ps_error *err) {
    m->data = "";
    PS_FAIL_IF(!m->buffer, err, INVALID, "the call has no message");
    const grpc_slice_buffer *slices = &m->buffer->data.raw.slice_buffer;
    m->size = slices->length;
    PS_TRY(hold(g, m, m->size, err));
    if (slices->count == 1)
        m->data = GRPC_SLICE_START_PTR(slices->slices[0]);
    else if (slices->count > 1)
        PS_TRY(gather(g, m, slices, err));
    if (m->block) { /* the pieces are not needed any more */
        grpc_compression_algorithm packed = m->buffer->data.raw.compression;
        grpc_byte_buffer_destroy(m->buffer);
        m->buffer = NULL;
        return packed == GRPC_COMPRESS_NONE ? PS_OK : unpack(g, m, packed, err);
    }
    return m->buffer->data.raw.compression == GRPC_COMPRESS_NONE ? PS_OK
                                                                 : unpack(g, m, m->buffer->data.raw.compression, err);
}

void ps_message_release(ps_grpc *g, ps_message *m) {
    if (m->buffer) grpc_byte_buffer_destroy(m->buffer);
    ps_free(g->alloc, m->block);
    if (m->held) ps_budget_give(g->options.bodies, m->held);
    *m = (ps_message) { 0 };
}

/* ---- replies ---- */

/* In front of the bytes of a large reply. */
typedef struct block_head {
    ps_alloc_state *alloc;
    char pad[PS_ALIGN - sizeof(void *)];
} block_head;

static void free_block(void *block) {
    block_head *head = block;
    ps_free(head->alloc, head);
}

static bool own_slice(ps_alloc_state *alloc, size_t size, grpc_slice *ret) {
    size_t total;
    if (ps_add_overflow_size(size, sizeof(block_head), &total)) return false;
    block_head *head = ps_alloc_data(alloc, total);
    if (!head) return false;
    head->alloc = alloc;
    *ret = grpc_slice_new_with_user_data(head + 1, size, free_block, head);
    return true;
}

grpc_byte_buffer *ps_message_create(ps_alloc_state *alloc, size_t size, uint8_t **ret_data) {
    grpc_slice slice;
    if (size <= OWN_MEMORY)
        slice = grpc_slice_malloc(size);
    else if (!own_slice(alloc, size, &slice))
        return NULL;
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice); /* the buffer has a reference of its own */
    *ret_data = GRPC_SLICE_START_PTR(buffer->data.raw.slice_buffer.slices[0]);
    return buffer;
}
