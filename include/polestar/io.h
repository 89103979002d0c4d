/* io.h - tensors and photos from and to files.
 *
 * Plain functions without shared state: any thread. */
#ifndef POLESTAR_IO_H
#define POLESTAR_IO_H

#include "polestar/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a tensor by the file's extension: .npy (format 1.0–3.0, C order, little-endian) or .pb (onnx.TensorProto). */
PS_API ps_status ps_tensor_load(ps_engine *engine, const char *path, ps_tensor **ret_tensor, ps_error *reterr);
/* The same for a value of the given type, which a .pb file does not tell: PS_DTYPE_SEQUENCE, _OPTIONAL or _MAP read an
 * onnx.SequenceProto, OptionalProto or MapProto, any other type a TensorProto. A .npy file holds a tensor. */
PS_API ps_status ps_tensor_load_as(ps_engine *engine, const char *path, ps_dtype kind, ps_tensor **ret_tensor,
                                   ps_error *reterr);
/* Writes .npy or .pb; `name` is the tensor's name inside a .pb (may be NULL). Strings and containers need a .pb. */
PS_API ps_status ps_tensor_save(ps_engine *engine, const ps_tensor *tensor, const char *path, const char *name,
                                ps_error *reterr);

/* How a photo becomes a model input: shorter side resized (not at all when resize is 0, unless the photo is smaller
 * than size), centre crop to size x size, x = (u8 - mean) / std per channel. */
typedef struct ps_preprocess {
    size_t size_of;        /* sizeof(ps_preprocess) */
    int resize;            /* length of the shorter side in pixels; 0: keep */
    int size;              /* square crop in pixels; 0: what the model's input says, or the whole photo */
    bool bilinear;         /* false: bicubic. Both antialiased, as PIL does */
    float mean[3], std[3]; /* in units of u8 */
    bool nhwc, bgr, gray;
    char labels[512]; /* path of a text file with one label per line, or "" */
} ps_preprocess;

/* The identity: no resize, mean 0, std 1, RGB, NCHW. */
PS_API void ps_preprocess_init(ps_preprocess *ret);
/* Reads `<model>.preprocess.json` (docs/preprocess.md); an unknown key is refused by name. */
PS_API ps_status ps_preprocess_load(ps_engine *engine, const char *path, ps_preprocess *ret, ps_error *reterr);
/* Named presets ("efficientnet-lite0", "imagenet"); PS_NOT_FOUND lists them. */
PS_API ps_status ps_preprocess_preset(const char *name, ps_preprocess *ret, ps_error *reterr);

/* Decodes a JPEG or PNG (by content) and prepares it: an f32 tensor [1, C, size, size]. Photos over 100 megapixels are
 * refused. */
PS_API ps_status ps_image_load(ps_engine *engine, const char *path, const ps_preprocess *preprocess,
                               ps_tensor **ret_tensor, ps_error *reterr);
PS_API ps_status ps_image_decode(ps_engine *engine, const void *data, size_t size, const ps_preprocess *preprocess,
                                 ps_tensor **ret_tensor, ps_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
