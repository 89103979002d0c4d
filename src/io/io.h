/* io.h - inside of src/io: numpy files, photos, resampling. The public half is polestar/io.h. */
#ifndef PS_IO_IO_H
#define PS_IO_IO_H

#include "image/image.h"
#include "polestar/io.h"
#include "tensor/tensor.h"

/* ---- npy ---- */
/* A .npy file in memory (format 1.0 to 3.0, either order, little-endian) as a new tensor. Sentences start with "npy:".
 */
ps_status ps_npy_read(ps_alloc_state *a, const void *data, size_t size, ps_tensor **ret, ps_error *err);
/* The file's bytes, format 1.0, C order; ps_free them. Types that numpy lacks are refused. */
ps_status ps_npy_write(ps_alloc_state *a, const ps_tensor *t, void **ret_data, size_t *ret_size, ps_error *err);

/* ---- npz ---- */
/* Takes the tensor, also on failure. */
typedef ps_status (*ps_npz_fn)(void *ctx, const char *name, ps_tensor *take, ps_error *err);
/* Reads the arrays of a .npz file one after the other, in the order of its directory. Sentences start with the path. */
ps_status ps_npz_read(ps_alloc_state *a, const char *path, ps_npz_fn fn, void *ctx, ps_error *err);

/* ---- photos ---- */
typedef enum ps_filter { PS_FILTER_BICUBIC, PS_FILTER_BILINEAR } ps_filter;

/* Antialiased resize as PIL does it: the filter is stretched when shrinking, weights are 22-bit fixed point, the
 * horizontal pass runs first and is rounded to 8 bits. Bicubic has a = -0.5. */
ps_status ps_image_resize(const ps_image *in, int64_t width, int64_t height, ps_filter filter, ps_image *ret,
                          ps_error *err);

/* Resize, centre crop and normalisation of a decoded photo: see ps_preprocess. */
ps_status ps_image_prepare(ps_alloc_state *a, const ps_image *image, const ps_preprocess *p, ps_tensor **ret,
                           ps_error *err);

/* Checks numbers of a ps_preprocess; `what` starts the sentence. */
ps_status ps_preprocess_check(const ps_preprocess *p, const char *what, ps_error *err);

#endif
