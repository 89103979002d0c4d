"""kserve's own client (package kserve), REST, and gRPC where the server has it."""

import asyncio

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
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
