"""Models rewritten for a later opset (src/onnx/upgrade.c): the same outputs before and after, for every operator whose
meaning changed between 7 and 21. The oracle is this library's own rows of the operator table for both versions, which the
ONNX node suite checks. The rewritten
file passes the ONNX checker for its version."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = TOP / "build/release"
TOOL = Path(os.environ.get("POLESTAR", BUILD / "bin/polestar"))
COPY = BUILD / "tests/onnx_copy"
F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def floats(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op, inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), name=f"{op}_0", **attributes)


X = floats(2, 3, 4, 6)
# name: (opset, node, {input: array}, initializers)
CASES = {
    "upsample7_nearest": (7, node("Upsample", ["x"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]), X, []),
    "upsample7_linear": (8, node("Upsample", ["x"], mode="linear", scales=[1.0, 1.0, 2.0, 1.5]), X, []),
    "upsample9": (9, node("Upsample", ["x", "s"], mode="nearest"), X, [tensor("s", np.float32([1, 1, 3, 2]))]),
    "resize10_up": (10, node("Resize", ["x", "s"], mode="nearest"), X, [tensor("s", np.float32([1, 1, 1.5, 2]))]),
    "resize10_down": (10, node("Resize", ["x", "s"], mode="nearest"), X, [tensor("s", np.float32([1, 1, 0.5, 0.6]))]),
    "resize10_linear": (10, node("Resize", ["x", "s"], mode="linear"), X, [tensor("s", np.float32([1, 1, 2.5, 2]))]),
    "batchnorm8": (
        8,
        node("BatchNormalization", ["x", "g", "b", "m", "v"], spatial=1),
        X,
        [tensor(n, np.abs(floats(3, seed=k)) + 1) for k, n in enumerate("gbmv")],
    ),
    "slice9": (9, node("Slice", ["x"], starts=[1, 0], ends=[4, -2], axes=[2, 3]), X, []),
    "slice9_no_axes": (7, node("Slice", ["x"], starts=[0, 1], ends=[2, 3]), X, []),
    "topk9": (9, node("TopK", ["x"], ["y", "i"], k=3, axis=2), X, []),
    "dropout7": (7, node("Dropout", ["x"], ratio=0.3), X, []),
    "dropout10": (10, node("Dropout", ["x"], ratio=0.3), X, []),
    "clip6": (7, node("Clip", ["x"], min=-0.3, max=0.5), X, []),
    "clip6_max": (10, node("Clip", ["x"], max=0.5), X, []),
    "clip6_none": (10, node("Clip", ["x"]), X, []),
    "pad2": (7, node("Pad", ["x"], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=1.5), X, []),
    "pad2_reflect": (10, node("Pad", ["x"], mode="reflect", pads=[0, 0, 1, 2, 0, 0, 0, 1]), X, []),
    "scatter9": (
        9,
        node("Scatter", ["x", "i", "u"], axis=1),
        floats(2, 5),
        [tensor("i", np.int64([[1, 3], [0, 2]])), tensor("u", np.float32([[9, 8], [7, 6]]))],
    ),
    "softmax_axis1": (11, node("Softmax", ["x"], axis=1), X, []),
    "softmax_default": (7, node("Softmax", ["x"]), X, []),
    "softmax_last": (11, node("Softmax", ["x"], axis=3), X, []),
    "softmax_negative": (11, node("Softmax", ["x"], axis=-2), X, []),
    "logsoftmax": (11, node("LogSoftmax", ["x"], axis=2), X, []),
    "hardmax": (11, node("Hardmax", ["x"], axis=2), X, []),
    "squeeze": (11, node("Squeeze", ["x"], axes=[0, 2]), floats(1, 3, 1, 2), []),
    "squeeze_all": (11, node("Squeeze", ["x"]), floats(1, 3, 1, 2), []),
    "unsqueeze": (11, node("Unsqueeze", ["x"], axes=[0, 3]), floats(3, 2), []),
    "reducesum": (11, node("ReduceSum", ["x"], axes=[1, 3], keepdims=0), X, []),
    "reducesum_all": (11, node("ReduceSum", ["x"]), X, []),
    "split": (11, node("Split", ["x"], ["y", "z"], axis=3, split=[2, 4]), X, []),
    "split_equal": (11, node("Split", ["x"], ["y", "z"], axis=3), X, []),
    "split13_equal": (13, node("Split", ["x"], ["y", "z"], axis=2), X, []),
    "roialign10": (
        10,
        node("RoiAlign", ["x", "r", "b"], output_height=2, output_width=3, spatial_scale=0.5),
        X,
        [tensor("r", np.float32([[0, 0, 8, 6], [1, 2, 7, 7]])), tensor("b", np.int64([0, 1]))],
    ),
    **{
        f"reduce_{op[6:].lower()}": (17, node(op, ["x"], axes=[-1, 1], keepdims=1), np.abs(X) + 0.1, [])
        for op in (
            "ReduceMax",
            "ReduceMin",
            "ReduceMean",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        )
    },
    "gridsample16": (
        16,
        node("GridSample", ["x", "g"], mode="bilinear", padding_mode="border"),
        X,
        [tensor("g", np.clip(floats(2, 3, 3, 2, seed=5), -1.2, 1.2))],
    ),
    "gridsample16_cubic": (
        16,
        node("GridSample", ["x", "g"], mode="bicubic"),
        X,
        [tensor("g", np.clip(floats(2, 3, 3, 2, seed=5), -1, 1))],
    ),
    "dft17": (17, node("DFT", ["x"], axis=2), floats(2, 3, 8, 1), []),
    "dft17_length": (17, node("DFT", ["x", "n"]), floats(1, 8, 1), [tensor("n", np.int64(6))]),
    "groupnorm18": (
        18,
        node("GroupNormalization", ["x", "s", "b"], num_groups=2, epsilon=1e-3),
        floats(2, 6, 3, 2),
        [tensor("s", np.float32([1.5, -2])), tensor("b", np.float32([0.1, 0.7]))],
    ),
}
TYPES = {"i": I}


def shaped(model):
    """The checker wants a shape on every output."""
    for output in model.graph.output:
        output.type.tensor_type.shape.SetInParent()
    ranks = {}
    bare = onnx.ModelProto.FromString(model.SerializeToString())
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    for output in onnx.shape_inference.infer_shapes(bare).graph.output:
        ranks[output.name] = len(output.type.tensor_type.shape.dim) if output.type.tensor_type.HasField("shape") else None
    for output in model.graph.output:
        for k in range(ranks[output.name] or 0):
            output.type.tensor_type.shape.dim.add().dim_param = f"{output.name}{k}"
    return model


def model_of(opset, made, array, weights):
    outputs = [helper.make_tensor_value_info(name, TYPES.get(name, F), None) for name in made.output]
    graph = helper.make_graph([made], "case_graph", [helper.make_tensor_value_info("x", F, array.shape)], outputs, weights)
    return shaped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4))


def run(model, array, folder):
    folder.mkdir()
    np.save(folder / "x.npy", array)
    subprocess.run(
        [TOOL, "run", model, f"x={folder / 'x.npy'}", "--device", "ref", "--no-fusion", "--output-dir", folder / "out"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {p.stem: np.load(p) for p in sorted((folder / "out").iterdir())}


def upgrade(source, target, opset):
    return subprocess.run([COPY, source, target, f"opset={opset}"], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name, target", [(name, target) for name in CASES for target in (13, 21) if CASES[name][0] < target])
def test_outputs_stay(name, target, tmp_path):
    opset, made, array, weights = CASES[name]
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(model_of(opset, made, array, weights), before)
    done = upgrade(before, after, target)
    assert done.returncode == 0, done.stderr
    result = onnx.load(after)
    assert [o.version for o in result.opset_import if o.domain == ""] == [target]
    onnx.checker.check_model(result)
    want, have = run(before, array, tmp_path / "a"), run(after, array, tmp_path / "b")
    assert want.keys() == have.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(value, have[key], err_msg=key)


def test_rules_reach_subgraphs(tmp_path):
    """A Softmax over rows inside both branches of an If, and a Clip of the outer graph that a branch captures."""
    branches = [
        helper.make_graph(
            [helper.make_node("Softmax", ["c"], ["t"], axis=1), helper.make_node(op, ["t"], ["z"])],
            op,
            [],
            [helper.make_tensor_value_info("z", F, None)],
        )
        for op in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("Clip", ["x"], ["c"], min=-1.0),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "limit"], ["big"]),
        helper.make_node("If", ["big"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, X.shape)],
        [helper.make_tensor_value_info("y", F, None)],
        [tensor("limit", np.float32(100))],
    )
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(shaped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=4)), before)
    for k, array in enumerate((X, X + 200)):
        assert upgrade(before, after, 21).returncode == 0
        onnx.checker.check_model(after)
        np.testing.assert_array_equal(run(before, array, tmp_path / f"a{k}")["y"], run(after, array, tmp_path / f"b{k}")["y"])


@pytest.mark.parametrize(
    "opset, made, word",
    [
        (8, node("BatchNormalization", ["x", "g", "b", "m", "v"], spatial=0), "spatial"),
        (7, node("Dropout", ["x"], ["y", "mask"]), "mask"),
        (6, node("Abs", ["x"]), "oldest"),
    ],
)
def test_no_equivalent(opset, made, word, tmp_path):
    weights = [tensor(n, np.abs(floats(*X.shape[1:], seed=k)) + 1) for k, n in enumerate("gbmv")] if "g" in made.input else []
    before = tmp_path / "before.onnx"
    onnx.save(model_of(opset, made, X, weights), before)
    done = upgrade(before, tmp_path / "after.onnx", 13)
    assert done.returncode != 0 and word in done.stderr and not (tmp_path / "after.onnx").exists()


MODELS = Path(os.environ.get("POLESTAR_MODELS", TOP.parent / "shared/models"))


def older_models():
    """Folder and target of every shared model, for each target that is newer than it."""
    for file in sorted([*MODELS.glob("*/model.onnx"), *(TOP / "tests/models").glob("*/model.onnx")]):
        opset = max(o.version for o in onnx.load(file, load_external_data=False).opset_import if o.domain == "")
        yield from (pytest.param(file.parent, target, id=f"{file.parent.name}-{target}") for target in (13, 21) if opset < target)


@pytest.mark.parametrize("folder, target", older_models())
def test_models_stay(folder, target, tmp_path):
    """Every shared model, run before and after on the same random input."""
    after = tmp_path / folder.name / "model.onnx"
    after.parent.mkdir()
    done = upgrade(folder / "model.onnx", after, target)
    assert done.returncode == 0, done.stderr
    onnx.checker.check_model(after)
    for data in sorted(folder.glob("test_data_set_*")):
        (after.parent / data.name).symlink_to(data)
    done = subprocess.run(
        [TOOL, "verify", after.parent, "--device", "cpu"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
