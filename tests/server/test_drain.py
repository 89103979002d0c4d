"""What SIGTERM does: requests in flight are answered, new connections are not accepted, the time is bounded."""

import json
import signal
import threading
import time

import numpy as np
import requests
from conftest import Server


def body(rows):
    head = json.dumps({"inputs": [{"name": "x", "shape": [rows, 1024], "datatype": "FP32",
                                   "parameters": {"binary_data_size": rows * 4096}}]})
    return head.encode() + np.ones((rows, 1024), np.float32).tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def start_slow_requests(server, count, rows):
    data, headers = body(rows)
    replies = [None] * count

    def ask(i):
        try:
            replies[i] = requests.post(server.base + "/v2/models/slow/infer", data=data, headers=headers, timeout=60)
        except requests.ConnectionError as error:
            replies[i] = error

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    return threads, replies




def test_requests_in_flight_are_answered(models):
    server = Server(models / "slow.onnx")
    threads, replies = start_slow_requests(server, 4, 256)
    session = requests.Session()
    assert session.get(server.base + "/v2/health/ready", timeout=10).json() == {"ready": True}
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    if server.process.poll() is None:
        try:
            ready = session.get(server.base + "/v2/health/ready", timeout=20)
            assert ready.status_code == 503 and ready.json()["ready"] is False and "error" in ready.json()
        except requests.ConnectionError:  # all four were answered before this request came
            server.wait_stopped()
    for t in threads:
        t.join()
    assert [getattr(r, "status_code", r) for r in replies] == [200] * 4
    assert server.wait_stopped()[0] == 0


def test_new_connections_are_refused(models):
    server = Server(models / "slow.onnx")
    threads, _ = start_slow_requests(server, 2, 512)
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    try:
        requests.get(server.base + "/v2/health/live", timeout=5)
        raise AssertionError("a new connection was accepted")
    except requests.ConnectionError:
        pass
    for t in threads:
        t.join()
    assert server.wait_stopped()[0] == 0


def test_drain_is_bounded(models):
    server = Server(models / "slow.onnx", "--drain-seconds", "1")
    threads, replies = start_slow_requests(server, 8, 2048)
    time.sleep(0.5)
    start = time.monotonic()
    assert server.stop()[0] == 0
    assert time.monotonic() - start < 10
    for t in threads:
        t.join()
    assert any(getattr(r, "status_code", 0) == 503 for r in replies), "what was cut short is told so"


def test_idle_server_stops_at_once(models):
    server = Server(models / "slow.onnx")
    keep = requests.Session()
    keep.get(server.base + "/v2/health/live", timeout=5)
    start = time.monotonic()
    assert server.stop()[0] == 0
    assert time.monotonic() - start < 2
