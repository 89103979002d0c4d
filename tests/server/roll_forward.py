"""Versions change under load and no request notices: reloads, label flips, a good version rolled out from 1 to 100 per
cent, one that fails every run and one whose answers are wrong taken back by themselves, and SIGTERM at the end. Every
request is answered, with the answer of the version that the reply names, and never by a version that is bad.

    tools/python tests/server/roll_forward.py [REQUESTS]        100000

Prints what happened; exit code 0 if nothing was lost and nothing wrong.
"""

import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import requests
import tritonclient.grpc as grpc_client
from conftest import Server, add_model, save, value
from onnx import TensorProto, helper, numpy_helper

HTTP_CLIENTS, GRPC_CLIENTS = 6, 2
WAIT = 120
GOOD = (1, 2)       # versions: v adds v
FAILS, LIES = 3, 4  # fails at every run; adds 40
SHADOWED = {"version": LIES, "percent": 100}


def failing_model(path):
    """Loads, says that it takes what the others take, and fails at every run."""
    return save(path, [helper.make_node("Reshape", ["x", "shape"], ["y"])], [value("x", TensorProto.FLOAT, ["n", 4])],
                [value("y", TensorProto.FLOAT, ["n", 4])], [numpy_helper.from_array(np.array([3, 5], np.int64), "shape")])


def make_models(folder):
    for version in GOOD:
        add_model(folder / f"m/{version}/model.onnx", version)
    failing_model(folder / f"m/{FAILS}/model.onnx")
    add_model(folder / f"m/{LIES}/model.onnx", 40)
    (folder / "m/config.pbtxt").write_text('version_policy { all { } }\n')


class Load:
    """Clients that send one request after the other until they are told to stop, or the server says that it stops."""

    def __init__(self, server):
        self.server = server
        self.stopping = False  # SIGTERM is on its way: from then on a connection may be refused, but no request lost
        self.done = False
        self.lock = threading.Lock()
        self.answers, self.wrong, self.lost = Counter(), [], []
        self.threads = [threading.Thread(target=self.work, args=(self.http if i < HTTP_CLIENTS else self.grpc, i))
                        for i in range(HTTP_CLIENTS + GRPC_CLIENTS)]
        for thread in self.threads:
            thread.start()

    def work(self, client, number):
        try:
            client(number)
        except Exception as error:  # a client that ends early must not look like one that had no trouble
            self.lost.append(f"client {number}: {type(error).__name__} {error}")

    def count(self, x, got, version):
        with self.lock:
            self.answers[version] += 1
            if version not in GOOD or got != [x + version] * 4:
                self.wrong.append((x, got, version))

    def http(self, number):
        connection, x = None, float(number)
        while not self.done:
            x = (x + 1) % 100
            if connection is None:
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=WAIT)
                    connection.connect()
                except ConnectionRefusedError:
                    if self.stopping:
                        return  # nothing was sent
                    raise
            body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [x] * 4}]})
            connection.request("POST", "/v2/models/m/infer", body)
            response = connection.getresponse()
            reply = json.loads(response.read())
            if response.status != 200:
                self.lost.append(f"{response.status} {reply}")
            else:
                self.count(x, reply["outputs"][0]["data"], int(reply["model_version"]))
            if response.getheader("Connection") == "close":
                connection.close()
                connection = None

    def grpc(self, number):
        with grpc_client.InferenceServerClient(self.server.grpc) as client:
            tensor = grpc_client.InferInput("x", [1, 4], "FP32")
            x = float(number)
            while not self.done:
                x = (x + 1) % 100
                tensor.set_data_from_numpy(np.full((1, 4), x, np.float32))
                try:
                    reply = client.infer("m", [tensor])
                except Exception as error:
                    if self.stopping and "UNAVAILABLE" in str(error):
                        return  # refused: gRPC says so for new calls of a server that stops
                    raise
                self.count(x, reply.as_numpy("y")[0].tolist(), int(reply.get_response().model_version))

    @property
    def total(self):
        return sum(self.answers.values())


class Scenario:
    def __init__(self, server, load, say):
        self.server, self.load, self.say = server, load, say
        self.http = requests.Session()

    def traffic(self, change=None):
        url = self.server.base + "/v2/models/m/traffic"
        reply = self.http.get(url, timeout=WAIT) if change is None else self.http.post(url, json=change, timeout=WAIT)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def until(self, what, true):
        deadline = time.monotonic() + WAIT
        while not true():
            assert time.monotonic() < deadline, f"{what}: {self.traffic()}"
            assert any(t.is_alive() for t in self.load.threads), self.load.lost
            time.sleep(0.01)

    def some(self, n):
        before = self.load.total
        self.until(f"{n} more requests", lambda: self.load.total >= before + n)

    def reload(self, times, gap):
        for _ in range(times):
            reply = self.http.post(self.server.base + "/v2/repository/models/m/load", timeout=WAIT)
            assert reply.status_code == 200, reply.text
            self.some(gap)
        self.say(f"{times} reloads")

    def flip(self, times, gap):
        for i in range(times):
            self.traffic({"labels": {"stable": GOOD[(i + 1) % 2]}})
            self.some(gap)
        self.traffic({"labels": {"stable": 1}})
        self.say(f"{times} flips of the label 'stable'")

    def roll(self, version, ends, steps, gap, **more):
        limits = {"min_requests": gap, "latency_ratio": None}  # the machine is as loaded as can be
        self.traffic({"rollout": {"version": version, "steps": steps, "step_seconds": 0.2, "analysis": limits}, **more})
        self.until(f"rollout of version {version}", lambda: self.traffic()["rollout"]["phase"] in ("succeeded", "aborted"))
        after = self.traffic()
        assert after["rollout"]["phase"] == ends, after
        reason = f" ({after['rollout']['reason']})" if ends == "aborted" else ""
        self.say(f"rollout of version {version} at {steps} per cent: {ends}{reason}")
        assert after["labels"]["stable"] == (version if ends == "succeeded" else after["rollout"]["from"])
        self.some(gap)


def run(folder, n, say=lambda text: None):
    """All of it with at least n requests; returns how many there were by version. Raises if any was lost or wrong."""
    make_models(folder)
    server = Server("--model-repository", folder)
    requests.post(server.base + "/v2/models/m/traffic", json={"labels": {"stable": 1}}, timeout=WAIT).raise_for_status()
    load = Load(server)
    try:
        s = Scenario(server, load, say)
        gap = max(20, n // 200)
        s.reload(10, gap)
        s.flip(20, gap)
        s.roll(2, "succeeded", [1, 10, 50, 100], gap)
        s.roll(FAILS, "aborted", [1, 10, 50, 100], gap)
        s.roll(LIES, "aborted", [0, 1, 10, 50, 100], gap, shadow=SHADOWED)
        s.traffic({"shadow": None, "split": [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}]})
        s.some(max(gap, n - load.total))
        load.stopping = True
        code, log = server.stop()
        assert code == 0, log
        say("SIGTERM under load: exit code 0")
    finally:
        load.done = True
        server.stop()
        for thread in load.threads:
            thread.join(WAIT)
    assert not load.lost, f"{len(load.lost)} lost: {load.lost[:5]}"
    assert not load.wrong, f"{len(load.wrong)} wrong: {load.wrong[:5]}"
    return load.answers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        counts = run(Path(where), int(sys.argv[1]) if len(sys.argv) > 1 else 100000, print)
    print(f"{sum(counts.values())} requests, by version {dict(sorted(counts.items()))}: 0 lost, 0 wrong")
