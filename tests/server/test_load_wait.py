"""Requests for models that are being loaded: they wait, up to --load-timeout, and the wait is charged to nobody."""

import json
import queue
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as client
from conftest import Server, add_model, slow_model
from test_cancel import Client
from tritonclient.utils import InferenceServerException

WAIT = 60


class Loading(Server):
    """Listens, and loads: `first` for some seconds, and then the others, as models are loaded in order of name."""

    stopping = False

    def wait_ready(self):
        self.wait_log("event=listen protocol=grpc")

    def ask(self, model="second"):
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        return requests.post(f"{self.base}/v2/models/{model}/infer", json=body, timeout=WAIT)

    def loaded(self):
        return "event=load model=first" in self.read_log()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    slow_model(folder / "first.onnx", layers=15000)  # its file is small, its plan is not: loads in seconds
    add_model(folder / "second.onnx", 1)
    (folder / "third.onnx").write_bytes(b"this is no model")
    return folder


@pytest.fixture
def start(folder):
    started = []

    def make(*arguments):
        started.append(Loading("--model-repository", folder, *arguments))
        return started[-1]
    yield make
    for server in started:
        code, log = server.wait_stopped() if server.stopping else server.stop()
        assert code == 0, log


def tensor(array):
    made = client.InferInput("x", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


X = np.array([[1, 2, 3, 4]], np.float32)


def test_they_wait_and_are_answered(start):
    server = start("--latency-target", 1000)  # which the load alone would break
    replies = queue.Queue()
    with ThreadPoolExecutor(8) as pool, client.InferenceServerClient(server.grpc) as c:
        over_http = [pool.submit(server.ask) for _ in range(6)]
        over_grpc = [pool.submit(c.infer, "second", [tensor(X)]) for _ in range(2)]
        c.start_stream(lambda result, error: replies.put((result, error)))
        for _ in range(2):
            c.async_stream_infer("second", [tensor(X)])
        assert requests.get(server.base + "/v2/health/ready", timeout=WAIT).status_code == 503
        assert not server.loaded(), "it loads too fast for this test"
        assert [reply.result().json()["outputs"][0]["data"] for reply in over_http] == [[2, 3, 4, 5]] * 6
        for reply in over_grpc:
            np.testing.assert_array_equal(reply.result().as_numpy("y"), X + 1)
        for _ in range(2):
            result, error = replies.get(timeout=WAIT)
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("y"), X + 1)
        c.stop_stream()
    stats = requests.get(f"{server.base}/v2/models/second/stats", timeout=10).json()["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] == 10
    scheduler = stats["scheduler"]
    assert scheduler["on_time"] == scheduler["completed"] and scheduler["late"] == 0
    assert scheduler["queue_ns"] < 1e9 and scheduler["run_ns"] < 1e9, "the load is charged to it"


def test_one_that_does_not_load_says_why(start):
    server = start()
    reply = server.ask("third")
    assert reply.status_code == 503 and "could not be loaded" in reply.json()["error"]
    server.wait_log("event=load model=first")


def test_they_do_not_wait_for_ever(start):
    server = start("--load-timeout", 1)
    with ThreadPoolExecutor(2) as pool, client.InferenceServerClient(server.grpc) as c:
        begin = time.monotonic()
        over_grpc = pool.submit(c.infer, "second", [tensor(X)])
        reply = server.ask()
        took = time.monotonic() - begin
        with pytest.raises(InferenceServerException, match="still being loaded after 1 s"):
            over_grpc.result()
    assert not server.loaded(), "it loads too fast for this test"
    assert reply.status_code == 503 and "still being loaded after 1 s" in reply.json()["error"]
    assert int(reply.headers["Retry-After"]) >= 1 and 1 <= took < 3
    while server.ask().status_code == 503:
        assert time.monotonic() - begin < WAIT


def test_a_timeout_ends_the_wait(start):
    """A request that says how long its answer is of use does not wait for its model for longer."""
    server = start()
    with client.InferenceServerClient(server.grpc) as c:
        begin = time.monotonic()
        with pytest.raises(InferenceServerException, match="timeout of 200000 microseconds passed while the model was being"):
            c.infer("second", [tensor(X)], timeout=200_000)
        took = time.monotonic() - begin
    assert not server.loaded(), "it loads too fast for this test"
    assert 0.2 <= took < 2


def test_they_need_not_wait(start):
    server = start("--load-timeout", 0)
    reply = server.ask()
    assert not server.loaded(), "it loads too fast for this test"
    assert reply.status_code == 503 and reply.json()["error"] == "model 'second' is being loaded"


def test_unknown_models_and_versions_do_not_wait(start):
    server = start()
    assert server.ask("nothing").status_code == 404 and not server.loaded()
    assert server.ask("second/versions/7").status_code == 404  # only then it is known
    server.wait_log("event=load model=second")


def test_clients_that_are_gone_wait_no_longer(start):
    server = start()
    gone, stays = (Client(server, "second", rows=1) for _ in range(2))  # its shape is wrong, its model unknown yet
    with client.InferenceServerClient(server.grpc) as c:
        replies = []
        call = c.async_infer("second", [tensor(X)], lambda result, error: replies.append(error))
        time.sleep(0.2)
        gone.socket.close()
        call.cancel()
        log = server.wait_log("event=request method=.*model=second.*", 2)
        assert len(log) == 2 and not server.loaded(), "only when the model was loaded"
        assert "status=503" in "".join(log) and "status=UNAVAILABLE" in "".join(log)
    code, body = stays.reply()
    assert code == 400 and "shape" in json.loads(body)["error"]
    server.wait_log("event=load model=first")


def test_a_server_that_stops_does_not_keep_them(start):
    server = start()
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.ask)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.stopping = True
        reply = reply.result()
    assert reply.status_code == 503 and "shutting down" in reply.json()["error"]
    assert not server.loaded()
