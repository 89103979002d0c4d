"""Conv and ConvTranspose: dims, groups, strides, dilations, pads of every kind, types, empty extents, hostile attributes."""
import numpy as np

from ops_cases import BF16

ORDER = "the oracle adds in f32 and in another order; the kernel in double"
TOLERANCE = {"Conv": (1e-5, 1e-5, ORDER), "ConvTranspose": (1e-5, 1e-5, ORDER)}


def floats(rng, shape, dtype=np.float32):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(dtype)


def conv(add, rng, x, w, version=11, bias=True, dtype=np.float32, op="Conv", **attrs):
    channels = w[0] if op == "Conv" else w[1] * attrs.get("group", 1)
    inputs = [floats(rng, x, dtype), floats(rng, w, dtype)] + ([floats(rng, (channels,), dtype)] if bias else [])
    add(op, version, inputs, **attrs)


def forward(add, rng):
    conv(add, rng, (1, 1, 5), (1, 1, 3), bias=False)
    conv(add, rng, (2, 3, 7), (4, 3, 3), strides=[2], pads=[1, 2], dilations=[2], name="1d")
    conv(add, rng, (2, 4, 6, 5), (6, 2, 3, 2), group=2, pads=[1, 0, 2, 1], strides=[2, 1], name="asymmetric")
    conv(add, rng, (1, 4, 5, 5), (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1], name="depthwise")
    conv(add, rng, (2, 3, 4, 5), (5, 3, 1, 1), name="pointwise")
    conv(add, rng, (2, 3, 4, 5), (5, 3, 1, 1), strides=[2, 2], name="pointwise-strided")
    conv(add, rng, (2, 3, 4, 5), (5, 3, 1, 1), pads=[0, 1, 0, 1], name="pointwise-padded")
    conv(add, rng, (1, 2, 9, 9), (3, 2, 3, 3), dilations=[3, 2], kernel_shape=[3, 3], name="dilated")
    conv(add, rng, (1, 2, 4, 5, 6), (4, 1, 2, 3, 2), group=2, pads=[1, 0, 1, 0, 1, 1], strides=[1, 2, 2], name="3d")
    conv(add, rng, (1, 2, 2, 2), (1, 2, 3, 3), pads=[3, 3, 3, 3], strides=[2, 2], name="window-in-padding")
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        for stride in (1, 2, 3):
            conv(add, rng, (1, 2, 6, 7), (2, 2, 3, 2), auto_pad=mode, strides=[stride, stride], name=mode)
        conv(add, rng, (1, 2, 8), (2, 2, 4), auto_pad=mode, name=mode)
    conv(add, rng, (1, 2, 4, 4), (2, 2, 3, 3), version=1, name="old")
    conv(add, rng, (1, 2, 4, 4), (2, 2, 3, 3), version=22, name="new")
    for dtype in (np.float64, np.float16, BF16):
        conv(add, rng, (1, 2, 5, 4), (3, 2, 3, 3), dtype=dtype, pads=[1, 1, 1, 1], name="type")


def transposed(add, rng):
    def deconv(x, w, **kw):
        conv(add, rng, x, w, op="ConvTranspose", **kw)

    deconv((1, 1, 3), (1, 1, 3), bias=False)
    deconv((2, 3, 4), (3, 2, 3), strides=[2], name="1d")
    deconv((1, 2, 3, 4), (2, 3, 3, 3), strides=[2, 3], pads=[1, 0, 0, 2], name="asymmetric")
    deconv((1, 4, 3, 3), (4, 3, 2, 2), group=2, strides=[2, 2], name="group")
    deconv((1, 2, 3, 3), (2, 2, 3, 3), strides=[3, 2], output_padding=[2, 1], pads=[1, 1, 1, 1], name="output-padding")
    deconv((1, 2, 3, 3), (2, 1, 3, 3), dilations=[2, 2], pads=[1, 1, 1, 1], name="dilated")
    deconv((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), strides=[2, 1, 2], pads=[0, 1, 1, 1, 0, 1], name="3d")
    for shape, extra in (([10, 8], [1, 1]), ([9, 7], [0, 0]), ([8, 6], [0, 0]), ([7, 7], [0, 1])):
        deconv((1, 1, 3, 3), (1, 2, 3, 3), strides=[3, 2], output_shape=shape, output_padding=extra, name="output-shape")
        for mode in ("SAME_UPPER", "SAME_LOWER"):
            deconv((1, 1, 3, 3), (1, 2, 3, 3), strides=[3, 2], output_shape=shape, output_padding=extra, auto_pad=mode,
                   name="output-shape")
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        deconv((1, 1, 3, 4), (1, 2, 3, 4), strides=[2, 2], auto_pad=mode, name=mode)
        deconv((1, 1, 3, 4), (1, 2, 4, 3), strides=[1, 2], auto_pad=mode, name=mode)
        deconv((1, 1, 3, 4), (1, 2, 1, 2), strides=[3, 3], auto_pad=mode, name=mode)  # a kernel shorter than the stride
    for dtype in (np.float64, np.float16, BF16):
        deconv((1, 2, 3, 3), (2, 2, 2, 2), dtype=dtype, strides=[2, 2], name="type")


def edges(add, rng):
    # empty extents: by hand, because ONNX Runtime refuses some of them
    b = floats(rng, (2,))
    add("Conv", 11, [floats(rng, (0, 3, 4, 4)), floats(rng, (2, 3, 3, 3)), b], want=[np.zeros((0, 2, 2, 2), np.float32)],
        name="empty")
    add("Conv", 11, [floats(rng, (1, 0, 4)), floats(rng, (2, 0, 3)), b], name="empty",
        want=[np.broadcast_to(b.reshape(1, 2, 1), (1, 2, 2))])
    add("Conv", 11, [floats(rng, (1, 3, 0)), floats(rng, (2, 3, 2)), b], pads=[1, 1], name="empty",
        want=[np.broadcast_to(b.reshape(1, 2, 1), (1, 2, 1))])
    add("ConvTranspose", 11, [floats(rng, (0, 3, 4)), floats(rng, (3, 2, 3)), b], want=[np.zeros((0, 2, 6), np.float32)],
        name="empty")
    x, w = floats(rng, (1, 4, 5, 5)), floats(rng, (2, 4, 3, 3))
    big = 2**62
    for attrs in ({"strides": [0, 1]}, {"strides": [-1, 1]}, {"dilations": [0, 1]}, {"strides": [1]}, {"pads": [1, 1]},
                  {"kernel_shape": [2, 3]}, {"group": 0}, {"group": 3}, {"group": -1}, {"pads": [-4, 0, 0, 0]},
                  {"dilations": [100, 1]}, {"pads": [big, 0, big, 0]}, {"strides": [big, big]}, {"dilations": [big, big]}):
        add.fails("SHAPE", "Conv", 11, [x, w], **attrs)
    add.fails("LIMIT", "Conv", 11, [x, w], group=big)
    add.fails("FORMAT", "Conv", 11, [x, w], auto_pad="SAME")
    add.fails("SHAPE", "Conv", 11, [x, floats(rng, (2, 3, 3, 3))])
    add.fails("SHAPE", "Conv", 11, [x, floats(rng, (2, 4, 3))])
    add.fails("SHAPE", "Conv", 11, [x, floats(rng, (3, 2, 3, 3))], group=2)
    add.fails("SHAPE", "Conv", 11, [x, w, floats(rng, (3,))])
    add.fails("SHAPE", "Conv", 11, [floats(rng, (4, 5)), w])
    add.fails("SHAPE", "Conv", 11, [x, floats(rng, (2, 4, 6, 3))])
    add.fails("TYPE", "Conv", 11, [x.astype(np.int32), w.astype(np.int32)])
    add.fails("TYPE", "Conv", 11, [x, w.astype(np.float64)])
    w = floats(rng, (4, 2, 3, 3))
    for attrs in ({"group": 3}, {"strides": [0, 1]}, {"output_padding": [-1, 0]}, {"output_padding": [1]}, {"pads": [9, 9, 9, 9]},
                  {"output_shape": [5]}, {"output_shape": [-1, 3]}):
        add.fails("SHAPE", "ConvTranspose", 11, [x, w], **attrs)
    add.fails("LIMIT", "ConvTranspose", 11, [floats(rng, (1, 4, 5, 5)), w], strides=[2**40, 1])


def build(add):
    rng = np.random.default_rng(11)
    forward(add, rng)
    transposed(add, rng)
    edges(add, rng)
