"""The model repository: layouts, configurations, versions, what is loaded when, and what the index says of it."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
import tritonclient.http as client
from conftest import add_model, save, value
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 3, 4]], np.float32)
WAIT = 60


def tensor(array, module=client, name="x", kind="FP32"):
    made = module.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def infer(server, model, version="", x=X):
    """What the model adds, and the version that answered."""
    with client.InferenceServerClient(server.url, network_timeout=WAIT) as c:
        reply = c.infer(model, [tensor(x)], model_version=version)
    return float(reply.as_numpy("y")[0, 0] - x[0, 0]), reply.get_response()["model_version"]


def index(server):
    return {(m["name"], m.get("version", "")): m
            for m in requests.post(server.base + "/v2/repository/index", timeout=WAIT).json()}


def state(server, model, version="1"):
    entry = index(server)[model, version]
    return entry["state"], entry["reason"]


def load(server, model):
    return requests.post(f"{server.base}/v2/repository/models/{model}/load", timeout=WAIT)


def config(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(text)


# ---- versions ----

POLICIES = {"": {"3"}, "version_policy { latest { num_versions: 2 } }": {"2", "3"}, "version_policy: { all { } }": {"1", "2", "3"},
            "version_policy { specific { versions: [ 1, 3 ] } }": {"1", "3"}}


@pytest.mark.parametrize("policy", POLICIES)
def test_version_policies(tmp_path, start, policy):
    for version in (1, 2, 3):
        add_model(tmp_path / f"m/{version}/model.onnx", version)
    (tmp_path / "m/not a version").mkdir()
    if policy:
        config(tmp_path / "m", policy)
    server = start("--model-repository", tmp_path)
    assert infer(server, "m") == (3, "3"), "without a version the highest"
    for version in ("1", "2", "3"):
        if version in POLICIES[policy]:
            assert infer(server, "m", version) == (int(version), version)
            about = requests.get(f"{server.base}/v2/models/m/versions/{version}", timeout=WAIT).json()
            assert set(about["versions"]) == POLICIES[policy]
        else:
            with pytest.raises(InferenceServerException, match=f"has no version '{version}'") as error:
                infer(server, "m", version)
            assert error.value.status() == "404"
    assert {v for name, v in index(server)} == POLICIES[policy]
    assert {m["state"] for m in index(server).values()} == {"READY"}
    with grpc_client.InferenceServerClient(server.grpc) as c:
        x = tensor(X, grpc_client)
        for version in POLICIES[policy]:
            assert c.infer("m", [x], model_version=version).as_numpy("y")[0, 0] == 1 + int(version)
        assert set(c.get_model_metadata("m").versions) == POLICIES[policy]
        stats = c.get_inference_statistics("m").model_stats
        assert [s.version for s in stats] == sorted(POLICIES[policy]) and all(s.memory_usage[0].byte_size > 1000 for s in stats)


def test_each_version_counts_for_itself(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    add_model(tmp_path / "m/2/model.onnx", 2)
    config(tmp_path / "m", "version_policy { all { } }")
    server = start("--model-repository", tmp_path)
    for _ in range(3):
        infer(server, "m", "1")
    infer(server, "m")
    stats = requests.get(server.base + "/v2/models/m/stats", timeout=WAIT).json()["model_stats"]
    assert [(s["version"], s["inference_count"]) for s in stats] == [("1", 3), ("2", 1)]
    one = requests.get(server.base + "/v2/models/m/versions/1/stats", timeout=WAIT).json()["model_stats"]
    assert [s["version"] for s in one] == ["1"]
    assert one[0]["memory_usage"][0]["type"] == "cpu" and one[0]["memory_usage"][0]["byte_size"] > 1000


def test_a_new_version_replaces_the_old_one(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    server = start("--model-repository", tmp_path)
    assert infer(server, "m") == (1, "1")
    add_model(tmp_path / "m/2/model.onnx", 2)
    assert infer(server, "m") == (1, "1"), "until it is asked for"
    assert load(server, "m").status_code == 200
    assert infer(server, "m") == (2, "2") and {v for _, v in index(server)} == {"2"}
    shutil.rmtree(tmp_path / "m/2")
    assert load(server, "m").status_code == 200
    assert infer(server, "m") == (1, "1"), "back to the version that is there"


def test_a_broken_new_version_leaves_the_old_one(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    server = start("--model-repository", tmp_path)
    (tmp_path / "m/2").mkdir()
    (tmp_path / "m/2/model.onnx").write_bytes(b"no model")
    reply = load(server, "m")
    assert reply.status_code == 400 and "model.onnx" in reply.json()["error"]
    assert infer(server, "m") == (1, "1")
    assert state(server, "m", "1")[0] == "READY" and state(server, "m", "1")[1]
    assert state(server, "m", "2")[0] == "UNAVAILABLE" and "model.onnx" in state(server, "m", "2")[1]
    with pytest.raises(InferenceServerException, match="could not be loaded"):
        infer(server, "m", "2")


# ---- config.pbtxt and config.json ----

CONFIG = """
name: "m"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
dynamic_batching { default_queue_policy { default_timeout_microseconds: 5000000 } }
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "team" value: { string_value: "vision" } }
optimization { graph: { level: 1 } }
model_warmup [ { name: "zeros" batch_size: 2 count: 2
                 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } },
               { name: "file" inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "x.bin" } } } ]
"""


def test_a_whole_configuration(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    config(tmp_path / "m", CONFIG)
    (tmp_path / "m/warmup").mkdir()
    (tmp_path / "m/warmup/x.bin").write_bytes(X.tobytes())
    server = start("--model-repository", tmp_path)
    assert infer(server, "m") == (1, "1")
    got = requests.get(server.base + "/v2/models/m/config", timeout=WAIT).json()
    assert got["max_batch_size"] == 4 and got["parameters"]["team"]["string_value"] == "vision"
    with grpc_client.InferenceServerClient(server.grpc) as c:
        over_grpc = c.get_model_config("m", as_json=True)["config"]
    assert over_grpc["max_batch_size"] == 4 and over_grpc["parameters"]["team"]["string_value"] == "vision"
    server.wait_log("event=config_unsupported model=m key=optimization")
    assert "key=model_warmup" not in server.read_log()


def test_json_configuration(tmp_path, start):
    for version in (1, 2):
        add_model(tmp_path / f"m/{version}/model.onnx", version)
    (tmp_path / "m/config.json").write_text(json.dumps({"name": "m", "backend": "onnxruntime", "max_batch_size": 0,
                                                        "version_policy": {"specific": {"versions": ["1"]}}}))
    server = start("--model-repository", tmp_path)
    assert infer(server, "m") == (1, "1")
    got = requests.get(server.base + "/v2/models/m/config", timeout=WAIT).json()
    assert got["max_batch_size"] == 0 and got["version_policy"] == {"specific": {"versions": [1]}}
    assert "configuration" in got["parameters"]["unbatched_because"]["string_value"]


def test_configuration_of_a_plain_file_and_another_file_name(tmp_path, start):
    add_model(tmp_path / "m.onnx", 1)
    (tmp_path / "m.config.pbtxt").write_text('parameters { key: "k" value { string_value: "v" } }')
    add_model(tmp_path / "other/1/net.onnx", 2)
    config(tmp_path / "other", 'default_model_filename: "net.onnx"')
    server = start("--model-repository", tmp_path)
    assert infer(server, "m") == (1, "1") and infer(server, "other") == (2, "1")
    got = requests.get(server.base + "/v2/models/m/config", timeout=WAIT).json()
    assert got["parameters"]["k"]["string_value"] == "v"
    assert {name for name, _ in index(server)} == {"m", "other"}


REFUSED = {"ensemble": ('platform: "ensemble"', "ensembles are not supported"),
           "platform": ('platform: "tensorrt_plan"', "'tensorrt_plan' is not supported"),
           "input": ('input { name: "z" }', "the model has no input 'z'"),
           "type": ('output { name: "y" data_type: TYPE_INT8 }', "output 'y' is TYPE_INT8, the model's is TYPE_FP32"),
           "dims": ('max_batch_size: 2 input { name: "x" dims: [ -1, 4 ] }', "2 dims and the batch's"),
           "syntax": ("input [ {", "line 1: the text ends"),
           "policy": ("version_policy { specific { versions: 7 } }", "none of its 1 versions"),
           "warm-up": ('model_warmup { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 1, 5 ] } } }',
                       "warm-up 'w'"),
           "file": ('model_warmup { inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 input_data_file: "none" } } }',
                    "none'")}


def test_refused_configurations(tmp_path, start):
    for name, (text, _) in REFUSED.items():
        add_model(tmp_path / name / "1/model.onnx", 1)
        config(tmp_path / name, text)
    add_model(tmp_path / "good.onnx", 1)
    server = start("--model-repository", tmp_path)
    assert infer(server, "good") == (1, "1"), "the others serve"
    for name, (_, part) in REFUSED.items():
        assert state(server, name)[0] == "UNAVAILABLE" and part in state(server, name)[1], name
        with pytest.raises(InferenceServerException, match="could not be loaded") as error:
            infer(server, name)
        assert error.value.status() == "503"
    config(tmp_path / "platform", 'platform: "onnxruntime_onnx"')
    assert load(server, "platform").status_code == 200 and infer(server, "platform") == (1, "1")


def test_states_in_a_configuration(tmp_path, start):
    save(tmp_path / "sum/1/model.onnx", [helper.make_node("Add", ["x", "state"], ["next"])],
         [value("x", TensorProto.FLOAT, [2]), value("state", TensorProto.FLOAT, [2])], [value("next", TensorProto.FLOAT, [2])])
    config(tmp_path / "sum", 'sequence_batching { max_sequence_idle_microseconds: 60000000 '
                             'state [ { input_name: "state" output_name: "next" data_type: TYPE_FP32 dims: 2 } ] }')
    server = start("--model-repository", tmp_path)
    x = np.array([1, 10], np.float32)
    with client.InferenceServerClient(server.url) as c:
        for step in range(1, 4):
            got = c.infer("sum", [tensor(x)], sequence_id=7, sequence_start=step == 1).as_numpy("next")
            np.testing.assert_array_equal(got, x * step)


def test_a_default_timeout(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    config(tmp_path / "m", "dynamic_batching { default_queue_policy { default_timeout_microseconds: 1 } }")
    server = start("--model-repository", tmp_path)
    with pytest.raises(InferenceServerException, match="1 microseconds") as error:
        infer(server, "m")
    assert error.value.status() in ("503", "504")


# ---- what is loaded when ----

def make_models(folder, names):
    for i, name in enumerate(names):
        add_model(folder / name / "1/model.onnx", i)


def test_on_demand(tmp_path, start):
    """As many as there may be at the start, in order of name; the others at their first request, for which the one that was not
    used for longest goes."""
    make_models(tmp_path, "abcd")
    server = start("--model-repository", tmp_path, "--max-models", 2)
    assert [state(server, m)[0] for m in "ab"] == ["READY", "READY"]
    assert index(server)["c", ""]["state"] == "UNAVAILABLE" and "first request" in index(server)["c", ""]["reason"]
    for model in "abcd":
        assert requests.get(f"{server.base}/v2/models/{model}/ready", timeout=WAIT).status_code == 200, "can be loaded"
    with grpc_client.InferenceServerClient(server.grpc) as c:
        assert c.is_model_ready("d") and not c.is_model_ready("e")
    assert ("d", "") in index(server), "asking whether it is ready loads nothing"
    time.sleep(1)  # much longer than any of them takes to load
    infer(server, "a")
    assert infer(server, "c") == (2, "1")
    assert state(server, "b")[0] == "UNAVAILABLE" and "evicted" in state(server, "b")[1]
    assert state(server, "a")[0] == state(server, "c")[0] == "READY"
    assert infer(server, "b") == (1, "1"), "it comes back"
    server.wait_log("event=evict model=b ")
    assert sum(m["state"] == "READY" for m in index(server).values()) == 2


@pytest.mark.parametrize("path", ["", "/config", "/versions/1"])
def test_descriptions_load_too(tmp_path, start, path):
    make_models(tmp_path, "abc")
    server = start("--model-repository", tmp_path, "--max-models", 1)
    assert requests.get(f"{server.base}/v2/models/b{path}", timeout=WAIT).json()["name"] == "b"
    with grpc_client.InferenceServerClient(server.grpc) as c:
        assert c.get_model_metadata("c").name == "c" and c.get_model_config("a").config.name == "a"
        assert c.infer("b", [tensor(X, grpc_client)]).as_numpy("y")[0, 0] == 2


def test_statistics_outlive_an_eviction(tmp_path, start):
    make_models(tmp_path, "ab")
    server = start("--model-repository", tmp_path, "--max-models", 1)
    for _ in range(3):
        infer(server, "a")
    infer(server, "b")
    gone = requests.get(server.base + "/v2/models/a/stats", timeout=WAIT).json()["model_stats"]
    assert (gone[0]["state"], gone[0]["inference_count"]) == ("UNAVAILABLE", 3), "asking for them loads nothing"
    infer(server, "a")
    stats = requests.get(server.base + "/v2/models/a/stats", timeout=WAIT).json()["model_stats"]
    assert stats[0]["inference_count"] == 4


def test_an_unloaded_model_stays_so(tmp_path, start):
    make_models(tmp_path, "ab")
    server = start("--model-repository", tmp_path)
    assert requests.post(server.base + "/v2/repository/models/a/unload", timeout=WAIT).status_code == 200
    with pytest.raises(InferenceServerException, match="not loaded") as error:
        infer(server, "a")
    assert error.value.status() == "404"
    assert state(server, "a") == ("UNAVAILABLE", "unloaded")
    assert load(server, "a").status_code == 200 and infer(server, "a") == (0, "1")


def test_explicit(tmp_path, start):
    make_models(tmp_path / "repository", "ab")
    add_model(tmp_path / "named.onnx", 9)
    server = start(tmp_path / "named.onnx", "--model-repository", tmp_path / "repository", "--model-control", "explicit")
    assert infer(server, "named") == (9, "1"), "what was named is loaded"
    with pytest.raises(InferenceServerException, match="not loaded"):
        infer(server, "a")
    assert requests.get(server.base + "/v2/models/a/ready", timeout=WAIT).status_code == 404
    assert load(server, "a").status_code == 200 and infer(server, "a") == (0, "1")


def test_all(tmp_path, start):
    make_models(tmp_path, "abc")
    server = start("--model-repository", tmp_path, "--model-control", "all", "--max-models", 2)
    assert [state(server, m)[0] for m in "abc"] == ["READY", "READY", "UNAVAILABLE"]
    assert "as many as may be" in state(server, "c")[1], "nothing is evicted"


def test_a_pinned_model_stays(tmp_path, start):
    make_models(tmp_path, "abc")
    config(tmp_path / "a", 'parameters { key: "pinned" value { string_value: "true" } }')
    server = start("--model-repository", tmp_path, "--max-models", 2)
    for model in "cbcb":
        infer(server, model)
        assert state(server, "a")[0] == "READY"


def test_many_clients_of_more_models_than_fit(tmp_path, start):
    """Nobody is refused, and every answer is that of its model."""
    names = "abcdef"
    make_models(tmp_path, names)
    server = start("--model-repository", tmp_path, "--max-models", 2)

    def work(seed):
        rng = np.random.default_rng(seed)
        with client.InferenceServerClient(server.url, network_timeout=WAIT) as c:
            for _ in range(40):
                i = int(rng.integers(len(names)))
                x = rng.standard_normal((int(rng.integers(1, 9)), 4)).astype(np.float32)
                got = c.infer(names[i], [tensor(x)]).as_numpy("y")
                np.testing.assert_array_equal(got, x + np.float32(i))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(server.wait_log("event=evict ")) > 10


# ---- poll ----

def wait_until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(server, model, expected):
    try:
        return infer(server, model) == expected
    except InferenceServerException:
        return False


def test_poll(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    server = start("--model-repository", tmp_path, "--model-control", "poll")
    assert infer(server, "m") == (1, "1")
    add_model(tmp_path / "m/2/model.onnx", 2)
    add_model(tmp_path / "late.onnx", 7)
    wait_until(lambda: answers(server, "m", (2, "2")) and answers(server, "late", (7, "1")))
    assert {v for name, v in index(server) if name == "m"} == {"2"}
    (tmp_path / "m/3").mkdir()
    (tmp_path / "m/3/model.onnx").write_bytes(b"no model")
    wait_until(lambda: ("m", "3") in index(server) and state(server, "m", "3")[1])
    assert state(server, "m", "3")[0] == "UNAVAILABLE" and infer(server, "m") == (2, "2"), "the old one keeps serving"
    add_model(tmp_path / "m/3/model.onnx", 3)
    wait_until(lambda: answers(server, "m", (3, "3")))
    config(tmp_path / "m", "version_policy { specific { versions: [ 1, 3 ] } }")
    wait_until(lambda: {v for name, v in index(server) if name == "m"} == {"1", "3"})
    assert infer(server, "m", "1") == (1, "1")
    shutil.rmtree(tmp_path / "m")
    wait_until(lambda: "m" not in {name for name, _ in index(server)})
    with pytest.raises(InferenceServerException, match="not known"):
        infer(server, "m")
    add_model(tmp_path / "m/1/model.onnx", 4)
    wait_until(lambda: answers(server, "m", (4, "1")))
    assert infer(server, "late") == (7, "1")
    loads = server.wait_log(r"event=load model=late ")
    assert len(loads) == 1, "what did not change is left alone"


def test_poll_leaves_a_half_copied_file_alone(tmp_path, start):
    add_model(tmp_path / "repository/m/1/model.onnx", 1)
    content = add_model(tmp_path / "new.onnx", 2).read_bytes()
    server = start("--model-repository", tmp_path / "repository", "--model-control", "poll")
    (tmp_path / "repository/m/2").mkdir()
    with open(tmp_path / "repository/m/2/model.onnx", "wb") as file:
        for i in range(10):  # 3 s
            file.write(content[i * len(content) // 10:(i + 1) * len(content) // 10])
            file.flush()
            time.sleep(0.3)
            assert infer(server, "m") == (1, "1")
    wait_until(lambda: answers(server, "m", (2, "2")))
    assert "event=load_failed" not in server.read_log()


def test_poll_does_not_load_what_was_unloaded_by_hand(tmp_path, start):
    add_model(tmp_path / "m/1/model.onnx", 1)
    server = start("--model-repository", tmp_path, "--model-control", "poll")
    requests.post(server.base + "/v2/repository/models/m/unload", timeout=WAIT)
    add_model(tmp_path / "m/2/model.onnx", 2)
    add_model(tmp_path / "other.onnx", 3)
    wait_until(lambda: answers(server, "other", (3, "1")))
    time.sleep(1.5)
    with pytest.raises(InferenceServerException, match="not loaded"):
        infer(server, "m")
    assert load(server, "m").status_code == 200 and infer(server, "m") == (2, "2")


# ---- many ----

def test_a_thousand_registered_models(tmp_path, start):
    """They cost no time at the start and next to nothing while nobody asks for them."""
    add_model(tmp_path / "m0/1/model.onnx", 1)
    for i in range(1, 1000):
        (tmp_path / f"m{i}/1").mkdir(parents=True)
        (tmp_path / f"m{i}/1/model.onnx").hardlink_to(tmp_path / "m0/1/model.onnx")
    server = start("--model-repository", tmp_path)
    assert len(index(server)) == 1000
    took = min(timed(lambda: requests.post(server.base + "/v2/repository/index", timeout=WAIT)) for _ in range(5))
    assert took < 0.2, "50 ms on a machine that is not busy"
    assert infer(server, "m777") == (1, "1")


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


