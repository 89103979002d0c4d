"""System shared memory as tritonclient uses it, and every way to be wrong about it."""

import json
import os
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
import requests
import tritonclient.http as client
import tritonclient.utils.shared_memory as shm
from conftest import Server
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

KEY = f"/polestar-test-{os.getpid()}"


@pytest.fixture()
def triton(server):
    with client.InferenceServerClient(server.url) as c:
        yield c
        c.unregister_system_shared_memory()


@pytest.fixture()
def region():
    """64 bytes"""
    handle = shm.create_shared_memory_region("region", KEY, 64)
    yield handle
    shm.destroy_shared_memory_region(handle)


def infer(c, offset=0, out_offset=32, size=32, **members):
    x = client.InferInput("x", members.get("shape", [2, 4]), "FP32")
    x.set_shared_memory("data", size, offset)
    y = client.InferRequestedOutput("y")
    y.set_shared_memory("data", size, out_offset)
    return c.infer("plain", [x], outputs=[y])


def test_inputs_and_outputs(triton, region):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    shm.set_shared_memory_region(region, [x])
    triton.register_system_shared_memory("data", KEY, 64)
    assert triton.get_system_shared_memory_status() == [{"name": "data", "key": KEY, "offset": 0, "byte_size": 64}]
    assert triton.get_system_shared_memory_status("data") == triton.get_system_shared_memory_status()
    reply = infer(triton)
    assert "data" not in reply.get_output("y")
    assert reply.get_output("y")["parameters"] == {"shared_memory_region": "data", "shared_memory_offset": 32,
                                                   "shared_memory_byte_size": 32}
    np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 4], offset=32), x + np.float32(3))
    np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 4]), x)
    infer(triton, out_offset=0)  # over its own input
    np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 4]), x + np.float32(3))


def test_a_region_inside_of_an_object(triton, region):
    shm.set_shared_memory_region(region, [np.ones(4, np.float32)], offset=16)
    triton.register_system_shared_memory("data", KEY, 32, offset=16)
    x = client.InferInput("x", [1, 4], "FP32")
    x.set_shared_memory("data", 16)
    np.testing.assert_array_equal(triton.infer("plain", [x]).as_numpy("y"), np.full((1, 4), 4, np.float32))
    with pytest.raises(InferenceServerException, match="within its 32"):
        infer(triton, offset=16)


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
    assert got["parameters"]["shared_memory_byte_size"] == len(raw)
    with open(f"/dev/shm{KEY}", "rb") as file:
        assert file.read()[32:32 + len(raw)] == raw


def test_registering(triton, region):
    triton.register_system_shared_memory("data", KEY, 64)
    triton.register_system_shared_memory("without slash", KEY[1:], 8, offset=56)
    with pytest.raises(InferenceServerException, match="registered already"):
        triton.register_system_shared_memory("data", KEY, 8)
    assert [r["name"] for r in triton.get_system_shared_memory_status()] == ["data", "without slash"]
    triton.unregister_system_shared_memory("data")
    triton.unregister_system_shared_memory("data")
    with pytest.raises(InferenceServerException, match="'data' is registered") as error:
        triton.get_system_shared_memory_status("data")
    assert error.value.status() == "404"
    with pytest.raises(InferenceServerException, match="no shared memory region 'data'"):
        infer(triton)
    triton.unregister_system_shared_memory()
    assert triton.get_system_shared_memory_status() == []


def register(server, body, name="bad"):
    data = body if isinstance(body, bytes) else json.dumps(body)
    return requests.post(f"{server.base}/v2/systemsharedmemory/region/{name}/register", data=data, timeout=10)


@pytest.mark.parametrize("body, code", [
    ({"key": KEY, "offset": 0, "byte_size": 65}, 400), ({"key": KEY, "offset": 65, "byte_size": 1}, 400),
    ({"key": KEY, "offset": 60, "byte_size": 8}, 400), ({"key": KEY, "offset": 2**64 - 4, "byte_size": 8}, 400),
    ({"key": KEY, "offset": 1, "byte_size": 2**64 - 1}, 400), ({"key": KEY, "offset": 0, "byte_size": 0}, 400),
    ({"key": KEY, "offset": -1, "byte_size": 8}, 400), ({"key": KEY, "offset": 0, "byte_size": 2**64}, 400),
    ({"key": "/does-not-exist", "offset": 0, "byte_size": 8}, 404), ({"key": "", "offset": 0, "byte_size": 8}, 400),
    ({"key": "/../etc/passwd", "offset": 0, "byte_size": 8}, 400), ({"key": "/a/b", "offset": 0, "byte_size": 8}, 400),
    ({"key": "..", "offset": 0, "byte_size": 8}, 400), ({"key": "/.", "offset": 0, "byte_size": 8}, 400),
    ({"key": "//x", "offset": 0, "byte_size": 8}, 400), ({"key": "/a\n", "offset": 0, "byte_size": 8}, 400),
    ({"key": "/" + "a" * 300, "offset": 0, "byte_size": 8}, 400), ({"key": 7}, 400),
    ({"byte_size": 8}, 400), (b"", 400), (b"[]", 400),
])
def test_wrong_registrations(server, region, body, code):
    reply = register(server, body)
    assert reply.status_code == code and list(reply.json()) == ["error"], reply.text
    assert requests.get(server.base + "/v2/systemsharedmemory/status", timeout=10).json() == []


def test_links_in_the_folder_of_objects_are_not_followed(server, tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 64)
    link = Path(f"/dev/shm{KEY}-link")
    link.symlink_to(tmp_path / "secret")
    try:
        assert register(server, {"key": link.name, "offset": 0, "byte_size": 8}).status_code != 200
    finally:
        link.unlink()


INPUT = {"name": "x", "shape": [2, 4], "datatype": "FP32"}
HERE = {"shared_memory_region": "data", "shared_memory_byte_size": 32}


@pytest.mark.parametrize("change, part", [
    ({"parameters": {**HERE, "shared_memory_byte_size": 16}}, "take 32 bytes"),
    ({"parameters": {**HERE, "shared_memory_byte_size": 65}}, "within"),
    ({"parameters": {**HERE, "shared_memory_offset": 33}}, "within"),
    ({"parameters": {**HERE, "shared_memory_offset": 2**64 - 1}}, "within"),
    ({"parameters": {**HERE, "shared_memory_offset": -1}}, "not negative"),
    ({"parameters": {"shared_memory_region": "data"}}, "no shared_memory_byte"),
    ({"parameters": {**HERE, "shared_memory_region": "other"}}, "'other' is registered"),
    ({"parameters": HERE, "data": [0] * 8}, "shared memory"),
    ({"parameters": {**HERE, "binary_data_size": 32}}, "shared memory"),
    ({"parameters": HERE, "shape": [2**40, 4]}, "take"),
])
def test_wrong_inputs(server, triton, region, change, part):
    triton.register_system_shared_memory("data", KEY, 64)
    reply = requests.post(f"{server.base}/v2/models/plain/infer", json={"inputs": [{**INPUT, **change}]}, timeout=10)
    assert reply.status_code == 400 and part in reply.json()["error"], reply.text


def test_output_that_does_not_fit(server, triton, region):
    triton.register_system_shared_memory("data", KEY, 64)
    for parameters, part in (({**HERE, "shared_memory_byte_size": 31}, "32 bytes"),
                             ({**HERE, "shared_memory_offset": 40}, "within")):
        body = {"inputs": [{**INPUT, "data": [1] * 8}], "outputs": [{"name": "y", "parameters": parameters}]}
        reply = requests.post(f"{server.base}/v2/models/plain/infer", json=body, timeout=10)
        assert reply.status_code == 400 and part in reply.json()["error"], reply.text


def test_an_object_that_its_owner_cut_short(server, triton):
    memory = shared_memory.SharedMemory(KEY[1:] + "-cut", create=True, size=8192)
    try:
        triton.register_system_shared_memory("data", memory.name, 8192)
        os.truncate(f"/dev/shm/{memory.name}", 16)
        for options in ({}, {"out_offset": 0, "size": 16, "shape": [1, 4], "offset": 8000}):
            with pytest.raises(InferenceServerException, match="shorter"):
                infer(triton, **options)
        with pytest.raises(InferenceServerException, match="shorter"):
            infer(triton, size=16, shape=[1, 4], out_offset=4096)
        assert os.path.getsize(f"/dev/shm/{memory.name}") == 16, "not made longer"
        assert infer(triton, size=16, shape=[1, 4], out_offset=0)
    finally:
        memory.close()
        memory.unlink()


def test_cuda(server, triton):
    assert triton.get_cuda_shared_memory_status() == []
    triton.unregister_cuda_shared_memory()
    triton.unregister_cuda_shared_memory("x")
    with pytest.raises(InferenceServerException, match="CUDA"):
        triton.register_cuda_shared_memory("x", b"handle", 0, 8)
    with pytest.raises(InferenceServerException, match="CUDA"):
        triton.get_cuda_shared_memory_status("x")


@pytest.mark.parametrize("options, allowed", [(["--shared-memory", "off"], False), (["--host", "0.0.0.0"], False),
                                              (["--host", "0.0.0.0", "--shared-memory", "on"], True),
                                              (["--host", "localhost"], True)])
def test_off_where_other_machines_reach_the_server(models, region, options, allowed):
    running = Server(models / "pair.onnx", *options)
    reply = register(running, {"key": KEY, "offset": 0, "byte_size": 64}, "data")
    extensions = requests.get(running.base + "/v2", timeout=10).json()["extensions"]
    assert running.stop()[0] == 0
    assert (reply.status_code == 200) == allowed == ("system_shared_memory" in extensions)
    assert allowed or "--shared-memory on" in reply.json()["error"]
