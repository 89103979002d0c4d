"""bench/open_loop counts right: before polestar, and before a server of ours that misbehaves on purpose."""

import csv
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import BINARY

OPEN_LOOP = Path(os.environ.get("POLESTAR_OPEN_LOOP", BINARY.parent.parent / "tests/open_loop"))
pytestmark = pytest.mark.skipif(not OPEN_LOOP.exists(), reason=f"no {OPEN_LOOP}")
METADATA = json.dumps({"name": "m", "versions": ["1"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                       "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]}).encode()


def drive(url, *options, code=0):
    done = subprocess.run([OPEN_LOOP, "--url", url, *map(str, options)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def summary(url, *options):
    return json.loads(drive(url, "--json", *options).stdout)


class Fake:
    """Answers like a v2 server; `answer(n)` says what the n-th inference gets: (status, body, seconds), or None to hang up."""

    def __init__(self, answer):
        self.answer, self.count, self.lock = answer, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                length = 0
                while (header := file.readline().strip()):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                file.read(length)
                if not self.reply(connection, line.startswith(b"GET")):
                    return

    def reply(self, connection, metadata):
        status, body, seconds = 200, METADATA, 0
        if not metadata:
            with self.lock:
                self.count += 1
                answer = self.answer(self.count)
            if answer is None:
                return False
            status, body, seconds = answer
        time.sleep(seconds)
        head = f"HTTP/1.1 {status} Whatever\r\nInference-Header-Content-Length: {min(2, len(body))}\r\n" if not metadata else \
            "HTTP/1.1 200 OK\r\n"
        connection.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return True


GOOD = (200, b"{}" + np.zeros(4, "<f4").tobytes(), 0)


def fake(answer, *options):
    server = Fake(answer)
    try:
        return summary(server.url, "--model", "m", "--pattern", "constant", "--warmup", 0, *options)["all"]
    finally:
        server.listener.close()


def test_everything_is_answered(server):
    found = summary(server.url, "--model", "add one", "--rate", 300, "--duration", 2, "--target", 20000, "--check")
    counts = found["all"]["counts"]
    assert counts["offered"] == counts["ok"] == counts["good"] and 400 < counts["offered"] < 800
    assert found["all"]["errors_by_status"] == {} and counts["wrong"] == counts["lost"] == counts["unanswered"] == 0
    latency = found["all"]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    assert found["models"][0]["model"] == "add one"


def test_the_same_seed_gives_the_same_times(server, tmp_path):
    times = []
    for seed in (5, 5, 6):
        file = tmp_path / "requests.csv"
        drive(server.url, "--model", "plain", "--rate", 200, "--duration", 1, "--warmup", 0, "--seed", seed, "--csv", file)
        rows = list(csv.DictReader(file.open()))
        assert all(row["status"] == "200" and float(row["latency_ms"]) > 0 for row in rows)
        times.append([row["due_s"] for row in rows])
    assert times[0] == times[1] != times[2]


def test_arrivals(server, tmp_path):
    """Poisson: the deviation of the gaps is their mean; phases of 1 s at 4:1."""
    file = tmp_path / "requests.csv"

    def due(*options):
        drive(server.url, "--model", "plain", "--warmup", 0, "--csv", file, *options)
        return np.array([float(row["due_s"]) for row in csv.DictReader(file.open())])

    gaps = np.diff(due("--rate", 1000, "--duration", 3))
    assert abs(gaps.mean() - 1e-3) < 1e-4 and abs(gaps.std() / gaps.mean() - 1) < 0.1
    times = due("--rate", 500, "--duration", 4, "--pattern", "onoff", "--ratio", 4)
    high = np.sum(np.floor(times) % 2 == 0)  # about 1600 and 400
    assert 1400 < high < 1800 and 300 < len(times) - high < 500
    assert np.allclose(np.diff(due("--rate", 100, "--duration", 1, "--pattern", "constant")), 0.01, atol=1e-5)


def test_failures_by_kind():
    """Of every ten: one 503, one 429, one 500, one hang-up, one wrong answer."""
    kinds = {1: (503, b"busy", 0), 3: (429, b"busy", 0), 5: (500, b"bad", 0), 7: None, 9: (200, b"{}" + b"\x3f" * 16, 0)}
    found = fake(lambda n: GOOD if n <= 8 else kinds.get((n - 8) % 10, GOOD), "--rate", 100, "--duration", 2, "--check")
    counts = found["counts"]
    assert counts["offered"] == 200 and counts["ok"] == 100
    assert found["errors_by_status"] == {"429": 20, "500": 20, "503": 20}
    assert (counts["refused"], counts["lost"], counts["wrong"]) == (40, 20, 20)


def test_a_stall_is_counted_from_the_scheduled_times():
    """Over one connection, one reply takes a second: what was due meanwhile waited, and counts so."""
    found = fake(lambda n: (*GOOD[:2], 1.0 if n == 50 else 0), "--rate", 100, "--duration", 2, "--connections", 1, "--target", 100)
    assert found["counts"]["ok"] == 200
    assert found["latency_ms"]["max"] > 990 and found["latency_ms"]["p90"] > 500  # half of them waited
    assert found["counts"]["sent_late"] >= 80 and found["counts"]["good"] < 130


def test_unanswered():
    found = fake(lambda n: (*GOOD[:2], 30 if n > 50 else 0), "--rate", 100, "--duration", 1, "--drain", 0.2)
    assert found["counts"]["ok"] == 50 and found["counts"]["unanswered"] == 50


def test_a_mix(server, tmp_path):
    mix = tmp_path / "mix.json"
    mix.write_text(json.dumps([{"model": "plain", "rate": 200, "target_ms": 1000, "shapes": {"x": "3x4"}},
                               {"model": "text", "rate": 50, "samples": 2, "priority": 1, "timeout_us": 5000000}]))
    found = summary(server.url, "--mix", mix, "--duration", 2, "--check")
    assert [m["model"] for m in found["models"]] == ["plain", "text"]
    assert all(m["counts"]["offered"] == m["counts"]["ok"] for m in found["models"])
    assert found["all"]["counts"]["ok"] == sum(m["counts"]["ok"] for m in found["models"])


def test_values_of_a_file(server, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    drive(server.url, "--model", "plain", "--rate", 50, "--duration", 0.5, "--input", f"x={tmp_path / 'x.npy'}")
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    wrong = drive(server.url, "--model", "plain", "--rate", 50, "--input", f"x={tmp_path / 'x.npy'}", code=2)
    assert "holds FP64, input 'x' takes FP32" in wrong.stderr


@pytest.mark.parametrize("options, part", [
    (["--model", "nothing", "--rate", 1], "404"), (["--model", "plain"], "no rate"), (["--rate", 1], "needs --url, and"),
    (["--model", "plain", "--rate", "x"], "--rate takes a number"),
    (["--model", "plain", "--rate", 1, "--shape", "z=1"], "no input 'z'"),
    (["--model", "plain", "--rate", 1, "--shape", "x=1xa"], "no shape"),
    (["--model", "plain", "--rate", 1, "--pattern", "no"], "poisson"),
    (["--model", "plain", "--rate", 1, "--shape", "x=1x5"], None),
])
def test_mistakes(server, options, part):
    if part is None:  # the server's to refuse: with --check before the run
        part, options = "400", [*options, "--check"]
    assert part in drive(server.url, *options, code=2).stderr
