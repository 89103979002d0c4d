/* webp.c - still WebP pictures through libwebp. */
#include <webp/decode.h>

#include "image/image_int.h"

ps_status ps_webp_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    WebPBitstreamFeatures features;
    PS_FAIL_IF(WebPGetFeatures(data, size, &features) != VP8_STATUS_OK, err, FORMAT,
               "photo: WebP: the header is broken");
    PS_FAIL_IF(features.has_animation, err, UNSUPPORTED, "photo: WebP: this is an animation");
    PS_TRY(ps_image_new(a, features.width, features.height, 3, ret, err));
    size_t stride = (size_t)ret->width * 3;
    if (WebPDecodeRGBInto(data, size, ret->data, stride * (size_t)ret->height, (int)stride)) return PS_OK;
    ps_image_release(ret);
    return PS_FAIL(err, FORMAT, "photo: WebP: the picture is broken");
}
