"""The log on standard error: every request has its line, and whoever does not read it holds up nobody."""

import http.client
import os
import re
import signal
import subprocess

import pytest
import requests
from conftest import BINARY, Server, add_model

BODY = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
LINE = re.compile(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(info|warn|error) event=\S+.*")


def start(model):
    """A server whose log is a pipe, and its address."""
    process = subprocess.Popen([BINARY, "serve", model, "--http-port", "0", "--grpc-port", "-1"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    return process, re.search(r"http://\S+", process.stdout.readline()).group()


@pytest.fixture
def model(tmp_path):
    return add_model(tmp_path / "plain.onnx", 1)


def test_every_request_has_its_line(model):
    server = Server(model)
    session = requests.Session()
    for i in range(500):
        body = BODY[:-1] + f',"id":"r {i}"}}'
        assert session.post(server.base + "/v2/models/plain/infer", data=body, timeout=20).status_code == 200
    code, log = server.stop()
    lines = log.splitlines()
    assert code == 0 and all(LINE.fullmatch(line) for line in lines)
    answered = [line for line in lines if "path=/v2/models/plain/infer" in line]
    assert [re.search(r'id="r (\d+)"', line).group(1) for line in answered] == [str(i) for i in range(500)]
    assert all(re.search(r" method=POST .* status=200 in=\d+ out=\d+ ms=\d+\.\d{3} model=plain ", line) for line in answered)
    assert "event=stopped" in lines[-1]


def test_a_log_that_nobody_reads(model):
    """A full pipe: lines are dropped and counted, requests are answered."""
    process, base = start(model)
    connection, path = http.client.HTTPConnection(base.rpartition("/")[2], timeout=20), "/v2/models/plain/" + "x" * 140

    def ask():
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 404

    count = 2600  # lines of 300 bytes, more than half a megabyte and the pipe hold
    for _ in range(count):
        ask()
    os.set_blocking(process.stderr.fileno(), False)
    seen = process.stderr.read() or ""
    os.set_blocking(process.stderr.fileno(), True)
    while "dropped_lines" not in seen:  # there is room again: the next line tells
        ask()
        count += 1
        seen += os.read(process.stderr.fileno(), 1 << 16).decode()
    process.send_signal(signal.SIGTERM)
    seen += process.communicate(timeout=60)[1]
    assert process.returncode == 0
    lines = seen.splitlines()
    dropped = sum(int(n) for n in re.findall(r" dropped_lines=(\d+)$", seen, re.M))
    assert dropped > 0 and all(LINE.fullmatch(line) for line in lines)
    assert len([line for line in lines if "status=404" in line]) + dropped == count


def test_a_reader_that_is_gone(model):
    process, base = start(model)
    process.stderr.close()
    for _ in range(100):
        assert requests.post(base + "/v2/models/plain/infer", data=BODY, timeout=20).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
