"""Data movement by a rule on indices: every element size, strings, zero sizes, rank 0, ranks up to 6."""
import ml_dtypes
import numpy as np

from ops_cases import BF16, C

TYPES = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_]
TEXT = np.array([["a", "bc", ""], ["d e", "%", "long enough to leave any small-string store"]], dtype=object)
FAR = 2**63 - 1


def arange(shape, dtype=np.float32):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def transpose(add):
    x = arange((2, 3, 4))
    for perm in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1], [2, 0, 1]):
        add("Transpose", 13, [x], perm=perm)
    add("Transpose", 1, [x])
    for dtype in TYPES + [BF16]:
        add("Transpose", 13, [arange((3, 2), dtype)], name="type")
    add("Transpose", 13, [TEXT], name="string")
    for dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.float4_e2m1fn):
        low, high = (-2, 2) if dtype == ml_dtypes.int2 else (0, 4)
        packed = np.random.default_rng(3).integers(low, high, (3, 5)).astype(np.float32).astype(dtype)
        add("Transpose", 25, [packed], name="packed", want=[packed.T.copy()])
    add("Transpose", 13, [arange((2, 1, 2, 3, 1, 2))], name="rank6", perm=[5, 0, 3, 1, 2, 4])
    add("Transpose", 13, [np.array(4, np.float32)], name="scalar")
    add("Transpose", 13, [np.zeros((2, 0, 3), np.float32)], name="empty", perm=[1, 2, 0])
    add.fails("SHAPE", "Transpose", 13, [x], perm=[0, 1])
    add.fails("SHAPE", "Transpose", 13, [x], perm=[0, 1, 1])
    add.fails("SHAPE", "Transpose", 13, [x], perm=[0, 1, 3])


def concat(add):
    a, b, c = arange((2, 3)), arange((2, 1)) + 10, arange((2, 2)) + 20
    add("Concat", 13, [a, b, c], axis=1)
    add("Concat", 11, [a, b, c], axis=-1)
    add("Concat", 4, [a, a], axis=0)
    add("Concat", 1, [a, b], want=[np.concatenate([a, b], 1)])
    add("Concat", 13, [a], axis=0, name="one")
    add("Concat", 13, [a, np.zeros((0, 3), np.float32), a], axis=0, name="empty")
    add("Concat", 13, [TEXT, TEXT], axis=0, name="string")
    for dtype in TYPES:
        add("Concat", 13, [arange((2, 1, 2), dtype), arange((2, 2, 2), dtype)], axis=1, name="type")
    add.fails("SHAPE", "Concat", 13, [a, arange((3, 3))], axis=1)
    add.fails("SHAPE", "Concat", 13, [a, arange((2, 3, 1))], axis=1)
    add.fails("SHAPE", "Concat", 13, [a, a], axis=2)
    add.fails("TYPE", "Concat", 13, [a, a.astype(np.float64)], axis=0)


def split(add):
    x = arange((2, 6))
    add("Split", 2, [x], n_out=3, axis=1)
    add("Split", 2, [x], n_out=3, axis=1, split=[1, 2, 3])
    add("Split", 11, [x], n_out=2, axis=-1, split=[0, 6])
    add("Split", 13, [x, C([1, 5])], n_out=2, axis=1)
    add("Split", 13, [x], n_out=2)
    add("Split", 18, [x], n_out=3, num_outputs=3, axis=1)
    add("Split", 18, [arange((7, 2))], n_out=3, num_outputs=3, name="uneven")
    add("Split", 18, [x, C([4, 2])], n_out=2, axis=1)
    add("Split", 18, [TEXT, C([1, 2])], n_out=2, axis=1, name="string")
    add("Split", 13, [arange((4, 3), np.int8), C([1, 3])], n_out=[True, True], name="type")
    add.fails("SHAPE", "Split", 13, [x, C([1, 4])], n_out=2, axis=1)
    add.fails("SHAPE", "Split", 13, [x, C([-1, 7])], n_out=2, axis=1)
    add.fails("SHAPE", "Split", 13, [x], n_out=4, axis=1)
    add.fails("SHAPE", "Split", 13, [x, C([6])], n_out=2, axis=1)
    add.fails("INVALID", "Split", 18, [x], n_out=2, axis=1, num_outputs=3)


def slices(add):
    x = arange((5, 6))
    add("Slice", 1, [x], starts=[1, 2], ends=[4, 5])
    add("Slice", 1, [x], starts=[-3], ends=[FAR], axes=[1])
    rows = [([1, 2], [4, 5], None, None), ([0], [3], [1], None), ([4], [0], [0], [-1]), ([FAR], [-FAR], [0], [-2]),
            ([-1, -1], [-9, -9], [0, 1], [-1, -3]), ([2], [2], [0], None), ([3], [1], [0], None), ([1], [FAR], [-1], [2]),
            ([-100], [100], [0], [3]), ([0, 1], [5, 6], [1, 0], [2, 2]), ([0], [2**31 - 1], [1], [1]), ([10], [20], [0], [1]),
            ([1], [5], [0], [FAR]), ([4], [-FAR - 1], [1], [-FAR - 1])]
    for version in (10, 11, 13):
        for starts, ends, axes, steps in rows:
            inputs = [x, C(starts), C(ends), C(axes) if axes else None, C(steps) if steps else None]
            want = [x[tuple_of(x, starts, ends, axes, steps)]]
            add("Slice", version, inputs, want=want)
    add("Slice", 13, [x, C([1], np.int32), C([3], np.int32), C([1], np.int32), C([1], np.int32)], name="i32")
    add("Slice", 13, [TEXT, C([2]), C([-4]), C([1]), C([-1])], name="string")
    add("Slice", 13, [np.zeros((0, 3), np.float32), C([0]), C([5]), C([0])], name="empty")
    for dtype in TYPES:
        add("Slice", 13, [arange((3, 4), dtype), C([0, 3]), C([3, 0]), C([0, 1]), C([2, -2])], name="type")
    add.fails("INVALID", "Slice", 13, [x, C([0]), C([1]), C([0]), C([0])])
    add.fails("SHAPE", "Slice", 13, [x, C([0]), C([1]), C([2])])
    add.fails("SHAPE", "Slice", 13, [x, C([0, 0]), C([1])])
    add.fails("SHAPE", "Slice", 13, [x, C([0, 0]), C([1, 1]), C([0, 0])])


def tuple_of(x, starts, ends, axes, steps):
    """numpy's slices, by the words of the spec (numpy reads -1 as an end differently when steps are negative)."""
    out = [slice(None)] * x.ndim
    for k, (start, end) in enumerate(zip(starts, ends)):
        axis, step = (axes[k] if axes else k), (steps[k] if steps else 1)
        n = x.shape[axis]
        start, end = (start + n if start < 0 else start), (end + n if end < 0 else end)
        low, high = (0, n) if step > 0 else (-1, n - 1)
        start, end = min(max(start, 0 if step > 0 else -1), high), min(max(end, low), high)
        index = list(range(start, end, step))
        out[axis] = slice(index[0], None if index[-1] + step < 0 else index[-1] + step, step) if index else slice(0, 0)
    return tuple(out)


def expand_tile(add):
    x = arange((3, 1))
    for target in ([3, 4], [2, 3, 6], [1], [1, 1], [3, 1], [0]):
        add("Expand", 13, [x, C(target)])
    add("Expand", 8, [np.array(7, np.int64), C([2, 2])], name="scalar")
    add("Expand", 13, [TEXT, C([2, 1, 1])], name="string")
    add("Expand", 13, [np.zeros((0, 1), np.float32), C([1, 4])], name="empty")
    add("Expand", 13, [np.array(7, np.int8), C(np.zeros(0, np.int64))], name="scalar-to-scalar")
    add.fails("SHAPE", "Expand", 13, [x, C([4, 1])])
    add.fails("SHAPE", "Expand", 13, [x, C([-1])])
    add.fails("LIMIT", "Expand", 13, [x, C([2**62, 1, 1])])
    y = arange((2, 3), np.int16)
    for reps in ([1, 1], [2, 1], [1, 3], [2, 2], [0, 2]):
        add("Tile", 13, [y, C(reps)], want=[np.tile(y, reps)])
    add("Tile", 6, [TEXT, C([2, 1])], name="string", want=[np.tile(TEXT, [2, 1])])
    add("Tile", 13, [arange((2, 1, 2)), C([1, 2, 3])])
    add("Tile", 13, [np.array(3.0, np.float32), C(np.zeros(0, np.int64))], name="scalar")
    add("Tile", 1, [arange((2, 3)), C(np.array(2, np.float32)), C(np.array(1, np.float32))],
        want=[np.tile(arange((2, 3)), [1, 2])])
    add.fails("SHAPE", "Tile", 13, [y, C([2])])
    add.fails("SHAPE", "Tile", 13, [y, C([2, -1])])
    add.fails("LIMIT", "Tile", 13, [y, C([2**62, 2**62])])


def blocks(add):
    x = arange((2, 8, 2, 3))
    for mode in ("DCR", "CRD"):
        add("DepthToSpace", 13, [x], blocksize=2, mode=mode)
    add("DepthToSpace", 1, [x], blocksize=2)
    add("DepthToSpace", 13, [arange((1, 9, 1, 1), np.uint8)], blocksize=3, want=[arange((1, 1, 3, 3), np.uint8)])
    add("DepthToSpace", 13, [np.zeros((0, 4, 2, 2), np.float32)], blocksize=2)
    add("SpaceToDepth", 13, [arange((2, 3, 4, 6))], blocksize=2)
    add("SpaceToDepth", 1, [arange((1, 1, 3, 3))], blocksize=3)
    add.fails("SHAPE", "DepthToSpace", 13, [x], blocksize=3)
    add.fails("SHAPE", "SpaceToDepth", 13, [x], blocksize=2)
    add.fails("INVALID", "SpaceToDepth", 13, [x], blocksize=0)
    add.fails("INVALID", "DepthToSpace", 13, [x], blocksize=2, mode="XYZ")
    add.fails("SHAPE", "SpaceToDepth", 13, [arange((2, 2))], blocksize=2)


def trilu(add):
    for shape in ((3, 4), (4, 3), (2, 3, 3), (0, 3), (3, 0), (1, 1)):
        for upper in (0, 1):
            for k in (0, 1, -1, 5, -5):
                x = arange(shape) + 1
                add("Trilu", 14, [x, C(np.array(k, np.int64))], upper=upper, want=[np.triu(x, k) if upper else np.tril(x, k)])
    add("Trilu", 14, [arange((2, 2), np.int64)])
    add("Trilu", 14, [arange((2, 2), np.bool_), C(np.array(FAR))], upper=0, want=[arange((2, 2), np.bool_)])
    add.fails("SHAPE", "Trilu", 14, [arange((3,))])


def build(add):
    for group in (transpose, concat, split, slices, expand_tile, blocks, trilu):
        group(add)
