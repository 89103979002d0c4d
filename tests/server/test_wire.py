"""Raw requests: every way to be wrong, and the limits. Every reply that is not 200 is {"error": "one sentence"}."""

import gzip
import json
import socket
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import Server, save, value
from onnx import TensorProto, helper, numpy_helper

INFER = "/v2/models/add%20one/infer"
GOOD = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def post(server, path, data=b"", headers=None):
    return requests.post(server.base + path, data=data, headers=headers or {}, timeout=20)


def check_error(reply, code, part=""):
    assert reply.status_code == code, reply.text
    body = reply.json()
    assert list(body) == ["error"] and part in body["error"] and not body["error"].endswith((".", "\n"))
    assert reply.headers["Content-Type"] == "application/json"


def replace(**members):
    return {"inputs": [{**GOOD["inputs"][0], **members}]}


@pytest.mark.parametrize("method, path, code", [
    ("GET", "/", 404), ("GET", "/v2/", 404), ("GET", "/v3", 404), ("POST", "/v2/models/x/infer/more", 404),
    ("GET", "/v2/models/nothing", 404), ("GET", "/v2/models/nothing/config", 404), ("GET", "/v2/models/nothing/stats", 404),
    ("GET", "/v2/models/nothing/ready", 404), ("GET", "/v2/models/plain/versions/9", 404),
    ("GET", "/v2/models/plain/versions/x", 404), ("GET", "/v2/models/%ff%00", 404), ("GET", "/v2/models/" + "a" * 300, 404),
    ("GET", "/v2/models/..%2f..%2fetc", 404), ("GET", INFER, 405), ("PUT", INFER, 405), ("DELETE", "/v2", 405),
    ("POST", "/v2/health/live", 405), ("GET", "/v2/repository/index", 405), ("GET", "/v2/models/broken", 503),
])
def test_wrong_routes(server, method, path, code):
    reply = requests.request(method, server.base + path, timeout=10)
    check_error(reply, code)
    if code == 405:
        assert reply.headers["Allow"] in ("GET, HEAD", "POST")


@pytest.mark.parametrize("body, part", [
    (b"", "object"), (b"{", "string"), (b"[]", "object"), (b"nonsense", "object"), (b"{} {}", "behind the end"),
    (b"\xff\xfe{}", "object"), (b'{"inputs":[]', "','"), (b"{}", "inputs"), (b'{"inputs":1}', "array"),
    (b'{"inputs":[],"id":"\xff"}', "UTF-8"), (b'{"x":' + b"[" * 5000, "deeper"),
    (b'{"x":' + b'{"x":' * 5000, "deeper"), (b'{"inputs":[' + b"{}," * 3, "name"), (b'{"inputs":[]}', "missing"),
    (json.dumps(replace(name=7)).encode(), "string"), (json.dumps(replace(shape=[4])).encode(), "shape"),
    (json.dumps(replace(shape=[1, -4])).encode(), "negative"), (json.dumps(replace(shape="x")).encode(), "array"),
    (json.dumps(replace(shape=[2**62, 2**62])).encode(), "too many"), (json.dumps(replace(shape=[2**40, 4])).encode(), "fewer"),
    (json.dumps(replace(shape=[1] * 20)).encode(), "dims"), (json.dumps(replace(datatype="FP31")).encode(), "FP31"),
    (json.dumps(replace(data=[1, 2, 3])).encode(), "has 3 elements"), (json.dumps(replace(data=[1] * 5)).encode(), "more elements"),
    (json.dumps(replace(data=[[1, 2], [3, 4]])).encode(), "a row has 2"),
    (json.dumps(replace(data=["a"] * 4)).encode(), "element 0"),
    (json.dumps(replace(data=[1, 2, 3, float("nan")])).encode(), "element 3"), (json.dumps(replace(data=None)).encode(), "array"),
    (json.dumps(replace(parameters={"binary_data_size": 16})).encode(), "both"),
    (json.dumps({"inputs": GOOD["inputs"] * 2}).encode(), "twice"),
    (json.dumps({**GOOD, "outputs": [{"name": "q"}]}).encode(), "no output 'q'"),
    (json.dumps({**GOOD, "outputs": [{"name": "y"}] * 2}).encode(), "twice"),
    (json.dumps({**GOOD, "outputs": [{"name": "y", "parameters": {"classification": "a"}}]}).encode(), "integer"),
    (json.dumps({**GOOD, "outputs": [{"name": "y", "parameters": {"shared_memory_region": "a"}}]}).encode(),
     "no shared_memory_byte_size"),
])
def test_wrong_bodies(server, body, part):
    check_error(post(server, INFER, body), 400, part)


def binary_request(values, size=None, shape=None):
    head = json.dumps({"inputs": [{"name": "x", "shape": shape or list(values.shape), "datatype": "FP32",
                                   "parameters": {"binary_data_size": values.nbytes if size is None else size}}]}).encode()
    return head, head + values.tobytes()


@pytest.mark.parametrize("length", ["-1", "abc", "", "99999999999999999999", "1e3", "100000", "0", "5", "+10", "1 2"])
def test_wrong_header_length(server, length):
    _, body = binary_request(np.ones((1, 4), np.float32))
    check_error(post(server, INFER, body, {"Inference-Header-Content-Length": length}), 400)


@pytest.mark.parametrize("size, shape, part", [(12, None, "take 16 bytes"), (20, None, "only 16 bytes"), (0, None, "take 16"),
                                               (2**62, None, "only 16 bytes"), (-1, None, "negative"), (16, [2, 4], "take 32"),
                                               (16, [2**61, 4], "")])
def test_wrong_binary_sizes(server, size, shape, part):
    head, body = binary_request(np.ones((1, 4), np.float32), size, shape)
    check_error(post(server, INFER, body, {"Inference-Header-Content-Length": str(len(head))}), 400, part)


def test_bytes_behind_the_last_tensor(server):
    head, body = binary_request(np.ones((1, 4), np.float32))
    check_error(post(server, INFER, body + b"x", {"Inference-Header-Content-Length": str(len(head))}), 400, "belong to no input")


def test_header_length_of_pure_json(server):
    body = json.dumps(GOOD).encode()
    reply = post(server, INFER, body, {"Inference-Header-Content-Length": str(len(body))})
    assert reply.status_code == 200 and reply.json()["outputs"][0]["data"] == [2, 3, 4, 5]
    assert "Inference-Header-Content-Length" not in reply.headers


def test_bad_raw_strings(server):
    for raw in (b"", b"\0\0\0", b"\5\0\0\0ab", b"\xff\xff\xff\xffab", b"\0\0\0\0x"):
        head = json.dumps({"inputs": [{"name": "s", "shape": [1], "datatype": "BYTES",
                                       "parameters": {"binary_data_size": len(raw)}}]}).encode()
        check_error(post(server, "/v2/models/text/infer", head + raw, {"Inference-Header-Content-Length": str(len(head))}), 400)


def test_any_content_type_and_none(server):
    body = json.dumps(GOOD)
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"):
        reply = post(server, INFER, body, {"Content-Type": kind} if kind else {})
        assert reply.status_code == 200 and reply.json()["outputs"][0]["data"] == [2, 3, 4, 5]


@pytest.mark.parametrize("coding, pack", [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("GZip", gzip.compress),
                                          ("deflate", zlib.compress), ("identity", bytes)])
def test_compressed_bodies(server, coding, pack):
    head, body = binary_request(np.arange(4, dtype=np.float32).reshape(1, 4))
    for data, headers in ((json.dumps(GOOD).encode(), {}), (body, {"Inference-Header-Content-Length": str(len(head))})):
        reply = post(server, INFER, pack(data), {"Content-Encoding": coding, **headers})
        assert reply.status_code == 200 and reply.json()["outputs"][0]["shape"] == [1, 4], reply.text


def test_wrong_compressed_bodies(server):
    whole = gzip.compress(json.dumps(GOOD).encode())
    for data, part in ((b"\x1f\x8b", "cut off"), (b"", "cut off"), (whole[:-1], "cut off"), (whole[:20], "cut off"),
                       (whole + b"x", "not gzip"), (b"{}", "not gzip"), (whole[:-8] + b"\0" * 8, "not gzip")):
        check_error(post(server, INFER, data, {"Content-Encoding": "gzip"}), 400, part)
    check_error(post(server, INFER, whole, {"Content-Encoding": "deflate"}), 400, "not deflate")
    check_error(post(server, INFER, whole, {"Content-Encoding": "br"}), 415, "gzip, deflate")
    check_error(post(server, INFER, whole, {"Content-Encoding": "gzip, gzip"}), 415)


@pytest.mark.parametrize("accept, coding", [("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"),
                                            ("br, deflate;q=0.5", "deflate"),
                                            ("deflate;q=1.0,gzip;q=0.2", "deflate"), ("gzip;q=0", None), ("br", None),
                                            ("", None), ("identity", None), ("gzip;q=x", None)])
def test_compressed_replies(server, accept, coding):
    values = np.zeros((300, 4), np.float32)
    head, body = binary_request(values)
    for form in (True, False):
        text = json.dumps({**json.loads(head), "parameters": {"binary_data_output": form}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text)), "Accept-Encoding": accept}
        reply = post(server, INFER, text + values.tobytes(), headers)
        assert reply.status_code == 200 and reply.headers.get("Content-Encoding") == coding
        if coding:
            assert int(reply.headers["Content-Length"]) < 1000
            assert reply.headers["Vary"] == "Accept-Encoding"
        if form:
            tail = reply.content[int(reply.headers["Inference-Header-Content-Length"]):]
            assert (np.frombuffer(tail, np.float32) == 1).all() and len(tail) == 4800
        else:
            assert reply.json()["outputs"][0]["data"] == [1] * 1200
    small = post(server, INFER, json.dumps(GOOD), {"Accept-Encoding": accept})
    assert "Content-Encoding" not in small.headers, "not worth it"


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


TRACEPARENTS = {
    f"00-{TRACE}-{PARENT}-01": True, f"00-{TRACE}-{PARENT}-00": True, f"cc-{TRACE}-{PARENT}-01-more": True,
    f"cc-{TRACE}-{PARENT}-01": True, f"00-{TRACE}-{PARENT}-01-more": False, f"ff-{TRACE}-{PARENT}-01": False,
    f"00-{'0' * 32}-{PARENT}-01": False, f"00-{TRACE}-{'0' * 16}-01": False, f"00-{TRACE.upper()}-{PARENT}-01": False,
    f"00-{TRACE}-{PARENT}": False, f"00-{TRACE}": False, "": False, f"00-{TRACE}1-{PARENT}-01": False, "x" * 200: False}


def test_traceparent(models):
    running = Server(models / "add one.onnx")
    for i, (text, valid) in enumerate(TRACEPARENTS.items()):
        reply = post(running, INFER, json.dumps({**GOOD, "id": f"request-{i}"}), {"traceparent": text})
        missing = requests.get(f"{running.base}/v2/models/none-{i}", headers={"traceparent": text}, timeout=10)
        assert (reply.status_code, missing.status_code) == (200, 404)
        assert reply.headers.get("traceparent") == missing.headers.get("traceparent") == (text if valid else None)
    _, log = running.stop()
    lines = log.splitlines()
    for i, (text, valid) in enumerate(TRACEPARENTS.items()):
        found = [line for line in lines if line.partition(" trace=")[0].endswith(f" id=request-{i}") or f"/none-{i} " in line]
        assert [f" trace={TRACE} parent={PARENT}" in line for line in found] == [valid] * 2, (text, found)


def test_repository_bodies(server):
    check_error(post(server, "/v2/repository/index", b"{"), 400)
    check_error(post(server, "/v2/repository/models/plain/load", b"[1]"), 400)
    check_error(post(server, "/v2/repository/models/plain/load", b'{"parameters":{"file:1/model.onnx":"AA=="}}'), 400, "file:1")
    check_error(post(server, "/v2/repository/models/plain/unload", b'{"parameters":{"unload_dependents":"yes"}}'), 400, "true or")
    names = [m["name"] for m in post(server, "/v2/repository/index", b'{"ready":true}').json()]
    assert "plain" in names and "broken" not in names


def test_head_and_health_bodies(server):
    assert requests.get(server.base + "/v2/health/live", timeout=5).json() == {"live": True}
    assert requests.get(server.base + "/v2/health/ready", timeout=5).json() == {"ready": True}
    reply = requests.head(server.base + "/v2", timeout=5)
    assert reply.status_code == 200 and reply.content == b"" and int(reply.headers["Content-Length"]) > 0


# ---- sockets ----


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def read_all(s):
    data = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def request_bytes(body, path=INFER, extra=""):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_pipelined_requests_are_answered_in_order(server):
    bodies = [json.dumps({**GOOD, "id": str(i)}).encode() for i in range(5)]
    with connect(server) as s:
        s.sendall(b"".join(request_bytes(b) for b in bodies[:-1]) + request_bytes(bodies[-1], extra="Connection: close\r\n"))
        data = read_all(s).decode()
    assert [data.find(f'"id":"{i}"') for i in range(5)] == sorted(data.find(f'"id":"{i}"') for i in range(5))
    assert data.count("HTTP/1.1 200") == 5


def test_body_in_small_pieces_and_expect_continue(server):
    body = json.dumps(GOOD).encode()
    with connect(server) as s:
        head = request_bytes(body, extra="Expect: 100-continue\r\nConnection: close\r\n")[:-len(body)]
        s.sendall(head)
        assert s.recv(100).startswith(b"HTTP/1.1 100")
        for i in range(len(body)):
            s.sendall(body[i:i + 1])
        assert b"200 OK" in read_all(s)


def test_chunked_body(server):
    def pieces():
        text = json.dumps(GOOD).encode()
        yield text[:20]
        yield text[20:]

    assert post(server, INFER, pieces()).json()["outputs"][0]["data"] == [2, 3, 4, 5]


@pytest.fixture(scope="module")
def small(models):
    running = Server(models / "add one.onnx", "--max-body", "64KiB")
    yield running
    running.stop()


def test_announced_body_over_the_limit_is_not_read(small):
    with connect(small) as s:
        s.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n".encode())
        head, _, body = read_all(s).partition(b"\r\n\r\n")
    assert b" 413 " in head and "limit" in json.loads(body)["error"]


def test_chunked_body_over_the_limit(small):
    def pieces(n):
        for _ in range(n):
            yield b" " * 4096

    check_error(post(small, INFER, pieces(20)), 413, "limit")
    with pytest.raises(requests.ConnectionError):
        post(small, INFER, pieces(1000))
    assert post(small, INFER, json.dumps(GOOD)).status_code == 200


def test_a_bomb_is_not_unpacked(small):
    check_error(post(small, INFER, gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}), 413, "limit")
    check_error(post(small, INFER, zlib.compress(b" " * (64 * 1024 + 1)), {"Content-Encoding": "deflate"}), 413, "limit")
    body = json.dumps(GOOD).encode()
    packed = gzip.compress(body + b" " * (64 * 1024 - len(body)))
    assert post(small, INFER, packed, {"Content-Encoding": "gzip"}).status_code == 200


def test_body_at_the_limit(small):
    body = json.dumps(GOOD).encode()
    body += b" " * (64 * 1024 - len(body))
    assert post(small, INFER, body).status_code == 200
    check_error(post(small, INFER, body + b" "), 413)


def test_rubbish_and_hangups_do_no_harm(server):
    for data in (b"\0" * 100, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"A" * 70000,
                 b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                 request_bytes(b"{}")[:-1], request_bytes(json.dumps(GOOD).encode()), struct.pack("!HBB", 0x1603, 1, 0)):
        with connect(server) as s:
            try:
                s.sendall(data)
            except OSError:
                pass
    time.sleep(0.1)
    assert post(server, INFER, json.dumps(GOOD)).status_code == 200


def test_many_connections(server):
    held = [connect(server) for _ in range(200)]
    assert post(server, INFER, json.dumps(GOOD)).status_code == 200
    for s in held:
        s.close()


def test_large_bodies_reuse_memory(tmp_path):
    """A photo's worth of floats a request: sums are right whatever lay there before, and pages are not made anew each time."""
    save(tmp_path / "sum.onnx", [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
         [value("x", TensorProto.FLOAT, ["n", "w"])], [value("y", TensorProto.FLOAT, ["n"])],
         [numpy_helper.from_array(np.array([1]), "axes")])
    server = Server(tmp_path / "sum.onnx")

    def ask(width, amount):
        raw = np.full((1, width), amount, np.float32)
        head = json.dumps({"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32",
                                       "parameters": {"binary_data_size": raw.nbytes}}]}).encode()
        reply = connection.post(f"{server.base}/v2/models/sum/infer", data=head + raw.tobytes(), timeout=20,
                                headers={"Inference-Header-Content-Length": str(len(head))})
        assert reply.json()["outputs"][0]["data"] == [width * amount]

    def faults():
        return int(Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[7])
    try:
        with requests.Session() as connection:
            for width in (65536, 100000, 20000, 65536, 300000, 70000):
                ask(width, 3)
            before = faults()
            for i in range(50):
                ask(65536 + i % 3, i)
            each = (faults() - before) / 50
        assert each < 30, f"{each} page faults a request; its body alone has 64 pages"
    finally:
        assert server.stop()[0] == 0
