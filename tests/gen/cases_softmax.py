"""Softmax, LogSoftmax, Hardmax: flattened at the axis before 13, along the axis since."""
import numpy as np

from ops_cases import BF16

LIBM = "exp and log of the platform against the oracle's vector approximations, sums in f32"
TOLERANCE = {op: (5e-6, 1e-6, LIBM) for op in ("Softmax", "LogSoftmax")}


def floats(rng, shape, dtype=np.float32):
    return np.asarray(rng.uniform(-6, 6, shape)).astype(dtype)


def half_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def build(add):
    rng = np.random.default_rng(15)
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for version in (1, 11, 13):
            x = floats(rng, (2, 3, 4))
            add(op, version, [x], name="default")
            for axis in (0, 1, 2) if version == 1 else (0, 1, 2, -1, -2, -3):
                add(op, version, [x], axis=axis)
        for dtype in (np.float64, np.float16, BF16):
            x = floats(rng, (2, 5), dtype)
            # numpy rounds f16 at each step, as the nodes of ONNX's function body do; the oracle widens to f32
            want = [half_softmax(x)] if op == "Softmax" and dtype == np.float16 else None
            add(op, 13, [x], name="type", want=want)
        add(op, 13, [np.array([[1000.0, 999.0, -1000.0], [3.0, 3.0, 3.0]], np.float32)], name="large")
        for shape in ((0, 3), (3, 0), (0,)):
            add(op, 13, [np.zeros(shape, np.float32)], axis=0, want=[np.zeros(shape, np.float32)], name="empty")
            add(op, 11, [np.zeros(shape, np.float32)], axis=0, want=[np.zeros(shape, np.float32)], name="empty")
        one = np.array(0.0 if op == "LogSoftmax" else 1.0, np.float32)
        add(op, 13, [np.array(5.0, np.float32)], want=[one], name="scalar")
        add(op, 11, [np.array(5.0, np.float32)], want=[one], name="scalar")
        add.fails("SHAPE", op, 13, [floats(rng, (2, 3))], axis=2)
        add.fails("SHAPE", op, 13, [floats(rng, (2, 3))], axis=-3)
        add.fails("SHAPE", op, 11, [floats(rng, (2, 3))], axis=3)
        add.fails("TYPE", op, 13, [np.zeros((2, 3), np.int32)])
