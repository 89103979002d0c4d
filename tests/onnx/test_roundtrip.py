"""Models opened to be edited and written again (src/onnx/edit.h), judged by the `onnx` package: what was not touched is the same,
fields nobody knows included."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
COPY = BINARY.parent.parent / "tests" / "onnx_copy"
# Without external.onnx: the package reads a tensor there to the end of the file, beyond what its shape needs.
MODELS = [p for p in sorted((TOP / "tests/data/onnx/good").glob("*.onnx")) if p.stem != "external"]
MODELS += sorted((TOP / "tests/models").glob("*/model.onnx"))


def copy(source, target, *options, code=0):
    done = subprocess.run([COPY, source, target, *options], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def field(number, data):
    """A field of 16 … 2047 with bytes in it, as protobuf writes it."""
    return bytes([number << 3 & 0x78 | 0x82, number >> 4, len(data)]) + data


def with_unknown_fields():
    """Fields 90 and 99 are not in the schema of any of these messages."""
    rng = np.random.default_rng(1)
    big = numpy_helper.from_array(rng.standard_normal((64, 32)).astype(np.float32), "big")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    half = numpy_helper.from_array(np.float16([1, 2, 3]), "half")
    names = helper.make_tensor("names", TensorProto.STRING, [2], [b"a", b"\xff\x00b"])
    for t in (big, typed):
        t.MergeFromString(field(90, b"tensor"))
        t.doc_string = "kept"
    nodes = [helper.make_node("Identity", ["big"], ["y"], name="n"), helper.make_node("Identity", ["typed"], ["z"])]
    nodes[0].MergeFromString(field(99, b"node"))
    g = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "z")],
                          [big, typed, half, names], doc_string="graph")
    g.quantization_annotation.add(tensor_name="big")
    m = helper.make_model(g, producer_name="someone", opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("x.y", 3)])
    helper.set_model_props(m, {"k": "v", "leer": ""})
    m.MergeFromString(field(99, b"model"))
    return m


def content(t):
    return np.array(list(t.string_data), object) if t.data_type == TensorProto.STRING else numpy_helper.to_array(t)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.parent.name + "-" + p.stem)
def test_nothing_touched(tmp_path, path):
    source = onnx.load(path)
    copy(path, tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == source


def test_same_bytes_with_unknown_fields(tmp_path):
    m = with_unknown_fields()
    (tmp_path / "in.onnx").write_bytes(m.SerializeToString(deterministic=True))
    copy(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    for text in (b"tensor", b"node", b"model"):
        assert text in (tmp_path / "out.onnx").read_bytes()


@pytest.mark.parametrize("options", [[], ["external=w.bin", "bytes=1"], ["zstd=3"], ["external=w.bin", "zstd=19"]], ids=str)
def test_replaced(tmp_path, options):
    m = with_unknown_fields()
    (tmp_path / "in.onnx").write_bytes(m.SerializeToString())
    target = tmp_path / ("out.onnx.zst" if "zstd" in str(options) else "out.onnx")
    copy(tmp_path / "in.onnx", target, "negate=typed", "half=big", *options)
    copy(target, tmp_path / "plain.onnx")  # embedded again, unpacked again
    old, new = m.graph.initializer, onnx.load(tmp_path / "plain.onnx").graph.initializer
    values = [content(t) for t in old]
    assert (numpy_helper.to_array(new[0]) == values[0][:32].astype(np.float64)).all()
    assert (numpy_helper.to_array(new[1]) == -values[1]).all()
    assert [content(t).tolist() for t in new[2:]] == [v.tolist() for v in values[2:]]
    back = onnx.load(tmp_path / "plain.onnx")
    for a, b in zip(back.graph.initializer, old):
        assert (a.name, a.doc_string) == (b.name, b.doc_string)
        a.CopyFrom(b)
    assert back == m  # all but the elements


def test_external_data_is_aligned_and_standard(tmp_path):
    m = with_unknown_fields()
    (tmp_path / "in.onnx").write_bytes(m.SerializeToString())
    copy(tmp_path / "in.onnx", tmp_path / "out.onnx", "external=w.bin", "bytes=4")
    bare = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    places = [{e.key: e.value for e in t.external_data} for t in bare.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert [p["location"] for p in places] == ["w.bin"] * 2 and all(int(p["offset"]) % 4096 == 0 for p in places)
    load_external_data_for_model(bare, str(tmp_path))
    for a, b in zip(bare.graph.initializer, m.graph.initializer):
        if b.name != "names":
            assert (numpy_helper.to_array(a) == numpy_helper.to_array(b)).all()
    refused = copy(tmp_path / "in.onnx", tmp_path / "x.onnx", "external=../w.bin", code=1)
    assert "no name of a file beside the model" in refused and not (tmp_path / "x.onnx").exists()


def test_compressed_models_load(tmp_path):
    source = TOP / "tests/models/med-ct-seg-synth"
    for sub in source.glob("test_data_set_*"):
        (tmp_path / sub.name).symlink_to(sub)
    copy(source / "model.onnx", tmp_path / "model.onnx.zst", "zstd=3")
    assert (tmp_path / "model.onnx.zst").stat().st_size < (source / "model.onnx").stat().st_size
    one, two = (subprocess.run([BINARY, "run", p], capture_output=True, text=True, check=True).stdout
                for p in (source / "model.onnx", tmp_path))
    assert one == two
    data = (tmp_path / "model.onnx.zst").read_bytes()
    for bad, sentence in ((data[:-9], "ends too early"), (data[:200] + b"\x00" * 50 + data[250:], "is damaged")):
        (tmp_path / "bad.onnx.zst").write_bytes(bad)
        done = subprocess.run([BINARY, "inspect", tmp_path / "bad.onnx.zst"], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and sentence in done.stderr
