"""RotaryEmbedding of both domains, TensorScatter, SwiGLU, LinearAttention, CausalConvWithState."""
import numpy as np

from ops_cases import BF16

MS = "com.microsoft"
SUMS = "the oracle adds in f32"
TOLERANCE = {op: (1e-5, 2e-6, SUMS) for op in ("RotaryEmbedding", "SwiGLU", "LinearAttention", "CausalConvWithState")}


def floats(rng, *shape, dtype=np.float32):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(dtype)


def rotary(add, rng):
    op, ids = "RotaryEmbedding", np.array([[0, 2, 4], [5, 1, 0]], np.int64)
    flat, deep = floats(rng, 2, 3, 16), floats(rng, 2, 2, 3, 8)
    for dim in (0, 4):
        half = (dim or 8) // 2
        angle = rng.uniform(0, 6, (6, half))
        caches = [np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)]
        own = [np.ascontiguousarray(c[ids]) for c in caches]
        for interleaved in (0, 1):
            options = dict(interleaved=interleaved, rotary_embedding_dim=dim)
            add(op, 23, [flat] + caches + [ids], num_heads=2, oracle="reference", **options)
            add(op, 23, [deep] + own, oracle="reference", **options)
            add(op, 1, [flat, ids] + caches, domain=MS, num_heads=2, **options)
            add(op, 1, [flat, np.array([2], np.int64)] + caches, domain=MS, num_heads=2, **options)
            if not dim:
                add(op, 1, [flat, ids] + caches, domain=MS, name="heads", **options)
                add(op, 1, [deep, ids] + caches, domain=MS, name="4d", **options)
    add(op, 23, [np.zeros((2, 0, 16), np.float32), *caches, np.zeros((2, 0), np.int64)], num_heads=2, rotary_embedding_dim=4,
        want=[np.zeros((2, 0, 16), np.float32)], name="empty")
    add.fails("INVALID", op, 23, [flat] + caches + [ids], rotary_embedding_dim=4)
    add.fails("SHAPE", op, 23, [flat] + caches + [ids], num_heads=3, rotary_embedding_dim=4)
    add.fails("SHAPE", op, 23, [flat] + caches + [ids], num_heads=2, rotary_embedding_dim=3)
    add.fails("SHAPE", op, 23, [flat] + caches + [ids], num_heads=2)
    add.fails("SHAPE", op, 23, [flat] + caches, num_heads=2, rotary_embedding_dim=4)
    add.fails("TYPE", op, 23, [flat] + caches + [ids.astype(np.int32)], num_heads=2, rotary_embedding_dim=4)
    add.fails("UNSUPPORTED", op, 1, [flat, ids] + caches, domain=MS, num_heads=2, rotary_embedding_dim=4, scale=2.0)


def scatter(add, rng):
    op = "TensorScatter"
    for dtype in (np.float32, np.int8, np.float64):
        cache, update = floats(rng, 2, 2, 5, 3, dtype=dtype), floats(rng, 2, 2, 2, 3, dtype=dtype)
        add(op, 24, [cache, update, np.array([1, 3], np.int64)], oracle="reference")
    add(op, 24, [cache, update], oracle="reference", name="no-indices")
    add(op, 24, [cache, update, np.array([4, 7], np.int64)], mode="circular", oracle="reference", name="circular")
    add(op, 24, [floats(rng, 2, 4, 3), floats(rng, 2, 1, 3), np.array([0, 3], np.int64)], axis=1, oracle="reference")
    add.fails("INVALID", op, 24, [cache, update], axis=0)
    add.fails("INVALID", op, 24, [cache, update], mode="round")
    add.fails("SHAPE", op, 24, [update, cache])
    add.fails("SHAPE", op, 24, [cache, update, np.array([1], np.int64)])
    add.fails("TYPE", op, 24, [cache, update.astype(np.float32)])


def swiglu(add, rng):
    for dtype in (np.float32, np.float64, np.float16, BF16):
        add("SwiGLU", 28, [floats(rng, 2, 5, dtype=dtype), floats(rng, 2, 5, dtype=dtype)], alpha=1.5, oracle="reference",
            tol=None if dtype in (np.float32,) else (1e-2 if dtype is BF16 else 2e-3 if dtype == np.float16 else 1e-7, 1e-7))
    add.fails("SHAPE", "SwiGLU", 28, [floats(rng, 2, 5), floats(rng, 1, 5)])


def linear(add, rng):
    op = "LinearAttention"
    q, k, v = floats(rng, 2, 4, 12), floats(rng, 2, 4, 6), floats(rng, 2, 4, 8)
    state, beta = floats(rng, 2, 2, 3, 4), floats(rng, 2, 4, 2)
    heads = dict(q_num_heads=4, kv_num_heads=2, oracle="reference")
    for rule in ("linear", "gated", "delta", "gated_delta"):
        for gates in (2, 6) if rule.startswith("gated") else (0,):
            for rates in (1, 2) if rule.endswith("delta") else (0,):
                gate = floats(rng, 2, 4, gates) if gates else None
                rate = beta[..., :rates] if rates else None
                for past in (None, state):
                    add(op, 27, [q, k, v, past, gate, rate], n_out=2, update_rule=rule, **heads)
    add(op, 27, [q, k, v], n_out=2, update_rule="linear", scale=0.3, **heads)
    heads.pop("oracle")
    add.fails("INVALID", op, 27, [q, k, v], n_out=2, **heads)
    add.fails("INVALID", op, 27, [q, k, v], n_out=2, update_rule="none", **heads)
    add.fails("INVALID", op, 27, [q, k, v], n_out=2, update_rule="linear", q_num_heads=3, kv_num_heads=2)
    add.fails("SHAPE", op, 27, [q, k, v[:, :2]], n_out=2, update_rule="linear", **heads)


def causal(add, rng):
    op = "CausalConvWithState"
    for length in (1, 2, 6):
        for past in (None, floats(rng, 2, 3, 3)):
            add(op, 27, [floats(rng, 2, 3, length), floats(rng, 3, 1, 4), floats(rng, 3), past], n_out=2, oracle="reference")
    add(op, 27, [floats(rng, 2, 3, 5), floats(rng, 3, 1, 4)], n_out=2, activation="silu", oracle="reference")
    add(op, 27, [floats(rng, 2, 3, 5), floats(rng, 3, 1, 1)], n_out=2, activation="swish",
        want=None, oracle="reference", name="one")
    x = floats(rng, 2, 3, 5)
    add.fails("INVALID", op, 27, [x, floats(rng, 3, 1, 4)], n_out=2, activation="relu")
    add.fails("SHAPE", op, 27, [x, floats(rng, 2, 1, 4)], n_out=2)
    add.fails("SHAPE", op, 27, [x, floats(rng, 3, 2, 4)], n_out=2)
    add.fails("SHAPE", op, 27, [x, floats(rng, 3, 1, 4), None, floats(rng, 2, 3, 4)], n_out=2)
    add.fails("SHAPE", op, 27, [x, floats(rng, 3, 1, 0)], n_out=2)


def build(add):
    rng = np.random.default_rng(52)
    rotary(add, rng)
    scatter(add, rng)
    swiglu(add, rng)
    linear(add, rng)
    causal(add, rng)
