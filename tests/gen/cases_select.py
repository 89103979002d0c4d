"""Picking by value."""
import numpy as np

from ops_cases import C


def one_hot(add):
    values = np.array([0, 1], np.float32)
    at = np.array([[0, 2], [-1, 1]], np.int64)
    for axis in (-1, 0, 1, 2):
        add("OneHot", 11, [at, C(np.array(3)), values], axis=axis)
    add("OneHot", 9, [np.array([0, 5, -4], np.int64), C(np.array([3])), np.array([7, 9], np.int32)], name="outside",
        want=[np.array([[9, 7, 7], [7, 7, 7], [7, 7, 7]], np.int32)])
    add("OneHot", 11, [np.array([1.0, 0.0], np.float32), C(np.array(2.0, np.float32)), values], name="float")
    add("OneHot", 11, [np.array(1, np.int64), C(np.array(4)), values], name="scalar", want=[np.array([0, 1, 0, 0], np.float32)])
    add("OneHot", 11, [np.zeros((0,), np.int64), C(np.array(4)), values], name="empty")
    add.fails("SHAPE", "OneHot", 11, [at, C(np.array(0)), values])
    add.fails("SHAPE", "OneHot", 11, [at, C(np.array(3)), np.zeros(3, np.float32)])
    add.fails("SHAPE", "OneHot", 11, [at, C(np.array(3)), values], axis=3)


def nonzero(add):
    add("NonZero", 13, [np.array([[1, 0, 2], [0, 0, 3]], np.float32)])
    add("NonZero", 13, [np.array([0.0, -0.0, np.nan], np.float32)], want=[np.array([[2]], np.int64)])
    add("NonZero", 9, [np.array([True, False, True])])
    add("NonZero", 13, [np.array([[[0, 5]], [[6, 0]]], np.int64)])
    add("NonZero", 13, [np.zeros((3, 2), np.int32)])
    add("NonZero", 13, [np.zeros((0, 2), np.float32)], name="empty", want=[np.zeros((2, 0), np.int64)])
    add("NonZero", 13, [np.array(5, np.int32)], name="scalar")


def topk(add):
    x = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]], np.float32)
    for k in (0, 1, 3, 6):
        add("TopK", 10, [x, C([k])], n_out=2, axis=1)
        add("TopK", 11, [x, C([k])], n_out=2, axis=-1, largest=0)
    add("TopK", 1, [x], n_out=2, axis=1, k=2)
    add("TopK", 11, [x, C([2])], n_out=2, axis=0)
    add("TopK", 11, [x, C([1])], n_out=2, axis=0, largest=0)
    for dtype in (np.int32, np.int64, np.float64):
        add("TopK", 11, [x.astype(dtype), C([3])], n_out=2, name="type")
    add("TopK", 11, [np.array([2**62, 2**62 + 1, -2**62], np.int64), C([2])], n_out=2, name="exact")
    add("TopK", 11, [np.array([1, np.nan, 2], np.float32), C([2])], n_out=2, name="nan",
        want=[np.array([np.nan, 2], np.float32), np.array([1, 2], np.int64)])
    add("TopK", 11, [np.array([0.0, -0.0, 0.0], np.float32), C([2])], n_out=2, name="ties",
        want=[np.array([0.0, -0.0], np.float32), np.array([0, 1], np.int64)])
    add("TopK", 11, [np.zeros((0, 3), np.float32), C([2])], n_out=2, name="empty",
        want=[np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int64)])
    add.fails("SHAPE", "TopK", 11, [x, C([7])], n_out=2)
    add.fails("INVALID", "TopK", 11, [x, C([-1])], n_out=2)
    add.fails("TYPE", "TopK", 11, [np.array(["a"], dtype=object), C([1])], n_out=2)


def compress(add):
    x = np.arange(6).reshape(2, 3).astype(np.float32)
    add("Compress", 11, [x, np.array([False, True])], axis=0)
    add("Compress", 9, [x, np.array([True, False, True])], axis=1)
    add("Compress", 11, [x, np.array([True, False, True])], axis=-1)
    add("Compress", 11, [x, np.array([False, True, False, False, True])])
    add("Compress", 11, [x, np.array([False])], axis=1)
    add("Compress", 11, [np.array(["a", "b"], dtype=object), np.array([False, True])], axis=0, name="string")
    add.fails("SHAPE", "Compress", 11, [x, np.array([True])], axis=2)
    add.fails("SHAPE", "Compress", 11, [x, np.array([[True]])], axis=1)


def build(add):
    for group in (one_hot, nonzero, topk, compress):
        group(add)
