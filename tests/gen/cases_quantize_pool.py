"""Of com.microsoft: QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean, NhwcMaxPool."""
import numpy as np

MS = "com.microsoft"
U8, I8, F32 = np.uint8, np.int8, np.float32


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, shape, endpoint=True)).astype(dtype)


GEOMETRY = [((1, 3, 7, 6), {"kernel_shape": [3, 3]}),
            ((2, 2, 7, 6), {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1]}),
            ((1, 2, 8, 8), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
            ((2, 3, 9), {"kernel_shape": [4], "pads": [1, 2]}),
            ((1, 2, 7, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})]


def last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def average(add, rng):
    for t in (U8, I8):
        for shape, attrs in GEOMETRY:
            x = codes(rng, shape, t)
            tail = [F32(0.05), t(30), F32(0.02), t(50)]
            add("QLinearAveragePool", 1, [x] + tail, domain=MS, **attrs)
            # with ceil_mode the oracle also counts what lies beyond the padding, as ONNX Runtime's AveragePool did before opset 19
            if "ceil_mode" not in attrs:
                add("QLinearAveragePool", 1, [x] + tail, domain=MS, name="include-pad", count_include_pad=1, **attrs)
            add("QLinearAveragePool", 1, [last(x)] + tail, domain=MS, name="last", channels_last=1, **attrs)
        for shape in ((1, 3, 7, 6), (2, 5, 1, 1), (2, 3, 9)):
            x = codes(rng, shape, t)
            tail = [F32(0.05), t(30), F32(0.012), t(50)]
            add("QLinearGlobalAveragePool", 1, [x] + tail, domain=MS)
            add("QLinearGlobalAveragePool", 1, [last(x)] + tail, domain=MS, name="last", channels_last=1)
        for kernel in ([3, 2], [2, 2], [1, 4]):  # equal scales: many averages are ties
            scale = F32(rng.uniform(0.01, 0.1))
            tail = [scale, t(100), scale, t(90)]
            add("QLinearAveragePool", 1, [codes(rng, (1, 2, 20, 20), t)] + tail, domain=MS, name="ties", kernel_shape=kernel)
            add("QLinearGlobalAveragePool", 1, [codes(rng, (1, 200, *kernel), t)] + tail, domain=MS, name="ties")
    x = np.ones((1, 2, 4, 4), U8)
    add.fails("SHAPE", "QLinearAveragePool", 1, [x, F32(1), U8(0), F32(1), U8(0)], domain=MS, kernel_shape=[5, 5])
    add.fails("TYPE", "QLinearAveragePool", 1, [x, F32(1), I8(0), F32(1), U8(0)], domain=MS, kernel_shape=[2, 2])
    add.fails("SHAPE", "QLinearGlobalAveragePool", 1, [x[0, 0, 0], F32(1), U8(0), F32(1), U8(0)], domain=MS)


def mean(add, rng):
    """No engine runs QLinearReduceMean: its specification spelled out in numpy."""
    for t in (U8, I8):
        for axes, keep in (([1], 1), ([0, 2], 0), ([-1], 1), ([2], 0)):
            x = codes(rng, (2, 3, 40), t)
            v = ((x.astype(F32) - 30) * F32(0.05)).astype(np.float64)
            v = np.rint(v.mean(axis=tuple(axes), keepdims=bool(keep)) / np.float64(F32(0.02))) + 50
            want = np.clip(v, np.iinfo(t).min, np.iinfo(t).max).astype(t)
            add("QLinearReduceMean", 1, [x, F32(0.05), t(30), F32(0.02), t(50)], want=[want], domain=MS, axes=axes, keepdims=keep)
    add.fails("SHAPE", "QLinearReduceMean", 1, [np.ones((2, 3), U8), F32(1), U8(0), F32(1), U8(0)], domain=MS, axes=[2], keepdims=1)


def maximum(add, rng):
    for t in (U8, I8):
        for shape, attrs in GEOMETRY:
            add("NhwcMaxPool", 1, [last(codes(rng, shape, t))], domain=MS, **attrs)
        add("NhwcMaxPool", 1, [last(codes(rng, (1, 3, 9, 9), t))], domain=MS, name="dilated", kernel_shape=[3, 2], dilations=[2, 3])
    add.fails("TYPE", "NhwcMaxPool", 1, [np.ones((1, 4, 4, 2), F32)], domain=MS, kernel_shape=[2, 2])


def build(add):
    rng = np.random.default_rng(64)
    average(add, rng)
    mean(add, rng)
    maximum(add, rng)
