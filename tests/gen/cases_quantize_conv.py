"""ConvInteger, QLinearConv of both domains."""
import numpy as np

MS = "com.microsoft"
U8, I8, F32 = np.uint8, np.int8, np.float32


def codes(rng, shape, dtype):
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, shape, endpoint=True)).astype(dtype)


def few(rng, shape, dtype):
    """i8 weights below 64: ONNX Runtime's kernels for u8 x i8 saturate sums of two products at 16 bits on some CPUs."""
    return np.asarray(rng.integers(-63, 63, shape, endpoint=True)).astype(dtype) if dtype is I8 else codes(rng, shape, dtype)


# input, weights, attributes
GEOMETRY = [((1, 3, 7, 6), (4, 3, 3, 3), {}), ((2, 4, 7, 6), (6, 2, 3, 2), {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
            ((1, 4, 8, 8), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
            ((1, 3, 9, 9), (2, 3, 3, 3), {"dilations": [2, 3], "pads": [2, 2, 2, 2]}), ((1, 5, 4, 4), (3, 5, 1, 1), {}),
            ((2, 3, 9), (4, 3, 4), {"pads": [1, 2]}), ((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"pads": [1, 1, 0, 0, 1, 1]})]


def integer(add, rng):
    for x, w, attrs in GEOMETRY:
        ins = [codes(rng, x, U8), codes(rng, w, U8)]
        add("ConvInteger", 10, ins, **attrs)
        add("ConvInteger", 10, ins + [U8(77), U8(130)], name="zero", **attrs)
    x, w, attrs = GEOMETRY[0]
    add("ConvInteger", 10, [codes(rng, x, U8), few(rng, w, I8), U8(9)], name="i8", **attrs)
    xs, ws, z = codes(rng, x, I8), codes(rng, w, U8), codes(rng, 4, U8)
    # one zero point for each output channel: in the specification, not in ONNX Runtime
    diff_x = np.lib.stride_tricks.sliding_window_view(xs.astype(np.int32) - 3, (3, 3), axis=(2, 3))
    want = np.einsum("nchwij,mcij->nmhw", diff_x, ws.astype(np.int32) - z.astype(np.int32)[:, None, None, None])
    add("ConvInteger", 10, [xs, ws, I8(3), z], want=[want.astype(np.int32)], name="channels")
    add("ConvInteger", 10, [np.zeros((0, 3, 5, 5), U8), codes(rng, w, U8)], want=[np.zeros((0, 4, 3, 3), np.int32)], name="empty")
    add.fails("TYPE", "ConvInteger", 10, [np.ones((1, 1, 3, 3), F32), np.ones((1, 1, 2, 2), U8)])
    add.fails("SHAPE", "ConvInteger", 10, [np.ones((1, 1, 3, 3), U8), np.ones((1, 2, 2, 2), U8)])
    add.fails("SHAPE", "ConvInteger", 10, [np.ones((1, 1, 3, 3), U8), np.ones((1, 1, 2), U8)])
    add.fails("SHAPE", "ConvInteger", 10, [np.ones((1, 1, 3, 3), U8), np.ones((1, 1, 2, 2), U8), np.ones(2, U8)])
    add.fails("SHAPE", "ConvInteger", 10, [np.ones((1,), U8), np.ones((1, 1, 2, 2), U8)])


def operands(rng, x, w, tx, tw, spread):
    m, taps = w[0], int(np.prod(w[1:]))
    bias = rng.integers(-5000, 5000, m).astype(np.int32)
    y_scale = F32(0.03 * 0.05 * spread * 70 * np.sqrt(taps) / 50)
    return [codes(rng, x, tx), F32(0.03), tx(20), few(rng, w, tw)], bias, [y_scale, tx(64)]


def qlinear(add, rng):
    for x, w, attrs in GEOMETRY:
        for tx, tw in ((U8, I8), (U8, U8), (I8, I8)):
            ins, bias, out = operands(rng, x, w, tx, tw, 70 if tw is I8 else 140)
            add("QLinearConv", 10, ins + [F32(0.05), tw(2)] + out, **attrs)
            scales = rng.uniform(0.02, 0.08, w[0]).astype(F32)
            add("QLinearConv", 10, ins + [scales, np.zeros(w[0], tw)] + out + [bias], name="channels", **attrs)
    x, w, attrs = GEOMETRY[0]
    ins, bias, out = operands(rng, x, w, U8, I8, 70)
    add.fails("SHAPE", "QLinearConv", 10, ins + [F32(1), I8(0)] + out + [np.ones(3, np.int32)])
    add.fails("SHAPE", "QLinearConv", 10, ins + [np.ones(3, F32), I8(0)] + out)
    add.fails("TYPE", "QLinearConv", 10, ins + [F32(1), U8(0)] + out)
    add.fails("TYPE", "QLinearConv", 10, ins + [F32(1), I8(0)] + out + [np.ones(4, F32)])


def microsoft(add, rng):
    for x, w, attrs in GEOMETRY:
        ins, bias, out = operands(rng, x, w, U8, I8, 70)
        scales = rng.uniform(0.02, 0.08, w[0]).astype(F32)
        tail = [scales, np.zeros(w[0], I8)] + out + [bias]
        add("QLinearConv", 1, ins + tail, domain=MS, name="first", **attrs)
        last = np.ascontiguousarray(np.moveaxis(ins[0], 1, -1))
        add("QLinearConv", 1, [last] + ins[1:] + tail, domain=MS, name="last", channels_last=1, **attrs)


def build(add):
    rng = np.random.default_rng(62)
    integer(add, rng)
    qlinear(add, rng)
    microsoft(add, rng)
