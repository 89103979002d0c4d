"""Operators of com.microsoft that belong to no other family, and those that share a kernel with ai.onnx."""
import numpy as np

from ops_cases import C

MS = "com.microsoft"
TOLERANCE = {
    "Inverse": (1e-4, 1e-5, "the oracle eliminates in f32 and in another order"),
    "CDist": (2e-5, 1e-5, "the oracle multiplies out the square in f32"),
    "CropAndResize": (1e-5, 2e-6, "coordinates are f32 in the oracle"),
    "Rfft": (1e-5, 1e-5, "sums in another order"),
    "Irfft": (1e-5, 1e-5, "sums in another order"),
    "GridSample": (1e-5, 1e-5, "the oracle interpolates in f32"),
    "GatedRelativePositionBias": (1e-5, 1e-5, "numpy adds in f32"),
}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(dtype)


def shared(add, rng):
    x = floats(rng, 2, 3, 4)
    add("Trilu", 1, [x], domain=MS)
    add("Trilu", 1, [x, C(1)], domain=MS, upper=0)
    add("GatherND", 1, [x, np.array([[0, 1], [1, 2]], np.int64)], domain=MS)
    add("GatherND", 1, [x, np.array([[1], [0]], np.int32)], domain=MS)
    add("Range", 1, [C(1), C(7), C(2)], domain=MS)
    add("Range", 1, [C([1]), C([4])], domain=MS)
    add("Range", 1, [C(np.array(0.5, np.float32)), C(np.array(2.0, np.float32))], domain=MS)
    for mode in ("constant", "edge", "reflect"):
        add("Pad", 1, [x, C([0, 1, 1, 0, 1, 2])], domain=MS, mode=mode)
    add("Pad", 1, [x, C([0, 1, 0, 0, 0, 2]), np.array([2.5], np.float32)], domain=MS)
    for axis in (0, 1, -1):
        add("ExpandDims", 1, [x, C(axis, np.int32)], domain=MS)
    for mode in ("bilinear", "nearest"):
        add("GridSample", 1, [floats(rng, 1, 2, 4, 5), floats(rng, 1, 3, 2, 2)], domain=MS, mode=mode, padding_mode="border")


def matrices(add, rng):
    for shape in ((3, 3), (2, 4, 4), (1, 1)):
        add("Inverse", 1, [floats(rng, *shape) + 2 * np.eye(shape[-1], dtype=np.float32)], domain=MS)
    add("Inverse", 1, [np.array([[0, 1], [1, 0]], np.float64)], domain=MS, name="pivot")
    add.fails("SHAPE", "Inverse", 1, [floats(rng, 2, 3)], domain=MS)
    for metric in ("sqeuclidean", "euclidean"):
        for dtype in (np.float32, np.float64):
            add("CDist", 1, [floats(rng, 3, 4, dtype=dtype), floats(rng, 2, 4, dtype=dtype)], domain=MS, metric=metric)
    add.fails("SHAPE", "CDist", 1, [floats(rng, 3, 4), floats(rng, 2, 3)], domain=MS)
    add.fails("UNSUPPORTED", "CDist", 1, [floats(rng, 3, 4), floats(rng, 2, 4)], domain=MS, metric="cosine")


def lists(add, rng):
    add("Unique", 1, [np.array([2, 1, 1, 3, 4, 3, 2], np.float32)], n_out=3, domain=MS)
    add("Unique", 1, [np.zeros(0, np.float32)], n_out=3, domain=MS, name="empty",
        want=[np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)])
    for positive in (0, 1):
        for x in (np.array([3, 4, -1], np.int32), np.array([3, 4, 1 << 31], np.uint32), np.array([3, 1 << 40], np.int64),
                  floats(rng, 2, 2), floats(rng, 2, dtype=np.float64), np.array(["", "a", "ab", "abc", "abcd", "hello"], object)):
            add("MurmurHash3", 1, [x], domain=MS, positive=positive, seed=7)
    ids = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4], [0, 1, 2, 3, 4]], np.int64)
    for size in (1, 2, 3, 6):
        add("NGramRepeatBlock", 1, [ids, floats(rng, 3, 6)], domain=MS, ngram_size=size)
    add.fails("INVALID", "NGramRepeatBlock", 1, [ids, floats(rng, 3, 6)], domain=MS, ngram_size=0)
    for dim, size, step in ((-1, 2, 1), (1, 3, 2), (0, 2, 1)):
        add("UnfoldTensor", 1, [floats(rng, 2, 5, 4)], domain=MS, dim=dim, size=size, step=step)
    add.fails("SHAPE", "UnfoldTensor", 1, [floats(rng, 2, 5)], domain=MS, dim=0, size=3)
    add.fails("INVALID", "UnfoldTensor", 1, [floats(rng, 2, 5)], domain=MS, dim=0, size=2, step=0)


def images(add, rng):
    boxes = np.array([[0.1, 0.2, 0.8, 0.7], [0, 0, 1, 1], [-0.2, 0.3, 0.5, 1.3], [0.9, 0.1, 0.2, 0.6]], np.float32)
    batch = np.array([0, 1, 1, 0], np.int32)
    for mode in ("bilinear", "nearest"):
        for size in ([3, 2], [1, 4]):
            add("CropAndResize", 1, [floats(rng, 2, 2, 5, 6), boxes, batch, C(size, np.int32)], domain=MS, mode=mode,
                extrapolation_value=0.5)
    add.fails("INVALID", "CropAndResize", 1, [floats(rng, 2, 2, 5, 6), boxes, batch, C([0, 2], np.int32)], domain=MS)
    add.fails("SHAPE", "CropAndResize", 1, [floats(rng, 2, 2, 5, 6), boxes, batch[:2], C([1, 2], np.int32)], domain=MS)


def tokens(add, rng):
    """By the schemas' words: the oracle has these on other devices only."""
    x, counts = floats(rng, 3, 4, 2), np.array([2, 0, 3], np.int32)
    rows = [x[b, s] for b in range(3) for s in range(counts[b])]
    places = [b * 4 + s for b in range(3) for s in range(counts[b])]
    places += [b * 4 + s for b in range(3) for s in range(counts[b], 4)]
    offsets = np.array(places, np.int32).reshape(3, 4)
    add("RemovePadding", 1, [x, counts], n_out=4, domain=MS,
        want=[np.stack(rows), offsets, np.array([0, 2, 2, 5], np.int32), np.array([3], np.int32)])
    full = np.zeros_like(x)
    full.reshape(-1, 2)[places[:5]] = rows
    add("RestorePadding", 1, [np.stack(rows), offsets], domain=MS, want=[full])
    add.fails("SHAPE", "RemovePadding", 1, [x, counts[:2]], n_out=4, domain=MS)


def bucket(distance, both, buckets, most):
    first = 0
    if both:
        buckets //= 2
        first, distance = (buckets if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    return first + min(buckets - 1, exact + int(np.log(distance / exact) / np.log(most / exact) * (buckets - exact)))


def positions(add, rng):
    """Hugging Face's T5 and WavLM say how these are computed: the oracle has them on other devices only."""
    for both in (0, 1):
        table = floats(rng, 8, 2)  # [buckets, heads], column by column in memory
        columns = table.reshape(2, 8)
        want = np.array([[[columns[h, bucket(k - q, both, 8, 10)] for k in range(6)] for q in range(6)] for h in range(2)])
        add("RelativePositionBias", 1, [table, C([6]), C([6])], domain=MS, max_distance=10, is_bidirectional=both,
            want=[want[None].astype(np.float32)])
    add.fails("INVALID", "RelativePositionBias", 1, [floats(rng, 8, 2), C([6]), C([6])], domain=MS, max_distance=2)
    q, qb, rel = floats(rng, 2, 3, 8), floats(rng, 8), floats(rng, 1, 2, 3, 3)
    w, b, eco = floats(rng, 4, 6), floats(rng, 6), floats(rng, 1, 2, 1, 1)
    layer = (q + qb).reshape(2, 3, 2, 4).transpose(0, 2, 1, 3) @ w + b
    u, r = np.moveaxis(1 / (1 + np.exp(-layer.reshape(2, 2, 3, 2, 3).sum(-1))), -1, 0)[..., None]
    add("GatedRelativePositionBias", 1, [q, qb, rel, w, b, eco], domain=MS, num_heads=2,
        want=[((u * (r * eco - 1) + 2) * rel).astype(np.float32)])
    add.fails("SHAPE", "GatedRelativePositionBias", 1, [q, qb, rel, w, b, eco], domain=MS, num_heads=4)


def spectra(add, rng):
    x = floats(rng, 2, 8)
    y = np.fft.rfft(x)
    pairs = np.stack([y.real, y.imag], -1).astype(np.float32)
    add("Rfft", 1, [x], domain=MS, signal_ndim=1, want=[pairs])  # on other devices only in the oracle: numpy
    add("Irfft", 1, [pairs], domain=MS, signal_ndim=1, want=[x])
    add.fails("UNSUPPORTED", "Rfft", 1, [x], domain=MS, signal_ndim=2)
    add.fails("SHAPE", "Irfft", 1, [x], domain=MS, signal_ndim=1)


def build(add):
    rng = np.random.default_rng(55)
    shared(add, rng)
    matrices(add, rng)
    lists(add, rng)
    images(add, rng)
    tokens(add, rng)
    positions(add, rng)
    spectra(add, rng)
