/* photo.c - JPEG by libjpeg-turbo and PNG by libspng. Their own working memory is theirs; pixels are ours. */
#include <spng.h>
#include <string.h>
#include <turbojpeg.h>

#include "image/image_int.h"

enum { PNG_CHUNK_BYTES = 64 << 20 };

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

ps_status ps_jpeg_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
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

ps_status ps_png_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return PS_FAIL_NOMEM(err, "the PNG decoder");
    ps_status status = decode_png(ctx, a, data, size, ret, err);
    spng_ctx_free(ctx);
    return status;
}
