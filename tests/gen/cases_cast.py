"""Cast and CastLike: numpy and ml_dtypes are the oracle for numbers, the specification's examples for text."""
import ml_dtypes
import numpy as np
from onnx import TensorProto, helper

from ops_cases import BF16

TYPES = {
    np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.float16: TensorProto.FLOAT16, BF16: TensorProto.BFLOAT16,
    np.int8: TensorProto.INT8, np.int16: TensorProto.INT16, np.int32: TensorProto.INT32, np.int64: TensorProto.INT64,
    np.uint8: TensorProto.UINT8, np.uint16: TensorProto.UINT16, np.uint32: TensorProto.UINT32, np.uint64: TensorProto.UINT64,
    bool: TensorProto.BOOL,
}
NARROW = {ml_dtypes.float8_e4m3fn: TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fnuz: TensorProto.FLOAT8E4M3FNUZ,
          ml_dtypes.float8_e5m2: TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2fnuz: TensorProto.FLOAT8E5M2FNUZ,
          ml_dtypes.int4: TensorProto.INT4, ml_dtypes.uint4: TensorProto.UINT4}


def text(*values):
    return np.array(values, object)


def build(add):
    for source in TYPES:
        for target, number in TYPES.items():
            x = np.array([0, 1, 2, 100, 7]).astype(source)
            add("Cast", 19, [x], want=[x.astype(target)], to=number)
    fractions = np.array([1.9, -1.9, 0.5, -0.5, 0.0, 3.0], np.float32)
    for target in (np.int8, np.int32, np.int64, bool):
        add("Cast", 13, [fractions], want=[fractions.astype(target)], to=TYPES[target], name="truncate")
    add("Cast", 13, [np.array([np.nan, 0.0, -0.0], np.float32)], want=[np.array([True, False, False])], to=TensorProto.BOOL,
        name="edge")
    wide = np.array([300, -1, 128, 2**40 + 5], np.int64)
    for target in (np.int8, np.uint8, np.int32, np.uint64):
        add("Cast", 13, [wide], want=[wide.astype(target)], to=TYPES[target], name="wrap")
    # what does not fit saturates, NaN gives 0: ours to choose
    far = np.array([1e20, -1e20, np.inf, np.nan], np.float32)
    add("Cast", 13, [far], want=[np.array([2**31 - 1, -(2**31), 2**31 - 1, 0], np.int32)], to=TensorProto.INT32, name="saturate")
    add("Cast", 13, [far], want=[np.array([255, 0, 255, 0], np.uint8)], to=TensorProto.UINT8, name="saturate")
    edge = np.array([np.nan, np.inf, -np.inf, 1e30, 65504, 65520, 6e-8, 1e-9, 1.00048828125, 1.0009765625], np.float32)
    with np.errstate(all="ignore"):
        for target in (np.float16, BF16, np.float64):
            add("Cast", 13, [edge], want=[edge.astype(target)], to=TYPES[target], name="round")
    values = np.array([0, 1, -1, 0.5, 1.5, -2, 3, 6], np.float32)
    for target, number in NARROW.items():
        x = np.abs(values) if "uint" in target.__name__ else values
        x = np.trunc(x) if "int" in target.__name__ else x
        narrow = x.astype(target)
        add("Cast", 21, [x], want=[narrow], to=number, name="narrow")
        add("Cast", 21, [narrow], want=[narrow.astype(np.float32)], to=TensorProto.FLOAT, name="narrow")
        add("Cast", 21, [x[:5]], want=[narrow[:5]], to=number, name="odd")
    big = np.array([1000, -1000], np.float32)
    top = np.array([448, -448], np.float32).astype(ml_dtypes.float8_e4m3fn)
    add("Cast", 19, [big], want=[top], to=TensorProto.FLOAT8E4M3FN, name="saturate")
    add("Cast", 19, [big], want=[np.array([np.nan, np.nan], np.float32).astype(ml_dtypes.float8_e4m3fn)],
        to=TensorProto.FLOAT8E4M3FN, saturate=0,
        name="saturate")
    add("Cast", 13, [np.float32(2.5).reshape(())], want=[np.int32(2).reshape(())], to=TensorProto.INT32, name="scalar")
    add("Cast", 13, [np.zeros((0, 3), np.float32)], want=[np.zeros((0, 3), np.int64)], to=TensorProto.INT64, name="empty")
    add("Cast", 13, [text("3.14", "1e-5", "1E8", "-7", "inf", "-INF", "NaN")],
        want=[np.array([3.14, 1e-5, 1e8, -7, np.inf, -np.inf, np.nan], np.float32)], to=TensorProto.FLOAT, name="text")
    add("Cast", 13, [text("9007199254740993", "-12")], want=[np.array([9007199254740993, -12])], to=TensorProto.INT64, name="text")
    add("Cast", 13, [np.array([0.1, 3, -1e-7, 1e20, np.nan, np.inf, -np.inf], np.float32)],
        want=[text("0.1", "3", "-1e-07", "1e+20", "NaN", "INF", "-INF")], to=TensorProto.STRING, name="text")
    add("Cast", 13, [np.array([2**64 - 1, 0], np.uint64)], want=[text("18446744073709551615", "0")], to=TensorProto.STRING,
        name="text")
    add("Cast", 13, [np.array([-5, 9], np.int8)], want=[text("-5", "9")], to=TensorProto.STRING, name="text")
    add("CastLike", 19, [np.array([1.5, 2.5], np.float32), np.zeros(1, np.int64)], want=[np.array([1, 2])])
    add("CastLike", 19, [np.array([1, 0], np.int32), np.zeros((0,), BF16)], want=[np.array([1, 0]).astype(BF16)])
    add.fails("FORMAT", "Cast", 13, [np.zeros(2, np.float32)], to=77)
    add.fails("FORMAT", "Cast", 13, [np.zeros(2, np.float32)])
    bits = np.array([[1.5, -0.0], [np.inf, 3e-40]], np.float32)
    for number, kind in ((TensorProto.INT32, np.int32), (TensorProto.UINT32, np.uint32)):
        add("BitCast", 26, [bits], want=[bits.view(kind)], to=number)
        add("BitCast", 26, [bits.view(kind)], want=[bits], to=TensorProto.FLOAT)
    half = bits.astype(np.float16)
    add("BitCast", 26, [half], want=[half.view(np.int16)], to=TensorProto.INT16)
    add("BitCast", 26, [half.view(np.uint16)], want=[half.view(BF16)], to=TensorProto.BFLOAT16)
    add("BitCast", 26, [np.array([True, False])], want=[np.array([1, 0], np.uint8)], to=TensorProto.UINT8)
    nibbles = np.arange(-8, 7).astype(ml_dtypes.int4)
    add("BitCast", 26, [nibbles], want=[(np.arange(-8, 7) & 15).astype(ml_dtypes.uint4)], to=TensorProto.UINT4, name="packed")
    add("BitCast", 26, [np.array(-1, np.int64)], want=[np.array(2**64 - 1, np.uint64)], to=TensorProto.UINT64, name="scalar")
    add("BitCast", 26, [bits[:0]], want=[bits[:0].view(np.int32)], to=TensorProto.INT32, name="empty")
    add.fails("TYPE", "BitCast", 26, [bits], to=TensorProto.INT64)
    add.fails("TYPE", "BitCast", 26, [bits], to=TensorProto.STRING)
    add.fails("TYPE", "BitCast", 26, [bits], to=99)
    # round_mode of powers of two: away from zero, toward zero, nearest with ties up; exponents by hand (bias 127)
    x = np.array([1, 1.25, 1.5, 1.75, 2.5, 3, 0.3], np.float32)
    for mode, codes in (("up", [127, 128, 128, 128, 129, 129, 126]), ("down", [127, 127, 127, 127, 128, 128, 125]),
                        ("nearest", [127, 127, 128, 128, 128, 129, 125])):
        want = np.array(codes, np.uint8).view(ml_dtypes.float8_e8m0fnu)
        add("Cast", 24, [x], want=[want], to=TensorProto.FLOAT8E8M0, round_mode=mode, name="round_mode")
        add("CastLike", 24, [x, want[:1]], want=[want], round_mode=mode, name="round_mode")
    add.fails("INVALID", "Cast", 24, [x], to=TensorProto.FLOAT8E8M0, round_mode="sideways")
    nibbles = x[:6].astype(ml_dtypes.float4_e2m1fn)
    want = np.array([127, 127, 127, 128, 128, 128], np.uint8).view(ml_dtypes.float8_e8m0fnu)  # 1 1 1.5 2 2 3 rounded down
    add("Cast", 24, [nibbles], want=[want], to=TensorProto.FLOAT8E8M0, round_mode="down", name="round_mode-packed")
    six_bits(add)


def six_bits(add):
    """Every code, halfway points with both neighbours, the ends. ml_dtypes rounds; the spec says nothing of NaN."""
    for dtype, number in ((ml_dtypes.float6_e2m3fn, TensorProto.FLOAT6E2M3), (ml_dtypes.float6_e3m2fn, TensorProto.FLOAT6E3M2)):
        every = np.arange(64, dtype=np.uint8).view(dtype)
        values = np.unique(every.astype(np.float32))
        half = (values[1:] + values[:-1]) / 2
        x = np.concatenate([values, half, np.nextafter(half, np.float32(np.inf)), np.nextafter(half, np.float32(-np.inf)),
                            np.array([1e9, -1e9, np.inf, -np.inf, 1e-30, -1e-30, np.nan], np.float32)])
        add("Cast", 28, [x], want=[x.astype(dtype)], to=number, name="six-bits")
        add("Cast", 28, [x], want=[x.astype(dtype)], to=number, saturate=0, name="six-bits")
        for to in (np.float32, np.float16, BF16, ml_dtypes.float8_e4m3fn):
            code = int(helper.np_dtype_to_tensor_dtype(np.dtype(to)))
            add("Cast", 28, [every], want=[every.astype(to)], to=code, name="six-bits")
        add("Cast", 28, [every], want=[every.astype(np.float32).astype(np.int8)], to=TensorProto.INT8, name="six-bits")
        whole = np.arange(-30, 31)
        add("Cast", 28, [whole], want=[whole.astype(np.float32).astype(dtype)], to=number, name="six-bits")
        add("Cast", 28, [every[:5].reshape(5, 1)], want=[every[:5].reshape(5, 1)], to=number, name="six-bits")
        add("CastLike", 28, [x[:7], every[:1]], want=[x[:7].astype(dtype)], name="six-bits")
