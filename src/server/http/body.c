#include "server/http/body.h"

#include <inttypes.h>
#include <string.h>

#include "base/os.h"
#include "server/json_number.h"

#define FIRST_ROOM ((size_t)64 << 10)

static const char *header(const ps_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* Digits only. */
static bool parse_size(const char *text, uint64_t *ret) {
    ps_number n;
    const char *end = text + strlen(text);
    return ps_number_scan(text, end, &n) == end && !n.negative && ps_number_u64(&n, ret);
}

static void too_large(ps_exchange *x) {
    char text[160];
    ps_snprintf(text, sizeof text, "the body is larger than the limit of %zu bytes", x->http->options.max_body_bytes);
    x->handler = NULL;
    ps_exchange_error(x, 413, text);
}

static void expect_json_size(ps_exchange *x) {
    const char *text = header(x, "Inference-Header-Content-Length");
    uint64_t value;
    if (!text) return;
    if (!parse_size(text, &value) || value > x->http->options.max_body_bytes) {
        x->handler = NULL;
        ps_exchange_error(x, 400, "Inference-Header-Content-Length is not a length within the body");
        return;
    }
    x->has_json_size = true;
    x->json_size = (size_t)value;
}

void ps_body_expect(ps_exchange *x) {
    const char *length = header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    x->coding = ps_coding_parse(header(x, MHD_HTTP_HEADER_CONTENT_ENCODING));
    x->content_length = UINT64_MAX;
    if (length && !parse_size(length, &x->content_length)) x->content_length = UINT64_MAX;
    if (length && x->content_length > x->http->options.max_body_bytes) {
        too_large(x);
    } else if (x->coding == PS_CODING_UNKNOWN) {
        x->handler = NULL;
        ps_exchange_error(x, 415, "Content-Encoding is none of gzip, deflate, identity");
    } else {
        expect_json_size(x);
    }
}

/* The byte behind the JSON part gets the alignment of the block. */
static size_t pad_of(const ps_exchange *x) {
    return x->has_json_size ? (PS_ALIGN - x->json_size % PS_ALIGN) % PS_ALIGN : 0;
}

static void start_block(ps_exchange *x, char *block, size_t size, size_t room) {
    x->block = block;
    x->block_size = size;
    x->body_pad = pad_of(x);
    x->body_room = room;
}

/* Bytes of blocks that may lie idle for later bodies: with the bodies under way no more than all bodies may take, and
 * a quarter of what the memory limit leaves, for models are loaded, too. */
static size_t most_kept(const ps_http *http) {
    const ps_budget *bodies = http->options.bodies;
    const size_t used = atomic_load_explicit(&bodies->used, memory_order_relaxed);
    const size_t limit = atomic_load(&http->alloc->limit), held = atomic_load(&http->alloc->bytes);
    const size_t most = used < bodies->max ? bodies->max - used : 0, room = limit > held ? (limit - held) / 4 : 0;
    return limit && room < most ? room : most;
}

/* A block that earlier bodies left, for all of an announced one. */
static bool take_kept(ps_exchange *x, size_t need) {
    const uint64_t all = x->content_length;
    if (x->block || all < need || all > PS_BLOCKS_LARGEST || all <= x->spare_size) return false;
    size_t size;
    char *block = ps_blocks_take(&x->http->blocks, pad_of(x) + (size_t)all, &size);
    if (!block) return false;
    if (!ps_budget_take(x->http->options.bodies, (size_t)all)) {
        ps_blocks_put(&x->http->blocks, block, size, most_kept(x->http));
        return false;
    }
    start_block(x, block, size, (size_t)all);
    return true;
}

/* A block of at least *size bytes: the body's so far as it grows, or a first one, which a small body before may have
 * left. */
static char *make_block(ps_exchange *x, size_t *size) {
    ps_repository *repo = x->http->options.repository;
    if (x->block || *size > x->spare_size) {
        ps_blocks_limit(&x->http->blocks, most_kept(x->http)); /* none of them fits */
        char *block = ps_repository_alloc(repo, x->block, *size);
        if (block) return block;
        ps_blocks_clear(&x->http->blocks);
        return ps_repository_alloc(repo, x->block, *size);
    }
    char *block = x->spare_block;
    *size = x->spare_size;
    x->spare_block = NULL;
    x->spare_size = 0;
    return block;
}

/* Room for `need` bytes of body: in fourfold steps up to what was announced, so that little is copied again, or else
 * doubling. */
static bool grow(ps_exchange *x, size_t need) {
    size_t limit = x->http->options.max_body_bytes, room = FIRST_ROOM;
    bool announced = x->content_length < limit;
    if (take_kept(x, need)) return true;
    if (announced) limit = (size_t)x->content_length;
    if (x->body_room) room = x->body_room * (announced ? 4 : 2);
    if (room < need) room = need;
    if (limit >= need && (room > limit || (announced && x->body_room && room >= limit / 2))) room = limit;
    size_t more = room - x->body_room, size = pad_of(x) + room;
    if (!ps_budget_take(x->http->options.bodies, more)) return false;
    char *block = make_block(x, &size);
    if (!block) {
        ps_budget_give(x->http->options.bodies, more);
        return false;
    }
    start_block(x, block, size, room);
    return true;
}

/* Appends to the body; false: the error reply is set and the body dropped. */
static bool keep(ps_exchange *x, const char *data, size_t size) {
    if (size > x->http->options.max_body_bytes - x->body_size) {
        too_large(x);
        ps_body_release(x);
        return false;
    }
    if (x->body_size + size > x->body_room && !grow(x, x->body_size + size)) {
        x->handler = NULL;
        ps_exchange_error(x, 503, "the server has no memory for this body now");
        ps_body_release(x);
        return false;
    }
    memcpy(x->block + x->body_pad + x->body_size, data, size);
    x->body_size += size;
    return true;
}

bool ps_body_take(ps_exchange *x, const char *data, size_t size) {
    size_t limit = x->http->options.max_body_bytes;
    int64_t now = ps_clock_ns();
    x->body_total += size;
    atomic_store_explicit(&x->http->last_upload, now, memory_order_relaxed);
    int64_t due = x->arrived_ns + x->unread_ns + ps_slow_ns(x->body_total);
    ps_watch_expect(x->watched, due, x->http->patience_ns);
    if (now > due + x->http->patience_ns || x->body_total > 2 * limit) return false;
    if (!x->handler) return true; /* the reply is decided */
    (void)keep(x, data, size);
    return true;
}

static bool keep_unpacked(void *ctx, const char *data, size_t size) {
    return keep(ctx, data, size);
}

void ps_body_finish(ps_exchange *x) {
    ps_error err = PS_ERROR_INIT;
    if (!x->handler || x->coding == PS_CODING_IDENTITY) return;
    char *packed = x->block;
    size_t pad = x->body_pad, size = x->body_size, room = x->body_room;
    x->block = NULL;
    x->body_pad = x->body_size = x->body_room = x->block_size = 0;
    x->content_length = UINT64_MAX; /* of the packed one */
    ps_status status = ps_coding_unpack(x->http->alloc, x->coding, packed + pad, size, keep_unpacked, x, &err);
    ps_budget_give(x->http->options.bodies, room);
    ps_free(x->http->alloc, packed);
    if (status == PS_OK || !x->handler) return; /* keep has set the reply */
    x->handler = NULL;
    ps_exchange_fail(x, status, &err);
    ps_body_release(x);
}

bool ps_bodies_fade(void *http) {
    ps_blocks *blocks = &((ps_http *)http)->blocks;
    ps_blocks_limit(blocks, most_kept(http));
    return ps_blocks_fade(blocks);
}

void ps_body_spare(ps_exchange *x, size_t max_bytes) {
    if (x->block && x->block_size <= max_bytes && x->block_size > x->spare_size) {
        ps_free(x->http->alloc, x->spare_block);
        x->spare_block = x->block;
        x->spare_size = x->block_size;
        x->block = NULL;
    } else if (x->block && x->block_size > max_bytes) {
        ps_blocks_put(&x->http->blocks, x->block, x->block_size, most_kept(x->http));
        x->block = NULL;
    }
    ps_body_release(x);
}

void ps_body_release(ps_exchange *x) {
    ps_budget_give(x->http->options.bodies, x->body_room);
    ps_free(x->http->alloc, x->block);
    x->block = NULL;
    x->body_pad = x->body_size = x->body_room = x->block_size = 0;
}
