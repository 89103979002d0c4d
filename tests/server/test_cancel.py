"""Requests whose clients are gone: they leave the queue at once, are never run, and hold nobody up. A request here has
more rows than a batch may, so that each has a run of its own."""

import json
import socket
import subprocess
import time

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc as client
from conftest import BINARY, TOP, Server, save, slow_model, value
from onnx import TensorProto, helper, numpy_helper
from test_sequence import PAIR, state_file
from tritonclient.utils import InferenceServerException

WAIT = 60
ROWS = 512  # a run takes the better part of a second


def slow_sum(path, layers=60, width=1024):
    """As slow_model, and next = total + 1: how many requests of the sequence have run."""
    f32 = TensorProto.FLOAT
    nodes = [helper.make_node("MatMul", [f"t{i}" if i else "x", "w"], [f"t{i + 1}" if i + 1 < layers else "y"])
             for i in range(layers)] + [helper.make_node("Add", ["total", "one"], ["next"])]
    return save(path, nodes, [value("x", f32, ["n", width]), value("total", f32, [1])],
                [value("y", f32, ["n", width]), value("next", f32, [1])],
                [numpy_helper.from_array(np.eye(width, dtype=np.float32), "w"),
                 numpy_helper.from_array(np.ones(1, np.float32), "one")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cancel")
    slow_model(folder / "slow.onnx")
    state_file(slow_sum(folder / "chain.onnx"), states=[PAIR])
    return folder


@pytest.fixture(scope="module", params=["1", "8"], ids=["alone", "batched"])
def server(folder, request):
    running = Server(folder / "slow.onnx", folder / "chain.onnx", "--runners", "1", "--max-batch", request.param)
    yield running
    code, log = running.stop()
    assert code == 0, log


def stats(server, model="slow"):
    found = requests.get(f"{server.base}/v2/models/{model}/stats", timeout=10).json()["model_stats"][0]
    return found | {"scheduler": found.get("scheduler", {"queued": 0, "running": 0, "dropped": {}, "completed": 0})}


def cancelled(now):
    return now["scheduler"]["dropped"].get("cancelled", 0)


def wait_for(server, condition, model="slow"):
    """The model's statistics once `condition` holds of them."""
    deadline = time.monotonic() + WAIT
    while True:
        now = stats(server, model)
        if condition(now):
            return now
        assert time.monotonic() < deadline, now
        time.sleep(0.005)


class Client:
    """A connection of its own, and one request on it."""

    def __init__(self, server, model="slow", rows=ROWS, **parameters):
        x = np.ones((rows, 1024), np.float32)
        head = json.dumps({"inputs": [{"name": "x", "shape": [rows, 1024], "datatype": "FP32",
                                       "parameters": {"binary_data_size": x.nbytes}}], "parameters": parameters,
                           "outputs": [{"name": "next"}] if model == "chain" else []}).encode()
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self.socket.sendall(f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
                            f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + x.nbytes}"
                            "\r\n\r\n".encode() + head + x.tobytes())

    def rest(self):
        """What comes until the server closes."""
        data = b"".join(iter(lambda: self.socket.recv(1 << 20), b""))
        self.socket.close()
        return data

    def reply(self):
        """(status code, body)"""
        data = self.rest()
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def queue_up(server, n, model="slow", **parameters):
    """One that runs, and n behind it; and the statistics then."""
    first = Client(server, model, **parameters)
    wait_for(server, lambda now: now["scheduler"]["running"] == 1, model)
    waiting = []
    for _ in range(n):
        waiting.append(Client(server, model, **parameters))
        wait_for(server, lambda now: now["scheduler"]["queued"] == len(waiting), model)
    now = stats(server, model)
    assert now["scheduler"]["running"] == 1 and now["scheduler"]["queued"] == n
    return first, waiting, now


def runs(before, after):
    return after["execution_count"] - before["execution_count"]


def test_http_clients_that_close(server):
    first, waiting, before = queue_up(server, 6)
    for i in (1, 2, 5):
        waiting[i].socket.close()
    after = wait_for(server, lambda now: now["scheduler"]["queued"] == 3)
    assert after["scheduler"]["completed"] == before["scheduler"]["completed"], "only when the first run had ended"
    assert cancelled(after) - cancelled(before) == 3
    for one in [first, waiting[0], waiting[3], waiting[4]]:
        assert one.reply()[0] == 200
    after = stats(server)
    assert runs(before, after) == 4
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 4
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 3
    assert after["scheduler"]["queued"] == 0


def test_a_client_that_closes_its_sending_side(server):
    """Has given up: the connection ends while the first still runs. The reply that says so goes out unless libmicrohttpd
    saw the end of the client's data before it saw the reply: then it closes without one."""
    first, waiting, before = queue_up(server, 1)
    waiting[0].socket.shutdown(socket.SHUT_WR)
    told = waiting[0].rest()
    assert stats(server)["scheduler"]["completed"] == before["scheduler"]["completed"], "only when the first run had ended"
    assert not told or (told.startswith(b"HTTP/1.1 503 ") and b"the client gave the request up" in told)
    assert first.reply()[0] == 200
    assert runs(before, stats(server)) == 1


def test_closed_while_it_runs(server):
    first, waiting, before = queue_up(server, 1)
    first.socket.close()
    assert waiting[0].reply()[0] == 200
    assert cancelled(stats(server)) == cancelled(before)


def test_behind_a_request_of_its_sequence(server):
    first = Client(server, "chain", sequence_id=7, sequence_start=True)
    wait_for(server, lambda now: now["scheduler"]["running"] == 1, "chain")
    waiting = [Client(server, "chain", sequence_id=7) for _ in range(2)]
    failed = stats(server, "chain")["inference_stats"]["fail"]["count"]
    time.sleep(0.05)  # what waits in the sequence is in no statistics
    waiting[0].socket.close()
    after = wait_for(server, lambda now: now["inference_stats"]["fail"]["count"] == failed + 1, "chain")
    assert after["scheduler"]["running"] == 1, "only when the first run had ended"
    assert first.reply()[0] == 200
    code, body = waiting[1].reply()
    assert code == 200 and json.loads(body)["outputs"][0]["data"] == [2]


def tensor(name, array):
    made = client.InferInput(name, list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


X = np.ones((ROWS, 1024), np.float32)


def test_grpc_calls_that_are_cancelled(server):
    done = []
    with client.InferenceServerClient(server.grpc) as c:
        first, _, before = queue_up(server, 0)
        calls = [c.async_infer("slow", [tensor("x", X)], lambda result, error: done.append(error)) for _ in range(4)]
        wait_for(server, lambda now: now["scheduler"]["queued"] == 4)
        calls[0].cancel()
        calls[2].cancel()
        after = wait_for(server, lambda now: now["scheduler"]["queued"] == 2)
        assert after["scheduler"]["completed"] == before["scheduler"]["completed"], "only when the first run had ended"
        assert first.reply()[0] == 200
        deadline = time.monotonic() + WAIT
        while len(done) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(error is None for error in done) == [False, False, True, True]
    after = stats(server)
    assert runs(before, after) == 3 and cancelled(after) - cancelled(before) == 2


def test_grpc_calls_whose_deadline_passes(server):
    """Also if the scheduler, which knows the deadline, was asked first: it drops what cannot be in time."""
    with client.InferenceServerClient(server.grpc) as c:
        first, _, before = queue_up(server, 0)
        with pytest.raises(InferenceServerException) as error:
            c.infer("slow", [tensor("x", X)], client_timeout=0.2)
        assert grpc.StatusCode.DEADLINE_EXCEEDED.name in str(error.value) or "would take" in str(error.value)
        after = wait_for(server, lambda now: now["scheduler"]["queued"] == 0)
        assert first.reply()[0] == 200
    after = wait_for(server, lambda now: now["scheduler"]["running"] == 0)
    assert runs(before, after) == 1


def test_a_stream_that_is_cancelled(server):
    with client.InferenceServerClient(server.grpc) as c:
        first, _, before = queue_up(server, 0)
        c.start_stream(lambda result, error: None)
        for _ in range(3):
            c.async_stream_infer("slow", [tensor("x", X)])
        wait_for(server, lambda now: now["scheduler"]["queued"] == 3)
        c.stop_stream(cancel_requests=True)
        after = wait_for(server, lambda now: now["scheduler"]["queued"] == 0)
        assert after["scheduler"]["completed"] == before["scheduler"]["completed"], "only when the first run had ended"
    assert cancelled(after) - cancelled(before) == 3
    assert first.reply()[0] == 200
    assert runs(before, wait_for(server, lambda now: now["scheduler"]["running"] == 0)) == 1


def test_many_that_come_and_go(server):
    """Nothing is lost, nothing stays behind, whatever the moment at which they close."""
    random = np.random.default_rng(5)
    before = stats(server)
    clients = []
    for _ in range(60):
        clients.append(Client(server, rows=1))
        if random.random() < 0.7:
            time.sleep(random.random() * 0.004)
            clients.pop(random.integers(len(clients))).socket.close()
    for one in clients:
        assert one.reply()[0] == 200
    after = wait_for(server, lambda now: now["scheduler"]["queued"] + now["scheduler"]["running"] == 0)
    answered = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
    failed = after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"]
    assert answered >= len(clients) and answered + failed == 60


def test_what_is_refused_at_once_is_not_parked(tmp_path, folder):
    """To park a request takes two calls of epoll_ctl and more; one that cannot be in time is answered without."""
    counted = tmp_path / "count"
    counted.write_bytes(bytes(8))
    if BINARY != TOP / "build/release/bin/polestar":
        pytest.skip("other builds, such as sanitizers', want to be loaded first")
    shim = tmp_path / "count_calls.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, TOP / "tests/counts/count_calls.c", "-ldl"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(shim))
        patch.setenv("COUNT_CALLS", str(counted))
        server = Server(folder / "slow.onnx", "--runners", "1", "--max-batch", "1")
    x = np.ones((1, 1024), np.float32)
    head = json.dumps({"inputs": [{"name": "x", "shape": [1, 1024], "datatype": "FP32",
                                   "parameters": {"binary_data_size": x.nbytes}}], "parameters": {"timeout": 1}}).encode()

    def calls():
        return int.from_bytes(counted.read_bytes(), "little")
    try:
        first, waiting, _ = queue_up(server, 2)
        with requests.Session() as connection:
            def ask():
                return connection.post(f"{server.base}/v2/models/slow/infer", data=head + x.tobytes(), timeout=WAIT,
                                       headers={"Inference-Header-Content-Length": str(len(head))}).status_code
            assert ask() == 504 and calls() > 0
            before = calls()
            assert [ask() for _ in range(50)] == 50 * [504]
            assert calls() - before < 10
        assert stats(server)["scheduler"]["queued"] == 2, "runs are too short for this test"
        for each in (first, *waiting):
            each.socket.close()
    finally:
        assert server.stop()[0] == 0
