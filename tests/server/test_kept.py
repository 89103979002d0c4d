"""Evicted models come back from the cache on disk, and only from an entry that is theirs."""

import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import Server
from test_memory_limit import big_model, infer
from test_repository import WAIT, load

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def cache():
    with tempfile.TemporaryDirectory() as folder:
        yield type("Cache", (), {"name": folder})


@pytest.fixture
def start(tmp_path, cache):
    started = []

    def make(*arguments):
        started.append(Server("--model-repository", tmp_path, *arguments, cache=cache))
        return started[-1]
    yield make
    for server in started:
        code, log = server.wait_stopped() if server.process.poll() is not None else server.stop()
        assert code in (0, -signal.SIGKILL), log


@pytest.fixture
def models(tmp_path):
    for i, name in enumerate("ab"):
        big_model(tmp_path / name / "1/model.onnx", i + 1, 4)
    return tmp_path


def loads(server, model, count):
    """Of each load of the model, its max_batch and where it was read from; lines of the log may come after the reply."""
    return server.wait_log(rf"event=load model={model} .*max_batch=(\d+) .*from=(\w+)", count)


def sources(server, model, count):
    return [where for _, where in loads(server, model, count)]


def entries(cache):
    return sorted(Path(cache.name, "polestar").glob("*.psc"))


def ask_in_turn(server, rounds=2):
    for _ in range(rounds):
        for i, name in enumerate("ab"):
            np.testing.assert_array_equal(infer(server, name), X * (i + 1))


def test_comes_back_from_the_cache(models, start, cache):
    server = start("--max-models", 1)
    ask_in_turn(server)
    got = loads(server, "a", 2) + loads(server, "b", 2)
    assert sources(server, "a", 2) == sources(server, "b", 2) == ["file", "cache"]
    assert len({batch for batch, _ in got}) == 1 and got[0][0] != "1", "the trial of batching is remembered"
    assert all(e.stat().st_mode & 0o777 == 0o600 for e in entries(cache))
    assert Path(cache.name, "polestar").stat().st_mode & 0o777 == 0o700


def test_a_server_that_was_killed(models, start):
    server = start("--max-models", 1)
    ask_in_turn(server)
    server.process.kill()
    server.wait_stopped()
    server = start("--max-models", 1)
    ask_in_turn(server)
    assert set(sources(server, "a", 2) + sources(server, "b", 1)) == {"cache"}


def test_another_file_of_the_same_name(models, start, tmp_path):
    server = start("--max-models", 1)
    ask_in_turn(server)
    big_model(tmp_path / "new/model.onnx", 7, 4)
    shutil.move(tmp_path / "new/model.onnx", models / "a/1/model.onnx")
    (tmp_path / "new").rmdir()
    assert load(server, "a").status_code == 200
    np.testing.assert_array_equal(infer(server, "a"), X * 7)
    infer(server, "b")
    np.testing.assert_array_equal(infer(server, "a"), X * 7)
    assert sources(server, "a", 4) == ["file", "cache", "file", "cache"]


def test_damaged_entries(models, start, cache):
    server = start("--max-models", 1)
    ask_in_turn(server)
    for i, entry in enumerate(e for e in entries(cache) if e.stat().st_size > 1 << 20):
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 1
        entry.write_bytes(data[:-5] if i else data)
    ask_in_turn(server, 1)
    assert sources(server, "a", 3) == ["file", "cache", "file"]
    ask_in_turn(server, 2)
    assert sources(server, "a", 5)[3:] == ["cache", "cache"], "it was written anew"


def test_off(models, start, cache):
    server = start("--max-models", 1, "--cache-size", 0)
    ask_in_turn(server)
    assert set(sources(server, "a", 2) + sources(server, "b", 2)) == {"file"}
    assert not entries(cache)


def test_a_size(models, start, cache):
    """One of the two fits."""
    server = start("--max-models", 1, "--cache-size", "6M")
    ask_in_turn(server, 3)
    assert sum(e.stat().st_size for e in entries(cache)) <= 6 << 20
    assert set(sources(server, "a", 3) + sources(server, "b", 3)) == {"file"}, "each makes the other go"


def test_memory_is_counted(models, start):
    server = start("--max-models", 1)
    ask_in_turn(server)
    sizes = [int(n) for n in server.wait_log(r"event=load model=a .*bytes=(\d+)", 2)]
    stats = requests.get(server.base + "/v2/models/stats", timeout=WAIT).json()["model_stats"]
    said = sum(s["memory_usage"][0]["byte_size"] for s in stats)  # the one that is gone holds nothing
    assert len(sizes) == 2 and abs(sizes[1] - sizes[0]) < sizes[0] / 10 and said > 4 << 20
