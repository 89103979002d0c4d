"""The command line's contract: every command, exit codes 0/1/2, one sentence on stderr, one JSON document with --json."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from conftest import BINARY, write_set

COMMANDS = ["inspect", "run", "verify", "bench", "compress", "serve", "demo", "tune", "devices", "doctor", "cache", "completion",
            "man", "version", "help"]


def document(done):
    assert done.code == 0, done.err
    return json.loads(done.out)


def assert_fails(done, code, *words):
    """One sentence on stderr, nothing on stdout."""
    assert done.code == code, (done.out, done.err)
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1 and done.err.startswith("polestar")
    for word in words:
        assert word in done.err


# ---- the table and what is made from it ----
def test_overview_names_every_command(tool):
    done = tool("help")
    assert done.code == 0
    assert re.findall(r"^  (\w+) ", done.out, re.M) == COMMANDS
    assert tool("--help").out == done.out
    empty = tool()
    assert empty.code == 2 and empty.err == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_command(tool, command):
    done = tool(command, "--help")
    assert done.code == 0 and done.out.startswith(f"usage: polestar {command}")
    assert max(map(len, done.out.splitlines())) <= 110
    assert tool("help", command).out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_man_page_holds_every_option(tool, command):
    options = re.findall(r"^  --([\w-]+)", tool(command, "--help").out, re.M)
    page = tool("man", command)
    assert page.code == 0 and page.out.startswith(f'.TH "polestar-{command}" 1')
    for option in options:
        assert r"\fB\-\-" + option.replace("-", r"\-") + r"\fR" in page.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tool, shell, tmp_path):
    done = tool("completion", shell)
    assert done.code == 0
    for word in (*COMMANDS, "output-dir", "model-repository"):
        assert word in done.out
    if shutil.which(shell):
        script = tmp_path / "completion"
        script.write_text(done.out)
        assert subprocess.run([shell, "-n", script], capture_output=True, check=False).returncode == 0


def test_bash_completion_answers(tool, tmp_path):
    script = tmp_path / "completion"
    script.write_text(tool("completion", "bash").out)
    ask = 'source "$1"; COMP_WORDS=(polestar "${@:2}"); COMP_CWORD=$(($#-1)); _polestar; echo "${COMPREPLY[*]}"'
    def answer(*words):
        return subprocess.run(["bash", "-c", ask, "-", script, *words], capture_output=True, text=True, check=True).stdout.split()
    assert answer("ver") == ["verify", "version"]
    assert answer("run", "--out") == ["--output-dir"]
    assert answer("bench", "--device", "c") == ["cpu"]
    assert answer("cache", "") == ["list", "clear"]


# ---- usage errors ----
@pytest.mark.parametrize("words, hints", [
    (["rnu"], ["'rnu'", "'run'"]),
    (["qqqqqq"], ["help"]),
    (["run"], ["MODEL"]),
    (["run", "m.onnx", "--inptu", "x"], ["--inptu", "'--input'"]),
    (["run", "m.onnx", "--input"], ["--input", "NAME=FILE"]),
    (["run", "m.onnx", "--json=1"], ["no value"]),
    (["run", "-x", "m.onnx"], ["-x"]),
    (["run", "m.onnx", "--threads", "0"], ["--threads", "'0'"]),
    (["run", "m.onnx", "--precision", "fp8"], ["auto|fp32"]),
    (["bench", "m.onnx", "--batch", "1,,2"], ["--batch"]),
    (["bench", "m.onnx", "--seconds", "nan"], ["--seconds"]),
    (["verify", "--rtol", "x", "."], ["--rtol"]),
    (["inspect", "a", "b"], ["'b'"]),
    (["cache", "drop"], ["'drop'"]),
    (["completion", "tcsh"], ["bash"]),
    (["help", "rnu"], ["'run'"]),
    (["serve"], ["MODEL"]),
    (["demo"], ["batching"]),
    (["demo", "bathcing"], ["'bathcing'", "batching", "compression"]),
    (["demo", "batching", "--data", "x"], ["batching", "--data"]),
    (["demo", "compression", "--target", "9"], ["compression", "--target"]),
    (["demo", "compression", "m.onnx"], ["--data"]),
    (["demo", "compression", "--data", "x"], ["MODEL"]),
    (["demo", "compression", "--judged", "0"], ["--judged"]),
    (["demo", "batching", "--seconds", "0"], ["--seconds"]),
    (["demo", "batching", "a.onnx", "b.onnx"], ["b.onnx"]),
    (["demo", "multi-model", "a.onnx"], ["two models or more", "a.onnx"]),
    (["demo", "multi-model", "--target", "5"], ["multi-model has no --target"]),
    (["demo", "multi-model", "--seconds", "much"], ["--seconds"]),
    (["demo", "multi-model", *"123456789"], ["'9'"]),
    (["serve", "m.onnx", "--http-port", "70000"], ["--http-port"]),
    (["serve", "m.onnx", "--grpc-port", "-2"], ["--grpc-port"]),
    (["serve", "m.onnx", "--max-body", "0"], ["--max-body"]),
])
def test_usage_error(tool, words, hints):
    assert_fails(tool(*words), 2, *hints)


def test_missing_model_is_no_usage_error(tool):
    for command in ("inspect", "run", "bench", "serve"):
        assert_fails(tool(command, "nothing.onnx"), 1, "nothing.onnx")


def test_broken_model(tool, tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"\x08\x07garbage" * 20)
    assert_fails(tool("inspect", file), 1)


def test_unknown_device(tool, pair):
    assert_fails(tool("run", pair, "--device", "opencl:7"), 1, "opencl:7", "cpu")
    assert_fails(tool("run", pair, "--device", "cpu,ref"), 1, "cpu,ref", "serve")


# ---- version, devices, cache, doctor ----
def test_version(tool):
    info = document(tool("version", "--json"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
    assert tool("version").out.startswith(f"polestar {info['version']}\n")
    assert tool("--version").out == tool("version").out


def test_devices(tool):
    devices = document(tool("devices", "--json"))["devices"]
    assert devices[0]["name"] == "cpu" and devices[0]["units"] >= 1
    for device in document(tool("devices", "--json", "--measure"))["devices"]:
        measured = "flops" in device and "bytes_per_second" in device
        assert measured == device["name"].startswith("opencl:"), device
        assert (device["defaults"] is not None) == measured, device
        assert not measured or (device["flops"] > 1e6 and device["bytes_per_second"] > 1e6), device
    assert tool("devices").out.startswith("cpu ")


def test_cache(tool, tmp_path):
    info = document(tool("cache", "list", "--json"))
    assert info["folder"] == str(tmp_path / "cache/polestar") and info["entries"] == []
    assert document(tool("cache", "clear", "--json")) == {"removed": 0}
    assert "0 entries" in tool("cache", "list").out


def test_cache_of_others_is_refused(tool, tmp_path):
    folder = tmp_path / "cache/polestar"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert_fails(tool("cache", "list"), 1, str(folder))


def test_doctor(tool):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8001))
            taken.listen()
        except OSError:
            pass  # somebody else has it: as good
        done = tool("doctor", "--json")
    checks = {check["check"]: check for check in json.loads(done.out)["checks"]}
    assert list(checks) == ["cpu", "threads", "memory", "gpu", "ports", "cache"]
    assert not checks["ports"]["ok"] and "8001" in checks["ports"]["message"]
    assert done.code == 1 and "to fix" in done.err
    assert all(re.match(r"(ok  |fix ) \w+ ", line) for line in tool("doctor").out.splitlines())


# ---- inspect ----
def test_inspect(tool, classifier):
    info = document(tool("inspect", classifier, "--json", "--shape", "x=5x4"))
    assert info["inputs"] == [{"name": "x", "dtype": "f32", "shape": ["batch", 4]}]
    assert info["outputs"][0]["name"] == "logits" and info["operators"] == {"Relu": 1, "MatMul": 1}
    assert info["parameters"] == 12 and info["weight_bytes"] == 48 and info["metadata"] == {"author": "tests"}
    assert info["run"]["macs"] == 5 * 4 * 3 and info["run"]["arena_bytes"] > 0
    assert {step["device"] for step in info["run"]["operators"]} == {"cpu"}
    text = tool("inspect", classifier).out
    assert "f32[batch,4]" in text and "author = tests" in text
    assert "MatMul" in tool("inspect", classifier, "--steps", "--no-fusion").out
    assert tool("inspect", classifier / "model.onnx", "--graph").out.startswith("graph small")


# ---- run ----
def test_run_is_deterministic(tool, classifier):
    first = document(tool("run", classifier, "--json"))["runs"][0]["outputs"]
    assert first == document(tool("run", classifier, "--json"))["runs"][0]["outputs"]
    assert first[0]["shape"] == [1, 3] and first[0]["dtype"] == "f32"


def test_run_files(tool, pair, tmp_path):
    a, b = np.array([1, 5, np.nan], np.float32), np.array([2, 3, 4], np.float32)
    np.save(tmp_path / "a.npy", a)
    (tmp_path / "b.pb").write_bytes(numpy_helper.from_array(b).SerializeToString())
    done = tool("run", pair, "--input", f"a={tmp_path}/a.npy", "b=b.pb", "--output-dir", "out", "--json")
    outputs = {o["name"]: o for o in document(done)["runs"][0]["outputs"]}
    assert outputs["out/sum:0"] | {"mean": 0} == {"name": "out/sum:0", "dtype": "f32", "shape": [3], "min": 3.0, "max": 8.0,
                                                  "mean": 0, "nan": 1, "inf": 0}
    np.testing.assert_array_equal(np.load(tmp_path / "out/out_sum_0.npy"), a + b)
    np.testing.assert_array_equal(np.load(tmp_path / "out/flag.npy"), a > b)


def test_run_symbols_are_shared(tool, pair):
    outputs = document(tool("run", pair, "--shape", "a=7", "--json"))["runs"][0]["outputs"]
    assert [o["shape"] for o in outputs] == [[7], [7]]


@pytest.mark.parametrize("words, code, hint", [
    (["--input", "c=x.npy"], 2, "'c'"),
    (["--input", "x.npy"], 2, "NAME=FILE"),
    (["--input", "a=x.txt"], 2, ".npy"),
    (["--input", "a=missing.npy"], 1, "missing.npy"),
    (["--shape", "aa=3"], 2, "'a'"),
    (["--shape", "a=3x"], 2, "1x3x224x224"),
    (["--shape", "a=3x3"], 2, "[n]"),
    (["--shape", "a=3", "--shape", "b=4"], 1, ""),
    (["--labels", "none.txt", "--top", "1"], 1, "none.txt"),
])
def test_run_wrong_input(tool, pair, words, code, hint):
    assert_fails(tool("run", pair, *words), code, hint)


def test_run_many_files_and_top(tool, classifier, tmp_path):
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) / 10
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    for name, x in (("one.npy", [[1, 0, 0, 0]]), ("two.npy", [[0, 0, 0, 2]])):
        np.save(tmp_path / name, np.array(x, np.float32))
    done = tool("run", classifier, "one.npy", "two.npy", "--top", "2", "--labels", "labels.txt", "--softmax", "--json",
                "--output-dir", "out")
    runs = document(done)["runs"]
    assert [run["file"] for run in runs] == ["one.npy", "two.npy"]
    logits = 2 * weight[3]
    softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    top = runs[1]["top"][0]
    assert [(t["index"], t["label"]) for t in top] == [(2, "bird"), (1, "dog")]
    np.testing.assert_allclose([t["score"] for t in top], softmax[[2, 1]], rtol=1e-5)
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["one.npy.logits.npy", "two.npy.logits.npy"]
    assert "bird" in tool("run", classifier, "two.npy", "--top", "1", "--labels", "labels.txt").out


def test_run_photo(tool, photo_model, tmp_path):
    photo = np.zeros((8, 8, 3), np.uint8)
    photo[..., 0], photo[..., 2] = 200, 10
    Image.fromarray(photo).save(tmp_path / "photo.png")
    def means(*words):
        assert tool("run", photo_model, "photo.png", "--output-dir", "out", *words).code == 0
        return np.load(tmp_path / "out/y.npy")[0].tolist()
    assert means() == [200, 0, 10]
    assert means("--image-mean", "100", "--image-std", "2,1,1") == [50, -100, -90]
    (tmp_path / "photo.preprocess.json").write_text(json.dumps({"mean": [0, 0, 10], "std": [100, 100, 100]}))
    np.testing.assert_allclose(means(), [2, 0, 0], atol=1e-6)
    assert means("--image-mean", "0", "--image-std", "1") == [200, 0, 10]
    assert_fails(tool("run", photo_model, "photo.png", "--image-std", "1,2"), 2, "--image-std")
    assert_fails(tool("run", photo_model, "photo.png", "--preset", "nonsense"), 2, "nonsense")


# ---- verify ----
def test_verify(tool, classifier, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = tool("verify", classifier, empty)
    assert done.code == 0 and done.out.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"
    info = document(tool("verify", classifier, empty, "--json", "--device", "ref"))
    assert (info["passed"], info["failed"], info["skipped"]) == (1, 0, 1)
    assert info["models"][0]["sets"] == 2 and info["models"][0]["max_abs_error"] < 1e-5
    assert info["models"][1]["message"] == "no model.onnx or model.pt2"
    (tmp_path / "README.md").write_text("beside the models")
    done = tool("verify", tmp_path / "README.md")
    assert done.code == 0 and "0 passed, 0 failed, 1 skipped" in done.out
    done = tool("verify", tmp_path / "misspelt")
    assert done.code == 1 and "no such folder" in done.out


@pytest.mark.parametrize("spoil, hint", [
    (lambda y: y + np.float32(0.01), "element 0"),
    (lambda y: np.where(y == y, np.nan, y).astype(np.float32), "expected nan"),
    (lambda y: y.astype(np.float64), "expected f64"),
    (lambda y: y[:, :2], "expected f32[1,2]"),
])
def test_verify_sees(tool, classifier, spoil, hint):
    folder = classifier / "test_data_set_0"
    x, y = (numpy_helper.to_array(onnx.load_tensor(folder / f"{k}_0.pb")) for k in ("input", "output"))
    shutil.rmtree(folder)
    write_set(folder, [x], [spoil(y)])
    done = tool("verify", classifier)
    assert done.code == 1 and "1 of 1" in done.err
    assert hint in done.out and "output 'logits' of test_data_set_0" in done.out
    assert done.out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_verify_tolerances(tool, classifier):
    folder = classifier / "test_data_set_0"
    x, y = (numpy_helper.to_array(onnx.load_tensor(folder / f"{k}_0.pb")) for k in ("input", "output"))
    shutil.rmtree(folder)
    write_set(folder, [x], [y + np.float32(0.01)])
    assert tool("verify", classifier, "--atol", "0.1").code == 0
    assert tool("verify", classifier, "--atol", "0.001", "--rtol", "0").code == 1


@pytest.mark.parametrize("kind", ["UINT4", "INT2", "FLOAT8E4M3FN", "FLOAT4E2M1"])
def test_verify_sees_small_types(tool, tmp_path, kind):
    """Types that C has none of: another number, and not only another type or shape, is a difference."""
    number = getattr(TensorProto, kind)
    value = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=number)], "g", [value("x", TensorProto.FLOAT, [3])],
                              [value("y", number, [3])])
    folder = tmp_path / "cast"
    write_set(folder / "test_data_set_0", [np.array([1, 0, 1], np.float32)], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11), folder / "model.onnx")
    for numbers, code in (([1, 0, 1], 0), ([1, 1, 1], 1)):
        expected = helper.make_tensor("y", number, [3], numbers)
        (folder / "test_data_set_0/output_0.pb").write_bytes(expected.SerializeToString())
        done = tool("verify", folder)
        assert done.code == code, done.out + done.err
    assert "element 1 is 0, expected 1" in done.out


# ---- bench ----
def test_bench(tool, classifier):
    info = document(tool("bench", classifier, "--batch", "1,3", "--threads", "1", "--seconds", "0.05", "--json", "--profile"))
    assert [row["batch"] for row in info["results"]] == [1, 3] and info["load_ms"] > 0
    for row in info["results"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["runs"] >= 5 and row["macs"] == row["batch"] * 12 and row["arena_bytes"] > 0
        assert sum(step["share"] for step in row["steps"]) == pytest.approx(1)
        assert all(step["calls"] == row["runs"] for step in row["steps"])
    text = tool("bench", classifier, "--seconds", "0.05")
    assert text.code == 0 and "median ms" in text.out
    assert tool("bench", classifier, "--seconds", "0.05", "--inputs", classifier / "test_data_set_1").code == 0


def test_bench_wrong(tool, classifier, photo_model, tmp_path):
    assert_fails(tool("bench", classifier, "--inputs", tmp_path), 1, "input_0.pb")
    assert_fails(tool("bench", classifier, "--inputs", tmp_path, "--batch", "2"), 2, "--batch")
    done = tool("bench", photo_model, "--batch", "4", "--seconds", "0.05")
    assert done.code == 2 and "--batch 4" in done.err


# ---- serve ----
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve(classifier, stop):
    server = subprocess.Popen([BINARY, "serve", f"mine={classifier / 'model.onnx'}", "--http-port", "0", "--grpc-port", "0"],
                              text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        ready = server.stdout.readline()
        address = re.fullmatch(r"polestar: ready on (http://127\.0\.0\.1:\d+)(?: grpc://127\.0\.0\.1:\d+)?\n", ready).group(1)
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 0, 0, 0]}]}).encode()
        request = urllib.request.Request(f"{address}/v2/models/mine/infer", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            outputs = json.load(answer)["outputs"]
        np.testing.assert_allclose(outputs[0]["data"], [0, 0.1, 0.2], atol=1e-6)
    finally:
        server.send_signal(stop)
        out, err = server.communicate(timeout=30)
    assert server.returncode == 0 and out == ""
    lines = err.strip().splitlines()
    assert all(re.match(r"time=\S+Z level=(info|warn|error) \w+=", line) for line in lines)
    assert any("event=stop " in line for line in lines)


def test_serve_goes_on_when_nobody_reads_its_log(classifier):
    server = subprocess.Popen([BINARY, "serve", f"mine={classifier / 'model.onnx'}", "--http-port", "0", "--grpc-port", "0"],
                              text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        address = re.search(r"http://\S+", server.stdout.readline()).group()
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        for _ in range(3000):  # some 280 bytes a line: well over the 64 KiB of a pipe and the 512 KiB that the server keeps
            connection.request("GET", "/" + "x" * 155)
            assert connection.getresponse().read().startswith(b'{"error"')
        os.read(server.stderr.fileno(), 1 << 20)  # somebody reads after all: the next line says what is missing
        time.sleep(0.1)
        urllib.request.urlopen(f"{address}/v2/health/live", timeout=10).close()
    finally:
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=30)
    assert server.returncode == 0 and "dropped_lines=" in err


def test_serve_port_in_use(tool, classifier):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tool("serve", classifier, "--http-port", port)
        assert done.code == 1 and str(port) in done.err.splitlines()[-1]
        done = tool("serve", classifier, "--http-port", "0", "--grpc-port", port)
    assert done.code == 1 and f"{port} for gRPC: Address already in use" in done.err.splitlines()[-1]


# ---- strings, sequences, maps ----


def scored_words(path):
    """label string[N] and a sequence of maps, as classifiers of scikit-learn are exported."""
    ml, value = {"domain": "ai.onnx.ml"}, helper.make_tensor_value_info
    maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    graph = helper.make_graph(
        [helper.make_node("LinearClassifier", ["x"], ["label", "scores"], coefficients=[1.0, 0.0, 0.0, 1.0], intercepts=[0.0, 0.5],
                          classlabels_strings=["cat", "dog"], **ml),
         helper.make_node("ZipMap", ["scores"], ["maps"], classlabels_strings=["cat", "dog"], **ml)],
        "words", [value("x", TensorProto.FLOAT, ["N", 2])],
        [value("label", TensorProto.STRING, ["N"]), helper.make_value_info("maps", helper.make_sequence_type_proto(maps))])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
                                ir_version=8), path)
    return path


def test_run_strings_and_maps(tool, tmp_path):
    model, out = scored_words(tmp_path / "words.onnx"), tmp_path / "out"
    np.save(tmp_path / "x.npy", np.array([[2, 1], [0, 1]], np.float32))
    done = tool("run", model, tmp_path / "x.npy", "--output-dir", out)
    assert done.code == 0, done.err
    assert "string[2]  'cat'  'dog'" in done.out and "{'cat': 2, 'dog': 1.5}" in done.out
    labels = onnx.TensorProto.FromString((out / "label.pb").read_bytes())
    assert labels.string_data == [b"cat", b"dog"]
    maps = onnx.SequenceProto.FromString((out / "maps.pb").read_bytes())
    read = [dict(zip(m.string_keys, numpy_helper.to_list(m.values), strict=True)) for m in maps.map_values]
    assert read == [{b"cat": 2, b"dog": 1.5}, {b"cat": 0, b"dog": 1.5}]
    document = json.loads(tool("run", model, tmp_path / "x.npy", "--json").out)
    label, listed = document["runs"][0]["outputs"]
    assert label["elements"] == ["cat", "dog"]
    assert [(m["keys"], m["values"]) for m in listed["elements"]] == [(["cat", "dog"], [2, 1.5]), (["cat", "dog"], [0, 1.5])]


def sequence_folder(folder, spoil=None):
    """y = x with one more tensor at its end; test data as the ONNX project writes it."""
    value, floats = helper.make_tensor_value_info, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kind = helper.make_sequence_type_proto(floats)
    graph = helper.make_graph([helper.make_node("SequenceInsert", ["x", "t"], ["y"])], "insert",
                              [helper.make_value_info("x", kind), value("t", TensorProto.FLOAT, [2])],
                              [helper.make_value_info("y", kind)])
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    first, added = np.arange(3, dtype=np.float32), np.array([7, 8], np.float32)
    want = {"value": [first, added + 1], "length": [first], "type": [first, added.astype(np.float64)]}.get(spoil, [first, added])
    (data / "input_0.pb").write_bytes(numpy_helper.from_list([first]).SerializeToString())
    (data / "input_1.pb").write_bytes(numpy_helper.from_array(added).SerializeToString())
    (data / "output_0.pb").write_bytes(numpy_helper.from_list(want).SerializeToString())
    return folder


def test_verify_sequences(tool, tmp_path):
    done = tool("verify", sequence_folder(tmp_path / "good"))
    assert done.code == 0 and "1 passed" in done.out, done.out + done.err
    for spoil, hint in (("value", "element 1 of output 'y'"), ("length", "sequence[2], expected sequence[1]"),
                        ("type", "expected f64[2]")):
        done = tool("verify", sequence_folder(tmp_path / spoil, spoil))
        assert done.code == 1 and hint in done.out, done.out


def test_run_sequence_file(tool, tmp_path):
    folder = sequence_folder(tmp_path / "model")
    data = folder / "test_data_set_0"
    done = tool("run", folder, f"x={data / 'input_0.pb'}", f"t={data / 'input_1.pb'}", "--output-dir", tmp_path / "out")
    assert done.code == 0, done.err
    made = onnx.SequenceProto.FromString((tmp_path / "out/y.pb").read_bytes())
    assert [t.tolist() for t in numpy_helper.to_list(made)] == [[0, 1, 2], [7, 8]]
    done = tool("run", folder, f"t={data / 'input_1.pb'}")
    assert done.code == 1 and "input 'x' is of type sequence" in done.err
    (tmp_path / "broken.pb").write_bytes(b"\x1a\x05abc")
    done = tool("run", folder, f"x={tmp_path / 'broken.pb'}")
    assert done.code == 1 and "broken.pb" in done.err and done.err.count("\n") == 1


# ---- demo ----
def check_demo(document, steps=7):
    servers = document["servers"]
    assert [len(s["steps"]) for s in servers] == [steps] * 3
    for server in servers:
        assert [s["offered_per_s"] for s in server["steps"]] == [s["offered_per_s"] for s in servers[0]["steps"]]
        assert all(0 <= s["in_time_per_s"] <= s["offered_per_s"] for s in server["steps"])
        assert all(0 <= s["mean_batch"] <= 32 for s in server["steps"])
    adaptive, single, _ = servers
    assert sum(s["in_time_per_s"] for s in adaptive["steps"]) > 0
    assert {s["mean_batch"] for s in single["steps"]} <= {0, 1}
    return adaptive


def test_demo_batching(tool, tmp_path):
    """Short steps: what they show is for a quiet machine; that all is there, and that batches grow with the load, for any."""
    done = tool("demo", "batching", "--seconds", "0.3", "--target", "1000", "--html", "page.html", "--json")
    steps = check_demo(document(done))["steps"]
    assert max(s["mean_batch"] for s in steps) > 1.2 or all(s["in_time_per_s"] > 0.9 * s["offered_per_s"] for s in steps)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2 and page.count("<polyline") == 7 and "http" not in page  # of its own
    assert {p.name for p in tmp_path.iterdir()} == {"page.html", "cache"}


def test_demo_batching_of_a_model(tool, classifier, tmp_path):
    done = tool("demo", "batching", classifier, "--seconds", "0.2", "--target", "1000", "--html", "")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len([line for line in lines if re.match(r"\d+ +\|", line)]) == 7 and "plots" not in done.out
    assert not list(tmp_path.glob("*.html"))
    assert_fails(tool("demo", "batching", "nothing.onnx"), 1, "nothing.onnx")


def check_multi_model(found, names):
    """What the server counted is what the client sent, models go in turn under the limit, and every answer is right."""
    free, limited = found["servers"]
    assert free["limit_bytes"] is None and free["requests"] == limited["requests"] > 0
    for server in (free, limited):
        assert server["failed"] == server["wrong"] == 0
        assert [m["model"] for m in server["models"]] == names
        assert sum(m["requests"] for m in server["models"]) == server["requests"]
        for m in server["models"]:
            assert m["hit"]["count"] + m["miss"]["count"] == m["requests"] and m["failed"] == 0
            assert m["hit"]["count"] == 0 or 0 < m["hit"]["p50_ms"] <= m["hit"]["p99_ms"]
            assert m["loads"] >= m["evictions"] and m["peak_bytes"] >= m["bytes"]
    assert all(m["loads"] == 1 and m["evictions"] == m["miss"]["count"] == 0 for m in free["models"])
    assert sum(m["evictions"] for m in limited["models"]) > 0
    assert sum(m["miss"]["count"] for m in limited["models"]) > 0
    assert max(m["peak_bytes"] for m in limited["models"]) < limited["peak_bytes"] <= limited["limit_bytes"] < free["peak_bytes"]


def test_demo_multi_model(tool, tmp_path):
    done = tool("demo", "multi-model", "--seconds", "0.3", "--html", "page.html", "--json")
    check_multi_model(document(done), ["large", "medium", "small"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 3 and page.count("<polyline") == 7 and page.count("<table") == 2 and "http" not in page
    assert {p.name for p in tmp_path.iterdir()} == {"page.html", "cache"}, "what was made has gone"


def test_demo_multi_model_of_models(tool, tmp_path):
    """Large enough that the least memory limit is less; the first dims of their inputs differ in name and are given."""
    def model(name, width):
        weights = [numpy_helper.from_array(np.full((width, width), 1 / width, np.float32), f"w{i}") for i in range(2)]
        graph = helper.make_graph([helper.make_node("MatMul", [name, "w0"], ["t"]), helper.make_node("MatMul", ["t", "w1"], ["y"])],
                                  name, [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])], weights)
        path = tmp_path / name / "model.onnx"
        path.parent.mkdir()
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path
    paths = [model("a", 1536), model("b", 1280)]
    done = tool("demo", "multi-model", *paths, "--seconds", "0.3", "--html", "", "--shape", "b=3x1280")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len([line for line in lines if re.match("[ab] +[0-9]+ ", line)]) == 4 and "plots" not in done.out
    assert "wrong answers: 0" in done.out and re.search(r"^limit [\d.]+ MB: at most [\d.]+ MB held$", done.out, re.M)
    assert_fails(tool("demo", "multi-model", *paths, "--shape", "z=1x2"), 2, "z=1x2", "no model has such an input")
    assert_fails(tool("demo", "multi-model", paths[0], "nothing.onnx"), 1, "nothing.onnx")
