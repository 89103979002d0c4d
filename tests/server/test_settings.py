"""Trace and log settings over tritonclient: what they say, and what then stands in the log."""

import numpy as np
import pytest
import requests
import tritonclient.http as client
from conftest import Server
from tritonclient.utils import InferenceServerException

INITIAL = {"trace_file": "", "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
           "trace_mode": "triton"}
LOG = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}


@pytest.fixture()
def running(models):
    server = Server("--model-repository", models / "repository", "--runners", "1")
    yield server
    assert server.stop()[0] == 0


@pytest.fixture()
def triton(running):
    with client.InferenceServerClient(running.url) as c:
        yield c


def ask(c, model, count, name="x"):
    for i in range(count):
        x = client.InferInput(name, [1, 4], "FP32")
        x.set_data_from_numpy(np.ones((1, 4), np.float32))
        c.infer(model, [x], request_id=f"{model}-{i}")


def traced(running):
    """ids of the traced requests, once the log is whole"""
    code, log = running.stop()
    assert code == 0
    lines = [line for line in log.splitlines() if "event=trace" in line]
    for line in lines:
        assert "queue_us=" in line and "infer_us=" in line and "status=OK" in line, line
    return [line.split(" id=")[1].split()[0] for line in lines]


def test_trace_settings(running, triton):
    assert triton.get_trace_settings() == triton.get_trace_settings("plain") == INITIAL
    ask(triton, "plain", 2)
    got = triton.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "3", "trace_count": 2})
    assert got == {**INITIAL, "trace_level": ["TIMESTAMPS"], "trace_rate": "3", "trace_count": "2"}
    assert triton.get_trace_settings("plain") == got
    ask(triton, "plain", 12)
    assert triton.get_trace_settings()["trace_count"] == "0"
    assert triton.update_trace_settings(settings={"trace_level": None, "trace_rate": None, "trace_count": None}) == INITIAL
    ask(triton, "plain", 5)
    assert traced(running) == ["plain-2", "plain-5"]


def test_trace_settings_of_one_model(running, triton):
    own = triton.update_trace_settings("plain", {"trace_level": "TIMESTAMPS", "trace_rate": 1})
    assert own == {**INITIAL, "trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
    assert triton.get_trace_settings() == triton.get_trace_settings("file") == INITIAL
    ask(triton, "plain", 2)
    ask(triton, "file", 2)
    triton.update_trace_settings(settings={"trace_rate": "7"})
    assert triton.get_trace_settings("plain")["trace_rate"] == "1", "its own"
    assert triton.update_trace_settings("plain", {"trace_level": None, "trace_rate": None})["trace_rate"] == "7"
    ask(triton, "plain", 2)
    assert traced(running) == ["plain-0", "plain-1"]


@pytest.mark.parametrize("settings, part", [
    ({"trace_file": "/tmp/x"}, "log"), ({"trace_level": ["TENSORS"]}, "never logged"), ({"trace_level": ["ALL"]}, "'ALL'"),
    ({"trace_level": 1}, "string"), ({"trace_rate": "0"}, "below 1"), ({"trace_rate": "x"}, "integer"),
    ({"trace_count": -2}, "below -1"),
    ({"trace_mode": "opentelemetry"}, "triton"), ({"log_frequency": "5"}, "log_frequency"), ({"nonsense": 1}, "'nonsense'")])
def test_wrong_trace_settings(triton, settings, part):
    for model in (None, "plain"):
        with pytest.raises(InferenceServerException, match=part) as error:
            triton.update_trace_settings(model, settings)
        assert error.value.status() == "400"
        assert triton.get_trace_settings(model) == INITIAL


def test_unknown_model_and_bodies(running, triton):
    with pytest.raises(InferenceServerException, match="not known") as error:
        triton.get_trace_settings("nothing")
    assert error.value.status() == "404"
    for path in ("/v2/trace/setting", "/v2/logging"):
        for body in (b"", b"[]", b"{", b"{} {}", b'{"trace_level":["OFF"', b'{"log_info":'):
            reply = requests.post(running.base + path, data=body, timeout=10)
            assert reply.status_code == 400 and list(reply.json()) == ["error"], body
        reply = requests.put(running.base + path, timeout=10)
        assert reply.status_code == 405 and reply.headers["Allow"] == "GET, HEAD, POST"


def test_log_settings(running, triton):
    assert triton.get_log_settings() == LOG
    ask(triton, "plain", 1)
    assert triton.update_log_settings({"log_info": False}) == {**LOG, "log_info": False}
    ask(triton, "file", 1)
    with pytest.raises(InferenceServerException):
        triton.load_model("empty")
    triton.update_log_settings({"log_error": False, "log_warning": False, "log_verbose_level": 2})
    with pytest.raises(InferenceServerException):
        triton.load_model("empty")
    assert triton.update_log_settings({"log_info": True, "log_error": True}) == {
        **LOG, "log_warning": False, "log_verbose_level": 2}
    ask(triton, "versioned", 1)
    for settings, part in (({"log_file": "/tmp/x"}, "standard error"), ({"log_format": "ISO8601"}, "default"),
                           ({"log_info": 1}, "true"),
                           ({"log_verbose_level": -1}, "below 0"), ({"log_verbose_level": 10**9}, "above"), ({"x": 1}, "'x'")):
        with pytest.raises(InferenceServerException, match=part):
            triton.update_log_settings(settings)
    _, log = running.stop()
    infers = [line for line in log.splitlines() if "event=request" in line and "/infer" in line]
    requests_ = [line.split(" model=")[1].split()[0] for line in infers]
    assert requests_ == ["plain", "versioned"]
    start = log.index("model=plain id=plain-0")
    assert log.count("event=load_failed model=empty", start) == 1, "the second one was silenced"
