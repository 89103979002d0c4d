#!/usr/bin/env python3
"""Long proofs of the multi-model server; each is a command, prints its numbers, and ends with exit code 1 if one is off.

    tools/python tests/server/many_models.py evict [REQUESTS] [--no-reference]   100000
    tools/python tests/server/many_models.py cycles [CYCLES]                     1000
    tools/python tests/server/many_models.py registered [MODELS]                 1000
    tools/python tests/server/many_models.py neighbour [LOADS]                   100, of each of five windows

evict       12 models under a limit that holds 5 of them, Zipf traffic from 4 clients. No request may fail, every answer has to
            be right, memory sampled every 10 ms stays below the limit (what models hold; and VmRSS without what a process that
            has loaded and run them all takes beside them, and 5 %), a reload takes at most half of the first load (asked for
            one by one, before the traffic), whoever goes is who the rule of docs/repository.md names, and the highest VmRSS is
            at least 25 % below that of the same load without a limit, whose latencies of hits are compared as well.
cycles      load, a request, unload, over 5 models in turn: VmRSS at the end within 2 % or 5 MB of that after cycle 50.
registered  so many models in the repository: start below 1 s, index below 50 ms, idle VmRSS below 60 MB.
neighbour   a model that is busy at 30 % of what it can do on one thread, while another is loaded again and again: p99 of requests
            that overlap a load over p99 of the others, median of five windows; at most 1.5.

Times mean something on a machine that does nothing else, with two or more cores; what else is checked does not depend on that. Of
models in $POLESTAR_MODELS (default: shared/models beside the source tree) `evict` takes MiniLM, EfficientNet-Lite0 and PP-OCR rec,
whose answers are ONNX Runtime's; the rest is made here, and its answers are exact."""

import argparse
import datetime
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import requests
import tritonclient.http as client
from conftest import TOP, Server, add_model, save, value
from onnx import TensorProto, helper, numpy_helper

MB = 1 << 20
MODELS = Path(os.environ.get("POLESTAR_MODELS", TOP / "../shared/models"))
REAL = ("efficientnet-lite0", "minilm-l6-v2-emb16", "ppocr-v4-rec")
TYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64", np.dtype(np.int32): "INT32"}
CLIENTS = 4
SLACK = 1.05  # small blocks lie in malloc's heap, where those of an evicted model leave holes between those of others
failures = []


def check(good, text):
    print(("  ok    " if good else "  WRONG ") + text, flush=True)
    if not good:
        failures.append(text)


def percentile(values, p):
    return float(np.percentile(values, p)) if len(values) else float("nan")


# ---- models ----------------------------------------------------------------------------------------------------------
def dense_model(path, factor, megabytes):
    """y = factor x, FP32 [n, 8], through dense weights of so many megabytes that cancel out: an answer is exact."""
    width = 512  # 1 MB each
    rng = np.random.default_rng(factor)
    nodes, weights = [], [numpy_helper.from_array(np.float32(factor), "f")]
    for i in range(megabytes):
        w = rng.integers(-4, 5, (width, width)).astype(np.float32)
        w[:8] = 0
        w[range(8), range(8)] = 1
        w[8:, :8] = 0  # what the other columns hold never comes back to the first eight
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [f"t{i}" if i else "wide", f"w{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Clip", [f"c{i}", "low", "high"], [f"t{i + 1}"]))
    nodes.insert(0, helper.make_node("Pad", ["x", "pads"], ["wide"]))
    nodes += [helper.make_node("Slice", [f"t{megabytes}", "start", "end", "axis"], ["s"]),
              helper.make_node("Mul", ["s", "f"], ["y"])]
    weights += [numpy_helper.from_array(np.array(v, np.int64), n)
                for n, v in (("pads", [0, 0, 0, width - 8]), ("start", [0]), ("end", [8]), ("axis", [1]))]
    weights += [numpy_helper.from_array(np.float32(v), n) for n, v in (("low", -1000), ("high", 1000))]
    return save(path, nodes, [value("x", TensorProto.FLOAT, ["n", 8])], [value("y", TensorProto.FLOAT, ["n", 8])], weights)


def tensor_of(path):
    t = onnx.TensorProto()
    t.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(t)


class Made:
    """A model of dense_model: any rows, exact answers."""

    def __init__(self, folder, name, factor, megabytes):
        self.name, self.factor = name, factor
        dense_model(folder / name / "1/model.onnx", factor, megabytes)

    def question(self, rng):
        x = rng.integers(-9, 10, (int(rng.integers(1, 4)), 8)).astype(np.float32)
        return {"x": x}, {"y": (x * self.factor, 0, 0)}


class Real:
    """One of $POLESTAR_MODELS with its first set of data; the tolerance is that of `polestar verify`."""

    def __init__(self, folder, name):
        self.name = name
        source = MODELS / name
        (folder / name / "1").mkdir(parents=True)
        os.symlink((source / "model.onnx").resolve(), folder / name / "1/model.onnx")
        graph = onnx.load(source / "model.onnx").graph
        data = source / "test_data_set_0"
        weights = {w.name for w in graph.initializer}
        self.inputs = {v.name: tensor_of(data / f"input_{i}.pb")
                       for i, v in enumerate(v for v in graph.input if v.name not in weights)}
        self.outputs = {v.name: (tensor_of(data / f"output_{i}.pb"), 1e-3, 1e-4) for i, v in enumerate(graph.output)}

    def question(self, rng):
        return self.inputs, self.outputs


def make_models(folder):
    """Twelve, of 12 to 70 MB."""
    models = [Real(folder, n) for n in REAL if (MODELS / n / "model.onnx").exists()]
    if len(models) < len(REAL):
        print(f"  note: of {', '.join(REAL)} only {len(models)} are in {MODELS}")
    while len(models) < 12:
        i = len(models)
        models.append(Made(folder, f"made{i:02d}", i + 1, 12 + 3 * i))
    return models


def tensors_of(arrays):
    made = []
    for name, a in arrays.items():
        t = client.InferInput(name, list(a.shape), TYPES[a.dtype])
        t.set_data_from_numpy(a)
        made.append(t)
    return made


def equals(reply, want):
    for name, (array, rtol, atol) in want.items():
        got = reply.as_numpy(name)
        if got is None or got.shape != array.shape or not np.allclose(got, array, rtol=rtol, atol=atol):
            return False
    return True


def stats(server):
    return requests.get(server.base + "/v2/models/stats", timeout=60).json()["model_stats"]


def held(server):
    return sum(m["memory_usage"][0]["byte_size"] for m in stats(server))


class Sampler(threading.Thread):
    """VmRSS and what models say they hold, every 10 ms."""

    def __init__(self, server):
        super().__init__()
        self.server, self.resident, self.models, self.done = server, [], [], threading.Event()

    def run(self):
        session = requests.Session()
        while not self.done.wait(0.01):
            self.resident.append(self.server.memory_kb() * 1024)
            reply = session.get(self.server.base + "/v2/models/stats", timeout=60).json()["model_stats"]
            self.models.append(sum(m["memory_usage"][0]["byte_size"] for m in reply))

    def __exit__(self, *_):
        self.done.set()
        self.join()

    def __enter__(self):
        self.start()
        return self


# ---- 12 models under a limit that holds 5 ----------------------------------------------------------------------------
def zipf_load(server, models, n):
    """Sends n requests; [(model, when by the wall clock, seconds)], and what failed or was wrong."""
    weights = 1 / np.arange(1, len(models) + 1) ** 1.1
    weights /= weights.sum()
    out, bad, lock = [], [], threading.Lock()

    def work(seed):
        rng = np.random.default_rng(seed)
        mine = []
        with client.InferenceServerClient(server.url, network_timeout=120, connection_timeout=120) as c:
            for _ in range(n // CLIENTS):
                m = models[rng.choice(len(models), p=weights)]
                inputs, want = m.question(rng)
                asked, begin = time.time(), time.perf_counter()
                try:
                    reply = c.infer(m.name, tensors_of(inputs))
                    took = time.perf_counter() - begin
                    if not equals(reply, want):
                        bad.append(f"{m.name}: wrong answer")
                except Exception as e:  # whatever it is, it counts
                    took = time.perf_counter() - begin
                    bad.append(f"{m.name}: {e}")
                mine.append((m.name, asked, took))
        with lock:
            out.extend(mine)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out, bad


def one_by_one(server, models):
    """A request to each in turn, four times and alone, so that loads are not held up by runs, which go first; the log of these."""
    rng = np.random.default_rng(1)
    with client.InferenceServerClient(server.url, network_timeout=120, connection_timeout=120) as c:
        for _ in range(4):
            for m in models:
                c.infer(m.name, tensors_of(m.question(rng)[0]))
    time.sleep(0.2)  # for the last lines
    return server.read_log()


def loads_of(log):
    """{model: [(ms, from)]}"""
    found = {}
    for name, ms, where in re.findall(r"event=load model=(\S+) .* ms=([\d.]+) .*from=(\w+)", log):
        found.setdefault(name, []).append((float(ms), where))
    return found


def check_reloads(log):
    ratios = {}
    for name, loads in loads_of(log).items():
        first = [ms for ms, where in loads if where == "file"]
        again = [ms for ms, where in loads if where == "cache"]
        if first and again:
            ratios[name] = statistics.median(again) / first[0]
            print(f"        {name}: first load {first[0]:.1f} ms, {len(again)} reloads, median {statistics.median(again):.1f} ms "
                  f"({ratios[name]:.2f}); from the file {len(first)}")
        elif len(loads) > 1:
            print(f"        {name}: {loads[:6]}")
    check(len(ratios) >= 5, f"models that came back from the cache: {len(ratios)}")
    if ratios:
        middle = statistics.median(ratios.values())
        check(middle <= 0.5, f"reload over first load: median of models {middle:.2f}, worst {max(ratios.values()):.2f}")


def evict(args):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_models(folder)
        report = {}
        for limited in ((True, False) if args.reference else (True,)):
            arguments = ["--model-repository", folder, "--max-models", 0, "--model-control", "on-demand"]
            if limited:
                sizes, own = measure_sizes(folder, models)
                # Five of the largest fit, six do not: in front of them the sixteenth that loads leave to requests.
                limit = int(sum(sorted(sizes.values())[-5:]) * 16 / 15) + 4 * MB
                arguments += ["--memory-limit", limit]
                print(f"limit {limit / MB:.0f} MB; all models together {sum(sizes.values()) / MB:.0f} MB", flush=True)
            server = Server(*arguments)
            with Sampler(server) as sampler:
                quiet = one_by_one(server, models)
                begin = time.monotonic()
                made, bad = zipf_load(server, models, args.n)
            took = time.monotonic() - begin
            loaded = stats(server)
            code, log = server.stop()
            report[limited] = (hits_of(made, log), max(sampler.resident))
            print(f"{'with' if limited else 'without'} a limit: {len(made)} requests in {took:.0f} s, "
                  f"{len(re.findall('event=evict ', log))} evictions, {len(re.findall('event=load ', log))} loads, "
                  f"{len(sampler.resident)} samples; the process's own {own / MB:.0f} MB", flush=True)
            check(code == 0 and len(made) == args.n // CLIENTS * CLIENTS and not bad, f"failed or wrong: {len(bad)} {bad[:3]}")
            check("event=load_failed" not in log, "no load failed")
            if not limited:
                check(len(loaded) == len(models), "without a limit all are loaded")
                continue
            check(len(re.findall("event=evict ", log)) > 20, "there were evictions")
            check(max(sampler.models) <= limit, f"models held at most {max(sampler.models) / MB:.1f} MB of {limit / MB:.1f}")
            most = max(sampler.resident)
            allowed = limit * SLACK + own
            check(most <= allowed, f"VmRSS at most {most / MB:.1f} MB: {(allowed - most) / MB:.1f} below limit, slack and process")
            check_reloads(quiet)
            check_order(log, made)
        if args.reference:
            less = 1 - report[True][1] / report[False][1]
            check(less >= 0.25, f"highest VmRSS {report[True][1] / MB:.0f} MB with and {report[False][1] / MB:.0f} MB without a "
                                f"limit: {100 * less:.0f} % less")
            compare_hits(report[True][0], report[False][0])


def measure_sizes(folder, models):
    """What each holds after some requests, and what the process takes beyond."""
    server = Server("--model-repository", folder, "--max-models", 0, "--model-control", "all")
    rng = np.random.default_rng(1)
    with client.InferenceServerClient(server.url, network_timeout=120, connection_timeout=120) as c:
        for m in models:
            for _ in range(3):
                c.infer(m.name, tensors_of(m.question(rng)[0]))
    sizes = {m["name"]: m["memory_usage"][0]["byte_size"] for m in stats(server)}
    own = server.memory_kb() * 1024 - sum(sizes.values())
    server.stop()
    return sizes, own


def events_of(log):
    """[(when, "load" or "evict", model, ms of the load or 0, bytes, idle seconds or 0)] in order; for an eviction, when it was
    chosen."""
    found = []
    for line in re.findall(r"time=.* event=(?:load|evict) .*", log):
        f = dict(part.split("=", 1) for part in line.split() if "=" in part)
        when = datetime.datetime.fromisoformat(line[5:28] + "+00:00").timestamp() - float(f.get("ago_s", 0))
        found.append((when, f["event"], f["model"], float(f.get("ms", 0)), int(f["bytes"]), float(f.get("idle_s", 0))))
    return found


def check_order(log, made):
    """Who goes was idle for longest in units of what its load took (at least 1 ms): at each eviction nobody else who was loaded,
    of at least its size and surely not in use, may have been idle for longer so counted. What a client knows of a model's last use
    is between a request's begin and its end; the later counts."""
    spans = {}
    for name, begin, took in made:
        spans.setdefault(name, []).append((begin, begin + took))
    begins = {name: np.array(sorted(b for b, _ in s)) for name, s in spans.items()}
    ends = {name: np.array([e for _, e in sorted(s)]) for name, s in spans.items()}
    loaded, wrong, judged, chosen_at, together = {}, [], 0, 0, set()
    events = events_of(log)
    for i, (when, event, name, ms, size, idle) in enumerate(events):
        if event == "load":
            loaded[name] = (when, max(ms, 1), size)
            continue
        if name not in together or when > chosen_at + 0.003:  # chosen together, in whatever order they are said
            together, chosen_at = {e[2] for e in events[i:i + 16] if e[1] == "evict" and abs(e[0] - when) <= 0.003}, when
        own_ms, own_size = loaded[name][1], max(loaded[name][2], size)  # it may have grown: what runs take was not there yet
        for other, (since, other_ms, other_size) in loaded.items():
            k = int(np.searchsorted(begins.get(other, np.array([])), chosen_at + 0.005))
            used = max([since, *(ends[other][max(0, k - 8):k] if k else [])])  # 4 clients: no more are in flight
            if other in together or used > chosen_at - 0.005 or other_size < own_size:
                continue
            judged += 1
            if (chosen_at - used) / other_ms > 1.05 * idle / own_ms + 0.01:
                wrong.append(f"{name} after {idle:.3f} s ({own_ms:.0f} ms), not {other} after {chosen_at - used:.3f} s "
                             f"({other_ms:.0f} ms)")
        del loaded[name]
    check(judged > 20 and not wrong,
          f"order of eviction: {judged} comparisons with others that were loaded, {len(wrong)} wrong {wrong[:2]}")


def hits_of(made, log):
    """{model: [seconds]} of requests whose model was loaded all the while."""
    spans, since = {}, {}
    for when, event, name, *_ in events_of(log):
        if event == "load":
            since[name] = when
        elif name in since:
            spans.setdefault(name, []).append((since.pop(name), when))
    for name, when in since.items():
        spans.setdefault(name, []).append((when, float("inf")))
    hits = {}
    for name, begin, took in made:
        if any(a + 0.002 <= begin and begin + took <= b for a, b in spans.get(name, [])):
            hits.setdefault(name, []).append(took)
    return hits


def compare_hits(limited, free):
    ratios = {n: statistics.median(limited[n]) / statistics.median(free[n])
              for n in free if len(free[n]) > 50 and len(limited.get(n, [])) > 50}
    print("        hits, median with over without a limit: " + ", ".join(f"{n} {r:.2f}" for n, r in ratios.items()))
    check(ratios and statistics.median(ratios.values()) <= 1.1,
          f"median of models {statistics.median(ratios.values()):.2f} (means something on a quiet machine)")


# ---- load and unload --------------------------------------------------------------------------------------------------
def cycles(args):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [Made(folder, f"m{i}", i + 1, 6 + 2 * i) for i in range(4)]
        models += [Real(folder, n) for n in REAL[:1] if (MODELS / n / "model.onnx").exists()]
        server = Server("--model-repository", folder, "--max-models", 0, "--model-control", "explicit")
        rng = np.random.default_rng(1)
        resident, bad = [], 0
        with client.InferenceServerClient(server.url, network_timeout=120, connection_timeout=120) as c:
            for i in range(args.n):
                m = models[i % len(models)]
                bad += requests.post(f"{server.base}/v2/repository/models/{m.name}/load", timeout=60).status_code != 200
                inputs, want = m.question(rng)
                bad += not equals(c.infer(m.name, tensors_of(inputs)), want)
                bad += requests.post(f"{server.base}/v2/repository/models/{m.name}/unload", timeout=60).status_code != 200
                resident.append(server.memory_kb() * 1024)
        code, log = server.stop()
        at = min(49, len(resident) - 1)
        grown = resident[-1] - resident[at]
        steps = ", ".join(f"{resident[i] / MB:.1f}" for i in (0, at, len(resident) // 2, -1))
        print(f"{args.n} cycles over {len(models)} models; VmRSS after 1, 50, half, all: {steps} MB; "
              f"highest {max(resident) / MB:.1f}")
        check(code == 0 and not bad, f"failed or wrong: {bad}")
        check(grown <= max(0.02 * resident[at], 5 * MB), f"grown since cycle {at + 1}: {grown / MB:.2f} MB")


# ---- many registered models -------------------------------------------------------------------------------------------
def registered(args):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(args.n):
            add_model(folder / f"model{i:04d}/1/model.onnx", i)
        for control in ("explicit", "on-demand", "poll"):
            begin = time.monotonic()
            server = Server("--model-repository", folder, "--model-control", control)
            ready = time.monotonic() - begin
            times = []
            for _ in range(20):
                begin = time.monotonic()
                listed = requests.post(server.base + "/v2/repository/index", timeout=60).json()
                times.append(time.monotonic() - begin)
            resident = server.memory_kb() / 1024
            print(f"--model-control {control}: ready after {ready:.2f} s, index {1000 * statistics.median(times):.1f} ms, "
                  f"VmRSS {resident:.1f} MB")
            check(len(listed) == args.n, f"the index names {len(listed)} models")
            check(ready < 1, "start below 1 s")
            check(statistics.median(times) < 0.05, "index below 50 ms")
            check(resident < 60, "idle below 60 MB")
            if control != "explicit":
                with client.InferenceServerClient(server.url) as c:
                    x = np.ones((1, 4), np.float32)
                    for i in (0, args.n // 2, args.n - 1):
                        check(c.infer(f"model{i:04d}", tensors_of({"x": x})).as_numpy("y")[0, 0] == 1 + i, f"model{i:04d} answers")
            server.stop()


# ---- a busy model beside loads ----------------------------------------------------------------------------------------
def load_again(base, name, n_loads, result):
    """A process of its own: in a thread, it would hold up the requests by what it interprets itself."""
    spans = []
    for _ in range(n_loads):
        begin = time.perf_counter()
        requests.post(f"{base}/v2/repository/models/{name}/load", timeout=60)
        spans.append((begin, time.perf_counter()))
        time.sleep(3 * (spans[-1][1] - spans[-1][0]))
    result.send(spans)


def window(server, busy, loaded, n_loads, seed):
    """p99 of requests that overlap a load, of the others, and the share of the former."""
    x = np.random.default_rng(seed).integers(-9, 10, (1, 8)).astype(np.float32)
    made = []
    with client.InferenceServerClient(server.url, network_timeout=120) as c:
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            c.infer(busy.name, tensors_of({"x": x}))
            times.append(time.perf_counter() - begin)
        pause = statistics.median(times) / 0.3  # between arrivals: 30 % of what it can do one by one

        fresh = multiprocessing.get_context("spawn")  # none of this process's sockets and threads
        result, sender = fresh.Pipe(duplex=False)
        loader = fresh.Process(target=load_again, args=(server.base, loaded.name, n_loads, sender))
        loader.start()
        rng, due = np.random.default_rng(seed), time.perf_counter()
        while not result.poll():
            due += rng.exponential(pause)
            time.sleep(max(0, due - time.perf_counter()))
            begin = time.perf_counter()
            c.infer(busy.name, tensors_of({"x": x}))
            made.append((max(due, 0), begin, time.perf_counter()))
        spans = result.recv()
        loader.join()
    overlapping, others = [], []
    starts = np.array([s for s, _ in spans])
    for due, begin, end in made:
        k = int(np.searchsorted(starts, end)) - 1
        (overlapping if k >= 0 and spans[k][1] > begin else others).append(end - due)
    return percentile(overlapping, 99), percentile(others, 99), len(overlapping) / len(made), len(made)


def neighbour(args):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        busy, loaded = Made(folder, "busy", 3, 24), Made(folder, "loaded", 5, 40)
        server = Server("--model-repository", folder, "--runners", 1, "--threads", 1, "--cache-size", args.cache)
        ratios = []
        for k in range(5):
            with_load, without, share, n = window(server, busy, loaded, args.n, k)
            ratios.append(with_load / without)
            print(f"window {k + 1}: {n} requests, {100 * share:.0f} % overlap one of {args.n} loads; p99 {1000 * with_load:.2f}, "
                  f"of the others {1000 * without:.2f} ms: {ratios[-1]:.2f}", flush=True)
            check(share >= 0.1, "at least 10 % of the requests overlap a load")
        server.stop()
        check(statistics.median(ratios) <= 1.5, f"median of the windows: {statistics.median(ratios):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=["evict", "cycles", "registered", "neighbour"])
    parser.add_argument("n", nargs="?", type=int)
    parser.add_argument("--no-reference", dest="reference", action="store_false", help="evict: not without a limit as well")
    parser.add_argument("--cache", default="1G", help="neighbour: --cache-size of the server")
    args = parser.parse_args()
    args.n = args.n or {"evict": 100000, "cycles": 1000, "registered": 1000, "neighbour": 100}[args.proof]
    {"evict": evict, "cycles": cycles, "registered": registered, "neighbour": neighbour}[args.proof](args)
    print(json.dumps({"proof": args.proof, "n": args.n, "wrong": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
