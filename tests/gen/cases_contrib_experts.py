"""MoE and WordConvEmbedding of com.microsoft."""
import numpy as np

MS = "com.microsoft"
TOLERANCE = {
    "MoE": (2e-5, 5e-6, "the oracle adds in f32 and has polynomials for its activations"),
    "WordConvEmbedding": (1e-5, 2e-6, "sums and tanh in f32"),
}


def floats(rng, *shape):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(np.float32)


def build(add):
    rng = np.random.default_rng(56)
    x, router = floats(rng, 3, 4), 2 * floats(rng, 3, 3)
    fc1, b1, fc2, b2 = floats(rng, 3, 6, 4), floats(rng, 3, 6), floats(rng, 3, 4, 6), floats(rng, 3, 4)
    for k, normal in ((1, 0), (2, 0), (2, 1), (3, 1)):
        add("MoE", 1, [x, router, fc1, b1, fc2, b2], domain=MS, k=k, normalize_routing_weights=normal)
    for name in ("gelu", "silu", "identity"):
        add("MoE", 1, [x, router, fc1, b1, fc2, b2], domain=MS, k=2, activation_type=name)
    add("MoE", 1, [x.reshape(1, 3, 4), router, fc1, None, fc2], domain=MS, k=2, name="3d")
    for limit in ({}, dict(swiglu_limit=0.3)):
        add("MoE", 1, [x, router, fc1, b1, floats(rng, 3, 4, 3), b2], domain=MS, k=2, activation_type="swiglu",
            swiglu_fusion=1, activation_alpha=1.7, activation_beta=1.0, name="swiglu", **limit)
    add.fails("INVALID", "MoE", 1, [x, router, fc1, b1, fc2, b2], domain=MS, k=4)
    add.fails("SHAPE", "MoE", 1, [x, router[:2], fc1, b1, fc2, b2], domain=MS)
    add.fails("SHAPE", "MoE", 1, [x, router, fc1, b1, floats(rng, 3, 4, 5), b2], domain=MS)
    add.fails("UNSUPPORTED", "MoE", 1, [x, router, fc1, b1, fc2, b2], domain=MS, activation_type="sine")
    words = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 1], [0, 0, 0, 0, 0]], np.int32)
    chars, kernel, bias = floats(rng, 9, 3), floats(rng, 4, 1, 2, 3), floats(rng, 4)
    add("WordConvEmbedding", 1, [words, kernel, bias, chars], domain=MS)
    add.fails("SHAPE", "WordConvEmbedding", 1, [words[None], kernel, bias, chars], domain=MS)
    add.fails("SHAPE", "WordConvEmbedding", 1, [words[..., :1], kernel, bias, chars], domain=MS)
    add.fails("SHAPE", "WordConvEmbedding", 1, [words, kernel, bias, floats(rng, 9, 2)], domain=MS)
    add.fails("TYPE", "WordConvEmbedding", 1, [words.astype(np.int64), kernel, bias, chars], domain=MS)
