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
    add("NonZero", 13, [np.array([["", "a"], ["0", ""]], dtype=object)], name="string")


def topk(add):
    x = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]], np.float32)
    for k in (0, 1, 3, 6):
        add("TopK", 10, [x, C([k])], n_out=2, axis=1)
        add("TopK", 11, [x, C([k])], n_out=2, axis=-1, largest=0)
    # many equal numbers: part of them are among the first k
    many = np.random.default_rng(8).integers(0, 9, (2, 150)).astype(np.float32)
    for k in (1, 20, 75, 149):
        add("TopK", 11, [many, C([k])], n_out=2, name="many")
    add("TopK", 11, [np.arange(90, dtype=np.int64) % 31, C([40])], n_out=2, largest=0, name="many")
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


def suppression(add):
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, 1, (2, 40, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 3, 40)).astype(np.float32)
    one, f32 = (lambda v: np.array(v, np.int64)), (lambda v: np.array(v, np.float32))
    for most, iou, least in ((5, 0.3, 0.2), (100, 0.0, 0.5), (3, 1.0, 0.0), (0, 0.5, 0.0)):
        add("NonMaxSuppression", 11, [corners, scores, one(most), f32(iou), f32(least)])
    boxes = np.concatenate([corners[..., :2], corners[..., 2:] * 0.4], -1)
    add("NonMaxSuppression", 10, [boxes, scores, one(10), f32(0.4)], center_point_box=1)
    add("NonMaxSuppression", 11, [corners, scores], name="default", want=[np.zeros((0, 3), np.int64)])
    add("NonMaxSuppression", 11, [corners[:, :0], scores[..., :0], one(5)], name="empty", want=[np.zeros((0, 3), np.int64)])
    same = np.tile(corners[:1, :1], (1, 3, 1))
    add("NonMaxSuppression", 11, [same, f32([[[0.5, 0.5, 0.5]]]), one(5), f32(0.5)], name="ties", want=[one([[0, 0, 0]])])
    add.fails("SHAPE", "NonMaxSuppression", 11, [corners[..., :3], scores])
    add.fails("SHAPE", "NonMaxSuppression", 11, [corners, scores[:1]])
    add.fails("TYPE", "NonMaxSuppression", 11, [corners.astype(np.float64), scores])


def build(add):
    for group in (one_hot, nonzero, topk, compress, suppression):
        group(add)
