"""tritonclient.http.aio: the same server through the asynchronous client."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as client
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException


def tensor(array):
    made = client.InferInput("x", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


async def everything(url):
    async with aio.InferenceServerClient(url) as c:
        assert await c.is_server_live() and await c.is_server_ready() and await c.is_model_ready("plain")
        assert (await c.get_model_metadata("plain"))["inputs"][0]["name"] == "x"
        assert (await c.get_model_config("plain"))["max_batch_size"] == 32
        assert "plain" in [m["name"] for m in await c.get_model_repository_index()]
        assert (await c.get_trace_settings())["trace_level"] == ["OFF"]
        assert (await c.get_log_settings())["log_info"] is True
        assert await c.get_system_shared_memory_status() == []
        await c.unload_model("file")
        assert not await c.is_model_ready("file")
        await c.load_model("file")
        values = [np.full((1, 4), i, np.float32) for i in range(50)]
        replies = await asyncio.gather(*(c.infer("plain", [tensor(v)], request_id=str(i)) for i, v in enumerate(values)))
        for i, reply in enumerate(replies):
            assert reply.get_response()["id"] == str(i)
            np.testing.assert_array_equal(reply.as_numpy("y"), values[i] + np.float32(3))
        for coding in ("gzip", "deflate"):
            x = np.zeros((500, 4), np.float32)
            reply = await c.infer("plain", [tensor(x)], request_compression_algorithm=coding, response_compression_algorithm=coding)
            np.testing.assert_array_equal(reply.as_numpy("y"), x + np.float32(3))
        with pytest.raises(InferenceServerException, match="not known"):
            await c.infer("nothing", [tensor(values[0])])
        assert (await c.get_inference_statistics("plain"))["model_stats"][0]["inference_count"] >= 52


def test_asynchronous_client(server):
    asyncio.run(everything(server.url))
