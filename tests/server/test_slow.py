"""Clients that are too slow, with a patience of one second: whoever keeps a connection moving, but does not finish, is closed."""

import json
import socket
import time

import numpy as np
import pytest
import requests
from conftest import Server, add_model

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hasty")
    add_model(folder / "plain.onnx", 1)
    running = Server(folder / "plain.onnx", "--client-seconds", "1")
    yield running
    code, log = running.stop()
    assert code == 0, log


def connect(server, buffer=None):
    s = socket.socket()
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.connect(("127.0.0.1", server.port))
    s.settimeout(30)
    return s


def seconds_until_closed(s, step, pause=0.2, limit=30):
    """Calls step again and again until the server has closed the connection."""
    start = time.monotonic()
    while time.monotonic() - start < limit:
        try:
            if step() == b"":
                break
            time.sleep(pause)
        except OSError:
            break
    s.close()
    return time.monotonic() - start


def test_headers_byte_by_byte(hasty):
    s = connect(hasty)
    s.sendall(b"GET /v2 HTTP/1.1\r\nX-Long: ")
    assert 2 < seconds_until_closed(s, lambda: s.sendall(b"x")) < 20


def test_body_byte_by_byte(hasty):
    s = connect(hasty)
    s.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    assert 0.9 < seconds_until_closed(s, lambda: s.sendall(b" ")) < 20


def test_a_reply_read_slowly_but_steadily(hasty):
    x = np.zeros((400_000, 4), np.float32)  # 6.4 MB back: more than the sockets hold
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(head) + x.nbytes}\r\n"
    lines += f"Inference-Header-Content-Length: {len(head)}\r\n\r\n"
    with connect(hasty, 4096) as s:
        s.sendall(lines.encode() + head + x.tobytes())
        data = b""
        while len(data) < 100:
            data += s.recv(100)
        assert b"200 OK" in data
        # a client that reads at its leisure has 1 s and the 781 s that 6.4 MB take at 8 KiB/s: it is not closed
        time.sleep(1)
        while len(data) < x.nbytes:
            piece = s.recv(1 << 20)
            assert piece
            data += piece


def test_silence(hasty):
    s = connect(hasty)
    assert 1 < seconds_until_closed(s, lambda: s.recv(1)) < 20


def test_others_are_served_meanwhile(hasty):
    slow = [connect(hasty) for _ in range(50)]
    for s in slow:
        s.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n ")
    with requests.Session() as session:
        for _ in range(3):
            assert session.post(hasty.base + "/v2/models/plain/infer", data=BODY, timeout=10).status_code == 200
            time.sleep(0.5)
    for s in slow:
        s.close()


def test_a_kept_connection_is_watched_anew_for_each_request(hasty):
    with connect(hasty) as s:
        for _ in range(5):
            s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while b'{"live":true}' not in data:
                data += s.recv(1000)
            time.sleep(0.9)
