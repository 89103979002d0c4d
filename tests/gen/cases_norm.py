"""Normalisations: inference and training BatchNormalization, the optional outputs of LayerNormalization, groups, LRN."""
import numpy as np

from ops_cases import BF16

ORDER = "the oracle adds in f32 and takes reciprocal square roots its own way"
TOLERANCE = {op: (2e-5, 2e-6, ORDER) for op in (
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "LRN",
    "MeanVarianceNormalization")}


def floats(rng, shape, dtype=np.float32, low=-2.0, high=2.0):
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def batch_inputs(rng, shape, dtype=np.float32):
    c = (shape[1] if len(shape) > 1 else 1,)
    return [floats(rng, shape, dtype), floats(rng, c, dtype), floats(rng, c, dtype), floats(rng, c, dtype),
            floats(rng, c, dtype, 0.1, 2.0)]


def batch(add, rng):
    for version in (7, 9, 14, 15):
        for shape in ((2, 3, 4, 5), (2, 3), (1, 4, 6)):
            add("BatchNormalization", version, batch_inputs(rng, shape), epsilon=1e-3)
    for dtype in (np.float64, np.float16, BF16):
        add("BatchNormalization", 15, batch_inputs(rng, (2, 3, 4), dtype), name="type")
    mixed = batch_inputs(rng, (2, 3, 4))
    # f16 data with f32 statistics (allowed since 15): computed by hand, the oracle would widen
    x = mixed[0].astype(np.float16)
    s = [v.reshape(1, 3, 1).astype(np.float64) for v in mixed[1:]]
    y = (x.astype(np.float64) - s[2]) / np.sqrt(s[3] + 1e-5) * s[0] + s[1]
    add("BatchNormalization", 15, [x] + mixed[1:], want=[y.astype(np.float16)], name="mixed")
    add("BatchNormalization", 15, batch_inputs(rng, (3, 2, 4)), n_out=3, training_mode=1, momentum=0.7, oracle="reference",
        name="training")
    add("BatchNormalization", 15, batch_inputs(rng, (0, 2, 4)), want=[np.zeros((0, 2, 4), np.float32)], name="empty")
    good = batch_inputs(rng, (2, 3, 4))
    for i in range(1, 5):
        add.fails("SHAPE", "BatchNormalization", 15, good[:i] + [floats(rng, (2,))] + good[i + 1:])
    add.fails("UNSUPPORTED", "BatchNormalization", 7, good, spatial=0)
    add.fails("UNSUPPORTED", "BatchNormalization", 9, good, n_out=3)
    add.fails("UNSUPPORTED", "BatchNormalization", 15, good, n_out=3)
    add.fails("TYPE", "BatchNormalization", 15, [good[0].astype(np.int32)] + good[1:])


def instance_and_group(add, rng):
    for shape in ((2, 3, 4, 5), (1, 2, 6)):
        c = (shape[1],)
        add("InstanceNormalization", 6, [floats(rng, shape), floats(rng, c), floats(rng, c)], epsilon=1e-2)
    add("InstanceNormalization", 22, [floats(rng, (1, 2, 6), np.float64), floats(rng, (2,), np.float64),
        floats(rng, (2,), np.float64)],
        oracle="reference", tol=(1e-7, 1e-8))  # the attribute epsilon is a float
    for groups in (1, 2, 4):
        x = floats(rng, (2, 4, 3, 2))
        add("GroupNormalization", 18, [x, floats(rng, (groups,)), floats(rng, (groups,))], num_groups=groups, oracle="reference")
        add("GroupNormalization", 21, [x, floats(rng, (4,)), floats(rng, (4,))], num_groups=groups, oracle="reference")
    x = floats(rng, (2, 4, 3))
    add("GroupNormalization", 21, [np.zeros((0, 4, 3), np.float32), floats(rng, (4,)), floats(rng, (4,))], num_groups=2,
        want=[np.zeros((0, 4, 3), np.float32)], name="empty")
    for groups in (0, -1, 3):
        add.fails("SHAPE", "GroupNormalization", 21, [x, floats(rng, (4,)), floats(rng, (4,))], num_groups=groups)
    add.fails("SHAPE", "GroupNormalization", 18, [x, floats(rng, (4,)), floats(rng, (4,))], num_groups=2)
    add.fails("SHAPE", "GroupNormalization", 21, [x, floats(rng, (2,)), floats(rng, (2,))], num_groups=2)
    add.fails("SHAPE", "InstanceNormalization", 6, [floats(rng, (2, 3)), floats(rng, (3,)), floats(rng, (3,))])


def layer(add, rng):
    for axis in (-1, 1, -2, 0):
        x = floats(rng, (2, 3, 4))
        shape = x.shape[axis:]
        for n_out in (1, [True, True, True], [True, False, True], [True, True]):
            add("LayerNormalization", 17, [x, floats(rng, shape), floats(rng, shape)], n_out=n_out, axis=axis, epsilon=1e-3)
        add("LayerNormalization", 17, [x, floats(rng, shape)], axis=axis, name="no-bias")
        add("RMSNormalization", 23, [x, floats(rng, shape)], axis=axis, oracle="reference")
    for dtype in (np.float16, BF16):
        inputs = [floats(rng, (2, 5), dtype), floats(rng, (5,), dtype), floats(rng, (5,), dtype)]
        add("LayerNormalization", 17, inputs, n_out=3, dtypes=[{np.float16: "f16", BF16: "bf16"}[dtype], "f32", "f32"], name="type",
            tol=(8e-3, 1e-3) if dtype is BF16 else (2e-3, 1e-3))  # the statistics of f16 are printed rounded to f16
    x = floats(rng, (2, 3, 4))
    add("LayerNormalization", 17, [x, floats(rng, (1,)), floats(rng, (1, 1))], name="broadcast", oracle="reference")
    add("LayerNormalization", 17, [x, floats(rng, (3, 1)), floats(rng, (4,))], axis=1, name="broadcast", oracle="reference")
    add("LayerNormalization", 17, [np.zeros((0, 3), np.float32), floats(rng, (3,))], want=[np.zeros((0, 3), np.float32)],
        name="empty")
    add.fails("SHAPE", "LayerNormalization", 17, [x, floats(rng, (3,))])
    add.fails("SHAPE", "LayerNormalization", 17, [x, floats(rng, (4,))], axis=3)
    add.fails("SHAPE", "LayerNormalization", 17, [x, floats(rng, (1, 2, 3, 4))])
    add.fails("TYPE", "LayerNormalization", 17, [x, floats(rng, (4,))], stash_type=7)


def lrn(add, rng):
    for size in (1, 3, 9):
        add("LRN", 13, [floats(rng, (2, 5, 3, 2))], size=size, alpha=0.1, beta=0.5, bias=1.5)
    # even sizes by the spec's formula: ONNX Runtime refuses them, the reference evaluator mixes up batch and channels
    x = floats(rng, (2, 5, 3, 2))
    sums = np.stack([(x[:, max(0, c - 1):c + 3].astype(np.float64) ** 2).sum(1) for c in range(5)], 1)
    add("LRN", 13, [x], size=4, alpha=0.1, beta=0.5, bias=1.5, want=[(x / (1.5 + 0.1 / 4 * sums) ** 0.5).astype(np.float32)],
        name="even")
    add("LRN", 1, [floats(rng, (1, 4, 2, 2))], size=3)
    x = floats(rng, (1, 3, 2, 2))
    huge = x / (1 + 0.5 / 2**62 * (x.astype(np.float64) ** 2).sum(1, keepdims=True)) ** 0.75
    add("LRN", 13, [x], size=2**62, alpha=0.5, want=[huge.astype(np.float32)], name="huge")
    add.fails("SHAPE", "LRN", 13, [x], size=0)
    add.fails("SHAPE", "LRN", 13, [floats(rng, (3,))], size=3)


def axes(add, rng):
    x = floats(rng, (2, 3, 4, 2))
    add("MeanVarianceNormalization", 13, [x])
    for some in ([0], [1, 3], [-1], [0, 1, 2, 3]):
        add("MeanVarianceNormalization", 13, [x], axes=some)
    for p in (1, 2):
        for axis in (-1, 0, 2):
            norm = np.linalg.norm(x.astype(np.float64), p, axis, keepdims=True)
            add("LpNormalization", 1, [x], p=p, axis=axis, want=[(x / norm).astype(np.float32)])
    add("LpNormalization", 22, [np.zeros((2, 3), np.float32)], want=[np.zeros((2, 3), np.float32)], name="zero")
    add("LpNormalization", 22, [np.zeros((0, 3), np.float32)], want=[np.zeros((0, 3), np.float32)], name="empty")
    add("MeanVarianceNormalization", 13, [np.zeros((2, 0), np.float32)], axes=[1], name="empty",
        want=[np.zeros((2, 0), np.float32)])
    add.fails("SHAPE", "MeanVarianceNormalization", 13, [x], axes=[4])
    add.fails("SHAPE", "LpNormalization", 22, [x], axis=-5)
    add.fails("INVALID", "LpNormalization", 22, [x], p=3)


def build(add):
    rng = np.random.default_rng(13)
    batch(add, rng)
    instance_and_group(add, rng)
    layer(add, rng)
    lrn(add, rng)
    axes(add, rng)
