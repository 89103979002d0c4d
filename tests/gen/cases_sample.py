"""GridSample: all modes and paddings, positions inside, on the border and far outside; 2-d and 3-d. AffineGrid."""
import numpy as np

from ops_cases import C, make_model, oracle_outputs

TOLERANCE = {
    "AffineGrid": (1e-5, 1e-6, "the oracle places points in f32, ours in f64"),
    "GridSample": (1e-5, 2e-5, "the oracle interpolates in f32, ours in f64"),
}


def build(add):
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (2, 2, 4, 5)).astype(np.float32)
    grid = rng.uniform(-1.9, 1.9, (2, 3, 4, 2)).astype(np.float32)
    cube = rng.uniform(-1, 1, (1, 2, 3, 4, 3)).astype(np.float32)
    space = rng.uniform(-1.5, 1.5, (1, 2, 2, 3, 3)).astype(np.float32)
    for padding in ("zeros", "border", "reflection"):
        for align in (0, 1):
            for mode in ("bilinear", "nearest", "bicubic"):
                add("GridSample", 16, [x, grid], mode=mode, padding_mode=padding, align_corners=align)
            for mode in ("linear", "nearest"):
                add("GridSample", 20, [cube, space], mode=mode, padding_mode=padding, align_corners=align, name="3d")
    add("GridSample", 20, [x, grid], mode="cubic")
    add("GridSample", 20, [x.astype(np.float16), grid.astype(np.float16)], name="f16", tol=(2e-3, 1e-3))
    whole = rng.integers(-100, 100, (1, 2, 4, 5))
    for dtype in (np.int8, np.int32, np.int64, np.uint8):
        y = np.abs(whole).astype(dtype) if dtype == np.uint8 else whole.astype(dtype)
        for mode in ("nearest", "linear"):
            model, feeds = make_model("GridSample", 22, "", [y.astype(np.float64), grid[:1]], [True], {"mode": mode})
            want = np.trunc(oracle_outputs("reference", model, feeds)[0]).astype(dtype)  # integers truncate
            add("GridSample", 22, [y, grid[:1]], mode=mode, name=np.dtype(dtype).name, want=[want])
    add("GridSample", 22, [whole > 0, grid[:1]], mode="nearest", name="bool", oracle="reference")
    add("GridSample", 16, [x[:0], grid[:0]], name="empty", want=[np.zeros((0, 2, 3, 4), np.float32)])
    odd = np.array([[[[np.nan, 0], [np.inf, 0], [-1e30, 1e30]]]], np.float32)
    add("GridSample", 16, [x[:1], odd], name="far", want=[np.zeros((1, 2, 1, 3), np.float32)], padding_mode="zeros", mode="nearest")
    add.fails("SHAPE", "GridSample", 16, [x, grid[:1]])
    add.fails("SHAPE", "GridSample", 16, [x, grid[..., :1]])
    add.fails("SHAPE", "GridSample", 16, [x[:, :, :0], grid])
    add.fails("INVALID", "GridSample", 16, [x, grid], mode="spline")
    add.fails("INVALID", "GridSample", 16, [x, grid], padding_mode="wrap")
    add.fails("TYPE", "GridSample", 16, [x, grid.astype(np.int32)])
    for align in (0, 1):
        for n, size in ((2, [2, 3, 4, 5]), (2, [1, 1, 1, 3]), (3, [2, 1, 2, 3, 4]), (3, [1, 1, 1, 1, 2])):
            theta = rng.uniform(-1, 1, (size[0], n, n + 1)).astype(np.float32)
            add("AffineGrid", 20, [theta, C(size)], align_corners=align, oracle="reference")
    theta = rng.uniform(-1, 1, (2, 2, 3)).astype(np.float32)
    add("AffineGrid", 20, [theta.astype(np.float64), C([2, 3, 2, 3])], oracle="reference", dtypes=["f64"])
    add("AffineGrid", 20, [theta, C([2, 3, 0, 3])], name="empty", want=[np.zeros((2, 0, 3, 2), np.float32)])
    add.fails("SHAPE", "AffineGrid", 20, [theta, C([2, 3, 2])])
    add.fails("SHAPE", "AffineGrid", 20, [theta, C([3, 3, 2, 2])])
    add.fails("SHAPE", "AffineGrid", 20, [theta, C([2, 3, 2, 2, 2])])
    add.fails("SHAPE", "AffineGrid", 20, [theta, C([2, 3, -2, 2])])
    add.fails("LIMIT", "AffineGrid", 20, [theta, C([2, 3, 2**40, 2**40])])
    add.fails("TYPE", "AffineGrid", 20, [theta.astype(np.int32), C([2, 3, 2, 2])])
