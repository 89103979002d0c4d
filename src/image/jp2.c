/* jp2.c - JPEG 2000 (boxed files and bare codestreams) through OpenJPEG: gray or RGB, components of one size. */
#include <openjpeg.h>
#include <string.h>

#include "image/image_int.h"

typedef struct source {
    const uint8_t *data;
    size_t size, at;
} source;

static OPJ_SIZE_T source_read(void *dst, OPJ_SIZE_T n, void *user) {
    source *s = user;
    size_t left = s->size - s->at, take = n < left ? n : left;
    if (!take) return (OPJ_SIZE_T)-1;
    memcpy(dst, s->data + s->at, take);
    s->at += take;
    return take;
}

static OPJ_BOOL source_seek(OPJ_OFF_T to, void *user) {
    source *s = user;
    if (to < 0 || (uint64_t)to > s->size) return OPJ_FALSE;
    s->at = (size_t)to;
    return OPJ_TRUE;
}

static OPJ_OFF_T source_skip(OPJ_OFF_T n, void *user) {
    source *s = user;
    if (n < 0 || (uint64_t)n > s->size - s->at) return -1;
    s->at += (size_t)n;
    return n;
}

static ps_status broken(ps_error *err) {
    return PS_FAIL(err, FORMAT, "photo: JPEG 2000: the file is broken");
}

/* Sizes before anything is decoded: components hold 4 bytes a sample. */
static ps_status check(const opj_image_t *image, ps_error *err) {
    PS_FAIL_IF(image->numcomps < 1 || image->numcomps > 4 || image->numcomps == 2, err, UNSUPPORTED,
               "photo: JPEG 2000: %u components are not read", (unsigned)image->numcomps);
    PS_FAIL_IF(image->color_space == OPJ_CLRSPC_SYCC || image->color_space == OPJ_CLRSPC_EYCC ||
                   image->color_space == OPJ_CLRSPC_CMYK,
               err, UNSUPPORTED, "photo: JPEG 2000: this is neither RGB nor gray");
    for (OPJ_UINT32 k = 0; k < image->numcomps; k++) {
        const opj_image_comp_t *c = &image->comps[k], *first = &image->comps[0];
        PS_FAIL_IF(c->w != first->w || c->h != first->h || c->prec < 1 || c->prec > 31, err, UNSUPPORTED,
                   "photo: JPEG 2000: components differ in size, or have %u bits", (unsigned)c->prec);
    }
    return PS_OK;
}

static uint8_t sample(const opj_image_comp_t *c, size_t at) {
    int64_t top = (INT64_C(1) << c->prec) - 1, v = (int64_t)c->data[at] + (c->sgnd ? INT64_C(1) << (c->prec - 1) : 0);
    if (v < 0) v = 0;
    if (v > top) v = top;
    return (uint8_t)(c->prec > 8 ? v >> (c->prec - 8) : v * 255 / top);
}

static ps_status convert(const opj_image_t *image, ps_image *ret, ps_error *err) {
    size_t n = (size_t)ret->width * (size_t)ret->height;
    for (OPJ_UINT32 k = 0; k < 3; k++) {
        const opj_image_comp_t *c = &image->comps[image->numcomps < 3 ? 0 : k];
        if (!c->data || c->w != (OPJ_UINT32)ret->width || c->h != (OPJ_UINT32)ret->height) return broken(err);
        for (size_t at = 0; at < n; at++)
            ret->data[3 * at + k] = sample(c, at);
    }
    return PS_OK;
}

static ps_status decode(opj_codec_t *codec, opj_stream_t *stream, opj_image_t **image, ps_alloc_state *a, ps_image *ret,
                        ps_error *err) {
    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    if (!opj_setup_decoder(codec, &parameters) || !opj_read_header(stream, codec, image)) return broken(err);
    PS_TRY(check(*image, err));
    PS_TRY(ps_image_new(a, (*image)->comps[0].w, (*image)->comps[0].h, 3, ret, err));
    ps_status status = opj_decode(codec, stream, *image) ? convert(*image, ret, err) : broken(err);
    if (status != PS_OK) ps_image_release(ret);
    return status;
}

ps_status ps_jp2_read(ps_alloc_state *a, const uint8_t *data, size_t size, ps_image *ret, ps_error *err) {
    source s = { data, size, 0 };
    opj_codec_t *codec = opj_create_decompress(data[0] ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
    opj_stream_t *stream = opj_stream_default_create(OPJ_TRUE);
    opj_image_t *image = NULL;
    ps_status status = codec && stream ? PS_OK : PS_FAIL_NOMEM(err, "the JPEG 2000 decoder");
    if (status == PS_OK) {
        opj_stream_set_user_data(stream, &s, NULL);
        opj_stream_set_user_data_length(stream, size);
        opj_stream_set_read_function(stream, source_read);
        opj_stream_set_seek_function(stream, source_seek);
        opj_stream_set_skip_function(stream, source_skip);
        status = decode(codec, stream, &image, a, ret, err);
    }
    if (image) opj_image_destroy(image);
    if (stream) opj_stream_destroy(stream);
    if (codec) opj_destroy_codec(codec);
    return status;
}
