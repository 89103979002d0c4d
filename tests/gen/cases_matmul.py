"""MatMul (numpy broadcasting, vectors, integers) and Gemm (transposes, C of every shape, integers)."""
import numpy as np

from ops_cases import BF16

ORDER = "the oracle adds in f32 and in another order; the kernel in double"
TOLERANCE = {"MatMul": (1e-5, 1e-5, ORDER), "Gemm": (1e-5, 1e-5, ORDER)}

SHAPES = [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3, 4), (4, 2)), ((2, 3, 4), (2, 4, 5)),
          ((1, 3, 4), (5, 4, 2)), ((2, 1, 3, 4), (3, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)),
          ((1, 2, 1, 2, 3), (3, 1, 2, 3, 2))]
EMPTY = [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 2)), ((0,), (0,)), ((0, 2, 3), (1, 3, 2))]


def floats(rng, shape, dtype=np.float32):
    return np.asarray(rng.uniform(-2, 2, shape)).astype(dtype)


def matmul(add, rng):
    for a, b in SHAPES:
        add("MatMul", 13, [floats(rng, a), floats(rng, b)])
    for a, b in EMPTY:
        x, y = floats(rng, a), floats(rng, b)
        add("MatMul", 13, [x, y], want=[np.matmul(x, y)], name="empty")
    for dtype in (np.float64, np.float16, BF16):
        add("MatMul", 13, [floats(rng, (3, 5), dtype), floats(rng, (5, 2), dtype)], name="type",
            tol=(1e-13, 1e-14) if dtype is np.float64 else None)
    for dtype in (np.int32, np.int64, np.uint32, np.uint64):
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (2, 3, 4), dtype=dtype, endpoint=True)
        y = rng.integers(info.min, info.max, (4, 2), dtype=dtype, endpoint=True)
        with np.errstate(over="ignore"):  # integers wrap
            add("MatMul", 13, [x, y], want=[np.matmul(x, y)], name="type")
    add.fails("SHAPE", "MatMul", 13, [floats(rng, (2, 3)), floats(rng, (2, 3))])
    add.fails("SHAPE", "MatMul", 13, [floats(rng, ()), floats(rng, (2, 3))])
    add.fails("SHAPE", "MatMul", 13, [floats(rng, (2, 2, 3)), floats(rng, (3, 3, 4))])
    add.fails("SHAPE", "MatMul", 13, [floats(rng, (3,)), floats(rng, (4,))])
    add.fails("TYPE", "MatMul", 13, [floats(rng, (2, 3)), floats(rng, (3, 2), np.float64)])
    add.fails("TYPE", "MatMul", 13, [np.ones((2, 2), bool), np.ones((2, 2), bool)])


def gemm(add, rng):
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            a, b = floats(rng, (4, 2) if trans_a else (2, 4)), floats(rng, (3, 4) if trans_b else (4, 3))
            for c in ((2, 3), (3,), (1, 3), (2, 1), (), (1,), (1, 1)):
                add("Gemm", 13, [a, b, floats(rng, c)], transA=trans_a, transB=trans_b, alpha=0.5, beta=1.5)
            add("Gemm", 13, [a, b], transA=trans_a, transB=trans_b, name="no-c")
    for version in (7, 9, 11):
        add("Gemm", version, [floats(rng, (2, 3)), floats(rng, (3, 2)), floats(rng, (2,))], name="old")
    for dtype in (np.float64, np.float16, BF16):
        add("Gemm", 13, [floats(rng, (3, 5), dtype), floats(rng, (2, 5), dtype), floats(rng, (2,), dtype)], transB=1, name="type",
            tol=(1e-13, 1e-14) if dtype is np.float64 else None)
    for dtype in (np.int32, np.int64, np.uint32, np.uint64):
        x, y, z = (rng.integers(0, 100, s).astype(dtype) for s in ((2, 3), (4, 3), (4,)))
        add("Gemm", 13, [x, y, z], want=[x @ y.T + z], transB=1, name="type")
        add("Gemm", 13, [x, y, z], want=[2 * (x @ y.T) + 3 * z], transB=1, alpha=2.0, beta=3.0, name="type")
    x = floats(rng, (2, 0))
    add("Gemm", 13, [x, floats(rng, (0, 3)), np.ones(3, np.float32)], want=[np.ones((2, 3), np.float32)], name="empty")
    add("Gemm", 13, [floats(rng, (0, 2)), floats(rng, (2, 3))], want=[np.zeros((0, 3), np.float32)], name="empty")
    add.fails("SHAPE", "Gemm", 13, [floats(rng, (2, 3)), floats(rng, (2, 3))])
    add.fails("SHAPE", "Gemm", 13, [floats(rng, (2, 3, 1)), floats(rng, (3, 2))])
    for c in ((3,), (2, 2, 2), (3, 1), (4, 2)):
        add.fails("SHAPE", "Gemm", 13, [floats(rng, (2, 3)), floats(rng, (3, 2)), floats(rng, c)])
    add.fails("SHAPE", "Gemm", 13, [floats(rng, (1, 3)), floats(rng, (3, 2)), floats(rng, (4, 2))])
    add.fails("FORMAT", "Gemm", 7, [floats(rng, (1, 3)), floats(rng, (3, 2))])


def build(add):
    rng = np.random.default_rng(14)
    matmul(add, rng)
    gemm(add, rng)
