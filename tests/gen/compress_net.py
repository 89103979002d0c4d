"""Writes tests/unit/compress_net.h: a small net and samples for it, for test_compress.c."""

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).resolve().parent.parent / "unit/compress_net.h"


def array(name, data):
    lines = [", ".join(str(b) for b in data[i:i + 20]) for i in range(0, len(data), 20)]
    return f"static const unsigned char {name}[] = {{\n    " + ",\n    ".join(lines) + ",\n};\n"


def main():
    rng = np.random.default_rng(1)
    tensors = {"w": rng.standard_normal((4, 2, 3, 3)), "b": rng.standard_normal(4), "m": rng.standard_normal((16, 20)),
               "v": rng.standard_normal((3, 20)), "c": rng.standard_normal(3)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"]), helper.make_node("Relu", ["a"], ["r"]),
             helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("Flatten", ["p"], ["f"]),
             helper.make_node("MatMul", ["f", "m"], ["g"]), helper.make_node("Gemm", ["g", "v", "c"], ["y"], transB=1)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "net", [value("x", TensorProto.FLOAT, [1, 2, 6, 6])], [value("y", TensorProto.FLOAT, [1, 3])],
                              [numpy_helper.from_array(t.astype(np.float32), n) for n, t in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7, producer_name="tests")
    onnx.checker.check_model(model)
    data = io.BytesIO()
    np.save(data, rng.standard_normal((4, 2, 6, 6)).astype(np.float32))
    guard = "PS_TEST_COMPRESS_NET_H"
    OUT.write_text(f"/* Made by tests/gen/compress_net.py. */\n#ifndef {guard}\n#define {guard}\n\n"
                   f"{array('compress_net', model.SerializeToString())}\n{array('compress_data', data.getvalue())}\n#endif\n")


main()
