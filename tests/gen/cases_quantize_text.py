"""Of com.microsoft: QAttention, QEmbedLayerNormalization, DynamicQuantizeLSTM."""
import numpy as np

MS = "com.microsoft"
TOLERANCE = {"QAttention": (1e-4, 1e-5, "the oracle works in f32 and in another order"),
             "QEmbedLayerNormalization": (1e-4, 1e-5, "the oracle works in f32 and in another order"),
             "DynamicQuantizeLSTM": (0, 0.03, "the oracle also quantises x and the state at each product, to 255 steps over "
                                              "their range; the kernel does not")}
U8, I8, F32 = np.uint8, np.int8, np.float32


def codes(rng, shape, dtype, lo=None, hi=None):
    lo, hi = np.iinfo(dtype).min if lo is None else lo, np.iinfo(dtype).max if hi is None else hi
    return np.asarray(rng.integers(lo, hi, shape, endpoint=True)).astype(dtype)


def attention(add, rng):
    batch, seq, width, heads, head = 2, 4, 10, 2, 5
    hidden = heads * head
    for t in (U8, I8):
        x = codes(rng, (batch, seq, width), U8)
        w = codes(rng, (width, 3 * hidden), t, *((-63, 63) if t is I8 else (0, 255)))
        bias = rng.uniform(-1, 1, 3 * hidden).astype(F32)
        zero = [U8(120), t(3)]
        column = rng.uniform(0.002, 0.008, 3 * hidden).astype(F32)
        past = rng.uniform(-1, 1, (2, batch, heads, 3, head)).astype(F32)
        base = [x, w, bias, F32(0.02), F32(0.005)]
        attrs = dict(domain=MS, num_heads=heads)
        total = seq + 3
        add("QAttention", 1, base, name="plain", **attrs)
        add("QAttention", 1, base + [None] + zero, name="zeros", **attrs)
        zeros = codes(rng, 3 * hidden, t, *((-20, 20) if t is I8 else (100, 150)))
        add("QAttention", 1, base[:4] + [column, None, zero[0], zeros], name="columns", **attrs)
        lengths, both = np.array([3, 4], np.int32), np.array([3, 4, 1, 0], np.int32)
        rows = np.array([[1, 1, 1, 0], [1, 0, 1, 1]], np.int32)
        full = (rng.random((batch, seq, seq)) < 0.7).astype(np.int32)
        full[:, :, 0] = 1
        for name, mask in (("lengths", lengths), ("ends-starts", both), ("rows", rows), ("matrix", full)):
            add("QAttention", 1, base + [mask] + zero, name=name, **attrs)
        add("QAttention", 1, base + [rows] + zero, name="filter", mask_filter_value=-3.0, **attrs)
        add("QAttention", 1, base + [None] + zero, name="causal", unidirectional=1, **attrs)
        add("QAttention", 1, base + [rows] + zero, name="causal-mask", unidirectional=1, **attrs)
        add("QAttention", 1, base + [None] + zero + [past], n_out=2, name="past", unidirectional=1, **attrs)
        add("QAttention", 1, base + [np.ones((batch, total), np.int32)] + zero + [past], n_out=2, name="past-mask", **attrs)
        add("QAttention", 1, base + [None] + zero, name="scale", scale=0.3, **attrs)
    add.fails("SHAPE", "QAttention", 1, base, domain=MS, num_heads=3)
    add.fails("SHAPE", "QAttention", 1, base + [np.ones((batch, 3), np.int32)] + zero, **attrs)
    add.fails("SHAPE", "QAttention", 1, base + [np.ones(3, np.int32)] + zero, **attrs)
    add.fails("SHAPE", "QAttention", 1, base + [None] + zero + [past[:, :, :1]], **attrs)
    add.fails("SHAPE", "QAttention", 1, [x[:, :, :9]] + base[1:], **attrs)
    add.fails("INVALID", "QAttention", 1, base, domain=MS, num_heads=0)
    add.fails("UNSUPPORTED", "QAttention", 1, base, do_rotary=1, **attrs)
    add.fails("TYPE", "QAttention", 1, base[:2] + [bias.astype(np.float64)] + base[3:], **attrs)


def embedding(add, rng):
    batch, seq, hidden = 2, 3, 8
    ids, segments = codes(rng, (batch, seq), np.int32, 0, 5), codes(rng, (batch, seq), np.int32, 0, 1)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    for t in (U8, I8):
        word, position, segment = (codes(rng, (n, hidden), t) for n in (6, 4, 2))
        gamma, beta = codes(rng, hidden, t), codes(rng, hidden, t)
        scales = [F32(s) for s in (0.01, 0.02, 0.03, 0.005, 0.004)]
        zeros = [t(z) for z in (10, 20, 30, 40, 50)]
        ins = [ids, segments, word, position, segment, gamma, beta, mask] + scales + zeros
        bare = [None if i in (1, 4, 7, 10, 15) else v for i, v in enumerate(ins)]
        add("QEmbedLayerNormalization", 1, ins, n_out=2, domain=MS)
        add("QEmbedLayerNormalization", 1, ins, n_out=2, domain=MS, name="epsilon", epsilon=0.1)
        add("QEmbedLayerNormalization", 1, bare, n_out=2, domain=MS, name="bare")
    add.fails("FORMAT", "QEmbedLayerNormalization", 1, ins[:1] + [None] + ins[2:], n_out=2, domain=MS)
    add.fails("FORMAT", "QEmbedLayerNormalization", 1, ins[:17], n_out=2, domain=MS)
    add.fails("SHAPE", "QEmbedLayerNormalization", 1, ins[:5] + [gamma[:7]] + ins[6:], n_out=2, domain=MS)
    add.fails("TYPE", "QEmbedLayerNormalization", 1, [ids.astype(np.int64)] + ins[1:], n_out=2, domain=MS)


def lstm(add, rng):
    seq, batch, width, hidden = 5, 3, 6, 4
    x = rng.uniform(-1, 1, (seq, batch, width)).astype(F32)
    for direction, dirs in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        for t in (U8, I8):
            w, r = codes(rng, (dirs, width, 4 * hidden), t), codes(rng, (dirs, hidden, 4 * hidden), t)
            bias = rng.uniform(-0.5, 0.5, (dirs, 8 * hidden)).astype(F32)
            zero = np.full(dirs, 128 if t is U8 else 0, t)
            scale = np.full(dirs, 0.006, F32)
            column = rng.uniform(0.003, 0.008, (dirs, 4 * hidden)).astype(F32)
            # ONNX Runtime wants zero points of one shape with the scales
            zeros = np.full((dirs, 4 * hidden), 128 if t is U8 else 0, t)
            state = [rng.uniform(-1, 1, (dirs, batch, hidden)).astype(F32) for _ in range(2)]
            attrs = dict(domain=MS, n_out=3, hidden_size=hidden, direction=direction)
            add("DynamicQuantizeLSTM", 1, [x, w, r, bias, None, None, None, None, scale, zero, scale, zero], **attrs)
            add("DynamicQuantizeLSTM", 1, [x, w, r, None, None] + state + [None, scale, zero, scale, zero], name="state", **attrs)
            ins = [x, w, r, bias, None] + state + [None, column, zeros, column, zeros]
            add("DynamicQuantizeLSTM", 1, ins, name="columns", **attrs)
    tail = [scale, zero, scale, zero]
    add.fails("FORMAT", "DynamicQuantizeLSTM", 1, [x, w, r, bias, None, None, None, None] + tail[:3], **attrs)
    add.fails("SHAPE", "DynamicQuantizeLSTM", 1, [x, w[:, :5], r, bias, None, None, None, None] + tail, **attrs)
    add.fails("SHAPE", "DynamicQuantizeLSTM", 1, [x, w, r, bias, None, None, None, None, scale[:1]] + tail[1:], **attrs)
    add.fails("TYPE", "DynamicQuantizeLSTM", 1, [x, w.astype(F32), r, bias, None, None, None, None] + tail, **attrs)


def build(add):
    rng = np.random.default_rng(66)
    attention(add, rng)
    embedding(add, rng)
    lstm(add, rng)
