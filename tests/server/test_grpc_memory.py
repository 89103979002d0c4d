"""System shared memory over gRPC as tritonclient uses it."""

import os

import numpy as np
import pytest
import tritonclient.grpc as client
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

KEY = f"/polestar-test-grpc-{os.getpid()}"


@pytest.fixture()
def triton(server):
    with client.InferenceServerClient(server.grpc) as c:
        yield c
        c.unregister_system_shared_memory()


@pytest.fixture()
def region():
    """64 bytes"""
    handle = shm.create_shared_memory_region("region", KEY, 64)
    yield handle
    shm.destroy_shared_memory_region(handle)


def infer(c, offset=0, out_offset=32, size=32, out_size=32):
    x = client.InferInput("x", [2, 4], "FP32")
    x.set_shared_memory("data", size, offset)
    y = client.InferRequestedOutput("y")
    y.set_shared_memory("data", out_size, out_offset)
    return c.infer("plain", [x], outputs=[y])


def test_inputs_and_outputs(triton, region):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    shm.set_shared_memory_region(region, [x])
    triton.register_system_shared_memory("data", KEY, 64)
    status = triton.get_system_shared_memory_status(as_json=True)
    assert status == {"regions": {"data": {"name": "data", "key": KEY, "byte_size": "64"}}}
    assert triton.get_system_shared_memory_status("data", as_json=True) == status
    reply = infer(triton)
    output = reply.get_output("y")
    assert {k: v.string_param or v.int64_param for k, v in output.parameters.items()} == {
        "shared_memory_region": "data", "shared_memory_offset": 32, "shared_memory_byte_size": 32}
    assert list(reply.get_response().raw_output_contents) == [b""]
    np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 4], offset=32), x + np.float32(3))
    infer(triton, out_offset=0)  # over its own input
    np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 4]), x + np.float32(3))


def test_mixed_with_raw_data(triton, region):
    """Raw data and outputs are paired by position, whatever of them is in shared memory."""
    a, b = np.array([[1, 2]], np.int32), np.array([[10, 20]], np.int32)
    shm.set_shared_memory_region(region, [a])
    triton.register_system_shared_memory("data", KEY, 64)
    first = client.InferInput("a", [1, 2], "INT32")
    first.set_shared_memory("data", 8)
    second = client.InferInput("b", [1, 2], "INT32")
    second.set_data_from_numpy(b)
    there = client.InferRequestedOutput("sum")
    there.set_shared_memory("data", 8, 16)
    for inputs in ([first, second], [second, first]):
        for outputs in ([there, client.InferRequestedOutput("difference")], [client.InferRequestedOutput("difference"), there]):
            reply = triton.infer("pair", inputs, outputs=outputs)
            np.testing.assert_array_equal(reply.as_numpy("difference"), a - b)
            np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.int32, [1, 2], offset=16), a + b)


def test_texts(triton, region):
    texts = np.array([b"ab", "c\u00e9".encode()], np.object_)
    raw = serialize_byte_tensor(texts).item()
    shm.set_shared_memory_region(region, [serialize_byte_tensor(texts)])
    triton.register_system_shared_memory("data", KEY, 64)
    s = client.InferInput("s", [2], "BYTES")
    s.set_shared_memory("data", len(raw))
    t = client.InferRequestedOutput("t")
    t.set_shared_memory("data", 32, 32)
    got = triton.infer("text", [s], outputs=[t]).get_output("t")
    assert got.parameters["shared_memory_byte_size"].int64_param == len(raw)
    with open(f"/dev/shm{KEY}", "rb") as file:
        assert file.read()[32:32 + len(raw)] == raw


def test_mistakes(triton, region):
    with pytest.raises(InferenceServerException, match="no shared memory region 'data'"):
        infer(triton)
    triton.register_system_shared_memory("data", KEY, 64)
    with pytest.raises(InferenceServerException, match="registered already"):
        triton.register_system_shared_memory("data", KEY, 8)
    for options, part in (({"offset": 48}, "within its 64"), ({"size": 16}, "take 32 bytes"), ({"out_size": 16}, "has 32 bytes"),
                          ({"out_offset": 60}, "within its 64")):
        with pytest.raises(InferenceServerException, match=part) as error:
            infer(triton, **options)
        assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert triton.get_cuda_shared_memory_status(as_json=True) == {}
    triton.unregister_cuda_shared_memory()
    triton.unregister_system_shared_memory("data")
    assert triton.get_system_shared_memory_status(as_json=True) == {}
