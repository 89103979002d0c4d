"""What the public client tritonclient.http sees."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import requests
import tritonclient.http as client
from conftest import BINARY, IDENTITY_TYPES, Server, add_model
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ADD = "add one"


@pytest.fixture()
def triton(server):
    with client.InferenceServerClient(server.url) as c:
        yield c


def tensor(name, array, binary=True):
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def sample(shape=(3, 4)):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_health_and_metadata(triton):
    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready(ADD)
    assert not triton.is_model_ready("broken") and not triton.is_model_ready("nothing")
    about = triton.get_server_metadata()
    assert about["name"] == "polestar" and "binary_tensor_data" in about["extensions"]
    assert triton.get_model_metadata(ADD) == {
        "name": ADD, "versions": ["1"], "platform": "polestar_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}
    config = triton.get_model_config(ADD)
    assert config["max_batch_size"] == 32 and "dynamic_batching" in config
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert not {"sequence_batching", "response_cache"} & set(config)
    types = triton.get_model_config("types")  # requests share runs, but no dims would be left: perf_analyzer refuses that
    assert types["max_batch_size"] == 0 and all(t["dims"] == [-1] for t in types["input"] + types["output"])
    assert triton.get_model_config("text")["input"] == [{"name": "s", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert triton.get_model_metadata("text")["outputs"] == [{"name": "t", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_every_form(triton, binary_in, binary_out):
    x = sample()
    reply = triton.infer(ADD, [tensor("x", x, binary_in)],
                         outputs=[client.InferRequestedOutput("y", binary_data=binary_out)], request_id="7")
    np.testing.assert_array_equal(reply.as_numpy("y"), x + np.float32(1))
    assert reply.get_response()["id"] == "7" and reply.get_response()["model_version"] == "1"


def test_no_outputs_listed_gives_all(triton):
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.int32)
    reply = triton.infer("pair", [tensor("b", b), tensor("a", a, False)])
    np.testing.assert_array_equal(reply.as_numpy("sum"), a + b)
    np.testing.assert_array_equal(reply.as_numpy("difference"), a - b)
    assert "id" not in reply.get_response()
    reply = triton.infer("pair", [tensor("a", a), tensor("b", b)], outputs=[client.InferRequestedOutput("difference")])
    np.testing.assert_array_equal(reply.as_numpy("difference"), a - b)
    assert reply.as_numpy("sum") is None


def values_of(kind):
    numbers = {"FP32": [0.1, -0.0, 3.4e38, 1e-45], "FP64": [0.1, 1 / 3, 1.7e308, 5e-324], "FP16": [0.5, -2, 65504, 0],
               "BF16": [1.5, -2, 0, 1e38],
               "BOOL": [True, False, True, True]}
    if kind in numbers:
        dtype = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "BF16": ml_dtypes.bfloat16, "BOOL": np.bool_}[kind]
        return np.array(numbers[kind], dtype)
    dtype = np.dtype(kind.lower())
    return np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1], dtype)


def all_types(binary):
    made = []
    for kind in IDENTITY_TYPES:
        one = client.InferInput(f"in_{kind}", [4], kind)
        one.set_data_from_numpy(values_of(kind), binary_data=binary or kind in ("FP16", "BF16"))
        made.append(one)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_types_pass_unchanged(triton, binary):
    wanted = [client.InferRequestedOutput(f"out_{kind}", binary_data=binary or kind in ("FP16", "BF16"))
              for kind in IDENTITY_TYPES]
    reply = triton.infer("types", all_types(binary), outputs=wanted)
    for kind in IDENTITY_TYPES:
        assert reply.as_numpy(f"out_{kind}").tolist() == values_of(kind).tolist(), kind


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("reply_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression(triton, request_coding, reply_coding, binary):
    x = np.arange(4000, dtype=np.float32).reshape(1000, 4)
    reply = triton.infer(ADD, [tensor("x", x, binary)], outputs=[client.InferRequestedOutput("y", binary_data=binary)],
                         request_compression_algorithm=request_coding, response_compression_algorithm=reply_coding)
    np.testing.assert_array_equal(reply.as_numpy("y"), x + np.float32(1))


@pytest.mark.parametrize("binary", [True, False])
def test_strings(triton, binary):
    texts = np.array(["one two", "", "drei  vier fünf"], object)
    one = client.InferInput("s", [3], "BYTES")
    one.set_data_from_numpy(texts, binary_data=binary)
    reply = triton.infer("words", [one], outputs=[client.InferRequestedOutput(n, binary_data=binary) for n in ("words", "counts")])
    words = [[w.decode() if isinstance(w, bytes) else w for w in row] for row in reply.as_numpy("words").tolist()]
    assert words == [["one", "two", ""], ["", "", ""], ["drei", "vier", "fünf"]]
    assert reply.as_numpy("counts").tolist() == [2, 0, 3]


def test_sequences_are_refused_with_a_way_out(triton):
    with pytest.raises(InferenceServerException, match="output 'list' is of type sequence.*zipmap=False"):
        x = client.InferInput("x", [1], "FP32")
        x.set_data_from_numpy(np.zeros(1, np.float32))
        triton.infer("sequence", [x])


def test_classification(triton):
    scores = np.array([[0.25, 3, -1, 3]], np.float32)
    reply = triton.infer(ADD, [tensor("x", scores)], outputs=[client.InferRequestedOutput("y", class_count=3)])
    assert reply.as_numpy("y").tolist() == [b"4.0:1", b"4.0:3", b"1.25:0"]


def test_versions(triton):
    x = sample()
    for name, version, amount in (("versioned", "10", 10), ("plain", "1", 3), ("file", "1", 4)):
        for asked in ("", version):
            got = triton.infer(name, [tensor("x", x)], model_version=asked).as_numpy("y")
            np.testing.assert_array_equal(got, x + np.float32(amount))
        assert triton.get_model_metadata(name)["versions"] == [version]
        assert triton.is_model_ready(name, version)
        with pytest.raises(InferenceServerException, match="version"):
            triton.infer(name, [tensor("x", x)], model_version="7")


def test_statistics_move(triton):
    before = triton.get_inference_statistics("plain", "1")["model_stats"][0]
    for _ in range(3):
        triton.infer("plain", [tensor("x", sample())])
    with pytest.raises(InferenceServerException):
        triton.infer("plain", [tensor("x", sample((2, 5)))])
    after = triton.get_inference_statistics("plain", "1")["model_stats"][0]
    assert (after["name"], after["version"]) == ("plain", "1")
    assert after["inference_count"] - before["inference_count"] == 3 * len(sample())
    assert after["execution_count"] - before["execution_count"] == 3
    assert after["last_inference"] > 1e12
    for key, count in (("success", 3), ("fail", 1), ("queue", 3), ("compute_input", 3), ("compute_infer", 3),
                       ("compute_output", 3), ("cache_hit", 0), ("cache_miss", 0)):
        was, now = before["inference_stats"][key], after["inference_stats"][key]
        assert now["count"] - was["count"] == count, key
        assert count == 0 or now["ns"] > was["ns"], key
    assert sum(size["compute_infer"]["count"] for size in after["batch_stats"]) == after["execution_count"]
    names = [s["name"] for s in triton.get_inference_statistics()["model_stats"]]
    assert names == sorted(names) and {"plain", "pair", "broken"} <= set(names), "loaded or not"


def test_index(triton):
    index = {m["name"]: m for m in triton.get_model_repository_index()}
    assert set(index) == {ADD, "types", "pair", "text", "words", "broken", "sequence", "versioned", "plain", "file", "empty"}
    assert index["versioned"] == {"name": "versioned", "version": "10", "state": "READY", "reason": ""}
    assert index["broken"]["state"] == index["empty"]["state"] == "UNAVAILABLE" and index["broken"]["reason"]
    assert "model.onnx" in index["empty"]["reason"]


def test_load_and_unload(models):
    running = Server("--model-repository", models / "repository")
    c = client.InferenceServerClient(running.url)
    c.unload_model("plain")
    c.unload_model("plain")
    c.unload_model("never heard of")
    assert not c.is_model_ready("plain")
    with pytest.raises(InferenceServerException, match="not loaded") as error:
        c.infer("plain", [tensor("x", sample())])
    assert error.value.status() == "404"
    assert {"name": "plain", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in c.get_model_repository_index()
    c.unload_model("plain", unload_dependents=True)
    c.load_model("plain")
    c.load_model("plain")
    np.testing.assert_array_equal(c.infer("plain", [tensor("x", sample())]).as_numpy("y"), sample() + np.float32(3))
    with pytest.raises(InferenceServerException, match="empty"):
        c.load_model("empty")
    with pytest.raises(InferenceServerException, match="not in the repository"):
        c.load_model("never heard of")
    with pytest.raises(InferenceServerException, match="config"):
        c.load_model("plain", config="{}")
    assert running.stop()[0] == 0


def test_new_version_and_new_model_are_found(tmp_path):
    add_model(tmp_path / "m/1/model.onnx", 1)
    running = Server("--model-repository", tmp_path)
    c = client.InferenceServerClient(running.url)
    add_model(tmp_path / "m/3/model.onnx", 3)
    add_model(tmp_path / "late/model.onnx", 5)
    assert c.infer("m", [tensor("x", sample())]).get_response()["model_version"] == "1"
    c.load_model("m")
    c.load_model("late")
    assert c.infer("m", [tensor("x", sample())]).get_response()["model_version"] == "3"
    (tmp_path / "m/4").mkdir()
    (tmp_path / "m/4/model.onnx").write_bytes(b"broken")
    with pytest.raises(InferenceServerException):
        c.load_model("m")
    assert c.infer("m", [tensor("x", sample())]).get_response()["model_version"] == "3", "the loaded one keeps serving"
    kept = next(m for m in c.get_model_repository_index() if m["name"] == "m")
    assert kept["state"] == "READY" and kept["version"] == "3" and kept["reason"], "why the reload failed"
    assert running.stop()[0] == 0


def test_errors(triton):
    def refused(code, match, name=ADD, inputs=None, **options):
        with pytest.raises(InferenceServerException, match=match) as error:
            triton.infer(name, inputs or [tensor("x", sample())], **options)
        assert error.value.status() == code

    refused("404", "'nothing' is not known", name="nothing")
    refused("503", "could not be loaded", name="broken")
    refused("400", "no input 'z'", inputs=[tensor("z", sample())])
    refused("400", "input 'x' is FP32, the request has INT32", inputs=[tensor("x", sample().astype(np.int32))])
    refused("400", r"shape \[-1,4\], the request has \[2,5\]", inputs=[tensor("x", sample((2, 5)))])
    refused("400", "given twice", inputs=[tensor("x", sample()), tensor("x", sample())])
    refused("400", "no output 'q'", outputs=[client.InferRequestedOutput("q")])
    refused("400", "'b' is missing", name="pair", inputs=[tensor("a", np.zeros((1, 1), np.int32))])
    refused("400", "'m'", name="pair",
            inputs=[tensor("a", np.zeros((1, 2), np.int32)), tensor("b", np.zeros((1, 3), np.int32))])
    refused("400", "binary_data", name="types", inputs=all_types(True),
            outputs=[client.InferRequestedOutput("out_FP16", binary_data=False)])


def test_concurrent_requests_keep_their_data(server):
    def work(seed):
        rng = np.random.default_rng(seed)
        with client.InferenceServerClient(server.url) as c:
            for _ in range(25):
                x = rng.standard_normal((rng.integers(1, 200), 4)).astype(np.float32)
                name, amount = (("plain", 3), ("file", 4), ("versioned", 10))[rng.integers(3)]
                got = c.infer(name, [tensor("x", x, bool(rng.integers(2)))]).as_numpy("y")
                np.testing.assert_array_equal(got, x + np.float32(amount))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


def test_unload_under_load_loses_only_its_own(models):
    running = Server(models / "pair.onnx", "--model-repository", models / "repository")

    def ask(c, name):
        try:
            c.infer(name, [tensor("x", sample())])
        except InferenceServerException as error:
            assert (error.status(), error.message().split(" is ")[1]) in (("404", "not loaded"), ("503", "being loaded"))

    def work(name):
        with client.InferenceServerClient(running.url) as c:
            for _ in range(100):
                ask(c, name)

    with ThreadPoolExecutor(9) as pool, client.InferenceServerClient(running.url) as c:
        jobs = [pool.submit(work, "plain") for _ in range(8)]
        while not all(j.done() for j in jobs):
            c.unload_model("plain")
            c.load_model("plain")
        for j in jobs:
            j.result()
    assert running.stop()[0] == 0


def test_unload_waits_for_what_runs(models):
    running = Server(models / "slow.onnx", models / "pair.onnx", "--runners", "1")
    x = np.ones((256, 1024), np.float32)

    def ask():
        with client.InferenceServerClient(running.url, network_timeout=60) as c:
            return c.infer("slow", [tensor("x", x)]).as_numpy("y").shape

    with client.InferenceServerClient(running.url) as c, ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(ask) for _ in range(3)]
        while not c.get_inference_statistics("slow")["model_stats"][0]["inference_count"]:
            pass  # then the others are queued or running
        unload = pool.submit(requests.post, f"{running.base}/v2/repository/models/slow/unload", timeout=60)
        states = set()
        while not unload.done():
            states |= {m["state"] for m in c.get_model_repository_index() if m["name"] == "slow"}
        assert unload.result().status_code == 200 and "UNLOADING" in states
        assert [r.result() for r in replies] == [(256, 1024)] * 3
        assert not c.is_model_ready("slow") and c.is_model_ready("pair")
    code, log = running.stop()
    assert code == 0 and "event=unload model=slow" in log


def test_same_as_the_command_line(server, models, tmp_path):
    x = sample()
    np.save(tmp_path / "x.npy", x)
    subprocess.run([BINARY, "run", models / "add one.onnx", "--input", f"x={tmp_path / 'x.npy'}", "--output-dir", tmp_path / "out"],
                   check=True, capture_output=True)
    (saved,) = (tmp_path / "out").glob("*.npy")
    with client.InferenceServerClient(server.url) as c:
        np.testing.assert_array_equal(c.infer(ADD, [tensor("x", x)]).as_numpy("y"), np.load(saved))


def test_replies_are_json(server):
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ["NaN", "Infinity", "-Infinity", 1e-7]}]}
    reply = requests.post(f"{server.base}/v2/models/add%20one/infer", data=json.dumps(body), timeout=10)
    data = json.loads(reply.content, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))["outputs"][0]["data"]
    assert data == ["NaN", "Infinity", "-Infinity", pytest.approx(1.0000001, abs=1e-6)]
