"""Small models made here and a way to call the tool."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))


class Done:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr


@pytest.fixture
def tool(tmp_path):
    """tool("run", MODEL, …) → code, out, err; the cache and the working folder are the test's own."""
    def call(*words):
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return Done(subprocess.run([str(BINARY), *map(str, words)], capture_output=True, text=True, timeout=60, check=False,
                                   env=environment, cwd=tmp_path))
    return call


def save(path, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "small", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests")
    helper.set_model_props(model, {"author": "tests"})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def write_set(folder, inputs, outputs):
    folder.mkdir(parents=True)
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            (folder / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())


@pytest.fixture
def classifier(tmp_path):
    """logits = relu(x) W with x f32[batch, 4], logits f32[batch, 3]; its folder with two test sets."""
    folder = tmp_path / "classifier"
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
    value = helper.make_tensor_value_info
    save(folder / "model.onnx",
         [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["logits"])],
         [value("x", TensorProto.FLOAT, ["batch", 4])], [value("logits", TensorProto.FLOAT, ["batch", 3])], [("w", weight)])
    for k, rows in enumerate((1, 2)):
        x = np.linspace(-1, 2, rows * 4, dtype=np.float32).reshape(rows, 4)
        write_set(folder / f"test_data_set_{k}", [x], [np.maximum(x, 0) @ weight])
    return folder


@pytest.fixture
def pair(tmp_path):
    """sum = a + b, flag = a > b, with a and b f32[n]; output names that are no file names."""
    file = tmp_path / "pair.onnx"
    value = helper.make_tensor_value_info
    save(file, [helper.make_node("Add", ["a", "b"], ["out/sum:0"]), helper.make_node("Greater", ["a", "b"], ["flag"])],
         [value("a", TensorProto.FLOAT, ["n"]), value("b", TensorProto.FLOAT, ["n"])],
         [value("out/sum:0", TensorProto.FLOAT, ["n"]), value("flag", TensorProto.BOOL, ["n"])])
    return file


@pytest.fixture
def photo_model(tmp_path):
    """mean over the pixels of a photo: x f32[1, 3, 8, 8] → y f32[1, 3]."""
    file = tmp_path / "photo.onnx"
    value = helper.make_tensor_value_info
    save(file, [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
         [value("x", TensorProto.FLOAT, [1, 3, 8, 8])], [value("y", TensorProto.FLOAT, [1, 3])])
    return file
