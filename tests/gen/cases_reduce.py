"""Reductions: axes as attribute and as input, keepdims, empty axes, zero sizes, overflow of exp; ArgMax, ArgMin, Cum*."""
import numpy as np

from cases_elementwise import FLOATS, floats, ints
from ops_cases import BF16, C

REDUCE = {"ReduceSum": 13, "ReduceMean": 18, "ReduceProd": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceL1": 18, "ReduceL2": 18,
          "ReduceSumSquare": 18, "ReduceLogSum": 18, "ReduceLogSumExp": 18}
ORDER = "the oracle adds f32 in another order; here the sum is in double"
TOLERANCE = {op: (4e-6, 1e-6, ORDER) for op in list(REDUCE) + ["CumSum", "CumProd"]}
LAYOUTS = [((2, 3, 4), [1]), ((2, 3, 4), [0]), ((2, 3, 4), [-1]), ((2, 3, 4), [0, 2]), ((2, 3, 4), [1, 2]), ((2, 3, 4, 5), [1, 3]),
           ((2, 3, 4, 5), [2, 3]), ((2, 3, 4, 5), [0, 1]), ((3,), [0]), ((1, 1, 4), [0, 1]), ((2, 1, 3), [1]), ((600,), [0]),
               ((3, 300), [0])]


def reductions(add, rng):
    for op, since in REDUCE.items():
        low = 0.2 if op == "ReduceLogSum" else -2.0
        for shape, axes in LAYOUTS:
            if op == "ReduceProd" and shape == (600,):
                continue
            x = floats(rng, shape, low=low, high=2.0)
            if max(shape) < 100 or op in ("ReduceSum", "ReduceMax"):
                add(op, since, [x, C(axes)], keepdims=int(rng.integers(0, 2)))
                if len(axes) == 1 and max(shape) < 100:
                    add(op, 11, [x], axes=axes, keepdims=int(rng.integers(0, 2)))
        x = floats(rng, (2, 3), low=low, high=2.0)
        add(op, 11, [x], name="all")
        add(op, since, [x], name="all", keepdims=0)
        add(op, since, [x, C(np.zeros(0, np.int64))], name="all")
        # no reduction, but the steps before and after it are done: the wording of the specification since ONNX 1.18
        step = {"ReduceL1": np.abs, "ReduceL2": np.abs, "ReduceSumSquare": np.square, "ReduceLogSum": np.log}.get(op, lambda v: v)
        add(op, since, [x, C(np.zeros(0, np.int64))], want=[step(x)], noop_with_empty_axes=1, name="noop")
        with np.errstate(all="ignore"):
            scalar = {"ReduceSumSquare": 2.25, "ReduceLogSum": np.log(1.5)}.get(op, 1.5)
        add(op, since, [np.float32(1.5)], want=[np.float32(scalar)], name="scalar")
        for t in FLOATS[1:]:
            tol = {np.float64: (1e-12, 1e-15), np.float16: (2e-3, 1e-3), BF16: (1e-2, 1e-2)}[t]
            x = floats(rng, (3, 5), t, low, 2.0)
            add(op, since, [x, C([1])], name="type", tol=tol)
        neutral = {"ReduceProd": 1, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceMean": np.nan, "ReduceLogSum": -np.inf,
                   "ReduceLogSumExp": -np.inf}.get(op, 0)
        add(op, since, [np.zeros((2, 0, 3), np.float32), C([1])], want=[np.full((2, 1, 3), neutral, np.float32)], name="nothing")
        add(op, since, [np.zeros((0, 3), np.float32), C([1])], want=[np.zeros((0, 1), np.float32)], name="empty")
        add.fails("SHAPE", op, since, [x, C([2])])
        add.fails("SHAPE", op, since, [x, C([0, 0])])
    for t in (np.int32, np.int64, np.int8, np.uint8):
        x = ints(rng, (3, 4), t)
        add("ReduceMax", 18, [x, C([1])], want=[x.max(1, keepdims=True)], name="type")
        add("ReduceMin", 18, [x, C([0])], want=[x.min(0, keepdims=True)], name="type")
        small = np.abs(x) % 5
        small = small.astype(t)
        add("ReduceSum", 13, [small, C([1])], want=[small.sum(1, keepdims=True, dtype=t)], name="type")
        add("ReduceProd", 18, [small[:, :2], C([1])], want=[small[:, :2].prod(1, keepdims=True, dtype=t)], name="type")
        add("ReduceL1", 18, [small, C([0])], want=[small.sum(0, keepdims=True, dtype=t)], name="type")
        add("ReduceSumSquare", 18, [small, C([0])], want=[(small * small).sum(0, keepdims=True, dtype=t)], name="type")
        info = np.iinfo(t)
        add("ReduceMax", 18, [np.zeros((0, 2), t), C([0])], want=[np.full((1, 2), info.min, t)], name="nothing")
        add("ReduceMin", 18, [np.zeros((0, 2), t), C([0])], want=[np.full((1, 2), info.max, t)], name="nothing")
    add("ReduceMean", 18, [np.array([[7, -2, 4]], np.int32), C([1])], want=[np.array([[3]], np.int32)], name="type")
    add("ReduceSum", 13, [np.array([2**62, 2**62, 1], np.int64), C([0])], want=[np.array([-(2**63) + 1])], name="exact")
    add("ReduceMax", 20, [np.array([[True, False], [False, False]]), C([1])], want=[np.array([[True], [False]])], name="type")
    add("ReduceLogSumExp", 18, [np.array([1000, 1000, -1000], np.float32), C([0])], want=[np.array([1000 + np.log(2)],
        np.float32)], name="far")
    add("ReduceLogSumExp", 18, [np.array([[np.inf, 1], [-np.inf, -np.inf], [np.nan, 1]], np.float32), C([1])],
        want=[np.array([[np.inf], [-np.inf], [np.nan]], np.float32)], name="edge")
    nans = np.array([[1, np.nan, 2], [3, 4, 5]], np.float32)
    add("ReduceMax", 18, [nans, C([1])], want=[np.array([[np.nan], [5]], np.float32)], name="edge")
    add("ReduceMin", 18, [nans, C([0])], want=[np.array([[1, np.nan, 2]], np.float32)], name="edge")


def arguments(add, rng):
    for op, f in (("ArgMax", np.argmax), ("ArgMin", np.argmin)):
        for shape, axis in (((2, 3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), -1), ((5,), 0), ((1, 600), 1), ((2, 7, 300), 1)):
            x = np.round(floats(rng, shape))
            for keep in (0, 1):
                add(op, 13, [x], axis=axis, keepdims=keep)
        x = np.round(floats(rng, (3, 6)))
        add(op, 13, [x], axis=1, select_last_index=1, name="last")
        add(op, 13, [x.astype(np.int32)], axis=0, name="type")
        add(op, 13, [np.array([2**63, 2**63 + 1, 0], np.uint64)], want=[np.array([1 if op == "ArgMax" else 2])], name="exact")
        add(op, 13, [np.array([1, np.nan, 3, np.nan], np.float32)], want=[np.array([1])], name="edge")
        add(op, 13, [x.astype(np.float16)], want=[f(x, 1)[:, None]], axis=1, name="type")
        add(op, 13, [np.zeros((0, 3), np.float32)], want=[np.zeros((0, 1), np.int64)], axis=1, name="empty")
        add.fails("SHAPE", op, 13, [x], axis=2)


def cumulative(add, rng):
    for shape, axis in (((4,), 0), ((2, 3, 4), 1), ((2, 3, 4), -1), ((3, 300), 0)):
        for reverse in (0, 1):
            for exclusive in (0, 1):
                if max(shape) < 100 or (not reverse and not exclusive):
                    add("CumSum", 14, [floats(rng, shape), C(np.array(axis))], reverse=reverse, exclusive=exclusive)
    add("CumSum", 14, [ints(rng, (5,), np.int32), C(np.array(0, np.int32))], name="type")
    add("CumSum", 14, [np.zeros((0, 2), np.float32), C(np.array(0))], want=[np.zeros((0, 2), np.float32)], name="empty")
    add("CumSum", 14, [floats(rng, (5,), np.float64), C(np.array([0]))], name="type")
    add.fails("SHAPE", "CumSum", 14, [floats(rng, (5,)), C(np.array(1))])
    x = floats(rng, (2, 3, 4), low=-2.0, high=2.0)
    for axis in (0, 1, 2, -1):
        for reverse in (0, 1):
            for exclusive in (0, 1):
                add("CumProd", 26, [x, C(np.array(axis))], reverse=reverse, exclusive=exclusive, oracle="reference")
    for dtype in (np.int32, np.int64, np.uint32, np.uint64, np.float64):
        whole = np.arange(1, 31).astype(dtype)  # the product wraps
        add("CumProd", 26, [whole, C(np.array(0, np.int32))], name=np.dtype(dtype).name, want=[np.cumprod(whole, dtype=dtype)])
    for dtype in (np.float16, BF16):
        half = np.array([1.5, 0.5, -3, 0.1]).astype(dtype)
        add("CumProd", 26, [half, C(np.array(0))], name="half", want=[np.cumprod(half.astype(np.float64)).astype(dtype)])
    add("CumProd", 26, [np.zeros((0, 2), np.float32), C(np.array(0))], want=[np.zeros((0, 2), np.float32)], name="empty")
    add.fails("SHAPE", "CumProd", 26, [x, C(np.array(3))])


def build(add):
    rng = np.random.default_rng(4)
    reductions(add, rng)
    arguments(add, rng)
    cumulative(add, rng)
