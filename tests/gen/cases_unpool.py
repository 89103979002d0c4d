"""MaxUnpool and Col2Im, in one to three spatial dims."""
import numpy as np

from ops_cases import BF16, C


def unpool(add):
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, (1, 2, 2, 2)).astype(np.float32)
    index = np.array([[[[5, 7], [13, 15]], [[16, 18], [24, 26]]]])
    add("MaxUnpool", 9, [x, index], kernel_shape=[2, 2], strides=[2, 2])
    add("MaxUnpool", 11, [x, index], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    add("MaxUnpool", 11, [x, index, C([1, 2, 6, 5])], kernel_shape=[2, 2], strides=[2, 2], name="larger", oracle="reference")
    add("MaxUnpool", 22, [x.astype(np.float16), index], kernel_shape=[2, 2], strides=[2, 2], oracle="reference")
    add("MaxUnpool", 11, [x[..., 0], index[..., 0]], kernel_shape=[12])
    add("MaxUnpool", 11, [x[:0], index[:0]], kernel_shape=[2, 2], name="empty", want=[np.zeros((0, 2, 3, 3), np.float32)])
    add.fails("SHAPE", "MaxUnpool", 11, [x, index], kernel_shape=[2])
    add.fails("SHAPE", "MaxUnpool", 11, [x, index, C([1, 2, 2, 2])], kernel_shape=[2, 2], strides=[2, 2])
    add.fails("SHAPE", "MaxUnpool", 11, [x, index[..., :1]], kernel_shape=[2, 2])
    add.fails("LIMIT", "MaxUnpool", 11, [x, index], kernel_shape=[2, 2], strides=[2**40, 2**40])
    add.fails("INVALID", "MaxUnpool", 11, [x, index], kernel_shape=[2, 2], strides=[0, 1])
    add.fails("TYPE", "MaxUnpool", 11, [x, index.astype(np.int32)], kernel_shape=[2, 2])


def col2im(add):
    rng = np.random.default_rng(7)
    x = rng.integers(-9, 9, (2, 3 * 4, 20)).astype(np.float32)
    shapes = [C([5, 6]), C([2, 2])]
    add("Col2Im", 18, [x] + shapes)
    for dtype in (np.float64, np.float16, BF16, np.int8, np.int64, np.uint16):
        add("Col2Im", 18, [x.astype(dtype)] + shapes, name=np.dtype(dtype).name, oracle="reference")
    add("Col2Im", 18, [x[:, :, :6]] + shapes, strides=[2, 2])
    add("Col2Im", 18, [x[:, :, :12]] + shapes, dilations=[2, 2], oracle="reference")
    add("Col2Im", 18, [np.tile(x, 3)[:, :, :42]] + shapes, pads=[1, 0, 1, 2])
    add("Col2Im", 18, [x[:, :8, :12], C([3, 4, 3]), C([2, 2, 2])], name="3d", oracle="reference")
    add("Col2Im", 18, [x[:, :, :4], C([5]), C([2])], name="1d", oracle="reference")
    add("Col2Im", 18, [x[:0]] + shapes, name="empty", want=[np.zeros((0, 3, 5, 6), np.float32)])
    add.fails("SHAPE", "Col2Im", 18, [x[:, :, :19]] + shapes)
    add.fails("SHAPE", "Col2Im", 18, [x[:, :11]] + shapes)
    add.fails("SHAPE", "Col2Im", 18, [x, C([5, 6]), C([2])])
    add.fails("SHAPE", "Col2Im", 18, [x, C([5, 6]), C([6, 2])])
    add.fails("INVALID", "Col2Im", 18, [x] + shapes, strides=[0, 1])
    add.fails("SHAPE", "Col2Im", 18, [x, C([2**62, 2**62]), C([1, 1])])


def build(add):
    unpool(add)
    col2im(add)
