"""Resize and Upsample: modes x coordinate transformations x up, down and uneven sizes."""
import numpy as np

from ops_cases import C

TOLERANCE = {
    "Resize": (1e-5, 2e-5, "coordinates are f32 in both, but the oracle's weights and sums are f32 too and ours are f64"),
    "Upsample": (1e-5, 1e-5, "the oracle interpolates in f32"),
}
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
EMPTY = np.zeros(0, np.float32)


def image(shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def f32(*values):
    return C(np.array(values, np.float32))


def nearest(add):
    x = image((1, 1, 4, 5))
    for coordinates in COORDINATES + ["half_pixel_symmetric"]:
        # ONNX Runtime's f32 rounding moves an exact 2.0 of half_pixel_symmetric below 2
        version, oracle = (19, "reference") if coordinates == "half_pixel_symmetric" else (13, "ort")
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            for sizes in ([1, 1, 8, 10], [1, 1, 2, 3], [1, 1, 7, 3]):
                add("Resize", version, [x, None, None, C(sizes)], mode="nearest", nearest_mode=rounding,
                    coordinate_transformation_mode=coordinates, oracle=oracle)
    add("Resize", 11, [x, C(EMPTY), f32(1, 1, 2, 0.6)], mode="nearest")
    add("Resize", 11, [x, C(EMPTY), f32(1, 1, 2, 2)], mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn",
        nearest_mode="floor", oracle="reference", want=[np.repeat(np.repeat(x, 2, 2), 2, 3)])
    for dtype in (np.uint8, np.int8, np.int32, np.float16, np.float64):
        y = np.arange(6).reshape(1, 1, 2, 3).astype(dtype)
        add("Resize", 13, [y, None, f32(1, 1, 2, 2)], name="type", want=[np.repeat(np.repeat(y, 2, 2), 2, 3)],
            coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    add("Resize", 10, [x, f32(1, 1, 2, 2)], mode="nearest")
    add("Resize", 10, [x, f32(1, 1, 0.5, 0.6)], mode="nearest")
    add("Resize", 10, [x, f32(1, 1, 1.7, 2.3)], mode="nearest")
    add("Upsample", 9, [x, f32(1, 1, 2, 3)], mode="nearest")
    add("Upsample", 7, [x], mode="nearest", scales=[1.0, 1.0, 2.0, 1.5])


def linear(add):
    x = image((1, 2, 5, 4))
    for coordinates in COORDINATES:
        for sizes in ([1, 2, 9, 8], [1, 2, 2, 3], [1, 2, 1, 1], [1, 2, 5, 7]):
            add("Resize", 13, [x, None, None, C(sizes)], mode="linear", coordinate_transformation_mode=coordinates)
        # ONNX Runtime's align_corners rounds 4 * 0.7 down before it places the corners, the official cases do not
        oracle = "reference" if coordinates == "align_corners" else "ort"
        add("Resize", 11, [x, None, f32(1, 1, 1.6, 0.7)], mode="linear", coordinate_transformation_mode=coordinates,
            oracle=oracle)
    add("Resize", 19, [x, None, f32(1, 1, 2.3, 0.7)], mode="linear", coordinate_transformation_mode="half_pixel_symmetric")
    add("Resize", 10, [x, f32(1, 1, 2, 2)], mode="linear")
    add("Upsample", 9, [x, f32(1, 1, 2, 2)], mode="linear")
    add("Upsample", 7, [x], mode="linear", scales=[1.0, 1.0, 3.0, 2.0])
    add("Resize", 13, [image((3, 4)), None, None, C([5, 6])], mode="linear", name="2d")
    add("Resize", 13, [image((1, 1, 3, 4, 2)), None, f32(1, 1, 2, 1.5, 2)], mode="linear", name="3d")
    add("Resize", 13, [np.zeros((0, 1, 2, 2), np.float32), None, f32(1, 1, 2, 2)], mode="linear", name="empty",
        want=[np.zeros((0, 1, 4, 4), np.float32)])
    add("Resize", 13, [x.astype(np.float16), None, f32(1, 1, 2, 2)], mode="linear", name="f16", tol=(2e-3, 1e-3))


def cubic(add):
    x = image((1, 1, 6, 5))
    for coordinates in COORDINATES:
        for sizes in ([1, 1, 9, 8], [1, 1, 3, 4]):
            for exclude in (0, 1):
                add("Resize", 13, [x, None, None, C(sizes)], mode="cubic", coordinate_transformation_mode=coordinates,
                    exclude_outside=exclude)
    add("Resize", 13, [x, None, f32(1, 1, 1.5, 0.8)], mode="cubic", cubic_coeff_a=-0.5)


def antialias(add):
    x = image((1, 1, 8, 7))
    for mode in ("linear", "cubic"):
        for scales in ((1, 1, 0.5, 0.6), (1, 1, 0.3, 1.4), (1, 1, 2, 2)):
            add("Resize", 18, [x, None, f32(*scales)], mode=mode, antialias=1, oracle="reference")
        add("Resize", 18, [x, None, f32(1, 1, 0.4, 0.7)], mode="cubic", antialias=1, exclude_outside=1, oracle="reference")


def targets(add):
    x = image((1, 1, 4, 6))
    for policy in ("stretch", "not_larger", "not_smaller"):
        add("Resize", 18, [x, None, None, C([7, 8])], mode="linear", axes=[2, 3], keep_aspect_ratio_policy=policy,
            oracle="reference")
        add("Resize", 18, [x, None, None, C([3, 2])], mode="nearest", axes=[3, 2], keep_aspect_ratio_policy=policy,
            oracle="reference")
    add("Resize", 18, [x, None, f32(2, 0.5)], mode="cubic", axes=[3, 2], oracle="reference")
    add("Resize", 18, [x, None, f32(2, 0.5)], mode="linear", axes=[-1, -2])
    for mode in ("nearest", "linear", "cubic"):
        add("Resize", 13, [x, f32(0, 0, 0.4, 0.2, 1, 1, 0.8, 1.2), None, C([1, 1, 3, 5])], mode=mode, extrapolation_value=10.0,
            coordinate_transformation_mode="tf_crop_and_resize", oracle="reference")
    add("Resize", 11, [x, f32(0, 0, 0.1, 0.2, 1, 1, 0.6, 0.7), C(EMPTY), C([1, 1, 3, 3])], mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize")
    one = f32(1, 1, 1, 1)
    add("Resize", 13, [x, None, one], mode="linear", name="identity")
    add.fails("INVALID", "Resize", 13, [x, None, one, C([1, 1, 2, 2])])
    add.fails("INVALID", "Resize", 13, [x])
    add.fails("INVALID", "Resize", 13, [x, None, f32(1, 1, 0, 1)])
    add.fails("INVALID", "Resize", 13, [x, None, f32(1, 1, np.nan, 1)])
    add.fails("LIMIT", "Resize", 13, [x, None, f32(1, 1, 1e30, 1)])
    add.fails("SHAPE", "Resize", 13, [x, None, f32(1, 1)])
    add.fails("SHAPE", "Resize", 13, [np.zeros((1, 1, 0, 2), np.float32), None, None, C([1, 1, 2, 2])])
    add.fails("INVALID", "Resize", 13, [x, None, one], mode="spline")
    add.fails("INVALID", "Resize", 13, [x, None, one], coordinate_transformation_mode="elsewhere")
    add.fails("TYPE", "Resize", 13, [np.array([["a"]], dtype=object), None, f32(2, 2)], mode="linear")


def build(add):
    for group in (nearest, linear, cubic, antialias, targets):
        group(add)
