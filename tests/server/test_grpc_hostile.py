"""Clients that are none: frames of HTTP/2 by hand. Whatever they do, the server's memory is bounded and others are answered."""

import socket
import struct
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
from conftest import Server

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
ACK, END_HEADERS, END_STREAM = 1, 4, 1
WINDOW_AT_START = 65535
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    """A literal that no table remembers (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Connection:
    """One connection that keeps to flow control, so that what it sends is the server's to refuse."""

    def __init__(self, address):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self.window = {0: WINDOW_AT_START}
        self.initial = WINDOW_AT_START
        self.received, self.reset, self.closed = b"", {}, False

    def call(self, stream, path=b"/inference.GRPCInferenceService/ModelInfer", more=b""):
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
                  (b"content-type", b"application/grpc"), (b"te", b"trailers")]
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, b"".join(header(*f) for f in fields) + more))
        self.window[stream] = self.initial

    def take(self, kind, flags, stream, payload):
        if kind == WINDOW:
            self.window[stream] = self.window.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[at:at + 6])
                if key == 4:
                    self.window = {s: w + (value - self.initial if s else 0) for s, w in self.window.items()}
                    self.initial = value
            self.socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == RESET:
            self.reset[stream] = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.closed = True

    def read(self, seconds):
        """Takes what is there; False: nothing came."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self.closed |= not data
        self.received += data
        while len(self.received) >= 9:
            size = int.from_bytes(self.received[:3], "big")
            if len(self.received) < 9 + size:
                break
            stream = int.from_bytes(self.received[5:9], "big")
            self.take(self.received[3], self.received[4], stream, self.received[9:9 + size])
            self.received = self.received[9 + size:]
        return bool(data)

    def send(self, stream, data):
        """As far as the server allows; the bytes sent."""
        sent = 0
        while sent < len(data) and not self.closed and stream not in self.reset:
            n = min(16384, len(data) - sent, self.window[0], self.window[stream])
            if n <= 0:
                if not self.read(2):
                    break
                continue
            try:
                self.socket.sendall(frame(DATA, 0, stream, data[sent:sent + n]))
            except OSError:
                self.closed = True
                break
            self.window[0] -= n
            self.window[stream] -= n
            sent += n
        return sent


@pytest.fixture(scope="module")
def running(models):
    server = Server(models / "pair.onnx", "--max-body", "1M", "--client-seconds", "2")
    yield server
    code, log = server.stop()
    assert code == 0, log


def still_serves(server):
    a = np.array([[1]], np.int32)
    x = [client.InferInput(n, [1, 1], "INT32") for n in "ab"]
    for one in x:
        one.set_data_from_numpy(a)
    with client.InferenceServerClient(server.grpc) as c:
        assert c.infer("pair", x, client_timeout=30).as_numpy("sum").tolist() == [[2]]


def test_a_message_without_end(running):
    """4 GB are announced. grpc core looks at the limit only when a message is whole: its quota must end this before."""
    before = running.memory_kb()
    one = Connection(running.grpc)
    one.call(1)
    block, sent, most = bytes(1 << 20), one.send(1, b"\0\xff\xff\xff\xff"), 0
    for _ in range(600):
        got = one.send(1, block)
        sent += got
        most = max(most, running.memory_kb())
        if got < len(block):
            break
    assert sent < 400 << 20 and most - before < 500_000, (sent, most)
    one.socket.close()
    still_serves(running)


def test_many_streams_that_say_nothing(running):
    one = Connection(running.grpc)
    one.read(1)
    for i in range(1200):
        one.call(2 * i + 1)
    for _ in range(50):
        one.read(0.02)
    assert one.reset or one.closed, "no limit on the calls of a connection"
    still_serves(running)
    one.socket.close()
    still_serves(running)


def test_headers_without_end(running):
    before = running.memory_kb()
    one = Connection(running.grpc)
    one.call(1, more=b"".join(header(b"x-%05d" % i, b"v" * 100) for i in range(120)))  # one frame of 16 KiB
    rows = b"".join(header(b"y-%05d" % i, b"v" * 100) for i in range(120))
    try:
        one.socket.sendall(frame(HEADERS, 0, 3, header(b":method", b"POST")))
        for _ in range(200):
            one.socket.sendall(frame(9, 0, 3, rows))  # CONTINUATION
            one.read(0.001)
            if one.closed or 3 in one.reset:
                break
    except OSError:
        pass
    one.socket.close()
    assert running.memory_kb() - before < 50_000
    still_serves(running)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 1000, PREFACE + b"\xff" * 100,
                                  PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 5, b"x"), b""],
                         ids=["http1", "zeros", "no frames", "no stream", "nothing"])
def test_what_is_no_http2(running, data):
    host, port = running.grpc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(data)
        start = time.monotonic()
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
        assert time.monotonic() - start < 15, "the connection stays open"
    still_serves(running)


def test_a_message_that_stops_halfway(running):
    one = Connection(running.grpc)
    one.call(1)
    one.send(1, b"\0" + struct.pack(">I", 1000) + bytes(500))
    still_serves(running)
    one.socket.close()
    two = Connection(running.grpc)
    two.call(1)
    two.send(1, b"\2" + struct.pack(">I", 10) + bytes(10))  # a flag that is none
    two.socket.sendall(frame(DATA, END_STREAM, 1))
    while two.read(0.5):
        pass
    two.socket.close()
    still_serves(running)


def test_many_connections(running):
    """Idle ones cost little and hold nobody up."""
    before = running.memory_kb()
    connections = [Connection(running.grpc) for _ in range(300)]
    still_serves(running)
    assert (running.memory_kb() - before) / len(connections) < 200
    for one in connections:
        one.socket.close()
    still_serves(running)


def test_clients_that_reset_their_calls(running):
    one = Connection(running.grpc)
    one.read(1)
    for i in range(3000):
        if one.closed:
            break
        one.call(2 * i + 1)
        one.socket.sendall(frame(RESET, 0, 2 * i + 1, struct.pack(">I", 8)))
        if i % 50 == 0:
            one.read(0.001)
    still_serves(running)
    one.socket.close()


def test_answers_that_nobody_reads(running):
    """Flow control stops the replies; the call ends with the connection."""
    with grpc.insecure_channel(running.grpc) as channel:
        check = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
        assert check(b"")
    one = Connection(running.grpc)
    for i in range(100):
        one.call(2 * i + 1, b"/inference.GRPCInferenceService/ServerMetadata")
        one.socket.sendall(frame(DATA, END_STREAM, 2 * i + 1, b"\0\0\0\0\0"))
    still_serves(running)
    one.socket.close()
