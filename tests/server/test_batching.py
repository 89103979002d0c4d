"""Requests that share a run: answers equal those alone, only equal shapes meet, and what cannot be batched is not."""

import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import batch_answers
import numpy as np
import onnx
import pytest
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from conftest import BINARY, Server, slow_model
from onnx import TensorProto, helper, numpy_helper

RTOL, ATOL = 1e-3, 1e-5  # as `polestar verify`: a batched product may sum in another order


def save(folder, name, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / f"{name}.onnx")


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batching")
    random = np.random.default_rng(1)
    wide = random.standard_normal((256, 4096), np.float32) / 16, random.standard_normal((4096, 16), np.float32) / 64
    save(folder, "mlp", [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
                         helper.make_node("MatMul", ["r", "b"], ["y"])],
         [value("x", ["n", 256])], [value("y", ["n", 16])], [("a", wide[0]), ("b", wide[1])])
    save(folder, "sums", [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
         [value("x", ["n", "length"])], [value("y", ["n"])], [("axis", np.array([1]))])
    save(folder, "mixing", [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
                            helper.make_node("Sub", ["x", "m"], ["y"])], [value("x", ["n", 4])], [value("y", ["n", 4])])
    save(folder, "fixed", [helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 4])], [value("y", [1, 4])])
    # the row of a bad index cannot be looked up: its run fails
    save(folder, "table", [helper.make_node("Gather", ["t", "i"], ["y"])], [value("i", ["n", 1], TensorProto.INT64)],
         [value("y", ["n", 1, 8])], [("t", random.standard_normal((50, 8), np.float32))])
    return folder


@pytest.fixture(scope="module")
def server(folder):
    server = Server(*folder.glob("*.onnx"), "--runners", "1", "--max-batch", "8")
    yield server
    server.stop()


def ask(server, model, name, x):
    client = triton.InferenceServerClient(server.url)
    tensor = triton.InferInput(name, x.shape, "INT64" if x.dtype == np.int64 else "FP32").set_data_from_numpy(x)
    return client.infer(model, [tensor]).as_numpy("y")


def at_once(calls):
    """Results or exceptions of functions that start together."""
    results = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def work(i):
        start.wait()
        try:
            results[i] = calls[i]()
        except Exception as error:  # for the caller to judge
            results[i] = error
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def stats(server, model):
    return requests.get(f"{server.base}/v2/models/{model}/stats", timeout=10).json()["model_stats"][0]


def test_answers_in_batches_equal_those_alone(server):
    random = np.random.default_rng(2)
    inputs = [random.standard_normal((1 + i % 3, 256), np.float32) for i in range(48)]
    alone = [ask(server, "mlp", "x", x) for x in inputs]
    before = stats(server, "mlp")
    for _ in range(4):
        for got, want in zip(at_once([lambda x=x: ask(server, "mlp", "x", x) for x in inputs]), alone, strict=True):
            np.testing.assert_allclose(got, want, RTOL, ATOL)
    after = stats(server, "mlp")
    rows = 4 * sum(len(x) for x in inputs)
    assert after["inference_count"] - before["inference_count"] == rows
    assert after["execution_count"] - before["execution_count"] < 4 * len(inputs), "nothing shared a run"
    assert max(batch["batch_size"] for batch in after["batch_stats"]) > 3
    assert max(batch["batch_size"] for batch in after["batch_stats"]) <= 8
    assert sum(b["batch_size"] * b["compute_infer"]["count"] for b in after["batch_stats"]) == after["inference_count"]
    assert after["scheduler"]["completed"] <= after["inference_stats"]["success"]["count"]
    assert sum(size["count"] for size in after["scheduler"]["batch_sizes"]) == after["scheduler"]["batches"]


def test_random_requests_of_several_models():
    """batch_answers.py does this with 10,000."""
    wrong, runs = batch_answers.compare(500, 3)
    assert not wrong
    assert sum(executed for _, executed in runs.values()) < 500, f"nothing shared a run: {runs}"


def test_only_equal_shapes_share_a_run(server):
    inputs = [np.full((1, 1 + i % 5), i, np.float32) for i in range(40)]
    for got, x in zip(at_once([lambda x=x: ask(server, "sums", "x", x) for x in inputs]), inputs, strict=True):
        np.testing.assert_allclose(got, x.sum(1), RTOL)


@pytest.mark.parametrize("model, size, why", [
    ("mlp", 8, None), ("sums", 8, None), ("table", 8, None),
    ("mixing", 0, "depends on the other rows"), ("fixed", 0, "not symbolic")])
def test_the_configuration_says_what_is_batched(server, model, size, why):
    config = requests.get(f"{server.base}/v2/models/{model}/config", timeout=10).json()
    metadata = requests.get(f"{server.base}/v2/models/{model}", timeout=10).json()
    assert config["max_batch_size"] == size
    assert ("dynamic_batching" in config) == (size > 0)
    assert (len(metadata["inputs"][0]["shape"]) - len(config["input"][0]["dims"])) == (size > 0)
    if why:
        assert why in config["parameters"]["unbatched_because"]["string_value"]


def test_rows_that_depend_on_each_other_run_alone(server):
    inputs = [np.full((2, 4), i, np.float32) for i in range(24)]
    inputs = [x + np.array([[0], [2]], np.float32) for x in inputs]
    for got in at_once([lambda x=x: ask(server, "mixing", "x", x) for x in inputs]):
        np.testing.assert_array_equal(got, np.array([[-1], [1]], np.float32) * np.ones(4, np.float32))


def test_a_request_that_cannot_run_fails_alone(server):
    indices = [np.array([[i % 50]]) if i % 8 else np.array([[1000]]) for i in range(48)]
    table = numpy_helper.to_array(onnx.load(next(iter(server_models(server, "table")))).graph.initializer[0])
    for got, i in zip(at_once([lambda i=i: ask(server, "table", "i", i) for i in indices]), indices, strict=True):
        if i[0, 0] == 1000:
            assert isinstance(got, triton.InferenceServerException) and "1000" in str(got)
        else:
            np.testing.assert_array_equal(got, table[i])


def server_models(server, name):
    return [path for path in server.process.args if str(path).endswith(f"{name}.onnx")]


def test_a_deadline_that_cannot_be_met_is_refused_at_once(folder):
    server = Server(folder / "mlp.onnx", "--runners", "1", "--max-batch", "1")
    try:
        x = np.ones((1, 256), np.float32)
        for _ in range(20):
            ask(server, "mlp", "x", x)  # the scheduler learns what a run takes
        body = {"inputs": [{"name": "x", "shape": [1, 256], "datatype": "FP32", "data": x.ravel().tolist()}],
                "parameters": {"timeout": 1}}
        reply = requests.post(f"{server.base}/v2/models/mlp/infer", json=body, timeout=10)
        assert reply.status_code in (503, 504), reply.text
        assert "timeout" in reply.json()["error"] or "allows" in reply.json()["error"]
        if reply.status_code == 503:
            assert int(reply.headers["Retry-After"]) >= 1
        body["parameters"]["timeout"] = 10_000_000
        assert requests.post(f"{server.base}/v2/models/mlp/infer", json=body, timeout=10).status_code == 200
    finally:
        server.stop()


@pytest.mark.parametrize("policy", ["fixed", "triton", "aimd", "linear"])
def test_every_policy_answers(folder, policy):
    server = Server(folder / "mlp.onnx", "--batch-policy", policy, "--batch-size", "4", "--batch-delay", "2")
    try:
        inputs = [np.full((1, 256), i, np.float32) for i in range(16)]
        alone = [ask(server, "mlp", "x", x) for x in inputs]
        for got, want in zip(at_once([lambda x=x: ask(server, "mlp", "x", x) for x in inputs]), alone, strict=True):
            np.testing.assert_allclose(got, want, RTOL, ATOL)
    finally:
        server.stop()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_crowd_is_answered(tmp_path, protocol):
    """With more waiting than the next run takes, front ends read requests in groups: none is forgotten."""
    slow_model(tmp_path / "slow.onnx", layers=300)
    server = Server(tmp_path / "slow.onnx", "--runners", "1", "--max-batch", "1")
    kind, url = (triton, server.url) if protocol == "http" else (triton_grpc, server.grpc)

    def send(i):
        x = np.full((1, 1024), i, np.float32)
        with kind.InferenceServerClient(url) as c:
            np.testing.assert_array_equal(c.infer("slow", [kind.InferInput("x", x.shape, "FP32").set_data_from_numpy(x)])
                                          .as_numpy("y"), x)
        return i
    try:
        for i in range(9):
            send(i)  # what a run takes
        assert stats(server, "slow")["scheduler"]["run_ns"] > 9 * 4e6, "runs are too short for this test"
        assert at_once([lambda i=i: send(i) for i in range(80)]) == list(range(80))
        of = stats(server, "slow")
        assert of["scheduler"]["completed"] == 89
        assert of["inference_stats"]["queue"]["ns"] > 10 * of["scheduler"]["run_ns"], "few waited at once"
    finally:
        assert server.stop()[0] == 0


def test_a_crowd_is_read_in_groups(tmp_path):
    """A front end that is woken waits a millisecond for others, so that each of some requests apart takes as long at least."""
    slow_model(tmp_path / "slow.onnx", layers=600)
    server = Server(tmp_path / "slow.onnx", "--runners", "1", "--max-batch", "1")
    x = np.ones((1, 1024), np.float32)

    def seconds_of(n, s):
        sum_ = 0
        for _ in range(n):
            time.sleep(0.002)
            start = time.monotonic()
            s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in s.recv(1000)
            sum_ += time.monotonic() - start
        return sum_
    try:
        for _ in range(9):
            ask(server, "slow", "x", x)  # what a run takes
        with socket.create_connection(("127.0.0.1", server.port)) as s, ThreadPoolExecutor(60) as pool:
            waiting = [pool.submit(ask, server, "slow", "x", x) for _ in range(60)]
            while stats(server, "slow")["scheduler"]["queued"] < 30:
                assert not all(w.done() for w in waiting), "nobody waits"
            took = seconds_of(5, s)
            assert stats(server, "slow")["scheduler"]["queued"] >= 16, "runs are too short for this test"
            assert took >= 0.005
            for w in waiting:
                np.testing.assert_array_equal(w.result(), x)
    finally:
        assert server.stop()[0] == 0


def test_weights_and_tenants(tmp_path):
    """Two tenants ask for more than twice of what can be in time: the one of weight 8 gets most of it."""
    slow_model(tmp_path / "slow.onnx", layers=96)  # and few rows: sixty bodies are to come in while a few of them run
    for bad in ("a", "a=0", "=1", "a=1,a=2", "a=1001", "a=1.5", "a=1,,b=2"):
        done = subprocess.run([BINARY, "serve", "--http-port", "0", "--grpc-port", "-1", "--tenants", bad,
                               tmp_path / "slow.onnx"], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode != 0 and "tenant" in done.stderr, bad
    (tmp_path / "slow.config.pbtxt").write_text('parameters { key: "weight" value { string_value: "0" } }')
    server = Server(tmp_path / "slow.onnx")
    with pytest.raises(triton.InferenceServerException, match="the parameter weight is '0', not a number from 1 to 1000"):
        ask(server, "slow", "x", np.ones((1, 1024), np.float32))
    assert server.stop()[0] == 0
    (tmp_path / "slow.config.pbtxt").write_text('parameters { key: "weight" value { string_value: "3" } }')
    server = Server(tmp_path / "slow.onnx", "--runners", "1", "--max-batch", "1", "--tenants", "light=1,heavy=8")
    over_grpc = triton_grpc.InferenceServerClient(server.grpc)
    try:
        rows, took = 1, 0
        while took < 0.03:  # long beside what it takes to send it
            rows *= 2
            x = np.ones((rows, 1024), np.float32)
            took = 1
            for _ in range(4):  # the least: in a slow moment few rows would look long enough, and all be in time then
                begin = time.monotonic()
                ask(server, "slow", "x", x)
                took = min(took, time.monotonic() - begin)
        value = triton_grpc.InferInput("x", x.shape, "FP32")
        value.set_data_from_numpy(x)

        def put(tenant):
            try:
                over_grpc.infer("slow", [value], parameters={"tenant": tenant}, timeout=int(20e6 * took))
            except triton.InferenceServerException:
                return tenant, 0
            return tenant, 1

        for _ in range(2):  # once more, should other programs have taken the processors meanwhile
            answered = {"light": 0, "heavy": 0}
            with ThreadPoolExecutor(60) as pool:
                for done in [pool.submit(put, "light" if i % 2 else "heavy") for i in range(60)]:
                    tenant, one = done.result()
                    answered[tenant] += one
            if answered["heavy"] > 2 * answered["light"]:
                break
        assert stats(server, "slow")["scheduler"]["weight"] == 3
    finally:
        assert server.stop()[0] == 0
    assert answered["heavy"] > 2 * answered["light"], answered


def test_what_was_learnt_of_a_model_outlives_the_server(tmp_path):
    """The automatic target is twice the time of a request alone, once that is known: a server's first run teaches nothing.
    With other runners a request takes another time, and what was learnt is not believed."""
    slow_model(tmp_path / "slow.onnx")
    x = np.ones((1024, 1024), np.float32)

    def target_after(requests_made, cache, runners="1"):
        server = Server(tmp_path / "slow.onnx", "--runners", runners, "--max-batch", "1", cache=cache)
        try:
            for _ in range(requests_made):
                ask(server, "slow", "x", x)
            return stats(server, "slow")["scheduler"]["target_ns"]
        finally:
            assert server.stop()[0] == 0

    with tempfile.TemporaryDirectory() as name:
        cache = type("Cache", (), {"name": name})
        learnt = target_after(5, cache)
        assert learnt > 100e6
        assert target_after(1, cache) > 100e6
        assert target_after(1, cache, "2") == 100e6
    assert target_after(1, None) == 100e6
