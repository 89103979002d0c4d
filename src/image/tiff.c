/* tiff.c - TIFF through libtiff's conversion to RGBA. */
#include <string.h>
#include <tiffio.h>

#include "image/image_int.h"

enum { MAX_SINGLE_ALLOC = 512 << 20 };

/* The file in memory, and the first thing that libtiff had to say. */
typedef struct source {
    const uint8_t *data;
    size_t size, at;
    char message[160];
} source;

static tmsize_t source_read(thandle_t handle, void *dst, tmsize_t n) {
    source *s = handle;
    size_t left = s->size - s->at, take = (size_t)n < left ? (size_t)n : left;
    memcpy(dst, s->data + s->at, take);
    s->at += take;
    return (tmsize_t)take;
}

static tmsize_t source_write(thandle_t handle, void *src, tmsize_t n) {
    (void)handle, (void)src, (void)n;
    return -1;
}

static toff_t source_seek(thandle_t handle, toff_t offset, int whence) {
    source *s = handle;
    toff_t base = whence == SEEK_CUR ? s->at : whence == SEEK_END ? s->size : 0, to = base + offset;
    if (to > s->size) to = s->size;
    s->at = (size_t)to;
    return to;
}

static int source_close(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t source_size(thandle_t handle) {
    return ((source *)handle)->size;
}

static int keep_message(TIFF *tiff, void *user, const char *module, const char *format, va_list args) {
    source *s = user;
    (void)tiff, (void)module;
    if (!s->message[0]) vsnprintf(s->message, sizeof s->message, format, args);
    return 1;
}

static int drop_message(TIFF *tiff, void *user, const char *module, const char *format, va_list args) {
    (void)tiff, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static TIFF *open_source(source *s) {
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options) return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, MAX_SINGLE_ALLOC);
    TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, s);
    TIFFOpenOptionsSetWarningHandlerExtR(options, drop_message, NULL);
    TIFF *tiff = TIFFClientOpenExt("photo", "rm", s, source_read, source_write, source_seek, source_close, source_size,
                                   NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return tiff;
}

static ps_status decode(TIFF *tiff, source *s, ps_alloc_state *a, ps_image *ret, ps_error *err) {
    uint32_t width = 0, height = 0;
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
    PS_TRY(ps_image_new(a, width, height, 3, ret, err));
    size_t n = (size_t)width * height;
    uint32_t *raster = ps_alloc_array(a, n, sizeof *raster);
    ps_status status = raster ? PS_OK : PS_FAIL_NOMEM(err, "a photo");
    if (raster && !TIFFReadRGBAImageOriented(tiff, width, height, raster, ORIENTATION_TOPLEFT, 1))
        status = PS_FAIL(err, FORMAT, "photo: TIFF: %s", s->message[0] ? s->message : "cannot be decoded");
    for (size_t k = 0; status == PS_OK && k < n; k++) {
        ret->data[3 * k] = (uint8_t)TIFFGetR(raster[k]);
        ret->data[3 * k + 1] = (uint8_t)TIFFGetG(raster[k]);
        ret->data[3 * k + 2] = (uint8_t)TIFFGetB(raster[k]);
    }
    ps_free(a, raster);
    if (status != PS_OK) ps_image_release(ret);
    return status;
}

ps_status ps_tiff_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    source s = { .data = data, .size = size };
    TIFF *tiff = open_source(&s);
    PS_FAIL_IF(!tiff, err, FORMAT, "photo: TIFF: %s", s.message[0] ? s.message : "cannot be opened");
    ps_status status = decode(tiff, &s, a, ret, err);
    TIFFClose(tiff);
    return status;
}
