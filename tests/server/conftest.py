"""A running server for the tests: `polestar serve` with small models made here."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
READY_SECONDS = 30

IDENTITY_TYPES = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "FP16": TensorProto.FLOAT16,
                  "BF16": TensorProto.BFLOAT16, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16,
                  "INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8,
                  "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64,
                  "BOOL": TensorProto.BOOL}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """`polestar serve` on a port of its own."""

    def __init__(self, *arguments, cache=None):
        self.port = free_port()
        self.url = f"127.0.0.1:{self.port}"
        self.base = f"http://{self.url}"
        self.log = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up and stop the server
        # what servers of other tests learnt of a model's times would change what this one refuses
        self.cache = cache or tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([BINARY, "serve", "--grpc-port", "0", *map(str, arguments),
                                         "--http-port", str(self.port)], stderr=self.log, stdout=subprocess.DEVNULL,
                                        env=os.environ | {"XDG_CACHE_HOME": self.cache.name, "XDG_STATE_HOME": self.cache.name})
        try:
            self.wait_ready()
        except Exception:
            self.process.kill()
            raise

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.read_log()
            try:
                if requests.get(self.base + "/v2/health/ready", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.02)
        raise TimeoutError("the server does not become ready")

    @property
    def grpc(self):
        """ADDRESS:PORT"""
        return "127.0.0.1:" + self.wait_log(r"event=listen protocol=grpc .*port=(\d+)")[0]

    def wait_log(self, pattern, count=1):
        """The first `count` matches or more, as re.findall gives them: lines may come after the reply."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            found = re.findall(pattern, self.read_log())
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"'{pattern}' is not in the log {count} times"
            time.sleep(0.02)

    def memory_kb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def stop(self):
        """SIGTERM; returns the exit code and the log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_stopped()

    def wait_stopped(self):
        return self.process.wait(timeout=60), self.read_log()

    def read_log(self):
        with open(f"/proc/self/fd/{self.log.fileno()}", encoding="utf-8") as log:  # of its own: the server's position stays
            return log.read()


def metrics(server):
    """{(name, frozenset of labels): value}; the text is read by hand, strictly."""
    reply = requests.get(server.base + "/metrics", timeout=READY_SECONDS)
    assert reply.status_code == 200 and reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found, types = {}, {}
    for line in reply.text.splitlines():
        if line.startswith("#"):
            kind, name, rest = re.fullmatch(r"# (HELP|TYPE) (\w+) (.+)", line).groups()
            assert kind == "HELP" or types.setdefault(name, rest) == rest
            continue
        name, labels, number = re.fullmatch(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)', line).groups()
        base = re.sub("_(sum|count|bucket)$", "", name)
        assert name in types or types.get(base) == "histogram" or (types.get(base) == "summary" and "_bucket" not in name), line
        key = name, frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
        assert key not in found, line
        found[key] = float(number)
    return found


def save(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def add_model(path, amount):
    """y = x + amount, FP32 [n, 4]"""
    return save(path, [helper.make_node("Add", ["x", "c"], ["y"])], [value("x", TensorProto.FLOAT, ["n", 4])],
                [value("y", TensorProto.FLOAT, ["n", 4])],
                [numpy_helper.from_array(np.array(amount, np.float32), "c")])


def identity_model(path, types=IDENTITY_TYPES):
    """One input and output [n] of each type: of numbers, of every one."""
    nodes = [helper.make_node("Identity", [f"in_{t}"], [f"out_{t}"]) for t in types]
    return save(path, nodes, [value(f"in_{t}", IDENTITY_TYPES[t], ["n"]) for t in types],
                [value(f"out_{t}", IDENTITY_TYPES[t], ["n"]) for t in types])


def text_model(path):
    """BYTES [n] in and out."""
    return save(path, [helper.make_node("Identity", ["s"], ["t"])], [value("s", TensorProto.STRING, ["n"])],
                [value("t", TensorProto.STRING, ["n"])])


def sequence_model(path):
    """A sequence of x, FP32 [n], which the protocol has no form for."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return save(path, [helper.make_node("SequenceConstruct", ["x", "x"], ["list"])], [value("x", TensorProto.FLOAT, ["n"])],
                [helper.make_value_info("list", kind)])


def words_model(path):
    """BYTES [n] are split into words [n, m] and counted."""
    graph = helper.make_graph([helper.make_node("StringSplit", ["s"], ["words", "counts"])], "words",
                              [value("s", TensorProto.STRING, ["n"])],
                              [value("words", TensorProto.STRING, ["n", "m"]), value("counts", TensorProto.INT64, ["n"])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def pair_model(path):
    """sum = a + b, difference = a - b, INT32 [n, m]"""
    return save(path, [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
                [value(n, TensorProto.INT32, ["n", "m"]) for n in ("a", "b")],
                [value(n, TensorProto.INT32, ["n", "m"]) for n in ("sum", "difference")])


def slow_model(path, layers=60, width=1024):
    """A chain of matrix products that takes about a second."""
    weight = np.eye(width, dtype=np.float32)
    nodes = [helper.make_node("MatMul", [f"t{i}" if i else "x", "w"], [f"t{i + 1}" if i + 1 < layers else "y"])
             for i in range(layers)]
    return save(path, nodes, [value("x", TensorProto.FLOAT, ["n", width])], [value("y", TensorProto.FLOAT, ["n", width])],
                [numpy_helper.from_array(weight, "w")])


@pytest.fixture
def start():
    """start(ARGUMENTS…): a server of the test's own; each ends well."""
    started = []

    def make(*arguments, kind=Server, **more):
        started.append(kind(*arguments, **more))
        return started[-1]
    yield make
    for server in started:
        code, log = server.stop()
        assert code == 0, log


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of single files and a repository."""
    folder = tmp_path_factory.mktemp("models")
    add_model(folder / "add one.onnx", 1)
    identity_model(folder / "types.onnx")
    pair_model(folder / "pair.onnx")
    text_model(folder / "text.onnx")
    words_model(folder / "words.onnx")
    sequence_model(folder / "sequence.onnx")
    slow_model(folder / "slow.onnx")
    (folder / "broken.onnx").write_bytes(b"this is no model")
    add_model(folder / "repository/versioned/2/model.onnx", 2)
    add_model(folder / "repository/versioned/10/model.onnx", 10)
    add_model(folder / "repository/plain/model.onnx", 3)
    add_model(folder / "repository/file.onnx", 4)
    (folder / "repository/empty").mkdir()
    return folder


@pytest.fixture(scope="session")
def server(models):
    running = Server(models / "add one.onnx", f"types={models / 'types.onnx'}", models / "pair.onnx",
                     models / "text.onnx", models / "words.onnx", models / "broken.onnx", models / "sequence.onnx",
                     "--model-repository", models / "repository")
    yield running
    code, log = running.stop()
    assert code == 0, log
