"""Of com.microsoft: QLinearAdd, QLinearMul, QLinearWhere, QLinearLeakyRelu, QLinearSigmoid, QLinearSoftmax, QLinearConcat."""
import numpy as np

MS = "com.microsoft"
TOLERANCE = {"QLinearSoftmax": (0, 1, "one step: the oracle sums exponentials in fixed point from a table"),
             "QLinearSigmoid": (0, 1, "one step: the oracle's sigmoid is a rational approximation")}
U8, I8, F32 = np.uint8, np.int8, np.float32


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, shape, endpoint=True)).astype(dtype)


PAIRS = [((3, 4), (3, 4)), ((2, 3, 40), (40,)), ((2, 1, 5), (3, 1)), ((), (3,)), ((1, 70), (2, 1))]


def binary(add, rng):
    for t in (U8, I8):
        for a, b in PAIRS:
            ins = [codes(rng, a, t), F32(0.05), t(12), codes(rng, b, t), F32(0.031), t(100)]
            add("QLinearAdd", 1, ins + [F32(0.06), t(60)], domain=MS)
            add("QLinearMul", 1, ins + [F32(0.11), t(60)], domain=MS)
        for ratio_a, ratio_b in ((0.5, 1.5), (0.5, 0.5), (1, 0.25), (0.75, 0.5)):  # many results are ties
            scale = F32(rng.uniform(0.01, 0.1))
            ins = [codes(rng, (20, 50), t), F32(scale * F32(ratio_a)), t(101), codes(rng, 50, t)]
            add("QLinearAdd", 1, ins + [F32(scale * F32(ratio_b)), t(7), scale, t(90)], domain=MS, name="ties")
            add("QLinearMul", 1, ins + [F32(ratio_b), t(7), scale, t(90)], domain=MS, name="ties")
        x, y = codes(rng, (4, 9), t), codes(rng, (4, 9), t)
        for op in ("QLinearAdd", "QLinearMul"):
            ins = [x, F32(0.02), t(0), y, F32(0.04), t(0), F32(0.09)]
            add(op, 1, ins, domain=MS, name="no-zero")
            # the specification lets any zero point be left out, ONNX Runtime's type rule only the last
            want = x.astype(float) * 0.02 + y * 0.04 if op == "QLinearAdd" else x.astype(float) * y * 0.02 * 0.04
            want = np.clip(np.rint(want / 0.09), np.iinfo(t).min, np.iinfo(t).max).astype(t)
            add(op, 1, [x, F32(0.02), None, y, F32(0.04), None, F32(0.09)], want=[want], domain=MS, name="no-zeros")
        ins = [x[:0], F32(0.02), t(1), y[:0], F32(0.04), t(1), F32(0.09), t(3)]
        add("QLinearAdd", 1, ins, want=[x[:0]], domain=MS, name="empty")
    x = np.ones((2, 3), U8)
    add.fails("SHAPE", "QLinearAdd", 1, [x, F32(1), U8(0), np.ones((2, 2), U8), F32(1), U8(0), F32(1)], domain=MS)
    add.fails("SHAPE", "QLinearAdd", 1, [x, np.ones(3, F32), U8(0), x, F32(1), U8(0), F32(1)], domain=MS)
    add.fails("TYPE", "QLinearAdd", 1, [x, F32(1), U8(0), x.astype(I8), F32(1), I8(0), F32(1)], domain=MS)
    add.fails("TYPE", "QLinearMul", 1, [x, np.float64(1), U8(0), x, F32(1), U8(0), F32(1)], domain=MS)
    add.fails("TYPE", "QLinearMul", 1, [x.astype(F32), F32(1), F32(0), x.astype(F32), F32(1), F32(0), F32(1)], domain=MS)


def where(add, rng):
    for t in (U8, I8):
        for c, x, y in (((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), (2, 3, 4)), ((40,), (2, 40), ()), ((2, 1), (1, 3), (2, 3))):
            ins = [rng.random(c) < 0.5, codes(rng, x, t), F32(0.05), t(12), codes(rng, y, t), F32(0.03), t(90), F32(0.04), t(70)]
            add("QLinearWhere", 1, ins, domain=MS)
    add.fails("TYPE", "QLinearWhere", 1, [np.ones(2, U8)] + [np.ones(2, U8), F32(1), U8(0)] * 2 + [F32(1), U8(0)], domain=MS)


def unary(add, rng):
    for t in (U8, I8):
        every = np.arange(256).astype(U8).view(t).reshape(4, 64)
        for scale, zero in ((0.05, 100), (0.003, 0)):
            add("QLinearLeakyRelu", 1, [every, F32(scale), t(zero), F32(0.04), t(30)], domain=MS, alpha=0.2)
            add("QLinearSigmoid", 1, [every, F32(scale), t(zero), F32(1 / 256), t(0 if t is U8 else -128)], domain=MS)
        # without zero points ONNX Runtime reads beyond its list of inputs
        want = np.clip(np.rint(np.where(every.astype(float) < 0, 0.01, 1) * every * 0.02 / 0.01), np.iinfo(t).min, np.iinfo(t).max)
        ins = [every, F32(0.02), None, F32(0.01)]
        add("QLinearLeakyRelu", 1, ins, want=[want.astype(t)], domain=MS, name="no-zero", tol=(0, 1))
    add.fails("SHAPE", "QLinearSigmoid", 1, [every, np.ones(2, F32), I8(0), F32(1), I8(0)], domain=MS)
    add.fails("TYPE", "QLinearLeakyRelu", 1, [every, F32(1), U8(0), F32(1), I8(0)], domain=MS)


def softmax(add, rng):
    for t in (U8, I8):
        for shape, attrs in (((3, 10), {}), ((2, 3, 4), {"axis": 1}), ((2, 3, 4), {"axis": 0}), ((4, 100), {"axis": -1})):
            for opset in (12, 13):
                ins = [codes(rng, shape, t), F32(0.03), t(100), F32(1 / 256), t(0 if t is U8 else -128)]
                add("QLinearSoftmax", 1, ins, domain=MS, name="flat" if opset < 13 else "axis", opset=opset, **attrs)
    add.fails("SHAPE", "QLinearSoftmax", 1, [np.ones((2, 3), U8), F32(1), U8(0), F32(1), U8(0)], domain=MS, axis=2, opset=13)
    add.fails("INVALID", "QLinearSoftmax", 1, [np.ones((2, 3), U8), F32(1), U8(0), F32(1), U8(0)], domain=MS, opset=0)


def concat(add, rng):
    for t in (U8, I8):
        for axis, shapes in ((0, [(2, 3), (4, 3)]), (1, [(2, 3, 2), (2, 1, 2), (2, 5, 2)]), (-1, [(2, 300), (2, 7)]), (0, [(3,)])):
            parts = [v for k, s in enumerate(shapes) for v in (codes(rng, s, t), F32(0.02 + 0.01 * k), t(7 + 30 * k))]
            add("QLinearConcat", 1, [F32(0.03), t(37)] + parts, domain=MS, axis=axis)
    x = np.ones((2, 3), U8)
    add.fails("SHAPE", "QLinearConcat", 1, [F32(1), U8(0), x, F32(1), U8(0), np.ones((3, 3), U8), F32(1), U8(0)], domain=MS, axis=1)
    add.fails("SHAPE", "QLinearConcat", 1, [F32(1), U8(0), x, F32(1), U8(0)], domain=MS, axis=2)
    add.fails("FORMAT", "QLinearConcat", 1, [F32(1), U8(0), x, F32(1), U8(0), x], domain=MS, axis=0)
    add.fails("TYPE", "QLinearConcat", 1, [F32(1), U8(0), x.astype(I8), F32(1), I8(0)], domain=MS, axis=0)


def build(add):
    rng = np.random.default_rng(63)
    binary(add, rng)
    where(add, rng)
    unary(add, rng)
    softmax(add, rng)
    concat(add, rng)
