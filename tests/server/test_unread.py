"""Large bodies of requests that can only be answered late: they stay unread until there is time for them, and nothing is lost."""

import http.client
import json
import signal
import socket
import struct
import threading
import time

import numpy as np
import pytest
from conftest import Server, save, value
from onnx import TensorProto, helper, numpy_helper
from test_cancel import stats

WIDTH, LAYERS, CROWD, WAIT = 32768, 250, 100, 60


def wide_model(path):
    """FP32 [n, 32768]: its first 1024 numbers, through many products with the identity."""
    f32 = TensorProto.FLOAT
    numbers = {"from": [0], "to": [1024], "axis": [1]}
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], ["t0"])]
    nodes += [helper.make_node("MatMul", [f"t{i}", "w"], [f"t{i + 1}" if i + 1 < LAYERS else "y"]) for i in range(LAYERS)]
    return save(path, nodes, [value("x", f32, ["n", WIDTH])], [value("y", f32, ["n", 1024])],
                [numpy_helper.from_array(np.array(v), k) for k, v in numbers.items()] +
                [numpy_helper.from_array(np.eye(1024, dtype=np.float32), "w")])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wide_model(tmp_path_factory.mktemp("unread") / "wide.onnx")


@pytest.fixture
def server(model, start):
    """It knows the model's time."""
    server = start(model, "--runners", "1", "--max-batch", "1")
    learn(server)
    return server


def learn(server):
    for i in range(4):
        assert answer(server, i) == (200, i)


def request(x, parameters=None, spell=lambda text: text):
    """(header, body) of FP32 [1, WIDTH] that begins with x; `spell` may write the JSON in another way"""
    data = np.zeros((1, WIDTH), np.float32)
    data[0, 0] = x
    head = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "parameters": {"binary_data_size": data.nbytes}}],
            "parameters": {"binary_data_output": False} | (parameters or {})}
    text = spell(json.dumps(head)).encode()
    return {"Inference-Header-Content-Length": str(len(text))}, text + data.tobytes()


def answer(server, x, *how):
    """(status, first number of the answer)"""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    header, body = request(x, *how)
    connection.request("POST", "/v2/models/wide/infer", body, header)
    reply = connection.getresponse()
    found = json.loads(reply.read())
    connection.close()
    return reply.status, found["outputs"][0]["data"][0] if reply.status == 200 else found


class Crowd:
    """CROWD requests at once, from a thread each."""

    def __init__(self, server):
        self.answers = {}
        self.threads = [threading.Thread(target=self.ask, args=(server, i)) for i in range(CROWD)]
        for thread in self.threads:
            thread.start()

    def ask(self, server, i):
        self.answers[i] = answer(server, i)

    def join(self):
        for thread in self.threads:
            thread.join()
        assert self.answers == {i: (200, i) for i in range(CROWD)}


def scheduler(server):
    return stats(server, "wide")["scheduler"]


def wait_for(server, condition):
    deadline = time.monotonic() + WAIT
    while not condition(now := scheduler(server)):
        assert time.monotonic() < deadline, now
        time.sleep(0.002)
    return now


def test_a_crowd_is_read_as_there_is_time_for_it(server):
    crowd = Crowd(server)
    most = wait_for(server, lambda now: now["unread"] > CROWD / 4)
    assert most["queued"] + most["unread"] <= CROWD
    crowd.join()
    now = wait_for(server, lambda now: now["completed"] == CROWD + 4)
    assert now["unread"] == now["queued"] == 0
    assert answer(server, 7) == (200, 7)


@pytest.mark.parametrize("key", ["priority", "\\u0070riority"], ids=["plain", "escaped"])
def test_who_says_its_class_or_time_does_not_wait_behind_them(server, key):
    crowd = Crowd(server)
    wait_for(server, lambda now: now["unread"] > CROWD / 4)
    assert answer(server, 7, {"priority": 1}, lambda text: text.replace("priority", key)) == (200, 7)
    left = scheduler(server)
    assert left["unread"] > CROWD / 8, left
    status, found = answer(server, 8, {"timeout": 1})  # a microsecond: known only to who has read it
    assert status in (503, 504), found
    assert scheduler(server)["unread"] > 0
    crowd.join()


def message(x):
    """The bytes of a request."""
    header, body = request(x)
    head = "".join(f"{k}: {v}\r\n" for k, v in header.items())
    return f"POST /v2/models/wide/infer HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def connect(server, data):
    """A client that has sent of it what the connection takes."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
    client.setblocking(False)
    try:
        client.send(data)
    except BlockingIOError:
        pass
    return client


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_those_that_hang_up_are_forgotten(server, how):
    clients = [connect(server, message(i)) for i in range(CROWD)]
    wait_for(server, lambda now: now["unread"] > CROWD / 4)
    for client in clients:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    now = wait_for(server, lambda now: now["unread"] + now["queued"] + now["running"] == 0)
    assert now["completed"] < CROWD
    assert answer(server, 7) == (200, 7)


def test_slow_clients_keep_nobody_unread(server):
    stalled = [connect(server, message(1)[:2000]) for _ in range(CROWD)]  # never the rest
    began = time.monotonic()
    assert answer(server, 7) == (200, 7)
    assert time.monotonic() - began < 5  # a second; without that look, ten
    for client in stalled:
        client.close()


def test_those_that_are_unread_are_answered_before_the_server_ends(server):
    crowd = Crowd(server)
    now = wait_for(server, lambda now: now["admitted"] + now["unread"] == CROWD + 4)  # all are there
    assert now["unread"] > 0
    server.process.send_signal(signal.SIGTERM)
    crowd.join()
    code, log = server.wait_stopped()
    assert code == 0, log


def test_all_are_read_where_nothing_is_predicted_or_all_have_a_deadline(model):
    for options in ["--batch-policy", "fixed"], ["--latency-target", "60000"]:
        server = Server(model, "--runners", "1", "--max-batch", "1", *options)
        learn(server)
        crowd = Crowd(server)
        wait_for(server, lambda now: now["queued"] > CROWD / 2)
        assert scheduler(server)["unread"] == 0
        crowd.join()
        code, log = server.stop()
        assert code == 0, log
