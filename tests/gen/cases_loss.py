"""Losses over classes: all reductions, weights, ignored classes, more dims."""
import numpy as np

TOLERANCE = {
    "NegativeLogLikelihoodLoss": (1e-5, 1e-6, "the oracle sums in f32, ours in f64"),
    "SoftmaxCrossEntropyLoss": (1e-5, 1e-6, "the oracle sums in f32, ours in f64"),
}


def build(add):
    rng = np.random.default_rng(3)
    for shape in ((4, 5), (3, 5, 2), (2, 4, 3, 2)):
        x = rng.uniform(-2, 2, shape).astype(np.float32)
        t = rng.integers(0, shape[1], shape[:1] + shape[2:])
        w = rng.uniform(0.1, 1, shape[1]).astype(np.float32)
        for reduction in ("none", "sum", "mean"):
            add("NegativeLogLikelihoodLoss", 13, [x, t], reduction=reduction)
            add("NegativeLogLikelihoodLoss", 12, [x, t.astype(np.int32), w], reduction=reduction)
            add("SoftmaxCrossEntropyLoss", 13, [x, t, w], n_out=2, reduction=reduction)
            add("SoftmaxCrossEntropyLoss", 12, [x, t.astype(np.int32)], reduction=reduction)
            odd = t.copy()
            odd.reshape(-1)[::3] = -1
            add("NegativeLogLikelihoodLoss", 22, [x, odd, w], reduction=reduction, ignore_index=-1, name="ignore",
                oracle="reference")
            add("SoftmaxCrossEntropyLoss", 13, [x, odd], reduction=reduction, ignore_index=-1, name="ignore", oracle="reference")
    big = np.array([[1000, 0], [-1000, 0]], np.float32)
    add("SoftmaxCrossEntropyLoss", 13, [big, np.array([0, 1])], n_out=2, reduction="none", name="big")
    add("SoftmaxCrossEntropyLoss", 13, [big.astype(np.float64), np.array([1, 0])], n_out=2, reduction="none", name="f64")
    add("NegativeLogLikelihoodLoss", 22, [big.astype(np.float16), np.array([0, 1])], reduction="sum", name="f16",
        oracle="reference")
    add("NegativeLogLikelihoodLoss", 13, [big[:0], np.zeros(0, np.int64)], reduction="none", name="empty",
        want=[np.zeros(0, np.float32)])
    add.fails("INVALID", "NegativeLogLikelihoodLoss", 13, [big, np.array([0, 1])], reduction="product")
    add.fails("SHAPE", "NegativeLogLikelihoodLoss", 13, [big, np.array([0, 1, 1])])
    add.fails("SHAPE", "SoftmaxCrossEntropyLoss", 13, [big, np.array([0, 1]), np.ones(3, np.float32)])
    add.fails("TYPE", "SoftmaxCrossEntropyLoss", 13, [big, np.array([0, 1], np.float32)])
