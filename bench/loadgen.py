#!/usr/bin/env python3
"""MLPerf LoadGen (package mlcommons-loadgen) in front of any server of the Open Inference Protocol v2. Its figures are
"LoadGen-measured, not an MLPerf result": a result has rules of its own (hardware, data set, accuracy, review).

    tools/python --bench bench/loadgen.py --url 127.0.0.1:8000 --model resnet50 --scenario SingleStream
    ... --scenario Server --qps 40 --target-ms 15           Poisson arrivals; valid if the 99th percentile is within
    ... --scenario Offline --concurrency 4 --batch 8        all samples at once, joined eight a request
    ... --grpc --url 127.0.0.1:8001                         the same over gRPC
    ... --smoke                                             seconds instead of minutes, to see that it works

Samples are random numbers by the model's metadata, or files: --input NAME=FILE.npy, whose first axis counts samples. LoadGen
counts latency from the scheduled time. This shim is Python: it carries some thousand queries a second at most (bench/open_loop
carries more). Exit code 1 if a request failed or LoadGen says INVALID.
"""

import argparse
import http.client
import json
import queue
import re
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NOTE = "LoadGen-measured, not an MLPerf result"
TYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "BOOL": "bool", "INT8": "int8", "INT16": "int16",
         "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64"}
SCENARIOS = ("SingleStream", "Offline", "Server")


# ---- samples --------------------------------------------------------------------------------------------------------
@dataclass
class Input:
    name: str
    datatype: str
    shape: list          # of one sample, as sent alone
    batched: bool        # dim 0 is open: samples can be joined along it
    samples: np.ndarray  # first axis: samples


def random_samples(rng, datatype, shape, count):
    dtype = np.dtype(TYPES[datatype])
    if dtype.kind == "f":
        return rng.standard_normal((count, *shape)).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 100, (count, *shape)).astype(dtype)


def make_input(about, options, rng):
    name, datatype = about["name"], about["datatype"]
    if datatype not in TYPES:
        sys.exit(f"loadgen: input '{name}' is {datatype}, for which there are no samples")
    batched = bool(about["shape"]) and about["shape"][0] < 0
    shape = [max(int(d), 1) if d < 0 else int(d) for d in about["shape"]]
    if name in options.shapes:
        shape = options.shapes[name]
    if name in options.inputs:
        samples = np.load(options.inputs[name])
        if samples.dtype != np.dtype(TYPES[datatype]):
            sys.exit(f"loadgen: {options.inputs[name]} holds {samples.dtype}, input '{name}' takes {datatype}")
        shape = [*([1] if batched else []), *samples.shape[1:]]
        samples = samples.reshape(len(samples), *shape)
    else:
        samples = random_samples(rng, datatype, shape, options.samples)
    return Input(name, datatype, shape, batched, samples)


def joined(one, indices):
    """What one request of these samples sends for an input."""
    return np.concatenate([one.samples[i] for i in indices]) if len(indices) > 1 else one.samples[indices[0]]


# ---- two ways to send -----------------------------------------------------------------------------------------------
class Http:
    """Raw tensors over HTTP/1.1; one connection for each thread."""

    def __init__(self, options):
        self.url, self.model = options.url, options.model
        self.path = f"/v2/models/{urllib.parse.quote(self.model, safe='')}"
        self.local = threading.local()

    def connection(self):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection(self.url, timeout=600)
        return self.local.connection

    def metadata(self):
        self.connection().request("GET", self.path)
        reply = self.connection().getresponse()
        body = reply.read()
        if reply.status != 200:
            sys.exit(f"loadgen: model '{self.model}': {reply.status} {body.decode(errors='replace')}")
        return json.loads(body)

    def encode(self, inputs, indices):
        tensors = [(one, joined(one, indices)) for one in inputs]
        head = json.dumps({"inputs": [{"name": one.name, "shape": list(x.shape), "datatype": one.datatype,
                                       "parameters": {"binary_data_size": x.nbytes}} for one, x in tensors],
                           "parameters": {"binary_data_output": True}}).encode()
        return len(head), b"".join([head, *(x.tobytes() for _, x in tensors)])

    def send(self, encoded):
        """None, or what went wrong."""
        size, body = encoded
        try:
            self.connection().request("POST", self.path + "/infer", body, {
                "Inference-Header-Content-Length": str(size), "Content-Type": "application/octet-stream"})
            reply = self.connection().getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection().close()
            return repr(error)
        return None if reply.status == 200 else f"HTTP {reply.status} {data[:200].decode(errors='replace')}"


class Grpc:
    """ModelInfer, with messages that are serialized before the run."""

    def __init__(self, options):
        import grpc
        from tritonclient.grpc import service_pb2
        self.pb, self.error, self.model = service_pb2, grpc.RpcError, options.model
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(options.url, options=unlimited)
        self.infer = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    def metadata(self):
        ask = self.channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata",
                                       request_serializer=self.pb.ModelMetadataRequest.SerializeToString,
                                       response_deserializer=self.pb.ModelMetadataResponse.FromString)
        try:
            about = ask(self.pb.ModelMetadataRequest(name=self.model), timeout=60)
        except self.error as error:
            sys.exit(f"loadgen: model '{self.model}': {error.details()}")
        return {"inputs": [{"name": i.name, "datatype": i.datatype, "shape": list(i.shape)} for i in about.inputs]}

    def encode(self, inputs, indices):
        message = self.pb.ModelInferRequest(model_name=self.model)
        for one in inputs:
            x = joined(one, indices)
            message.inputs.add(name=one.name, datatype=one.datatype, shape=list(x.shape))
            message.raw_input_contents.append(x.tobytes())
        return message.SerializeToString()

    def send(self, encoded):
        try:
            self.infer(encoded, timeout=600)
            return None
        except self.error as error:
            return f"{error.code().name}: {error.details()}"


# ---- the system under test ------------------------------------------------------------------------------------------
@dataclass
class Target:
    lg: object
    wire: object
    inputs: list
    batch: int
    encoded: list                                # of each sample alone
    waiting: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0
    errors: list = field(default_factory=list)   # the first few
    failed: int = 0

    def encode(self, indices):
        return self.encoded[indices[0]] if len(indices) == 1 else self.wire.encode(self.inputs, indices)

    def issue(self, samples):
        for i in range(0, len(samples), self.batch):
            self.waiting.put(samples[i:i + self.batch])

    def work(self):
        while (samples := self.waiting.get()) is not None:
            problem = self.wire.send(self.encode([s.index for s in samples]))
            with self.lock:
                self.sent += 1
                self.failed += problem is not None
                if problem and len(self.errors) < 5:
                    self.errors.append(problem)
            self.lg.QuerySamplesComplete([self.lg.QuerySampleResponse(s.id, 0, 0) for s in samples])


def warm_up(target, options, seconds=1.0):
    """Sends for a second; (median seconds of a request, samples a second). LoadGen decides by such figures how many queries
    it prepares: too few end the run early, and it is INVALID then."""
    end, times, problems = time.monotonic() + seconds, [], []

    def work(seed):
        i = seed
        while time.monotonic() < end:
            start = time.monotonic()
            indices = [(i + k) % options.samples for k in range(target.batch)]
            if problem := target.wire.send(target.encode(indices)):
                problems.append(problem)
                return
            times.append(time.monotonic() - start)
            i += target.batch

    start = time.monotonic()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(options.concurrency)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if problems:
        sys.exit(f"loadgen: a request failed before the run: {problems[0]}")
    return sorted(times)[len(times) // 2], len(times) * target.batch / (time.monotonic() - start)


def settings_of(lg, options):
    s = lg.TestSettings()
    s.scenario = getattr(lg.TestScenario, options.scenario)
    s.mode = lg.TestMode.PerformanceOnly
    s.min_duration_ms = int(options.seconds * 1000)
    s.min_query_count = options.queries
    s.performance_sample_count_override = options.samples
    s.single_stream_expected_latency_ns = max(1, int(options.expected_seconds * 0.5e9))
    s.server_target_qps = s.offline_expected_qps = options.qps
    s.server_target_latency_ns = int(options.target_ms * 1e6)
    s.server_target_latency_percentile = 0.99
    for seed in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        setattr(s, seed, options.seed)
    return s


def run(lg, target, options, folder):
    """LoadGen's summary as text."""
    threads = [threading.Thread(target=target.work, daemon=True) for _ in range(options.concurrency)]
    for t in threads:
        t.start()
    logs = lg.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.enable_trace = False
    sut = lg.ConstructSUT(target.issue, lambda: None)
    qsl = lg.ConstructQSL(options.samples, options.samples, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, qsl, settings_of(lg, options), logs)
    for _ in threads:
        target.waiting.put(None)
    for t in threads:
        t.join()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)
    return (Path(folder) / "mlperf_log_summary.txt").read_text()


# ---- results --------------------------------------------------------------------------------------------------------
def parse(summary):
    """{key: number or text} of the lines `key: value`, without the test's parameters."""
    found = {}
    for line in summary.partition("Test Parameters Used")[0].splitlines():
        match = re.match(r"[\s*]*([^:]+?)\s*:\s+(.+?)\s*$", line)
        if match:
            key, value = match.groups()
            found[key] = float(value) if re.fullmatch(r"-?[0-9.]+(e[-+]?[0-9]+)?", value) else value
    return found


def show(result):
    for key in ("scenario", "model", "url", "protocol", "requests", "failed"):
        print(f"{key:42} {result[key]}")
    for key, value in result["loadgen"].items():
        if key.endswith("(ns)") and isinstance(value, float):
            key, value = key[:-4] + "(ms)", f"{value / 1e6:.4f}"
        print(f"{key:42} {value:g}" if isinstance(value, float) else f"{key:42} {value}")
    for error in result["errors"]:
        print(f"error: {error}")
    print(f"({NOTE})")


def pairs(texts, what, value):
    found = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if not name or not equals:
            sys.exit(f"loadgen: {what} takes NAME=VALUE, not '{text}'")
        found[name] = value(rest)
    return found


def options_of():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="HOST:PORT")
    parser.add_argument("--model", required=True)
    parser.add_argument("--scenario", choices=SCENARIOS, default="SingleStream")
    parser.add_argument("--grpc", action="store_true")
    parser.add_argument("--seconds", type=float, default=60, help="at least [60; MLPerf's own are 600]")
    parser.add_argument("--queries", type=int, default=100, help="at least [100]")
    parser.add_argument("--smoke", action="store_true", help="--seconds 2 --queries 20, Server 1000")
    parser.add_argument("--qps", type=float, help="Server: arrivals a second [half of what a second at full load gave]; Offline: "
                        "expected samples a second [what it gave, and a fifth]")
    parser.add_argument("--target-ms", type=float, default=100, help="Server: bound of the 99th percentile")
    parser.add_argument("--concurrency", type=int, help="requests at once [1, SingleStream; 4, Offline; 32, Server]")
    parser.add_argument("--batch", type=int, default=1, help="Offline: samples joined into one request")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=1x4", help="of one sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.inputs = pairs(options.input, "--input", str)
    options.shapes = pairs(options.shape, "--shape", lambda text: [int(d) for d in text.split("x")])
    options.concurrency = options.concurrency or {"SingleStream": 1, "Offline": 4, "Server": 32}[options.scenario]
    options.url = options.url.removeprefix("http://").rstrip("/")
    if options.smoke:
        options.seconds, options.queries = 2, 1000 if options.scenario == "Server" else 20  # its 99 % need as many
    return options


def main():
    options = options_of()
    import mlperf_loadgen as lg
    wire = Grpc(options) if options.grpc else Http(options)
    rng = np.random.default_rng(options.seed)
    inputs = [make_input(about, options, rng) for about in wire.metadata()["inputs"]]
    options.samples = min(len(one.samples) for one in inputs)
    if options.batch > 1 and not all(one.batched for one in inputs):
        sys.exit("loadgen: --batch needs a model whose inputs all have an open first dim")
    target = Target(lg, wire, inputs, options.batch if options.scenario == "Offline" else 1,
                    [wire.encode(inputs, [i]) for i in range(options.samples)])
    if problem := wire.send(target.encoded[0]):
        sys.exit(f"loadgen: the first request failed: {problem}")
    options.expected_seconds, rate = warm_up(target, options)
    if options.qps is None:
        options.qps = rate * 1.2 if options.scenario == "Offline" else rate / 2
    with tempfile.TemporaryDirectory() as folder:
        found = parse(run(lg, target, options, folder))
    result = {"note": NOTE, "scenario": options.scenario, "model": options.model, "url": options.url,
              "protocol": "gRPC" if options.grpc else "HTTP", "requests": target.sent, "failed": target.failed,
              "errors": target.errors, "loadgen": found}
    print(json.dumps(result, indent=1)) if options.json else show(result)
    return 1 if target.failed or found.get("Result is") != "VALID" else 0


if __name__ == "__main__":
    sys.exit(main())
