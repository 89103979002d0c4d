"""Types packed below one byte through the operators that move elements: Transpose, Concat, Split, Slice, Expand, Tile,
DepthToSpace, SpaceToDepth, Trilu, Pad, Gather, GatherElements, GatherND, ReverseSequence, Reshape, ConstantOfShape. Extents
are odd, so that rows begin inside of bytes. numpy moves: the oracles know most of these types in few operators only."""
import ml_dtypes
import numpy as np

from ops_cases import C

FLOATS = {ml_dtypes.float4_e2m1fn: 6, ml_dtypes.float6_e2m3fn: 7.5, ml_dtypes.float6_e3m2fn: 28}  # the largest value
TYPES = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2, *FLOATS]


def elements(rng, shape, dtype):
    if dtype in FLOATS:
        return rng.uniform(-FLOATS[dtype], FLOATS[dtype], shape).astype(np.float32).astype(dtype)
    info = ml_dtypes.iinfo(dtype)
    return rng.integers(int(info.min), int(info.max), shape, endpoint=True).astype(np.int32).astype(dtype)


def moves(add, rng, t):
    x = elements(rng, (3, 5, 7), t)
    add("Transpose", 25, [x], want=[x.transpose(2, 0, 1)], perm=[2, 0, 1])
    add("Transpose", 25, [x[:, :, 0]], want=[x[:, :, 0].T])
    add("Reshape", 25, [x, C([5, 21])], want=[x.reshape(5, 21)])
    parts = [elements(rng, (3, n, 5), t) for n in (1, 3, 2)]
    add("Concat", 13, parts, want=[np.concatenate(parts, axis=1)], axis=1)
    add("Split", 18, [x, C([1, 4])], want=[x[:, :1], x[:, 1:]], n_out=2, axis=1)
    add("Slice", 13, [x, C([1, 6]), C([4, 0]), C([1, 2]), C([1, -1])], want=[x[:, 1:4, 6:0:-1]])
    add("Expand", 13, [x[:, :1], C([2, 3, 5, 7])], want=[np.broadcast_to(x[:, :1], (2, 3, 5, 7))])
    add("Tile", 13, [x, C([1, 2, 3])], want=[np.tile(x, (1, 2, 3))])
    d = elements(rng, (1, 4, 3, 3), t)
    add("DepthToSpace", 13, [d], want=[d.reshape(1, 2, 2, 1, 3, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 6, 6)], blocksize=2)
    s = elements(rng, (1, 1, 4, 6), t)
    add("SpaceToDepth", 13, [s], want=[s.reshape(1, 1, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 4, 2, 3)], blocksize=2)
    square = elements(rng, (5, 5), t)
    add("Trilu", 14, [square], want=[np.tril(square.astype(np.float32)).astype(t)], upper=0)
    value = elements(rng, (), t)
    pads = ((1, 2), (0, 1))
    wide = np.pad(square.astype(np.float32), pads, constant_values=float(value)).astype(t)
    add("Pad", 25, [square, C([1, 0, 2, 1]), value], want=[wide])
    add("Pad", 25, [square, C([1, 0, 2, 1])], want=[np.pad(square.astype(np.float32), pads, "reflect").astype(t)], mode="reflect")


def picks(add, rng, t):
    x = elements(rng, (4, 3, 5), t)
    at = np.array([[3, 0], [-1, 2]], np.int64)
    add("Gather", 13, [x, at], want=[np.take(x, at, axis=0)])
    add("Gather", 13, [x, np.array(2)], want=[x[:, :, 2]], axis=2)
    y = elements(rng, (4, 8), t)
    add("Gather", 13, [y, at], want=[y[at]], name="whole-bytes")
    index = rng.integers(0, 3, (4, 2, 5)).astype(np.int64)
    add("GatherElements", 13, [x, index], want=[np.take_along_axis(x, index, axis=1)], axis=1)
    add("GatherND", 13, [x, np.array([[0, 2], [3, 1]])], want=[x[[0, 3], [2, 1]]])
    lens = np.array([2, 4, 1], np.int64)
    want = x.copy()
    for b, n in enumerate(lens):
        want[:n, b] = x[:n, b][::-1]
    add("ReverseSequence", 10, [x, lens], want=[want])
    value = elements(rng, (1,), t)
    add("ConstantOfShape", 25, [C([3, 5])], want=[np.broadcast_to(value, (3, 5))], value=value)


def build(add):
    rng = np.random.default_rng(67)
    for t in TYPES:
        moves(add, rng, t)
        picks(add, rng, t)
