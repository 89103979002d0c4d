"""Comparisons, booleans, bits, Where: numpy is the oracle where it says the same as the specification."""
import ml_dtypes
import numpy as np

from cases_elementwise import EDGE, FLOATS, INTS, SHAPES, floats, ints
from ops_cases import BF16

COMPARE = {"Equal": (np.equal, 13), "Less": (np.less, 13), "Greater": (np.greater, 13), "LessOrEqual": (np.less_equal, 16),
           "GreaterOrEqual": (np.greater_equal, 16)}
BOOLEAN = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
BITS = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}


def bools(rng, shape):
    return np.asarray(rng.integers(0, 2, shape)).astype(bool)


def where(add, rng):
    for a, b in SHAPES:
        c = bools(rng, a)
        x, y = floats(rng, b), floats(rng, a)
        add("Where", 16, [c, x, y], want=[np.where(c, x, y)], name="broadcast")
    c = np.array([True, False, True])
    for t in FLOATS + INTS:
        x, y = np.array([1, 2, 3]).astype(t), np.array([4, 5, 6]).astype(t)
        add("Where", 16, [c, x, y], want=[np.where(c, x, y)], name="type")
    add("Where", 16, [c, c, ~c], want=[np.where(c, c, ~c)], name="type")
    x, y = np.array(["a", "b c", ""], object), np.array(["x"], object)
    add("Where", 16, [c, x, y], want=[np.array(["a", "x", ""], object)], name="string")
    add.fails("TYPE", "Where", 16, [c, np.zeros(3, np.float32), np.zeros(3, np.int32)])
    add.fails("TYPE", "Where", 16, [np.zeros(3, np.int32), np.zeros(3, np.float32), np.zeros(3, np.float32)])
    add.fails("SHAPE", "Where", 16, [c, np.zeros(2, np.float32), np.zeros(3, np.float32)])


def build(add):
    rng = np.random.default_rng(3)
    for op, (f, version) in COMPARE.items():
        for a, b in SHAPES:
            x, y = np.round(floats(rng, a)), np.round(floats(rng, b))
            add(op, version, [x, y], want=[f(x, y)], name="broadcast")
        for t in FLOATS[1:] + INTS:
            x, y = np.array([1, 2, 3, 4]).astype(t), np.array([1, 3, 2, 4]).astype(t)
            add(op, version, [x, y], want=[f(x, y)], name="type")
        x, y = np.repeat(EDGE, len(EDGE)), np.tile(EDGE, len(EDGE))
        add(op, version, [x, y], want=[f(x, y)], name="edge")
        add.fails("TYPE", op, version, [np.zeros(3, np.float32), np.zeros(3, np.int32)])
    big = np.array([2**63 + 1, 2**53 + 1], np.uint64)
    add("Less", 13, [big, big - np.uint64(1)], want=[np.array([False, False])], name="exact")
    x = floats(rng, (2, 3))
    add("Less", 6, [x, x[:, 0]], want=[x < x[:, :1]], broadcast=1, axis=0, name="axis")
    t = np.array([True, False])
    add("Equal", 13, [t, np.array([True, True])], want=[t], name="type")
    add("Equal", 19, [np.array(["a", "b"], object), np.array(["a", "c"], object)], want=[t], name="string")
    for op, f in BOOLEAN.items():
        for a, b in SHAPES:
            x, y = bools(rng, a), bools(rng, b)
            add(op, 7, [x, y], want=[f(x, y)], name="broadcast")
        add.fails("TYPE", op, 7, [np.zeros(3, np.uint8), np.zeros(3, np.uint8)])
    for shape in ((2, 3), (), (0,)):
        x = bools(rng, shape)
        add("Not", 1, [x], want=[np.logical_not(x)])
    for op, f in BITS.items():
        for t in INTS:
            x, y = ints(rng, (2, 3), t), ints(rng, (3,), t)
            add(op, 18, [x, y], want=[f(x, y)], name="type")
        add.fails("TYPE", op, 18, [np.zeros(3, np.float32), np.zeros(3, np.float32)])
    for t in INTS:
        x = ints(rng, (5,), t)
        add("BitwiseNot", 18, [x], want=[~x], name="type")
    for t in INTS[4:]:
        x, y = np.array([1, 2, 129, 255]).astype(t), np.array([0, 1, 3, 7]).astype(t)
        add("BitShift", 11, [x, y], want=[x << y], direction="LEFT", name="type")
        add("BitShift", 11, [x, y], want=[x >> y], direction="RIGHT", name="type")
    wide = np.array([8, 200], np.uint8)
    add("BitShift", 11, [np.array([255, 255], np.uint8), wide], want=[np.zeros(2, np.uint8)], direction="LEFT", name="wide")
    x, y = np.array([-8, 4, -1, 5, -128], np.int8), np.array([1, 2, 8, -1, 100], np.int8)  # by the text of BitShift-28
    add("BitShift", 28, [x, y], want=[np.array([-16, 16, 0, 0, 0], np.int8)], direction="LEFT", name="signed")
    add("BitShift", 28, [x, y], want=[np.array([-4, 1, -1, 0, -1], np.int8)], direction="RIGHT", name="signed")
    add.fails("FORMAT", "BitShift", 11, [wide, wide], direction="UP")
    for t in FLOATS:
        x = EDGE[:9].astype(t)
        wide = x.astype(np.float64)
        add("IsNaN", 13, [x], want=[np.isnan(wide)], name="type")
        add("IsInf", 20, [x], want=[np.isinf(wide)], name="type")
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz):
        x = np.arange(256, dtype=np.uint8).view(dtype)  # all values that there are
        wide = x.astype(np.float32)
        add("IsNaN", 20, [x], want=[np.isnan(wide)], name="f8")
        add("IsInf", 20, [x], want=[np.isinf(wide)], name="f8")
        add("IsInf", 20, [x], want=[np.isneginf(wide)], detect_positive=0, name="f8")
        add("IsInf", 20, [x], want=[np.isposinf(wide)], detect_negative=0)
        add("IsInf", 20, [x], want=[np.isneginf(wide)], detect_positive=0)
    add("IsNaN", 13, [np.zeros((0, 2), np.float32)], want=[np.zeros((0, 2), bool)], name="empty")
    where(add, rng)
