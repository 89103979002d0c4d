#!/usr/bin/env python3
"""Writes the seeds of fuzz/corpus: one small valid file for each feature of a format. Needs numpy, onnx, pillow."""

import io
from pathlib import Path

import numpy as np
from onnx import MapProto, TensorProto, helper, numpy_helper
from PIL import Image

CORPUS = Path(__file__).resolve().parent.parent.parent / "fuzz/corpus"
FLOAT = TensorProto.FLOAT


def put(folder, name, data):
    (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    (CORPUS / folder / name).write_bytes(data)


def model(name, nodes, inputs, outputs, weights=()):
    infos = [[helper.make_tensor_value_info(n, t, s) for n, t, s in group] for group in (inputs, outputs)]
    graph = helper.make_graph(nodes, name, *infos, [numpy_helper.from_array(array, n) for n, array in weights])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("ai.onnx.ml", 3)] if any(n.domain for n in nodes) else [])
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(made, {"key": "value"})
    put("model", f"{name}.onnx", made.SerializeToString())


def models():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((2, 1, 3, 3)).astype(np.float32)
    model("conv", [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["y"], ["z"])],
          [("x", FLOAT, ["n", 1, 4, 4])], [("z", FLOAT, None)], [("w", weight)])
    branches = [helper.make_graph([helper.make_node(kind, ["x"], [kind])], kind, [],
                                  [helper.make_tensor_value_info(kind, FLOAT, None)]) for kind in ("Relu", "Neg")]
    model("if", [helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1])],
          [("x", FLOAT, [2]), ("c", TensorProto.BOOL, [])], [("z", FLOAT, None)])
    model("shape", [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "i"], ["d"]),
                    helper.make_node("Concat", ["d", "m"], ["t"], axis=0), helper.make_node("Reshape", ["x", "t"], ["z"])],
          [("x", FLOAT, ["a", "b", 3])], [("z", FLOAT, None)],
          [("i", np.array([0], np.int64)), ("m", np.array([-1], np.int64))])
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.arange(4, dtype=np.float32)))
    model("constant", [constant, helper.make_node("Add", ["x", "k"], ["z"])], [("x", FLOAT, [4])], [("z", FLOAT, [4])])
    lstm = [("w", rng.standard_normal((1, 8, 3)).astype(np.float32)), ("r", rng.standard_normal((1, 8, 2)).astype(np.float32))]
    model("lstm", [helper.make_node("LSTM", ["x", "w", "r"], ["z"], hidden_size=2)], [("x", FLOAT, ["t", 1, 3])],
          [("z", FLOAT, None)], lstm)


def tensors():
    for kind in (np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_):
        array = np.arange(6).reshape(2, 3).astype(kind)
        put("tensor", f"raw_{np.dtype(kind).name}.pb", numpy_helper.from_array(array, "t").SerializeToString())
    for name, kind, values in (("f32", FLOAT, [1.5, -2]), ("i32", TensorProto.INT32, [1, -2]), ("i64", TensorProto.INT64, [1, 2]),
                               ("f64", TensorProto.DOUBLE, [1, 2]), ("u64", TensorProto.UINT64, [1, 2]),
                               ("f16", TensorProto.FLOAT16, [1, 2]), ("bf16", TensorProto.BFLOAT16, [1, 2]),
                               ("i4", TensorProto.INT4, [1, -2]), ("string", TensorProto.STRING, [b"a", b"bc"])):
        put("tensor", f"typed_{name}.pb", helper.make_tensor("t", kind, [2], values).SerializeToString())
    put("tensor", "scalar.pb", numpy_helper.from_array(np.array(7, np.int64), "t").SerializeToString())


def images():
    pixels = np.random.default_rng(2).integers(0, 256, (24, 31, 3), np.uint8)
    for mode in ("RGB", "L", "P", "RGBA", "1", "I;16"):
        deep = pixels[..., 0].astype(np.uint16) * 257
        image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
        data = io.BytesIO()
        image.save(data, "PNG")
        put("image", f"{mode.replace(';', '_')}.png", data.getvalue())
    for name, options in (("baseline", {}), ("progressive", {"progressive": True}), ("subsampled", {"subsampling": 2})):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=70, **options)
        put("image", f"{name}.jpg", data.getvalue())


def graphs():
    put("graph", "small.txt", b"graph (x: f32[2]) -> (y) opset 17 { # comment\n y = Add(x, f32[2]{1.5, -2e3}) }")
    put("graph", "names.txt", b'graph g ("a b": string[2], y: i64[] = {9223372036854775807}) -> ("_") opset 13 {\n'
                              b' "_" = Identity(y) }')
    put("graph", "symbols.txt", b"graph main (x: f32[1,3,h,w], c: bool[]) -> (z) opset 17, com.microsoft 1 {\n z = Relu(x)\n}\n")


def values():
    """The first byte is the kind: 0 sequence, 1 optional, 2 map."""
    one, two = np.arange(3, dtype=np.float32), np.array(["a", "bc"], object)
    put("value", "sequence.pb", b"\0" + numpy_helper.from_list([one, one[:0]]).SerializeToString())
    put("value", "nested.pb", b"\0" + numpy_helper.from_list([[two], [two, two]]).SerializeToString())
    put(
        "value", "maps.pb", b"\0" + numpy_helper.from_list([{1: np.float32(2)}, {3: np.float32(4)}]).SerializeToString()
    )
    put("value", "optional.pb", b"\1" + numpy_helper.from_optional(one).SerializeToString())
    put("value", "none.pb", b"\1" + numpy_helper.from_optional(None).SerializeToString())
    named = MapProto(
        key_type=TensorProto.STRING, string_keys=[b"a", b"b"], values=numpy_helper.from_list([np.int64(1), np.int64(2)])
    )
    put("value", "map.pb", b"\2" + named.SerializeToString())


def patterns():
    seeds = (
        (r"(\w[\w.\-]+)@([\w\-]+\.)+\w{2,}", "a.b@c.de"),
        (r"(?i:[k-mß]|\pL)*$", "Kelvin"),
        (r"(?P<n>a{2,3}?|[^[:alpha:]\D])+", "aa1"),
        (r"(?ms)^.$\n\bx\B\Q.*\E\x{1F600}", "a\nxy"),
        (r"((x+x+)+y|)*", "xxxxxxxx"),
    )
    for k, (pattern, words) in enumerate(seeds):
        put("regex", f"pattern{k}", pattern.encode() + b"\0" + words.encode())


def text_models():
    """Strings, sequences and a forest."""
    string, ml = TensorProto.STRING, {"domain": "ai.onnx.ml"}
    model(
        "split",
        [helper.make_node("SplitToSequence", ["x"], ["s"]), helper.make_node("SequenceAt", ["s", "i"], ["z"])],
        [("x", FLOAT, [3, 2])],
        [("z", FLOAT, None)],
        [("i", np.array(1, np.int64))],
    )
    model(
        "forest",
        [
            helper.make_node(
                "TreeEnsembleClassifier",
                ["x"],
                ["label", "z"],
                nodes_treeids=[0, 0, 0],
                nodes_nodeids=[0, 1, 2],
                nodes_featureids=[1, 0, 0],
                nodes_truenodeids=[1, 0, 0],
                nodes_falsenodeids=[2, 0, 0],
                nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
                nodes_values=[0.5, 0.0, 0.0],
                class_treeids=[0, 0],
                class_nodeids=[1, 2],
                class_ids=[0, 1],
                class_weights=[1.0, 1.0],
                classlabels_strings=["a", "b"],
                **ml,
            )
        ],
        [("x", FLOAT, ["n", 2])],
        [("label", string, None), ("z", FLOAT, None)],
    )
    model(
        "labels",
        [
            helper.make_node("LabelEncoder", ["x"], ["z"], keys_strings=["a", "b"], values_int64s=[1, 2], **ml),
            helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="UPPER", stopwords=["b"]),
        ],
        [("x", string, ["n"])],
        [("z", TensorProto.INT64, None), ("y", string, None)],
    )


if __name__ == "__main__":
    models()
    values()
    patterns()
    text_models()
    tensors()
    images()
    graphs()
