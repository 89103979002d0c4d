"""Tensors from attributes, shapes and scalars."""
import ml_dtypes
import numpy as np

from ops_cases import C


def constants(add):
    add("Constant", 1, [], value=np.array([[1, 2], [3, 4]], np.float32))
    add("Constant", 9, [], value=np.array(5, np.int8))
    add("Constant", 13, [], value=np.zeros((0, 2), np.int64))
    add("Constant", 12, [], value_float=2.5)
    add("Constant", 12, [], value_floats=[1.5, -2.5])
    add("Constant", 12, [], value_int=-7)
    add("Constant", 12, [], value_ints=[1, 2, 3])
    add("Constant", 12, [], value_string="text", want=[np.array("text", dtype=object)])
    add("Constant", 12, [], value_strings=["a", "b c"], want=[np.array(["a", "b c"], dtype=object)])
    add.fails("UNSUPPORTED", "Constant", 13, [])
    add("ConstantOfShape", 9, [C([2, 3])])
    add("ConstantOfShape", 9, [C([2, 3])], value=np.array([7], np.int32))
    add("ConstantOfShape", 20, [C([4])], value=np.array([True]))
    add("ConstantOfShape", 9, [C([0, 3])])
    add("ConstantOfShape", 9, [C(np.zeros(0, np.int64))], value=np.array([2.5], np.float64))
    for dtype in (ml_dtypes.int4, ml_dtypes.uint2, ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e5m2):
        one = np.array([1], np.float32).astype(dtype)
        add("ConstantOfShape", 25, [C([3, 3])], value=one, name="packed", want=[np.ones((3, 3), np.float32).astype(dtype)])
    add.fails("SHAPE", "ConstantOfShape", 9, [C([2, -1])])
    add.fails("LIMIT", "ConstantOfShape", 9, [C([2**40, 2**40])])


def ranges(add):
    for dtype in (np.int16, np.int32, np.int64, np.float32, np.float64):
        for start, limit, delta in ((0, 5, 1), (10, 4, -2), (0, 0, 1), (5, 1, 1), (1, 10, 4)):
            add("Range", 11, [C(np.array(v, dtype)) for v in (start, limit, delta)])
    add("Range", 11, [C(np.array(v, np.float32)) for v in (0.1, 1.0, 0.3)])
    # the half types count in f32, or as told: element 49 is a tie of f16 in f32 only
    start, limit, delta = np.float16(-1688), np.float16(-1681), np.float16(0.11224)
    count = int(np.ceil(7 / float(delta)))
    bounds = [C(np.array(v)) for v in (start, limit, delta)]
    for stash, kind in (({}, np.float32), ({"stash_type": 1}, np.float32), ({"stash_type": 11}, np.float64)):
        want = (kind(start) + np.arange(count).astype(kind) * kind(delta)).astype(np.float16)
        add("Range", 27, bounds, want=[want], name="stash", **stash)
    add.fails("TYPE", "Range", 27, bounds, stash_type=10)
    far = 2**63 - 1
    add("Range", 11, [C(np.array(v, np.int64)) for v in (-far - 1, far, 2**62)], name="far",
        want=[np.array([-far - 1, -2**62, 0, 2**62], np.int64)])
    add.fails("INVALID", "Range", 11, [C(np.array(v, np.int64)) for v in (0, 5, 0)])
    add.fails("LIMIT", "Range", 11, [C(np.array(v, np.int64)) for v in (-far, far, 1)])
    add.fails("LIMIT", "Range", 11, [C(np.array(v, np.float32)) for v in (0, np.inf, 1)])
    add.fails("TYPE", "Range", 11, [C(np.array(1, np.int64)), C(np.array(1, np.int32)), C(np.array(1, np.int64))])
    add.fails("SHAPE", "Range", 11, [C(np.array([1, 2])), C(np.array(1)), C(np.array(1))])


def eyes(add):
    x = np.zeros((3, 4), np.float32)
    for k in (0, 1, -1, 9, -9):
        add("EyeLike", 9, [x], k=k, want=[np.eye(3, 4, k, np.float32)])
    add("EyeLike", 9, [x], dtype=7, want=[np.eye(3, 4, 0, np.int64)])
    add("EyeLike", 9, [np.zeros((2, 2), np.int32)])
    add("EyeLike", 9, [np.zeros((0, 2), np.int32)], want=[np.zeros((0, 2), np.int32)])
    add.fails("SHAPE", "EyeLike", 9, [np.zeros((2,), np.float32)])
    add.fails("TYPE", "EyeLike", 9, [x], dtype=8)


def build(add):
    constants(add)
    ranges(add)
    eyes(add)
