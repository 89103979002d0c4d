"""Indices that are data: both index types, negative indices, every element size, all reductions."""
import numpy as np

from ops_cases import C

TYPES = [np.float32, np.float64, np.int8, np.int32, np.int64, np.uint16]
TEXT = np.array([["a", "bc", ""], ["d e", "%", "quite a long string that must be copied"]], dtype=object)


def arange(shape, dtype=np.float32):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def gather(add):
    x = arange((3, 4, 2))
    for axis in (0, 1, 2, -1):
        add("Gather", 13, [x, np.array([[0, 1], [-1, 0]], np.int64)], axis=axis)
        add("Gather", 11, [x, np.array([1, -2], np.int32)], axis=axis)
    add("Gather", 1, [x, np.array(1, np.int64)], name="scalar")
    add("Gather", 13, [x, np.zeros((0,), np.int64)], name="none")
    add("Gather", 13, [np.zeros((2, 0), np.float32), np.array([1], np.int64)], name="empty-rows")
    # ONNX Runtime 1.32 leaves all but the first string of each row empty
    add("Gather", 13, [TEXT, np.array([1, 1, 0], np.int64)], name="string", want=[TEXT[[1, 1, 0]]])
    for dtype in TYPES + [np.bool_, np.float16]:
        add("Gather", 13, [arange((3, 2), dtype), np.array([2, 0], np.int64)], name="type")
    add.fails("SHAPE", "Gather", 13, [x, np.array([0], np.int64)], axis=3)
    add.fails("TYPE", "Gather", 13, [x, np.array([0], np.float32)])


def gather_elements(add):
    x = arange((3, 4))
    add("GatherElements", 13, [x, np.array([[0, 1, 2, 0], [2, -1, 0, 1]], np.int64)], axis=0)
    add("GatherElements", 11, [x, np.array([[0, 3], [-1, 1], [2, 2]], np.int32)], axis=1)
    add("GatherElements", 13, [arange((2, 2, 2), np.int8), np.array([[[0, 1]], [[1, 0]]], np.int64)], axis=-1)
    add("GatherElements", 13, [TEXT, np.array([[2, 0], [1, 1]], np.int64)], axis=1, name="string")
    add("GatherElements", 13, [x, np.zeros((0, 4), np.int64)], axis=0, name="none")
    add.fails("SHAPE", "GatherElements", 13, [x, np.array([0], np.int64)])
    add.fails("SHAPE", "GatherElements", 13, [x, np.zeros((1, 5), np.int64)], axis=0)


def gather_nd(add):
    x = arange((2, 3, 4))
    add("GatherND", 13, [x, np.array([[0, 1], [1, -1]], np.int64)])
    add("GatherND", 13, [x, np.array([[0, 1, 2], [-1, 0, 3]], np.int64)])
    add("GatherND", 11, [x, np.array([[[1]], [[0]]], np.int64)])
    add("GatherND", 12, [x, np.array([[1], [0]], np.int64)], batch_dims=1)
    add("GatherND", 12, [x, np.array([[[0], [1], [2]], [[3], [-1], [0]]], np.int64)], batch_dims=2)
    add("GatherND", 13, [TEXT, np.array([[1, 2], [0, 0]], np.int64)], name="string")
    add("GatherND", 13, [x, np.zeros((0, 2), np.int64)], name="none")
    add.fails("SHAPE", "GatherND", 13, [x, np.zeros((1, 4), np.int64)])
    add.fails("SHAPE", "GatherND", 13, [x, np.zeros((3, 1), np.int64)], batch_dims=1)
    add.fails("SHAPE", "GatherND", 13, [x, np.zeros((2, 1), np.int64)], batch_dims=2)


def scatter(add):
    x = np.ones((3, 4), np.float32) * 2
    at, up = np.array([[0, 1, 2, 0], [2, -1, 0, 0]], np.int64), arange((2, 4)) + 3
    add("ScatterElements", 13, [x, at, up], axis=0)
    add("Scatter", 9, [x, at, up], axis=0)
    add("ScatterElements", 11, [x, np.array([[1], [0], [-1]], np.int32), arange((3, 1))], axis=1)
    for reduction in ("add", "mul", "max", "min"):
        for dtype in TYPES:
            if dtype == np.uint16:
                continue
            add("ScatterElements", 18, [x.astype(dtype), at, up.astype(dtype)], axis=0, reduction=reduction, oracle="reference")
    add("ScatterElements", 16, [x, np.zeros((0, 4), np.int64), np.zeros((0, 4), np.float32)], name="none")
    add("ScatterElements", 16, [TEXT, np.array([[1]], np.int64), np.array([["new"]], dtype=object)], axis=1, name="string")
    big = np.array([2**62, -5], np.int64)
    add("ScatterElements", 18, [big, np.array([0, 0, 1], np.int64), np.array([2**61, 1, -2**62], np.int64)], name="exact",
        reduction="add", want=[np.array([2**62 + 2**61 + 1, -5 - 2**62], np.int64)])
    add.fails("SHAPE", "ScatterElements", 13, [x, at, arange((2, 3))])
    add.fails("TYPE", "ScatterElements", 13, [x, at, up.astype(np.float64)])
    add.fails("INVALID", "ScatterElements", 18, [x, at, up], reduction="mean")
    add.fails("TYPE", "ScatterElements", 18, [TEXT, np.array([[1]], np.int64), np.array([["n"]], dtype=object)], reduction="add")


def scatter_nd(add):
    x = np.ones((4, 3), np.float32)
    add("ScatterND", 13, [x, np.array([[1], [-1]], np.int64), arange((2, 3))])
    add("ScatterND", 11, [x, np.array([[[0, 1]], [[3, -1]]], np.int64), np.array([[5], [6]], np.float32)])
    for reduction in ("add", "mul", "max", "min"):
        for dtype in (np.float32, np.int32):
            add("ScatterND", 18, [x.astype(dtype), np.array([[1], [1]], np.int64), arange((2, 3), dtype)], reduction=reduction)
    add("ScatterND", 13, [TEXT, np.array([[0, 0]], np.int64), np.array(["new"], dtype=object)], name="string")
    add("ScatterND", 13, [x, np.zeros((0, 1), np.int64), np.zeros((0, 3), np.float32)], name="none", want=[x])
    add.fails("SHAPE", "ScatterND", 13, [x, np.zeros((1, 3), np.int64), arange((1,))])
    add.fails("SHAPE", "ScatterND", 13, [x, np.zeros((2, 1), np.int64), arange((2, 2))])


def reverse_sequence(add):
    x = arange((4, 3, 2))
    lens = np.array([4, 1, 3], np.int64)
    add("ReverseSequence", 10, [x, lens])
    add("ReverseSequence", 10, [arange((3, 4), np.int8), lens], batch_axis=0, time_axis=1)
    add("ReverseSequence", 10, [arange((4, 3)), np.array([0, 2, 4], np.int64)], want=[np.array(
        [[0, 4, 11], [3, 1, 8], [6, 7, 5], [9, 10, 2]], np.float32)])
    add.fails("SHAPE", "ReverseSequence", 10, [x, lens[:2]])
    add.fails("INVALID", "ReverseSequence", 10, [x, lens], batch_axis=1, time_axis=2)


def build(add):
    for group in (reverse_sequence, gather, gather_elements, gather_nd, scatter, scatter_nd):
        group(add)
