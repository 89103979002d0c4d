/* bmp.c - Windows bitmaps: 1, 4, 8 (palette), 16, 24 and 32 bits a pixel, uncompressed or with bit fields.
 *
 * Source: Microsoft, "Bitmap Storage" and "BITMAPV5HEADER". Run-length encoding is refused. */
#include "image/image_int.h"

enum { FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, PLAIN = 0, BIT_FIELDS = 3, ALPHA_BIT_FIELDS = 6 };

typedef struct bmp {
    const uint8_t *data;
    size_t size;
    uint32_t header;            /* bytes of the second header */
    int64_t width, height;      /* of the picture */
    bool top_down;              /* rows are stored from top to bottom */
    uint32_t bits, compression; /* of a pixel */
    uint32_t masks[3];          /* R, G, B of 16 and 32 bits */
    size_t palette, entry;      /* offset, bytes of an entry */
    uint32_t colours;
    size_t pixels, stride; /* offset, bytes of a row */
} bmp;

static uint32_t read16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t read32(const uint8_t *p) {
    return read16(p) | read16(p + 2) << 16;
}

static int64_t read_signed(const uint8_t *p) {
    return (int32_t)read32(p);
}

static ps_status bmp_fail(ps_error *err, const char *what) {
    return PS_FAIL(err, FORMAT, "photo: BMP: %s", what);
}

static ps_status read_sizes(bmp *b, ps_error *err) {
    const uint8_t *h = b->data + FILE_HEADER;
    if (b->size < FILE_HEADER + CORE_HEADER) return bmp_fail(err, "the file ends within its header");
    b->header = read32(h);
    bool core = b->header == CORE_HEADER;
    bool fits = b->header <= 1024 && b->size >= FILE_HEADER + b->header;
    if (!fits || (!core && b->header < INFO_HEADER)) return bmp_fail(err, "the header has an impossible length");
    b->width = core ? (int64_t)read16(h + 4) : read_signed(h + 4);
    b->height = core ? (int64_t)read16(h + 6) : read_signed(h + 8);
    b->bits = core ? read16(h + 10) : read16(h + 14);
    b->compression = core ? PLAIN : read32(h + 16);
    b->colours = core ? 0 : read32(h + 32);
    b->entry = core ? 3 : 4;
    b->top_down = b->height < 0;
    if (b->top_down) b->height = -b->height;
    return PS_OK;
}

/* Masks of 16 and 32 bits: behind the first 40 bytes, in longer headers as part of them. */
static ps_status read_masks(bmp *b, ps_error *err) {
    static const uint32_t plain16[3] = { 0x7C00, 0x03E0, 0x001F }, plain32[3] = { 0xFF0000, 0xFF00, 0xFF };
    bool fields = b->compression == BIT_FIELDS || b->compression == ALPHA_BIT_FIELDS;
    size_t at = FILE_HEADER + INFO_HEADER, n = b->compression == ALPHA_BIT_FIELDS ? 16 : 12;
    b->palette = FILE_HEADER + b->header;
    if (fields && (b->bits == 16 || b->bits == 32)) {
        if (b->size < at + n) return bmp_fail(err, "the file ends within its bit fields");
        for (int c = 0; c < 3; c++)
            b->masks[c] = read32(b->data + at + 4 * (size_t)c);
        if (b->header == INFO_HEADER) b->palette += n;
        return PS_OK;
    }
    for (int c = 0; c < 3; c++)
        b->masks[c] = b->bits == 16 ? plain16[c] : plain32[c];
    if (b->compression != PLAIN)
        return PS_FAIL(err, UNSUPPORTED, "photo: BMP: compression %u is not read", (unsigned)b->compression);
    return PS_OK;
}

static ps_status find_pixels(bmp *b, ps_error *err) {
    static const uint32_t known[] = { 1, 4, 8, 16, 24, 32 };
    bool ok = false;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        ok = ok || b->bits == known[k];
    if (!ok)
        return PS_FAIL(err, FORMAT, "photo: BMP: %u bits a pixel are none of 1, 4, 8, 16, 24, 32", (unsigned)b->bits);
    if (b->bits <= 8) {
        uint32_t most = 1u << b->bits;
        if (b->colours == 0 || b->colours > most) b->colours = most;
        if (b->palette > b->size || (b->size - b->palette) / b->entry < b->colours)
            return bmp_fail(err, "the file ends within its palette");
    }
    b->pixels = read32(b->data + 10);
    b->stride = ((size_t)b->width * b->bits + 31) / 32 * 4;
    if (b->pixels > b->size || (b->size - b->pixels) / b->stride < (size_t)b->height)
        return bmp_fail(err, "the file ends early");
    return PS_OK;
}

/* The bits of a mask, stretched to 8. */
static uint8_t field(uint32_t pixel, uint32_t mask) {
    if (!mask) return 0;
    int shift = __builtin_ctz(mask);
    uint64_t top = mask >> shift, value = (pixel & mask) >> shift;
    return (uint8_t)((value * 255 + top / 2) / top);
}

static void palette_pixel(const bmp *b, uint32_t index, uint8_t *to) {
    const uint8_t *p = b->data + b->palette + b->entry * (index < b->colours ? index : 0);
    to[0] = p[2];
    to[1] = p[1];
    to[2] = p[0];
}

static void read_row(const bmp *b, const uint8_t *row, uint8_t *to) {
    for (size_t x = 0; x < (size_t)b->width; x++, to += 3) {
        if (b->bits <= 8) {
            size_t bit = x * b->bits;
            palette_pixel(b, (uint32_t)row[bit / 8] >> (8 - b->bits - bit % 8) & ((1u << b->bits) - 1), to);
        } else if (b->bits == 24) {
            to[0] = row[3 * x + 2];
            to[1] = row[3 * x + 1];
            to[2] = row[3 * x];
        } else {
            uint32_t pixel = b->bits == 16 ? read16(row + 2 * x) : read32(row + 4 * x);
            for (int c = 0; c < 3; c++)
                to[c] = field(pixel, b->masks[c]);
        }
    }
}

ps_status ps_bmp_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    bmp b = { .data = data, .size = size };
    PS_TRY(read_sizes(&b, err));
    PS_TRY(read_masks(&b, err));
    if (b.width < 1 || b.width > PS_IMAGE_MAX_SIDE) return bmp_fail(err, "the width is out of range");
    PS_TRY(find_pixels(&b, err));
    PS_TRY(ps_image_new(a, b.width, b.height, 3, ret, err));
    for (size_t y = 0; y < (size_t)b.height; y++) {
        size_t stored = b.top_down ? y : (size_t)b.height - 1 - y;
        read_row(&b, data + b.pixels + stored * b.stride, ret->data + y * (size_t)b.width * 3);
    }
    return PS_OK;
}
