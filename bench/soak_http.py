#!/usr/bin/env python3
"""Soak test of the HTTP server: many requests at once, no error, no growth of memory.

    tools/python bench/soak_http.py [--requests 10000] [--concurrency 64] [--url 127.0.0.1:8000 --model NAME]

Without --url it starts build/release/bin/polestar with a small model of its own and also checks that VmRSS after the last request
is at most 2 MB above VmRSS after the first tenth. Requests mix the JSON and the binary form and sizes from 1 to 64 rows; one in 20
is wrong on purpose and must get 400. Exit code 1 when anything is off.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TOP = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
ALLOWED_GROWTH_KB = 2048
COLUMNS = 16


def save_model(path):
    """y = x + 1, FP32 [n, 16]"""
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "soak",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", COLUMNS])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", COLUMNS])],
                              [numpy_helper.from_array(np.float32(1), "one")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def start_server(folder):
    """(process, address)"""
    save_model(folder / "soak.onnx")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([BINARY, "serve", folder / "soak.onnx", "--http-port", "0", "--grpc-port", "-1"],
                                   stdout=subprocess.PIPE, stderr=log, text=True)
    return process, process.stdout.readline().strip().rpartition("//")[2]


def wait_ready(url):
    for _ in range(500):
        connection = http.client.HTTPConnection(url, timeout=5)
        connection.request("GET", "/v2/health/ready")
        if connection.getresponse().status == 200:
            return
        time.sleep(0.02)
    raise TimeoutError("the server does not become ready")


def resident_kb(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def make_requests(rng):
    """[(body, headers, expected status, expected output or None)]"""
    made = []
    for rows in (1, 2, 8, 64):
        x = rng.standard_normal((rows, COLUMNS)).astype(np.float32)
        tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
        plain = json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode()
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}],
                           "parameters": {"binary_data_output": True}}).encode()
        made += [(plain, {}, 200, x + 1), (head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}, 200, x + 1)] * 5
    made += [(b'{"inputs":[{"name":"x"', {}, 400, None), (made[1][0][:-1], made[1][1], 400, None)]
    return made


def output_of(reply, body):
    size = reply.getheader("Inference-Header-Content-Length")
    if size:
        return np.frombuffer(body[int(size):], np.float32)
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32)


class Soak:
    def __init__(self, url, model, total, on_count):
        self.url, self.path, self.total, self.on_count = url, f"/v2/models/{model}/infer", total, on_count
        self.lock = threading.Lock()
        self.sent, self.errors = 0, []

    def next(self):
        with self.lock:
            if self.sent >= self.total:
                return None
            self.sent += 1
            self.on_count(self.sent)
            return self.sent

    def work(self, seed):
        cases = make_requests(np.random.default_rng(seed))
        connection = http.client.HTTPConnection(self.url, timeout=60)
        while (number := self.next()) is not None and len(self.errors) < 10:
            body, headers, status, want = cases[(number + seed) % len(cases)]
            try:
                connection.request("POST", self.path, body, headers)
                reply = connection.getresponse()
                data = reply.read()
                if reply.status != status or (want is not None and not np.array_equal(output_of(reply, data), want.ravel())):
                    self.errors.append(f"request {number}: {reply.status} {data[:200]!r}")
            except OSError as error:
                self.errors.append(f"request {number}: {error!r}")
                connection.close()

    def run(self, concurrency):
        threads = [threading.Thread(target=self.work, args=(seed,)) for seed in range(concurrency)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--url", help="HOST:PORT of a running server; its memory is not checked")
    parser.add_argument("--model", default="soak", help="name of a model y = x + 1, FP32 [n, 16]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = (None, options.url) if options.url else start_server(Path(folder))
        wait_ready(url)
        memory = {}
        mark = options.requests // 10

        def on_count(n):
            if process and n in (mark, options.requests):
                memory[n] = resident_kb(process)

        soak = Soak(url, options.model, options.requests, on_count)
        start = time.monotonic()
        soak.run(options.concurrency)
        seconds = time.monotonic() - start
        if process:
            memory[options.requests] = resident_kb(process)
            process.terminate()
            if process.wait(timeout=60) != 0:
                soak.errors.append(f"the server ended with code {process.returncode}")
    grown = memory[options.requests] - memory[mark] if memory else 0
    print(f"soak: {soak.sent} requests at concurrency {options.concurrency} in {seconds:.1f} s, {len(soak.errors)} errors, "
          f"VmRSS {memory.get(mark, 0)} kB after {mark}, {memory.get(options.requests, 0)} kB after {options.requests}")
    print("\n".join(soak.errors), end="")
    return 1 if soak.errors or grown > ALLOWED_GROWTH_KB else 0


if __name__ == "__main__":
    sys.exit(main())
