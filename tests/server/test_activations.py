"""`--activations f16`: what a served model hands on to itself on an OpenCL device is rounded; on others it is refused."""

import subprocess

import numpy as np
import pytest
import requests
import tritonclient.http as client
from conftest import BINARY, save, value
from onnx import TensorProto, helper

LENGTH = 8192


@pytest.fixture()
def folder(tmp_path):
    """y = the largest of -x, through a value of 8192 numbers."""
    (tmp_path / "m/1").mkdir(parents=True)
    nodes = [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("ReduceMax", ["t"], ["y"], axes=[1])]
    save(tmp_path / "m/1/model.onnx", nodes, [value("x", TensorProto.FLOAT, [1, LENGTH])], [value("y", TensorProto.FLOAT, [1, 1])])
    return tmp_path


def largest(server, x):
    with client.InferenceServerClient(server.url) as c:
        tensor = client.InferInput("x", [1, LENGTH], "FP32")
        tensor.set_data_from_numpy(np.full((1, LENGTH), x, np.float32))
        return c.infer("m", [tensor]).as_numpy("y").item()


def test_rounds_on_the_device(start, folder):
    if "opencl:0 " not in subprocess.run([BINARY, "devices"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("no OpenCL device")
    x = np.float32(-1.0003)
    assert largest(start("--model-repository", folder, "--device", "gpu"), x) == -x
    server = start("--model-repository", folder, "--device", "gpu", "--activations", "f16")
    assert largest(server, x) == np.float16(-x) != -x
    assert largest(server, np.float32(-1e6)) == 65504


def test_is_refused_elsewhere(start, folder):
    server = start("--model-repository", folder, "--activations", "f16")
    assert requests.get(f"http://{server.url}/v2/models/m/ready", timeout=10).status_code == 503
    assert server.wait_log("device 'cpu' stores activations as f32", 1)
