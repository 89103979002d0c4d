#include <string.h>
#include <xxhash.h>

#include "base/str.h"
#include "onnx/edit_int.h"

static void *unpack_alloc(void *ctx, size_t size) {
    return ps_alloc(ctx, size);
}

static void unpack_free(void *ctx, void *ptr) {
    ps_free(ctx, ptr);
}

void ps_onnx_proto_allocator(ps_alloc_state *alloc, ProtobufCAllocator *ret) {
    *ret = (ProtobufCAllocator) { unpack_alloc, unpack_free, alloc };
}

/* Tells memory that was refused from bytes that are no message. */
typedef struct unpack_memory {
    ps_alloc_state *alloc;
    bool failed;
} unpack_memory;

static void *noting_alloc(void *ctx, size_t size) {
    unpack_memory *m = ctx;
    void *p = ps_alloc(m->alloc, size);
    if (!p) m->failed = true;
    return p;
}

static void noting_free(void *ctx, void *ptr) {
    ps_free(((unpack_memory *)ctx)->alloc, ptr);
}

/* Consumes proto->cut.data. */
static ps_status unpack(ps_onnx_proto *proto, const ProtobufCMessageDescriptor *kind, ps_error *err) {
    unpack_memory memory = { proto->alloc, false };
    ProtobufCAllocator allocator = { noting_alloc, noting_free, &memory };
    static const uint8_t empty[1];
    const uint8_t *data = proto->cut.data ? proto->cut.data : empty;
    proto->message = protobuf_c_message_unpack(kind, &allocator, proto->cut.size, data);
    ps_free(proto->alloc, proto->cut.data);
    proto->cut.data = NULL;
    if (proto->message) return PS_OK;
    if (memory.failed) return PS_FAIL_NOMEM(err, "the unpacked model");
    return PS_FAIL(err, FORMAT, "a field has the wrong type for a %s", kind->short_name);
}

static ps_status open_bytes(ps_onnx_proto *proto, const ProtobufCMessageDescriptor *kind, ps_error *err) {
    ps_status status = ps_onnx_cut_message(proto->alloc, kind, proto->data, proto->size, &proto->cut, err);
    if (status == PS_OK) status = unpack(proto, kind, err);
    if (status != PS_OK) ps_onnx_proto_close(proto);
    return status;
}

/* The file's bytes, unpacked into memory; the file is not needed any more. */
static ps_status unzip(ps_onnx_proto *proto, ps_error *err) {
    uint64_t memory = ps_memory_total();
    size_t max = memory < PS_ONNX_MAX_FILE ? (size_t)memory : PS_ONNX_MAX_FILE;
    PS_TRY(ps_onnx_unzstd(proto->alloc, proto->map.data, proto->map.size, max, &proto->unpacked, &proto->size, err));
    ps_file_map_close(&proto->map);
    proto->data = proto->unpacked;
    return PS_OK;
}

ps_status ps_onnx_proto_open_file(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const char *path,
                                  ps_onnx_proto *ret, ps_error *err) {
    memset(ret, 0, sizeof *ret);
    ret->alloc = alloc;
    PS_TRY(ps_file_map_open(path, &ret->map, err));
    ret->data = ret->map.data;
    ret->size = ret->map.size;
    if (ps_onnx_is_zstd(ret->data, ret->size)) {
        ps_status status = unzip(ret, err);
        if (status != PS_OK) {
            ps_onnx_proto_close(ret);
            return status;
        }
    }
    return open_bytes(ret, kind, err);
}

ps_status ps_onnx_proto_open_memory(ps_alloc_state *alloc, const ProtobufCMessageDescriptor *kind, const void *data,
                                    size_t size, ps_onnx_proto *ret, ps_error *err) {
    memset(ret, 0, sizeof *ret);
    ret->alloc = alloc;
    ret->data = data;
    ret->size = size;
    return open_bytes(ret, kind, err);
}

void ps_onnx_proto_close(ps_onnx_proto *proto) {
    if (proto->message) {
        ProtobufCAllocator allocator;
        ps_onnx_proto_allocator(proto->alloc, &allocator);
        protobuf_c_message_free_unpacked(proto->message, &allocator);
    }
    if (proto->alloc) ps_onnx_cut_release(proto->alloc, &proto->cut);
    if (proto->map.data) ps_file_map_close(&proto->map);
    if (proto->alloc) ps_free(proto->alloc, proto->unpacked);
    memset(proto, 0, sizeof *proto);
}

void ps_onnx_proto_drop(const ps_onnx_proto *proto, const uint8_t *p, size_t size) {
    if (proto->map.data) ps_file_map_drop(&proto->map, (size_t)(p - proto->data), size);
}

uint64_t ps_onnx_proto_digest(const ps_onnx_proto *proto) {
    /* Pieces, each seeded with the hash so far: the pages of one can go before the next is read. */
    const size_t piece = (size_t)1 << 20;
    uint64_t hash = proto->size;
    for (size_t at = 0; at < proto->size; at += piece) {
        size_t n = proto->size - at < piece ? proto->size - at : piece;
        hash = XXH3_64bits_withSeed(proto->data + at, n, hash);
        ps_onnx_proto_drop(proto, proto->data + at, n);
    }
    return hash;
}
