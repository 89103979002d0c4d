/* image.h - pictures in memory, and decoding of files.
 *
 * A ps_image owns its pixels, which are memory of ps_alloc; the decoders' own working memory is from malloc, since no
 * library takes a context for its allocator. No state is shared: any function may run in any thread. */
#ifndef PS_IMAGE_IMAGE_H
#define PS_IMAGE_IMAGE_H

#include "base/alloc.h"
#include "base/error.h"

#define PS_IMAGE_MAX_PIXELS 100000000
#define PS_IMAGE_MAX_SIDE 65535
#define PS_IMAGE_MAX_FILE ((size_t)256 << 20)

/* Rows from top to bottom, pixels from left to right, `channels` bytes each (1: luma, 3: R, G, B). */
typedef struct ps_image {
    int width, height, channels;
    uint8_t *data;
    ps_alloc_state *alloc;
} ps_image;

/* Zeroed pixels are not promised. PS_LIMIT over PS_IMAGE_MAX_PIXELS or _MAX_SIDE. */
ps_status ps_image_new(ps_alloc_state *a, int64_t width, int64_t height, int channels, ps_image *ret, ps_error *err);
void ps_image_release(ps_image *image); /* of a zeroed one too */

/* JPEG, PNG, BMP, PNM and, where the build has them, TIFF, WebP and JPEG 2000, told by content, as RGB: gray and
 * palette are expanded, alpha is dropped, more than 8 bits lose the lower ones, and an EXIF orientation is not applied.
 * CMYK is refused. PS_FORMAT: no picture, or a broken one; PS_UNSUPPORTED: a picture of a kind that is not read.
 * Sentences start with "photo:". */
ps_status ps_image_read(ps_alloc_state *a, const void *data, size_t size, ps_image *ret, ps_error *err);
/* RGB → luma by ITU-R 601-2, in the fixed-point arithmetic of PIL's mode "L". */
ps_status ps_image_luma(const ps_image *rgb, ps_image *ret, ps_error *err);

#endif
