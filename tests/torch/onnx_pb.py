"""TensorProto without the onnx package, which the venv of torch need not have: dims, data_type, raw_data."""

import numpy as np

TYPES = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
         "float64": 11}


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def tensor_bytes(array):
    array = np.asarray(array)
    dims = b"".join(b"\x08" + varint(d) for d in array.shape)
    raw = np.ascontiguousarray(array).tobytes()
    return dims + b"\x10" + varint(TYPES[array.dtype.name]) + b"\x4a" + varint(len(raw)) + raw
