"""gRPC with tritonclient as it is: inference in every form, descriptions, settings, and every way to be wrong."""

import asyncio
import queue
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import ml_dtypes
import numpy as np
import pytest
import requests
import tritonclient.grpc as client
import tritonclient.grpc.aio as aio
from conftest import IDENTITY_TYPES, Server, identity_model, slow_model
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

NUMPY = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32,
         "INT64": np.int64, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "BOOL": np.bool_}


@pytest.fixture()
def triton(server):
    with client.InferenceServerClient(server.grpc) as c:
        yield c


@pytest.fixture()
def stub(server):
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(name, array):
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def add_one(c, rows=2, **options):
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    reply = c.infer("add one", [tensor("x", x)], **options)
    np.testing.assert_array_equal(reply.as_numpy("y"), x + np.float32(1))
    return reply


def request(model="add one", name="x", datatype="FP32", shape=(2, 4), raw=None, contents=None, **members):
    made = pb.ModelInferRequest(model_name=model, **members)
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    if contents:
        made.inputs[0].contents.CopyFrom(pb.InferTensorContents(**contents))
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def refused(code, part, call, *arguments, **options):
    """A tritonclient or a grpcio call fails so."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and part in error.message(), error
    except grpc.RpcError as error:
        assert error.code().name == code and part in error.details(), error
    else:
        raise AssertionError("it was answered")


# ---- health and descriptions: the same as over HTTP ----


def test_health(server, triton, stub):
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready("add one") and triton.is_model_ready("versioned", "10")
    assert not triton.is_model_ready("nope") and not triton.is_model_ready("broken")
    assert not triton.is_model_ready("versioned", "2")
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        assert check(b"\x0a\x1einference.GRPCInferenceService") == b"\x08\x01"
        refused("NOT_FOUND", "no service 'x'", check, b"\x0a\x01x")


def test_metadata_is_that_of_http(server, triton):
    assert triton.get_server_metadata(as_json=True) == requests.get(server.base + "/v2", timeout=10).json()
    for model in ("add one", "types", "pair", "text"):
        over_http = requests.get(f"{server.base}/v2/models/{model}", timeout=10).json()
        got = triton.get_model_metadata(model)
        assert (got.name, list(got.versions), got.platform) == (over_http["name"], over_http["versions"], over_http["platform"])
        for mine, theirs in ((got.inputs, over_http["inputs"]), (got.outputs, over_http["outputs"])):
            assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in mine] == theirs


def test_config_is_that_of_http(server, triton):
    for model in ("add one", "types", "text"):
        over_http = requests.get(f"{server.base}/v2/models/{model}/config", timeout=10).json()
        got = json_format.MessageToDict(triton.get_model_config(model).config, preserving_proto_field_name=True)
        for t in got["input"] + got["output"]:
            t["dims"] = [int(d) for d in t.get("dims", [])]
        got["max_batch_size"] = got.get("max_batch_size", 0)
        assert got == over_http


def test_statistics(server, triton):
    def counters(of):
        of = of["model_stats"][0]
        return {k: int(v.get("count", 0)) for k, v in of["inference_stats"].items()}, int(of["inference_count"])

    add_one(triton)
    before, count = counters(triton.get_inference_statistics("add one", as_json=True))
    add_one(triton)
    refused("INVALID_ARGUMENT", "no input", triton.infer, "add one", [tensor("z", np.zeros((1, 4), np.float32))])
    after, count_after = counters(triton.get_inference_statistics("add one", as_json=True))
    assert count_after == count + 2 and after["success"] == before["success"] + 1 and after["fail"] == before["fail"] + 1
    over_http = counters(requests.get(server.base + "/v2/models/add one/stats", timeout=10).json())
    assert over_http == (after, count_after)
    names = [s.name for s in triton.get_inference_statistics().model_stats]
    assert names == [s["name"] for s in requests.get(server.base + "/v2/models/stats", timeout=10).json()["model_stats"]]
    batch = triton.get_inference_statistics("add one").model_stats[0].batch_stats
    assert sum(b.batch_size * b.compute_infer.count for b in batch) == count_after


def test_index(server, triton):
    over_http = requests.post(server.base + "/v2/repository/index", timeout=10).json()
    got = triton.get_model_repository_index()
    assert [json_format.MessageToDict(m) for m in got.models] == [{k: v for k, v in m.items() if v} for m in over_http]
    assert any("broken" == m.name and m.state == "UNAVAILABLE" and m.reason for m in got.models)


# ---- inference ----


def test_infer(triton):
    reply = add_one(triton, request_id="abc")
    response = reply.get_response()
    assert (response.model_name, response.model_version, response.id) == ("add one", "1", "abc")
    assert add_one(triton).get_response().id == ""
    for rows in (0, 1, 3, 100, 100_000):
        add_one(triton, rows)
    assert triton.infer("versioned", [tensor("x", np.zeros((1, 4), np.float32))], "10").as_numpy("y").tolist() == [[10] * 4]


def test_every_type_raw(triton):
    rng = np.random.default_rng(1)
    arrays = {t: (rng.integers(0, 2, 5) if t == "BOOL" else rng.integers(0, 100, 5)).astype(d) for t, d in NUMPY.items()}
    arrays["BF16"] = np.array([1, 2, -3, 0.5, 0], ml_dtypes.bfloat16)
    inputs = [tensor(f"in_{t}", a) for t, a in arrays.items()]
    outputs = [client.InferRequestedOutput(f"out_{t}") for t in reversed(IDENTITY_TYPES)]
    reply = triton.infer("types", inputs, outputs=outputs)
    assert [o.name for o in reply.get_response().outputs] == [f"out_{t}" for t in reversed(IDENTITY_TYPES)]
    for t, a in arrays.items():
        np.testing.assert_array_equal(reply.as_numpy(f"out_{t}"), a)
        assert reply.as_numpy(f"out_{t}").dtype == a.dtype


FIELD = {"BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
         "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
         "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}


def test_every_type_as_contents(slow):
    """The model `numbers` has one input and output of each of these types."""
    made, arrays = pb.ModelInferRequest(model_name="numbers"), {}
    for t in FIELD:
        if t == "BOOL":
            arrays[t] = np.array([True, False, True])
        elif np.issubdtype(NUMPY[t], np.integer):
            arrays[t] = np.array([np.iinfo(NUMPY[t]).min, 1, np.iinfo(NUMPY[t]).max], NUMPY[t])
        else:
            arrays[t] = np.array([-0.0, np.inf, 0.1], NUMPY[t])
        made.inputs.add(name=f"in_{t}", datatype=t, shape=[3])
        getattr(made.inputs[-1].contents, FIELD[t]).extend(arrays[t].tolist())
        made.outputs.add(name=f"out_{t}")
    with grpc.insecure_channel(slow.grpc) as channel:
        reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(made)
    assert len(reply.raw_output_contents) == len(FIELD) and not any(o.HasField("contents") for o in reply.outputs)
    for t, raw in zip(FIELD, reply.raw_output_contents, strict=True):
        assert raw == arrays[t].tobytes(), t


def test_texts(triton, stub):
    texts = np.array([b"ab", "c\u00e9".encode(), b"", b"\x00\xff"], np.object_)
    assert triton.infer("text", [tensor("s", texts)]).as_numpy("t").tolist() == texts.tolist()
    reply = stub.ModelInfer(request("text", "s", "BYTES", [4], contents={"bytes_contents": texts.tolist()}))
    assert reply.raw_output_contents[0] == b"".join(len(t).to_bytes(4, "little") + t for t in texts)


def test_classification(triton):
    out = client.InferRequestedOutput("y", class_count=2)
    reply = triton.infer("add one", [tensor("x", np.array([[1, 5, 3, 4]], np.float32))], outputs=[out])
    assert reply.as_numpy("y").tolist() == [b"6.0:1", b"5.0:3"]
    refused("INVALID_ARGUMENT", "classification", triton.infer, "add one", [tensor("x", np.zeros((1, 4), np.float32))],
            outputs=[client.InferRequestedOutput("y", class_count=100_001)])


def test_compressed_requests(triton):
    for algorithm in ("gzip", "deflate"):
        add_one(triton, 1000, compression_algorithm=algorithm)
        add_one(triton, 1, compression_algorithm=algorithm)


def test_async(triton):
    x = np.ones((1, 4), np.float32)
    results = queue.Queue()
    for _ in range(100):
        triton.async_infer("add one", [tensor("x", x)], lambda result, error: results.put(error or result.as_numpy("y")))
    for _ in range(100):
        np.testing.assert_array_equal(results.get(timeout=10), x + 1)


def test_aio(server):
    async def work():
        async with aio.InferenceServerClient(server.grpc) as c:
            assert await c.is_server_ready()
            x = np.ones((1, 4), np.float32)
            made = aio.InferInput("x", [1, 4], "FP32")
            made.set_data_from_numpy(x)
            replies = await asyncio.gather(*[c.infer("add one", [made], request_id=str(i)) for i in range(200)])
            for i, reply in enumerate(replies):
                assert reply.get_response().id == str(i)
                np.testing.assert_array_equal(reply.as_numpy("y"), x + 1)
            with pytest.raises(InferenceServerException, match="not known"):
                await c.infer("nope", [made])

    asyncio.run(work())


def test_many_clients_at_once(server):
    def work(seed):
        with client.InferenceServerClient(server.grpc, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as c:
            for i in range(20):
                add_one(c, 1 + (seed * i) % 50, request_id=f"{seed}-{i}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(64)))


def test_trace_context_and_log(server, triton):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        raw = request(raw=bytes(32), id="logged").SerializeToString()
        _, call = infer.with_call(raw, metadata=[("traceparent", parent)])
        assert ("traceparent", parent) in [(k, v) for k, v in call.initial_metadata()]
        _, call = infer.with_call(raw, metadata=[("traceparent", "nonsense")])
        assert "traceparent" not in [k for k, _ in call.initial_metadata()]
    line = server.wait_log(".*id=logged.*")[0]
    assert "method=gRPC path=/inference.GRPCInferenceService/ModelInfer status=OK in=" in line
    assert "model=\"add one\"" in line and "trace=0af7651916cd43dd8448eb211c80319c parent=b7ad6b7169203331" in line


# ---- mistakes ----

RAW = bytes(32)
MISTAKES = [
    ("NOT_FOUND", "'nope' is not known", request("nope", raw=RAW)),
    ("NOT_FOUND", "no version '7'", request(model_version="7", raw=RAW)),
    ("INVALID_ARGUMENT", "'-x' is neither a number nor a label", request(model_version="-x", raw=RAW)),
    ("NOT_FOUND", "no version 'canary'", request(model_version="canary", raw=RAW)),
    ("INVALID_ARGUMENT", "names no model", request("", raw=RAW)),
    ("UNAVAILABLE", "could not be loaded", request("broken", raw=RAW)),
    ("INVALID_ARGUMENT", "no input 'z'", request(name="z", raw=RAW)),
    ("INVALID_ARGUMENT", "has no name", request(name="", raw=RAW)),
    ("INVALID_ARGUMENT", "is FP32, the request has INT32", request(datatype="INT32", raw=RAW)),
    ("INVALID_ARGUMENT", "datatype 'FLOAT' is not", request(datatype="FLOAT", raw=RAW)),
    ("INVALID_ARGUMENT", "has no datatype", request(datatype="", raw=RAW)),
    ("INVALID_ARGUMENT", "has shape [-1,4], the request has [4,2]", request(shape=(4, 2), raw=RAW)),
    ("INVALID_ARGUMENT", "is negative", request(shape=(-1, 4), raw=RAW)),
    ("INVALID_ARGUMENT", "too many elements", request(shape=(2**40, 2**40), raw=RAW)),
    ("INVALID_ARGUMENT", "more than 8 dims", request(shape=[1] * 9, raw=RAW)),
    ("INVALID_ARGUMENT", "take 32 bytes", request(raw=RAW[:-1])),
    ("INVALID_ARGUMENT", "take 32 bytes", request(raw=b"")),
    ("INVALID_ARGUMENT", "exclude each other", request(raw=RAW, contents={"fp32_contents": [0] * 8})),
    ("INVALID_ARGUMENT", "no data", request()),
    ("INVALID_ARGUMENT", "7 elements in fp32_contents", request(contents={"fp32_contents": [0] * 7})),
    ("INVALID_ARGUMENT", "its contents have int_contents", request(contents={"int_contents": [0] * 8})),
    ("INVALID_ARGUMENT", "out of range for INT8", request("types", "in_INT8", "INT8", [1], contents={"int_contents": [128]})),
    ("INVALID_ARGUMENT", "out of range for UINT8", request("types", "in_UINT8", "UINT8", [1], contents={"uint_contents": [256]})),
    ("INVALID_ARGUMENT", "no form in contents", request("types", "in_FP16", "FP16", [1], contents={"fp32_contents": [1]})),
    ("INVALID_ARGUMENT", "reaches beyond", request("text", "s", "BYTES", [1], raw=b"\x05\0\0\0ab")),
    ("INVALID_ARGUMENT", "missing", pb.ModelInferRequest(model_name="add one")),
    ("INVALID_ARGUMENT", "2 raw_input_contents for 1", pb.ModelInferRequest(
        model_name="add one", inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 4]}], raw_input_contents=[RAW, RAW])),
    ("INVALID_ARGUMENT", "given twice", pb.ModelInferRequest(
        model_name="add one", inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 4]}] * 2, raw_input_contents=[RAW, RAW])),
    ("INVALID_ARGUMENT", "no raw_input_contents", pb.ModelInferRequest(
        model_name="add one", inputs=[{"name": "x", "datatype": "FP32", "shape": [2, 4]}] * 2, raw_input_contents=[RAW])),
    ("INVALID_ARGUMENT", "no output 'z'", request(raw=RAW, outputs=[{"name": "z"}])),
    ("INVALID_ARGUMENT", "requested twice", request(raw=RAW, outputs=[{"name": "y"}, {"name": "y"}])),
    ("INVALID_ARGUMENT", "priority is not an integer", request(raw=RAW, parameters={"priority": {"string_param": "1"}})),
    ("INVALID_ARGUMENT", "is negative", request(raw=RAW, parameters={"timeout": {"int64_param": -1}})),
    ("INVALID_ARGUMENT", "allowed are", request(raw=RAW, parameters={"priority": {"uint64_param": 2**32}})),
    ("INVALID_ARGUMENT", "not a bool", request(raw=RAW, parameters={"sequence_start": {"int64_param": 1}})),
    ("UNIMPLEMENTED", "keeps no state", request(raw=RAW, parameters={"sequence_id": {"int64_param": 1}})),
]


@pytest.mark.parametrize("code, part, made", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(stub, code, part, made):
    refused(code, part, stub.ModelInfer, made)


@pytest.mark.parametrize("call, code", [
    (lambda c: c.get_model_metadata("nope"), "NOT_FOUND"), (lambda c: c.get_model_metadata("pair", "9"), "NOT_FOUND"),
    (lambda c: c.get_model_metadata("pair", "-x"), "INVALID_ARGUMENT"), (lambda c: c.get_model_config("nope"), "NOT_FOUND"),
    (lambda c: c.get_inference_statistics("nope"), "NOT_FOUND"), (lambda c: c.load_model("nope"), "NOT_FOUND"),
    (lambda c: c.load_model("broken"), "INVALID_ARGUMENT"), (lambda c: c.load_model("pair", config="{}"), "UNIMPLEMENTED"),
    (lambda c: c.load_model("../x"), "INVALID_ARGUMENT"), (lambda c: c.get_trace_settings("nope"), "NOT_FOUND"),
    (lambda c: c.update_trace_settings(settings={"trace_rate": "0"}), "INVALID_ARGUMENT"),
    (lambda c: c.update_trace_settings(settings={"trace_level": ["TENSORS"]}), "UNIMPLEMENTED"),
    (lambda c: c.update_trace_settings(settings={"trace_file": "/tmp/x"}), "UNIMPLEMENTED"),
    (lambda c: c.update_trace_settings(settings={"trace_speed": "1"}), "INVALID_ARGUMENT"),
    (lambda c: c.update_log_settings({"log_file": "/tmp/x"}), "UNIMPLEMENTED"),
    (lambda c: c.update_log_settings({"log_verbose_level": 2000}), "INVALID_ARGUMENT"),
    (lambda c: c.register_cuda_shared_memory("r", b"eA==", 0, 8), "UNIMPLEMENTED"),
    (lambda c: c.get_cuda_shared_memory_status("r"), "NOT_FOUND"),
    (lambda c: c.get_system_shared_memory_status("r"), "NOT_FOUND"),
    (lambda c: c.register_system_shared_memory("r", "/does-not-exist", 8), "NOT_FOUND"),
    (lambda c: c.register_system_shared_memory("r", "/a/b", 8), "INVALID_ARGUMENT"),
], ids=range(21))
def test_other_mistakes(triton, call, code):
    refused(code, "", call, triton)


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(server.grpc) as channel:
        for method in ("ModelInfer", "ModelMetadata", "RepositoryModelLoad", "TraceSetting"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            for bad in (b"\xff", b"\x0a\xff", b"\x0b", b"\x0a\x05ab"):
                refused("INVALID_ARGUMENT", "", call, bad)
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        refused("INVALID_ARGUMENT", "model_name is not UTF-8", infer, b"\x0a\x02a\xff")
        refused("INVALID_ARGUMENT", "names no model", infer, b"")
        refused("UNIMPLEMENTED", "no method /x/y", channel.unary_unary("/x/y"), b"")
        refused("UNIMPLEMENTED", "no method", channel.unary_unary("/inference.GRPCInferenceService/Nope"), b"abc")
        refused("RESOURCE_EXHAUSTED", "allowed are", channel.unary_unary("/inference.GRPCInferenceService/ModelMetadata"),
                b"\x0a" + b"\x80\x80\x80\x01" + b"a" * (2 << 20))


# ---- repository ----


def test_load_and_unload(server, triton):
    triton.unload_model("plain")
    assert not triton.is_model_ready("plain")
    refused("NOT_FOUND", "not loaded", triton.infer, "plain", [tensor("x", np.zeros((1, 4), np.float32))])
    triton.unload_model("plain")
    triton.unload_model("nope")
    triton.load_model("plain")
    assert triton.is_model_ready("plain")


def test_load_in_the_shape_of_kserve(server):
    """Field 1 is the model's name, there is no field 2, and the reply has both."""
    with grpc.insecure_channel(server.grpc) as channel:
        for service in ("inference.GRPCInferenceService", "inference.model_repository.ModelRepositoryService"):
            unload = channel.unary_unary(f"/{service}/RepositoryModelUnload")
            load = channel.unary_unary(f"/{service}/RepositoryModelLoad")
            assert unload(b"\x0a\x05plain") == b"\x0a\x05plain\x10\x01"
            assert load(b"\x0a\x05plain") == b"\x0a\x05plain\x10\x01"
            assert load(b"\x0a\x03any\x12\x05plain") == b""


# ---- settings ----


def test_trace_settings(server, triton):
    settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "2"}
    got = triton.update_trace_settings(settings=settings, as_json=True)
    assert got["settings"]["trace_level"]["value"] == ["TIMESTAMPS"] and got["settings"]["trace_rate"]["value"] == ["1"]
    for i in range(3):
        add_one(triton, request_id=f"traced{i}")
    assert "model=\"add one\" version=1 id=traced0 status=OK" in server.wait_log("event=trace .*", 2)[-2]
    assert "id=traced2 status=OK total_us" not in server.read_log()
    got = triton.update_trace_settings("pair", {"trace_rate": "7"}, as_json=True)
    assert got["settings"]["trace_rate"]["value"] == ["7"]
    assert triton.get_trace_settings(as_json=True)["settings"]["trace_rate"]["value"] == ["1"]
    cleared = {"trace_level": None, "trace_rate": None, "trace_count": None}
    got = triton.update_trace_settings(settings=cleared, as_json=True)["settings"]
    assert (got["trace_level"]["value"], got["trace_rate"]["value"], got["trace_count"]["value"]) == (["OFF"], ["1000"], ["-1"])
    triton.update_trace_settings("pair", cleared)


def test_log_settings(server, triton):
    got = triton.update_log_settings({"log_warning": False, "log_verbose_level": 3}, as_json=True)["settings"]
    assert got["log_warning"]["bool_param"] is False and got["log_verbose_level"]["uint32_param"] == 3
    over_http = requests.get(server.base + "/v2/logging", timeout=10).json()
    assert over_http["log_warning"] is False and over_http["log_verbose_level"] == 3
    triton.update_log_settings({"log_warning": True, "log_verbose_level": 0})
    assert triton.get_log_settings(as_json=True)["settings"]["log_info"]["bool_param"] is True


# ---- time ----


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    slow_model(folder / "slow.onnx", layers=20)
    identity_model(folder / "numbers.onnx", FIELD)
    running = Server("--model-repository", folder, "--runners", "1", "--max-body", "8M")
    yield running
    code, log = running.stop()
    assert code == 0, log


def slow_input(rows=256):
    return tensor("x", np.ones((rows, 1024), np.float32))


def test_timeouts(slow):
    with client.InferenceServerClient(slow.grpc) as c:
        assert c.infer("slow", [slow_input()], timeout=600_000_000, client_timeout=60).as_numpy("y").shape == (256, 1024)
        refused("DEADLINE_EXCEEDED", "model 'slow'", c.infer, "slow", [slow_input()], timeout=1000)
        start = time.monotonic()
        refused("DEADLINE_EXCEEDED", "", c.infer, "slow", [slow_input(1024)], client_timeout=0.05)
        assert time.monotonic() - start < 5


def test_cancelled_calls_are_dropped(slow):
    with client.InferenceServerClient(slow.grpc) as c:
        calls = [c.async_infer("slow", [slow_input()], lambda result, error: None, client_timeout=60) for _ in range(8)]
        time.sleep(0.1)
        for call in calls:
            call.cancel()
        c.infer("slow", [slow_input(1)], client_timeout=60)
        assert len(slow.wait_log("status=UNAVAILABLE .*aborted=true", 6)) >= 6, "they were not run"


# ---- limits ----


def test_large_messages(slow):
    with client.InferenceServerClient(slow.grpc) as c:
        refused("RESOURCE_EXHAUSTED", "", c.infer, "slow", [slow_input(2049)])
        c.infer("slow", [slow_input(1)])
        refused("RESOURCE_EXHAUSTED", "limit", c.infer, "slow", [slow_input(2049)], compression_algorithm="gzip")


def test_a_bomb_does_not_unpack(slow):
    before = slow.memory_kb()
    with client.InferenceServerClient(slow.grpc) as c:
        for algorithm in ("gzip", "deflate"):
            zeros = tensor("x", np.zeros((100_000, 1024), np.float32))  # 400 MB in 400 KB
            refused("RESOURCE_EXHAUSTED", "limit of 8388608 bytes", c.infer, "slow", [zeros], compression_algorithm=algorithm)
    assert slow.memory_kb() - before < 40_000
    with grpc.insecure_channel(slow.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        refused("INVALID_ARGUMENT", "", infer, b"\x0a\xff", compression=grpc.Compression.Gzip)


def test_without_grpc(models):
    running = Server(models / "pair.onnx", "--grpc-port", "-1")
    assert requests.get(running.base + "/v2/models/pair", timeout=10).status_code == 200
    code, log = running.stop()
    assert code == 0 and "protocol=grpc" not in log
