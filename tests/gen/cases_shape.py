"""Operators that read or change only the shape. The oracle's answers for data movement are exact."""
import numpy as np

from ops_cases import BF16, C


def arange(shape, dtype=np.float32):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def reshape(add):
    x = arange((2, 3, 4))
    for target in ([6, 4], [-1], [0, -1], [2, 0, 2, -1], [24], [1, 2, 3, 4, 1], [4, -1, 3]):
        add("Reshape", 5, [x, C(target)])
        add("Reshape", 14, [x, C(target)])
    for dtype in (np.int64, np.uint8, np.float16, BF16, np.bool_, np.float64):
        add("Reshape", 14, [arange((2, 2), dtype), C([4])], name="type")
    add("Reshape", 14, [np.array(["a", "b c", ""], dtype=object), C([3, 1])], name="string")
    add("Reshape", 14, [np.array(3, np.float32), C([1, 1])], name="scalar")
    add("Reshape", 14, [np.array([3], np.float32), C(np.zeros(0, np.int64))], name="to-scalar")
    add("Reshape", 14, [np.zeros((0, 3), np.float32), C([3, 0])], name="zero", allowzero=1)
    add("Reshape", 14, [np.zeros((0, 3, 4), np.float32), C([0, -1])], name="empty-batch", want=[np.zeros((0, 12), np.float32)])
    add("Reshape", 1, [x], name="attr", want=[x.reshape(4, 6)], shape=[4, 6])
    add.fails("SHAPE", "Reshape", 14, [x, C([5, 5])])
    add.fails("SHAPE", "Reshape", 14, [x, C([5, -1])])
    add.fails("SHAPE", "Reshape", 14, [x, C([-1, -1])])
    add.fails("SHAPE", "Reshape", 14, [x, C([-2, 12])])
    add.fails("SHAPE", "Reshape", 14, [x, C([2, 3, 4, 0])])
    add.fails("LIMIT", "Reshape", 14, [x, C([2**62, 2**62])])
    add.fails("TYPE", "Reshape", 14, [x, C(np.array([24.0], np.float32))])
    add.fails("SHAPE", "Reshape", 14, [x, C([1] * 9)])


def views(add):
    x = arange((2, 3, 4))
    for axis in (0, 1, 2, 3, -1, -3):
        add("Flatten", 13, [x], axis=axis)
    add("Flatten", 1, [x])
    add("Flatten", 9, [np.array(5, np.float32)], axis=0)
    add("Flatten", 13, [np.zeros((2, 0, 3), np.float32)], axis=1)
    add.fails("SHAPE", "Flatten", 13, [x], axis=4)
    y = arange((1, 3, 1, 2))
    for axes in ([0], [2], [0, 2], [-2], [0, -2]):
        add("Squeeze", 11, [y], axes=axes)
        add("Squeeze", 13, [y, C(axes)])
    add("Squeeze", 1, [y])
    add("Squeeze", 13, [y])
    add("Squeeze", 13, [np.array([[5]], np.int32)])
    add.fails("SHAPE", "Squeeze", 13, [y, C([1])])
    add.fails("SHAPE", "Squeeze", 13, [y, C([4])])
    add.fails("SHAPE", "Squeeze", 13, [y, C([0, 0])])
    for axes in ([0], [-1], [0, 4], [1, 2], [3, 0, 1]):
        add("Unsqueeze", 11, [x], axes=axes)
        add("Unsqueeze", 13, [x, C(axes)])
    add("Unsqueeze", 13, [np.array(2, np.int64), C([0])], name="scalar")
    add.fails("SHAPE", "Unsqueeze", 13, [x, C([1, 1])])
    add.fails("SHAPE", "Unsqueeze", 13, [x, C([4])])
    add.fails("LIMIT", "Unsqueeze", 13, [arange((1,) * 8), C([0])])
    add("Identity", 16, [x])
    add("Identity", 1, [np.array(["x", "yy"], dtype=object)])
    add("Identity", 13, [np.zeros((0,), np.int8)])


def shapes(add):
    x = arange((2, 3, 4), np.int8)
    add("Shape", 1, [x])
    add("Shape", 13, [np.array(1, np.float32)])
    for start, end in ((0, 3), (1, 3), (-1, 3), (0, -1), (-9, 9), (2, 1), (1, -9)):
        add("Shape", 15, [x], start=start, end=end)
    add("Shape", 19, [np.zeros((0, 5), np.float32)], start=1)
    add("Size", 13, [x])
    add("Size", 1, [np.array(1.0, np.float32)])
    add("Size", 13, [np.zeros((0, 5), np.float32)])


def dropout(add):
    x = arange((2, 3))
    add("Dropout", 7, [x], ratio=0.5)
    add("Dropout", 10, [x], n_out=2, ratio=0.3)
    add("Dropout", 13, [x, C(np.array(0.4, np.float32))], n_out=2)
    add("Dropout", 12, [x, None, C(np.array(False))], n_out=[True, True])
    add("Dropout", 12, [x, C(np.array(0.0, np.float32)), C(np.array(True))], n_out=2)
    add.fails("INVALID", "Dropout", 12, [x, C(np.array(1.5, np.float32)), C(np.array(True))])


def build(add):
    reshape(add)
    views(add)
    shapes(add)
    dropout(add)
