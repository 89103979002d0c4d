"""The visible part of `make demo`: run real models, serve them, ask over HTTP, compare, measure. Every figure printed is
measured in this run. Exit code 1 when an answer is wrong or the server's answers differ from those of `polestar run`.
"""

import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import tritonclient.http as triton

import demo_inputs

TOP = Path(__file__).resolve().parent.parent
BINARY = TOP / "build/release/bin/polestar"
PROBLEMS = []


def expect(condition, sentence):
    if not condition:
        PROBLEMS.append(sentence)
        print(f"   !! {sentence}")


class Runner:
    """`polestar run`, one process a call; inputs and outputs as .npy files in a folder of its own."""

    def __init__(self, models, folder):
        self.models, self.folder, self.calls = models, Path(folder), 0

    def __call__(self, model, inputs):
        self.calls += 1
        out = self.folder / f"out{self.calls}"
        out.mkdir()
        command = [BINARY, "run", self.models / model / "model.onnx", "--output-dir", out]
        for index, (name, array) in enumerate(inputs.items()):
            file = self.folder / f"in{self.calls}_{index}.npy"
            np.save(file, array)
            command += ["--input", f"{name}={file}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"demo: polestar run {model} failed: {done.stderr.strip()}")
        files = {file.stem: np.load(file) for file in out.glob("*.npy")}
        graph = onnx.load(self.models / model / "model.onnx", load_external_data=False).graph
        safe = {re.sub(r"[^A-Za-z0-9_.-]", "_", value.name): value.name for value in graph.output}
        return {safe.get(name, name): array for name, array in files.items()}


class Client:
    """The same over HTTP with the public Triton client; remembers how long each answer took."""

    def __init__(self, port):
        self.http = triton.InferenceServerClient(f"127.0.0.1:{port}")
        self.outputs, self.times = {}, {}

    def __call__(self, model, inputs):
        if model not in self.outputs:
            self.outputs[model] = [value["name"] for value in self.http.get_model_metadata(model)["outputs"]]
        wanted = []
        for name, array in inputs.items():
            tensor = triton.InferInput(name, array.shape, triton_type(array))
            tensor.set_data_from_numpy(array)
            wanted.append(tensor)
        start = time.perf_counter()
        answer = self.http.infer(model, wanted)
        self.times.setdefault(model, []).append((time.perf_counter() - start) * 1000)
        return {name: answer.as_numpy(name) for name in self.outputs[model]}


def triton_type(array):
    return {"float32": "FP32", "int32": "INT32", "int64": "INT64"}[array.dtype.name]


def only(outputs):
    return next(iter(outputs.values()))


# ---- the three tasks; `infer` is a Runner or a Client ---------------------------------------------------------------
def read_page(infer, charset):
    """Finds and reads the lines of a drawn page: [(text, share of the map's area)] and all raw outputs."""
    page = demo_inputs.draw_page()
    found = only(infer("ppocr-det", {"x": demo_inputs.ocr_input(page)}))
    raw, lines = [found], []
    for box in demo_inputs.text_boxes(found):
        answer = only(infer("ppocr-rec", {"x": demo_inputs.ocr_input(page.crop(box), 48)}))
        raw.append(answer)
        lines.append(demo_inputs.read_text(answer, charset))
    return lines, raw


def name_files(infer, labels):
    files = ["README.md", "examples/run.c", "tools/demo_show.py", "Makefile"]
    raw = [only(infer("magika", {"bytes": demo_inputs.file_bytes((TOP / name).read_bytes())})) for name in files]
    return [(name, labels[int(answer.argmax())], float(answer.max())) for name, answer in zip(files, raw)], raw


def hear_voice(infer):
    """Voice probability over half a second of a vowel and half a second of hiss, the state carried from chunk to chunk."""
    heard, raw = [], []
    for sound in (demo_inputs.vowel(0.5), demo_inputs.hiss(0.5)):
        state = np.zeros((2, 1, 128), np.float32)
        probabilities = []
        for chunk in demo_inputs.sound_chunks(sound):
            answer = infer("silero-vad", {"input": chunk, "state": state, "sr": np.array(16000, np.int64)})
            state = answer["stateN"]
            probabilities.append(float(answer["output"][0, 0]))
            raw += [answer["output"], state]
        heard.append(statistics.mean(probabilities))
    return heard, raw


def all_tasks(infer, knowledge):
    return read_page(infer, knowledge["charset"]), name_files(infer, knowledge["labels"]), hear_voice(infer)


# ---- the server -----------------------------------------------------------------------------------------------------
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(port, server, limit=60):
    start = time.perf_counter()
    while time.perf_counter() - start < limit:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).status == 200:
                return time.perf_counter() - start
        time.sleep(0.002)
    raise SystemExit("demo: polestar serve did not become ready, see build/demo-server.log")


def resident_megabytes(pid):
    """(now, highest) of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"{key}:\s+(\d+)", status).group(1)) / 1024 for key in ("VmRSS", "VmHWM"))


@contextlib.contextmanager
def serving(models, names):
    port = free_port()
    command = [BINARY, "serve", *[f"{name}={models / name / 'model.onnx'}" for name in names], "--http-port", str(port),
               "--grpc-port", "-1"]
    with open(TOP / "build/demo-server.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield port, server, wait_ready(port, server) * 1000
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(40)
        except subprocess.TimeoutExpired:
            server.kill()
        expect(server.returncode == 0, f"the server ended with code {server.returncode}")


def largest_difference(left, right):
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(left, right))


def show(tasks):
    (lines, _), (files, _), (heard, _) = tasks
    for wanted, got in zip(demo_inputs.PAGE_LINES, lines):
        same = wanted.replace(" ", "") == got.replace(" ", "")
        print(f"   drawn {wanted!r:28} read {got!r}")
        expect(same, f"the page says {wanted!r}")
    expect(len(lines) == len(demo_inputs.PAGE_LINES), f"found {len(lines)} lines of {len(demo_inputs.PAGE_LINES)}")
    for name, label, sure in files:
        print(f"   {name:34} is {label} ({sure:.1%})")
    expect([label for _, label, _ in files] == ["markdown", "c", "python", "makefile"], "magika mistook a file")
    print(f"   voice in half a second of a vowel  {heard[0]:.2f}, of hiss {heard[1]:.2f}")
    expect(heard[0] > 0.5 > heard[1], "silero-vad mistook hiss for a voice")


def first_answer_ms(models, folder):
    """A whole process: start, load, first result, end; median of seven."""
    file = Path(folder) / "bytes.npy"
    np.save(file, demo_inputs.file_bytes((TOP / "README.md").read_bytes()))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([BINARY, "run", models / "magika/model.onnx", "--input", f"bytes={file}"], check=True,
                       stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main():
    cache = Path(subprocess.run([TOP / "tools/fetch-models", "--dir"], capture_output=True, text=True, check=True)
                 .stdout.strip())
    metadata = {entry.key: entry.value for entry in onnx.load(cache / "ppocr-rec/model.onnx").metadata_props}
    knowledge = {"charset": metadata["character"].split("\n"),
                 "labels": json.loads((cache / "magika/config.json").read_text())["target_labels_space"]}
    names = ["ppocr-det", "ppocr-rec", "magika", "silero-vad"]
    size = BINARY.resolve().stat().st_size / 2**20
    print(f"\n{subprocess.run([BINARY, 'version'], capture_output=True, text=True, check=False).stdout.strip()}")
    print(f"binary {size:.1f} MB, {len(os.sched_getaffinity(0))} CPUs\n\n1. polestar run: real models, one process a call")
    with tempfile.TemporaryDirectory() as folder:
        local = all_tasks(Runner(cache, folder), knowledge)
        show(local)
        first = first_answer_ms(cache, folder)
    print("\n2. polestar serve: the same over HTTP, asked with the public tritonclient")
    with serving(cache, names) as (port, server, ready):
        client = Client(port)
        remote = all_tasks(client, knowledge)
        difference = max(largest_difference(a[1], b[1]) for a, b in zip(local, remote))
        answers = sum(len(task[1]) for task in local)
        print(f"   {answers} output tensors of `run` and `serve` compared: largest difference {difference:.2g}")
        expect(difference <= 1e-5, "the server's answers differ from those of run")
        for _ in range(3):
            all_tasks(client, knowledge)
        now, highest = resident_megabytes(server.pid)
    print("\n3. measured in this run")
    print(f"   start, load magika, first result, end      {first:7.1f} ms   (median of 7 processes)")
    print(f"   polestar serve: start to ready, {len(names)} models   {ready:7.1f} ms")
    for name in names:
        times = client.times[name]
        print(f"   HTTP request to answer, {name:17} {statistics.median(times):9.2f} ms   (median of {len(times)})")
    print(f"   server's resident memory with {len(names)} models    {now:7.1f} MB   (highest {highest:.1f})")
    print("\nNext: build/release/bin/polestar help, README.md, and `make check`.")
    if PROBLEMS:
        raise SystemExit(f"demo: {len(PROBLEMS)} wrong: {'; '.join(PROBLEMS)}")


if __name__ == "__main__":
    sys.exit(main())
