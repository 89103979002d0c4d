/* image.c - decoding of photos, and luma. The decoders' own working memory is libjpeg's and libspng's; pixels are ours.
 */
#include "io/io.h"

#include <spng.h>
#include <turbojpeg.h>

enum { PNG_CHUNK_BYTES = 64 << 20 };

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

/* ---- JPEG ---- */
/* Cameras write files that libjpeg warns about and that decode well; a file that ends early does not. */
static bool is_fatal(tjhandle handle) {
    return tjGetErrorCode(handle) == TJERR_FATAL || strstr(tjGetErrorStr2(handle), "remature end") != NULL;
}

/* libjpeg makes up an end-of-image marker where there is none, and of several warnings keeps only the last: look
 * ourselves. */
static bool has_end_marker(const uint8_t *data, size_t size) {
    for (size_t k = size; k >= 2; k--)
        if (data[k - 2] == 0xFF && data[k - 1] == 0xD9) return true;
    return false;
}

static ps_status decode_jpeg(tjhandle handle, ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret,
                             ps_error *err) {
    int width, height, sampling, space;
    int rc = tjDecompressHeader3(handle, data, (unsigned long)size, &width, &height, &sampling, &space);
    PS_FAIL_IF(rc != 0 && is_fatal(handle), err, FORMAT, "photo: JPEG header: %s", tjGetErrorStr2(handle));
    PS_FAIL_IF(space == TJCS_CMYK || space == TJCS_YCCK, err, UNSUPPORTED, "photo: this JPEG is CMYK, not RGB or gray");
    PS_FAIL_IF(!has_end_marker(data, size), err, FORMAT, "photo: JPEG: the file ends early");
    PS_TRY(ps_image_new(a, width, height, 3, ret, err));
    memset(ret->data, 0, (size_t)width * (size_t)height * 3);
    rc = tjDecompress2(handle, data, (unsigned long)size, ret->data, width, 0, height, TJPF_RGB, TJFLAG_LIMITSCANS);
    if (rc == 0 || !is_fatal(handle)) return PS_OK;
    ps_image_release(ret);
    return PS_FAIL(err, FORMAT, "photo: JPEG: %s", tjGetErrorStr2(handle));
}

static ps_status read_jpeg(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    tjhandle handle = tjInitDecompress();
    if (!handle) return PS_FAIL_NOMEM(err, "the JPEG decoder");
    ps_status status = decode_jpeg(handle, a, data, size, ret, err);
    tjDestroy(handle);
    return status;
}

/* ---- PNG ---- */
static ps_status png_fail(int rc, ps_error *err) {
    return PS_FAIL(err, FORMAT, "photo: PNG: %s", spng_strerror(rc));
}

static ps_status decode_png(spng_ctx *ctx, ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret,
                            ps_error *err) {
    struct spng_ihdr header;
    size_t bytes;
    int rc = spng_set_chunk_limits(ctx, PNG_CHUNK_BYTES, PNG_CHUNK_BYTES);
    if (rc == 0) rc = spng_set_png_buffer(ctx, data, size);
    if (rc == 0) rc = spng_get_ihdr(ctx, &header);
    if (rc != 0) return png_fail(rc, err);
    PS_TRY(ps_image_new(a, header.width, header.height, 3, ret, err));
    rc = spng_decoded_image_size(ctx, SPNG_FMT_RGB8, &bytes);
    if (rc == 0 && bytes != (size_t)ret->width * (size_t)ret->height * 3) rc = SPNG_EBUFSIZ;
    if (rc == 0) rc = spng_decode_image(ctx, ret->data, bytes, SPNG_FMT_RGB8, 0);
    if (rc == 0) return PS_OK;
    ps_image_release(ret);
    return png_fail(rc, err);
}

static ps_status read_png(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return PS_FAIL_NOMEM(err, "the PNG decoder");
    ps_status status = decode_png(ctx, a, data, size, ret, err);
    spng_ctx_free(ctx);
    return status;
}

/* ---- either ---- */
ps_status ps_image_read(ps_alloc_state *a, const void *data, size_t size, ps_image *ret, ps_error *err) {
    static const uint8_t png[8] = { 0x89, 'P', 'N', 'G', 13, 10, 26, 10 }, jpeg[3] = { 0xFF, 0xD8, 0xFF };
    PS_FAIL_IF(size > PS_IMAGE_MAX_FILE, err, LIMIT, "photo: %zu bytes are more than %zu", size, PS_IMAGE_MAX_FILE);
    if (size >= sizeof png && memcmp(data, png, sizeof png) == 0) return read_png(a, data, size, ret, err);
    if (size >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0) return read_jpeg(a, data, size, ret, err);
    return PS_FAIL(err, FORMAT, "photo: this is neither JPEG nor PNG");
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
