"""Statistics of models and versions, beside what the tests count themselves: failures by reason, hits and misses, loads
and evictions, percentiles beside the times that the log has of each request; and the same numbers in the metrics."""

import json
import math
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
from conftest import add_model, metrics, slow_model
from test_cancel import Client
from test_load_wait import Loading
from tritonclient.utils import InferenceServerException

WAIT = 60
CLOSE = 1 / 32  # what durations.h promises of a percentile


def body(width=4, rows=1, **parameters):
    return {"inputs": [{"name": "x", "shape": [rows, width], "datatype": "FP32", "data": [1] * width * rows}],
            "parameters": parameters}


def ask(server, model="m", content=None):
    return requests.post(f"{server.base}/v2/models/{model}/infer", json=content or body(), timeout=WAIT)


def stats(server, model="m", version=""):
    """Of each version, in order."""
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
    reply = requests.get(f"{server.base}{path}/stats", timeout=WAIT)
    assert reply.status_code == 200, reply.text
    return reply.json()["model_stats"]


def of(server, model="m"):
    return stats(server, model)[0]


def failures(now):
    """Those that there are; their sum is the protocol's."""
    assert sum(now["failures"].values()) == now["inference_stats"]["fail"]["count"]
    return {reason: n for reason, n in now["failures"].items() if n}


def post(server, what, model):
    return requests.post(f"{server.base}/v2/repository/models/{model}/{what}", timeout=WAIT)


# ---- failures by reason ----

def reason_of(code, text):
    """By what the client was told."""
    if code == 503 and "queue of requests is full" in text:
        return "queue_full"
    if code == 503 and "an answer would take" in text:
        return "too_late"
    return {200: "answered", 400: "invalid_argument", 504: "deadline_exceeded"}[code]


def test_failures_have_the_reason_that_the_client_was_told(tmp_path, start):
    slow_model(tmp_path / "m/1/model.onnx")
    (tmp_path / "m/config.pbtxt").write_text("dynamic_batching { default_queue_policy { max_queue_size: 3 } }")
    server = start("--model-repository", tmp_path, "--runners", 1, "--max-batch", 1)
    told = Counter()

    def at_once(*clients):
        for client in clients:
            code, reply = client.reply()
            told[reason_of(code, reply.decode())] += 1

    at_once(Client(server, "m", rows=256))
    at_once(*[Client(server, "m", rows=256) for _ in range(8)])  # one runs, three wait
    at_once(*[Client(server, "m", rows=256, timeout=us) for us in (1, 1, 1000, 20000, 20_000_000)])
    told.update(reason_of(reply.status_code, reply.text) for reply in [ask(server, content=body(1023)) for _ in range(3)])
    assert told["invalid_argument"] == 3 and told["queue_full"] >= 3 and told["too_late"] + told["deadline_exceeded"] >= 2
    assert told["answered"] >= 5
    now = of(server)
    assert failures(now) == {reason: n for reason, n in told.items() if reason != "answered"}
    assert now["inference_stats"]["success"]["count"] == told["answered"]
    assert now["last_used"] >= now["last_inference"] > time.time() * 1000 - WAIT * 1000


def test_failures_over_grpc(tmp_path, start):
    add_model(tmp_path / "m.onnx", 1)
    server = start(tmp_path / "m.onnx")
    x = grpc_client.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(np.ones((1, 3), np.float32))
    with grpc_client.InferenceServerClient(server.grpc) as c:
        for _ in range(2):
            with pytest.raises(InferenceServerException):
                c.infer("m", [x])
        x._raw_content = b"none"
        with pytest.raises(InferenceServerException):  # its message cannot be read
            c.infer("m", [x])
        after = c.get_inference_statistics("m").model_stats[0]
    assert failures(of(server)) == {"invalid_argument": 3} and after.inference_stats.fail.count == 3


def test_a_model_that_cannot_be_loaded(tmp_path, start):
    (tmp_path / "m.onnx").write_bytes(b"this is no model")
    server = start("--model-repository", tmp_path)
    assert [ask(server).status_code for _ in range(3)] == [503] * 3
    now = of(server)
    assert failures(now) == {"load_failed": 3} and now["state"] == "UNAVAILABLE"
    assert now["loads"] == {"count": 0, "ns": 0, "from_cache": 0, "failed": 1}
    assert now["memory_usage"] == [{"type": "cpu", "id": 0, "byte_size": 0, "peak_byte_size": 0}]
    assert metrics(server)["polestar_model_load_failures_total", frozenset({("model", "m"), ("version", "1")})] == 1


def test_clients_that_are_gone(tmp_path, start):
    slow_model(tmp_path / "m.onnx")
    server = start(tmp_path / "m.onnx", "--runners", 1, "--max-batch", 1)
    first = Client(server, "m")
    gone = [Client(server, "m") for _ in range(3)]
    time.sleep(0.3)
    for client in gone:
        client.socket.close()
    assert first.reply()[0] == 200
    deadline = time.monotonic() + WAIT
    while failures(of(server)) != {"cancelled": 3} and time.monotonic() < deadline:
        time.sleep(0.05)
    assert failures(of(server)) == {"cancelled": 3}


# ---- while a model is loaded, and when it is not there ----

@pytest.fixture(scope="module")
def loading(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    slow_model(folder / "first.onnx", layers=15000)  # its file is small, its plan is not: loads in seconds
    add_model(folder / "second.onnx", 1)
    return folder


def test_while_it_loads(loading, start):
    server = start("--model-repository", loading, "--load-timeout", 1, kind=Loading)
    server.wait_log("event=listen protocol=grpc")
    gone = Client(server, "second", rows=1)
    time.sleep(0.2)
    gone.socket.close()
    refused = 2
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda model: server.ask(model), ["first", "first", "second", "second"]))
        assert not server.loaded(), "it loads too fast for this test"
        assert [reply.status_code for reply in replies] == [503] * 4
        asked = time.monotonic()
        now = of(server, "first")
        assert time.monotonic() - asked < 1 and now["state"] == "LOADING" and failures(now) == {"load_timeout": 2}
        assert stats(server, "second") == [], "nobody has looked for its versions yet"
        with grpc_client.InferenceServerClient(server.grpc) as c:
            assert [s.version for s in c.get_inference_statistics("first").model_stats] == ["1"]
            assert len(c.get_inference_statistics("second").model_stats) == 0
        assert not server.loaded()
        while server.ask().status_code == 503:
            refused += 1
    now = of(server, "second")
    assert failures(now) == {"load_timeout": refused, "cancelled": 1}
    assert now["latency"]["miss"]["count"] + now["latency"]["hit"]["count"] == now["latency"]["total"]["count"] == 1
    assert of(server, "first")["loads"]["count"] == 1


def test_they_outlive_unloads_and_loads(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    server = start("--model-repository", tmp_path)
    for _ in range(4):
        assert ask(server).status_code == 200
    held = of(server)["memory_usage"][0]
    assert 1000 < held["byte_size"] <= held["peak_byte_size"]
    assert post(server, "unload", "m").status_code == 200
    assert ask(server).status_code == 404
    now = of(server)
    assert now["state"] == "UNAVAILABLE" and now["inference_count"] == 4 and failures(now) == {"unavailable": 1}
    assert "scheduler" not in now and now["memory_usage"][0]["byte_size"] == 0
    assert now["memory_usage"][0]["peak_byte_size"] >= held["byte_size"]
    for _ in range(2):
        assert post(server, "load", "m").status_code == 200
    assert ask(server).status_code == 200
    now = of(server)
    assert now["state"] == "READY" and now["inference_count"] == 5 and now["loads"]["count"] == 3 and not now["evictions"]
    add_model(tmp_path / "m/2/model.onnx", 2)
    assert post(server, "load", "m").status_code == 200 and ask(server).json()["model_version"] == "2"
    assert [(s["version"], s["state"], s["inference_count"]) for s in stats(server)] == [("1", "UNAVAILABLE", 5), ("2", "READY", 1)]
    assert [s["inference_count"] for s in stats(server, version="1")] == [5], "also of a version that the policy lets go"


def test_what_there_is_not(tmp_path, start):
    add_model(tmp_path / "a.onnx", 1)
    add_model(tmp_path / "b.onnx", 1)
    server = start("--model-repository", tmp_path, "--max-models", 1)
    for path, code in (("nothing", 404), ("a/versions/7", 404), ("a/versions/canary", 404), ("b", 200)):
        assert requests.get(f"{server.base}/v2/models/{path}/stats", timeout=WAIT).status_code == code
    assert stats(server, "b") == []
    names = [s["name"] for s in requests.get(server.base + "/v2/models/stats", timeout=WAIT).json()["model_stats"]]
    assert names == ["a"], "asking for b has loaded nothing"


# ---- hits and misses, loads and evictions ----

def test_hits_misses_loads_and_evictions(tmp_path, start):
    """One model is there at a time: a request for the other is a miss. How long each took, its client knows."""
    for name in "ab":
        add_model(tmp_path / f"{name}/1/model.onnx", 1)
    server = start("--model-repository", tmp_path, "--max-models", 1)
    there, counts, took = "a", Counter(), Counter()
    rng = np.random.default_rng(5)
    for _ in range(60):
        model = "ab"[rng.integers(2)]
        kind = "hit" if model == there else "miss"
        begin = time.perf_counter()
        assert ask(server, model).status_code == 200
        took[model, kind] += time.perf_counter() - begin
        counts[model, kind] += 1
        there = model
    after = {model: of(server, model) for model in "ab"}
    _, log = server.stop()
    for model, now in after.items():
        loads, evictions = (len(re.findall(f"event={what} model={model} ", log)) for what in ("load", "evict"))
        assert now["loads"]["count"] == loads == counts[model, "miss"] + int(model == "a"), "a was there at the start"
        assert now["evictions"] == evictions == loads - int(model == there)
        assert now["loads"]["from_cache"] == len(re.findall(f"event=load model={model} .*from=cache", log)) > 0
        loads_ms = [float(ms) for ms in re.findall(rf"event=load model={model} .* ms=([\d.]+)", log)]
        assert now["loads"]["ns"] / 1e6 == pytest.approx(sum(loads_ms), abs=0.06 * loads), "the log has tenths"
        waited_ms = sum(loads_ms[1:] if model == "a" else loads_ms) - 0.06 * loads
        assert now["latency"]["miss"]["ns"] / 1e6 > waited_ms, "each miss waited for its load"
        for kind in ("hit", "miss"):
            assert now["latency"][kind]["count"] == counts[model, kind] > 5
            assert 0 < now["latency"][kind]["ns"] / 1e9 < took[model, kind]
        assert (now["state"] == "READY") == (model == there)
        assert not failures(now)


# ---- percentiles ----

def nearest_rank(values, q):
    return sorted(values)[math.ceil(q * len(values)) - 1]


def test_percentiles_are_those_of_the_log(tmp_path, start):
    """A traced request has a line with its times, in whole microseconds."""
    slow_model(tmp_path / "m.onnx", layers=4, width=256)
    server = start(tmp_path / "m.onnx", "--runners", 1)
    setting = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
    assert requests.post(server.base + "/v2/trace/setting", json=setting, timeout=WAIT).status_code == 200
    rng = np.random.default_rng(3)
    n = 300
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda rows: ask(server, content=body(256, int(rows))), rng.integers(1, 60, n)))
    assert all(reply.status_code == 200 for reply in replies)
    lines = server.wait_log(r"event=trace .*total_us=(\d+) queue_us=(\d+) input_us=\d+ infer_us=(\d+)", n)
    now = of(server)["latency"]
    assert now["total"] == now["hit"] and now["miss"]["count"] == 0 == now["miss"]["p99_ns"]
    for name, column in (("total", 0), ("queue", 1), ("compute", 2)):
        times = [int(line[column]) for line in lines]
        assert now[name]["count"] == n == len(times)
        assert sum(times) <= now[name]["ns"] / 1000 <= sum(times) + n
        for q in (50, 90, 99):
            want = nearest_rank(times, q / 100)
            assert abs(now[name][f"p{q}_ns"] / 1000 - want) <= want * CLOSE + 1.1, (name, q)


# ---- metrics ----

def test_the_metrics_say_the_same(tmp_path, start):
    for name in "ab":
        add_model(tmp_path / f"{name}/1/model.onnx", 1)
    server = start("--model-repository", tmp_path, "--max-models", 1, "--memory-limit", "200M")
    for model in "aabbbab":
        assert ask(server, model, body(rows=3)).status_code == 200
    assert ask(server, "b", body(5)).status_code == 400
    found = metrics(server)

    def value(name, **labels):
        return found[name, frozenset(labels.items())]

    assert value("polestar_memory_limit_bytes") == 200 << 20
    assert 0 < value("polestar_memory_bytes") <= value("polestar_memory_peak_bytes") < 200 << 20
    for model in "ab":
        now = of(server, model)
        m = {"model": model, "version": "1"}
        for reason, n in now["failures"].items():
            assert value("polestar_request_failures_total", **m, reason=reason) == n
        assert value("polestar_requests_total", **m, outcome="success") == now["inference_stats"]["success"]["count"]
        assert value("polestar_inferences_total", **m) == now["inference_count"] == value("polestar_batch_size_sum", **m)
        assert value("polestar_batch_size_count", **m) == now["execution_count"]
        assert value("polestar_batch_size_bucket", **m, le="2") == 0
        assert value("polestar_batch_size_bucket", **m, le="4") == value("polestar_batch_size_bucket", **m, le="+Inf") > 0
        assert value("polestar_model_loaded", **m) == (model == "b")
        loads = {s: value("polestar_model_loads_total", **m, source=s) for s in ("file", "cache")}
        assert loads == {"file": now["loads"]["count"] - now["loads"]["from_cache"], "cache": now["loads"]["from_cache"]}
        assert value("polestar_model_load_duration_seconds_sum", **m) == pytest.approx(now["loads"]["ns"] / 1e9, abs=1e-8)
        assert value("polestar_model_evictions_total", **m) == now["evictions"] > 0
        assert value("polestar_model_peak_bytes", **m, device="cpu") == now["memory_usage"][0]["peak_byte_size"] > 1000
        assert value("polestar_last_request_timestamp_seconds", **m) == now["last_used"] / 1000
        check_histogram(found, "polestar_queue_duration_seconds", now["latency"]["queue"], m)
        check_histogram(found, "polestar_compute_duration_seconds", now["latency"]["compute"], m)
        for kind in ("hit", "miss"):
            check_histogram(found, "polestar_request_duration_seconds", now["latency"][kind], m | {"residency": kind})


def check_histogram(found, name, latency, labels):
    """Buckets grow with their bounds up to all, and the percentiles of the statistics lie between the bounds that they say."""
    buckets = sorted((float(dict(k[1])["le"]), n) for k, n in found.items()
                     if k[0] == name + "_bucket" and {(a, b) for a, b in k[1] if a != "le"} == set(labels.items()))
    bounds, counts = zip(*buckets)
    assert bounds[-1] == math.inf and counts[-1] == latency["count"] == found[name + "_count", frozenset(labels.items())]
    assert list(counts) == sorted(counts) and 0.001 in bounds and 1.024 in bounds
    assert found[name + "_sum", frozenset(labels.items())] == pytest.approx(latency["ns"] / 1e9, abs=1e-8)
    for q in (0.5, 0.9, 0.99):
        if not latency["count"]:
            continue
        i = next(i for i, n in enumerate(counts) if n >= math.ceil(q * latency["count"]))
        seconds = latency[f"p{round(q * 100)}_ns"] / 1e9
        assert (bounds[i - 1] if i else 0) <= seconds <= bounds[i]


def test_metrics_of_many_versions_are_small_until_they_are_used(tmp_path, start):
    for i in range(50):
        add_model(tmp_path / f"m{i:02}.onnx", 1)
    server = start("--model-repository", tmp_path, "--max-models", 2)
    models = {dict(labels).get("model") for name, labels in metrics(server) if name == "polestar_model_loaded"}
    assert models == {"m00", "m01"}
    assert json.loads(requests.get(server.base + "/v2/models/stats", timeout=WAIT).text)["model_stats"][1]["name"] == "m01"
