/* image_int.h - one reader a format. Each makes an RGB image, or none on failure. */
#ifndef PS_IMAGE_IMAGE_INT_H
#define PS_IMAGE_IMAGE_INT_H

#include "image/image.h"

ps_status ps_jpeg_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
ps_status ps_png_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
ps_status ps_bmp_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
ps_status ps_pnm_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
/* Only where the build has them. */
#if PS_WITH_JP2
ps_status ps_jp2_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
#endif
#if PS_WITH_TIFF
ps_status ps_tiff_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
#endif
#if PS_WITH_WEBP
ps_status ps_webp_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err);
#endif

#endif
