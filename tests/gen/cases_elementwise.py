"""Elementwise arithmetic: broadcasting, every number type, zero sizes, rank 0, NaN and infinities, integer traps."""
import math

import numpy as np

from ops_cases import BF16

LIBM = "libm of the platform against the oracle's vector approximations"
TOLERANCE = {
    "Exp": (2e-6, 0.0, LIBM),
    "Erf": (2e-6, 1e-6, LIBM),
    "Tan": (4e-6, 1e-6, LIBM),
    "Pow": (2e-6, 0.0, LIBM),
    "Log": (2e-6, 1e-6, LIBM),
    "Sin": (1e-6, 1e-6, LIBM),
    "Cos": (1e-6, 1e-6, LIBM),
    "Asinh": (2e-6, 1e-6, LIBM),
    "Acosh": (2e-6, 1e-6, LIBM),
    "Atanh": (2e-6, 1e-6, LIBM),
    "Sinh": (2e-6, 1e-6, LIBM),
    "Cosh": (2e-6, 1e-6, LIBM),
}

FLOATS = [np.float32, np.float64, np.float16, BF16]
INTS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
EDGE = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e30, -1e-30], np.float32)
SHAPES = [((2, 3), (2, 3)), ((2, 3, 4), (3, 1)), ((3, 1), (2, 1, 4)), ((), (2, 2)), ((4,), ()), ((), ()), ((0, 3), (1, 3)),
          ((2, 1, 3, 1), (1, 4, 1, 2)), ((1, 1), (5,)), ((2, 0), (2, 1))]


def floats(rng, shape, dtype=np.float32, low=-3.0, high=3.0):
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def ints(rng, shape, dtype):
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(max(info.min, -100), min(info.max, 100), shape, endpoint=True)).astype(dtype)


def binary(add, rng):
    for op in ("Add", "Sub", "Mul", "Div"):
        for a, b in SHAPES:
            add(op, 14, [floats(rng, a), floats(rng, b)], name="broadcast")
        for t in FLOATS:
            add(op, 14, [floats(rng, (3, 5), t), floats(rng, (5,), t)], name="type")
        add(op, 14, [np.repeat(EDGE, len(EDGE)), np.tile(EDGE, len(EDGE))], name="edge")
        for t in INTS:
            x, y = ints(rng, (2, 6), t), ints(rng, (6,), t)
            y[y == 0] = 3
            # numpy wraps and truncates as C does; the reference evaluator's Div floors
            z = {"Add": x + y, "Sub": x - y, "Mul": x * y, "Div": np.trunc(x.astype(np.longdouble) / y).astype(t)}[op]
            add(op, 14, [x, y], want=[z.astype(t)], name="type")
    low = np.array([np.iinfo(np.int32).min, 7, -7, 0], np.int32)
    # by the engine's rule: division by zero gives 0, the overflowing quotient wraps
    add("Div", 14, [low, np.array([-1, 0, 0, 0], np.int32)], want=[np.array([low[0], 0, 0, 0], np.int32)], name="trap")
    add("Div", 14, [np.array([5, 9], np.uint8), np.array([0, 2], np.uint8)], want=[np.array([0, 4], np.uint8)], name="trap")
    low64 = np.array([np.iinfo(np.int64).min], np.int64)
    add("Div", 14, [low64, np.array([-1], np.int64)], want=[low64], name="trap")


def legacy(add, rng):
    # before opset 7 the second operand is aligned at `axis`; numpy with trailing ones says the same
    x, y = floats(rng, (2, 3, 4)), floats(rng, (3,))
    for op, f in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)):
        add(op, 6, [x, y], want=[f(x, y[:, None])], axis=1, broadcast=1, name="axis")
        add(op, 6, [x, y[:1].reshape(())], want=[f(x, y[0])], broadcast=1, name="scalar")
        add(op, 6, [x, x], want=[f(x, x)], name="same")
    add.fails("SHAPE", "Add", 6, [x, y], axis=2, broadcast=1)


def power(add, rng):
    base = floats(rng, (2, 3), low=0.1, high=4.0)
    for exponent in (2.0, 0.5, -1.0, 3.0, 0.0, 1.7):
        add("Pow", 15, [base, np.float32(exponent)])
    add("Pow", 15, [np.repeat(EDGE, len(EDGE)), np.tile(EDGE, len(EDGE))], name="edge")
    i = np.array([-3, -2, -1, 0, 1, 2, 3], np.int64)
    add("Pow", 15, [floats(rng, (7,)), i], name="mixed")
    add("Pow", 15, [i, np.int64(3)], name="ints")
    add("Pow", 15, [i.astype(np.int32), np.float32(2.0)], name="mixed")
    add("Pow", 15, [np.array([3, -3], np.int64), np.array([39, 39], np.int32)], want=[np.array([3**39, -(3**39)])], name="exact")
    # negative powers of integers: 1/x truncated, and 0 for the undefined 0**-1
    add("Pow", 15, [np.array([-1, 1, 2, 0], np.int64), np.array([-3, -3, -1, -1], np.int64)], want=[np.array([-1, 1, 0, 0])],
        name="negative")
    add("Pow", 15, [floats(rng, (3,), np.float64), np.array([2, 3, 4], np.float32)], name="mixed")
    add("Pow", 15, [floats(rng, (2, 2), np.float16, 0.5, 2.0), np.float16(2.5)], name="type")
    add("Pow", 13, [floats(rng, (0, 3)), np.float32(2)], name="empty")


def variadic(add, rng):
    for op in ("Max", "Min", "Sum", "Mean"):
        add(op, 13, [floats(rng, (2, 3))], name="one")
        add(op, 13, [floats(rng, (2, 3)), floats(rng, (3,))], name="two")
        add(op, 13, [floats(rng, (3,)), floats(rng, (2, 1)), floats(rng, ()), floats(rng, (4, 1, 1))], name="four")
        add(op, 13, [floats(rng, (3,), np.float16), floats(rng, (3,), np.float16)], name="type")
        add(op, 13, [floats(rng, (0, 3)), floats(rng, (3,))], name="empty")
        add(op, 6, [floats(rng, (3,)), floats(rng, (3,))], name="old")
        add.fails("SHAPE", op, 13, [floats(rng, (3,)), floats(rng, (4,))])
        add.fails("TYPE", op, 13, [floats(rng, (3,)), floats(rng, (3,), np.float64)])
    for op, f in (("Max", np.maximum), ("Min", np.minimum)):
        x, y = np.repeat(EDGE, len(EDGE)), np.tile(EDGE, len(EDGE))
        add(op, 13, [x, y], want=[f(x, y)], name="edge")
        for t in INTS:
            x, y = ints(rng, (4,), t), ints(rng, (2, 1), t)
            add(op, 13, [x, y], want=[f(x, y)], name="type")


def modulo(add, rng):
    for t in INTS:
        x, y = ints(rng, (12,), t), ints(rng, (12,), t)
        y[y == 0] = 7
        add("Mod", 13, [x, y], want=[np.mod(x, y)], name="floor")
        add("Mod", 13, [x, y], want=[np.fmod(x, y)], fmod=1, name="fmod")
    add("Mod", 13, [floats(rng, (3, 4)), floats(rng, (4,))], fmod=1)
    add("Mod", 13, [floats(rng, (4,), np.float16), floats(rng, (4,), np.float16)], fmod=1, tol=(2e-3, 2e-3))
    x = np.array([np.iinfo(np.int64).min, 5, -5], np.int64)
    add("Mod", 13, [x, np.array([-1, 0, 0], np.int64)], want=[np.zeros(3, np.int64)], name="trap")
    x, y = np.repeat(EDGE, len(EDGE)), np.tile(EDGE, len(EDGE))
    with np.errstate(all="ignore"):
        # 1e30 by 1e-30 and the like: the quotient has no digits left, and numpy rounds it in f32
        usable = ~((np.abs(x) > 1e20) & (np.abs(y) < 1)) & ~((np.abs(x) < 1e-20) & (x != 0) | (np.abs(y) < 1e-20) & (y != 0))
        add("Mod", 28, [x[usable], y[usable]], want=[np.mod(x, y)[usable]], name="edge")
    add("Mod", 28, [floats(rng, (9,), np.float64), floats(rng, (9,), np.float64)], oracle="reference", name="floor")


def unary(add, rng):
    signed = ("Neg", "Abs", "Sign")
    for op in ("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos",
        "Tan", "Asin",
               "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"):
        version = {"Round": 11, "Sign": 13, "Erf": 13}.get(op, 13)
        low, high = {"Sqrt": (0, 9), "Log": (0.01, 9), "Asin": (-1, 1), "Acos": (-1, 1), "Atanh": (-0.99, 0.99), "Acosh": (1,
            9)}.get(op, (-4, 4))
        add(op, version, [floats(rng, (3, 7), low=low, high=high)])
        for t in FLOATS[1:]:
            x = floats(rng, (5,), t, low, high)
            # the oracles have Erf in single precision only
            want = [np.array([math.erf(v) for v in x])] if op == "Erf" and t == np.float64 else None
            tol = {np.float64: (1e-12, 1e-15), np.float16: (2e-3, 1e-3), BF16: (1e-2, 1e-3)}[t]
            add(op, version, [x], want=want, name="type", tol=tol)
        add(op, version, [floats(rng, ())+np.float32(1.5)] if op == "Acosh" else [np.float32(0.25).reshape(())], name="scalar")
        add(op, version, [np.zeros((2, 0), np.float32)], name="empty")
        if op not in ("Tan", "Sin", "Cos", "Sinh", "Cosh"):
            with np.errstate(all="ignore"):
                add(op, version, [EDGE[:10]], name="edge", oracle="reference")
        if op in signed:
            for t in (INTS if op != "Neg" else INTS[:4]):
                x = ints(rng, (9,), t)
                add(op, version, [x], want=[{"Neg": np.negative, "Abs": np.abs, "Sign": np.sign}[op](x)], name="type")
        if op not in signed:
            add.fails("TYPE", op, version, [np.zeros(3, np.int32)])
    lowest = np.array([np.iinfo(np.int32).min], np.int32)
    add("Neg", 13, [lowest], want=[lowest], name="wraps")
    add("Abs", 13, [lowest], want=[lowest], name="wraps")
    add("Round", 11, [np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.4999999, 3.7], np.float32)], name="even")


def build(add):
    rng = np.random.default_rng(1)
    binary(add, rng)
    legacy(add, rng)
    power(add, rng)
    variadic(add, rng)
    modulo(add, rng)
    unary(add, rng)
    add.fails("SHAPE", "Add", 14, [np.zeros((2, 3), np.float32), np.zeros((2,), np.float32)])
    add.fails("TYPE", "Add", 14, [np.zeros(3, np.float32), np.zeros(3, np.int32)])
    add.fails("TYPE", "Add", 14, [np.zeros(3, bool), np.zeros(3, bool)])
