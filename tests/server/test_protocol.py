"""The protocol as public clients use it: every route and every error as a table, and the very bytes that kserve, mlserver's batch
tool and perf_analyzer send (recorded from kserve 0.21.0, mlserver 1.7.1, perf_analyzer 2.60; tools/check-clients runs them)."""

import gzip
import json
import socket
import struct
import zlib

import numpy as np
import pytest
import requests
from conftest import IDENTITY_TYPES
from test_client import values_of

ADD, SPACED = "/v2/models/plain", "/v2/models/add%20one"
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
EXTENSIONS = {"classification", "sequence", "model_repository", "model_configuration", "schedule_policy", "binary_tensor_data",
              "parameters", "statistics", "trace", "logging"}


def call(server, method, path, data=None, **headers):
    return requests.request(method, server.base + path, data=data, headers=headers, timeout=20)


# ---- routes ----

def is_live(reply):
    assert reply.json() == {"live": True}


def is_ready(reply):
    assert reply.json() == {"ready": True}


def is_empty(reply):
    assert reply.content == b""


def describes_server(reply):
    about = reply.json()
    assert about["name"] == "polestar" and isinstance(about["version"], str) and EXTENSIONS <= set(about["extensions"])


def describes_model(reply):
    about = reply.json()
    assert about["versions"] == ["1"] and about["inputs"][0]["shape"] == [-1, 4] and about["platform"]


def configures(reply):
    config = reply.json()
    assert config["input"][0]["data_type"] == "TYPE_FP32" and isinstance(config["max_batch_size"], int) and config["backend"]
    assert None not in config.values(), "perf_analyzer branches on presence"


def counts(reply):
    for stats in reply.json()["model_stats"]:
        assert isinstance(stats["name"], str) and isinstance(stats["version"], str)
        assert all(isinstance(stats[key], int) for key in ("last_inference", "inference_count", "execution_count"))
        for key in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"):
            assert set(stats["inference_stats"][key]) == {"count", "ns"}
        assert isinstance(stats["batch_stats"], list) and isinstance(stats["memory_usage"], list)
        assert isinstance(stats["response_stats"], dict)


def is_index(reply):
    assert {m["name"] for m in reply.json()} >= {"plain", "add one"} and isinstance(reply.json(), list)


def is_traced(reply):
    settings = reply.json()
    assert isinstance(settings["trace_level"], list) and all(isinstance(settings[k], str) for k in ("trace_rate", "trace_count"))


def is_logged(reply):
    settings = reply.json()
    assert settings["log_info"] is True and isinstance(settings["log_verbose_level"], int)


def is_list(reply):
    assert isinstance(reply.json(), list)


MODEL_ROUTES = [(path + suffix, check) for suffix, check in (("", describes_model), ("/config", configures), ("/stats", counts),
                                                             ("/ready", is_empty))
                for path in (ADD, ADD + "/versions/1", SPACED, SPACED + "/versions/1", "/v2/models/%70l%61in")]
GETS = [("/v2/health/live", is_live), ("/v2/health/ready", is_ready), ("/v2", describes_server), *MODEL_ROUTES,
        ("/v2/models/stats", counts), ("/v2/trace/setting", is_traced), (ADD + "/trace/setting", is_traced),
        ("/v2/logging", is_logged), ("/v2/systemsharedmemory/status", is_list), ("/v2/cudasharedmemory/status", is_list)]
POSTS = [("/v2/repository/index", b"", is_index), ("/v2/repository/index", b"{}", is_index),
         ("/v2/repository/index", b'{"ready":true}', is_index), ("/v2/repository/models/file/load", b"{}", is_empty),
         ("/v2/repository/models/file/load", b"", is_empty),
         ("/v2/repository/models/nothing/unload", b'{"parameters":{"unload_dependents":false}}', is_empty),
         ("/v2/systemsharedmemory/unregister", b"", is_empty), ("/v2/cudasharedmemory/unregister", b"", is_empty),
         ("/v2/systemsharedmemory/region/none/unregister", b"", is_empty), ("/v2/logging", b"{}", is_logged),
         ("/v2/trace/setting", b"{}", is_traced)]


@pytest.mark.parametrize("path, check", GETS, ids=[p for p, _ in GETS])
def test_what_is_asked_for(server, path, check):
    reply = call(server, "GET", path)
    assert reply.status_code == 200, reply.text
    check(reply)


@pytest.mark.parametrize("path, body, check", POSTS)
def test_what_is_told(server, path, body, check):
    reply = call(server, "POST", path, body)
    assert reply.status_code == 200, reply.text
    check(reply)


# ---- errors: all say {"error": …}, because perf_analyzer ends itself without ----

BOTH_METHODS = ("/v2/logging", "/v2/trace/setting", ADD + "/trace/setting")
WRONG_METHODS = [("POST", path) for path, _ in GETS if path not in BOTH_METHODS]
WRONG_METHODS += [("GET", path) for path in sorted({p for p, _, _ in POSTS}) if path not in BOTH_METHODS]
WRONG_METHODS += [("GET", ADD + "/infer"), ("PUT", ADD + "/infer"), ("DELETE", "/v2/logging"), ("PATCH", "/v2/trace/setting")]


@pytest.mark.parametrize("method, path", WRONG_METHODS)
def test_wrong_methods(server, method, path):
    reply = call(server, method, path, b"" if method == "POST" else None)
    assert reply.status_code == 405 and list(reply.json()) == ["error"] and reply.headers["Allow"], reply.text


UNKNOWN = [("GET", "/v2/models/nothing"), ("GET", "/v2/models/nothing/config"), ("GET", "/v2/models/nothing/stats"),
           ("GET", "/v2/models/nothing/ready"), ("GET", "/v2/models/nothing/trace/setting"), ("POST", "/v2/models/nothing/infer"),
           ("GET", ADD + "/versions/2"), ("GET", ADD + "/versions/2/config"), ("POST", ADD + "/versions/2/infer"),
           ("GET", ADD + "/versions/one/ready"), ("POST", "/v2/repository/models/nothing/load"), ("GET", "/v2/nothing"),
           ("GET", ADD + "/nothing"), ("GET", "/metrics/nothing"), ("GET", "/v2/systemsharedmemory/region/none/status"),
           ("GET", "/v2//models"), ("GET", "/V2"), ("GET", "/v2/models/plain%2Fready")]


@pytest.mark.parametrize("method, path", UNKNOWN)
def test_unknown(server, method, path):
    reply = call(server, method, path, json.dumps({"inputs": [X]}) if method == "POST" and "infer" in path else None)
    assert reply.status_code == 404 and list(reply.json()) == ["error"], reply.text


def wrong(**members):
    return {"inputs": [{**X, **members}]}


WRONG_REQUESTS = {
    "input's name": wrong(name="z"), "datatype": wrong(datatype="INT32"), "rank": wrong(shape=[4]), "shape": wrong(shape=[1, 5]),
    "missing input": {"inputs": []}, "no inputs": {}, "unknown output": {"inputs": [X], "outputs": [{"name": "q"}]},
    "too little data": wrong(data=[1]), "too much data": wrong(data=[1] * 9), "no JSON": "{", "a list": [],
    "an id that is no text": {"inputs": [X], "id": 7}, "priority": {"inputs": [X], "parameters": {"priority": -1}},
    "timeout": {"inputs": [X], "parameters": {"timeout": "soon"}},
    "a region that nobody registered": wrong(data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 16}),
}


@pytest.mark.parametrize("what", WRONG_REQUESTS)
def test_wrong_requests(server, what):
    body = WRONG_REQUESTS[what]
    if what.startswith("a region"):
        del body["inputs"][0]["data"]
    reply = call(server, "POST", ADD + "/infer", body if isinstance(body, str) else json.dumps(body))
    assert reply.status_code == 400 and list(reply.json()) == ["error"], reply.text


# ---- infer: forms ----

def raw_tensor(name, array, kind):
    return {"name": name, "shape": list(array.shape), "datatype": kind, "parameters": {"binary_data_size": array.nbytes}}


def infer(server, path, head, tail=b"", pack=bytes, coding=None, **headers):
    text = json.dumps(head).encode()
    headers["Inference-Header-Content-Length"] = str(len(text))  # of the JSON before it is packed
    if coding:
        headers["Content-Encoding"] = coding
    reply = call(server, "POST", path, pack(text + tail), **headers)
    assert reply.status_code == 200, reply.text
    raw = "Inference-Header-Content-Length" in reply.headers
    assert reply.headers["Content-Type"] == ("application/octet-stream" if raw else "application/json")
    size = int(reply.headers["Inference-Header-Content-Length"]) if raw else len(reply.content)
    return json.loads(reply.content[:size]), reply.content[size:]


A, B = np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 3), 5, np.int32)


@pytest.mark.parametrize("raw_a", [True, False])
@pytest.mark.parametrize("raw_b", [True, False])
@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("raw_out", [("sum",), ("difference",), ("sum", "difference"), ()])
def test_raw_and_json_mixed(server, raw_a, raw_b, order, raw_out):
    """Any of the inputs and outputs raw; the tails stand in the order of the inputs, and of the listed outputs."""
    arrays, raw = {"a": A, "b": B}, {"a": raw_a, "b": raw_b}
    inputs = [raw_tensor(n, arrays[n], "INT32") if raw[n] else
              {"name": n, "shape": [2, 3], "datatype": "INT32", "data": arrays[n].tolist()} for n in order]
    outputs = [{"name": n, "parameters": {"binary_data": n in raw_out}} for n in ("difference", "sum")]
    head, tail = infer(server, "/v2/models/pair/infer", {"inputs": inputs, "outputs": outputs},
                       b"".join(arrays[n].tobytes() for n in order if raw[n]))
    expected = {"sum": A + B, "difference": A - B}
    for output in head["outputs"]:
        want = expected[output["name"]]
        if output["name"] in raw_out:
            assert output["parameters"]["binary_data_size"] == want.nbytes and "data" not in output
            assert tail[:want.nbytes] == want.tobytes()
            tail = tail[want.nbytes:]
        else:
            assert output["data"] == want.ravel().tolist()
    assert tail == b"" and [o["name"] for o in head["outputs"]] == ["difference", "sum"]


@pytest.mark.parametrize("coding, pack", [(None, bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_raw_bodies(server, coding, pack):
    head, tail = infer(server, "/v2/models/pair/infer", {
        "inputs": [raw_tensor("a", A, "INT32"), raw_tensor("b", B, "INT32")], "outputs": [{"name": "sum"}],
        "parameters": {"binary_data_output": True}}, A.tobytes() + B.tobytes(), pack, coding)
    assert tail == (A + B).tobytes() and head["outputs"][0]["shape"] == [2, 3]


def pack_texts(texts):
    return b"".join(struct.pack("<I", len(t)) + t for t in texts)


@pytest.mark.parametrize("texts", [["ab", "cé"], ["", "\n\"\\"], ["\u20ac" * 300, "\U0001f600"], []])
@pytest.mark.parametrize("raw_in", [True, False])
@pytest.mark.parametrize("raw_out", [True, False])
def test_texts(server, texts, raw_in, raw_out):
    packed = pack_texts([t.encode() for t in texts])
    tensor = {"name": "s", "shape": [len(texts)], "datatype": "BYTES"}
    tensor.update({"parameters": {"binary_data_size": len(packed)}} if raw_in else {"data": texts})
    head, tail = infer(server, "/v2/models/text/infer", {"inputs": [tensor], "parameters": {"binary_data_output": raw_out}},
                       packed if raw_in else b"")
    if raw_out:
        assert tail == packed and head["outputs"][0]["parameters"]["binary_data_size"] == len(packed)
    else:
        assert head["outputs"][0]["data"] == texts


def test_bytes_that_are_no_text_pass_raw_only(server):
    packed = pack_texts([b"\xff\x00\xfe"])
    tensor = {"name": "s", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(packed)}}
    raw = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    assert infer(server, "/v2/models/text/infer", raw, packed)[1] == packed
    text = json.dumps({"inputs": [tensor]}).encode()
    reply = call(server, "POST", "/v2/models/text/infer", text + packed, **{"Inference-Header-Content-Length": str(len(text))})
    assert reply.status_code == 400 and "UTF-8" in reply.json()["error"]


def test_any_byte_but_zero_is_true(server):
    """perf_analyzer fills a BOOL with random bytes."""
    truth = np.array([0, 1, 2, 255], np.uint8)
    inputs = [raw_tensor(f"in_{kind}", truth if kind == "BOOL" else values_of(kind), kind) for kind in IDENTITY_TYPES]
    data = b"".join((truth if kind == "BOOL" else values_of(kind)).tobytes() for kind in IDENTITY_TYPES)
    wanted = {"inputs": inputs, "outputs": [{"name": "out_BOOL", "parameters": {"binary_data": True}}]}
    assert infer(server, "/v2/models/types/infer", wanted, data)[1] == b"\0\1\1\1"


@pytest.mark.parametrize("identity, echoed", [("7", "7"), ("", None), (None, None), ("ü\n", "ü\n")])
def test_ids(server, identity, echoed):
    body = {"inputs": [X]} if identity is None else {"id": identity, "inputs": [X]}
    reply = call(server, "POST", ADD + "/infer", json.dumps(body)).json()
    assert reply.get("id") == echoed and ("id" in reply) == (echoed is not None)
    assert reply["model_name"] == "plain" and reply["model_version"] == "1"


# ---- the bytes of real clients ----

HTTPX = "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n"
CURL = "User-Agent: libcurl-agent/1.0\r\nAccept: */*\r\n"
FOUR = np.arange(4, dtype="<f4").tobytes()
KSERVE_RAW = (b'{"id":"08d4febd-216a-4acf-8e4a-99de02b534c9","model_name":"plain","inputs":[{"name":"x","shape":[1,4],'
              b'"datatype":"FP32","parameters":{"binary_data_size":16}}]}')
KSERVE_JSON = (b'{"id":"988b6697-5b9e-4481-9fbb-8133374bb770","model_name":"plain","inputs":[{"name":"x","shape":[1,4],'
               b'"datatype":"FP32","data":[0.0,1.0,2.0,3.0]}]}')
MLSERVER = (b'{"id":"05c3292c-e867-4655-bc10-bd9d1555221e","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32",'
            b'"data":[0.0,1.0,2.0,3.0]}],"parameters":{"binary_data_output":true}}')
PA_JSON = (b'{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[0.0,1.0,2.0,3.0]}],'
           b'"outputs":[{"name":"y","parameters":{"binary_data":false}}]}')
PA_RAW = (b'{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}],'
          b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}')
RECORDED = {  # headers behind Host, the body in the pieces that the client sends, and whether the answer is raw
    "kserve raw": (HTTPX + f"inference-header-content-length: {len(KSERVE_RAW)}\r\ncontent-type: application/octet-stream\r\n",
                   [KSERVE_RAW + FOUR], False),
    "kserve JSON": (HTTPX + "content-type: application/json\r\n", [KSERVE_JSON], False),
    "mlserver": ("content-type: application/json\r\nseldon-puid: 05c3\r\nx-request-id: 05c3\r\nAccept: */*\r\n"
                 "Accept-Encoding: gzip, deflate, br\r\nUser-Agent: Python/3.11 aiohttp/3.14.5\r\n", [MLSERVER], True),
    "perf_analyzer JSON": (CURL + f"Inference-Header-Content-Length: {len(PA_JSON)}\r\nContent-Type: application/json\r\n",
                           [PA_JSON], False),
    "perf_analyzer raw": (CURL + f"Inference-Header-Content-Length: {len(PA_RAW)}\r\nContent-Type: application/octet-stream\r\n",
                          [PA_RAW, FOUR], True),
}


@pytest.mark.parametrize("client", RECORDED)
def test_recorded_requests(server, client):
    """Twice on one connection, headers and body in packets of their own."""
    headers, pieces, raw = RECORDED[client]
    size = sum(map(len, pieces))
    start = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {size}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for piece in (start, *pieces):
                s.sendall(piece)
            head, body = read_reply(s)
            assert head.startswith(b"HTTP/1.1 200 "), (head, body)
            expected = np.arange(3, 7, dtype="<f4")  # the model adds 3
            if raw:
                assert body.endswith(expected.tobytes())
            else:
                assert json.loads(body)["outputs"][0]["data"] == expected.tolist()


def read_reply(s):
    data = b""
    while b"\r\n\r\n" not in data:
        data += s.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < size:
        body += s.recv(65536)
    return head, body


def test_the_order_in_which_perf_analyzer_asks(server):
    """Metadata, configuration, server, statistics, requests, statistics: and the counters move by what was sent."""
    with requests.Session() as session:
        for path, check in ((ADD, describes_model), (ADD + "/config", configures), ("/v2", describes_server)):
            check(session.get(server.base + path, timeout=20))
        before = session.get(server.base + ADD + "/stats", timeout=20).json()["model_stats"][0]
        for _ in range(5):
            reply = session.post(server.base + ADD + "/infer", data=PA_JSON, timeout=20,
                                 headers={"Inference-Header-Content-Length": str(len(PA_JSON))})
            assert reply.status_code == 200 and "id" not in reply.json()
        after = session.get(server.base + ADD + "/stats", timeout=20).json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 5 == after["execution_count"] - before["execution_count"]
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
