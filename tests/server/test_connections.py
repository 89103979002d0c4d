"""Too many connections: idle and slow ones make room for others, busy ones stay, and the limit of open files is met."""

import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

import numpy as np
import pytest
import requests
from conftest import BINARY, Server, add_model, slow_model

LIMIT = 40
BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("connections")
    add_model(made / "plain.onnx", 1)
    slow_model(made / "slow.onnx")
    return made


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def narrow(folder, request):
    running = Server(folder / "plain.onnx", folder / "slow.onnx", "--max-connections", LIMIT, "--runners", 1,
                     "--http-threads", request.param)
    yield running
    code, log = running.stop()
    assert code == 0, log


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def infer(server, timeout=20):
    reply = requests.post(f"{server.base}/v2/models/plain/infer", data=BODY, timeout=timeout)
    assert reply.status_code == 200, reply.text


def is_closed(s):
    s.settimeout(0)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_idle_connections_make_room_oldest_first(narrow):
    idle = []
    for _ in range(LIMIT):
        s = connect(narrow)
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in s.recv(1000)
        idle.append(s)
    time.sleep(1.2)
    fresh = [connect(narrow) for _ in range(3)]
    infer(narrow)
    time.sleep(0.5)
    closed = [is_closed(s) for s in idle]
    assert 3 <= sum(closed) <= 5, closed
    assert closed == sorted(closed, reverse=True), "those that were idle for longest go first"
    assert not any(is_closed(s) for s in fresh)
    for s in idle + fresh:
        s.close()


def test_a_flood_of_silent_connections_does_not_lock_out(narrow):
    silent = [connect(narrow) for _ in range(5 * LIMIT)]  # most of them wait to be accepted
    start = time.monotonic()
    infer(narrow, timeout=30)
    assert time.monotonic() - start < 20
    for s in silent:
        s.close()


def test_slow_bodies_do_not_lock_out(narrow):
    slow = [connect(narrow) for _ in range(2 * LIMIT)]
    for s in slow:
        s.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
    infer(narrow, timeout=30)
    for s in slow:
        s.close()


def test_a_busy_connection_stays(narrow):
    x = np.ones((400, 1024), np.float32)
    head = b'{"inputs":[{"name":"x","shape":[400,1024],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}' % x.nbytes
    replies = []

    def ask():
        replies.append(requests.post(f"{narrow.base}/v2/models/slow/infer?", data=head + x.tobytes(), timeout=120,
                                     headers={"Inference-Header-Content-Length": str(len(head))}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]  # one after the other: the last ones wait for seconds
    for t in threads:
        t.start()
    time.sleep(0.5)
    silent = [connect(narrow) for _ in range(2 * LIMIT)]
    infer(narrow, timeout=100)
    for t in threads:
        t.join()
    assert replies == [200] * 6
    for s in silent:
        s.close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [126, 127, 128, 255, 256])
def test_as_many_at_once_as_the_daemon_takes_in_portions(folder, threads, count):
    """libmicrohttpd takes 128 events at a time and once waited for more of them before it handled those it had; events that
    are no connections' count too."""
    running = Server(folder / "plain.onnx", "--http-threads", threads)
    held = [connect(running) for _ in range(count)]
    for s in held:
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in s.recv(1000)
    running.process.send_signal(signal.SIGSTOP)
    for s in held:
        s.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    running.process.send_signal(signal.SIGCONT)
    for s in held:
        assert b"200 OK" in s.recv(1000)
        s.close()
    assert running.stop()[0] == 0


def start_with_files(folder, soft, hard, connections):
    """(process, port, log): `polestar serve` that may have so many files open."""
    log = tempfile.TemporaryFile("w+")
    command = [BINARY, "serve", folder / "plain.onnx", "--http-port", "0", "--grpc-port", "-1"]
    command += ["--max-connections", str(connections)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
    return process, int(process.stdout.readline().rpartition(":")[2]), log


def limit_of(process):
    return resource.prlimit(process.pid, resource.RLIMIT_NOFILE)


def test_the_limit_of_open_files_is_raised_as_far_as_needed(folder):
    process, port, _ = start_with_files(folder, 128, 4000, 600)
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(600)]
    reply = requests.post(f"http://127.0.0.1:{port}/v2/models/plain/infer", data=BODY, timeout=20)
    assert reply.status_code == 200 and 600 < limit_of(process)[0] < 4000
    for s in held:
        s.close()
    process.terminate()
    assert process.wait(timeout=30) == 0


def test_fewer_connections_where_the_hard_limit_is_low(folder):
    process, port, log = start_with_files(folder, 700, 700, 5000)
    assert limit_of(process) == (700, 700)
    held = []
    for _ in range(900):  # more than there can be: those beyond wait or replace idle ones
        held.append(socket.create_connection(("127.0.0.1", port), timeout=10))
    reply = requests.post(f"http://127.0.0.1:{port}/v2/models/plain/infer", data=BODY, timeout=30)
    assert reply.status_code == 200
    for s in held:
        s.close()
    process.terminate()
    assert process.wait(timeout=30) == 0
    log.seek(0)
    assert "event=open_files limit=700 connections=416 wanted=5000" in log.read()
