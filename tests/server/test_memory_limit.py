"""Models under one memory limit: who is loaded, who makes room, and what the process really holds."""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
import tritonclient.http as client
from conftest import BINARY, Server, add_model, metrics, save, slow_model, value
from onnx import TensorProto, helper, numpy_helper
from test_repository import WAIT, config, index, load, state, tensor
from tritonclient.utils import InferenceServerException

MB = 1 << 20
BIG = 16 * MB  # the weights of one model
NAMES = "abcdefgh"


def big_model(path, factor, megabytes=16):
    """y = factor x, FP32 [n, 4], by way of square weights of so many megabytes together."""
    width = 1024  # 4 MB each
    names, weights = ["x"], [np.zeros((4, width), np.float32)]
    weights += [np.zeros((width, width), np.float32) for _ in range(megabytes // 4)] + [np.zeros((width, 4), np.float32)]
    for i, w in enumerate(weights):
        w[range(4), range(4)] = factor if i == 0 else 1
        # rows that meet zeros only; equal weights would be held once, those that FP16 holds in half, and zeros not at all by a card
        w[8:, 8:] = (i + 0.1) / 128
        names.append(f"t{i}")
    names[-1] = "y"
    return save(path, [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(len(weights))],
                [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, ["n", 4])],
                [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big")
    for i, name in enumerate(NAMES):
        big_model(folder / name / "1/model.onnx", i + 1)
    return folder


@pytest.fixture
def start(folder):
    started = []

    def make(*arguments, repository=folder):
        started.append(Server("--model-repository", repository, *arguments))
        return started[-1]
    yield make
    for server in started:
        code, log = server.stop()
        assert code == 0, log


def infer(server, model, x=np.array([[1, 2, 3, 4]], np.float32)):
    with client.InferenceServerClient(server.url, network_timeout=WAIT) as c:
        return c.infer(model, [tensor(x)]).as_numpy("y")


def ready(server):
    return [name for (name, _), m in index(server).items() if m["state"] == "READY"]


def used(server):
    """Bytes that each loaded model says it holds."""
    stats = requests.get(server.base + "/v2/models/stats", timeout=WAIT).json()["model_stats"]
    return {s["name"]: s["memory_usage"][0]["byte_size"] for s in stats}


def test_what_does_not_fit_waits_for_its_first_request(start):
    server = start("--memory-limit", "100M", "--max-models", 0)
    at_start = ready(server)
    assert 3 <= len(at_start) <= 5 and at_start == list(NAMES[:len(at_start)]), "in order of name, up to 80 %"
    for i, name in enumerate(NAMES):
        assert infer(server, name)[0, 3] == 4 * (i + 1)
        assert sum(used(server).values()) <= 100 * MB
    there = ready(server)  # which of the earlier ones went depends on how long their loads took (eviction.c has tests)
    assert 3 <= len(there) <= 6 and NAMES[-1] in there and set(NAMES[:4]) - set(there)


def test_what_a_model_says_it_holds_is_what_the_process_holds(start):
    server = start("--model-control", "explicit", "--max-models", 0)
    infer_all, before = NAMES[:4], server.memory_kb() * 1024
    for name in infer_all:
        load(server, name)
        infer(server, name)
    grown, said = server.memory_kb() * 1024 - before, sum(used(server).values())
    assert said >= 4 * BIG
    assert abs(grown - said) < 0.15 * said + 8 * MB, "the first models also bring in code of libraries"


def test_memory_goes_back(start):
    server = start("--model-control", "explicit", "--max-models", 0)
    load(server, "a")
    infer(server, "a")
    requests.post(server.base + "/v2/repository/models/a/unload", timeout=WAIT)
    before = server.memory_kb() * 1024
    for name in NAMES[:4]:
        load(server, name)
        infer(server, name)
    assert server.memory_kb() * 1024 - before > 4 * BIG
    for name in NAMES[:4]:
        requests.post(f"{server.base}/v2/repository/models/{name}/unload", timeout=WAIT)
    assert server.memory_kb() * 1024 - before < BIG // 4, "it has gone back to the system"


def test_loading_and_unloading_again_and_again(tmp_path, start):
    for name in "ab":
        big_model(tmp_path / name / "1/model.onnx", 1, 4)
    server = start("--model-control", "explicit", repository=tmp_path)
    held = []
    for _ in range(30):
        for name in "ab":
            assert load(server, name).status_code == 200
            infer(server, name)
            requests.post(f"{server.base}/v2/repository/models/{name}/unload", timeout=WAIT)
        held.append(server.memory_kb())
    assert held[-1] < held[9] * 1.02 + 5000, held


def test_a_model_that_can_never_fit(tmp_path, start):
    big_model(tmp_path / "huge/1/model.onnx", 1, 64)
    big_model(tmp_path / "small/1/model.onnx", 2, 2)
    server = start("--memory-limit", "40M", repository=tmp_path)
    with pytest.raises(InferenceServerException, match="memory limit of all models together is 41.9 MB") as error:
        infer(server, "huge")
    assert error.value.status() == "503"
    assert infer(server, "small")[0, 0] == 2
    assert state(server, "huge")[0] == "UNAVAILABLE" and "41.9 MB" in state(server, "huge")[1]


def test_a_limit_of_its_own(tmp_path, start):
    for name, limit in (("tight", "4M"), ("wide", "64M"), ("wrong", "much")):
        big_model(tmp_path / name / "1/model.onnx", 3)
        config(tmp_path / name, f'parameters {{ key: "memory_limit" value {{ string_value: "{limit}" }} }}')
    server = start(repository=tmp_path)
    assert infer(server, "wide")[0, 0] == 3
    assert "memory_limit of 4194304 bytes" in state(server, "tight")[1]
    assert "not a size" in state(server, "wrong")[1]


def test_a_model_in_use_stays(tmp_path, start):
    """One that is never idle is not evicted for one that is asked for now and then."""
    slow_model(tmp_path / "a/1/model.onnx")
    for i, name in enumerate("bc"):
        big_model(tmp_path / name / "1/model.onnx", i + 2)
    server = start("--max-models", 2, repository=tmp_path)
    x = np.ones((96, 1024), np.float32)
    stop, answered = threading.Event(), threading.Semaphore(0)

    def keep_busy():
        while not stop.is_set():
            np.testing.assert_array_equal(infer(server, "a", x), x)
            answered.release()

    with ThreadPoolExecutor(4) as pool:  # runs are long beside what a client does between two: the others' wait meanwhile
        busy = [pool.submit(keep_busy) for _ in range(4)]
        for _ in busy:
            assert answered.acquire(timeout=WAIT)
        for _ in range(4):
            for i, name in enumerate("bc"):
                assert infer(server, name)[0, 0] == i + 2
        stop.set()
        for b in busy:
            b.result()
    assert "event=evict model=b" in server.read_log() and "event=evict model=a" not in server.read_log()


def test_a_model_is_idle_from_its_answer_on(tmp_path, start):
    """Not from when it was asked: a long run is no idle time."""
    slow_model(tmp_path / "slow/1/model.onnx")
    add_model(tmp_path / "then/1/model.onnx", 5)
    server = start("--max-models", 1, repository=tmp_path)
    x = np.ones((512, 1024), np.float32)
    times = [time.monotonic()]
    for model, question in (("slow", x), ("then", np.ones((1, 4), np.float32))):
        infer(server, model, question)
        times.append(time.monotonic())
    run, gap = times[1] - times[0], times[2] - times[1]
    idle = float(server.wait_log(r"event=evict model=slow .*idle_s=([\d.]+)")[0])
    assert idle < gap + run / 2


def test_waiting_for_room_is_no_part_of_a_load(tmp_path, start):
    """What a load took weighs in who goes next: the time that another model was in use says nothing of it."""
    slow_model(tmp_path / "slow/1/model.onnx")
    add_model(tmp_path / "then/1/model.onnx", 5)
    server = start("--max-models", 1, repository=tmp_path)
    x = np.ones((512, 1024), np.float32)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(infer, server, "slow", x)
        time.sleep(0.1)
        assert not busy.done()
        np.testing.assert_array_equal(infer(server, "then"), [[6, 7, 8, 9]])
        np.testing.assert_array_equal(busy.result(), x)
    load_ms, room_ms = server.wait_log(r"event=load model=then .* ms=([\d.]+) .*room_ms=([\d.]+)")[0]
    assert float(room_ms) > 100 > float(load_ms)


def test_requests_stay_within_the_limit(start):
    """Arenas grow with the batch: a run that finds no memory makes idle models go, and is answered."""
    server = start("--memory-limit", "100M", "--max-models", 0)
    for name in ready(server):
        infer(server, name)
    before = ready(server)
    x = np.ones((6000, 4), np.float32)  # two arrays of 24 MB
    np.testing.assert_array_equal(infer(server, "a", x), x)
    assert len(ready(server)) < len(before) and sum(used(server).values()) <= 100 * MB


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_bodies_make_idle_models_go(start, protocol):
    """A body that finds no memory is no reason to refuse a request: models that nobody uses hold most of it."""
    server = start("--memory-limit", "100M", "--max-models", 0)
    for name in ready(server):
        infer(server, name)
    before = ready(server)
    if protocol == "http":
        body = b" " * (24 * MB) + b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}'
        reply = requests.post(f"{server.base}/v2/models/a/infer", data=body, timeout=WAIT)
        assert reply.status_code == 200, reply.text
    else:
        with grpc_client.InferenceServerClient(server.grpc) as c:
            x = np.zeros((1, 6 * MB), np.float32)
            with pytest.raises(InferenceServerException, match="shape") as error:  # it was read
                c.infer("a", [grpc_client.InferInput("x", x.shape, "FP32").set_data_from_numpy(x)])
            assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert len(ready(server)) < len(before) and sum(used(server).values()) <= 100 * MB


def test_a_mixed_load(start):
    server = start("--memory-limit", "120M", "--max-models", 0)

    def work(seed):
        rng = np.random.default_rng(seed)
        with client.InferenceServerClient(server.url, network_timeout=WAIT) as c:
            for _ in range(40):
                i = min(int(rng.zipf(1.3)) - 1, len(NAMES) - 1)
                x = rng.integers(-9, 9, (int(rng.integers(1, 4)), 4)).astype(np.float32)
                np.testing.assert_array_equal(c.infer(NAMES[i], [tensor(x)]).as_numpy("y"), x * (i + 1))

    sizes, done = [], threading.Event()

    def sample():
        while not done.is_set():
            sizes.append(server.memory_kb())
            time.sleep(0.01)

    base = server.memory_kb() * 1024 - sum(used(server).values())
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        done.set()
        sampler.join()
    assert len(server.wait_log("event=evict ")) > 3
    assert max(sizes) * 1024 < base + 120 * MB + 8 * MB, "what the libraries take is not limited"


def wide_model(path, width=3 * MB):
    """y[n, width] = x[n, 1] + 0: 12 MB a row from next to nothing, in the session and once more in the reply."""
    return save(path, [helper.make_node("Shape", ["x"], ["n"], end=1), helper.make_node("Concat", ["n", "w"], ["shape"], axis=0),
                       helper.make_node("Expand", ["x", "shape"], ["e"]), helper.make_node("Neg", ["e"], ["y"])],
                [value("x", TensorProto.FLOAT, ["n", 1])], [value("y", TensorProto.FLOAT, ["n", width])],
                [numpy_helper.from_array(np.array([width], np.int64), "w")])


@pytest.mark.parametrize("module", [client, grpc_client], ids=["http", "grpc"])
def test_a_reply_makes_models_go(tmp_path, start, module):
    """Loads leave a sixteenth of the limit to requests; a reply that takes more than that finds room all the same."""
    for i, name in enumerate("abc"):
        big_model(tmp_path / name / "1/model.onnx", i + 1)
    wide_model(tmp_path / "wide/1/model.onnx")
    server = start("--memory-limit", "72M", "--max-models", 0, repository=tmp_path)
    for i in range(6):
        for k, name in enumerate("abc"):
            assert infer(server, name)[0, 3] == 4 * (k + 1)
        url = server.url if module is client else server.grpc
        with module.InferenceServerClient(url) as c:
            y = c.infer("wide", [tensor(np.array([[i]], np.float32), module)]).as_numpy("y")
        assert y.shape == (1, 3 * MB) and (y == -i).all()


@pytest.fixture(scope="module")
def gpu():
    """A device with memory of its own, if there is one: PoCL is, as far as anybody can see."""
    if "opencl:0 " not in subprocess.run([BINARY, "devices"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("no OpenCL device")


def device_memory(server):
    """Held, and the limit."""
    found = metrics(server)
    return tuple(found[f"polestar_device_memory{kind}_bytes", frozenset({("device", "opencl:0")})] for kind in ("", "_limit"))


@pytest.mark.usefixtures("gpu")
def test_memory_of_a_device_has_a_limit_of_its_own(start):
    """Three models fit. Who needs room there makes others go, though the host has enough."""
    server = start("--device", "gpu", "--memory-limit", "gpu=60M", "--max-models", 0)
    for _ in range(2):
        for i, name in enumerate(NAMES):
            assert infer(server, name)[0, 3] == 4 * (i + 1)
            held, limit = device_memory(server)
            assert limit == 60 * MB and BIG <= held <= limit
    assert len(server.wait_log("event=evict model=", 8)) >= 8 and 1 <= len(ready(server)) <= 3
    with ThreadPoolExecutor(8) as pool:
        for i, y in pool.map(lambda i: (i, infer(server, NAMES[i % 8])), range(64)):
            assert y[0, 3] == 4 * (i % 8 + 1)


@pytest.mark.usefixtures("gpu")
def test_a_model_that_the_device_can_never_hold(start):
    server = start("--device", "gpu", "--memory-limit", "gpu=10000000")
    with pytest.raises(InferenceServerException, match=r"device 'opencl:0' is to give at most 10000000 bytes, \d+ are in use"):
        infer(server, "a")


@pytest.mark.usefixtures("gpu")
def test_the_limit_of_a_device_that_is_not_said(start):
    server = start("--device", "gpu", "--memory-limit", "cpu=300M", "--model-control", "explicit")
    held, limit = device_memory(server)
    assert held == 0 and limit > 300 * MB


@pytest.mark.parametrize("arguments, part", [
    (("--memory-limit", "much"), "size"), (("--memory-limit", "gpu=1G"), "device 'cpu'"),
    (("--device", "cpu,ref", "--memory-limit", "re=1G"), "device 'cpu,ref'"), (("--device-tries", "-1"), "device-tries"),
    (("--device", "cpu", "--memory-limit", "1G,gpu=1G"), "device 'cpu'"), (("--memory-limit", "cpu="), "size"),
    (("--memory-limit", "1M"), "16777216"),
    (("--model-control", "sometimes"), "sometimes"), (("--max-models", "-1"), "max-models")])
def test_wrong_options(folder, arguments, part):
    got = subprocess.run([BINARY, "serve", "--model-repository", folder, "--http-port", "0", "--grpc-port", "0", *arguments],
                         capture_output=True, text=True, timeout=WAIT)
    assert got.returncode in (1, 2) and part in got.stderr
