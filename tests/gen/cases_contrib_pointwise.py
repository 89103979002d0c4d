"""Activations of com.microsoft with something added before or multiplied after."""
import math

import numpy as np

MS = "com.microsoft"
ERF = "erf and tanh are polynomials in the oracle's f32"
TOLERANCE = {op: (1e-5, 2e-6, ERF) for op in ("BiasGelu", "FastGelu", "BiasSplitGelu", "BiasSoftmax")}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-3, 3, shape)).astype(dtype)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x.astype(np.float64) / np.sqrt(2)))


def build(add):
    rng = np.random.default_rng(54)
    x, b = floats(rng, 2, 3, 8), floats(rng, 8)
    add("BiasGelu", 1, [x, b], domain=MS)
    add("FastGelu", 1, [x], domain=MS)
    add("FastGelu", 1, [x, b], domain=MS)
    add("FastGelu", 1, [floats(rng, 2, 8, dtype=np.float16), floats(rng, 8, dtype=np.float16)], domain=MS, name="f16",
        tol=(2e-3, 1e-3))
    add("BiasGelu", 1, [np.zeros((0, 8), np.float32), b], domain=MS, name="empty", want=[np.zeros((0, 8), np.float32)])
    add.fails("SHAPE", "BiasGelu", 1, [x, floats(rng, 3)], domain=MS)
    add.fails("SHAPE", "BiasGelu", 1, [b, x], domain=MS)
    add.fails("TYPE", "FastGelu", 1, [x.astype(np.int32)], domain=MS)
    # by the formula: the oracle has these on other devices only
    s = floats(rng, 2, 3, 8)
    add("BiasAdd", 1, [x, b, s], domain=MS, want=[x + b + s])
    y = x + b
    add("BiasSplitGelu", 1, [x, b], domain=MS, want=[(y[..., :4] * gelu(y[..., 4:])).astype(np.float32)])
    add.fails("SHAPE", "BiasSplitGelu", 1, [floats(rng, 2, 3, 7), floats(rng, 7)], domain=MS)
    add("BiasDropout", 1, [x, b, s], domain=MS, want=[x + b + s])
    add("BiasDropout", 1, [x, b, None, np.array(0.5, np.float32)], n_out=2, domain=MS, want=[x + b, np.ones(x.shape, bool)])
    for axis, bias in ((2, floats(rng, 2, 1, 8)), (1, floats(rng, 1, 3, 8)), (2, floats(rng, 8))):
        e = np.exp((x + bias).astype(np.float64).reshape(*x.shape[:axis], -1))
        add("BiasSoftmax", 1, [x, bias], domain=MS, axis=axis, is_inner_broadcast=0,
            want=[(e / e.sum(-1, keepdims=True)).reshape(x.shape).astype(np.float32)])
    add.fails("SHAPE", "BiasSoftmax", 1, [x, floats(rng, 3, 1, 8)], domain=MS, axis=2, is_inner_broadcast=0)
    add.fails("SHAPE", "BiasSoftmax", 1, [x, b], domain=MS, axis=3, is_inner_broadcast=0)
