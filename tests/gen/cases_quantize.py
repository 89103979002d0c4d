"""QuantizeLinear, DequantizeLinear (per tensor, axis, block; every type; both domains), DynamicQuantizeLinear."""
import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from ops_cases import BF16, make_model, oracle_outputs

CODES = [np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.uint4, ml_dtypes.int4, ml_dtypes.uint2, ml_dtypes.int2]
F8 = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz]
F4 = ml_dtypes.float4_e2m1fn
F6 = [ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn]
MS = "com.microsoft"


def info(dtype):
    return ml_dtypes.iinfo(dtype) if dtype not in (np.uint8, np.int8, np.uint16, np.int16) else np.iinfo(dtype)


def codes(rng, shape, dtype):
    if dtype in F8 + F6 or dtype is F4:
        return rng.uniform(-4, 4, shape).astype(np.float32).astype(dtype)
    return rng.integers(info(dtype).min, info(dtype).max, shape, endpoint=True).astype(np.int32).astype(dtype)


def direct(add, op, version, inputs, domain="", oracle="ort", **more):
    """As add, but the oracle sees f16 and bf16 as they are: here they decide where a quotient rounds."""
    inputs = [np.asarray(x) for x in inputs]
    attrs = {k: v for k, v in more.items() if k not in ("name", "tol")}
    model, feeds = make_model(op, version, domain, inputs, [True], attrs)
    with np.errstate(all="ignore"):
        want = [np.asarray(o) for o in oracle_outputs(oracle, model, feeds)]
    add(op, version, inputs, want=want, domain=domain, **more)


def scales(rng, shape, dtype=np.float32):
    return np.asarray(rng.uniform(0.02, 0.2, shape)).astype(dtype)


# where a scale lies: name, shape of x, shape of the scale, attributes
LAYOUTS = [("tensor", (3, 4), (), {}), ("one", (3, 4), (1,), {}),
           ("axis0", (3, 4, 2), (3,), {"axis": 0}), ("axis1", (3, 4, 2), (4,), {}),
           ("last", (3, 5), (5,), {"axis": -1}), ("vector", (6,), (6,), {"axis": 0}),
           ("block0", (5, 4), (3, 4), {"axis": 0, "block_size": 2}), ("block1", (2, 7, 3), (2, 3, 3), {"block_size": 3}),
           ("block-last", (3, 8), (3, 2), {"axis": -1, "block_size": 4}), ("block-odd", (3, 7), (3, 3), {"block_size": 3})]


def quantize(add, rng):
    for dtype in CODES:
        for name, x_shape, s_shape, attrs in LAYOUTS:
            if dtype not in (np.uint8, ml_dtypes.int4) and name not in ("tensor", "axis1", "block-odd"):
                continue
            spread = min(2 * float(info(dtype).max), 300.0) / 10
            x = rng.uniform(-spread, spread, x_shape).astype(np.float32)
            zero = codes(rng, s_shape, dtype) if name != "one" else np.zeros(s_shape, np.int32).astype(dtype)
            direct(add, "QuantizeLinear", 25, [x, scales(rng, s_shape), zero], oracle="reference", name=name, **attrs)
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 1e9, -1e9, np.inf, -np.inf, 0.0], np.float32)
    one = np.float32(1)
    for dtype in (np.uint8, np.int8):  # ties, saturation; ONNX Runtime: the reference wraps what does not fit i32
        direct(add, "QuantizeLinear", 13, [halves, one, np.array(3, dtype)], name="ties")
    for version in (10, 13, 19, 21, 23):
        direct(add, "QuantizeLinear", version, [halves[:6], np.float32(0.25), np.uint8(128)], name="version")
    direct(add, "QuantizeLinear", 21, [halves[:6], one], name="u8-default")
    direct(add, "QuantizeLinear", 21, [halves[:6], one], name="output_dtype", output_dtype=TensorProto.INT16)
    # NaN: ONNX Runtime's vector code gives the lower end
    add("QuantizeLinear", 13, [np.array([np.nan], np.float32), one, np.int8(5)], want=[np.array([-128], np.int8)], name="nan")
    add("QuantizeLinear", 13, [np.zeros((0, 3), np.float32), one, np.uint8(0)], want=[np.zeros((0, 3), np.uint8)], name="empty")
    add("QuantizeLinear", 21, [np.zeros((2, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8)],
        want=[np.zeros((2, 0), np.uint8)], name="empty-axis")
    direct(add, "QuantizeLinear", 13, [np.float32(3.3), np.float32(0.5), np.uint8(1)], name="scalar")


def quantize_types(add, rng):
    x = rng.uniform(-9, 9, (3, 40)).astype(np.float32)
    for dtype in F8 + [F4]:
        for s in (np.float32(0.5), np.float32(0.004)):
            direct(add, "QuantizeLinear", 23, [x, s, np.zeros((), dtype)], oracle="reference", name="float")
    for dtype in F6:
        for s in (np.float32(0.5), np.float32(0.004)):
            direct(add, "QuantizeLinear", 28, [x, s, np.zeros((), dtype)], oracle="reference", name="float")
    for dtype in F8:
        direct(add, "QuantizeLinear", 23, [x, np.float32(0.0001), np.zeros((), dtype)], oracle="reference", name="unsaturated",
               saturate=0)
    for half in (np.float16, BF16):  # the quotient rounds to the type before it rounds to a code
        xh = rng.uniform(-300, 300, (2, 60)).astype(half)
        direct(add, "QuantizeLinear", 23, [xh, np.asarray(2.3).astype(half), np.int8(3)], oracle="reference", name="half")
        block_scales = scales(rng, (2, 12), half) * np.asarray(30).astype(half)
        direct(add, "QuantizeLinear", 23, [xh, block_scales, codes(rng, (2, 12), np.uint8)], oracle="reference", name="half-block",
               block_size=5)
        direct(add, "QuantizeLinear", 23, [xh.astype(np.float32), np.float32(2.3), np.int8(3)], oracle="reference",
               name="precision", precision=int(helper.np_dtype_to_tensor_dtype(np.dtype(half))))
    e8 = np.array([0.5, 2, 4], np.float32).astype(ml_dtypes.float8_e8m0fnu)
    want = np.clip(np.rint(x[:, :3] / e8.astype(np.float32)), -8, 7).astype(np.int32).astype(ml_dtypes.int4)
    add("QuantizeLinear", 24, [x[:, :3], e8, np.zeros(3, np.int32).astype(ml_dtypes.int4)], want=[want], name="e8m0")
    ints = rng.integers(-1000, 1000, (2, 9)).astype(np.int32)
    direct(add, "QuantizeLinear", 13, [ints, np.float32(4), np.uint8(100)], oracle="reference", name="i32")


def dequantize(add, rng):
    for dtype in CODES + F8 + [F4]:
        for name, x_shape, s_shape, attrs in LAYOUTS:
            if dtype not in (np.uint8, ml_dtypes.int4) and name not in ("tensor", "axis1", "block-odd"):
                continue
            zero = [] if dtype in F8 or dtype is F4 else [codes(rng, s_shape, dtype)]
            ins = [codes(rng, x_shape, dtype), scales(rng, s_shape)] + zero
            direct(add, "DequantizeLinear", 25, ins, oracle="reference", name=name, **attrs)
    own = np.random.default_rng(6)
    for dtype in F6:
        for name, x_shape, s_shape, attrs in LAYOUTS:
            if name in ("tensor", "axis1", "block-odd"):
                ins = [codes(own, x_shape, dtype), scales(own, s_shape)]
                direct(add, "DequantizeLinear", 28, ins, oracle="reference", name=name, **attrs)
    for half in (np.float16, BF16):
        direct(add, "DequantizeLinear", 23, [codes(rng, (2, 30), np.int16), np.asarray(0.013).astype(half)], oracle="reference",
               name="half", tol=(0, 0))
        direct(add, "DequantizeLinear", 23, [codes(rng, (2, 9), np.int8), np.float32(0.3), np.int8(7)], oracle="reference",
               name="output_dtype", tol=(0, 0), output_dtype=int(helper.np_dtype_to_tensor_dtype(np.dtype(half))))
    x = codes(rng, (4, 6), np.uint8)
    for version in (10, 13, 19, 21, 23):
        direct(add, "DequantizeLinear", version, [x, np.float32(0.1), np.uint8(128)], name="version", tol=(0, 0))
    ints = rng.integers(-2**31, 2**31 - 1, (3, 4)).astype(np.int32)
    direct(add, "DequantizeLinear", 13, [ints, np.float32(1e-3)], name="i32", tol=(0, 0))
    direct(add, "DequantizeLinear", 13, [ints, scales(rng, 4)], name="i32-axis", tol=(0, 0))
    e8 = np.array([0.5, 2, 4, 8], np.float32).astype(ml_dtypes.float8_e8m0fnu)
    x4 = codes(rng, (4, 3), F4)
    want = x4.astype(np.float32) * e8.astype(np.float32)[:, None]
    add("DequantizeLinear", 23, [x4, e8], want=[want], name="e8m0", axis=0, output_dtype=TensorProto.FLOAT)
    add.fails("TYPE", "DequantizeLinear", 23, [x4, e8], axis=0)


def failures(add):
    x, c = np.ones((2, 6), np.float32), np.ones((2, 6), np.uint8)
    s = np.ones(3, np.float32)
    add.fails("SHAPE", "QuantizeLinear", 21, [x, s])
    add.fails("SHAPE", "QuantizeLinear", 21, [x, np.ones((2, 3), np.float32)])
    add.fails("SHAPE", "QuantizeLinear", 21, [x, np.ones((2, 3), np.float32)], block_size=3)
    add.fails("SHAPE", "QuantizeLinear", 21, [x, np.ones(6, np.float32), np.ones(2, np.uint8)])
    add.fails("SHAPE", "DequantizeLinear", 21, [c, np.ones(6, np.float32)], axis=2)
    add.fails("INVALID", "DequantizeLinear", 21, [c, np.ones(6, np.float32)], block_size=-1)
    add.fails("TYPE", "QuantizeLinear", 21, [c, np.float32(1)])
    add.fails("TYPE", "QuantizeLinear", 21, [x, np.float32(1), np.uint8(0)], output_dtype=TensorProto.INT8)
    add.fails("TYPE", "QuantizeLinear", 21, [x, np.float32(1)], output_dtype=TensorProto.FLOAT)
    add.fails("UNSUPPORTED", "QuantizeLinear", 25, [x, np.float32(1)], output_dtype=99)
    add.fails("TYPE", "QuantizeLinear", 25, [x, np.float32(1)], precision=TensorProto.INT8)
    add.fails("TYPE", "DequantizeLinear", 21, [c, np.float32(1), np.int8(0)])
    add.fails("TYPE", "DequantizeLinear", 21, [x, np.float32(1)])


def microsoft(add, rng):
    for dtype in (np.uint8, np.int8, np.uint16, np.int16):
        x = rng.uniform(-20, 20, (3, 4)).astype(np.float32)
        direct(add, "QuantizeLinear", 1, [x, np.float32(0.1), np.array(9, dtype)], domain=MS, name="tensor")
        direct(add, "QuantizeLinear", 1, [x, scales(rng, 4), codes(rng, 4, dtype)], domain=MS, name="axis", axis=1)
        c = codes(rng, (3, 4), dtype)
        direct(add, "DequantizeLinear", 1, [c, np.float32(0.1), np.array(9, dtype)], domain=MS, name="tensor", tol=(0, 0))
        direct(add, "DequantizeLinear", 1, [c, scales(rng, 3), codes(rng, 3, dtype)], domain=MS, name="axis", tol=(0, 0), axis=0)


def dynamic(add, rng):
    for name, x in (("both", rng.uniform(-3, 5, (4, 9))), ("positive", rng.uniform(2, 5, (9,))),
                    ("negative", rng.uniform(-7, -2, (3, 3))),
                    ("zero", np.zeros((2, 2))), ("ties", np.array([0, 255, 0.5, 1.5, 2.5, 3.5]))):
        add("DynamicQuantizeLinear", 11, [x.astype(np.float32)], n_out=3, name=name)
    add.fails("TYPE", "DynamicQuantizeLinear", 11, [np.ones(2, np.float64)], n_out=3)


def build(add):
    rng = np.random.default_rng(60)
    quantize(add, rng)
    quantize_types(add, rng)
    dequantize(add, rng)
    microsoft(add, rng)
    dynamic(add, rng)
    failures(add)
