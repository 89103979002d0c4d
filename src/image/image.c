/* image.c - memory of images, luma, and telling formats apart. */
#include <string.h>

#include "image/image_int.h"

ps_status ps_image_new(ps_alloc_state *a, int64_t width, int64_t height, int channels, ps_image *ret, ps_error *err) {
    bool fits = width > 0 && height > 0 && width <= PS_IMAGE_MAX_SIDE && height <= PS_IMAGE_MAX_SIDE &&
                width * height <= PS_IMAGE_MAX_PIXELS;
    PS_FAIL_IF(!fits, err, LIMIT, "photo: %lld x %lld pixels are none, over %d in a row or over %d in all",
               (long long)width, (long long)height, PS_IMAGE_MAX_SIDE, PS_IMAGE_MAX_PIXELS);
    uint8_t *data = ps_alloc_array(a, (size_t)(width * height), (size_t)channels);
    if (!data) return PS_FAIL_NOMEM(err, "a photo");
    *ret = (ps_image) { (int)width, (int)height, channels, data, a };
    return PS_OK;
}

void ps_image_release(ps_image *image) {
    if (image->data) ps_free(image->alloc, image->data);
    image->data = NULL;
}

/* ---- formats ---- */
#if !PS_WITH_JP2 || !PS_WITH_TIFF || !PS_WITH_WEBP
static ps_status not_built(const char *format, const char *option, ps_error *err) {
    return PS_FAIL(err, UNSUPPORTED, "photo: %s is not read by this build (%s is off)", format, option);
}
#endif

#if !PS_WITH_JP2
static ps_status ps_jp2_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    (void)a, (void)data, (void)size, (void)ret;
    return not_built("JPEG 2000", "PS_WITH_JP2", err);
}
#endif
#if !PS_WITH_TIFF
static ps_status ps_tiff_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    (void)a, (void)data, (void)size, (void)ret;
    return not_built("TIFF", "PS_WITH_TIFF", err);
}
#endif
#if !PS_WITH_WEBP
static ps_status ps_webp_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    (void)a, (void)data, (void)size, (void)ret;
    return not_built("WebP", "PS_WITH_WEBP", err);
}
#endif

typedef ps_status (*read_fn)(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);

/* What a file begins with; '?' stands for any byte. */
static const struct {
    const char *magic;
    size_t n;
    read_fn read;
} formats[] = {
    { "\x89PNG\r\n\x1A\n", 8, ps_png_read },
    { "\xFF\xD8\xFF", 3, ps_jpeg_read },
    { "BM", 2, ps_bmp_read },
    { "P1", 2, ps_pnm_read },
    { "P2", 2, ps_pnm_read },
    { "P3", 2, ps_pnm_read },
    { "P4", 2, ps_pnm_read },
    { "P5", 2, ps_pnm_read },
    { "P6", 2, ps_pnm_read },
    { "II*\0", 4, ps_tiff_read },
    { "MM\0*", 4, ps_tiff_read },
    { "II+\0", 4, ps_tiff_read },
    { "MM\0+", 4, ps_tiff_read },
    { "RIFF????WEBP", 12, ps_webp_read },
    { "\0\0\0\x0CjP  \r\n\x87\n", 12, ps_jp2_read },
    { "\xFF\x4F\xFF\x51", 4, ps_jp2_read },
};

static bool begins_with(const uint8_t *data, size_t size, const char *magic, size_t n) {
    if (size < n) return false;
    for (size_t k = 0; k < n; k++)
        if (magic[k] != '?' && data[k] != (uint8_t)magic[k]) return false;
    return true;
}

ps_status ps_image_read(ps_alloc_state *a, const void *data, size_t size, ps_image *ret, ps_error *err) {
    PS_FAIL_IF(size > PS_IMAGE_MAX_FILE, err, LIMIT, "photo: %zu bytes are more than %zu", size, PS_IMAGE_MAX_FILE);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++)
        if (begins_with(data, size, formats[k].magic, formats[k].n)) return formats[k].read(a, data, size, ret, err);
    return PS_FAIL(err, FORMAT, "photo: this is neither JPEG nor PNG, BMP or PNM");
}

ps_status ps_image_luma(const ps_image *rgb, ps_image *ret, ps_error *err) {
    PS_TRY(ps_image_new(rgb->alloc, rgb->width, rgb->height, 1, ret, err));
    size_t n = (size_t)rgb->width * (size_t)rgb->height;
    const uint8_t *p = rgb->data;
    /* 0.299, 0.587, 0.114 in 16-bit fixed point, rounded */
    for (size_t k = 0; k < n; k++, p += 3)
        ret->data[k] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    return PS_OK;
}
