"""A server that is killed and started again: what was loaded and unloaded by hand is as it was, and a file that the server did not
survive loading is left out after the second time."""

import signal
import time
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import requests
from conftest import Server, add_model, slow_model
from test_repository import WAIT, index, infer, load, state

MARK = "polestar/loading-*.json"


def unload(server, model):
    assert requests.post(f"{server.base}/v2/repository/models/{model}/unload", timeout=WAIT).status_code == 200


@pytest.fixture
def place(tmp_path):
    """A repository of three models, and where servers after one another keep what they know."""
    for amount, name in enumerate("abc", 1):
        add_model(tmp_path / "models" / name / "1/model.onnx", amount)
    return SimpleNamespace(models=tmp_path / "models", cache=SimpleNamespace(name=str(tmp_path / "home")),
                           home=tmp_path / "home")


@pytest.fixture
def start(place):
    started = []

    def make(*arguments):
        started.append(Server("--model-repository", place.models, *arguments, cache=place.cache))
        return started[-1]
    yield make
    for server in started:
        server.stop()


def end(server, how):
    server.process.send_signal(how)
    server.wait_stopped()


def ready(server):
    return {name for (name, _), entry in index(server).items() if entry.get("state") == "READY"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_loaded_by_hand_is_again(start, how):
    server = start("--model-control", "explicit")
    assert ready(server) == set()
    assert load(server, "a").status_code == load(server, "c").status_code == load(server, "b").status_code == 200
    unload(server, "c")
    end(server, how)
    again = start("--model-control", "explicit")
    assert ready(again) == {"a", "b"}
    unload(again, "a")
    unload(again, "b")
    end(again, how)
    assert ready(start("--model-control", "explicit")) == set()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_unloaded_by_hand_stays_so(start, how):
    server = start()
    assert ready(server) == {"a", "b", "c"}
    unload(server, "b")
    end(server, how)
    again = start()
    assert ready(again) == {"a", "c"}
    reply = requests.post(f"{again.base}/v2/models/b/infer", json={"inputs": []}, timeout=WAIT)
    assert reply.status_code == 404 and "not loaded" in reply.json()["error"]
    assert load(again, "b").status_code == 200 and infer(again, "b") == (2, "1")
    end(again, how)
    assert ready(start()) == {"a", "b", "c"}


def test_the_command_line_comes_before_what_was_done_by_hand(place, start):
    server = start("named=" + str(place.models / "a/1/model.onnx"))
    unload(server, "named")
    end(server, signal.SIGKILL)
    assert infer(start("named=" + str(place.models / "a/1/model.onnx")), "named") == (1, "1")


def test_a_damaged_state_is_said_and_nothing_else(place, start):
    server = start()
    unload(server, "b")
    end(server, signal.SIGKILL)
    kept, = place.home.glob("polestar/repository-*.json")
    kept.write_text('{"unloaded":["a", 7')
    again = start()
    again.wait_log("event=state_unread reason=")
    assert infer(again, "c") == (3, "1")
    unload(again, "c")
    assert '"unloaded":["c"]' in kept.read_text()


def crash_while_loading(place, server, times):
    """A request loads the model; the server ends as one that crashes does, in the middle of it."""
    def ask():
        try:
            requests.post(f"{server.base}/v2/models/heavy/infer", json={"inputs": []}, timeout=WAIT)
        except requests.ConnectionError:
            pass
    asking = Thread(target=ask)
    asking.start()
    deadline = time.monotonic() + WAIT
    while not any(f'"times":{times}}}' in mark.read_text() for mark in place.home.glob(MARK)):
        assert time.monotonic() < deadline
    server.process.send_signal(signal.SIGSEGV)
    server.wait_stopped()
    asking.join()
    assert server.process.returncode == -signal.SIGSEGV


def test_a_model_that_ends_the_server_is_left_out_after_two_times(place, start):
    slow_model(place.models / "heavy/1/model.onnx")
    for times in (1, 2):
        server = start("--max-models", 3)  # a, b and c, which come before it
        assert ready(server) == {"a", "b", "c"}
        crash_while_loading(place, server, times)
    server = start("--max-models", 3)
    reply = requests.post(f"{server.base}/v2/models/heavy/infer", json={"inputs": []}, timeout=WAIT)
    assert reply.status_code == 503 and "quarantined: the server ended 2 times" in reply.json()["error"]
    assert "quarantined" in state(server, "heavy")[1] and infer(server, "a") == (1, "1")
    assert load(server, "heavy").status_code == 200, "by hand it gets another try"
    assert state(server, "heavy")[0] == "READY" and not list(place.home.glob(MARK))


def test_another_file_gets_another_try(place, start):
    heavy = place.models / "heavy/1/model.onnx"
    slow_model(heavy)
    for times in (1, 2):
        crash_while_loading(place, start("--max-models", 3), times)
    add_model(Path(str(heavy) + ".new"), 5)
    Path(str(heavy) + ".new").replace(heavy)
    assert infer(start("--max-models", 3), "heavy") == (5, "1")


def test_no_mark_where_nothing_is_to_be_kept(place, start):
    server = start("--cache-size", 0)
    assert ready(server) == {"a", "b", "c"} and not place.home.exists()
