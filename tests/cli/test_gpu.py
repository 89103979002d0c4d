"""Models from files on the first OpenCL device, where there is one: what only a file shows. Weights of codes and halves, of which
the host gives up what it took, and which the plan for a second batch finds on the device; numpy computes what is expected."""

import json

import numpy as np
import onnx
import pytest
from conftest import write_set
from onnx import TensorProto, helper, numpy_helper

K, N = 256, 128


@pytest.fixture
def gpu(tool):
    if "opencl:0" not in tool("devices").out:
        pytest.skip("no OpenCL device")
    return tool


def weights(kind):
    """(nodes that make "k" [K, N], weights, the same as numbers)"""
    rng = np.random.default_rng(3)
    if kind == "f16":
        w = (rng.standard_normal((K, N)) / 16).astype(np.float16)
        cast = helper.make_node("Cast", ["w"], ["k"], to=TensorProto.FLOAT)
        return [cast], [numpy_helper.from_array(w, "w")], w.astype(np.float64)
    if kind == "int8":
        w, s = rng.integers(-127, 128, (N, K)).astype(np.int8), (0.001 + 0.001 * rng.random(N)).astype(np.float32)
        nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0), helper.make_node("Transpose", ["d"], ["k"])]
        return nodes, [numpy_helper.from_array(w, "w"), numpy_helper.from_array(s, "s")], (w * s[:, None].astype(np.float64)).T
    w, s = rng.integers(-8, 8, (K, N)), (0.01 + 0.01 * rng.random((K // 32, N))).astype(np.float32)
    codes = helper.make_tensor("w", TensorProto.INT4, [K, N], w.flatten().tolist())
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["k"], axis=0, block_size=32)
    return [node], [codes, numpy_helper.from_array(s, "s")], w * np.repeat(s, 32, 0).astype(np.float64)


def test_tune(gpu, tmp_path):
    """Once found, choices are there for the next process."""
    rng = np.random.default_rng(5)
    w = (rng.standard_normal((64, 48)) / 8).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 64), ("y", 48)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "small", [x], [y], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    first = json.loads(gpu("tune", "--json", "--batch", "2", tmp_path / "model.onnx").out)
    assert first["products"] == 1 and first["variants"] >= 1 and first["refused"] == 0
    assert first["chosen_ms"] <= first["usual_ms"]
    again = gpu("tune", "--batch", "2", tmp_path / "model.onnx")
    assert again.code == 0 and "nothing to try" in again.out
    assert gpu("tune", "--device", "cpu", tmp_path / "model.onnx").code == 0
    assert gpu("tune", "--seconds", "0", tmp_path / "model.onnx").code == 2


@pytest.mark.parametrize("kind, storage", [("f16", "f16"), ("int8", "u8"), ("int4", "u4")])
def test_weights_of_a_file(gpu, tmp_path, kind, storage):
    nodes, constants, numbers = weights(kind)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in (("x", K), ("y", N)))
    graph = helper.make_graph([*nodes, helper.make_node("MatMul", ["x", "k"], ["y"])], "small", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    folder = tmp_path / kind
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    rng = np.random.default_rng(4)
    for k, rows in enumerate((1, 70, 3)):
        x = (rng.standard_normal((rows, K)) / 8).astype(np.float32)
        write_set(folder / f"test_data_set_{k}", [x], [(x @ numbers).astype(np.float32)])
    done = gpu("verify", "--device", "gpu", folder)
    assert done.code == 0 and "3 sets" in done.out, done.out + done.err
    assert f"opencl.matmul {storage}" in gpu("inspect", "--device", "gpu", "--steps", folder).out


def test_activations(gpu, tool, tmp_path):
    """What lies between two products is f16, and half as much; numpy rounds as often."""
    rng = np.random.default_rng(6)
    w = [(rng.standard_normal((K, K)) / 16).astype(np.float32) for _ in range(3)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, K]) for name in "xy")
    nodes = [helper.make_node("MatMul", [i, f"w{k}"], [o]) for k, (i, o) in enumerate(["xa", "ab", "by"])]
    graph = helper.make_graph(nodes, "small", [x], [y], [numpy_helper.from_array(a, f"w{k}") for k, a in enumerate(w)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    x = rng.standard_normal((64, K)).astype(np.float32)
    stored = [x @ w[0]]
    stored.append(stored[0].astype(np.float16).astype(np.float32) @ w[1])
    write_set(tmp_path / "test_data_set_0", [x], [stored[1].astype(np.float16).astype(np.float32) @ w[2]])
    # sums of 256 products in another order may fall on the other side where they are rounded: 2^-10 of few of them
    done = gpu("verify", "--device", "gpu", "--activations", "f16", "--rtol", "1e-3", "--atol", "1e-3", tmp_path)
    assert done.code == 0, done.out + done.err
    steps = json.loads(gpu("inspect", "--json", "--device", "gpu", "--activations", "f16", tmp_path).out)["run"]["operators"]
    assert [s["stored"] for s in steps if s["op"] == "MatMul"] == ["f16", "f16", "f32"]
    assert "f16 [64,256]" in gpu("inspect", "--steps", "--device", "gpu", "--activations", "f16", tmp_path).out
    refused = tool("run", "--device", "cpu", "--activations", "f16", tmp_path / "model.onnx")
    assert refused.code == 1 and "device 'cpu' stores activations as f32" in refused.err
    assert tool("run", "--activations", "f8", tmp_path / "model.onnx").code == 2
