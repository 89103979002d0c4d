"""Normalisations of com.microsoft, and LayerNormalization forms that ONNX Runtime puts into the default domain."""
import numpy as np

from ops_cases import BF16

MS = "com.microsoft"
ORDER = "the oracle adds in f32 and takes reciprocal square roots its own way"
TOLERANCE = {op: (2e-5, 4e-6, ORDER) for op in (
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization", "LayerNormalization",
    "SimplifiedLayerNormalization", "GroupNorm", "SkipGroupNorm")}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-2, 2, shape)).astype(dtype)


def skip(add, rng):
    x, s, g, b, bias = floats(rng, 2, 3, 8), floats(rng, 2, 3, 8), floats(rng, 8), floats(rng, 8), floats(rng, 8)
    op = "SkipLayerNormalization"
    add(op, 1, [x, s, g, b], domain=MS, epsilon=1e-5)
    add(op, 1, [x, s, g], domain=MS, epsilon=1e-2, name="no-beta")
    add(op, 1, [x, s, g, b, bias], n_out=[True, False, False, True], domain=MS, name="bias")
    add(op, 1, [x, s, g, None, bias], domain=MS, name="bias")
    add(op, 1, [x, floats(rng, 1, 3, 8), g, b], domain=MS, name="broadcast")
    add(op, 1, [x, floats(rng, 3, 8), g, b], domain=MS, name="broadcast")
    add(op, 1, [floats(rng, 4, 8), floats(rng, 4, 8), g, b], domain=MS, name="2d")
    add(op, 1, [floats(rng, 2, 3, 8, dtype=np.float16), floats(rng, 2, 3, 8, dtype=np.float16)] +
        [floats(rng, 8, dtype=np.float16) for _ in range(3)], domain=MS, name="f16", tol=(2e-3, 2e-3))
    # mean and inverse deviation are not written by the oracle's CPU kernel
    total = x.astype(np.float64) + s
    mean, dev = total.mean(-1, keepdims=True), np.sqrt(total.var(-1, keepdims=True) + 1e-5)
    add(op, 1, [x, s, g, b], n_out=3, domain=MS, epsilon=1e-5, name="statistics",
        want=[((total - mean) / dev * g + b).astype(np.float32), mean.astype(np.float32), (1 / dev).astype(np.float32)])
    empty = np.zeros((0, 3, 8), np.float32)
    add(op, 1, [empty, empty, g, b], domain=MS, name="empty", want=[empty])
    add.fails("SHAPE", op, 1, [x, floats(rng, 2, 2, 8), g, b], domain=MS)
    add.fails("SHAPE", op, 1, [x, s, floats(rng, 4), b], domain=MS)
    add.fails("SHAPE", op, 1, [floats(rng, 8), floats(rng, 8), g, b], domain=MS)
    add.fails("TYPE", op, 1, [x, s.astype(np.float64), g, b], domain=MS)
    op = "SkipSimplifiedLayerNormalization"
    add(op, 1, [x, s, g], domain=MS, epsilon=1e-5)
    add(op, 1, [x, s, g, bias], n_out=[True, False, False, True], domain=MS, name="bias")
    add(op, 1, [floats(rng, 2, 3, 8, dtype=BF16), floats(rng, 2, 3, 8, dtype=BF16), floats(rng, 8, dtype=BF16)], domain=MS,
        name="bf16", tol=(1e-2, 1e-2))


def layer(add, rng):
    x = floats(rng, 2, 3, 4)
    for axis in (-1, 1):
        g, b = floats(rng, *x.shape[axis:]), floats(rng, *x.shape[axis:])
        # registered in the default domain; the oracle's opset 21 of it has the operator of ONNX
        y = x.astype(np.float64)
        axes = tuple(range(axis % 3, 3))
        centred = y - y.mean(axes, keepdims=True)
        dev = np.sqrt((centred ** 2).mean(axes, keepdims=True) + 1e-3)
        add("LayerNormalization", 1, [x, g, b], axis=axis, epsilon=1e-3, want=[(centred / dev * g + b).astype(np.float32)])
        add("SimplifiedLayerNormalization", 14, [x, g], n_out=1, axis=axis, epsilon=1e-3)
    add("SimplifiedLayerNormalization", 14, [x, floats(rng, 4)], n_out=2, name="statistics")


def embed(add, rng):
    op = "EmbedLayerNormalization"
    ids = np.array([[1, 3, 0], [2, 2, 4]], np.int32)
    segments = np.array([[0, 0, 1], [1, 0, 0]], np.int32)
    words, places, kinds, g, b = floats(rng, 5, 8), floats(rng, 4, 8), floats(rng, 2, 8), floats(rng, 8), floats(rng, 8)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    add(op, 1, [ids, segments, words, places, kinds, g, b], n_out=2, domain=MS)
    add(op, 1, [ids, segments, words, places, kinds, g, b, mask], n_out=3, domain=MS, epsilon=1e-5, name="mask")
    add(op, 1, [ids, None, words, places, None, g, b, mask], n_out=2, domain=MS, name="no-segments")
    for positions in ([[3, 1, 0], [0, 2, 1]], [[3, 1, 0]]):
        add(op, 1, [ids, segments, words, places, kinds, g, b, None, np.array(positions, np.int32)], n_out=2, domain=MS,
            name="positions")
    add.fails("SHAPE", op, 1, [ids, segments, words, floats(rng, 4, 6), kinds, g, b], n_out=2, domain=MS)
    add.fails("TYPE", op, 1, [ids.astype(np.int64), segments, words, places, kinds, g, b], n_out=2, domain=MS)
    add.fails("INVALID", op, 1, [ids, segments, words, places, None, g, b], n_out=2, domain=MS)


def group(add, rng):
    """By the formula: the oracle has these two on other devices only."""
    def norm(x, g, b, groups, silu, eps=1e-5):  # x: NCHW
        s = x.reshape(x.shape[0], groups, -1).astype(np.float64)
        s = ((s - s.mean(-1, keepdims=True)) / np.sqrt(s.var(-1, keepdims=True) + eps)).reshape(x.shape)
        y = s * g.reshape(1, -1, 1, 1) + b.reshape(1, -1, 1, 1)
        return (y / (1 + np.exp(-y)) if silu else y).astype(np.float32)
    g, b, bias = floats(rng, 4), floats(rng, 4), floats(rng, 4)
    for last in (0, 1):
        for groups, silu in ((2, 0), (1, 1), (4, 1)):
            x = floats(rng, 2, 4, 3, 2)

            def order(t, last=last):
                return np.ascontiguousarray(t.transpose(0, 2, 3, 1)) if last else t
            add("GroupNorm", 1, [order(x), g, b], domain=MS, groups=groups, activation=silu, channels_last=last,
                want=[order(norm(x, g, b, groups, silu))])
            s = floats(rng, 2, 4, 3, 2)
            total = x + s + bias.reshape(1, 4, 1, 1)
            add("SkipGroupNorm", 1, [order(x), g, b, order(s), bias], n_out=2, domain=MS, groups=groups, activation=silu,
                channels_last=last, want=[order(norm(total, g, b, groups, silu)), order(total)])
    x, s = floats(rng, 2, 3, 2, 4), floats(rng, 2, 4)
    total = (x + s[:, None, None]).transpose(0, 3, 1, 2)
    want = norm(total, g, b, 2, 0).transpose(0, 2, 3, 1)
    for skipped in (s, s[:, None, None]):
        add("SkipGroupNorm", 1, [x, g, b, skipped], domain=MS, groups=2, activation=0, want=[want], name="vector")
    add.fails("SHAPE", "GroupNorm", 1, [x, g, b], domain=MS, groups=3, activation=0)
    add.fails("SHAPE", "GroupNorm", 1, [x, floats(rng, 3), b], domain=MS, groups=2, activation=0)
    add.fails("INVALID", "GroupNorm", 1, [x, g, b], domain=MS, groups=2, activation=2)


def build(add):
    rng = np.random.default_rng(51)
    skip(add, rng)
    layer(add, rng)
    embed(add, rng)
    group(add, rng)
