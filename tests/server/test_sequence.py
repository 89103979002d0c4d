"""The sequence extension (states kept in the server), and timeout. The oracle is a sum carried by hand, and for a real
model the probabilities that ONNX Runtime gave with its state carried by hand."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.http as client
from conftest import TOP, Server, save, slow_model, value
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

MODELS = Path(os.environ.get("POLESTAR_MODELS", TOP / "../shared/models"))
SILERO = next((p for p in (MODELS / "silero-vad", Path("/work/shared/models/silero-vad")) if p.exists()), None)


def running_sum(path, dims):
    """next = total + x, y = 2 * next"""
    nodes = [helper.make_node("Add", ["x", "total"], ["next"]),
             helper.make_node("Add", ["next", "next"], ["y"])]
    f32 = TensorProto.FLOAT
    return save(path, nodes, [value("x", f32, dims), value("total", f32, dims)],
                [value("y", f32, dims), value("next", f32, dims)])


def state_file(path, **members):
    path.with_suffix("").with_suffix(".state.json").write_text(json.dumps(members))


PAIR = {"input": "total", "output": "next"}


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sums")
    state_file(running_sum(folder / "sum.onnx", [2]), states=[PAIR], idle_seconds=60, max_sequences=4)
    state_file(running_sum(folder / "open/1/model.onnx", ["n"]), states=[{**PAIR, "shape": [2]}])
    state_file(running_sum(folder / "short.onnx", [2]), states=[PAIR], idle_seconds=1)
    running_sum(folder / "plain.onnx", [2])
    for name, members in {"typo": {"states": [PAIR], "idle": 1}, "none": {"states": []},
                          "unknown": {"states": [{**PAIR, "output": "z"}]},
                          "twice": {"states": [PAIR, PAIR]}, "half": {"states": [{"input": "total"}]},
                          "never": {"states": [PAIR], "idle_seconds": 0}, "shaped": {"states": [{**PAIR, "shape": [3]}]}}.items():
        state_file(running_sum(folder / f"{name}.onnx", [2]), **members)
    state_file(running_sum(folder / "shapeless.onnx", ["n"]), states=[PAIR])
    running = Server("--model-repository", folder)
    yield running
    code, log = running.stop()
    assert code == 0, log


@pytest.fixture()
def triton(sums):
    with client.InferenceServerClient(sums.url) as c:
        yield c


def tensor(name, array):
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def ask(c, number, sequence=0, start=False, end=False, model="sum", **options):
    inputs = [tensor("x", np.array([number, -number], np.float32))]
    reply = c.infer(model, inputs, sequence_id=sequence, sequence_start=start, sequence_end=end, **options)
    return reply.as_numpy("y")[0] / 2


def refused(code, part, *arguments, **options):
    with pytest.raises(InferenceServerException) as error:
        ask(*arguments, **options)
    assert error.value.status() == code and part in error.value.message(), error.value


def test_state_is_kept_until_the_end(triton):
    for model in ("sum", "open"):
        for sequence in (7, "seven", 2**64 - 1):
            assert ask(triton, 1, sequence, start=True, model=model) == 1
            assert ask(triton, 2, sequence, model=model) == 3
            assert ask(triton, 4, sequence, end=True, model=model) == 7
            refused("400", "not in progress", triton, 1, sequence, model=model)


def test_numbers_and_texts_are_different_ids(triton):
    assert ask(triton, 1, 5, start=True) == 1
    assert ask(triton, 10, "5", start=True) == 10
    assert ask(triton, 1, 5, end=True) == 2 and ask(triton, 1, "5", end=True) == 11


def test_start_again_forgets(triton):
    assert ask(triton, 1, 9, start=True) == 1
    assert ask(triton, 5, 9, start=True) == 5
    assert ask(triton, 1, 9, end=True) == 6
    assert ask(triton, 3, 9, start=True, end=True) == 3
    refused("400", "'9' is not in progress", triton, 1, 9)


def test_a_failed_request_changes_nothing(triton):
    assert ask(triton, 1, 11, start=True) == 1
    with pytest.raises(InferenceServerException):
        triton.infer("sum", [tensor("x", np.ones(3, np.float32))], sequence_id=11)
    with pytest.raises(InferenceServerException):
        triton.infer("open", [tensor("x", np.ones(3, np.float32))], sequence_id=11, sequence_start=True)
    refused("400", "not in progress", triton, 1, 11, model="open")
    assert ask(triton, 1, 11, end=True) == 2


def test_a_state_of_the_request_wins(triton):
    x, total = np.ones(2, np.float32), np.full(2, 100, np.float32)
    reply = triton.infer("sum", [tensor("x", x), tensor("total", total)], sequence_id=12, sequence_start=True)
    assert reply.as_numpy("next").tolist() == [101, 101]
    assert ask(triton, 1, 12, end=True) == 102
    with pytest.raises(InferenceServerException, match="'total' is missing"):
        triton.infer("sum", [tensor("x", x)])


def test_limits(triton):
    for i in range(1, 5):
        ask(triton, 1, f"full{i}", start=True)
    refused("503", "4 sequences in progress", triton, 1, "full5", start=True)
    for i in range(1, 5):
        assert ask(triton, 1, f"full{i}", end=True) == 2
    ask(triton, 1, "full5", start=True, end=True)
    refused("400", "longer than 128 bytes", triton, 1, "x" * 129, start=True)
    ask(triton, 1, "x" * 128, start=True, end=True)


def test_idle_sequences_end(triton):
    assert ask(triton, 1, 1, start=True, model="short") == 1
    assert ask(triton, 1, 1, model="short") == 2
    time.sleep(1.3)
    refused("400", "idle for too long", triton, 1, 1, model="short")


def test_models_without_state(triton):
    refused("400", "keeps no state", triton, 1, 3, start=True, model="plain")
    assert "sequence_batching" not in triton.get_model_config("plain")
    assert triton.get_model_config("sum")["sequence_batching"] == {
        "max_sequence_idle_microseconds": 60000000,
        "state": [{"input_name": "total", "output_name": "next", "data_type": "TYPE_FP32", "dims": [2]}]}
    assert "sequence" in triton.get_server_metadata()["extensions"]


def test_wrong_state_files_are_the_reason(triton):
    reasons = {m["name"]: m.get("reason", "") for m in triton.get_model_repository_index()}
    for name, part in (("typo", "no key 'idle'"), ("none", "names no state"), ("unknown", "no output 'z'"),
                       ("twice", "two states"), ("half", "no \"output\""), ("never", "idle_seconds is 0"),
                       ("shaped", "3 in dim 0"), ("shapeless", "dim 0 open")):
        assert part in reasons[name] and ".state.json" in reasons[name], (name, reasons[name])


@pytest.mark.parametrize("parameters", [{"sequence_id": -1}, {"sequence_id": 1.5}, {"sequence_id": None}, {"sequence_id": 2**64},
                                        {"sequence_start": 1}, {"priority": -1}, {"priority": 2**32}, {"timeout": "x"},
                                        {"timeout": 2**63}])
def test_wrong_parameters(sums, parameters):
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}], "parameters": parameters}
    reply = requests.post(f"{sums.base}/v2/models/sum/infer", json=body, timeout=10)
    assert reply.status_code == 400 and list(reply.json()) == ["error"]


def test_many_sequences_at_once(sums):
    def work(seed):
        with client.InferenceServerClient(sums.url) as c:
            numbers = np.random.default_rng(seed).integers(0, 1000, 30)
            got = [ask(c, n, 1000 + seed, start=i == 0, end=i == 29, model="open") for i, n in enumerate(numbers)]
            assert got == np.cumsum(numbers).tolist()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))


def test_requests_of_one_sequence_at_once_are_all_counted(sums):
    def work(_):
        with client.InferenceServerClient(sums.url) as c:
            return ask(c, 1, 77, model="open")

    with client.InferenceServerClient(sums.url) as c, ThreadPoolExecutor(16) as pool:
        ask(c, 1, 77, start=True, model="open")
        assert sorted(pool.map(work, range(100))) == list(range(2, 102))
        assert ask(c, 1, 77, end=True, model="open") == 102


def test_unload_ends_sequences(sums):
    with client.InferenceServerClient(sums.url) as c:
        ask(c, 1, 31, start=True, model="short")
        c.load_model("short")
        refused("400", "not in progress", c, 1, 31, model="short")


def test_timeout(tmp_path):
    slow_model(tmp_path / "slow.onnx", layers=20)
    running = Server("--model-repository", tmp_path)
    x = tensor("x", np.ones((256, 1024), np.float32))
    with client.InferenceServerClient(running.url, network_timeout=60) as c:
        with pytest.raises(InferenceServerException) as error:
            c.infer("slow", [x], timeout=1000)
        assert error.value.status() == "504"
        failed = c.get_inference_statistics("slow")["model_stats"][0]["inference_stats"]["fail"]["count"]
        assert failed == 1
        assert c.infer("slow", [x], timeout=600_000_000, priority=1).as_numpy("y").shape == (256, 1024)
    assert running.stop()[0] == 0


@pytest.mark.skipif(SILERO is None, reason="silero-vad is not in $POLESTAR_MODELS")
def test_voice_activity_stream(tmp_path):
    (tmp_path / "vad").mkdir()
    (tmp_path / "vad/model.onnx").symlink_to(SILERO / "model.onnx")
    state_file(tmp_path / "vad/model.onnx", states=[{"input": "state", "output": "stateN", "shape": [2, 1, 128]}])
    running = Server("--model-repository", tmp_path)
    known = json.loads((SILERO / "stream_probs.json").read_text())
    audio = np.fromfile(SILERO / "speechlike16k.f32", np.float32)
    context, got = np.zeros(known["context"], np.float32), []
    with client.InferenceServerClient(running.url) as c:
        for i in range(len(known["probs"])):
            chunk = audio[i * known["chunk"]:(i + 1) * known["chunk"]]
            chunk = np.pad(chunk, (0, known["chunk"] - len(chunk)))
            whole = np.concatenate([context, chunk])
            context = whole[-known["context"]:]
            reply = c.infer("vad", [tensor("input", whole[None]), tensor("sr", np.array(known["sr"], np.int64))],
                            outputs=[client.InferRequestedOutput("output")], sequence_id="call", sequence_start=i == 0,
                            sequence_end=i + 1 == len(known["probs"]))
            got.append(float(reply.as_numpy("output")[0, 0]))
    assert running.stop()[0] == 0
    # the model's README gives 10 x 4.77e-07 of outputs up to 9.29; the state carries differences over the whole stream
    np.testing.assert_allclose(got, known["probs"], atol=2e-5)
