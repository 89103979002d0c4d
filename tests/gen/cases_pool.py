"""Pools: ceil_mode, padding counted or not, dilations, Indices in both orders, global pools, empty extents, hostile attributes."""
import numpy as np

from ops_cases import BF16

ORDER = "the oracle adds in f32"
TOLERANCE = {op: (1e-5, 1e-6, ORDER) for op in ("AveragePool", "LpPool", "GlobalAveragePool", "GlobalLpPool")}


def floats(rng, shape, dtype=np.float32):
    return np.asarray(rng.uniform(-4, 4, shape)).astype(dtype)


WINDOWS = [
    ((1, 2, 7), dict(kernel_shape=[3], strides=[2], pads=[1, 1])),
    ((2, 2, 6, 5), dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1])),
    ((1, 1, 7, 8), dict(kernel_shape=[2, 3], strides=[3, 3], ceil_mode=1)),
    ((1, 1, 5, 5), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)),
    ((1, 1, 4, 6), dict(kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1)),
    ((1, 1, 4, 5, 4), dict(kernel_shape=[2, 3, 2], strides=[2, 2, 1], pads=[0, 1, 0, 1, 1, 1])),
]
AUTO = [(shape, mode, stride) for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for shape, stride in (((1, 1, 6, 7), 2), ((1, 1, 5, 4), 3))]


def max_pool(add, rng):
    for shape, attrs in WINDOWS:
        for n_out in (1, 2):
            add("MaxPool", 12, [floats(rng, shape)], n_out=n_out, name="window", **attrs)
    for shape, mode, stride in AUTO:
        add("MaxPool", 12, [floats(rng, shape)], n_out=2, kernel_shape=[3, 2], strides=[stride, stride], auto_pad=mode, name=mode)
    add("MaxPool", 12, [floats(rng, (2, 2, 5, 6))], n_out=2, kernel_shape=[2, 3], storage_order=1, name="column-major")
    add("MaxPool", 12, [floats(rng, (1, 2, 9, 8))], n_out=2, kernel_shape=[3, 2], dilations=[2, 3], strides=[2, 1], name="dilated")
    add("MaxPool", 12, [floats(rng, (1, 2, 9))], kernel_shape=[3], dilations=[2], pads=[2, 2], ceil_mode=1, strides=[2],
        name="dilated")
    x = np.zeros((1, 1, 4, 4), np.float32)
    add("MaxPool", 12, [x], n_out=2, kernel_shape=[2, 2], name="ties")
    for dtype in (np.int8, np.uint8):
        add("MaxPool", 12, [rng.integers(0, 100, (1, 2, 4, 4)).astype(dtype)], kernel_shape=[3, 3], strides=[1, 1],
            pads=[1, 1, 1, 1], name="type")
    for dtype in (np.float64, np.float16, BF16):
        add("MaxPool", 12, [floats(rng, (1, 2, 4, 5), dtype)], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="type")
    add("MaxPool", 1, [floats(rng, (1, 2, 4, 5))], kernel_shape=[3, 3], name="old")


def average_pool(add, rng):
    for shape, attrs in WINDOWS:
        for include in (0, 1):
            add("AveragePool", 19, [floats(rng, shape)], count_include_pad=include, name="window", **attrs)
    for shape, mode, stride in AUTO:
        for include in (0, 1):
            add("AveragePool", 19, [floats(rng, shape)], kernel_shape=[3, 2], strides=[stride, stride], auto_pad=mode,
                count_include_pad=include, name=mode)
    for include in (0, 1):
        add("AveragePool", 19, [floats(rng, (1, 2, 9, 8))], kernel_shape=[3, 2], dilations=[2, 3], strides=[2, 1],
            pads=[1, 2, 1, 2], count_include_pad=include, name="dilated")
    for dtype in (np.float64, np.float16, BF16):
        add("AveragePool", 11, [floats(rng, (1, 2, 4, 5), dtype)], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="type")
    add("LpPool", 18, [floats(rng, (1, 2, 5, 6))], kernel_shape=[2, 3], name="lp")
    add("LpPool", 18, [floats(rng, (1, 2, 5, 6))], kernel_shape=[2, 3], p=1, strides=[2, 1], pads=[1, 1, 0, 0], name="lp")
    add("LpPool", 18, [floats(rng, (1, 2, 5))], kernel_shape=[2], p=3, name="lp")


def global_pools(add, rng):
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        for shape in ((2, 3, 4, 5), (1, 2, 7), (1, 2, 2, 3, 4)):
            add(op, 2 if op == "GlobalLpPool" else 1, [floats(rng, shape)])
    for dtype in (np.float64, np.float16, BF16):
        add("GlobalAveragePool", 1, [floats(rng, (1, 2, 4, 5), dtype)], name="type")
    add("GlobalLpPool", 2, [floats(rng, (1, 2, 4))], p=3, name="p")


def edges(add, rng):
    add("MaxPool", 12, [np.zeros((0, 2, 4), np.float32)], kernel_shape=[2], want=[np.zeros((0, 2, 3), np.float32)], name="empty")
    add("GlobalAveragePool", 1, [np.zeros((0, 2, 4), np.float32)], want=[np.zeros((0, 2, 1), np.float32)], name="empty")
    # the huge window sees the whole input; its extent must not be walked
    x = floats(rng, (1, 1, 3))
    add("MaxPool", 12, [x], kernel_shape=[2**39], pads=[2**39, 2**39 - 4], strides=[2**38], name="huge",
        want=[np.array([[[-np.inf, x.max()]]], np.float32)])
    add("MaxPool", 12, [x], kernel_shape=[1], strides=[2**40], want=[x[:, :, :1]], name="huge")
    x = floats(rng, (1, 2, 5, 5))
    for attrs in ({"strides": [0, 1]}, {"strides": [1]}, {"kernel_shape": [0, 1]}, {"kernel_shape": [6, 1]}, {"kernel_shape": [3]},
                  {"pads": [1, 1]}, {"dilations": [0, 1]}, {"pads": [-9, 0, 0, 0]}, {"kernel_shape": [2**62, 2**62]}):
        add.fails("SHAPE", "MaxPool", 12, [x], **{"kernel_shape": [2, 2], **attrs})
    add.fails("SHAPE", "MaxPool", 12, [floats(rng, (4, 4))], kernel_shape=[2])
    add.fails("FORMAT", "AveragePool", 19, [x])
    add.fails("FORMAT", "AveragePool", 19, [x], kernel_shape=[2, 2], auto_pad="same")
    add.fails("TYPE", "AveragePool", 19, [x.astype(np.int8)], kernel_shape=[2, 2])
    add.fails("TYPE", "MaxPool", 12, [x.astype(np.int32)], kernel_shape=[2, 2])
    add.fails("INVALID", "LpPool", 18, [x], kernel_shape=[2, 2], p=0)
    add.fails("SHAPE", "GlobalMaxPool", 1, [floats(rng, (4,))])


def build(add):
    rng = np.random.default_rng(12)
    max_pool(add, rng)
    average_pool(add, rng)
    global_pools(add, rng)
    edges(add, rng)
