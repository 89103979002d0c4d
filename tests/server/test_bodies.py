"""Memory of large bodies: what a crowd needed at once is kept for the next one, within limits, and fades when nobody needs it."""

import socket
import time

from conftest import READY_SECONDS, add_model, metrics
from test_memory_limit import big_model, used
from test_repository import load

COUNT, SIZE = 40, 900_000
MB = 1 << 20


def memory(server):
    return metrics(server)["polestar_memory_bytes", frozenset()]


def crowd(server):
    """COUNT bodies at once, all there but for their last bytes; then these."""
    body = b" " * (SIZE - 1)
    head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    everyone = [socket.create_connection(("127.0.0.1", server.port), timeout=READY_SECONDS) for _ in range(COUNT)]
    for one in everyone:
        one.sendall(head + body)
    deadline = time.monotonic() + READY_SECONDS
    while (most := memory(server)) < COUNT * SIZE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert most > COUNT * SIZE
    for one in everyone:
        one.sendall(b"!")  # no JSON
        assert one.recv(100).startswith(b"HTTP/1.1 400 ")
        one.close()


def memory_at_rest(server):
    """When all those requests have ended: a reply is sent before its request gives back what it took."""
    last, now = None, memory(server)
    while now != last:
        time.sleep(0.05)
        last, now = now, memory(server)
    return now


def test_a_crowds_memory_is_kept_and_fades_while_nobody_is_there(tmp_path, start):
    add_model(tmp_path / "m.onnx", 1)
    server = start(tmp_path / "m.onnx")
    before = memory(server)
    crowd(server)
    kept = memory_at_rest(server)
    assert kept - before > 0.7 * COUNT * SIZE
    time.sleep(5)  # nobody is connected
    assert kept - memory(server) > 2 * SIZE  # one or two bodies' a second


def test_little_is_kept_where_memory_is_limited(tmp_path, start):
    add_model(tmp_path / "m.onnx", 1)
    server = start(tmp_path / "m.onnx", "--memory-limit", "64M")
    before = memory(server)
    crowd(server)
    deadline = time.monotonic() + 5  # by fading it would take 20 s
    while memory(server) - before >= 16 * MB and time.monotonic() < deadline:
        time.sleep(0.05)
    assert 4 * MB - SIZE < memory(server) - before < 16 * MB  # a quarter of what is left


def test_less_is_kept_when_a_model_was_loaded(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    big_model(tmp_path / "big/1/model.onnx", 1, 64)
    server = start("--model-repository", tmp_path, "--model-control", "explicit", "--memory-limit", "96M")
    load(server, "m")
    before = memory(server)
    crowd(server)
    assert memory_at_rest(server) - before > 12 * MB
    load(server, "big")
    deadline = time.monotonic() + 3  # by fading, a body's a second, it would take 8 s
    while memory(server) - before - used(server)["big"] >= 8 * MB and time.monotonic() < deadline:
        time.sleep(0.1)
    assert used(server)["big"] > 60 * MB
    assert 4 * MB - SIZE < memory(server) - before - used(server)["big"] < 8 * MB
