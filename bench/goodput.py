#!/usr/bin/env python3
"""Correct answers per second within a latency target: the default batch policy beside the same server with fixed settings.

    tools/python bench/goodput.py                        mlp-wide, lstm-rows and, if there, minilm; 3 minutes and 2 a round each
    ... bench/goodput.py --models minilm --grid full --rounds 3 --seconds 8 --json result.json

The server has one core (--runners 1 --threads 1), the driver another (open_loop: arrivals drawn beforehand, latency from the
scheduled send, every answer compared with that to the same request alone). C = max b / l(b) over batches with 2 l(b) <= target,
l(b) measured by `polestar bench` on the server's core before (the best of three) and after. Rivals are the policy 'triton' with
all of batch 1, 2, 4, 8, 16, 32 x delay 0, 1, 2, 5, 10, 20 ms x queue timeout none, target / 2, target. Ours has no
setting; its requests say their timeout. "unset" is the same server whose requests say nothing.

`--grid pruned` tries every rival shortly with Poisson arrivals at 1.5 C, and the best of them on/off; the best of both are
compared at length, at every load, taking turns with ours. `--grid full` gives every rival the whole time at every load. A rival
that the trials do not show among the best may still be the best by less than they can tell; `--finalists` takes more of them
along.

A run counts that stands between two in which C's batch took as long as at best, while others used less than a tenth of a core
and the driver sent in time; otherwise it is thrown away and made again (windows.py). A neighbour may come and go within a run:
of a contestant's rounds at a load those are left out in which its batches took longer, size by size, than in its fastest round by
more than --slower. What is printed are medians over the other rounds; the largest p99 is the largest of such medians. Two are
compared in the rounds that count for both, for each round draws arrivals of its own, the same for everyone; the best rival
of a cell is the one beside which a contestant does worst.

`--as-is` is for machines that are hardly ever at their best. Speed then says nothing against a run; C is what it is at the time:
what a round's load is a share of is measured before each load, and what it is compared with around each run.
"""

import argparse
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from windows import Steady

TOP = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
DRIVER = Path(os.environ.get("OPEN_LOOP", TOP / "build/release/tests/open_loop"))
CACHE = TOP / "build/bench-models"
BATCHES, DELAYS = (1, 2, 4, 8, 16, 32), (0, 1, 2, 5, 10, 20)
LOADS, PATTERNS = (0.5, 0.8, 1.5, 2.0), ("poisson", "onoff")
CONNECTIONS = 6000  # more than the server's queue holds: else it is the driver that stops sending

# name: (folder names of the model, dims of each input behind the batch, inputs whose values matter)
KNOWN = {
    "mlp-wide": (["mlp-wide"], {"input": "1024"}, {}),
    "lstm-rows": (["lstm-rows"], {"input": "16x64"}, {}),
    "minilm": (["minilm-l6-v2-emb16"], {"input_ids": "16", "attention_mask": "16", "token_type_ids": "16"},
               {"attention_mask": np.ones((1, 16), np.int64), "token_type_ids": np.zeros((1, 16), np.int64)}),
    "efficientnet-lite0": (["efficientnet-lite0"], {"input": "3x224x224"}, {}),
    "med-xray-cls-synth": (["med-xray-cls-synth"], {"input": "1x256x256"}, {}),
    "mlp": (["mlp"], {"input": "784"}, {}),
}


# ---- models ---------------------------------------------------------------------------------------------------------
def find_model(name):
    """Path of the file, or None. Shapes of bench/models.py are written on demand."""
    folders = KNOWN[name][0]
    further = Path(os.environ.get("POLESTAR_MODELS", TOP.parent / "shared/models"))
    for root in (further, TOP / "tests/models", CACHE):
        for folder in folders:
            if (root / folder / "model.onnx").exists():
                return root / folder / "model.onnx"
    sys.path.insert(0, str(TOP / "bench"))
    import models  # needs onnx
    return models.MODELS[name](CACHE) if name in models.MODELS else None


def run_time(o, path, dims, batch, seconds=None):
    """Milliseconds of a run of so many rows."""
    command = ["taskset", "-c", str(o.server_core), BINARY, "bench", path, "--threads", "1", "--seconds",
               str(seconds or o.bench_seconds), "--json"]
    for name, rest in dims.items():
        command += ["--shape", f"{name}={batch}x{rest}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"goodput: {done.stderr.strip()}")
    return json.loads(done.stdout)["results"][0]["median_ms"]


def run_times(o, path, dims, batches, passes):
    """{batch: milliseconds}, the best of so many passes: a neighbour only ever makes it longer."""
    made = [{batch: run_time(o, path, dims, batch) for batch in batches} for _ in range(passes)]
    return {batch: min(times[batch] for times in made) for batch in batches}


def capacity(times, target):
    """(C per second, its batch)"""
    fitting = {b: b / (ms / 1e3) for b, ms in times.items() if 2 * ms <= target}
    if not fitting:
        raise SystemExit(f"goodput: even a batch of one takes {times[1]:.1f} ms, more than half of the target; see --target")
    best = max(fitting, key=fitting.get)
    return fitting[best], best


# ---- a server and its load ------------------------------------------------------------------------------------------
class Server:
    def __init__(self, o, path, *options):
        self.o = o
        self.cache = tempfile.TemporaryDirectory()
        self.log = tempfile.TemporaryFile("w+")
        command = ["taskset", "-c", str(o.server_core), BINARY, "serve", f"m={path}", "--http-port", "0", "--grpc-port", "-1",
                   "--runners", "1", "--threads", "1", "--max-connections", str(2 * CONNECTIONS), *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env=os.environ | {"XDG_CACHE_HOME": self.cache.name})
        line = self.process.stdout.readline()
        found = re.search(r"http://(\S+)", line)
        if not found:
            self.die(f"the server does not start: {' '.join(map(str, command))}")
        self.address = found[1]

    def die(self, text):
        """Ends the program; says how the server is, and what it said last."""
        self.log.seek(0)
        lines = [line for line in self.log if "event=request" not in line]
        raise SystemExit(f"goodput: {text}\nserver's exit code: {self.process.poll()}\n{''.join(lines[-5:])}")

    def wait_idle(self):
        """What an earlier load left in the queue is none of the next one's."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.address}/v2/models/m/stats", timeout=10) as reply:
                    scheduler = json.load(reply)["model_stats"][0].get("scheduler")
                if not scheduler or scheduler["queued"] + scheduler["unread"] + scheduler["running"] == 0:
                    return
            except OSError:  # it still takes leave of the connections of that load
                pass
            time.sleep(0.01)

    def batches(self):
        """{size: (how many ran, their seconds)} since it started."""
        with urllib.request.urlopen(f"http://{self.address}/v2/models/m/stats", timeout=10) as reply:
            stats = json.load(reply)["model_stats"][0]
        runs = {one["batch_size"]: one["compute_infer"] for one in stats["batch_stats"]}
        return {size: (run["count"], run["ns"] / 1e9) for size, run in runs.items()}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.cache.cleanup()


class Load:
    """What a model is asked: shapes and values of its inputs."""

    def __init__(self, o, name):
        _, dims, values = KNOWN[name]
        self.o = o
        self.folder = tempfile.TemporaryDirectory()
        self.inputs = []
        for key, rest in dims.items():
            if key in values:
                np.save(f"{self.folder.name}/{key}.npy", values[key])
                self.inputs += ["--input", f"{key}={self.folder.name}/{key}.npy"]
            else:
                self.inputs += ["--shape", f"{key}=1x{rest}"]

    def put(self, server, rate, pattern, seconds, warmup, seed, timeout, period=1.0, rival_may_fail=False):
        """One run; the figures of the driver's document that are wanted."""
        o = self.o
        server.wait_idle()
        command = ["taskset", "-c", str(o.driver_core), DRIVER, "--url", server.address, "--model", "m", "--rate", f"{rate:.3f}",
                   "--pattern", pattern, "--duration", f"{seconds:.3f}", "--warmup", f"{warmup:.3f}", "--target", str(o.target),
                   "--drain", "0.1", "--period", f"{period:.3f}", "--connections", str(CONNECTIONS), "--seed", str(seed), "--check",
                   "--json", *self.inputs]
        if timeout:
            command += ["--timeout", str(int(o.target * 1000))]
        for _ in range(3):  # a busy moment may make one of the requests alone, which it compares with, wait for too long
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
        if done.returncode and server.process.poll() is None and rival_may_fail:
            log(o, f"  open_loop: {done.stderr.strip()}")
            return {"good": 0.0}
        if done.returncode:
            server.die(f"open_loop: {done.stderr.strip()}")
        document = json.loads(done.stdout)
        model = document["models"][0]
        return {"offered": model["offered_per_second"], "good": model["goodput_per_second"],
                "p99_ms": model["latency_ms"]["p99"], "wrong": model["counts"]["wrong"],
                "sent_late": model["counts"]["sent_late"], "peak_connections": document["peak_connections"],
                "seconds": document["seconds"]}


class Machine:
    """What the model could be asked at most, C, at best or (--as-is) now; and windows of it that count."""

    def __init__(self, o, path, dims, times):
        self.as_is = o.as_is
        self.c, self.batch = capacity(times, o.target)
        self.steady = Steady(lambda: run_time(o, path, dims, self.batch, 0.2), times[self.batch], o.slack, o.noise, o.tries)

    def c_of(self, probe_ms):
        return self.batch / probe_ms * 1e3 if self.as_is else self.c

    def c_now(self):
        return self.c_of(self.steady.now_ms()) if self.as_is else self.c

    def window(self, put, pids, accept=lambda got: True):
        """(what put() returned and "c", that of the time; whether it stands)"""
        got, stands = self.steady.window(put, pids, accept)
        return got | {"c": self.c_of(got["probe_ms"])}, stands


# ---- who is compared ------------------------------------------------------------------------------------------------
class Contestant:
    """A server's settings, and what it reached: {(pattern, load): [figures of each run]}."""

    def __init__(self, name, options=(), timeout=False, rival=None):
        self.name, self.options, self.timeout, self.rival = name, options, timeout, rival
        self.trials, self.runs, self.server = {}, {}, None
        self.left_out = 0
        self.keys = None  # (pattern, load) at which it is compared; None: all

    def leave_out(self, slower):
        """The rounds in which the machine was slower than in another one."""
        for key, runs in self.runs.items():
            usual = min(r["slowness"] for r in runs)
            self.runs[key] = [r for r in runs if r["slowness"] <= usual * (1 + slower)]
            self.left_out += len(runs) - len(self.runs[key])

    def median(self, key, figure="good"):
        """-1: it was not compared there."""
        runs = self.runs.get(key)
        return statistics.median(r[figure] for r in runs) if runs else -1

    def share(self, key, figure="offered"):
        """Of what was offered, or of "c"."""
        return statistics.median(r["good"] / r[figure] if r[figure] else 1.0 for r in self.runs[key])

    def pairs(self, other, key):
        """What it reached beside the other in each round that both have."""
        theirs = {r["turn"]: r["good"] for r in other.runs.get(key, ())}
        return [ratio(r["good"], theirs[r["turn"]]) for r in self.runs[key] if r["turn"] in theirs]

    def beside(self, other, key):
        """The median over the rounds that both have; where they have none in common, of the medians."""
        pairs = self.pairs(other, key)
        return statistics.median(pairs) if pairs else ratio(self.median(key), other.median(key))

    def doubt(self, other, key):
        """Standard error of beside(), as if the rounds' ratios were normal; 0 where too few tell."""
        pairs = [one for one in self.pairs(other, key) if one < float("inf")]
        return 1.25 * statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 2 else 0.0

    def worst_beside(self, others, key):
        """(ratio, rival) beside the best of those that were compared there."""
        return min(((self.beside(other, key), other) for other in others if other.runs.get(key)), key=lambda pair: pair[0])


def ratio(ours, theirs):
    """Nothing beside nothing shows nothing."""
    return ours / theirs if theirs > 0 else float("inf") if ours > 0 else 0.0


def rivals(target, batches, delays):
    """One for each setting; a delay means nothing to batches of one."""
    made = []
    for batch in batches:
        for delay in delays if batch > 1 else (0,):
            for wait in (None, target / 2, target):
                options = ["--batch-policy", "triton", "--batch-size", batch, "--max-batch", max(batch, 1)]
                options += ["--batch-delay", delay] if delay else []
                options += ["--queue-timeout", round(wait)] if wait else []
                name = f"batch {batch}, delay {delay}, timeout {'none' if wait is None else f'{wait:g}'}"
                made.append(Contestant(name, options, rival=(batch, delay, wait)))
    return made


def log(o, text):
    if not o.quiet:
        print(text, file=sys.stderr, flush=True)


def try_some(o, path, load, some, pattern, machine):
    """A short run of each, at 1.5 C. Their places are by the share of the C of the time."""
    for i, rival in enumerate(some):
        server = Server(o, path, *rival.options)
        rate = 1.5 * machine.c_now()
        got, _ = machine.window(
            lambda: load.put(server, rate, pattern, o.trial_seconds, o.trial_warmup, 7, False, o.trial_seconds / 2, True),
            [server.process.pid])
        rival.trials[pattern] = got["good"] / got["c"]
        server.stop()
        log(o, f"  trial {i + 1}/{len(some)}, {pattern}: {rival.name}: {got['good']:.1f}/s, {rival.trials[pattern]:.3f} of C")


def choose(o, path, load, everyone, machine):
    """The best of either pattern. The best without a queue timeout and the best of batch 1 are compared where that is asked."""
    def best_of(some, pattern, n):
        return sorted(some, key=lambda r: -r.trials[pattern])[:n]

    try_some(o, path, load, everyone, "poisson", machine)
    hopeful = best_of(everyone, "poisson", 4 * o.finalists)
    try_some(o, path, load, hopeful, "onoff", machine)
    chosen = list(dict.fromkeys(best_of(hopeful, "poisson", o.finalists) + best_of(hopeful, "onoff", o.finalists)))
    for some in ([r for r in everyone if r.rival[2] is None], [r for r in everyone if r.rival[0] == 1]):
        for rival in best_of(some, "poisson", 1):
            if rival not in chosen:
                rival.keys = {("poisson", factor) for factor in LOADS[2:]}
                chosen.append(rival)
    return chosen


def warm(o, server, load, c):
    """Plans are made and latencies learnt; every size of batch comes up."""
    for factor in (0.3, 0.7, 1.2, 1.2):
        load.put(server, max(factor * c, 100 / o.warm_seconds), "poisson", o.warm_seconds / 4, 0, 3, False)


def is_punctual(got):
    """A driver with too little of its core makes every server look slow. One without a free connection has a slow server."""
    return (got["good"] == 0 or got["peak_connections"] >= CONNECTIONS
            or got["sent_late"] <= 0.01 * max(1, got["offered"] * got["seconds"]))


def slowness(before, after, times):
    """What the batches between the two took, of what the model's runs of these sizes take alone."""
    ran = {size: (n - before.get(size, (0, 0))[0], s - before.get(size, (0, 0))[1]) for size, (n, s) in after.items()}
    alone = sum(n * times[size] / 1e3 for size, (n, _) in ran.items())
    return sum(s for _, s in ran.values()) / alone if alone else 1.0


def put_once(o, load, one, rate, pattern, round_, turn, times):
    before = one.server.batches()
    got = load.put(one.server, rate, pattern, o.seconds, o.settle, 100 + round_, one.timeout)
    return got | {"turn": turn, "slowness": slowness(before, one.server.batches(), times)}


def compare(o, path, load, contestants, times, machine):
    """All take turns at every load. Those that run at once idle while they are not asked."""
    for one in contestants:
        one.server = Server(o, path, *one.options)
        warm(o, one.server, load, machine.c_now())
    for round_ in range(o.rounds):
        for pattern in PATTERNS:
            for factor in LOADS:
                present = [one for one in contestants if one.keys is None or (pattern, factor) in one.keys]
                turn = len(contestants[0].runs.get((pattern, factor), ()))
                rate = factor * machine.c_now()
                for one in present if round_ % 2 == 0 else present[::-1]:
                    got, stands = machine.window(
                        lambda: put_once(o, load, one, rate, pattern, round_, turn, times),
                        [each.server.process.pid for each in contestants], is_punctual)
                    one.runs.setdefault((pattern, factor), []).append(got)
                    if not stands:
                        log(o, f"  warning: {one.name}, {pattern} {factor:g} C: disturbed every time, the last run counts")
                last = [(one.name, one.runs[pattern, factor][-1]) for one in present]
                log(o, f"  round {round_ + 1} {pattern} {factor:g} C: " +
                    ", ".join(f"{name} {got['good']:.1f}/s ({got['slowness']:.2f}, C {got['c']:.0f})" for name, got in last))
    for one in contestants:
        one.server.stop()


# ---- what was to be shown -------------------------------------------------------------------------------------------
class Claim:
    def __init__(self, text, value, least, detail=""):
        self.text, self.value, self.least, self.detail = text, value, least, detail
        self.holds = value >= least

    def document(self):
        value = round(self.value, 4) if self.value < float("inf") else None  # JSON has no word for it
        return {"claim": self.text, "ratio": value, "least": self.least, "holds": self.holds, "detail": self.detail}


def best(contestants, key):
    return max(contestants, key=lambda r: r.median(key))


def rival_and_doubt(one, rival, key):
    doubt = one.doubt(rival, key)
    return rival.name + (f", give or take {doubt:.3f}" if doubt else "")


def claims(o, c, times, ours, unset, those):
    """Every line of what was to be shown, with its ratio."""
    made = []
    for factor in LOADS[:2]:
        key = ("poisson", factor)
        made.append(Claim(f"{factor:g} C: share of what is offered", ours.share(key), 0.98))
    no_timeout = [r for r in those if r.rival[2] is None]
    ones = [r for r in those if r.rival[0] == 1]
    for factor in LOADS[2:]:
        key = ("poisson", factor)
        made.append(Claim(f"{factor:g} C: share of C", ours.share(key, "c"), 0.85))
        value, rival = ours.worst_beside(those, key)
        made.append(Claim(f"{factor:g} C: beside the best rival", value, 1, rival_and_doubt(ours, rival, key)))
        rival = best(no_timeout, key)
        # a rival that answers next to nothing in time would make a ratio of any size
        made.append(Claim(f"{factor:g} C: beside the best without queue timeout",
                          ours.median(key) / max(rival.median(key), 0.01 * c), 1.2, rival.name))
        value, rival = ours.worst_beside(ones, key)
        gain = c / (1e3 / times[1])
        made.append(Claim(f"{factor:g} C: over batch 1, as a share of the model's own gain of {gain:.2f}",
                          value / gain, 0.85, rival.name))
    for pattern in PATTERNS:
        for factor in LOADS:
            key = (pattern, factor)
            for one, least, what in ((ours, 0.95, ""), (unset, 0.9, "nothing set, ")):
                value, rival = one.worst_beside(those, key)
                made.append(Claim(f"{pattern} {factor:g} C: {what}beside the best rival", value, least,
                                  rival_and_doubt(one, rival, key)))
    worst = max(statistics.median(r["p99_ms"] or float("inf") for r in runs) for runs in ours.runs.values())
    made.append(Claim("target over the largest p99 of a cell's answers", o.target / worst, 1, f"{worst:.1f} ms"))
    wrong = sum(r["wrong"] for one in [ours, unset, *those] for runs in one.runs.values() for r in runs)
    made.append(Claim("no answer differs from that alone (1: none)", 1.0 if wrong == 0 else 0.0, 1, f"{wrong} wrong"))
    return made


def cell(one, key):
    mean = one.median(key)
    return "-" if mean < 0 else f"{mean:.1f}"


def print_model(name, target, times, after, c, batch, contestants, made):
    print(f"\n{name}: target {target:g} ms, C = {c:.1f}/s in batches of {batch}")
    print("  l(b) ms " + "  ".join(f"{b}: {ms:.2f}" for b, ms in times.items()) +
          f"   (after: C {capacity(after, target)[0] / c:.3f} of that)")
    at_the_time = [r["c"] for one in contestants for runs in one.runs.values() for r in runs]
    if min(at_the_time) < max(at_the_time):
        print(f"  C around the runs: {statistics.median(at_the_time):.1f}/s, a tenth below {np.quantile(at_the_time, 0.1):.1f}, "
              f"a tenth above {np.quantile(at_the_time, 0.9):.1f}")
    print(f"\n  {'good/s':32s}" + "".join(f"{p[:7]:>8s} {f:g}" for p in PATTERNS for f in LOADS))
    for one in contestants:
        print(f"  {one.name:32s}" + "".join(f"{cell(one, (p, f)):>{9 + len(f'{f:g}')}}" for p in PATTERNS for f in LOADS))
    print()
    for claim in made:
        print(f"  {'holds' if claim.holds else 'FAILS'}  {claim.value:7.3f} >= {claim.least:<4g}  {claim.text}" +
              (f" ({claim.detail})" if claim.detail else ""))


def judge(o, name):
    path = find_model(name)
    if path is None:
        print(f"\n{name}: not here", file=sys.stderr)
        return None
    dims = KNOWN[name][1]
    started = time.monotonic()
    times = run_times(o, path, dims, BATCHES, 3)
    machine = Machine(o, path, dims, times)
    c, batch = machine.c, machine.batch
    every = run_times(o, path, dims, range(1, BATCHES[-1] + 1), 1)
    log(o, f"{name}: C = {c:.1f}/s in batches of {batch}")
    load = Load(o, name)
    those = rivals(o.target, o.batches, o.delays)
    if o.grid == "pruned":
        those = choose(o, path, load, those, machine)
    ours, unset = Contestant("ours", timeout=True), Contestant("ours, unset")
    contestants = [ours, unset, *those]
    if o.grid == "pruned":
        compare(o, path, load, contestants, every, machine)
    else:
        for rival in those:  # each beside ours: as many servers at once would not fit in memory
            compare(o, path, load, [ours, unset, rival], every, machine)
    after = run_times(o, path, dims, BATCHES, 1)
    for one in contestants:
        one.leave_out(o.slower)
    made = claims(o, c, times, ours, unset, those)
    left_out = sum(one.left_out for one in contestants)
    log(o, f"  {machine.steady.thrown_away} disturbed runs thrown away, {left_out} slower ones left out")
    if o.json != "-":
        print_model(name, o.target, times, after, c, batch, contestants, made)
    return {"model": name, "target_ms": o.target, "run_ms": times, "run_ms_after": after, "capacity_per_second": c,
            "capacity_batch": batch, "thrown_away": machine.steady.thrown_away, "left_out": left_out,
            "seconds": round(time.monotonic() - started, 1),
            "goodput_per_second": {one.name: {f"{p} {f:g}": round(one.median((p, f)), 2) for p, f in one.runs}
                                   for one in contestants},
            "p99_ms": {one.name: {f"{p} {f:g}": statistics.median(r["p99_ms"] or 0 for r in runs)
                                  for (p, f), runs in one.runs.items()} for one in contestants},
            "claims": [claim.document() for claim in made]}


def numbers(text):
    return tuple(int(word) for word in text.split(","))


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default="mlp-wide,lstm-rows,minilm", help=f"comma list of {', '.join(KNOWN)}")
    p.add_argument("--target", type=float, default=100, help="milliseconds")
    p.add_argument("--grid", choices=("pruned", "full"), default="pruned")
    p.add_argument("--finalists", type=int, default=2, help="rivals of either pattern that are compared at length")
    p.add_argument("--batches", type=numbers, default=BATCHES, help="of rivals, to look at fewer of them")
    p.add_argument("--delays", type=numbers, default=DELAYS, help="of rivals, milliseconds")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--seconds", type=float, default=2, help="of a run that counts; a multiple of 2, for on/off")
    p.add_argument("--settle", type=float, default=0.5, help="before it, at the same load")
    p.add_argument("--trial-seconds", type=float, default=0.3)
    p.add_argument("--trial-warmup", type=float, default=0.2)
    p.add_argument("--warm-seconds", type=float, default=3)
    p.add_argument("--bench-seconds", type=float, default=0.5)
    p.add_argument("--slack", type=float, default=0.08, help="how much slower than at best the machine may be around a run")
    p.add_argument("--slower", type=float, default=0.05, help="by how much the batches of a round may be slower than at best")
    p.add_argument("--noise", type=float, default=0.1, help="cores that others may use in a run")
    p.add_argument("--tries", type=int, default=6, help="of a run that is disturbed")
    p.add_argument("--as-is", action="store_true", help="on a machine that is hardly ever at its best: see above")
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--driver-core", type=int, default=1)
    p.add_argument("--json", metavar="FILE", help="write a document too; - for standard output, without the table")
    p.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return p.parse_args()


def allow_files(count):
    """For server and driver, which inherit it; many systems start with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"goodput: {count} open files are needed, the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def main():
    o = arguments()
    if o.as_is:
        o.slack = o.slower = float("inf")
    allow_files(3 * CONNECTIONS)  # the server has room for twice as many, and some for itself
    names = o.models.split(",")
    if 1 not in o.batches:
        raise SystemExit("goodput: --batches without 1, which the others are compared with")
    if any(name not in KNOWN for name in names):
        raise SystemExit(f"goodput: unknown model among {o.models}; there are {', '.join(KNOWN)}")
    results = [result for name in names if (result := judge(o, name))]
    if o.json:
        text = json.dumps({"models": results}, indent=1)
        if o.json == "-":
            print(text)
        else:
            Path(o.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
