"""polestar compress: files that the ONNX checker accepts, losses against the original and against numpy, data of every kind,
and nothing left behind by runs that fail, are refused or are killed."""

import json
import os
import random
import resource
import signal
import subprocess
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from conftest import BINARY, TOP, write_set

RNG = np.random.default_rng(11)
MED = TOP / "tests/models/med-ct-seg-synth"


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def weights(**arrays):
    return [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in arrays.items()]


def save(path, nodes, inputs, outputs, initializers, opset=13):
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7, producer_name="tests"
    )
    helper.set_model_props(model, {"author": "tests"})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def net(tmp_path):
    """Conv, ReLU, depthwise Conv, residual Add, pooling, Gemm: channels of very different size after the first layer."""
    size = np.float32([1, 30, 0.05, 4, 1, 0.3, 9, 2]).reshape(8, 1, 1, 1)
    tensors = weights(
        w0=RNG.standard_normal((8, 3, 3, 3)) * size / 3,
        b0=RNG.standard_normal(8) * size.ravel() / 5,
        w1=RNG.standard_normal((8, 1, 3, 3)) / size / 3,
        b1=RNG.standard_normal(8) / 5,
        w2=RNG.standard_normal((8, 8, 1, 1)) / 3,
        w3=RNG.standard_normal((10, 8)),
        b3=RNG.standard_normal(10),
    )
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], name="c0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w1", "b1"], ["d"], name="c1", group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "w2"], ["f"], name="c2"),
        helper.make_node("Add", ["e", "f"], ["g"]),
        helper.make_node("GlobalAveragePool", ["g"], ["h"]),
        helper.make_node("Flatten", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "w3", "b3"], ["y"], name="fc", transB=1),
    ]
    return save(tmp_path / "net.onnx", nodes, [value("x", ["n", 3, 16, 16])], [value("y", ["n", 10])], tensors)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, RNG.standard_normal((60, 3, 16, 16)).astype(np.float32))
    return path


def document(done):
    assert done.code == 0, done.err
    return json.loads(done.out)


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def weights_of(path):
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


# ---- static INT8 ----
def test_static(tool, net, data, tmp_path):
    before = net.read_bytes()
    out = document(
        tool("compress", net, "-o", "q.onnx", "--calibration", data, "--calibration-samples", 40, "--json")
    )
    assert net.read_bytes() == before
    assert out["layers_quantized"] == out["layers_total"] == 4 and out["calibrated"] == 40
    assert out["accuracy"]["samples"] == 20 and out["accuracy"]["held_out"] is True
    assert out["accuracy"]["sqnr_db"] > 30  # 8 bits in 4 layers: about 50 dB each before noise adds up
    assert out["size"]["after"] == (tmp_path / "q.onnx").stat().st_size
    model = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(model)
    assert [o.version for o in model.opset_import] == [13]
    meta = {p.key: p.value for p in model.metadata_props}
    assert meta["author"] == "tests" and "type=int8" in meta["polestar.recipe"] and "polestar.source" in meta
    ops = [n.op_type for n in model.graph.node]
    assert ops.count("Conv") == 3 and [n.name for n in model.graph.node if n.name in ("c0", "c1", "c2", "fc")] == [
        "c0",
        "c1",
        "c2",
        "fc",
    ]
    types = {i.name: i.data_type for i in model.graph.initializer}
    assert (
        types["w0_quantized"] == TensorProto.INT8 and types["b0_quantized"] == TensorProto.INT32 and "w0" not in types
    )
    scales = weights_of(tmp_path / "q.onnx")
    assert scales["w0_scale"].shape == (8,) and scales["x_scale"].shape == ()
    # a bias is coded in units of its layer's scales
    np.testing.assert_allclose(scales["b0_scale"], scales["x_scale"] * scales["w0_scale"], rtol=1e-6)


@pytest.mark.parametrize("way", ["minmax", "percentile", "entropy", "mse"])
def test_ranges(tool, net, data, way):
    out = document(
        tool("compress", net, "-o", "q.onnx", "--calibration", data, "--range", way, "--json", "--no-latency")
    )
    assert {layer["range"] for layer in out["layers"]} == {way}
    assert out["accuracy"]["sqnr_db"] > 15  # entropy clips most


def test_minmax_is_what_numpy_sees(tool, net, data):
    out = document(
        tool(
            "compress",
            net,
            "-o",
            "q.onnx",
            "--calibration",
            data,
            "--range",
            "minmax",
            "--json",
            "--no-latency",
            "--without",
            "equalize",
        )
    )
    x = np.load(data)
    first = out["layers"][0]
    # low and high are the range as coded: the ends are moved by half a step at most so that zero has a code
    step = (x.max() - x.min()) / 255
    assert abs(first["low"] - x.min()) <= step and abs(first["high"] - x.max()) <= step


def test_recovery_pays(tool, net, data):
    """Uneven channels are what equalisation is for; rounding and biases gain on top."""

    def sqnr(*without):
        words = [w for name in without for w in ("--without", name)]
        return document(
            tool("compress", net, "-o", "q.onnx", "--calibration", data, "--json", "--no-latency", *words)
        )["accuracy"]["sqnr_db"]

    assert sqnr("rounding") > sqnr("rounding", "equalize") + 3
    assert sqnr() > sqnr("rounding") + 0.5


def test_seven_bits(tool, net, data, tmp_path):
    document(
        tool("compress", net, "-o", "q.onnx", "--calibration", data, "--target-isa", "avx2", "--json", "--no-latency")
    )
    codes = [a for n, a in weights_of(tmp_path / "q.onnx").items() if a.dtype == np.int8]
    assert codes and max(np.abs(a.astype(int)).max() for a in codes) <= 64


def test_deterministic(tool, net, data, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        document(
            tool(
                "compress",
                net,
                "-o",
                name,
                "--calibration",
                data,
                "--seed",
                5,
                "--json",
                "--no-latency",
                "--threads",
                1 + (name == "b.onnx"),
            )
        )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_equalisation_changes_nothing_in_float(tool, net, data, tmp_path):
    """--max-drop 0 with a judge that wants the original: every layer ends in float, equalised."""
    out = document(
        tool(
            "compress",
            net,
            "-o",
            "q.onnx",
            "--calibration",
            data,
            "--max-drop",
            0,
            "--measure",
            "cosine",
            "--json",
            "--no-latency",
        )
    )
    kept = [layer for layer in out["layers"] if not layer["quantized"]]
    assert kept and all("accuracy" in layer["reason"] for layer in kept)
    assert out["accuracy"]["drop"] <= 1e-6 or out["layers_quantized"] == 0


def test_constants_in_nodes_and_old_opset(tool, data, tmp_path):
    """Weights in Constant nodes, opset 11, a Clip with attributes' successors: PP-OCR's way of writing."""
    w = numpy_helper.from_array(RNG.standard_normal((4, 3, 3, 3)).astype(np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=w),
        helper.make_node("Conv", ["x", "w"], ["a"], name="c"),
        helper.make_node("Flatten", ["a"], ["y0"]),
        helper.make_node("Softmax", ["y0"], ["y"]),
    ]
    save(tmp_path / "old.onnx", nodes, [value("x", ["n", 3, 16, 16])], [value("y", ["n", 784])], [], opset=11)
    out = document(tool("compress", "old.onnx", "-o", "q.onnx", "--calibration", data, "--json", "--no-latency"))
    assert out["opset"] == [11, 13]
    model = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(model)
    assert "Constant" not in [n.op_type for n in model.graph.node]


def test_committed_segmentation(tool, tmp_path):
    out = document(tool("compress", MED, "-o", "q.onnx", "--calibration", MED, "--json", "--no-latency"))
    assert out["accuracy"]["agreement"] > 99 and out["size"]["ratio"] > 3


# ---- the other types ----
def test_half(tool, net, data, tmp_path):
    out = document(
        tool("compress", net, "-o", "h.onnx", "--bits", 16, "--validation", data, "--json", "--no-latency")
    )
    assert out["accuracy"]["sqnr_db"] > 55 and out["accuracy"]["agreement"] == 100  # eleven bits: 66 dB a layer
    model = onnx.load(tmp_path / "h.onnx")
    onnx.checker.check_model(model)
    assert {i.data_type for i in model.graph.initializer if i.name.startswith("w")} == {TensorProto.FLOAT16}
    out = document(
        tool("compress", net, "-o", "b.onnx", "--type", "bf16", "--validation", data, "--json", "--no-latency")
    )
    assert out["accuracy"]["sqnr_db"] > 35


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_half_in_memory(tool, tmp_path, kind):
    """Weights of products stay in 16 bits from loading on, and the results are numpy's for these weights."""
    arrays = {f"w{k}": RNG.standard_normal((512, 512)) / 20 for k in range(6)}
    nodes = [helper.make_node("MatMul", ["x" if k == 0 else f"h{k}", f"w{k}"], [f"h{k + 1}"]) for k in range(6)]
    model = save(
        tmp_path / "mlp.onnx", nodes, [value("x", ["n", 512])], [value("h6", ["n", 512])], weights(**arrays)
    )
    rows = RNG.standard_normal((3, 512)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    out = document(tool("compress", model, "-o", "h.onnx", "--type", kind, "--validation", "rows.npy", "--json"))
    assert out["size"]["ratio"] > 1.95
    assert out["memory_after"] < 0.65 * out["memory_before"], out  # a half, and what a small model takes besides
    assert tool("run", "h.onnx", "--input", "x=rows.npy", "--output-dir", "out").code == 0
    want = rows.astype(np.float64)
    for k in range(6):
        want = want @ weights_of(tmp_path / "h.onnx")[f"w{k}_{kind}"].astype(np.float64)
    got = np.load(tmp_path / "out/h6.npy")
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()  # sums of 512 products in f32, six times


def test_half_keeps_what_it_cannot_hold(tool, tmp_path):
    w = np.full((8, 8), 1e6, np.float32)
    save(
        tmp_path / "big.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", [1, 8])],
        [value("y", [1, 8])],
        weights(w=w),
    )
    done = tool("compress", "big.onnx", "-o", "h.onnx", "--type", "fp16")
    assert done.code == 0 and "65504" in done.err
    np.testing.assert_array_equal(weights_of(tmp_path / "h.onnx")["w"], w)


def test_dynamic(tool, tmp_path):
    table = RNG.standard_normal((300, 32)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["t", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["m"], name="mm"),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Gemm", ["a2", "g", "c"], ["y"], name="gm", transB=1),
    ]
    nodes.insert(3, helper.make_node("ReduceMean", ["a"], ["a2"], axes=[0], keepdims=1))
    save(
        tmp_path / "t.onnx",
        nodes,
        [value("ids", ["n"], TensorProto.INT64)],
        [value("y", [1, 5])],
        weights(
            t=table,
            w=RNG.standard_normal((32, 16)),
            b=RNG.standard_normal(16),
            g=RNG.standard_normal((5, 16)),
            c=RNG.standard_normal(5),
        ),
    )
    np.savez(tmp_path / "ids.npz", ids=RNG.integers(0, 300, (40,)))
    out = document(
        tool(
            "compress",
            "t.onnx",
            "-o",
            "d.onnx",
            "--type",
            "int8-dynamic",
            "--validation",
            "ids.npz",
            "--json",
            "--no-latency",
        )
    )
    model = onnx.load(tmp_path / "d.onnx")
    onnx.checker.check_model(model)
    ops = [n.op_type for n in model.graph.node]
    assert (
        ops.count("MatMulInteger") == 2
        and "Gemm" not in ops
        and ops.index("DequantizeLinear") == ops.index("Gather") + 1
    )
    assert out["accuracy"]["sqnr_db"] > 25 and out["size"]["ratio"] > 3


# ---- data ----
def photos(folder, count, labels=False):
    folder.mkdir()
    for k in range(count):
        Image.fromarray(RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{k:03}.png")
    if labels:
        (folder / "labels.txt").write_text("".join(f"{k:03}.png {k % 10} n\n" for k in range(count)))


def test_photos_with_labels(tool, net, tmp_path):
    photos(tmp_path / "p", 30, labels=True)
    out = document(
        tool(
            "compress",
            net,
            "-o",
            "q.onnx",
            "--calibration",
            "p",
            "--calibration-samples",
            18,
            "--image-mean",
            128,
            "--image-std",
            64,
            "--json",
            "--no-latency",
        )
    )
    a = out["accuracy"]
    assert a["samples"] == 12 and a["measure"] == "top-1" and a["drop_low"] <= a["drop"] <= a["drop_high"]
    assert round(a["top1_before"] * 0.12 - a["top1_after"] * 0.12) == a["lost"] - a["won"]
    assert out["settings"]["preprocess"]["mean"] == [128, 128, 128]


def broken(photo, kind):
    """What becomes of photos."""
    data = photo.read_bytes()
    if kind == "cut":
        photo.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        photo.write_bytes(b"")
    elif kind == "other":
        photo.write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    elif kind == "flipped":
        middle = len(data) // 2
        photo.write_bytes(data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 40]) + data[middle + 40 :])
    elif kind == "gone":
        photo.unlink()
        photo.symlink_to("nowhere")
    else:
        photo.unlink()
        photo.mkdir()


KINDS = ["cut", "empty", "other", "flipped", "gone", "folder"]


@pytest.mark.parametrize("trial", range(20))
def test_unreadable_photo_among_good_ones(tool, net, tmp_path, trial):
    """Named, left out, and the rest does the work; the photos that can be read count."""
    chance, kind = random.Random(trial), KINDS[trial % len(KINDS)]
    photos(tmp_path / "p", 20, labels=trial % 2 == 1)
    bad = f"{chance.randrange(20):03}.png"
    broken(tmp_path / "p" / bad, kind)
    done = tool("compress", net, "-o", "q.onnx", "--calibration", "p", "--no-latency", "--report", "r.json")
    assert done.code == 0, done.err
    if kind != "folder" or trial % 2 == 1:  # without labels a folder is no photo: nothing is missing
        assert bad in done.err and "left out" in done.err, done.err
        assert json.loads((tmp_path / "r.json").read_text())["accuracy"]["skipped"] == 1
    onnx.checker.check_model(onnx.load(tmp_path / "q.onnx"))


def test_no_readable_photo(tool, net, tmp_path):
    photos(tmp_path / "p", 20)
    for photo in (tmp_path / "p").iterdir():
        photo.write_bytes(b"nothing")
    done = tool("compress", net, "-o", "r.onnx", "--calibration", "p")
    assert done.code == 1 and "could be read" in done.err and not (tmp_path / "r.onnx").exists()


def test_sets_and_files(tool, net, tmp_path):
    folder = tmp_path / "sets"
    for k in range(20):
        write_set(folder / f"test_data_set_{k}", [RNG.standard_normal((2, 3, 16, 16)).astype(np.float32)], [])
    assert (
        document(tool("compress", net, "-o", "q.onnx", "--calibration", folder, "--json", "--no-latency"))[
            "calibrated"
        ]
        == 20
    )
    (tmp_path / "files").mkdir()
    for k in range(17):
        np.savez_compressed(
            tmp_path / f"files/{k}.npz", x=RNG.standard_normal((1, 3, 16, 16))
        )  # doubles are converted
    assert (
        document(tool("compress", net, "-o", "q.onnx", "--calibration", "files", "--json", "--no-latency"))[
            "calibrated"
        ]
        == 17
    )


@pytest.mark.parametrize(
    "name, array, words",
    [
        ("rank.npy", np.zeros((30, 16, 16), np.float32), ["rank.npy", "[30,16,16]", "'x'"]),
        ("dims.npy", np.zeros((30, 3, 16, 15), np.float32), ["dims.npy"]),
        ("type.npy", np.zeros((30, 3, 16, 16), np.int32), ["i32", "f32"]),
        ("none.npy", np.zeros((0, 3, 16, 16), np.float32), ["no sample"]),
    ],
)
def test_wrong_data(tool, net, tmp_path, name, array, words):
    np.save(tmp_path / name, array)
    done = tool("compress", net, "-o", "q.onnx", "--calibration", name)
    assert done.code == 1 and done.out == "" and all(w in done.err for w in words), done.err
    assert not (tmp_path / "q.onnx").exists()


def test_poor_data_warns(tool, net, tmp_path):
    np.save(tmp_path / "same.npy", np.ones((4, 3, 16, 16), np.float32))
    done = tool("compress", net, "-o", "q.onnx", "--calibration", "same.npy", "--no-latency")
    assert done.code == 0 and "few" in done.err and "constant" in done.err


def test_missing_data(tool, net):
    done = tool("compress", net, "-o", "q.onnx")
    assert done.code == 1 and "calibration data" in done.err
    done = tool("compress", net, "-o", "q.onnx", "--calibration", "nowhere")
    assert done.code == 1 and "nowhere" in done.err


def test_npz_lacks_an_input(tool, net, tmp_path):
    np.savez(tmp_path / "z.npz", a=np.zeros(3), b=np.zeros(3))
    done = tool("compress", net, "-o", "q.onnx", "--calibration", "z.npz")
    assert done.code == 1 and "z.npz" in done.err


# ---- judges ----
def test_metric_command(tool, net, data, tmp_path):
    script = tmp_path / "judge"
    script.write_text('#!/bin/sh\necho $(wc -c <"$1")\n')
    script.chmod(0o755)
    out = document(
        tool("compress", net, "-o", "q.onnx", "--calibration", data, "--metric", script, "--json", "--no-latency")
    )
    assert out["accuracy"]["metric_before"] == net.stat().st_size and out["accuracy"]["measure"] == "metric"
    script.write_text("#!/bin/sh\nexit 3\n")
    done = tool("compress", net, "-o", "r.onnx", "--calibration", data, "--metric", script)
    assert done.code == 1 and "3" in done.err and not (tmp_path / "r.onnx").exists()


def test_sensitivity_and_reports(tool, net, data, tmp_path):
    done = tool(
        "compress",
        net,
        "-o",
        "q.onnx",
        "--calibration",
        data,
        "--sensitivity",
        "--report",
        "r.json",
        "--report",
        "r.html",
    )
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert all(layer["alone_sqnr_db"] > 10 for layer in report["layers"]) and report["ms_before"] > 0
    page = (tmp_path / "r.html").read_text()
    assert (
        page.startswith("<!doctype html>") and page.count("<svg") == 2 and "src=" not in page and "http" not in page
    )


# ---- usage and files ----
@pytest.mark.parametrize(
    "words, code, part",
    [
        (["-o", "q.onnx", "--strategy", "sparse"], 2, "later version"),
        (["-o", "q.onnx", "--bits", "4"], 2, "INT4"),
        (["-o", "q.txt"], 2, ".onnx"),
        ([], 2, "-o"),
        (["-o", "q.onnx", "--report", "r.pdf"], 2, ".html"),
        (["-o", "q.onnx", "--without", "luck"], 2, "luck"),
        (["-o", "q.onnx", "--max-drop", "-1"], 2, "max-drop"),
    ],
)
def test_usage(tool, net, tmp_path, words, code, part):
    done = tool("compress", net, *words)
    assert done.code == code and part in done.err and done.out == ""
    assert left(tmp_path) == ["net.onnx"]


def test_input_is_never_the_output(tool, net, data):
    before = net.read_bytes()
    done = tool("compress", net, "-o", net, "--calibration", data)
    assert done.code == 1 and "never overwritten" in done.err and net.read_bytes() == before


def test_dry_run(tool, net, tmp_path):
    out = document(tool("compress", net, "--dry-run", "--json"))
    assert (
        out["dry_run"] is True
        and 0 < out["size"]["after"] < net.stat().st_size * 3
        and left(tmp_path) == ["cache", "net.onnx"][-len(left(tmp_path)) :]
    )


def test_zst_in_and_out(tool, net, data, tmp_path):
    out = document(tool("compress", net, "-o", "q.onnx.zst", "--calibration", data, "--json", "--no-latency"))
    assert (tmp_path / "q.onnx.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert out["size"]["zstd_before"] > 0
    assert tool("inspect", "q.onnx.zst").code == 0
    out = document(tool("compress", "q.onnx.zst", "-o", "h.onnx", "--type", "fp16", "--json"))
    assert out["input"].endswith("q.onnx.zst")


def limited_to(size):
    """For a child: files may not grow beyond `size`, which stands in for a full disk: the same error, from the same calls."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return limit


@pytest.mark.parametrize("trial", range(20))
def test_full_disk(net, data, tmp_path, trial):
    """Full at any byte of the file, packed or not: one sentence, the input as it was, nothing new in the folder."""
    chance, before = random.Random(trial), net.read_bytes()
    name = "q.onnx" if trial % 2 else "q.onnx.zst"
    done = subprocess.run(
        [BINARY, "compress", net, "-o", name, "--calibration", data, "--no-latency"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limited_to(chance.randrange(900)),
        env={**os.environ, "XDG_CACHE_HOME": ""},
    )
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert name in done.stderr and "too large" in done.stderr, done.stderr
    assert net.read_bytes() == before and left(tmp_path) == ["data.npy", "net.onnx"]


def test_full_disk_before_the_report(tool, net, data, tmp_path):
    """The model is there, whole, and of the report nothing."""
    words = ["compress", net, "--calibration", data, "--no-latency"]
    assert tool(*words, "-o", "whole.onnx").code == 0
    whole = (tmp_path / "whole.onnx").read_bytes()
    done = subprocess.run(
        [str(word) for word in (BINARY, *words, "-o", "q.onnx", "--report", "r.html")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limited_to(len(whole)),
    )
    assert done.returncode == 1 and "r.html" in done.stderr, done.stderr
    assert (tmp_path / "q.onnx").read_bytes() == whole and "r.html" not in left(tmp_path)


def test_really_full_disk(net, data, tmp_path):
    """A file system of 16 KiB, which only root can make."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        (disk / "filler").write_bytes(bytes(12 << 10))
        done = subprocess.run(
            [BINARY, "compress", net, "-o", disk / "q.onnx", "--calibration", data, "--no-latency"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1 and "No space left" in done.stderr and left(disk) == ["filler"], done.stderr
    finally:
        subprocess.run(["umount", disk], check=False)


def test_killed_at_any_moment(tool, net, data, tmp_path):
    """What stands under the output's name after kill -9 is what was there before, or the whole file; nothing else is left."""
    start = time.monotonic()
    document(tool("compress", net, "-o", "whole.onnx", "--calibration", data, "--json", "--no-latency"))
    took = time.monotonic() - start
    whole, before = (tmp_path / "whole.onnx").read_bytes(), net.read_bytes()
    (tmp_path / "whole.onnx").unlink()
    chance, found, finished = random.Random(3), left(tmp_path), 0
    for trial in range(40):
        old = trial % 2 == 1  # an earlier result stands there
        (tmp_path / "q.onnx").unlink(missing_ok=True)
        if old:
            (tmp_path / "q.onnx").write_bytes(b"an earlier file")
        process = subprocess.Popen(
            [BINARY, "compress", net, "-o", "q.onnx", "--calibration", data, "--no-latency"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        time.sleep(chance.random() * took)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert net.read_bytes() == before
        now = (tmp_path / "q.onnx").read_bytes() if (tmp_path / "q.onnx").exists() else None
        assert now in (whole, b"an earlier file" if old else None)
        finished += now == whole
        # Without files that have no name (some file systems), a temporary one may stay; never under the output's name.
        assert [n for n in left(tmp_path) if n != "q.onnx" and ".tmp-" not in n] == found
    assert finished < 40


def test_interrupted(net, data, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    np.save(data, RNG.standard_normal((4000, 3, 16, 16)).astype(np.float32))
    process = subprocess.Popen(
        [BINARY, "compress", net, "-o", "q.onnx", "--calibration", data, "--calibration-samples", "4000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 1 and "stopped while" in error
    assert "q.onnx" not in left(tmp_path)


def test_functions_are_left_alone(tool, data, tmp_path):
    """A Conv in the body of a model-local function is the function's; the one beside it is quantised."""
    body = helper.make_function(
        "local",
        "Block",
        ["x", "w"],
        ["y"],
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        [helper.make_opsetid("", 13)],
    )
    w = RNG.standard_normal((4, 3, 3, 3))
    nodes = [
        helper.make_node("Block", ["x", "w0"], ["a"], domain="local"),
        helper.make_node("Conv", ["a", "w1"], ["y"], name="own"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", [1, 3, 16, 16])],
        [value("y", [1, 5, 12, 12])],
        weights(w0=w, w1=RNG.standard_normal((5, 4, 3, 3))),
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[body]), tmp_path / "f.onnx")
    out = document(tool("compress", "f.onnx", "-o", "q.onnx", "--calibration", data, "--json", "--no-latency"))
    assert [layer["name"] for layer in out["layers"]] == ["own"]
    model = onnx.load(tmp_path / "q.onnx")
    onnx.checker.check_model(model)
    assert "w0" in [i.name for i in model.graph.initializer] and out["accuracy"]["sqnr_db"] > 30


def test_shared_weights(tool, data, tmp_path):
    """Two layers with one weight share its codes; the original's other readers keep it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"], name="two", pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", ["c", "m"], ["y"]),
    ]
    save(
        tmp_path / "s.onnx",
        nodes,
        [value("x", [1, 3, 16, 16])],
        [value("y", [1, 3, 16, 16])],
        weights(w=RNG.standard_normal((3, 3, 3, 3)) / 3),
    )
    out = document(tool("compress", "s.onnx", "-o", "q.onnx", "--calibration", data, "--json", "--no-latency"))
    arrays = weights_of(tmp_path / "q.onnx")
    assert (
        out["layers_quantized"] == 2
        and "w" in arrays
        and sum(a.dtype == np.int8 and a.ndim == 4 for a in arrays.values()) == 1
    )
    assert out["accuracy"]["sqnr_db"] > 25


# ---- polestar demo compression ----
FORMS = ["float32", "FP16", "INT8 dynamic", "INT8 static", "mixed"]


def check_demo(out, page, tmp_path):
    for model in out["models"]:
        forms = {form["form"]: form for form in model["forms"]}
        assert list(forms) == FORMS
        for name, form in forms.items():
            if "failure" in form:
                continue
            assert form["bytes"] > 0 and form["ms"] > 0 and form["memory_bytes"] > 0, (name, form)
            assert 0 <= form["accuracy"] <= 100
        if forms["float32"]["bytes"] > 1 << 18:  # else names and shapes are most of the file
            assert forms["FP16"]["bytes"] < 0.55 * forms["float32"]["bytes"]
            assert forms["INT8 static"]["bytes"] < 0.4 * forms["float32"]["bytes"]
    text = page.read_text()
    assert all(name in text for name in FORMS) and "http" not in text and text.count("<table>") >= len(out["models"])
    assert not list(tmp_path.glob("polestar-demo-*"))  # nothing but the page stays


def demo(tmp_path, *words, **environment):
    done = subprocess.run(
        [BINARY, "demo", "compression", "--json", "--html", "page.html", *map(str, words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment},
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    check_demo(out, tmp_path / "page.html", tmp_path)
    return out["models"], done.stderr


def test_demo_on_medical_networks(tmp_path):
    """The two networks of tests/models on pictures drawn in C: they know what was drawn, and 8 bits change little."""
    models, told = demo(tmp_path, "--models", TOP / "tests/models", "--judged", 20)
    assert "fetch-models" in told and [m["measure"] for m in models] == ["Dice", "right"]
    for model in models:
        accuracy = {form["form"]: form.get("accuracy") for form in model["forms"]}
        assert accuracy["float32"] > 85  # 0.95 mean Dice and 98 % were measured on the pictures they were tested with
        assert abs(accuracy["FP16"] - accuracy["float32"]) < 1
        assert accuracy["INT8 static"] > accuracy["float32"] - 6  # one of 20 volumes


def test_demo_without_models(tmp_path):
    (model,), _ = demo(tmp_path, "--models", tmp_path)
    assert "perceptron" in model["model"] and model["measure"] == "same argmax" and model["judged"] == 128


def test_demo_on_a_model(net, data, tmp_path):
    (model,), _ = demo(tmp_path, net, "--data", data, "--max-drop", 5)
    assert model["model"] == "net.onnx" and model["forms"][3]["layers_quantized"] == 4


def test_demo_reads_drawn_lines(tmp_path):
    """The recogniser reads what demo_text.c draws: so letters are letters, whoever drew them."""
    cache = subprocess.run(
        [TOP / "tools/fetch-models", "--dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not os.path.exists(f"{cache}/ppocr-rec/model.onnx"):
        pytest.skip("tools/fetch-models ppocr-rec was not run")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ppocr-rec").symlink_to(f"{cache}/ppocr-rec")
    (model,), told = demo(tmp_path, "--models", tmp_path / "models", "--judged", 25)
    assert model["measure"] == "exact text" and "fetch-models" not in told
    exact = {form["form"]: form["accuracy"] for form in model["forms"]}
    assert exact["float32"] >= 84 and abs(exact["FP16"] - exact["float32"]) <= 4  # one line of 25
    assert (tmp_path / "page.html").read_text().count("data:image/bmp;base64,") == 8
