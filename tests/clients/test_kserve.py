"""kserve's own client (package kserve), REST and gRPC."""

import asyncio

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput


def run(url, work):
    async def inside():
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1)) as client:
            return await work(client, url)

    return asyncio.run(inside())


def tensor(name, array, kind, binary):
    made = InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def request(model, inputs, **options):
    return InferRequest(model_name=model, infer_inputs=inputs, **options)


def test_health(server):
    async def work(client, url):
        assert await client.is_server_live(url) is True and await client.is_server_ready(url) is True
        assert await client.is_model_ready(url, "plain") and not await client.is_model_ready(url, "nothing")

    run(server.base, work)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_infer(server, binary_in, binary_out):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    async def work(client, url):
        outputs = None if binary_out is None else [RequestedOutput("y", parameters={"binary_data": binary_out})]
        asked = request("plain", [tensor("x", x, "FP32", binary_in)], request_id="7", request_outputs=outputs)
        reply = await client.infer(url, asked, model_name="plain")
        np.testing.assert_array_equal(reply.get_output_by_name("y").as_numpy(), x + np.float32(1))
        assert reply.id == "7" and reply.model_name == "plain"  # from_bytes of this client drops model_version

    run(server.base, work)


def test_a_plain_dictionary(server):
    async def work(client, url):
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [[1, 2, 3, 4]]}]}
        reply = await client.infer(url, body, model_name="plain")
        assert reply.outputs[0].as_numpy().tolist() == [[2, 3, 4, 5]]

    run(server.base, work)


def test_two_inputs_one_binary_one_json(server):
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 3), 7, np.int32)

    async def work(client, url):
        asked = request("pair", [tensor("a", a, "INT32", True), tensor("b", b, "INT32", False)])
        reply = await client.infer(url, asked, model_name="pair")
        np.testing.assert_array_equal(reply.get_output_by_name("sum").as_numpy(), a + b)
        np.testing.assert_array_equal(reply.get_output_by_name("difference").as_numpy(), a - b)

    run(server.base, work)


@pytest.mark.parametrize("binary", [True, False])
def test_texts(server, binary):
    texts = np.array(["one", "", "zwölf"], object)

    async def work(client, url):
        reply = await client.infer(url, request("text", [tensor("s", texts, "BYTES", binary)]), model_name="text")
        words = [w.decode() if isinstance(w, bytes) else w for w in reply.outputs[0].as_numpy().tolist()]
        assert words == texts.tolist()

    run(server.base, work)


def test_errors_are_sentences(server):
    async def work(client, url):
        with pytest.raises(httpx.HTTPStatusError, match=r"model 'nothing' is not known, '404 Not Found'"):
            await client.infer(url, request("nothing", [tensor("x", np.zeros((1, 4), np.float32), "FP32", True)]),
                               model_name="nothing")
        with pytest.raises(httpx.HTTPStatusError, match="no input 'z', '400|input 'z'.*'400"):
            await client.infer(url, request("plain", [tensor("z", np.zeros((1, 4), np.float32), "FP32", True)]),
                               model_name="plain")

    run(server.base, work)


# ---- gRPC ----


def run_grpc(url, work):
    async def inside():
        async with InferenceGRPCClient(url=url) as client:
            return await work(client)

    return asyncio.run(inside())


def test_grpc_health(server):
    async def work(client):
        assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("plain")

    run_grpc(server.grpc, work)


@pytest.mark.parametrize("binary", [True, False])  # raw_input_contents, or contents
def test_grpc_infer(server, binary):
    x, texts = np.arange(12, dtype=np.float32).reshape(3, 4), np.array(["one", "", "zwölf"], object)
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 3), 7, np.int32)

    async def work(client):
        reply = await client.infer(request("plain", [tensor("x", x, "FP32", binary)], request_id="7"))
        np.testing.assert_array_equal(reply.get_output_by_name("y").as_numpy(), x + np.float32(1))
        assert reply.id == "7" and reply.model_name == "plain"
        reply = await client.infer(request("pair", [tensor("b", b, "INT32", binary), tensor("a", a, "INT32", binary)]))
        np.testing.assert_array_equal(reply.get_output_by_name("difference").as_numpy(), a - b)
        reply = await client.infer(request("text", [tensor("s", texts, "BYTES", binary)]))
        assert [w.decode() if isinstance(w, bytes) else w for w in reply.outputs[0].as_numpy().tolist()] == texts.tolist()

    run_grpc(server.grpc, work)


def test_grpc_errors(server):
    async def work(client):
        for model, name, code in (("nothing", "x", grpc.StatusCode.NOT_FOUND), ("plain", "z", grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.RpcError) as error:
                await client.infer(request(model, [tensor(name, np.zeros((1, 4), np.float32), "FP32", True)]))
            assert error.value.code() == code and error.value.details()

    run_grpc(server.grpc, work)


def test_grpc_load_and_unload_have_the_name_in_field_1(server):
    """As in kserve's own .proto; in Triton's field 1 is a repository and the name is field 2."""
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        gone = stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="pair"), timeout=20)
        assert not stub.ModelReady(pb.ModelReadyRequest(name="pair"), timeout=20).ready
        there = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="pair"), timeout=20)
        assert stub.ModelReady(pb.ModelReadyRequest(name="pair"), timeout=20).ready
    assert (gone.model_name, gone.isUnloaded, there.model_name, there.isLoaded) == ("pair", True, "pair", True)
