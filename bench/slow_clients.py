#!/usr/bin/env python3
"""Do idle connections and slow clients slow others down? The p99 of an open-loop load with them and without, in turns.

    tools/python bench/slow_clients.py                          10,000 idle connections, 100 slow writers, 5 pairs of windows
    ... --idle 2000 --slow 50 --rate 500 --pairs 3 --seconds 4  smaller
    ... --url 127.0.0.1:8000 --model NAME                       a server that runs already

A process of its own holds the clients: half of the idle connections say nothing, half keep a connection after one request; a slow
writer sends a byte of its body a second. What the server closes is opened again. The server is started with --max-connections so
that all have room. The ratio printed is that of the medians over the windows; --limit sets the one that is an error (1.5). Pin
the server and this driver to different CPUs (--server-cpus, --driver-cpus) where there are enough.
"""

import argparse
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from soak_http import BINARY, resident_kb, save_model, wait_ready  # noqa: E402

OPEN_LOOP = Path(os.environ.get("POLESTAR_OPEN_LOOP", BINARY.parent.parent / "tests/open_loop"))
PING = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /v2/models/soak/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"


class Holder:
    """Runs in a process of its own: opens the clients, keeps them as they are, and says on standard output when all are there."""

    def __init__(self, address, idle, slow):
        self.address, self.wanted = address, [b""] * (idle // 2) + [PING] * (idle - idle // 2) + [HEAD] * slow
        self.selector = selectors.DefaultSelector()
        self.writers, self.reopened = set(), 0

    def open(self, first):
        s = socket.create_connection(self.address, timeout=30)
        s.sendall(first)
        s.setblocking(False)
        self.selector.register(s, selectors.EVENT_READ, first)
        if first == HEAD:
            self.writers.add(s)

    def take(self, key):
        """A reply to a ping, or the end of a connection."""
        try:
            if key.fileobj.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.selector.unregister(key.fileobj)
        self.writers.discard(key.fileobj)
        key.fileobj.close()
        self.reopened += 1
        self.open(key.data)

    def drip(self):
        for s in list(self.writers):
            try:
                s.send(b" ")
            except OSError:
                pass  # its end is read by take

    def run(self):
        for first in self.wanted:
            self.open(first)
        print("open", flush=True)
        last = time.monotonic()
        while True:
            for key, _ in self.selector.select(timeout=0.5):
                self.take(key)
            if time.monotonic() - last >= 1:
                self.drip()
                last = time.monotonic()


def pin(cpus):
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def start_server(folder, connections, cpus):
    save_model(folder / "soak.onnx")
    command = [BINARY, "serve", folder / "soak.onnx", "--http-port", "0", "--grpc-port", "-1"]
    command += ["--max-connections", str(connections)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=pin(cpus))
    return process, process.stdout.readline().strip().rpartition("//")[2]


def start_holder(url, options):
    command = [sys.executable, __file__, "--hold", "--url", url, "--idle", str(options.idle), "--slow", str(options.slow)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=pin(options.driver_cpus))
    if process.stdout.readline() != "open\n":
        sys.exit("slow_clients: the clients cannot be opened")
    time.sleep(1)
    return process


def window(url, options):
    """The summary of one window of load."""
    command = [OPEN_LOOP, "--url", url, "--model", options.model, "--rate", str(options.rate), "--duration", str(options.seconds),
               "--warmup", "0.5", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, preexec_fn=pin(options.driver_cpus))
    return json.loads(done.stdout)["all"]


def measure(url, process, options):
    """[(p99 without, p99 with)], requests that failed, and the memory of a connection in KB."""
    found, failed, before, kilobytes = [], 0, resident_kb(process) if process else 0, 0
    for n in range(options.pairs):
        alone = window(url, options)
        holder = start_holder(url, options)
        if process:
            kilobytes = (resident_kb(process) - before) / (options.idle + options.slow)
        crowd = window(url, options)
        holder.terminate()
        holder.wait()
        time.sleep(1)
        failed += sum(w["counts"]["offered"] - w["counts"]["ok"] for w in (alone, crowd))
        found.append((alone["latency_ms"]["p99"], crowd["latency_ms"]["p99"]))
        print(f"pair {n + 1}: p99 {found[-1][0]:.3f} ms without, {found[-1][1]:.3f} ms with", flush=True)
    return found, failed, kilobytes


def cpus(text):
    return {int(c) for c in text.split(",")} if text else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="HOST:PORT of a running server")
    parser.add_argument("--model", default="soak")
    parser.add_argument("--idle", type=int, default=10000)
    parser.add_argument("--slow", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.5)
    parser.add_argument("--server-cpus", type=cpus)
    parser.add_argument("--driver-cpus", type=cpus)
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if options.hold:
        host, _, port = options.url.rpartition(":")
        Holder((host, int(port)), options.idle, options.slow).run()
    with tempfile.TemporaryDirectory() as folder:
        connections = options.idle + options.slow + 1000
        process, url = (None, options.url) if options.url else start_server(Path(folder), connections, options.server_cpus)
        wait_ready(url)
        try:
            found, failed, kilobytes = measure(url, process, options)
        finally:
            if process:
                process.terminate()
                process.wait(timeout=60)
    alone, crowd = (statistics.median(column) for column in zip(*found))
    ratio = crowd / alone
    print(f"slow_clients: {options.idle} idle, {options.slow} slow; p99 of {options.rate:g} requests/s: {alone:.3f} ms without, "
          f"{crowd:.3f} ms with, ratio {ratio:.2f} (limit {options.limit:g}); {failed} failed; {kilobytes:.1f} KB a connection")
    return 1 if failed or ratio > options.limit else 0


if __name__ == "__main__":
    sys.exit(main())
