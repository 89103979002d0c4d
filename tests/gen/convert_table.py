#!/usr/bin/env python3
"""Writes tests/unit/convert_table.h: what number conversions must give, from numpy and ml_dtypes (decoding) and exact
rational arithmetic (rounding). Run again only when the formats or the inputs change; needs numpy and ml_dtypes."""
import math
import pathlib
from fractions import Fraction

import ml_dtypes
import numpy as np

# name: numpy type, bits, (mantissa bits, smallest normal exponent, largest finite, has infinity) of floats
FLOATS = {
    "F64": (np.float64, 64, (52, -1022, None, True)),
    "F32": (np.float32, 32, (23, -126, None, True)),
    "F16": (np.float16, 16, (10, -14, None, True)),
    "BF16": (ml_dtypes.bfloat16, 16, (7, -126, None, True)),
    "F8E4M3FN": (ml_dtypes.float8_e4m3fn, 8, (3, -6, None, False)),
    "F8E4M3FNUZ": (ml_dtypes.float8_e4m3fnuz, 8, (3, -7, None, False)),
    "F8E5M2": (ml_dtypes.float8_e5m2, 8, (2, -14, None, True)),
    "F8E5M2FNUZ": (ml_dtypes.float8_e5m2fnuz, 8, (2, -15, None, False)),
    "F4E2M1": (ml_dtypes.float4_e2m1fn, 4, (1, 0, None, False)),
    "F6E2M3": (ml_dtypes.float6_e2m3fn, 6, (3, 0, None, False)),
    "F6E3M2": (ml_dtypes.float6_e3m2fn, 6, (2, -2, None, False)),
}
INTS = {
    "BOOL": (np.uint8, 8, 0, 1), "I8": (np.int8, 8, -128, 127), "U8": (np.uint8, 8, 0, 255),
    "I16": (np.int16, 16, -2**15, 2**15 - 1), "U16": (np.uint16, 16, 0, 2**16 - 1),
    "I32": (np.int32, 32, -2**31, 2**31 - 1), "U32": (np.uint32, 32, 0, 2**32 - 1),
    "I64": (np.int64, 64, -2**63, 2**63 - 1), "U64": (np.uint64, 64, 0, 2**64 - 1),
    "I4": (None, 4, -8, 7), "U4": (None, 4, 0, 15), "I2": (None, 2, -2, 1), "U2": (None, 2, 0, 3),
}
SMALL = ["F4E2M1", "F6E2M3", "F6E3M2"]  # neither infinity nor NaN
FLOAT8 = ["F8E4M3FN", "F8E4M3FNUZ", "F8E5M2", "F8E5M2FNUZ"]


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def largest(name):
    return Fraction(float(ml_dtypes.finfo(FLOATS[name][0]).max))


def round_to(name, x, saturate):
    """Nearest value of the format, ties to even, as a Python float ('nan' for NaN); x a float special or a Fraction."""
    mantissa, low, _, has_inf = FLOATS[name][2]
    always = name in SMALL
    if isinstance(x, float) and math.isnan(x):
        return -0.0 if always else math.nan
    if isinstance(x, float) and x == 0:
        return x
    if not (isinstance(x, float) and math.isinf(x)):
        x = Fraction(x)
        if x == 0:
            return 0.0
        e = x.numerator.bit_length() - x.denominator.bit_length()
        if abs(x) < Fraction(2) ** e:
            e -= 1
        step = Fraction(2) ** (max(e, low) - mantissa)
        y = round(x / step) * step  # Python rounds Fractions half to even
        if abs(y) <= largest(name):
            return float(y) if y else math.copysign(0.0, x)
    sign = -1.0 if x < 0 else 1.0
    if always or (saturate and name in FLOAT8):
        return sign * float(largest(name))
    return sign * math.inf if has_inf else math.nan


def encode(name, y):
    """Code of a value that the format holds exactly; None for NaN."""
    if math.isnan(y):
        return None
    bits = FLOATS[name][1]
    raw = {64: np.uint64, 32: np.uint32, 16: np.uint16}.get(bits, np.uint8)
    code = np.array([y], np.float64).astype(FLOATS[name][0]).view(raw)[0]
    if name in SMALL:
        code = int(code) & ((1 << bits) - 1)
    if y == 0 and name.endswith("FNUZ"):
        code = 0
    return int(code)


def value(name, code):
    """Exact value of a code: Fraction, or a float for -0, infinity and NaN."""
    if name == "F8E8M0":
        return math.nan if code == 255 else Fraction(2) ** (code - 127)
    if name in FLOATS:
        np_type, bits, _ = FLOATS[name]
        raw = {64: np.uint64, 32: np.uint32, 16: np.uint16}.get(bits, np.uint8)
        f = float(np.array([code], raw).view(np_type).astype(np.float64)[0])
        return f if math.isnan(f) or math.isinf(f) or f == 0 else Fraction(f)
    _, bits, low, _ = INTS[name]
    if name == "BOOL":
        return Fraction(1 if code else 0)
    return Fraction(code - (1 << bits) if low < 0 and code >> (bits - 1) else code)


def convert(frm, to, code, saturate):
    if frm == to and frm != "BOOL":
        return code
    x = value(frm, code)
    special = isinstance(x, float)
    if to == "F8E8M0":  # round up, the default of ONNX Cast
        if special and math.isnan(x) or x < 0:
            return 255
        if special and x == 0 or x == 0:
            return 0 if saturate else 255
        if special or x > Fraction(2) ** 127:
            return 254 if saturate else 255
        if x < Fraction(2) ** -127:
            return 0 if saturate else 255
        return next(c for c in range(255) if Fraction(2) ** (c - 127) >= x)
    if to in FLOATS:
        return encode(to, round_to(to, x, saturate))
    _, bits, low, high = INTS[to]
    if to == "BOOL":
        return int(special and (math.isnan(x) or x != 0) or not special and x != 0)
    if frm in FLOATS or frm == "F8E8M0":
        if special and math.isnan(x):
            v = 0
        elif special and math.isinf(x):
            v = high if x > 0 else low
        else:
            v = min(max(math.trunc(x), low), high)
    else:
        v = int(x)
    return v & ((1 << bits) - 1)


def bits_of(name):
    return 8 if name == "F8E8M0" else (FLOATS.get(name) or INTS[name])[1]


def pack(name, codes):
    """Codes to bytes; a NaN (None) is all ones, which the test makes of any NaN it gets."""
    bits = bits_of(name)
    codes = [(1 << bits) - 1 if c is None else c for c in codes]
    if bits >= 8:
        return b"".join(c.to_bytes(bits // 8, "little") for c in codes)
    out = bytearray((len(codes) * bits + 7) // 8)
    for i, c in enumerate(codes):
        v = c << (i * bits % 8)
        out[i * bits // 8] |= v & 255
        if v > 255:
            out[i * bits // 8 + 1] |= v >> 8
    return bytes(out)


def sources(name):
    bits = bits_of(name)
    if bits == 8:
        return [0, 1] if name == "BOOL" else list(range(256))
    if bits == 6:
        return list(range(64)) + [41, 22, 3]
    if bits == 4:
        return list(range(16)) + [5]
    if bits == 2:
        return [0, 1, 2, 3, 3, 2, 1]
    state, codes = 12345, []
    if name in FLOATS:
        for v in [0.0, -0.0, 1.0, -1.0, 1.5, 2.5, -0.5, 0.499, 0.75, 3.25, 5.0, 7.5, 6.999, -7.9, 100.5, 127.9,
                  -128.9, 240.0, 248.0, 448.0, 464.0, 465.0, 57344.0, 61440.0, 65504.0, 65519.0,
                  65520.0, 1e5, 3e9, -3e9, 1e19, 1.9e19, 3e38, math.inf,
                  -math.inf, math.nan, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 2.0**-17, 2.0**-9, 2.0**-10,
                  1.00390625, 1.00390625 + 2.0**-40, 1 + 2.0**-11 + 2.0**-45, 1.0625, 1.0625 + 2.0**-50, 1e-45, 1e-300]:
            with np.errstate(over="ignore"):
                codes.append(encode(name, float(np.float64(v).astype(FLOATS[name][0]))) if not math.isnan(v) else
                             {64: 0x7FF8000000000000, 32: 0x7FC00000, 16: 0x7E00 if name == "F16" else 0x7FC0}[bits])
    else:
        low, high = INTS[name][2:]
        for v in [0, 1, -1, 2, 7, 8, 15, 16, -8, -9, 127, 128, 200, 255, 256, 257, -129, 32767, 32768, 65535, 65536,
                  2**24 + 1, 2**24 + 3,
                  2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**54 + 2**46 + 1, 2**62 + 2**54 + 1, 2**62 + 2**38 + 1,
                  2**63 - 1, 2**63,
                  2**64 - 1, 2**64 - 2**39 - 1, -2**63, -2**62 - 2**54 - 1, low, high, high - 1, low + 1]:
            if low <= v <= high:
                codes.append(v & ((1 << bits) - 1))
    while len(codes) < 61:
        state = (state * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        codes.append((state >> (64 - bits)) & ((1 << bits) - 1))
    return codes


def is_nan_code(name, code):
    x = value(name, code)
    return isinstance(x, float) and math.isnan(x)


def c_hex(data):
    text = data.hex()
    return "\n".join(f'     "{text[i:i + 110]}"' for i in range(0, len(text), 110))


def main():
    names = list(FLOATS) + ["F8E8M0"] + list(INTS)
    out = ["/* convert_table.h - made by tests/gen/convert_table.py; do not edit. */",
           "#ifndef PS_TEST_CONVERT_TABLE_H", "#define PS_TEST_CONVERT_TABLE_H", "",
           "/* f32 bits of the 256 codes of each 8-bit format and the 64 and 16 of f6 and f4; NaN is 0x7FC00000. */"]
    for name in FLOAT8 + ["F8E8M0"] + SMALL:
        n = 1 << bits_of(name)
        np_type = ml_dtypes.float8_e8m0fnu if name == "F8E8M0" else FLOATS[name][0]
        f = np.arange(n, dtype=np.uint8).view(np_type).astype(np.float32)
        f[np.isnan(f)] = np.nan
        u = np.where(np.isnan(f), np.uint32(0x7FC00000), f.view(np.uint32))
        out.append(f"static const uint32_t decode_{name.lower()}[{n}] = {{")
        out += ["    " + " ".join(f"0x{v:08X}," for v in u[i:i + 8]) for i in range(0, n, 8)]
        out.append("};")
    out += ["", "/* Row-major elements of each type to convert from, as hex. */", "typedef struct convert_source {",
            "    ps_dtype dtype;", "    int n;", "    const char *hex;", "} convert_source;", "",
            "static const convert_source convert_sources[] = {"]
    src = {}
    for name in names:
        src[name] = sources(name)
        out += [f"    {{ PS_DTYPE_{name}, {len(src[name])},", c_hex(pack(name, src[name])) + " },"]
    out += ["};", "", "/* FNV-1a of the result of each pair, saturating and not, NaN written as all ones. */",
            "typedef struct convert_expected {", "    ps_dtype from, to;", "    uint64_t saturate, plain;",
            "} convert_expected;", "",
            "static const convert_expected convert_table[] = {"]
    for frm in names:
        for to in names:
            h = []
            for saturate in (True, False):
                codes = [convert(frm, to, c, saturate) for c in src[frm]]
                codes = [None if c is not None and is_nan_code(to, c) else c for c in codes]
                h.append(fnv(pack(to, codes)))
            out.append(f"    {{ PS_DTYPE_{frm}, PS_DTYPE_{to}, 0x{h[0]:016X}, 0x{h[1]:016X} }},")
    out.append("};")

    # f32 → narrow over many patterns: every f16 and bf16 value, their halfway points with both neighbours, random bits
    out += ["", "/* FNV-1a of f32 → dtype over the patterns that test_convert.c builds; NaN all ones. */",
            "typedef struct narrow_expected {", "    ps_dtype dtype;", "    bool saturate;", "    uint64_t hash;",
            "} narrow_expected;", "",
            "static const narrow_expected narrow_table[] = {"]
    f16 = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    bf16 = np.arange(65536, dtype=np.uint32) << 16
    lcg, s = np.empty(65536, np.uint32), 1
    for i in range(65536):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        lcg[i] = s
    patterns = [f16 + d for d in (0, 0xFFF, 0x1000, 0x1001)] + [bf16 + d for d in (0, 0x7FFF, 0x8000, 0x8001)] + [lcg]
    patterns = np.concatenate(patterns).astype(np.uint32)
    f = patterns.view(np.float32)
    nan = np.isnan(f)
    for name in ["F16", "BF16"] + FLOAT8 + SMALL:
        for saturate in ((True, False) if name in FLOAT8 else (False,)):
            np_type, bits, _ = FLOATS[name]
            x = np.where(nan, np.float32(0), f)
            with np.errstate(over="ignore", invalid="ignore"):
                if saturate or name in SMALL:
                    top = np.float32(float(largest(name)))
                    x = np.clip(x, -top, top)
                y = x.astype(np_type)
            code = y.view(np.uint16 if bits == 16 else np.uint8).copy()
            ones = (1 << min(bits, 16)) - 1
            code[np.isnan(y.astype(np.float32)) | nan] = 1 << (bits - 1) if name in SMALL else ones
            out.append(f"    {{ PS_DTYPE_{name}, {'true' if saturate else 'false'}, 0x{fnv(code.tobytes()):016X} }},")
    out += ["};", "", "#endif"]
    path = pathlib.Path(__file__).resolve().parents[1] / "unit" / "convert_table.h"
    path.write_text("\n".join(out) + "\n")


main()
