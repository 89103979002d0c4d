/* Resizing and sampling of images. */
#include <string.h>

#include "torch/aten.h"

typedef struct style {
    const char *mode, *coordinates, *nearest;
} style;

static style style_of(ps_tb *b) {
    const char *name = b->op->name;
    bool align = ps_tb_bool(b, "align_corners", false);
    if (strstr(name, "nearest_exact")) return (style) { "nearest", "half_pixel", "round_prefer_ceil" };
    if (strstr(name, "nearest")) return (style) { "nearest", "asymmetric", "floor" };
    return (style) { strstr(name, "bicubic") ? "cubic" : "linear", align ? "align_corners" : "half_pixel", NULL };
}

/* Factors that were given count for the coordinates, sizes alone make the factor out / in. */
static size_t factors(ps_tb *b, double *ret, size_t n) {
    static const char *const names[3][3] = { { "scales" },
                                             { "scales_h", "scales_w" },
                                             { "scales_d", "scales_h", "scales_w" } };
    const char *kind;
    size_t i, got = 0;
    const json_t *arg;
    json_array_foreach(b->inputs, i, arg) {
        const char *name = json_string_value(json_object_get(arg, "name"));
        if (!name || strcmp(name, "scale_factors") != 0) continue;
        const json_t *list = ps_json_union(json_object_get(arg, "arg"), &kind);
        if (!json_is_array(list) || json_array_size(list) != n) return 0;
        while (got < n && ps_json_double(json_array_get(list, got), &ret[got]))
            got++;
        return got == n ? n : 0;
    }
    while (got < n && ps_tb_known(b, names[n - 1][got], &ret[got]))
        got++;
    return got == n ? n : 0;
}

static ps_value *scales_vector(ps_tb *b, const double *f, size_t n) {
    float v[5] = { 1, 1 };
    int64_t dim = (int64_t)n + 2;
    for (size_t i = 0; i < n; i++)
        v[i + 2] = (float)f[i];
    return ps_tb_constant(b, PS_DTYPE_F32, &dim, 1, v);
}

static void upsample(ps_tb *b) {
    double f[3];
    ps_value *x = ps_tb_self(b);
    size_t n = strstr(b->op->name, "1d") ? 1 : strstr(b->op->name, "2d") ? 2 : 3;
    style s = style_of(b);
    bool scaled = factors(b, f, n) == n;
    ps_value *scales = NULL, *sizes = NULL;
    if (scaled && strcmp(s.coordinates, "align_corners") != 0) {
        scales = scales_vector(b, f, n);
    } else if (ps_tb_has(b, "output_size")) {
        ps_value *parts[3] = { ps_tb_extent(b, x, 0), ps_tb_extent(b, x, 1), ps_tb_dims(b, "output_size") };
        sizes = ps_tb_concat(b, parts, 3, 0);
    } else {
        scales = scaled ? scales_vector(b, f, n) : NULL;
        if (!scaled) PS_TB_FAIL(b, UNSUPPORTED, "%s: has neither a size nor known factors", b->label);
    }
    ps_value *r = PS_OP(b, "Resize", x, NULL, scales, sizes);
    ps_tb_set_text(b, "mode", s.mode);
    ps_tb_set_text(b, "coordinate_transformation_mode", s.coordinates);
    if (s.nearest) ps_tb_set_text(b, "nearest_mode", s.nearest);
    if (strcmp(s.mode, "cubic") == 0) ps_tb_set_float(b, "cubic_coeff_a", -0.75);
    if (strstr(b->op->name, "_aa")) ps_tb_set_int(b, "antialias", 1);
    ps_tb_out(b, 0, r);
}

static void grid_sample(ps_tb *b) {
    static const char *const modes[] = { "linear", "nearest", "cubic" }, *const paddings[] = { "zeros", "border",
                                                                                               "reflection" };
    int64_t mode = ps_tb_int(b, "interpolation_mode", 0), padding = ps_tb_int(b, "padding_mode", 0);
    if (mode < 0 || mode > 2 || padding < 0 || padding > 2) {
        PS_TB_FAIL(b, UNSUPPORTED, "%s: mode %lld with padding %lld is not known", b->label, (long long)mode,
                   (long long)padding);
        return;
    }
    ps_value *r = PS_OP(b, "GridSample", ps_tb_tensor(b, "input"), ps_tb_tensor(b, "grid"));
    ps_tb_set_text(b, "mode", modes[mode]);
    ps_tb_set_text(b, "padding_mode", paddings[padding]);
    ps_tb_set_int(b, "align_corners", ps_tb_bool(b, "align_corners", false));
    ps_tb_out(b, 0, r);
}

static const ps_torch_op ops[] = {
    { "upsample_nearest1d", upsample, NULL, 0 },        { "upsample_nearest2d", upsample, NULL, 0 },
    { "upsample_nearest3d", upsample, NULL, 0 },        { "_upsample_nearest_exact1d", upsample, NULL, 0 },
    { "_upsample_nearest_exact2d", upsample, NULL, 0 }, { "_upsample_nearest_exact3d", upsample, NULL, 0 },
    { "upsample_linear1d", upsample, NULL, 0 },         { "upsample_bilinear2d", upsample, NULL, 0 },
    { "upsample_trilinear3d", upsample, NULL, 0 },      { "upsample_bicubic2d", upsample, NULL, 0 },
    { "_upsample_bilinear2d_aa", upsample, NULL, 0 },   { "_upsample_bicubic2d_aa", upsample, NULL, 0 },
    { "grid_sampler", grid_sample, NULL, 0 },           { "grid_sampler_2d", grid_sample, NULL, 0 },
    { "grid_sampler_3d", grid_sample, NULL, 0 },
};

const ps_torch_family ps_torch_resize = PS_TORCH_FAMILY("resize", ops);
