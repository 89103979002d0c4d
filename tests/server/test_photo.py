"""Photos as request bodies: preprocessing and labels lie beside the model; numpy and Pillow say what must come out."""

import io
import json
import threading

import numpy as np
import pytest
import requests
import tritonclient.http as client
from conftest import Server, add_model, save, value
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ["cat", "dog", "émeu", "", 'a "quoted" one']
WEIGHT = np.random.default_rng(3).standard_normal((8 * 8 * 3, 6)).astype(np.float32)


def classifier(path):
    """scores [1, 6] of a photo [1, 3, 8, 8]"""
    nodes = [helper.make_node("Flatten", ["photo"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"]),
             helper.make_node("Identity", ["photo"], ["pixels"])]
    return save(path, nodes, [value("photo", TensorProto.FLOAT, ["n", 3, 8, 8])],
                [value("scores", TensorProto.FLOAT, ["n", 6]), value("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
                [numpy_helper.from_array(WEIGHT, "w")])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    classifier(folder / "labelled.onnx")
    (folder / "labelled.preprocess.json").write_text(json.dumps(
        {"size": 8, "mean": [100, 110, 120], "std": [50, 60, 70], "labels": "names.txt"}))
    (folder / "names.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    classifier(folder / "bare/3/model.onnx")
    (folder / "bare/3/model.preprocess.json").write_text("{}")
    classifier(folder / "plain.onnx")
    classifier(folder / "wrong.onnx")
    (folder / "wrong.preprocess.json").write_text('{"sise": 8}')
    classifier(folder / "latin.onnx")
    (folder / "latin.preprocess.json").write_text('{"labels": "latin.txt"}')
    (folder / "latin.txt").write_bytes(b"fine\n\xe9meu\n")
    add_model(folder / "numbers.onnx", 1)
    (folder / "numbers.preprocess.json").write_text("{}")
    running = Server("--model-repository", folder)
    yield running
    code, log = running.stop()
    assert code == 0, log


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def encoded(array, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def post(server, name, data, kind="image/png", query=""):
    return requests.post(f"{server.base}/v2/models/{name}/infer{query}", data=data, headers={"Content-Type": kind}, timeout=30)


def expected_scores(array, mean=(0, 0, 0), std=(1, 1, 1)):
    x = (array.astype(np.float64) - mean) / std
    return x.transpose(2, 0, 1).reshape(1, -1) @ WEIGHT.astype(np.float64)


def check(reply, scores, top, labels=()):
    assert reply.status_code == 200, reply.text
    classes = reply.json()["classes"]
    order = np.argsort(-scores[0], kind="stable")[:top]
    assert [c["index"] for c in classes] == order.tolist()
    # 192 products of magnitude up to 255 added in single precision
    np.testing.assert_allclose([c["score"] for c in classes], scores[0][order], rtol=1e-4, atol=1e-2)
    assert [c.get("label") for c in classes] == [labels[i] if i < len(labels) else None for i in order]


def test_png_with_labels(photos):
    reply = post(photos, "labelled", encoded(pixels()))
    assert {k: v for k, v in reply.json().items() if k != "classes"} == {
        "model_name": "labelled", "model_version": "1", "output": "scores"}
    check(reply, expected_scores(pixels(), (100, 110, 120), (50, 60, 70)), 5, LABELS)
    check(post(photos, "labelled", encoded(pixels()), query="?top=6"),
          expected_scores(pixels(), (100, 110, 120), (50, 60, 70)), 6, LABELS)


def test_jpeg_without_labels(photos):
    data = encoded(pixels(1), "JPEG", quality=95, subsampling=0)
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    reply = post(photos, "bare/versions/3", data, "image/jpeg; charset=binary", "?top=2")
    check(reply, expected_scores(decoded), 2)


def test_output_by_name(photos):
    reply = post(photos, "labelled", encoded(pixels()), query="?output=pixels&top=1")
    want = (pixels().transpose(2, 0, 1) - np.array([100, 110, 120])[:, None, None]) / np.array([50, 60, 70])[:, None, None]
    (best,) = reply.json()["classes"]
    assert reply.json()["output"] == "pixels" and best["index"] == int(np.argmax(want))


def test_classification_extension_has_the_labels(photos):
    with client.InferenceServerClient(photos.url) as c:
        x = client.InferInput("photo", [1, 3, 8, 8], "FP32")
        x.set_data_from_numpy(np.ones((1, 3, 8, 8), np.float32))
        got = c.infer("labelled", [x], outputs=[client.InferRequestedOutput("scores", class_count=6)]).as_numpy("scores")
    for text in got:
        _, index, *label = text.decode().split(":", 2)
        assert label == ([LABELS[int(index)]] if int(index) < len(LABELS) else [])


@pytest.mark.parametrize("name, kind, query, part", [
    ("plain", "image/png", "", "takes no photos"), ("numbers", "image/png", "", "could take a photo"),
    ("labelled", "image/webp", "", "image/jpeg or image/png"), ("labelled", "image/png", "?top=0", "top is '0'"),
    ("labelled", "image/png", "?top=x", "top is 'x'"), ("labelled", "image/png", "?top=1001", "1 to 1000"),
    ("labelled", "image/png", "?output=none", "no output 'none'"),
    ("labelled", "image/png", "?output=%00", "not a name"), ("labelled", "image/png", "?output=a%25", "no output 'a%'"),
])
def test_mistakes(photos, name, kind, query, part):
    reply = post(photos, name, encoded(pixels()), kind, query)
    assert reply.status_code == 400 and part in reply.json()["error"], reply.text


def test_bodies_that_are_no_photos(photos):
    whole = encoded(pixels())
    for data in (b"", b"no photo", whole[:40], whole[:-20], b"\xff\xd8\xff" + b"\0" * 100):
        reply = post(photos, "labelled", data)
        assert reply.status_code == 400 and list(reply.json()) == ["error"], data[:10]
    assert post(photos, "labelled", encoded(np.zeros((4, 4, 3), np.uint8))).status_code == 200, "made larger"


def test_a_wrong_file_beside_the_model_is_its_reason(photos):
    index = {m["name"]: m for m in requests.post(photos.base + "/v2/repository/index", timeout=10).json()}
    assert "'sise'" in index["wrong"]["reason"] and "line 2 is not UTF-8" in index["latin"]["reason"]


def test_many_at_once(photos):
    failures = []

    def work(seed):
        try:
            check(post(photos, "bare", encoded(pixels(seed))), expected_scores(pixels(seed)), 5)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
