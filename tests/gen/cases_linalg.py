"""Determinants: sizes 0 to 6, batches, singular matrices, pivots of zero."""
import numpy as np

TOLERANCE = {"Det": (1e-4, 1e-5, "the oracle eliminates in f32, ours in f64")}


def build(add):
    rng = np.random.default_rng(8)
    for n in (1, 2, 3, 6):
        add("Det", 11, [rng.uniform(-1, 1, (n, n)).astype(np.float32)])
    x = rng.uniform(-1, 1, (2, 3, 4, 4)).astype(np.float32)
    add("Det", 11, [x])
    add("Det", 22, [x.astype(np.float64)], tol=(1e-12, 1e-14), want=[np.linalg.det(x.astype(np.float64))])
    half = x.astype(np.float16)
    add("Det", 22, [half], name="f16", tol=(2e-3, 1e-3), want=[np.linalg.det(half.astype(np.float64)).astype(np.float16)])
    add("Det", 11, [np.array([[0, 1], [1, 0]], np.float32)], name="pivot")
    add("Det", 11, [np.array([[1, 2], [2, 4]], np.float32)], name="singular", want=[np.float32(0)])
    add("Det", 11, [np.zeros((2, 0, 0), np.float32)], name="empty", want=[np.ones(2, np.float32)])
    add("Det", 11, [np.zeros((0, 3, 3), np.float32)], name="none", want=[np.zeros(0, np.float32)])
    add.fails("SHAPE", "Det", 11, [x[..., :3]])
    add.fails("SHAPE", "Det", 11, [x[0, 0, 0]])
    add.fails("TYPE", "Det", 11, [x.astype(np.int32)])
