/* pnm.c - portable bitmaps, graymaps and pixmaps (P1 to P6), text and binary, up to 16 bits a sample.
 *
 * Source: the netpbm manual, "pbm", "pgm", "ppm". Samples are scaled to 8 bits by rounding. */
#include "image/image_int.h"

typedef struct pnm {
    const uint8_t *at, *end;
    int kind; /* the digit behind P */
    uint32_t width, height, most;
} pnm;

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Blanks, and comments from # to the end of the line. */
static void skip_blanks(pnm *p) {
    for (; p->at < p->end && (is_space(*p->at) || *p->at == '#'); p->at++) {
        if (*p->at != '#') continue;
        while (p->at < p->end && *p->at != '\n')
            p->at++;
        if (p->at == p->end) return;
    }
}

static ps_status read_number(pnm *p, uint32_t most, uint32_t *ret, ps_error *err) {
    uint32_t value = 0;
    skip_blanks(p);
    PS_FAIL_IF(p->at == p->end, err, FORMAT, "photo: PNM: the file ends early");
    PS_FAIL_IF(*p->at < '0' || *p->at > '9', err, FORMAT, "photo: PNM: byte 0x%02x stands where a number must", *p->at);
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        value = value * 10 + (uint32_t)(*p->at - '0');
        PS_FAIL_IF(value > most, err, FORMAT, "photo: PNM: a number exceeds %u", (unsigned)most);
    }
    *ret = value;
    return PS_OK;
}

/* In the text form of bitmaps digits need no blanks between them. */
static ps_status read_digit(pnm *p, uint32_t *ret, ps_error *err) {
    skip_blanks(p);
    PS_FAIL_IF(p->at == p->end, err, FORMAT, "photo: PNM: the file ends early");
    PS_FAIL_IF(*p->at != '0' && *p->at != '1', err, FORMAT, "photo: PNM: byte 0x%02x is neither 0 nor 1", *p->at);
    *ret = (uint32_t)(*p->at++ - '0');
    return PS_OK;
}

static ps_status read_header(pnm *p, ps_error *err) {
    p->kind = p->at[1] - '0';
    p->at += 2;
    p->most = 1;
    PS_TRY(read_number(p, PS_IMAGE_MAX_SIDE, &p->width, err));
    PS_TRY(read_number(p, PS_IMAGE_MAX_SIDE, &p->height, err));
    if (p->kind != 1 && p->kind != 4) PS_TRY(read_number(p, 65535, &p->most, err));
    PS_FAIL_IF(p->most < 1, err, FORMAT, "photo: PNM: the largest sample is 0");
    if (p->kind < 4) return PS_OK;
    PS_FAIL_IF(p->at == p->end || !is_space(*p->at), err, FORMAT, "photo: PNM: no blank behind the header");
    p->at++;
    return PS_OK;
}

/* Bytes of a binary row. */
static size_t row_bytes(const pnm *p) {
    if (p->kind == 4) return ((size_t)p->width + 7) / 8;
    return (size_t)p->width * (p->kind == 6 ? 3 : 1) * (p->most > 255 ? 2 : 1);
}

static uint32_t binary_sample(const pnm *p, const uint8_t *row, size_t k) {
    if (p->kind == 4) return row[k / 8] >> (7 - k % 8) & 1;
    return p->most > 255 ? (uint32_t)row[2 * k] << 8 | row[2 * k + 1] : row[k];
}

static uint8_t scale(const pnm *p, uint32_t v) {
    if (p->kind == 1 || p->kind == 4) return v ? 0 : 255; /* 1 is black */
    if (v > p->most) v = p->most;
    return (uint8_t)((v * 255 + p->most / 2) / p->most);
}

static ps_status read_row(pnm *p, uint8_t *to, ps_error *err) {
    size_t samples = p->kind % 3 == 0 ? 3 : 1;
    for (size_t k = 0; k < p->width * samples; k++) {
        uint32_t v;
        if (p->kind > 3)
            v = binary_sample(p, p->at, k);
        else if (p->kind == 1)
            PS_TRY(read_digit(p, &v, err));
        else
            PS_TRY(read_number(p, p->most, &v, err));
        for (size_t c = 0; c < 3 / samples; c++)
            *to++ = scale(p, v);
    }
    if (p->kind > 3) p->at += row_bytes(p);
    return PS_OK;
}

ps_status ps_pnm_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    pnm p = { .at = data, .end = data + size };
    PS_TRY(read_header(&p, err));
    size_t left = (size_t)(p.end - p.at);
    size_t least = p.height * (p.kind > 3 ? row_bytes(&p) : (size_t)p.width * (p.kind == 3 ? 3 : 1));
    PS_FAIL_IF(left < least, err, FORMAT, "photo: PNM: the file ends early");
    PS_TRY(ps_image_new(a, p.width, p.height, 3, ret, err));
    ps_status status = PS_OK;
    for (size_t y = 0; y < p.height && status == PS_OK; y++)
        status = read_row(&p, ret->data + y * p.width * 3, err);
    if (status != PS_OK) ps_image_release(ret);
    return status;
}
