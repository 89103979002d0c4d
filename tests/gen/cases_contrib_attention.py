"""Attention operators of com.microsoft: masks of every rank, pasts, packed inputs, grouped heads with caches, rotation."""
import numpy as np

from ops_cases import C

MS = "com.microsoft"
SUMS = "the oracle multiplies and adds in f32 and takes exp by a polynomial"
TOLERANCE = {op: (2e-5, 4e-6, SUMS) for op in ("Attention", "MultiHeadAttention", "DecoderMaskedMultiHeadAttention",
                                               "GroupQueryAttention")}

HIDDEN = (1e-3, 1e-3)  # a query that sees no key: -10000 plus a score has a step of 1e-3 in the oracle's f32


def floats(rng, *shape):
    return np.asarray(rng.uniform(-1, 1, shape)).astype(np.float32)


def ints(*values):
    return np.array(values, np.int32)


def plain(q, k, v):
    """The formula on [batch, row, head, column]: the oracle's CPU kernels refuse packed inputs."""
    scores = np.einsum("bihd,bjhd->bhij", q.astype(np.float64), k) / np.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(-1, keepdims=True))
    y = np.einsum("bhij,bjhd->bihd", p / p.sum(-1, keepdims=True), v)
    return y.reshape(*y.shape[:2], -1).astype(np.float32)


def attention(add, rng):
    x, w, b = floats(rng, 2, 3, 5), floats(rng, 5, 12), floats(rng, 12)
    masks = [None, ints(2, 3), ints(3, 2, 1, 0), ints([1, 1, 0], [0, 1, 1]), ints([0, 0, 0], [1, 1, 1]),
             ints([[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 1, 1], [0, 1, 1], [0, 0, 1]])]
    for mask in masks:
        for causal in (0, 1):
            add("Attention", 1, [x, w, b, mask], domain=MS, num_heads=2, unidirectional=causal, tol=HIDDEN)
    add("Attention", 1, [x, w, b, None, None, floats(rng, 2, 2, 3, 3)], domain=MS, num_heads=2, name="scores")
    add("Attention", 1, [x, w, b, None, None, floats(rng, 1, 2, 3, 3)], domain=MS, num_heads=2, name="scores")
    add("Attention", 1, [x, w, None], domain=MS, num_heads=2, name="no-bias")
    add("Attention", 1, [x, w, b], domain=MS, num_heads=2, scale=0.25, name="scale")
    add("Attention", 1, [x, w, b, ints([1, 1, 0], [0, 1, 1])], domain=MS, num_heads=2, mask_filter_value=-3.0, name="filter")
    add("Attention", 1, [x, floats(rng, 5, 10), floats(rng, 10)], domain=MS, num_heads=2, qkv_hidden_sizes=[4, 4, 2])
    past = floats(rng, 2, 2, 2, 4, 2)
    for mask in (None, ints([1] * 7, [0, 1, 1, 0, 1, 1, 1])):
        for causal in (0, 1):
            add("Attention", 1, [x, w, b, mask, past], n_out=2, domain=MS, num_heads=2, unidirectional=causal, name="past")
    add("Attention", 1, [x, w, b], n_out=2, domain=MS, num_heads=2, name="present")
    add("Attention", 1, [np.zeros((2, 0, 5), np.float32), w, b], domain=MS, num_heads=2, name="empty",
        want=[np.zeros((2, 0, 4), np.float32)])
    add.fails("SHAPE", "Attention", 1, [x, w, b], domain=MS, num_heads=3)
    add.fails("SHAPE", "Attention", 1, [x, floats(rng, 4, 12), b], domain=MS, num_heads=2)
    add.fails("SHAPE", "Attention", 1, [x, w, b, ints([1, 1], [0, 1])], domain=MS, num_heads=2)
    add.fails("UNSUPPORTED", "Attention", 1, [x, w, b], domain=MS, num_heads=2, do_rotary=1)
    add.fails("INVALID", "Attention", 1, [x, w, b], domain=MS, num_heads=0)
    add.fails("INVALID", "Attention", 1, [x, w, b], domain=MS, num_heads=2, qkv_hidden_sizes=[4, 2, 6])


def multi(add, rng):
    op = "MultiHeadAttention"
    q, k, v = floats(rng, 2, 3, 4), floats(rng, 2, 5, 4), floats(rng, 2, 5, 6)
    b = floats(rng, 14)
    add(op, 1, [q, k, v], domain=MS, num_heads=2)
    add(op, 1, [q, k, v, b], domain=MS, num_heads=2, scale=0.3)
    for mask in (ints(5, 2), ints([1, 1, 0, 1, 1], [0, 1, 1, 1, 0]),
                 (rng.uniform(0, 1, (2, 3, 5)) > 0.4).astype(np.int32), np.zeros((2, 5), np.int32)):
        add(op, 1, [q, k, v, b, mask], domain=MS, num_heads=2, name="mask", tol=HIDDEN)
    add(op, 1, [q, k, v, None, None, floats(rng, 1, 2, 3, 5)], domain=MS, num_heads=2, name="scores")
    add(op, 1, [q, k, v, None, None, floats(rng, 2, 1, 3, 5)], domain=MS, num_heads=2, name="scores")
    packed, query, packed_kv = floats(rng, 2, 3, 2, 3, 4), floats(rng, 2, 3, 8), floats(rng, 2, 5, 2, 2, 4)
    add(op, 1, [packed], domain=MS, num_heads=2, name="packed", want=[plain(*np.moveaxis(packed, 3, 0))])
    add(op, 1, [query, packed_kv], domain=MS, num_heads=2, name="packed-kv",
        want=[plain(query.reshape(2, 3, 2, 4), *np.moveaxis(packed_kv, 3, 0))])
    add(op, 1, [q, floats(rng, 2, 2, 5, 2), floats(rng, 2, 2, 5, 2)], domain=MS, num_heads=2, name="heads-first")
    s, t = floats(rng, 2, 3, 4), floats(rng, 2, 3, 4)
    past = [floats(rng, 2, 2, 4, 2), floats(rng, 2, 2, 4, 2)]
    for causal in (0, 1):
        add(op, 1, [q, s, t], domain=MS, num_heads=2, unidirectional=causal, name="causal")
        add(op, 1, [q, s, t, floats(rng, 12), None, None] + past, n_out=3, domain=MS, num_heads=2, unidirectional=causal,
            name="past")
    mask = ints([1, 0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1])
    add(op, 1, [q, s, t, None, mask, None] + past, n_out=3, domain=MS, num_heads=2, name="past-mask")
    # by the formula: the oracle wants the type of its last output declared. It holds the masked scores before the softmax
    split = [x.reshape(2, 3, 2, 2) for x in (q, s, t)]
    scores = np.einsum("bihd,bjhd->bhij", split[0], split[1]) / np.sqrt(np.float32(2))
    add(op, 1, [q, s, t], n_out=[True, False, False, True], domain=MS, num_heads=2, name="qk", want=[plain(*split), scores])
    add.fails("SHAPE", op, 1, [q, k, v], domain=MS, num_heads=3)
    add.fails("SHAPE", op, 1, [q, floats(rng, 2, 5, 6), v], domain=MS, num_heads=2)
    add.fails("SHAPE", op, 1, [q, k, v, floats(rng, 12)], domain=MS, num_heads=2)
    add.fails("SHAPE", op, 1, [q, k, floats(rng, 1, 5, 6)], domain=MS, num_heads=2)
    add.fails("TYPE", op, 1, [q, k, v, None, np.ones((2, 5), np.float32)], domain=MS, num_heads=2)
    add.fails("INVALID", op, 1, [q, s, t, None, None, None, past[0]], domain=MS, num_heads=2)


def decoder(add, rng):
    op = "DecoderMaskedMultiHeadAttention"
    q, k, v, b = floats(rng, 2, 1, 4), floats(rng, 2, 1, 4), floats(rng, 2, 1, 4), floats(rng, 12)
    past = [floats(rng, 2, 2, 6, 2), floats(rng, 2, 2, 6, 2)]
    add(op, 1, [q, floats(rng, 2, 2, 5, 2), floats(rng, 2, 2, 5, 2)], domain=MS, num_heads=2, name="cross")
    for bias in (None, b):
        add(op, 1, [q, k, v, None, None] + past + [ints(3), None, None, bias], n_out=3, domain=MS, num_heads=2,
            past_present_share_buffer=1, name="shared", oracle="ort")
    beams = rng.integers(0, 2, (1, 2, 6)).astype(np.int32)
    add(op, 1, [q, k, v, None, None] + past + [ints(3), ints(2), beams, None], n_out=3, domain=MS, num_heads=2,
        past_present_share_buffer=1, name="beams")
    add.fails("INVALID", op, 1, [q, k, v, None, None] + past, domain=MS, num_heads=2, past_present_share_buffer=1)


def group(add, rng):
    op = "GroupQueryAttention"
    heads, kv, d, s = 2, 1, 16, 3

    def qkv(rows, batch=2):
        return [floats(rng, batch, rows, heads * d), floats(rng, batch, rows, kv * d), floats(rng, batch, rows, kv * d)]

    def cache(rows, batch=2):
        return [floats(rng, batch, kv, rows, d), floats(rng, batch, kv, rows, d)]
    angles = rng.uniform(0, 6, (16, d // 2))
    rotary = [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]
    base = dict(domain=MS, num_heads=heads, kv_num_heads=kv)
    none = [None, None]
    prompt = [ints(s - 1, s - 1), C(s, np.int32)]
    add(op, 1, qkv(s) + none + prompt, n_out=3, name="prompt", **base)
    add(op, 1, [floats(rng, 2, s, (heads + 2 * kv) * d), None, None] + none + prompt, n_out=3, name="packed", **base)
    add(op, 1, qkv(s) + none + prompt + rotary, n_out=3, name="rotary", do_rotary=1, **base)
    add(op, 1, qkv(s) + none + prompt + rotary, n_out=3, name="interleaved", do_rotary=1, rotary_interleaved=1, **base)
    for extra in (dict(softcap=2.0), dict(scale=0.5), dict(local_window_size=2), dict(smooth_softmax=1), dict(causal=0)):
        add(op, 1, qkv(s) + none + prompt, n_out=3, name="option", **extra, **base)
    add(op, 1, qkv(s) + none + prompt + none + [None, None, floats(rng, heads)], n_out=3, name="sink", **base)
    add(op, 1, qkv(s) + none + prompt + none + [None, floats(rng, 1, heads, s, s)], n_out=3, name="scores", **base)
    for mode in (1, 2):
        add(op, 1, qkv(s) + none + prompt, n_out=4, name="qk", qk_output=mode, **base)
    step = [ints(5, 5), C(6, np.int32)]
    add(op, 1, qkv(1) + cache(5) + step, n_out=3, name="step", **base)
    add(op, 1, qkv(1) + cache(5) + step + rotary, n_out=3, name="step-rotary", do_rotary=1, **base)
    add(op, 1, qkv(1) + cache(5) + [ints(5, 3), C(6, np.int32)], n_out=3, name="step-uneven", **base)
    add(op, 1, qkv(1) + cache(8) + step + rotary, n_out=3, name="step-buffer", do_rotary=1, local_window_size=3, **base)
    add(op, 1, qkv(2, 1) + cache(5, 1) + [ints(6), C(7, np.int32)] + rotary, n_out=3, name="chunk", do_rotary=1, **base)
    add(op, 1, qkv(s) + cache(8) + prompt, n_out=3, name="prompt-buffer", **base)
    add.fails("INVALID", op, 1, qkv(s) + none + prompt, n_out=3, domain=MS, num_heads=4, kv_num_heads=3)
    add.fails("INVALID", op, 1, qkv(s) + none + prompt, n_out=3, do_rotary=1, **base)
    add.fails("UNSUPPORTED", op, 1, qkv(s) + none + prompt, n_out=3, k_quant_type="PER_TENSOR", **base)
    add.fails("SHAPE", op, 1, qkv(s)[:2] + [floats(rng, 2, s, 2 * d)] + none + prompt, n_out=3, **base)
    add.fails("SHAPE", op, 1, qkv(s) + none + [ints(1), C(s, np.int32)], n_out=3, **base)


def build(add):
    rng = np.random.default_rng(50)
    attention(add, rng)
    multi(add, rng)
    decoder(add, rng)
    group(add, rng)
