"""Archives of torch.export through the commands; their content is in tests/gen/torch_cases.py."""

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import numpy as np
import onnx
import pytest
from conftest import BINARY, TOP
from onnx import numpy_helper

GOOD, BAD = TOP / "tests/data/torch/good", TOP / "tests/data/torch/bad"


def tensor(path):
    return numpy_helper.to_array(onnx.load_tensor(path))


def test_inspect(tool):
    done = tool("inspect", "--json", GOOD / "weights.saved/model.pt2")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert "pytorch 2." in json.dumps(shown) and "embedding" in json.dumps(shown)


def test_verify_folder(tool):
    done = tool("verify", GOOD / "weights", GOOD / "symbols", GOOD / "torch-2.5")
    assert done.code == 0, done.out
    assert done.out.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


def test_verify_sees_a_difference(tool, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(GOOD / "weights", folder)
    file = folder / "test_data_set_0/output_0.pb"
    file.write_bytes(numpy_helper.from_array(tensor(file) + np.float32(1)).SerializeToString())
    assert tool("verify", folder).code == 1


def test_onnx_comes_first(tool, tmp_path, classifier):
    shutil.copy(GOOD / "weights/model.pt2", classifier / "model.pt2")
    assert tool("verify", classifier).code == 0


def test_run_and_bench(tool, tmp_path):
    done = tool("run", GOOD / "weights", "--input", f"x={GOOD / 'weights/test_data_set_0/input_0.pb'}", "--output-dir", tmp_path)
    assert done.code == 0, done.err
    done = tool("bench", GOOD / "matmul/model.pt2", "--seconds", "0.05")
    assert done.code == 0, done.err


@pytest.mark.parametrize("name, word", [("pickle", "torch.export.save("), ("torchscript", "torch.export.save("),
                                        ("hop", "higher_order.map_impl"), ("cut", "directory")])
def test_refused(tool, name, word):
    done = tool("run", BAD / f"{name}.pt2")
    assert done.code == 1
    assert word in done.err and len(done.err.splitlines()) == 1


def test_serve(tmp_path):
    repository = tmp_path / "models"
    (repository / "tied/2").mkdir(parents=True)
    shutil.copy(GOOD / "weights/model.pt2", repository / "tied/2/model.pt2")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = f"http://127.0.0.1:{port}/v2/models/tied"
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        command = [BINARY, "serve", "--model-repository", repository, "--http-port", str(port), "--grpc-port", "-1"]
        server = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                meta = json.load(urllib.request.urlopen(base, timeout=5))
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
        assert meta["versions"] == ["2"] and meta["inputs"][0]["name"] == "x"
        x = tensor(GOOD / "weights/test_data_set_0/input_0.pb")
        body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": list(x.shape), "data": x.ravel().tolist()}]}
        request = urllib.request.Request(f"{base}/infer", json.dumps(body).encode(), {"Content-Type": "application/json"})
        got = json.load(urllib.request.urlopen(request, timeout=30))["outputs"][0]["data"]
        # f32 sums of four products of numbers below 10, in another order
        np.testing.assert_allclose(got, tensor(GOOD / "weights/test_data_set_0/output_0.pb").ravel(), rtol=1e-4, atol=1e-4)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
