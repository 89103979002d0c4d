"""ModelStreamInfer: many requests on one stream, sequences among them, failures that leave it alive, its end; and what
SIGTERM does to gRPC."""

import json
import queue
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
from conftest import Server, slow_model
from test_sequence import PAIR, SILERO, running_sum, state_file
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

WAIT = 30


def tensor(name, array):
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    state_file(running_sum(folder / "sum.onnx", [2]), states=[PAIR], idle_seconds=60, max_sequences=4)
    slow_model(folder / "slow.onnx", layers=20)
    server = Server("--model-repository", folder, "--runners", "4")
    yield server
    code, log = server.stop()
    assert code == 0, log


@pytest.fixture()
def stream(running):
    """(client, queue of (result, error))"""
    replies = queue.Queue()
    with client.InferenceServerClient(running.grpc) as c:
        c.start_stream(lambda result, error: replies.put((result, error)))
        yield c, replies
        c.stop_stream()


def send(c, number, sequence=0, start=False, end=False, **options):
    x = np.array([number, -number], np.float32)
    inputs = [tensor("x", x)]
    if not sequence:
        inputs.append(tensor("total", np.zeros(2, np.float32)))
    c.async_stream_infer("sum", inputs, sequence_id=sequence, sequence_start=start, sequence_end=end, **options)


def value_of(reply):
    result, error = reply
    assert error is None, error
    return result.as_numpy("y")[0] / 2


def test_several_threads(tmp_path):
    """Streams with sequences beside single calls, some of them given up."""
    state_file(running_sum(tmp_path / "sum.onnx", [2]), states=[PAIR], max_sequences=64)
    server = Server("--model-repository", tmp_path, "--grpc-threads", 4, "--runners", 3)
    address = server.grpc

    def stream_of(seed):
        replies = queue.Queue()
        with client.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as c:
            c.start_stream(lambda result, error: replies.put((result, error)))
            for i in range(60):
                send(c, i, 100 + seed, start=i == 0, end=i == 59)
            got = [value_of(replies.get(timeout=WAIT)) for _ in range(60)]
            c.stop_stream(cancel_requests=seed % 2 == 1)
        return got == [i * (i + 1) / 2 for i in range(60)]

    def single(seed):
        x = [tensor("x", np.full(2, seed, np.float32)), tensor("total", np.ones(2, np.float32))]
        with client.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as c:
            for _ in range(30):
                c.async_infer("sum", x, lambda result, error: None).cancel()
                if c.infer("sum", x).as_numpy("next").tolist() != [seed + 1] * 2:
                    return False
        return True

    with ThreadPoolExecutor(16) as pool:
        work = [pool.submit(stream_of if i % 2 else single, i) for i in range(32)]
        assert all(w.result(timeout=120) for w in work)
    code, log = server.stop()
    assert code == 0, log


def test_replies_come_in_the_order_of_the_requests(stream):
    c, replies = stream
    for i in range(500):
        send(c, i, request_id=str(i))
    for i in range(500):
        reply = replies.get(timeout=WAIT)
        assert value_of(reply) == i and reply[0].get_response().id == str(i)


def test_sequences_on_one_stream(stream):
    c, replies = stream
    expected = []
    for i in range(100):
        for sequence in (11, "twelve"):
            send(c, i, sequence, start=i == 0, end=i == 99)
            expected.append(i * (i + 1) / 2)
    assert [value_of(replies.get(timeout=WAIT)) for _ in expected] == expected


def test_failures_leave_the_stream_alive(stream):
    c, replies = stream
    send(c, 1)
    c.async_stream_infer("nope", [tensor("x", np.zeros(2, np.float32))])
    c.async_stream_infer("sum", [tensor("x", np.zeros(3, np.float32))], request_id="bad")
    send(c, 5, 99)
    send(c, 2)
    assert value_of(replies.get(timeout=WAIT)) == 1
    for part in ("'nope' is not known", "has shape [2]", "not in progress"):
        result, error = replies.get(timeout=WAIT)
        assert result is None and part in error.message()
    assert value_of(replies.get(timeout=WAIT)) == 2


def test_final_response(stream):
    c, replies = stream
    send(c, 1, enable_empty_final_response=True)
    result, _ = replies.get(timeout=WAIT)
    assert result.get_response().parameters["triton_final_response"].bool_param is True


def test_half_close_drains(running):
    def ask():
        for i in range(20):
            made = pb.ModelInferRequest(model_name="slow", id=str(i))
            made.inputs.add(name="x", datatype="FP32", shape=[16, 1024])
            made.raw_input_contents.append(np.ones((16, 1024), np.float32).tobytes())
            yield made

    with grpc.insecure_channel(running.grpc) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(ask(), timeout=WAIT)
        assert [r.infer_response.id for r in call] == [str(i) for i in range(20)]
        assert call.code() == grpc.StatusCode.OK


def test_an_empty_stream_and_wrong_bytes(running):
    with grpc.insecure_channel(running.grpc) as channel:
        assert list(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([]))) == []
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        replies = [pb.ModelStreamInferResponse.FromString(r) for r in call(iter([b"\xff", b""]))]
        assert "field tag" in replies[0].error_message and "names no model" in replies[1].error_message


def test_cancelled_streams_free_everything(running):
    for _ in range(5):
        replies = queue.Queue()
        with client.InferenceServerClient(running.grpc) as c:
            c.start_stream(lambda result, error, to=replies: to.put((result, error)))
            for _ in range(50):
                c.async_stream_infer("slow", [tensor("x", np.ones((64, 1024), np.float32))])
            replies.get(timeout=WAIT)
            c.stop_stream(cancel_requests=True)
    with client.InferenceServerClient(running.grpc) as c:
        assert c.infer("slow", [tensor("x", np.ones((1, 1024), np.float32))], client_timeout=WAIT)
    running.wait_log("event=stream .* aborted=true", 5)


def test_back_pressure(running):
    """A client that reads nothing: the server takes in no more than it answers."""
    sent = 0

    def ask():
        nonlocal sent
        made = pb.ModelInferRequest(model_name="sum")
        for name in ("x", "total"):
            made.inputs.add(name=name, datatype="FP32", shape=[2])
            made.raw_input_contents.append(bytes(8))
        made.id = "x" * 100_000
        for _ in range(5000):
            sent += 1
            yield made

    before = running.memory_kb()
    with grpc.insecure_channel(running.grpc) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(ask())
        time.sleep(1.5)
        assert sent < 2000 and running.memory_kb() - before < 100_000
        assert sum(1 for _ in call) == 5000


@pytest.mark.skipif(SILERO is None, reason="silero-vad is not in $POLESTAR_MODELS")
@pytest.mark.parametrize("streamed", [False, True])
def test_voice_activity(tmp_path, streamed):
    """The state stays in the server; the oracle is ONNX Runtime with the state carried by hand."""
    (tmp_path / "vad").mkdir()
    (tmp_path / "vad/model.onnx").symlink_to(SILERO / "model.onnx")
    state_file(tmp_path / "vad/model.onnx", states=[{"input": "state", "output": "stateN", "shape": [2, 1, 128]}])
    server = Server("--model-repository", tmp_path)
    known = json.loads((SILERO / "stream_probs.json").read_text())
    audio = np.fromfile(SILERO / "speechlike16k.f32", np.float32)
    context, got, replies = np.zeros(known["context"], np.float32), [], queue.Queue()
    n = len(known["probs"])
    with client.InferenceServerClient(server.grpc) as c:
        if streamed:
            c.start_stream(lambda result, error: replies.put((result, error)))
        for i in range(n):
            chunk = audio[i * known["chunk"]:(i + 1) * known["chunk"]]
            inputs = [tensor("input", np.concatenate([context, chunk])[None]), tensor("sr", np.array(16000, np.int64))]
            options = {"sequence_id": 17, "sequence_start": i == 0, "sequence_end": i == n - 1}
            if streamed:
                c.async_stream_infer("vad", inputs, **options)
            else:
                got.append(c.infer("vad", inputs, **options).as_numpy("output").item())
            context = chunk[-known["context"]:]
        for _ in range(n if streamed else 0):
            result, error = replies.get(timeout=WAIT)
            assert error is None, error
            got.append(result.as_numpy("output").item())
    np.testing.assert_allclose(got, known["probs"], atol=1e-5)
    assert server.stop()[0] == 0


# ---- SIGTERM ----


def test_calls_in_flight_are_answered(models):
    server = Server(models / "slow.onnx")
    replies = queue.Queue()
    with client.InferenceServerClient(server.grpc) as c:
        for _ in range(4):
            c.async_infer("slow", [tensor("x", np.ones((256, 1024), np.float32))],
                          lambda result, error: replies.put(error or result.as_numpy("y").shape))
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert [replies.get(timeout=WAIT) for _ in range(4)] == [(256, 1024)] * 4
    code, log = server.wait_stopped()
    assert code == 0 and "drain_timeout" not in log


def test_streams_end_when_what_they_read_is_answered(models):
    server = Server(models / "slow.onnx")
    replies = queue.Queue()
    with client.InferenceServerClient(server.grpc) as c:
        c.start_stream(lambda result, error: replies.put(error or result.as_numpy("y").shape))
        for _ in range(3):
            c.async_stream_infer("slow", [tensor("x", np.ones((128, 1024), np.float32))])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert [replies.get(timeout=WAIT) for _ in range(3)] == [(128, 1024)] * 3
        end = replies.get(timeout=WAIT)
        assert isinstance(end, InferenceServerException) and end.status() == "StatusCode.UNAVAILABLE", end
        c.stop_stream()
    code, log = server.wait_stopped()
    assert code == 0 and "drain_timeout" not in log


def test_the_end_under_load_loses_no_call(models):
    """Each call is answered or was never taken: UNAVAILABLE, which clients may send again."""
    server = Server(models / "pair.onnx")
    address, outcomes, stop = server.grpc, queue.Queue(), threading.Event()

    def work(seed):
        a = np.full((1, 4), seed, np.int32)
        with client.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as c:
            while not stop.is_set():
                try:
                    got = c.infer("pair", [tensor("a", a), tensor("b", a)]).as_numpy("sum")
                    outcomes.put("OK" if (got == 2 * a).all() else "wrong")
                except InferenceServerException as error:
                    outcomes.put(f"{error.status()} {error.message()}")
                    return

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    time.sleep(0.7)
    code, log = server.stop()
    stop.set()
    for t in threads:
        t.join()
    seen = {}
    while not outcomes.empty():
        key = outcomes.get()
        seen[key] = seen.get(key, 0) + 1
    assert code == 0 and seen["OK"] > 50, log
    others = [key for key in seen if key != "OK" and not key.startswith("StatusCode.UNAVAILABLE")]
    assert not others, others


def test_drain_is_bounded(models):
    server = Server(models / "slow.onnx", "--drain-seconds", "1")
    replies = queue.Queue()
    with client.InferenceServerClient(server.grpc) as c:
        for _ in range(8):
            c.async_infer("slow", [tensor("x", np.ones((2048, 1024), np.float32))],
                          lambda result, error: replies.put(error.status() if error else "OK"))
        time.sleep(0.5)
        start = time.monotonic()
        assert server.stop()[0] == 0
        assert time.monotonic() - start < 10
        assert "StatusCode.UNAVAILABLE" in [replies.get(timeout=WAIT) for _ in range(8)]


def test_an_idle_connection_does_not_hold_the_end(models):
    server = Server(models / "pair.onnx")
    with client.InferenceServerClient(server.grpc) as c:
        assert c.is_server_live()
        start = time.monotonic()
        assert server.stop()[0] == 0
        assert time.monotonic() - start < 2
