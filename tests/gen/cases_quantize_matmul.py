"""MatMulInteger, QLinearMatMul, and of com.microsoft QGemm, DynamicQuantizeMatMul, MatMulIntegerToFloat, MatMulInteger16."""
import numpy as np

MS = "com.microsoft"
ORDER = "the oracle scales and adds the bias in one fused step, the kernel in two; the sums are equal integers"
TOLERANCE = {op: (1e-5, 1e-5, ORDER) for op in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")}
U8, I8, F32 = np.uint8, np.int8, np.float32
SHAPES = [((2, 3), (3, 4)), ((3, 4), (4,)), ((3,), (3, 4)), ((2, 3, 4), (4, 2)), ((2, 1, 3, 4), (3, 4, 2)), ((1, 70), (70, 5))]


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, shape, endpoint=True)).astype(dtype)


def few(rng, shape, dtype):
    """i8 weights below 64: ONNX Runtime's kernels for u8 x i8 saturate sums of two products at 16 bits on some CPUs."""
    return np.asarray(rng.integers(-63, 63, shape, endpoint=True)).astype(dtype) if dtype is I8 else codes(rng, shape, dtype)


def real(rng, shape, lo=0.01, hi=0.1):
    return np.asarray(rng.uniform(lo, hi, shape)).astype(F32)


def per_column(b):
    """Shape of one parameter for each column: a list for a matrix, [..., 1, N] for a batch of them."""
    return b[-1:] if len(b) == 2 else b[:-2] + (1, b[-1])


def integer(add, rng):
    for a, b in SHAPES:
        add("MatMulInteger", 10, [codes(rng, a, U8), few(rng, b, I8)], name="plain")
        add("MatMulInteger", 10, [codes(rng, a, U8), codes(rng, b, U8), U8(7), U8(200)], name="zero")
    for ta, tb in ((U8, I8), (I8, I8), (U8, U8)):
        add("MatMulInteger", 10, [codes(rng, (5, 9), ta), few(rng, (9, 6), tb), ta(3), few(rng, 6, tb)], name="columns")
    a, b = codes(rng, (2, 4, 5), I8), codes(rng, (2, 5, 3), U8)
    za, zb = codes(rng, (2, 4, 1), I8), codes(rng, (2, 1, 3), U8)
    wide = [t.astype(np.int32) for t in (a, b, za, zb)]
    # rows and N-d zero points are in the specification, but in neither oracle: numpy
    add("MatMulInteger", 10, [a, b, za, zb], want=[np.matmul(wide[0] - wide[2], wide[1] - wide[3])], name="nd-zero")
    rows = codes(rng, 4, I8)
    add("MatMulInteger", 10, [a[0], b[0], rows], want=[(wide[0][0] - rows[:, None].astype(np.int32)) @ wide[1][0]], name="rows")
    add("MatMulInteger", 10, [np.zeros((0, 3), U8), codes(rng, (3, 2), I8)], want=[np.zeros((0, 2), np.int32)], name="empty")
    add("MatMulInteger", 10, [np.zeros((2, 0), U8), np.zeros((0, 3), I8)], want=[np.zeros((2, 3), np.int32)], name="empty")
    big = np.full((1, 70000), 255, U8)  # 70000 x 255 x 255 wraps modulo 2^32
    sum32 = np.array([[70000 * 255 * 255 & 0xFFFFFFFF]], np.uint32).astype(np.int32)
    add("MatMulInteger", 10, [big, big.T], want=[sum32], name="wraps")
    add.fails("TYPE", "MatMulInteger", 10, [np.ones((2, 2), np.int16), np.ones((2, 2), U8)])
    add.fails("TYPE", "MatMulInteger", 10, [np.ones((2, 2), U8), np.ones((2, 2), U8), I8(0)])
    add.fails("SHAPE", "MatMulInteger", 10, [np.ones((2, 2), U8), np.ones((3, 2), U8)])
    add.fails("SHAPE", "MatMulInteger", 10, [np.ones((2, 2), U8), np.ones((2, 2), U8), np.ones(3, U8)])
    add.fails("SHAPE", "MatMulInteger", 10, [np.ones((2, 2), U8), np.ones((2, 2), U8), U8(0), np.ones(3, U8)])
    for shape_a, shape_b in SHAPES[:4]:
        x, y = (np.asarray(rng.integers(-3000, 3000, s)).astype(np.int16) for s in (shape_a, shape_b))
        add("MatMulInteger16", 1, [x, y], domain=MS)
    u = np.full((1, 2), 65535, np.uint16)
    wrapped = np.array([[2 * 65535 * 65535 & 0xFFFFFFFF]], np.uint32)
    add("MatMulInteger16", 1, [u, u.T], want=[wrapped], domain=MS, name="u16")  # no kernel in ONNX Runtime


def qlinear(add, rng):
    for ta, tb, ty in ((U8, I8, U8), (U8, U8, U8), (I8, I8, I8)):
        for a, b in SHAPES:
            k = a[-1]
            y_scale = F32(0.03 * 0.05 * 128 * 40 * np.sqrt(k) / 60)
            add("QLinearMatMul", 10, [codes(rng, a, ta), F32(0.03), ta(11), few(rng, b, tb), F32(0.05), tb(5), y_scale, ty(100)])
        add("QLinearMatMul", 10, [codes(rng, (4, 9), ta), F32(0.03), ta(11), few(rng, (9, 5), tb), real(rng, 5), few(rng, 5, tb),
                                  F32(0.2), ty(90)], name="columns")
    a, b = codes(rng, (4, 9), U8), codes(rng, (9, 5), U8)
    sa, sb, sy = real(rng, 4), real(rng, 5), np.float32(0.6)
    za, zb = codes(rng, 4, U8), codes(rng, 5, U8)
    acc = (a.astype(np.int64) - za[:, None]) @ (b.astype(np.int64) - zb.astype(np.int64))
    scale = sa[:, None] * sb / sy
    # one scale for each row: in the specification, not in ONNX Runtime
    want = np.clip(np.rint(acc.astype(F32) * scale) + 128, 0, 255).astype(U8)
    add("QLinearMatMul", 10, [a, sa, za, b, sb, zb, sy, U8(128)], want=[want], name="rows")
    add.fails("TYPE", "QLinearMatMul", 10, [a, F32(1), U8(0), b.astype(np.int16), F32(1), np.int16(0), F32(1), U8(0)])
    add.fails("SHAPE", "QLinearMatMul", 10, [a, np.ones(3, F32), U8(0), b, F32(1), U8(0), F32(1), U8(0)])
    add.fails("SHAPE", "QLinearMatMul", 10, [a, F32(1), U8(0), b, F32(1), np.ones(4, U8), F32(1), U8(0)])


def to_float(add, rng):
    for ta, tb in ((U8, I8), (U8, U8), (I8, I8)):
        for a, b in SHAPES[:1] + SHAPES[3:]:
            n = b[-1]
            ins, each = [codes(rng, a, ta), few(rng, b, tb), F32(0.03)], per_column(b)
            add("MatMulIntegerToFloat", 1, ins + [F32(0.05)], domain=MS)
            rest = [real(rng, each), ta(9), few(rng, each, tb), real(rng, n, -3, 3)]
            add("MatMulIntegerToFloat", 1, ins + rest, domain=MS, name="all")
            add("MatMulIntegerToFloat", 1, ins + [F32(0.05), None, tb(4)], domain=MS, name="b-zero")
    add.fails("SHAPE", "MatMulIntegerToFloat", 1, [np.ones((2, 3), U8), np.ones((3, 4), I8), np.ones(2, F32), F32(1)], domain=MS)
    add.fails("SHAPE", "MatMulIntegerToFloat", 1, [np.ones((2, 3), U8), np.ones((3, 4), I8), F32(1), np.ones(3, F32)], domain=MS)
    add.fails("TYPE", "MatMulIntegerToFloat", 1, [np.ones((2, 3), F32), np.ones((3, 4), I8), F32(1), F32(1)], domain=MS)


def dynamic(add, rng):
    for tb in (U8, I8):
        for a, b in SHAPES[:1] + SHAPES[3:]:
            x, each, bias = rng.uniform(-2, 3, a).astype(F32), per_column(b), real(rng, b[-1], -3, 3)
            add("DynamicQuantizeMatMul", 1, [x, few(rng, b, tb), F32(0.05)], domain=MS)
            add("DynamicQuantizeMatMul", 1, [x, few(rng, b, tb), real(rng, each), few(rng, each, tb), bias], domain=MS, name="all")
    add.fails("TYPE", "DynamicQuantizeMatMul", 1, [np.ones((2, 3)), np.ones((3, 4), I8), np.float64(1)], domain=MS)


def qgemm(add, rng):
    for ta, tb in ((U8, I8), (U8, U8), (I8, I8)):
        for trans_a in (0, 1):
            for trans_b in (0, 1):
                a = codes(rng, (5, 2) if trans_a else (2, 5), ta)
                b = few(rng, (3, 5) if trans_b else (5, 3), tb)
                ins = [a, F32(0.03), ta(9), b]
                attrs = dict(domain=MS, transA=trans_a, transB=trans_b)
                c = rng.integers(-2000, 2000, 3).astype(np.int32)
                add("QGemm", 1, ins + [F32(0.05), tb(3)], name="float", **attrs)
                add("QGemm", 1, ins + [real(rng, 3), few(rng, 3, tb), c, F32(0.4), ta(50)], name="all", tol=(0, 0), **attrs)
                add("QGemm", 1, ins + [F32(0.05), tb(3), c], name="c", alpha=1.5, **attrs)
                add("QGemm", 1, ins + [F32(0.05), tb(3), None, F32(0.3), ta(60)], name="no-c", tol=(0, 0), **attrs)
    a, b = np.ones((2, 3), U8), np.ones((3, 4), U8)
    for shape in ((1, 4), (2, 1), (2, 4), ()):
        c = np.asarray(rng.integers(-50, 50, shape)).astype(np.int32)
        add("QGemm", 1, [a, F32(0.5), U8(0), b, F32(0.5), U8(0), c], domain=MS, name="c-shape")
    add.fails("SHAPE", "QGemm", 1, [a, F32(0.5), U8(0), b, F32(0.5), U8(0), np.ones(3, np.int32)], domain=MS)
    add.fails("SHAPE", "QGemm", 1, [a, F32(0.5), U8(0), b.T, F32(0.5), U8(0)], domain=MS)
    add.fails("INVALID", "QGemm", 1, [a, F32(0.5), U8(0), b, F32(0.5), U8(0), None, F32(1)], domain=MS)


def build(add):
    rng = np.random.default_rng(61)
    integer(add, rng)
    qlinear(add, rng)
    to_float(add, rng)
    dynamic(add, rng)
    qgemm(add, rng)
