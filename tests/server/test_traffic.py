"""Labels, weighted traffic, rollouts that abort by themselves, shadows, and what of it outlives the server. Every answer
is checked: version v of the model adds v."""

import json
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
import roll_forward
import tritonclient.grpc as grpc_client
from conftest import Server, add_model, metrics, save, value
from onnx import TensorProto, helper, numpy_helper
from roll_forward import failing_model
from tritonclient.utils import InferenceServerException

WAIT = 60
ALL = "version_policy { all { } }\n"


def other_input_model(path):
    return save(path, [helper.make_node("Identity", ["z"], ["y"])], [value("z", TensorProto.FLOAT, ["n", 4])],
                [value("y", TensorProto.FLOAT, ["n", 4])])


def slower_model(path, amount, layers=60):
    """y = x + amount, by way of many products with the unit matrix."""
    wide = np.zeros((4, 512), np.float32)
    wide[:4, :4] = np.eye(4)
    nodes = [helper.make_node("MatMul", ["x", "widen"], ["t0"])]
    nodes += [helper.make_node("MatMul", [f"t{i}", "unit"], [f"t{i + 1}"]) for i in range(layers)]
    nodes += [helper.make_node("MatMul", [f"t{layers}", "narrow"], ["last"]), helper.make_node("Add", ["last", "c"], ["y"])]
    return save(path, nodes, [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, ["n", 4])],
                [numpy_helper.from_array(a, n) for a, n in ((wide, "widen"), (np.eye(512, dtype=np.float32), "unit"),
                                                           (wide.T.copy(), "narrow"), (np.array(amount, np.float32), "c"))])


class Model:
    def __init__(self, server, name="m"):
        self.server, self.name = server, name
        self.base = f"{server.base}/v2/models/{name}"
        self.http = requests.Session()

    def infer(self, version="", x=0.0, headers=None, **parameters):
        """The version that answered; its answer is checked."""
        at = f"{self.base}/versions/{version}/infer" if version else f"{self.base}/infer"
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [x] * 4}], "parameters": parameters}
        reply = self.http.post(at, json=body, headers=headers, timeout=WAIT)
        assert reply.status_code == 200, reply.text
        answered = reply.json()["model_version"]
        assert reply.json()["outputs"][0]["data"] == [x + int(answered)] * 4
        return int(answered)

    def versions(self, n, **parameters):
        return Counter(self.infer(x=i % 7, **parameters) for i in range(n))

    def traffic(self, change=None, status=200):
        reply = (self.http.post(self.base + "/traffic", json=change, timeout=WAIT) if change is not None
                 else self.http.get(self.base + "/traffic", timeout=WAIT))
        assert reply.status_code == status, reply.text
        return reply.json()

    def counts(self):
        return {v["version"]: v for v in self.traffic()["versions"]}


def near(got, shares):
    """Requests without a key are shared out evenly: no version is more than a few behind."""
    return got.keys() == shares.keys() and all(abs(got[v] - n) <= 3 for v, n in shares.items())


@pytest.fixture
def start(tmp_path):
    started = []

    def make(*arguments, cache=None):
        started.append(Server("--model-repository", tmp_path / "models", *arguments, cache=cache))
        return started[-1]
    yield make
    for server in started:
        if server.process.poll() is not None and server.process.returncode < 0:
            continue  # killed by the test
        code, log = server.stop()
        assert code == 0, log


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


def three_versions(folder, config=ALL):
    for version in (1, 2, 3):
        add_model(folder / f"m/{version}/model.onnx", version)
    (folder / "m/config.pbtxt").write_text(config)


# ---- labels ----

def test_labels(folder, start):
    three_versions(folder)
    (folder / "m/4").mkdir()
    (folder / "m/4/model.onnx").write_bytes(b"no model")
    server = start()
    m = Model(server)
    assert m.infer() == 3, "the highest, as long as nothing else is said"
    assert m.traffic()["labels"] == {}
    assert m.traffic({"labels": {"stable": 1, "canary": "2"}})["labels"] == {"stable": 1, "canary": 2}
    assert [m.infer(), m.infer("stable"), m.infer("canary"), m.infer("3")] == [1, 1, 2, 3]
    assert "not ready" in m.traffic({"labels": {"stable": 4}}, 503)["error"]
    assert "no version 9" in m.traffic({"labels": {"canary": 9}}, 404)["error"]
    assert "is no label" in m.traffic({"labels": {"7": 1}}, 400)["error"]
    assert "JSON" in m.traffic([], 400)["error"]
    assert m.http.post(server.base + "/v2/models/nobody/traffic", json={}, timeout=WAIT).status_code == 404
    assert m.infer() == 1
    m.traffic({"labels": {"stable": "canary", "canary": None}})
    assert m.infer() == 2 and m.infer("stable") == 2
    reply = m.http.post(m.base + "/versions/canary/infer", json={}, timeout=WAIT)
    assert reply.status_code == 404 and "no version 'canary'" in reply.json()["error"]
    for path in ("", "/ready", "/config", "/stats"):
        assert m.http.get(m.base + "/versions/stable" + path, timeout=WAIT).status_code == 200
    stats = m.http.get(m.base + "/versions/stable/stats", timeout=WAIT).json()["model_stats"]
    assert [(s["version"], s["labels"], s["traffic"]["requests"]) for s in stats] == [("2", ["stable"], 1)]
    with grpc_client.InferenceServerClient(server.grpc) as c:
        x = grpc_client.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(np.zeros((1, 4), np.float32))
        assert c.infer("m", [x], model_version="stable").as_numpy("y")[0, 0] == 2
        assert c.infer("m", [x]).get_response().model_version == "2"
        assert c.is_model_ready("m", "stable") and not c.is_model_ready("m", "canary")
        assert [s.version for s in c.get_inference_statistics("m", "stable").model_stats] == ["2"]
        with pytest.raises(InferenceServerException, match="no version 'canary'"):
            c.infer("m", [x], model_version="canary")


def test_a_label_keeps_its_version_loaded(folder, start):
    """With the policy latest(1) a new version would replace the old one: not one that a label names."""
    add_model(folder / "m/1/model.onnx", 1)
    server = start()
    m = Model(server)
    m.traffic({"labels": {"stable": 1}})
    add_model(folder / "m/2/model.onnx", 2)
    assert requests.post(server.base + "/v2/repository/models/m/load", timeout=WAIT).status_code == 200
    assert m.infer() == 1 and m.infer("2") == 2
    m.traffic({"labels": {"stable": 2}})
    assert m.infer() == 2
    assert requests.post(server.base + "/v2/repository/models/m/load", timeout=WAIT).status_code == 200
    assert m.infer() == 2
    assert m.http.get(m.base + "/versions/1/ready", timeout=WAIT).status_code == 404, "nothing names it any more"


# ---- weights ----

def test_weights_and_keys(folder, start):
    three_versions(folder)
    m = Model(start())
    m.traffic({"labels": {"stable": 1, "canary": 2},
               "split": [{"version": "stable", "weight": 7}, {"version": "canary", "weight": 2}, {"version": 3, "weight": 1}]})
    got = m.versions(1000)
    assert near(got, {1: 700, 2: 200, 3: 100}), got
    by_key = {f"user-{i}": m.infer(routing_key=f"user-{i}") for i in range(200)}
    share = Counter(by_key.values())  # 4 sigma of a binomial
    assert abs(share[1] - 140) < 26 and abs(share[2] - 40) < 23 and abs(share[3] - 20) < 17, share
    for key, version in list(by_key.items())[:50]:
        assert m.infer(headers={"X-Routing-Key": key}) == version, "the header says what the parameter says"
        assert m.infer("1", routing_key=key) == 1, "a version that is asked for is given"
    reply = m.http.post(m.base + "/infer", timeout=WAIT, json={"inputs": [], "parameters": {"routing_key": "x" * 257}})
    assert reply.status_code == 400 and "longer than 256" in reply.text
    with grpc_client.InferenceServerClient(m.server.grpc) as c:
        x = grpc_client.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(np.zeros((1, 4), np.float32))
        for key, version in list(by_key.items())[:50]:
            assert c.infer("m", [x], parameters={"routing_key": key}).get_response().model_version == str(version)
            assert c.infer("m", [x], headers={"x-routing-key": key}).get_response().model_version == str(version)
        with pytest.raises(InferenceServerException, match="longer than 256"):
            c.infer("m", [x], headers={"x-routing-key": "x" * 300})
    m.traffic({"split": None})
    assert m.versions(10) == {1: 10}


def test_what_is_not_ready_loses_no_request(folder, start):
    three_versions(folder)
    (folder / "m/2/model.onnx").write_bytes(b"no model")
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "split": [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}]})
    assert m.versions(100) == {1: 100}
    assert abs(m.counts()[2]["fallbacks"] - 50) <= 3
    add_model(folder / "m/2/model.onnx", 2)
    assert requests.post(m.server.base + "/v2/repository/models/m/load", timeout=WAIT).status_code == 200
    assert near(m.versions(100), {1: 50, 2: 50})


def test_an_evicted_version_comes_back(folder, start):
    """The chosen version is not loaded: another one answers, and the next requests find it."""
    three_versions(folder)
    add_model(folder / "other.onnx", 5)
    m = Model(start("--max-models", "2"))
    m.traffic({"split": [{"version": 3, "weight": 1}, {"version": 1, "weight": 1}]})
    deadline = time.monotonic() + WAIT
    while m.versions(20).keys() != {1, 3}:
        assert time.monotonic() < deadline


def counting_model(path, amount):
    """y = x + count + amount, where count is the requests of the sequence so far."""
    f32 = TensorProto.FLOAT
    nodes = [helper.make_node("Add", ["count", "one"], ["next"]), helper.make_node("Add", ["x", "count"], ["t"]),
             helper.make_node("Add", ["t", "c"], ["y"])]
    save(path, nodes, [value("x", f32, [1]), value("count", f32, [1])], [value("y", f32, [1]), value("next", f32, [1])],
         [numpy_helper.from_array(np.array(amount, np.float32), "c"), numpy_helper.from_array(np.array(1, np.float32), "one")])
    path.with_name("model.state.json").write_text(json.dumps({"states": [{"input": "count", "output": "next"}]}))


def test_a_sequence_stays_where_it_is(folder, start):
    for version in (1, 2):
        counting_model(folder / f"m/{version}/model.onnx", 1000 * version)
    (folder / "m/config.pbtxt").write_text(ALL)
    m = Model(start())

    def step(i, count, **more):
        body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [0]}],
                "parameters": {"sequence_id": f"s{i}", **more}, "outputs": [{"name": "y"}]}
        reply = m.http.post(m.base + "/infer", json=body, timeout=WAIT)
        assert reply.status_code == 200, reply.text
        version = int(reply.json()["model_version"])
        assert reply.json()["outputs"][0]["data"] == [1000 * version + count]
        return version

    ids = range(40)
    m.traffic({"labels": {"stable": 1}})
    first = {i: step(i, 0, sequence_start=True) for i in ids}
    assert set(first.values()) == {1}
    for count, weight in ((1, 1), (2, 50), (3, 99)):
        m.traffic({"split": [{"version": 2, "weight": weight}, {"version": 1, "weight": 100 - weight}]})
        assert all(step(i, count) == 1 for i in ids)
    anew = {i: step(i, 0, sequence_start=True) for i in ids}
    assert Counter(anew.values())[2] > 30
    m.traffic({"split": None})
    assert {i: step(i, 1, sequence_end=True) for i in ids} == anew
    assert all(step(i, 0, sequence_start=True) == 1 for i in ids)


# ---- rollouts ----

def roll(m, until, seconds=WAIT, threads=4):
    """Sends requests until the rollout is in that phase; the versions that answered."""
    deadline = time.monotonic() + seconds
    got = Counter()
    with ThreadPoolExecutor(threads) as pool:
        while m.traffic()["rollout"]["phase"] != until:
            assert time.monotonic() < deadline, m.traffic()
            for part in pool.map(lambda _: Model(m.server).versions(25), range(threads)):
                got += part
    return got


def test_a_good_version_is_rolled_out(folder, start):
    three_versions(folder)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}})
    begun = m.traffic({"rollout": {"version": 2, "steps": [0, 10, {"percent": 50, "seconds": 0.3}, 100], "step_seconds": 0.2,
                                   "analysis": {"min_requests": 0, "latency_ratio": None}}})["rollout"]
    assert (begun["phase"], begun["from"], begun["percent"]) == ("progressing", 1, 0)
    assert "in progress" in m.traffic({"rollout": {"version": 3}}, 400)["error"]
    assert "in progress" in m.traffic({"labels": {"stable": 3}}, 400)["error"]
    got = roll(m, "succeeded")
    assert got.keys() == {1, 2}
    assert m.traffic()["labels"] == {"stable": 2} and m.versions(20) == {2: 20}
    phases = m.server.wait_log(r"event=rollout model=m version=2 phase=(\w+) percent=(\d+)", 5)
    assert phases == [("progressing", "0"), ("progressing", "10"), ("progressing", "50"), ("progressing", "100"),
                      ("succeeded", "100")]


def test_by_hand(folder, start):
    three_versions(folder)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}})
    rollout = {"version": 3, "steps": [50], "step_seconds": 0, "analysis": {"min_requests": 0}}
    m.traffic({"rollout": {**rollout, "analysis": {"min_requests": 1000000}}})
    assert near(m.versions(20), {1: 10, 3: 10})
    assert m.traffic({"rollout": "pause"})["rollout"]["phase"] == "paused"
    assert m.traffic({"rollout": "abort"})["rollout"]["reason"] == "by hand"
    assert m.versions(20) == {1: 20}
    assert "no rollout" in m.traffic({"rollout": "promote"}, 400)["error"]
    m.traffic({"rollout": {**rollout, "analysis": {"min_requests": 1000000}}})
    m.traffic({"rollout": "promote"})
    assert m.versions(20) == {3: 20} and m.traffic()["labels"] == {"stable": 3}
    assert "rollout" not in m.traffic({"rollout": None})


@pytest.mark.parametrize("bad", [failing_model, other_input_model], ids=["fails at every run", "takes other inputs"])
def test_a_version_that_fails_is_taken_back_and_fails_nobody(folder, start, bad):
    add_model(folder / "m/1/model.onnx", 1)
    bad(folder / "m/2/model.onnx")
    (folder / "m/config.pbtxt").write_text(ALL)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "rollout": {"version": 2, "steps": [10, 100]}})
    assert roll(m, "aborted").keys() == {1}, "what version 2 failed, version 1 answered"
    rollout = m.traffic()["rollout"]
    assert rollout["reason"].startswith("errors: 20 of 20 requests to version 2 failed, of version 1 0 of ")
    assert m.counts()[2]["fallbacks"] >= 20 and m.counts()[2]["errors"] >= 20
    assert m.versions(50) == {1: 50}
    m.server.wait_log("level=warn event=rollout model=m version=2 phase=aborted percent=0 reason=\"errors: 20 of 20")


def test_mistakes_of_clients_do_not_take_a_version_back(folder, start):
    three_versions(folder)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "rollout": {"version": 2, "steps": [50], "analysis": {"latency_ratio": None}}})
    wrong = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 0]}]}
    for i in range(300):
        assert m.http.post(m.base + "/infer", json=wrong, timeout=WAIT).status_code == 400
        m.infer()
    assert m.traffic()["rollout"]["phase"] == "progressing"


def test_a_slow_version_is_taken_back(folder, start):
    slower_model(folder / "m/1/model.onnx", 1, layers=2)
    slower_model(folder / "m/2/model.onnx", 2, layers=600)
    (folder / "m/config.pbtxt").write_text(ALL)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "rollout": {"version": 2, "steps": [30, 100], "step_seconds": 1000,
                                                   "analysis": {"latency_ratio": 3}}})
    deadline = time.monotonic() + WAIT
    while m.traffic()["rollout"]["phase"] != "aborted":
        assert time.monotonic() < deadline, m.traffic()
        m.versions(20)
    assert m.traffic()["rollout"]["reason"].startswith("latency: ")
    assert m.versions(20) == {1: 20}


# ---- files ----

def rules(text):
    return ALL + 'parameters { key: "traffic" value { string_value: "' + text.replace('"', '\\"') + '" } }\n'


def test_rules_of_a_configuration(folder, start):
    split = '{"labels": {"stable": 2}, "split": [{"version": 2, "weight": 3}, {"version": 3, "weight": 1}]}'
    three_versions(folder, rules(split))
    server = start()
    m = Model(server)
    load = lambda: requests.post(server.base + "/v2/repository/models/m/load", timeout=WAIT)
    assert near(m.versions(100), {2: 75, 3: 25})
    m.traffic({"split": None})
    assert load().status_code == 200
    assert m.versions(20) == {2: 20}, "the file has not changed since the API did"
    (folder / "m/config.pbtxt").write_text(rules('{"labels": {"stable": 4}}'))
    assert load().status_code == 200
    assert m.versions(20) == {2: 20}
    server.wait_log("event=traffic_refused model=m reason=\"model 'm' has no version 4")
    add_model(folder / "m/4/model.onnx", 4)
    assert load().status_code == 200
    assert m.versions(20) == {4: 20}, "taken up once its version is ready"
    (folder / "m/config.pbtxt").write_text(rules('{"labels": {"5": 4}}'))
    reply = load()
    assert reply.status_code == 400 and "the parameter traffic: '5' is no label" in reply.json()["error"]
    assert m.versions(20) == {4: 20}


def test_polled_rules(folder, start):
    three_versions(folder, rules('{"labels": {"stable": 1}}'))
    m = Model(start("--model-control", "poll"))
    assert m.infer() == 1
    (folder / "m/config.pbtxt").write_text(rules('{"labels": {"stable": 2}}'))
    deadline = time.monotonic() + WAIT
    while m.infer() != 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shutil.rmtree(folder / "m")
    m.server.wait_log("event=model_gone model=m")
    add_model(folder / "other/1/model.onnx", 1)
    add_model(folder / "other/2/model.onnx", 2)
    (folder / "other").rename(folder / "m")
    while m.http.get(m.base + "/versions/2/ready", timeout=WAIT).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert m.traffic()["labels"] == {} and not list(Path(m.server.cache.name).glob("polestar/traffic-*")), "another model"


def test_kill_and_restart(folder, start, tmp_path):
    three_versions(folder)
    server = start()
    m = Model(server)
    m.traffic({"labels": {"stable": 1, "canary": 2}, "shadow": {"version": 3, "percent": 5}})
    m.traffic({"rollout": {"version": "canary", "steps": [{"percent": 25, "seconds": 0}, {"percent": 50, "seconds": 1000}],
                           "analysis": {"min_requests": 0}}})
    m.infer()
    server.wait_log("phase=progressing percent=50")
    before = m.traffic()
    deadline = time.monotonic() + WAIT
    while not m.traffic()["kept"]:
        assert time.monotonic() < deadline
    server.process.kill()
    server.process.wait()
    again = start(cache=server.cache)
    m = Model(again)
    m.infer()
    after = m.traffic()
    for key in ("version", "percent", "rtol", "atol"):
        assert after["shadow"][key] == before["shadow"][key]
    assert after["labels"] == before["labels"] == {"stable": 1, "canary": 2}
    for key in ("version", "from", "phase", "step", "steps", "analysis", "percent"):
        assert after["rollout"][key] == before["rollout"][key]
    assert near(m.versions(100), {1: 50, 2: 50})
    again.process.kill()
    again.process.wait()
    state = next(Path(server.cache.name).glob("polestar/traffic-*.json"))
    state.write_text('{"labels": {"stable": 3')
    last = start(cache=server.cache)
    assert Model(last).infer() == 3, "a broken file is no reason not to serve"
    last.wait_log("event=traffic_refused model=m")


# ---- shadows ----

def compared(m, n):
    """The shadow's counters once it has compared so many."""
    deadline = time.monotonic() + WAIT
    while (shadow := m.traffic()["shadow"])["compared"] < n:
        assert time.monotonic() < deadline, shadow
        m.infer()
    return shadow


def test_a_shadow_is_compared_and_never_seen(folder, start):
    three_versions(folder)
    add_model(folder / "m/4/model.onnx", 1.0001)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "shadow": {"version": 2}})
    shadow = compared(m, 50)
    assert shadow["agreed"] == 0 and shadow["largest_difference"] == 1 and shadow["failed"] == 0
    assert shadow["argmax_compared"] == shadow["argmax_agreed"] == shadow["compared"]
    m.traffic({"shadow": {"version": 4}})
    shadow = compared(m, 50)
    assert shadow["agreed"] == shadow["compared"] and 0 < shadow["largest_difference"] < 2e-4
    m.traffic({"shadow": {"version": 4, "rtol": 1e-5, "atol": 0}})
    assert compared(m, 20)["agreed"] == 0
    m.traffic({"shadow": {"version": 2, "compare": "argmax", "percent": 50}})
    before = m.counts()[1]["requests"]
    shadow = compared(m, 20)
    assert shadow["agreed"] == shadow["compared"]
    assert abs(shadow["copied"] + shadow["dropped"] - (m.counts()[1]["requests"] - before) / 2) <= 2
    served = m.http.get(m.base + "/versions/2/stats", timeout=WAIT).json()["model_stats"][0]
    assert served["inference_count"] == 0, "copies are no requests"
    m.traffic({"shadow": None})
    assert "shadow" not in m.traffic()


def test_a_shadow_that_fails_or_lags_disturbs_nobody(folder, start):
    add_model(folder / "m/1/model.onnx", 1)
    failing_model(folder / "m/2/model.onnx")
    other_input_model(folder / "m/3/model.onnx")
    slower_model(folder / "m/4/model.onnx", 1, layers=2000)
    (folder / "m/config.pbtxt").write_text(ALL)
    server = start()
    m = Model(server)
    for version in (2, 3):
        m.traffic({"labels": {"stable": 1}, "shadow": {"version": version}})
        shadow = compared(m, 10)
        assert shadow["failed"] == shadow["compared"] and shadow["agreed"] == 0
    m.traffic({"shadow": {"version": 4}})
    assert m.versions(300) == {1: 300}
    shadow = m.traffic()["shadow"]
    assert shadow["dropped"] > 0 and shadow["copied"] + shadow["dropped"] == 300, shadow
    assert requests.post(server.base + "/v2/repository/models/m/unload", timeout=WAIT).status_code == 200


def test_a_version_that_answers_otherwise_is_taken_back_in_the_shadow(folder, start):
    three_versions(folder)
    m = Model(start())
    m.traffic({"labels": {"stable": 1}, "shadow": {"version": 2},
               "rollout": {"version": 2, "steps": [0, 10, 100], "analysis": {"latency_ratio": None}}})
    assert roll(m, "aborted").keys() == {1}
    assert m.traffic()["rollout"]["reason"].startswith("disagreement: 20 of 20 answers of version 2 are not those of version 1")


def test_shadow_of_joined_runs(folder, start):
    """Requests that shared a run are compared one by one: x of each is another."""
    add_model(folder / "m/1/model.onnx", 1)
    add_model(folder / "m/2/model.onnx", 1)
    (folder / "m/config.pbtxt").write_text(ALL)
    m = Model(start("--batch-policy", "triton", "--batch-size", "8", "--batch-delay", "5", "--runners", "1"))
    m.traffic({"labels": {"stable": 1}, "shadow": {"version": 2, "rtol": 0, "atol": 0}})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Model(m.server).infer(x=float(i)), range(64)))
    shadow = compared(m, 20)
    assert shadow["agreed"] == shadow["compared"]
    sizes = m.http.get(m.base + "/versions/1/stats", timeout=WAIT).json()["model_stats"][0]["batch_stats"]
    assert max(s["batch_size"] for s in sizes) > 1


# ---- all of it ----

def test_versions_change_under_load(tmp_path):
    """The short form; `tools/python tests/server/roll_forward.py` has 100,000 requests."""
    answers = roll_forward.run(tmp_path, 3000)
    assert answers.keys() == {1, 2} and sum(answers.values()) >= 3000


# ---- metrics ----

def test_metrics(folder, start):
    three_versions(folder)
    add_model(folder / 'odd "name.onnx', 1)
    m = Model(start())

    def of(name, version="1", model="m", **labels):
        return found[name, frozenset({"model": model, "version": version, **labels}.items())]

    m.traffic({"labels": {"stable": 1, "canary": 2}, "shadow": {"version": 3},
               "rollout": {"version": 2, "steps": [20], "analysis": {"latency_ratio": None}}})
    m.versions(50)
    assert m.http.post(m.base + "/infer", json={"inputs": []}, timeout=WAIT).status_code == 400
    shadow = compared(m, 20)
    found = metrics(m.server)
    sent = {v: m.counts()[v]["requests"] for v in (1, 2)}
    for version in (1, 2):
        assert of("polestar_routed_requests_total", str(version)) == sent[version]
    answered = sum(of("polestar_requests_total", str(v), outcome="success") for v in (1, 2))
    assert answered == sum(of("polestar_request_duration_seconds_count", v, residency="hit") for v in ("1", "2")) >= 50
    assert 0 < of("polestar_compute_duration_seconds_sum") < of("polestar_request_duration_seconds_sum", residency="hit") < WAIT
    assert sum(of("polestar_requests_total", v, outcome="failure") for v in ("1", "2")) in (1, 2), "once more by version 1"
    assert of("polestar_inferences_total") == of("polestar_requests_total", outcome="success")
    assert of("polestar_executions_total") <= of("polestar_inferences_total")
    assert of("polestar_version_label", label="stable") == of("polestar_version_label", "2", label="canary") == 1
    assert of("polestar_rollout_percent", "2") == 20
    assert [of("polestar_rollout_phase", "2", phase=p) for p in ("progressing", "paused", "aborted")] == [1, 0, 0]
    assert of("polestar_shadow_answers_total", "3", outcome="disagreed") >= shadow["compared"]
    assert of("polestar_shadow_requests_total", "3", outcome="copied") >= shadow["compared"]
    assert of("polestar_model_bytes", model='odd \\"name', device="cpu") > 1000
    assert found["polestar_build_info", next(k[1] for k in found if k[0] == "polestar_build_info")] == 1
