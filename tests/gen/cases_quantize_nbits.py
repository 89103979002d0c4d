"""Of com.microsoft: MatMulNBits, MatMulBnb4, MatMulFpQ4, GatherBlockQuantized."""
import ml_dtypes
import numpy as np

from onnx import numpy_helper

from ops_cases import BF16, C, make_model, ort_outputs

MS = "com.microsoft"
ORDER = "the oracle multiplies in f32, in another order; the kernel in double"
TOLERANCE = {"MatMulNBits": (1e-5, 2e-5, ORDER), "MatMulBnb4": (1e-5, 2e-5, ORDER), "MatMulFpQ4": (1e-5, 2e-5, ORDER)}
F32 = np.float32


def packed_bytes(rng, shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def blocks_of(k, size):
    return -(-k // size)


def nbits(add, rng):
    for bits in (2, 4, 8):
        for a_shape, n, k, size in (((3, 32), 5, 32, 16), ((1, 2, 100), 4, 100, 32), ((48,), 3, 48, 16)):
            blocks = blocks_of(k, size)
            x = rng.uniform(-1, 1, a_shape).astype(F32)
            b = packed_bytes(rng, (n, blocks, size * bits // 8))
            scales = rng.uniform(0.01, 0.1, (n, blocks)).astype(F32)
            zeros = packed_bytes(rng, (n, (blocks * bits + 7) // 8))
            float_zeros = rng.uniform(0, 2**bits - 1, (n, blocks)).astype(F32)
            bias = rng.uniform(-1, 1, n).astype(F32)
            attrs = dict(domain=MS, bits=bits, block_size=size, K=k, N=n)
            tol = None if bits < 8 else (1e-5, 2e-4)  # 128 times larger weights
            if len(a_shape) == 1:  # ONNX Runtime wants a matrix
                weights = unpack(b, bits).reshape(n, -1)[:, :k].astype(np.float64) - 2 ** (bits - 1)
                want = x.astype(np.float64) @ (weights * np.repeat(scales, size, axis=1)[:, :k]).T
                add("MatMulNBits", 1, [x, b, scales], want=[want.astype(F32)], name="vector", tol=tol, **attrs)
                continue
            add("MatMulNBits", 1, [x, b, scales], name="plain", tol=tol, **attrs)
            add("MatMulNBits", 1, [x, b, scales, zeros], name="zeros", tol=tol, **attrs)
            add("MatMulNBits", 1, [x, b, scales, zeros, None, bias], name="bias", tol=tol, **attrs)
            add("MatMulNBits", 1, [x, b.reshape(-1), scales.reshape(-1), zeros.reshape(-1)], name="flat", tol=tol,
                want=[oracle_flat(x, b, scales, zeros, bits, size, k)], **attrs)
            if bits == 4:
                add("MatMulNBits", 1, [x, b, scales, float_zeros], name="float-zeros", tol=tol, **attrs)
                groups = rng.integers(0, blocks, k).astype(np.int32)
                add("MatMulNBits", 1, [x, b, scales, zeros, groups], name="groups", tol=tol,
                    want=[oracle_flat(x, b, scales, zeros, bits, size, k, groups)], **attrs)
    x = rng.uniform(-1, 1, (2, 32))
    b, scales = packed_bytes(rng, (3, 2, 8)), rng.uniform(0.01, 0.1, (3, 2))
    attrs = dict(domain=MS, bits=4, block_size=16, K=32, N=3)
    for half in (np.float16, BF16):
        add("MatMulNBits", 1, [x.astype(half), b, scales.astype(half)], name="half", **attrs)
    bias = np.array([1, 2, 3], F32)
    empty = [x.astype(F32), b[:, :0], scales.astype(F32), None, None, bias]  # weights left out, see the specification
    add("MatMulNBits", 1, empty, want=[np.tile(bias, (2, 1))], name="omitted", **attrs)
    ins = [x.astype(F32), b, scales.astype(F32)]
    add("MatMulNBits", 1, [ins[0][:0]] + ins[1:], want=[np.zeros((0, 3), F32)], name="empty", **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, [ins[0][:, :31]] + ins[1:], **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, [ins[0], b[:2], ins[2]], **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, [ins[0], b, ins[2][:2]], **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, ins + [np.zeros((3, 2), np.uint8)], **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, ins + [None, np.zeros(31, np.int32)], **attrs)
    add.fails("SHAPE", "MatMulNBits", 1, ins + [None, np.zeros((32, 0), np.int32)], **attrs)
    add.fails("TYPE", "MatMulNBits", 1, [ins[0], b.astype(np.int8), ins[2]], **attrs)
    add.fails("TYPE", "MatMulNBits", 1, ins[:2] + [scales], **attrs)
    add.fails("UNSUPPORTED", "MatMulNBits", 1, ins, **dict(attrs, bits=3))
    add.fails("INVALID", "MatMulNBits", 1, ins, **dict(attrs, block_size=24))
    add.fails("LIMIT", "MatMulNBits", 1, ins, **dict(attrs, K=2**40))


def unpack(b, bits):
    per = 8 // bits
    return np.stack([b >> (bits * i) & (2**bits - 1) for i in range(per)], axis=-1).reshape(*b.shape[:-1], -1)


def oracle_flat(x, b, scales, zeros, bits, size, k, groups=None):
    """The specification in numpy, for the forms that ONNX Runtime's kernel refuses: flat inputs, g_idx."""
    n, blocks = scales.shape
    codes = unpack(b, bits).reshape(n, -1)[:, :k].astype(np.float64)
    zero = unpack(zeros, bits)[:, :blocks]
    groups = np.arange(k) // size if groups is None else groups
    return (x.astype(np.float64) @ ((codes - zero[:, groups]) * scales[:, groups]).T).astype(F32)


def bnb4(add, rng):
    for kind in (0, 1):
        for n, k, size in ((5, 32, 16), (3, 50, 32), (4, 21, 16)):
            b = packed_bytes(rng, (n * k + 1) // 2)
            absmax = rng.uniform(0.1, 2, blocks_of(n * k, size)).astype(F32)
            x = rng.uniform(-1, 1, (2, 3, k)).astype(F32)
            add("MatMulBnb4", 1, [x, b, absmax], domain=MS, K=k, N=n, block_size=size, quant_type=kind)
    # transB = 0: the specification in numpy, which ONNX Runtime's CPU kernel does not follow here
    table = np.array([-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0, 0.0795803, 0.1609302,
                      0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1])
    codes = np.stack([b >> 4, b & 15], axis=-1).reshape(-1)[:n * k]
    weights = (table[codes] * np.repeat(absmax.astype(np.float64), size)[:n * k]).reshape(n, k)
    x = rng.uniform(-1, 1, (2, n)).astype(F32)
    add("MatMulBnb4", 1, [x, b, absmax], want=[(x @ weights).astype(F32)], domain=MS, K=k, N=n, block_size=size, quant_type=1,
        transB=0, name="not-transposed")
    x = np.ones((2, 32), F32)
    attrs = dict(domain=MS, K=32, N=3, block_size=16)
    add.fails("INVALID", "MatMulBnb4", 1, [x, np.ones(48, np.uint8), np.ones(6, F32)], quant_type=2, **attrs)
    add.fails("SHAPE", "MatMulBnb4", 1, [x, np.ones(47, np.uint8), np.ones(6, F32)], quant_type=1, **attrs)
    add.fails("SHAPE", "MatMulBnb4", 1, [x, np.ones(48, np.uint8), np.ones(5, F32)], quant_type=1, **attrs)


def fpq4(add, rng):
    for kind in (0, 1):
        for n, k in ((3, 64), (2, 40), (5, 7)):
            blocks = n * blocks_of(k, 32)
            scales = rng.uniform(0.1, 1, (blocks, 1)).astype(F32).view(np.uint8)
            blob = np.concatenate([scales, packed_bytes(rng, (blocks, 16 + kind))], axis=1)
            if kind:
                blob[:, 4] &= 15
            x = rng.uniform(-1, 1, (2, 2, k)).astype(F32)
            ins = [x, blob.reshape(-1), np.array([k, n])]
            model, feeds = make_model("MatMulFpQ4", 1, MS, ins, [True], dict(blk_quant_type=kind))
            for name in ("in1", "in2"):  # ONNX Runtime wants constants here
                model.graph.initializer.append(numpy_helper.from_array(feeds.pop(name), name))
            del model.graph.input[1:]
            add("MatMulFpQ4", 1, ins[:2] + [C([k, n])], want=ort_outputs(model, feeds), domain=MS, blk_quant_type=kind)
    add.fails("SHAPE", "MatMulFpQ4", 1, [x, blob.reshape(-1), C([k, n + 1])], domain=MS)
    add.fails("SHAPE", "MatMulFpQ4", 1, [x[:, :, 1:], blob.reshape(-1), C([k, n])], domain=MS)
    add.fails("UNSUPPORTED", "MatMulFpQ4", 1, [x, blob.reshape(-1), C([k, n])], domain=MS, blk_quant_type=2)


def four_bits(rng, shape, dtype):
    info = ml_dtypes.iinfo(dtype)
    return rng.integers(int(info.min), int(info.max), shape, endpoint=True).astype(np.int32).astype(dtype)


def dequantized(data, scales, zeros, axis, size):
    """Data, scales and zero points of one rank, in numpy."""
    wide = [np.repeat(t.astype(np.float64), size, axis=axis) if t is not None else 0 for t in (scales, zeros)]
    cut = tuple(slice(0, n) for n in data.shape)
    return (data.astype(np.float64) - (wide[1][cut] if zeros is not None else 0)) * wide[0][cut]


def gather(add, rng):
    indices = np.array([[2, 0], [-1, 1]], np.int64)
    for dtype in (ml_dtypes.uint4, ml_dtypes.int4):  # numpy: ONNX Runtime's Python interface takes no 4-bit arrays
        for shape, g, q, size in (((4, 40), 0, 1, 16), ((3, 32, 3), 0, 1, 16), ((20, 4), 1, 0, 16), ((4, 3, 33), 1, 2, 32)):
            s_shape = tuple(blocks_of(n, size) if d == q else n for d, n in enumerate(shape))
            data, zeros = four_bits(rng, shape, dtype), four_bits(rng, s_shape, dtype)
            scales = rng.uniform(0.1, 1, s_shape).astype(F32)
            attrs = dict(domain=MS, gather_axis=g, quantize_axis=q, block_size=size)
            for z in (None, zeros):
                want = np.take(dequantized(data, scales, z, q, size), indices, axis=g).astype(F32)
                ins = [data, indices, scales] + ([] if z is None else [z])
                add("GatherBlockQuantized", 1, ins, want=[want], name="4bit", **attrs)
    for bits in (4, 8):
        data, scales = packed_bytes(rng, (5, 64 * bits // 8)), rng.uniform(0.1, 1, (5, 4)).astype(F32)
        attrs = dict(domain=MS, gather_axis=0, quantize_axis=1, block_size=16, bits=bits)
        add("GatherBlockQuantized", 1, [data, indices.astype(np.int32), scales], name="u8", **attrs)
        add("GatherBlockQuantized", 1, [data, indices, scales, packed_bytes(rng, (5, 4 * bits // 8))], name="u8-zeros", **attrs)
        add("GatherBlockQuantized", 1, [data, indices, scales.astype(np.float16)], name="half", **attrs)
    want = np.zeros((1, 64), F32)  # as the specification says; ONNX Runtime's CPU kernel refuses
    add("GatherBlockQuantized", 1, [data, np.array([5]), scales], want=[want], name="outside", **attrs)
    f8 = rng.uniform(-4, 4, (5, 40)).astype(F32).astype(ml_dtypes.float8_e4m3fn)
    one = rng.uniform(0.1, 1, (1, 1)).astype(F32)
    want = np.take(f8.astype(F32) * one, indices, axis=0)
    add("GatherBlockQuantized", 1, [f8, indices, one], want=[want], name="f8-row", domain=MS, quantize_axis=1, block_size=0)
    table = rng.uniform(0.1, 1, (5, 3)).astype(F32)
    want = np.take(dequantized(f8, table, None, 1, 16), indices, axis=0).astype(F32)
    add("GatherBlockQuantized", 1, [f8, indices, table], want=[want], name="f8", domain=MS, quantize_axis=1, block_size=16)
    add.fails("INVALID", "GatherBlockQuantized", 1, [f8, indices, table, f8[:, :3]], domain=MS, block_size=16)
    add.fails("SHAPE", "GatherBlockQuantized", 1, [data, indices, scales[:, :3]], **attrs)
    add.fails("SHAPE", "GatherBlockQuantized", 1, [data, indices, scales], **dict(attrs, quantize_axis=2))
    add.fails("INVALID", "GatherBlockQuantized", 1, [data, indices, scales], **dict(attrs, gather_axis=1))
    add.fails("TYPE", "GatherBlockQuantized", 1, [data.astype(np.int16), indices, scales], **attrs)
    add.fails("TYPE", "GatherBlockQuantized", 1, [data, indices.astype(F32), scales], **attrs)


def build(add):
    rng = np.random.default_rng(65)
    nbits(add, rng)
    bnb4(add, rng)
    fpq4(add, rng)
    gather(add, rng)
