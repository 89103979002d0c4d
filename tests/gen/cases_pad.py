"""Pad: all modes, attribute and input forms, axes, negative pads, pads longer than the dim (numpy repeats the reflection)."""
import ml_dtypes
import numpy as np

from ops_cases import C


def arange(shape, dtype=np.float32):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype) + 1


def build(add):
    x = arange((2, 3))
    for mode in ("constant", "reflect", "edge"):
        add("Pad", 2, [x], pads=[1, 0, 0, 2], mode=mode)
    add("Pad", 2, [x], pads=[1, 1, 1, 1], value=2.5)
    add("Pad", 1, [x], paddings=[0, 1, 0, 2], want=[np.pad(x, ((0, 0), (1, 2)))])
    for version in (11, 13, 18, 19, 21, 23):
        for mode in ("constant", "reflect", "edge") + (("wrap",) if version >= 19 else ()):
            for pads in ([0, 1, 0, 1], [1, 2, 1, 0], [0, 0, 0, 0]):
                add("Pad", version, [x, C(pads)], mode=mode, want=[np.pad(x, list(zip(pads[:2], pads[2:])), mode=mode)])
    add("Pad", 13, [x, C([1, 0, 0, 1]), C(np.array(9, np.float32))])
    add("Pad", 18, [x, C([2, 1]), None, C([1])])
    add("Pad", 18, [x, C([2, 1, 0, 1]), C(np.array(-1, np.float32)), C([-1, 0])])
    add("Pad", 13, [x, C([-1, 1, 0, -1])], name="negative")
    add("Pad", 13, [x, C([0, -1, 0, -2])], name="negative-all")
    y = arange((5,))
    for mode in ("reflect", "edge"):
        add("Pad", 18, [y, C([-1, 2])], mode=mode, name="crop-then-" + mode, want=[np.pad(y[1:], (0, 2), mode=mode)])
    for mode in ("reflect", "wrap", "edge"):
        z = arange((3,), np.int32)
        add("Pad", 19, [z, C([7, 8])], mode=mode, name="long", want=[np.pad(z, (7, 8), mode=mode)])
    add("Pad", 19, [arange((2, 1, 3)), C([1, 2, 1, 1, 0, 2])], mode="reflect", name="rank3",
        want=[np.pad(arange((2, 1, 3)), [(1, 1), (2, 0), (1, 2)], mode="reflect")])
    for dtype in (np.int8, np.uint8, np.int32, np.int64, np.float16, np.float64, np.bool_):
        v = arange((2, 2), dtype)
        add("Pad", 13, [v, C([1, 0, 0, 1])], name="type", want=[np.pad(v, [(1, 0), (0, 1)])])
    add("Pad", 13, [np.zeros((0, 2), np.float32), C([1, 0, 1, 0])], name="empty")
    add("Pad", 13, [np.array(3, np.float32), C(np.zeros(0, np.int64))], name="scalar", want=[np.array(3, np.float32)])
    add.fails("SHAPE", "Pad", 13, [x, C([1, 1])])
    add.fails("SHAPE", "Pad", 13, [x, C([-3, 0, 0, 0])])
    add.fails("SHAPE", "Pad", 13, [np.zeros((0, 2), np.float32), C([1, 0, 1, 0])], mode="edge")
    add.fails("INVALID", "Pad", 13, [x, C([0, 0, 0, 0])], mode="mirror")
    add.fails("LIMIT", "Pad", 13, [x, C([2**62, 2**62, 2**62, 2**62])])
    add.fails("TYPE", "Pad", 13, [x, C([0, 0, 0, 0]), C(np.array(1, np.int32))])
    add.fails("SHAPE", "Pad", 18, [x, C([0, 0]), None, C([2])])
    for target in ([4, 3], [1, 5], [2, 3], [0, 2], [5, 1]):
        add("CenterCropPad", 18, [x, C(target)], oracle="reference")
    add("CenterCropPad", 18, [arange((3, 4, 2), np.int64), C([5, 1])], axes=[-1, 0], oracle="reference")
    add.fails("SHAPE", "CenterCropPad", 18, [x, C([4])])
    add.fails("SHAPE", "CenterCropPad", 18, [x, C([4, -1])])
    add.fails("LIMIT", "CenterCropPad", 18, [x, C([2**62, 2**62])])
    for dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.float4_e2m1fn):
        low, high = (-2, 2) if dtype == ml_dtypes.int2 else (0, 4)
        wide = np.random.default_rng(3).integers(low, high, (3, 5)).astype(np.float32)
        for mode in ("constant", "edge", "reflect"):
            fill = [C(np.array(1, np.float32).astype(dtype))] if mode == "constant" else []
            value = {"constant_values": 1} if mode == "constant" else {}
            add("Pad", 25, [wide.astype(dtype), C([1, 0, 0, 2])] + fill, mode=mode, name="packed",
                want=[np.pad(wide, [(1, 0), (0, 2)], mode=mode, **value).astype(dtype)])
