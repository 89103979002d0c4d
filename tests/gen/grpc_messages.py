#!/usr/bin/env python3
"""Writes tests/unit/grpc_messages.h and fuzz/corpus/grpc_infer: ModelInferRequests as protobuf's own library encodes them, with
what they say, and ModelInferResponses.

usage: grpc_messages.py        (needs tritonclient[grpc] and numpy)

Deterministic: a second run changes nothing.
"""

import struct
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2 as pb

TOP = Path(__file__).resolve().parent.parent.parent
CORPUS = TOP / "fuzz/corpus/grpc_infer"
FIELD = {"BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
         "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
         "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
NUMPY = {"BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4",
         "UINT64": "<u8", "FP32": "<f4", "FP64": "<f8", "FP16": "<f2"}


def varint(n):
    n &= 2**64 - 1
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def length(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def data_text(kind, raw):
    """What the reader must have made of an input: its elements' bytes in hexadecimal."""
    if kind != "BYTES":
        return raw.hex()
    parts = []
    while raw:
        n = struct.unpack_from("<I", raw)[0]
        parts.append(raw[4:4 + n].hex())
        raw = raw[4 + n:]
    return ",".join(parts)


def raw_of(kind, values):
    if kind == "BYTES":
        return b"".join(struct.pack("<I", len(v)) + v for v in values)
    return np.array(values, NUMPY[kind]).tobytes()


def describe(m, datas):
    lines = [f"model={m.model_name} version={m.model_version} id={m.id}"]
    p = m.parameters
    sequence = p["sequence_id"] if "sequence_id" in p else None
    kind = sequence.WhichOneof("parameter_choice") if sequence is not None else None
    text = "" if kind is None else "s" + sequence.string_param if kind == "string_param" else f"i{getattr(sequence, kind)}"
    number = {name: getattr(p[name], p[name].WhichOneof("parameter_choice")) if name in p else 0
              for name in ("priority", "timeout")}
    flags = [int(name in p and p[name].bool_param) for name in ("sequence_start", "sequence_end")]
    lines.append(f"sequence={text} start={flags[0]} end={flags[1]} priority={number['priority']} timeout={number['timeout']}")
    for i, data in zip(m.inputs, datas, strict=True):
        lines.append(f"input {i.name} {i.datatype} [{','.join(map(str, i.shape))}] {data_text(i.datatype, data)}")
    for o in m.outputs:
        classes = o.parameters["classification"].int64_param if "classification" in o.parameters else 0
        lines.append(f"output {o.name} classes={classes}")
    return "\n".join(lines) + "\n"


VALUES = {"BOOL": [True, False, True, True], "INT8": [-128, -1, 0, 127], "INT16": [-32768, -1, 0, 32767],
          "INT32": [-2**31, -1, 0, 2**31 - 1], "INT64": [-2**63, -1, 0, 2**63 - 1], "UINT8": [0, 1, 128, 255],
          "UINT16": [0, 1, 2, 65535], "UINT32": [0, 1, 2, 2**32 - 1], "UINT64": [0, 1, 2, 2**64 - 1],
          "FP32": [-0.0, float("inf"), 1e-45, 0.5], "FP64": [-0.0, float("-inf"), 5e-324, 0.1],
          "BYTES": [b"", b"ab", "c\u00e9".encode(), b"\0\xff"]}


def requests():
    """(name, bytes, what it says)"""
    for kind, values in VALUES.items():
        raw = raw_of(kind, values)
        m = pb.ModelInferRequest(model_name="m", inputs=[{"name": "x", "datatype": kind, "shape": [2, 2]}],
                                 raw_input_contents=[raw])
        yield f"raw_{kind}", m.SerializeToString(), describe(m, [raw])
        m = pb.ModelInferRequest(model_name="m", inputs=[{"name": "x", "datatype": kind, "shape": [4]}])
        getattr(m.inputs[0].contents, FIELD[kind]).extend(values)
        yield f"contents_{kind}", m.SerializeToString(), describe(m, [raw])
    m = pb.ModelInferRequest(model_name="mod\u00e8le", model_version="3", id="7", raw_input_contents=[b"\1\0\0\0", b"", bytes(8)])
    m.inputs.add(name="a", datatype="INT32", shape=[])
    m.inputs.add(name="b", datatype="FP16", shape=[0, 5])
    m.inputs.add(name="c", datatype="BF16", shape=[2, 2])
    m.outputs.add(name="y").parameters["classification"].int64_param = 5
    m.outputs.add(name="z").parameters["binary_data"].bool_param = True
    for key, (kind, value) in {"sequence_id": ("int64_param", 2**63 - 1), "sequence_start": ("bool_param", True),
                               "sequence_end": ("bool_param", True), "priority": ("uint64_param", 2),
                               "timeout": ("int64_param", 1000), "other": ("double_param", 0.5)}.items():
        setattr(m.parameters[key], kind, value)
    yield "all", m.SerializeToString(deterministic=True), describe(m, m.raw_input_contents)
    m = pb.ModelInferRequest(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [0]}])
    m.parameters["sequence_id"].string_param = "call"
    m.parameters["sequence_start"].bool_param = False
    yield "empty", m.SerializeToString(deterministic=True), describe(m, [b""])
    # what an encoder may also do: another order, numbers one by one, contents in two pieces, unknown fields
    x = length(3, varint(2) + varint(3)) + length(5, length(2, varint(1) + varint(-2))) + length(2, b"INT32")
    x += length(5, b"\x10" + varint(3) + b"\x10" + varint(4) + length(2, varint(5) + varint(6))) + length(1, b"x")
    odd = length(900, b"unknown") + length(5, x) + varint(901 << 3) + varint(9) + length(3, b"first") + length(3, b"last")
    odd += length(1, b"m") + varint(902 << 3 | 5) + bytes(4) + varint(903 << 3 | 1) + bytes(8)
    says = pb.ModelInferRequest.FromString(odd)
    yield "odd", odd, describe(says, [raw_of("INT32", says.inputs[0].contents.int_contents)])
    x = length(1, b"x") + length(2, b"UINT8") + b"\x18\x02\x18\x01"
    yield "unpacked_shape", length(1, b"m") + length(5, x) + length(7, b"\1\2"), describe(pb.ModelInferRequest.FromString(
        length(1, b"m") + length(5, x)), [b"\1\2"])


def response(final, identity):
    m = pb.ModelInferResponse(model_name="m", model_version="1", id=identity)
    if final:
        m.parameters["triton_final_response"].bool_param = True
    for kind in ("FP32", "BYTES", "INT64", "BOOL"):
        m.outputs.add(name=f"out_{kind}", datatype=kind, shape=[4] if kind != "INT64" else [1, 4, 1])
        m.raw_output_contents.append(raw_of(kind, VALUES[kind]))
    m.outputs.add(name="scalar", datatype="FP64", shape=[])
    m.raw_output_contents.append(raw_of("FP64", [1.5]))
    m.outputs.add(name="none", datatype="FP32", shape=[3, 0])
    m.raw_output_contents.append(b"")
    return m.SerializeToString(deterministic=True)


def c_bytes(data):
    rows = [data[i:i + 28] for i in range(0, len(data), 28)]
    return "\n".join('    "' + "".join(f"\\{b:03o}" for b in row) + '"' for row in rows) or '    ""'


def c_text(text):
    lines = ["".join(c if " " <= c <= "~" and c not in '"\\' else "".join(f"\\{b:03o}" for b in c.encode()) for c in line)
             for line in text.splitlines()]
    return "\n".join(f'    "{line}\\n"' for line in lines)


def main():
    out = ["/* grpc_messages.h - written by tests/gen/grpc_messages.py: messages as protobuf's own library encodes them. */",
           "/* clang-format off */", "#ifndef PS_TEST_GRPC_MESSAGES_H", "#define PS_TEST_GRPC_MESSAGES_H", "",
           "static const struct {", "    const char *name, *bytes;", "    size_t size;", "    const char *says;",
           "} grpc_requests[] = {"]
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data, says in requests():
        out += [f'  {{ "{name}",', c_bytes(data) + ",", f"    {len(data)},", c_text(says) + " },"]
        if name in ("all", "odd", "raw_BYTES", "contents_INT64", "contents_FP32", "contents_BYTES", "empty", "unpacked_shape"):
            (CORPUS / name).write_bytes(data)
    out += ["};", "", "static const struct {", "    const char *bytes;", "    size_t size;", "} grpc_responses[] = {"]
    for final, identity in ((False, "7"), (True, "")):
        data = response(final, identity)
        out += ["  {", c_bytes(data) + ",", f"    {len(data)} }},"]
    out += ["};", "", "#endif", ""]
    (TOP / "tests/unit/grpc_messages.h").write_text("\n".join(out))


main()
