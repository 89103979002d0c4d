#!/usr/bin/env python3
"""The front end beside Triton's: what a request costs when the model costs nothing (FP32 [n, 4] + 1).

    tools/python bench/front_end.py --triton DIR [--protocols json,binary,grpc] [--concurrency 1,8,32,64] [--pairs 7]

Without --triton only polestar is measured. docs/performance.md says how to make DIR. Both servers run at once; windows of load
alternate between them. A window in which processes other than the loaded server and its client used more than --noise cores is
thrown away and repeated; a figure that saw too few quiet windows is marked with "~". Requests come from wrk (HTTP) or h2load
(gRPC: --concurrency 4x8 is 4 connections with 8 calls at once on each); every reply of the window must be a success and show up
in the server's statistics.

    cpu us   utime + stime of the whole server process, divided by the requests it answered
    client   the same of the client: on a machine of few cores both together say how many requests/s there can be
    start    from exec to the first 200 of /v2/health/ready;  RSS: before the first request
"""

import argparse
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import windows

TOP = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
MODEL, VALUES = "tiny", [1.0, 2.0, 3.0, 4.0]
CONFIG = '''name: "tiny" backend: "native" max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
'''


# ---- the request in its three forms ---------------------------------------------------------------------------------
def field(number, data):
    """A length-delimited field of a protobuf message shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


def grpc_body():
    """A ModelInferRequest (protocol of Open Inference, raw contents) with gRPC's five bytes before it."""
    tensor = field(1, b"INPUT0") + field(2, b"FP32") + field(3, bytes([1, 4]))
    message = field(1, MODEL.encode()) + field(5, tensor) + field(7, struct.pack("<4f", *VALUES))
    return struct.pack(">BI", 0, len(message)) + message


def http_body(binary):
    tensor = {"name": "INPUT0", "shape": [1, 4], "datatype": "FP32"}
    if not binary:
        return json.dumps({"inputs": [{**tensor, "data": VALUES}]}).encode(), {"Content-Type": "application/json"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return head + struct.pack("<4f", *VALUES), {"Content-Type": "application/octet-stream",
                                                "Inference-Header-Content-Length": str(len(head))}


def lua(body, headers):
    lines = ['wrk.method = "POST"', 'wrk.body = "' + "".join(f"\\{byte:03d}" for byte in body) + '"']
    return "\n".join(lines + [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]) + "\n"


# ---- servers --------------------------------------------------------------------------------------------------------
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server; `seconds` is the time from exec to the first 200 of /v2/health/ready."""

    def __init__(self, label, command, folder, environment=None):
        self.label, self.http, self.grpc = label, free_port(), free_port()
        words = [str(word).format(http=self.http, grpc=self.grpc) for word in command]
        with (folder / f"{label}.log").open("w") as log:
            start = time.monotonic()
            self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log,
                                            env={**os.environ, **(environment or {})})
        self.seconds = self.wait_ready() - start

    def wait_ready(self):
        request = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(20000):
            try:
                with socket.create_connection(("127.0.0.1", self.http), timeout=5) as s:
                    s.sendall(request)
                    if s.recv(64).startswith(b"HTTP/1.1 200"):
                        return time.monotonic()
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit(f"front_end: {self.label} ended with code {self.process.returncode}")
            time.sleep(0.0005)
        sys.exit(f"front_end: {self.label} does not become ready")

    def cpu(self):
        """Seconds of all threads so far."""
        return windows.process_seconds(self.process.pid)

    def resident_mb(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply, reply.read()

    def answered(self):
        reply, body = self.ask("GET", f"/v2/models/{MODEL}/stats")
        assert reply.status == 200, body
        return json.loads(body)["model_stats"][0]["inference_stats"]["success"]["count"]

    def ask_grpc(self):
        """The bytes of the answer; curl speaks HTTP/2, so no gRPC library is needed."""
        return subprocess.run(["curl", "-s", "--http2-prior-knowledge", "--max-time", "10", "--data-binary", "@-", "-H",
                               "content-type: application/grpc", "-H", "te: trailers", self.grpc_url()],
                              input=grpc_body(), capture_output=True, check=True).stdout

    def grpc_url(self):
        return f"http://127.0.0.1:{self.grpc}/inference.GRPCInferenceService/ModelInfer"

    def check(self, protocols):
        """One right answer for each protocol before anything is measured."""
        want = struct.pack("<4f", *(v + 1 for v in VALUES))
        for protocol in protocols:
            if protocol == "grpc":
                got = self.ask_grpc()
            else:
                body, headers = http_body(protocol == "binary")
                reply, got = self.ask("POST", f"/v2/models/{MODEL}/infer", body, headers)
                assert reply.status == 200, got
                if protocol == "json":
                    got = struct.pack("<4f", *json.loads(got)["outputs"][0]["data"])
            assert want in got, f"{self.label}: wrong answer over {protocol}: {got}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start_polestar(folder, options):
    model = folder / f"{MODEL}.onnx"
    if not model.exists():
        import numpy
        import onnx
        from onnx import TensorProto, helper, numpy_helper
        graph = helper.make_graph([helper.make_node("Add", ["INPUT0", "one"], ["OUTPUT0"])], MODEL,
                                  [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["n", 4])],
                                  [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["n", 4])],
                                  [numpy_helper.from_array(numpy.float32(1), "one")])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    return Server("polestar", [BINARY, "serve", model, "--http-port", "{http}", "--grpc-port", "{grpc}",
                               *options.serve.split()], folder)


def start_triton(folder, options):
    root, repository = options.triton, folder / "repository"
    (repository / MODEL / "1").mkdir(parents=True, exist_ok=True)
    (repository / MODEL / "config.pbtxt").write_text(CONFIG)
    address = [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")]
    return Server("triton", [root / "pytriton/tritonserver/bin/tritonserver", f"--model-repository={repository}",
                             f"--backend-directory={root / 'backends'}", "--model-control-mode=explicit",
                             f"--load-model={MODEL}", *address, "--http-port={http}", "--grpc-port={grpc}",
                             f"--metrics-port={free_port()}"], folder, {"LD_LIBRARY_PATH": str(root / "nvidia_pytriton.libs")})


# ---- one window of load ---------------------------------------------------------------------------------------------
def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def run_wrk(server, script, connections, streams, seconds):
    """(requests, requests/s, p50, p99 in ms)"""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script,
                          f"http://127.0.0.1:{server.http}/v2/models/{MODEL}/infer"], capture_output=True, text=True, check=True)
    text = out.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"front_end: {server.label} gave errors:\n{text}")
    count, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50, p99 = (milliseconds(re.search(rf"^ +{p}% +(\S+)$", text, re.M).group(1)) for p in (50, 99))
    return int(count.group(1)), float(rate.group(1)), p50, p99


def run_h2load(server, body, connections, streams, seconds):
    log = body.with_suffix(".log")
    log.unlink(missing_ok=True)
    out = subprocess.run(["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}", "-d", body,
                          "-H", "content-type: application/grpc", "-H", "te: trailers", server.grpc_url()],
                         capture_output=True, text=True, check=True)
    done, failed = (int(re.search(rf"(\d+) {word}", out.stdout).group(1)) for word in ("succeeded", "failed"))
    rate = float(re.search(r"([\d.]+) req/s", out.stdout).group(1))
    if failed:
        sys.exit(f"front_end: {server.label} gave errors:\n{out.stdout}")
    times = sorted(int(line.split()[2]) / 1e3 for line in log.open())
    if not times:
        sys.exit(f"front_end: {server.label} answered nothing:\n{out.stdout}{out.stderr}")
    return done, rate, times[len(times) // 2], times[len(times) * 99 // 100]


def client_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def window(server, protocol, files, at_once, seconds):
    """What one window of load shows, and how many cores others used meanwhile."""
    before = windows.busy_seconds(), server.cpu(), client_cpu(), time.monotonic(), server.answered()
    load = run_h2load if protocol == "grpc" else run_wrk
    count, rate, p50, p99 = load(server, files[protocol], *at_once, seconds)
    server_used, client_used, elapsed = server.cpu() - before[1], client_cpu() - before[2], time.monotonic() - before[3]
    others = (windows.busy_seconds() - before[0] - server_used - client_used) / elapsed
    answered = server.answered() - before[4]
    if not count <= answered <= count + at_once[0] * at_once[1]:  # those that were in flight when the client stopped
        sys.exit(f"front_end: {server.label} counts {answered} requests, its client {count} over {protocol}")
    return {"cpu_us": server_used / answered * 1e6, "client_us": client_used / answered * 1e6, "rate": rate, "p50_ms": p50,
            "p99_ms": p99}, others


def measure(servers, protocol, files, at_once, options):
    """Windows of all servers in turn; {label: [figures]} and whether enough were quiet."""
    shown, tries = {server.label: [] for server in servers}, 0
    for server in servers:
        window(server, protocol, files, at_once, 1)
    while min(map(len, shown.values())) < options.pairs and tries < 4 * options.pairs:
        tries += 1
        pair = [window(server, protocol, files, at_once, options.seconds) for server in servers]
        if all(others <= options.noise for _, others in pair):
            for server, (figures, _) in zip(servers, pair):
                shown[server.label].append(figures)
        elif options.verbose:
            print("  thrown away: others used", ", ".join(f"{others:.2f}" for _, others in pair), "cores", file=sys.stderr)
    return shown, min(map(len, shown.values())) == options.pairs


# ---- the report -----------------------------------------------------------------------------------------------------
FIGURES = ("cpu_us", "client_us", "rate", "p50_ms", "p99_ms")


def summary(shown):
    """Medians of each server, and the median of the ratios within pairs, polestar / triton."""
    row = {label: {f: statistics.median(w[f] for w in windows) for f in FIGURES} for label, windows in shown.items() if windows}
    if len(row) == 2:
        pairs = list(zip(shown["polestar"], shown["triton"]))
        row["ratio"] = {f: statistics.median(a[f] / b[f] for a, b in pairs) for f in FIGURES}
    return row


def print_row(protocol, at_once, row, quiet):
    def cell(name):
        words = [row[label][name] for label in ("polestar", "triton") if label in row]
        text = " / ".join(f"{word:,.0f}" if name == "rate" else f"{word:.2f}" for word in words)
        return text + (f" ({row['ratio'][name]:.2f})" if "ratio" in row else "")
    print(f"| {protocol} | {at_once}{'' if quiet else ' ~'} | " + " | ".join(cell(f) for f in FIGURES) + " |", flush=True)


def starts(starters, folder, options):
    """{label: (median seconds to ready, median idle RSS in MB)}"""
    seen = {}
    for _ in range(options.pairs):
        for start in starters:
            server = start(folder, options)
            time.sleep(0.2)
            seen.setdefault(server.label, []).append((server.seconds, server.resident_mb()))
            server.stop()
    return {label: tuple(map(statistics.median, zip(*rows))) for label, rows in seen.items()}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--triton", type=Path, help="folder with pytriton/, nvidia_pytriton.libs/ and backends/native/")
    parser.add_argument("--protocols", default="json,binary", help="of json, binary, grpc")
    parser.add_argument("--concurrency", default="1,8,32,64", help="connections, or CONNECTIONSxSTREAMS")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="length of a window")
    parser.add_argument("--noise", type=float, default=0.1, help="cores that others may use")
    parser.add_argument("--serve", default="", help="further options of polestar serve, in one word")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    options.protocols = options.protocols.split(",")
    options.concurrency = [(text, tuple(map(int, (text if "x" in text else text + "x1").split("x"))))
                           for text in options.concurrency.split(",")]
    tools = {"wrk": {"json", "binary"}, "h2load": {"grpc"}}
    for tool, protocols in tools.items():
        if protocols & set(options.protocols) and not shutil.which(tool):
            parser.error(f"{tool} is missing (packages wrk, nghttp2-client)")
    return options


def main():
    options = parse_arguments()
    starters = [start_polestar] + ([start_triton] if options.triton else [])
    result = {"starts": {}, "rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"json": folder / "json.lua", "binary": folder / "binary.lua", "grpc": folder / "grpc.bin"}
        for protocol in ("json", "binary"):
            files[protocol].write_text(lua(*http_body(protocol == "binary")))
        files["grpc"].write_bytes(grpc_body())
        result["starts"] = starts(starters, folder, options)
        for label, (seconds, megabytes) in result["starts"].items():
            print(f"{label}: ready {seconds * 1e3:.0f} ms after exec, {megabytes:.1f} MB resident when idle")
        servers = [start(folder, options) for start in starters]
        try:
            for server in servers:
                server.check(options.protocols)
            print("\n| protocol | at once | cpu us | client | requests/s | p50 ms | p99 ms |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for protocol in options.protocols:
                for text, at_once in options.concurrency:
                    if at_once[1] > 1 and protocol != "grpc":
                        continue
                    shown, quiet = measure(servers, protocol, files, at_once, options)
                    row = summary(shown)
                    print_row(protocol, text, row, quiet)
                    result["rows"].append({"protocol": protocol, "connections": at_once[0], "streams": at_once[1],
                                           "quiet": quiet, **row, "windows": shown})
        finally:
            for server in servers:
                server.stop()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
