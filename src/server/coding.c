#define ZLIB_CONST /* zlib does not write its input */

#include "server/coding.h"

#include <limits.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "server/json_number.h"

enum { PIECE = 16 << 10, WINDOW = 15, GZIP_WINDOW = WINDOW + 16, LEVEL = 1, MEMORY = 8 };

/* ---- names ---- */

static ps_coding coding_of(const char *text, size_t n) {
    static const struct {
        const char *name;
        ps_coding coding;
    } names[] = { { "identity", PS_CODING_IDENTITY },
                  { "gzip", PS_CODING_GZIP },
                  { "x-gzip", PS_CODING_GZIP },
                  { "deflate", PS_CODING_DEFLATE } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && strncasecmp(names[i].name, text, n) == 0) return names[i].coding;
    return PS_CODING_UNKNOWN;
}

ps_coding ps_coding_parse(const char *text) {
    if (!text) return PS_CODING_IDENTITY;
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    return coding_of(text, n);
}

const char *ps_coding_name(ps_coding coding) {
    return coding == PS_CODING_GZIP ? "gzip" : coding == PS_CODING_DEFLATE ? "deflate" : "identity";
}

/* The weight behind a coding's name, ";q=0.5" in text[0, n); 1 where there is none, 0 where it is no number. */
static double weight(const char *text, size_t n) {
    const char *end = text + n, *q = memchr(text, '=', n);
    ps_number number;
    double value;
    if (!memchr(text, ';', n)) return 1;
    if (!q || !ps_number_scan(q + 1, end, &number) || !ps_number_f64(&number, &value)) return 0;
    return value;
}

ps_coding ps_coding_choose(const char *accept) {
    ps_coding best = PS_CODING_IDENTITY;
    double highest = 0;
    for (const char *p = accept ? accept : ""; *p;) {
        p += strspn(p, ", \t");
        size_t item = strcspn(p, ","), name = strcspn(p, ",; \t");
        ps_coding coding = coding_of(p, name);
        double w = weight(p, item);
        bool packs = coding == PS_CODING_GZIP || coding == PS_CODING_DEFLATE;
        if (packs && (w > highest || (w == highest && w > 0 && coding == PS_CODING_GZIP))) {
            best = coding;
            highest = w;
        }
        p += item;
    }
    return best;
}

/* ---- zlib ---- */

static void *take_memory(void *alloc, unsigned n, unsigned size) {
    return ps_alloc_array(alloc, n, size);
}

static void give_memory(void *alloc, void *block) {
    ps_free(alloc, block);
}

static unsigned at_most(size_t n) {
    return n > UINT_MAX ? UINT_MAX : (unsigned)n;
}

/* Z_STREAM_END when all input was one whole stream. *ret_full: the sink stopped. */
static int unpack_pieces(z_stream *z, const char *data, size_t size, ps_coding_sink sink, void *ctx, bool *ret_full) {
    char piece[PIECE];
    const char *end = data + size;
    int rc = Z_OK;
    z->next_in = (const Bytef *)data;
    while (rc == Z_OK) {
        size_t left = (size_t)(end - (const char *)z->next_in);
        z->avail_in = at_most(left);
        z->next_out = (Bytef *)piece;
        z->avail_out = PIECE;
        rc = inflate(z, Z_NO_FLUSH);
        size_t n = PIECE - z->avail_out;
        if (n && !sink(ctx, piece, n)) {
            *ret_full = true;
            return rc;
        }
        if (rc == Z_OK && n == 0 && left == 0) return Z_BUF_ERROR; /* cut off */
    }
    return rc == Z_STREAM_END && (const char *)z->next_in != end ? Z_DATA_ERROR : rc;
}

ps_status ps_coding_unpack(ps_alloc_state *alloc, ps_coding coding, const char *data, size_t size, ps_coding_sink sink,
                           void *ctx, ps_error *err) {
    z_stream z = { .zalloc = take_memory, .zfree = give_memory, .opaque = alloc };
    bool full = false;
    if (inflateInit2(&z, coding == PS_CODING_GZIP ? GZIP_WINDOW : WINDOW) != Z_OK)
        return PS_FAIL_NOMEM(err, "unpacking a body");
    int rc = unpack_pieces(&z, data, size, sink, ctx, &full);
    inflateEnd(&z);
    PS_FAIL_IF(full, err, LIMIT, "the unpacked body is over the limit");
    if (rc == Z_MEM_ERROR) return PS_FAIL_NOMEM(err, "unpacking a body");
    PS_FAIL_IF(rc == Z_BUF_ERROR, err, FORMAT, "the %s body is cut off", ps_coding_name(coding));
    PS_FAIL_IF(rc != Z_STREAM_END, err, FORMAT, "the body is not %s as its Content-Encoding says",
               ps_coding_name(coding));
    return PS_OK;
}

/* All of text into room bytes at dst; 0 if they do not suffice. */
static size_t pack_into(z_stream *z, const ps_str *text, char *dst, size_t room) {
    int rc = Z_OK;
    const char *end = text->data + text->size;
    z->next_in = (const Bytef *)text->data;
    z->next_out = (Bytef *)dst;
    while (rc == Z_OK) {
        size_t left = (size_t)(end - (const char *)z->next_in), space = room - (size_t)((char *)z->next_out - dst);
        if (space == 0) return 0;
        z->avail_in = at_most(left);
        z->avail_out = at_most(space);
        rc = deflate(z, z->avail_in == left ? Z_FINISH : Z_NO_FLUSH);
    }
    return rc == Z_STREAM_END ? (size_t)((char *)z->next_out - dst) : 0;
}

bool ps_coding_pack(ps_str *text, ps_coding coding) {
    z_stream z = { .zalloc = take_memory, .zfree = give_memory, .opaque = text->alloc };
    ps_str packed;
    ps_str_init(&packed, text->alloc);
    size_t n = 0;
    int window = coding == PS_CODING_GZIP ? GZIP_WINDOW : WINDOW;
    if (deflateInit2(&z, LEVEL, Z_DEFLATED, window, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) return false;
    if (ps_str_reserve(&packed, text->size)) n = pack_into(&z, text, packed.data, text->size - 1);
    deflateEnd(&z);
    if (n == 0) {
        ps_str_release(&packed);
        return false;
    }
    packed.size = n;
    packed.data[n] = '\0';
    ps_str_release(text);
    *text = packed;
    return true;
}
