"""`serve --config FILE`: every option is a key, the command line wins, mistakes are named."""

import json
import re
import subprocess

import pytest
import requests
from conftest import BINARY, add_model
from test_sequence import PAIR, running_sum, state_file


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def check(*arguments):
    command = [BINARY, "serve", "--check-config", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture()
def model(tmp_path):
    return add_model(tmp_path / "one.onnx", 1)


def start(*arguments):
    command = [BINARY, "serve", "--grpc-port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    return process, line, re.findall(r"http://\S+", line)


def test_models_and_port_from_the_file(tmp_path, model):
    file = write(tmp_path / "c.json", {"http-port": 0, "max-body": "1M", "models": [
        str(model), f"second={model}", {"name": "third one", "path": str(model)}]})
    process, line, addresses = start("--config", file)
    try:
        assert line.startswith("polestar: ready on ") and len(addresses) == 1
        names = [m["name"] for m in requests.post(addresses[0] + "/v2/repository/index", timeout=10).json()]
        assert names == ["one", "second", "third one"]
        too_large = requests.post(addresses[0] + "/v2/models/one/infer", data=b" " * (1 << 20 | 1), timeout=10)
        assert too_large.status_code == 413
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_the_command_line_wins(tmp_path, model):
    file = write(tmp_path / "c.json", {"http-port": 1, "models": ["/does/not/exist.onnx"]})
    process, _, addresses = start("--config", file, "--http-port", 0, f"mine={model}")
    try:
        assert [m["name"] for m in requests.post(addresses[0] + "/v2/repository/index", timeout=10).json()] == ["mine"]
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_every_option_is_a_key(tmp_path, model):
    text = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    values = {"model-repository": str(tmp_path), "host": "127.0.0.1", "http-port": 0, "grpc-port": -1, "grpc-threads": 2,
              "max-connections": 10, "max-body": "1M",
              "http-threads": 1, "runners": 1, "drain-seconds": 1, "device": "ref", "threads": 1,
              "shared-memory": "off", "client-seconds": 5, "latency-target": "auto", "max-batch": 8, "batch-policy": "fixed",
              "batch-size": 4, "batch-delay": 2, "queue-timeout": 50, "tenants": "a=1,b=3", "load-timeout": 5,
              "activations": "f32", "device-tries": 3,
              "model-control": "poll", "memory-limit": "1G", "max-models": 3, "cache-size": "100M"}
    options = set(re.findall(r"^ *--([a-z-]+)", text, re.M)) - {"config", "check-config", "help"}
    flags = options - set(values)
    document = {**values, **{name: True for name in flags}, "models": [str(model)]}
    result = check("--config", write(tmp_path / "c.json", document))
    assert result.returncode == 0, result.stderr
    assert result.stdout == "polestar: the configuration is valid\n"


def test_states_of_a_model(tmp_path):
    """The same as a .state.json beside the model, which they replace."""
    path = running_sum(tmp_path / "sum.onnx", [2])
    state_file(path, states=[{"input": "nothing", "output": "next"}])
    entries = [{"name": "sum", "path": str(path), "states": [{**PAIR, "shape": [2]}], "max_sequences": 1},
               {"name": "wrong", "path": str(path), "states": [{**PAIR, "output": "z"}]}, {"name": "file", "path": str(path)}]
    file = write(tmp_path / "c.json", {"http-port": 0, "models": entries})
    assert check("--config", file).returncode == 0
    process, _, (address,) = start("--config", file)

    def ask(sequence, model="sum", **parameters):
        body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}],
                "parameters": {"sequence_id": sequence, **parameters}}
        return requests.post(f"{address}/v2/models/{model}/infer", json=body, timeout=10)

    try:
        totals = [ask(7, sequence_start=i == 0).json()["outputs"][1]["data"] for i in range(3)]
        assert totals == [[1, 2], [2, 4], [3, 6]]
        assert ask(8, sequence_start=True).status_code == 503, "max_sequences is 1"
        config = requests.get(f"{address}/v2/models/sum/config", timeout=10).json()
        assert config["sequence_batching"]["state"][0]["input_name"] == "total"
        for model, part in (("wrong", "the model's configuration: the model has no output 'z'"), ("file", "no input 'nothing'")):
            reply = ask(1, model, sequence_start=True)
            assert reply.status_code == 503 and part in reply.json()["error"], reply.text
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("document, part", [
    ({"http_port": 1}, "no key 'http_port'; did you mean 'http-port'?"),
    ({"model": []}, "did you mean 'models'?"),
    ({"nonsense-of-all-kinds": 1}, "no key 'nonsense-of-all-kinds'"), ({"config": "x"}, "command line only"),
    ({"http-port": 1.5}, "neither a string nor an integer"), ({"http-port": None}, "neither"), ({"http-port": 70000}, "65535"),
    ({"device": ["cpu"]}, "neither"), ({"max-body": "many"}, "size"), ({"models": {}}, "not a list"),
    ({"models": [7]}, "models[0]"),
    ({"models": ["m.onnx", {"path": "x", "nam": "y"}]}, "models[1]: no key 'nam'"), ({"models": [{"name": "x"}]}, "no 'path'"),
    ({"models": [{"path": "x", "states": [PAIR], "idle_second": 1}]},
     "models[0]: no key 'idle_second'; did you mean 'idle_seconds'?"),
    ({"models": [{"path": "x", "states": []}]}, "models[0]: 'states' is not a list of 1 to 256"),
    ({"models": [{"path": "x", "states": [{**PAIR, "shapes": [1]}]}]},
     "models[0].states[0]: no key 'shapes'; did you mean 'shape'?"),
    ({"models": [{"path": "x", "states": [{"input": "a"}]}]}, "models[0].states[0] has no 'output'"),
    ({"models": [{"path": "x", "states": [PAIR, {**PAIR, "shape": [-1]}]}]}, "models[0].states[1]: 'shape' is not"),
    ({"models": [{"path": "x", "states": [PAIR], "max_sequences": 0}]}, "'max_sequences' is not a whole number from 1"),
    ({"models": [{"path": "x", "idle_seconds": 5}]}, "has no 'states'"),
    ({"models": [{"name": "a/b", "path": "x"}]}, "without '/'"), ("[]", "not a JSON object"), ("{", "line 1"), ("", "line 1"),
    ('{"host":"a","host":"b"}', "duplicate"), ('{"host":"a\\u0000b"}', "line 1"), ("{}", "needs a MODEL"),
])
def test_mistakes(tmp_path, document, part):
    result = check("--config", write(tmp_path / "c.json", document))
    assert result.returncode == 2 and part in result.stderr and result.stdout == ""
    assert result.stderr.count("\n") == 1


def test_files_that_are_none(tmp_path, model):
    assert "cannot be opened" in check("--config", tmp_path / "nothing.json").stderr
    assert "1 MiB" in check("--config", write(tmp_path / "c.json", " " * (1 << 20 | 1))).stderr
    missing = check("--config", write(tmp_path / "d.json", {"models": ["/does/not/exist.onnx"]}))
    assert missing.returncode == 1 and "does not exist" in missing.stderr
    assert check(model).returncode == 0
