/* Models compressed with Zstandard (.onnx.zst): read as one, written in pieces.
 * Source: zstd's manual, "Streaming decompression" and "Streaming compression"; RFC 8878 for the magic number. */
#include <string.h>
#include <zstd.h>

#include "onnx/edit_int.h"

bool ps_onnx_is_zstd(const void *data, size_t size) {
    static const uint8_t magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
    return size >= sizeof magic && memcmp(data, magic, sizeof magic) == 0;
}

/* ---- reading ---- */

enum { FIRST_ROOM = 1 << 16, WINDOW_LOG = 27 }; /* a frame that wants more history than 128 MiB is refused */

typedef struct unpacker {
    ps_alloc_state *alloc;
    ZSTD_DStream *stream;
    ZSTD_inBuffer in;
    uint8_t *out;
    size_t room, used, max;
} unpacker;

static ps_status make_room(unpacker *u, ps_error *err) {
    if (u->used < u->room) return PS_OK;
    PS_FAIL_IF(u->room >= u->max, err, LIMIT, "the compressed model unpacks to more than %zu bytes", u->max);
    size_t room = u->room ? u->room > u->max / 2 ? u->max : u->room * 2 : FIRST_ROOM;
    if (room > u->max) room = u->max;
    uint8_t *bigger = ps_realloc(u->alloc, u->out, room);
    if (!bigger) return PS_FAIL(err, NO_MEMORY, "out of memory for %zu bytes of an unpacked model", room);
    u->out = bigger;
    u->room = room;
    return PS_OK;
}

static ps_status unpack_all(unpacker *u, ps_error *err) {
    size_t left = 1;
    while (left) {
        PS_TRY(make_room(u, err));
        ZSTD_outBuffer out = { u->out, u->room, u->used };
        size_t before = u->in.pos;
        left = ZSTD_decompressStream(u->stream, &out, &u->in);
        PS_FAIL_IF(ZSTD_isError(left), err, FORMAT, "the compressed model is damaged: %s", ZSTD_getErrorName(left));
        bool stuck = out.pos == u->used && u->in.pos == before;
        u->used = out.pos;
        PS_FAIL_IF(left && stuck && u->in.pos == u->in.size, err, FORMAT, "the compressed model ends too early");
        if (!left && u->in.pos < u->in.size) left = 1; /* frames may follow each other */
    }
    return PS_OK;
}

/* What the first frame's header promises is asked for at once if it is plausible: an honest file is copied once. */
static size_t expected_size(const void *data, size_t size, size_t max) {
    unsigned long long n = ZSTD_getFrameContentSize(data, size);
    if (n == ZSTD_CONTENTSIZE_UNKNOWN || n == ZSTD_CONTENTSIZE_ERROR || n >= max) return 0;
    return n / 100 > size ? 0 : (size_t)n + 1;
}

ps_status ps_onnx_unzstd(ps_alloc_state *alloc, const void *data, size_t size, size_t max, uint8_t **ret,
                         size_t *ret_size, ps_error *err) {
    unpacker u = { .alloc = alloc, .in = { data, size, 0 }, .max = max, .stream = ZSTD_createDStream() };
    if (!u.stream) return PS_FAIL_NOMEM(err, "unpacking a model");
    ps_status status = PS_OK;
    size_t first = expected_size(data, size, max);
    if (ZSTD_isError(ZSTD_DCtx_setParameter(u.stream, ZSTD_d_windowLogMax, WINDOW_LOG)))
        status = PS_FAIL(err, INTERNAL, "zstd takes no limit on its window");
    if (status == PS_OK && first) {
        u.out = ps_alloc(alloc, first);
        u.room = u.out ? first : 0;
    }
    if (status == PS_OK) status = unpack_all(&u, err);
    ZSTD_freeDStream(u.stream);
    if (status != PS_OK) {
        ps_free(alloc, u.out);
        return status;
    }
    *ret = u.out;
    *ret_size = u.used;
    return PS_OK;
}

/* ---- writing ---- */

ps_status ps_onnx_sink_open(ps_onnx_sink *s, ps_alloc_state *alloc, ps_file_writer *file, int level, uint64_t size,
                            ps_error *err) {
    *s = (ps_onnx_sink) { .file = file, .alloc = alloc, .room = file || level ? ZSTD_CStreamOutSize() : (size_t)size };
    s->buffer = ps_alloc(alloc, s->room ? s->room : 1);
    if (!s->buffer) return PS_FAIL_NOMEM(err, "writing a model");
    if (!level) return PS_OK;
    s->stream = ZSTD_createCCtx();
    if (!s->stream) return PS_FAIL_NOMEM(err, "writing a model");
    size_t bad = ZSTD_CCtx_setParameter(s->stream, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(bad)) bad = ZSTD_CCtx_setParameter(s->stream, ZSTD_c_checksumFlag, 1);
    if (!ZSTD_isError(bad)) bad = ZSTD_CCtx_setPledgedSrcSize(s->stream, size);
    PS_FAIL_IF(ZSTD_isError(bad), err, INVALID, "zstd level %d: %s", level, ZSTD_getErrorName(bad));
    return PS_OK;
}

static ps_status flush(ps_onnx_sink *s, ps_error *err) {
    size_t n = s->used;
    if (!s->file) {
        s->length += s->stream ? n : 0;
        return PS_OK;
    }
    s->used = 0;
    return ps_file_writer_append(s->file, s->buffer, n, err);
}

static ps_status compress(ps_onnx_sink *s, const void *data, size_t size, ZSTD_EndDirective how, ps_error *err) {
    ZSTD_inBuffer in = { data, size, 0 };
    size_t left;
    do {
        ZSTD_outBuffer out = { s->buffer, s->room, 0 };
        left = ZSTD_compressStream2(s->stream, &out, &in, how);
        PS_FAIL_IF(ZSTD_isError(left), err, INTERNAL, "compressing a model: %s", ZSTD_getErrorName(left));
        s->used = out.pos;
        PS_TRY(flush(s, err));
    } while (how == ZSTD_e_end ? left : in.pos < in.size);
    return PS_OK;
}

ps_status ps_onnx_sink_put(ps_onnx_sink *s, const void *data, size_t size, ps_error *err) {
    if (!size) return PS_OK;
    if (s->stream) return compress(s, data, size, ZSTD_e_continue, err);
    PS_FAIL_IF(!s->file && !s->stream && size > s->room - s->used, err, INTERNAL, "a model was measured wrongly");
    if (size > s->room - s->used) PS_TRY(flush(s, err));
    if (size > s->room) return ps_file_writer_append(s->file, data, size, err);
    memcpy(s->buffer + s->used, data, size);
    s->used += size;
    return PS_OK;
}

ps_status ps_onnx_sink_finish(ps_onnx_sink *s, ps_error *err) {
    return s->stream ? compress(s, NULL, 0, ZSTD_e_end, err) : flush(s, err);
}

void ps_onnx_sink_close(ps_onnx_sink *s) {
    ZSTD_freeCCtx(s->stream);
    if (s->alloc) ps_free(s->alloc, s->buffer);
    memset(s, 0, sizeof *s);
}
