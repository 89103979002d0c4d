#!/usr/bin/env python3
"""Writes tests/data/models/bad: ONNX files that are well-formed, so that the reader takes them, but cannot be run.

usage: bad_models.py [OUT_DIR]        (needs the packages onnx and numpy)

  NAME.onnx     the model
  index.txt     NAME, tab, parts of the sentence that must refuse it, separated by "|"
Deterministic: a second run changes nothing.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64, I32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "data" / "models" / "bad")
CASES = {}


def case(name, sentence, op, inputs, constants=(), outputs=1, opset=17, domain="", version=3, **attributes):
    """One node named 'bad' of `op`; inputs are (dtype, dims) of the graph's inputs, then constants as arrays; None: omitted."""
    names, infos, initializers = [], [], []
    for index, entry in enumerate([*inputs, *constants]):
        label = f"{'x' if index < len(inputs) else 'c'}{index}"
        names.append("" if entry is None else label)
        if entry is None:
            continue
        if index < len(inputs):
            infos.append(helper.make_tensor_value_info(label, *entry))
        else:
            initializers.append(numpy_helper.from_array(np.asarray(entry), label))
    made = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, made, name="bad", domain=domain, **attributes)
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=y) for y in made], initializers)
    for y in graph.output:
        y.type.tensor_type.elem_type = F
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, version)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    model.producer_name = "gen"
    CASES[name] = (model, sentence)


def floats(*dims):
    return np.ones(dims, np.float32)


def ints(*values):
    return np.array(values, np.int64)


X = (F, [2, 3])
IMAGE = (F, [1, 4, 8, 8])
ONES = floats(4, 4, 3, 3)


def operators():
    case("operator_foreign", "bad|Frobnicate|com.example|3", "Frobnicate", [X], domain="com.example")
    case("operator_unknown", "bad|Frobnicate|17", "Frobnicate", [X])
    case("operator_too_new", "bad|Gelu|17", "Gelu", [X])
    case("operator_arity_more", "bad", "Relu", [X, X])
    case("operator_arity_less", "bad", "Conv", [IMAGE])
    case("operator_required_input", "bad", "Conv", [IMAGE, None], [floats(4)])
    case("operator_outputs", "bad", "Relu", [X], outputs=2)
    case("attribute_kind", "bad|strides", "Conv", [IMAGE], [ONES], strides="wide")
    case("attribute_required", "bad", "Concat", [X, X])
    case("attribute_axis", "bad", "Concat", [X, X], axis=7)


def types():
    case("type_mixed", "bad", "Add", [X, (I32, [2, 3])])
    case("type_conv", "bad", "Conv", [(I64, [1, 4, 8, 8])], [np.ones((4, 4, 3, 3), np.int64)])
    case("type_relu", "bad", "Relu", [(BOOL, [2, 3])])
    case("type_matmul", "bad", "MatMul", [X], [np.ones((3, 2), np.int64)])
    case("type_shape", "bad", "Reshape", [X], [np.ones(2, np.float32)])
    case("type_where", "bad", "Where", [X, X, X])
    case("type_cast", "bad", "Cast", [X], to=99)


def dims():
    case("dims_expand", "y0", "Expand", [(F, [1, 1])], [ints(1 << 40, 1 << 20)])
    case("dims_expand_overflow", "bad", "Expand", [(F, [1, 1])], [ints(1 << 62, 1 << 62)])
    case("dims_fill", "y0", "ConstantOfShape", [], [ints(1 << 40, 1 << 10)])
    case("dims_tile", "bad", "Tile", [X], [ints(1 << 40, 1 << 40)])
    case("dims_tile_negative", "bad", "Tile", [X], [ints(-1, 2)])
    case("dims_pad", "y0", "Pad", [X], [ints(0, 1 << 50, 0, 1 << 50)])
    case("dims_pad_negative", "bad", "Pad", [X], [ints(0, -9, 0, -9)])
    case("dims_range", "bad", "Range", [], [np.float32(0), np.float32(1e30), np.float32(1e-30)])
    case("dims_range_zero", "bad", "Range", [], [np.float32(0), np.float32(1), np.float32(0)])
    case("dims_onehot", "y0", "OneHot", [], [ints(1), np.int64(1 << 50), floats(2)])
    case("dims_resize", "bad", "Resize", [IMAGE, None], [np.array([1, 1, 1e9, 1e9], np.float32)])
    case("dims_window", "bad", "MaxPool", [IMAGE], kernel_shape=[1 << 40, 3])
    case("dims_conv_pads", "y0", "Conv", [IMAGE], [ONES], pads=[1 << 40, 0, 1 << 40, 0])
    case("dims_input", "x0", "Relu", [(F, [1 << 30, 1 << 30])])
    case("dims_input_memory", "x0", "Relu", [(F, [1 << 20, 1 << 20])])
    case("dims_value_memory", "y0", "Add", [(F, [1 << 21, 1]), (F, [1, 1 << 21])])


def shapes():
    case("shape_add", "bad", "Add", [X, (F, [2, 4])])
    case("shape_matmul", "bad", "MatMul", [X, X])
    case("shape_gemm", "bad", "Gemm", [X, X])
    case("shape_conv_channels", "bad", "Conv", [(F, [1, 5, 8, 8])], [ONES])
    case("shape_conv_group", "bad", "Conv", [IMAGE], [ONES], group=3)
    case("shape_conv_group_zero", "bad", "Conv", [IMAGE], [ONES], group=0)
    case("shape_conv_bias", "bad", "Conv", [IMAGE], [ONES, floats(5)])
    case("shape_conv_stride", "bad", "Conv", [IMAGE], [ONES], strides=[0, 1])
    case("shape_conv_dilation", "bad", "Conv", [IMAGE], [ONES], dilations=[0, 1])
    case("shape_conv_kernel", "bad", "Conv", [IMAGE], [ONES], kernel_shape=[5, 5])
    case("shape_conv_too_small", "bad", "Conv", [(F, [1, 4, 2, 2])], [ONES])
    case("shape_conv_strides_count", "bad", "Conv", [IMAGE], [ONES], strides=[1])
    case("shape_deconv", "bad", "ConvTranspose", [(F, [1, 5, 8, 8])], [ONES])
    case("shape_pool_kernel", "bad", "MaxPool", [IMAGE], kernel_shape=[0, 2])
    case("shape_norm", "bad", "BatchNormalization", [IMAGE], [floats(4), floats(4), floats(3), floats(4)])
    case("shape_layernorm", "bad", "LayerNormalization", [X], [floats(4)])
    case("shape_concat", "bad", "Concat", [X, (F, [2, 3, 1])], axis=1)
    case("shape_concat_dims", "bad", "Concat", [X, (F, [4, 4])], axis=1)
    case("shape_reshape", "bad", "Reshape", [X], [ints(4, 4)])
    case("shape_reshape_two", "bad", "Reshape", [X], [ints(-1, -1)])
    case("shape_transpose", "bad", "Transpose", [X], perm=[0, 0])
    case("shape_squeeze", "bad", "Squeeze", [X], [ints(1)])
    case("shape_unsqueeze", "bad", "Unsqueeze", [X], [ints(9)])
    case("shape_split", "bad", "Split", [X], [ints(1, 5)], outputs=2, axis=1)
    case("shape_slice_step", "bad", "Slice", [X], [ints(0), ints(2), ints(0), ints(0)])
    case("shape_gather", "bad", "Gather", [X], [ints(7)])
    case("shape_gather_data", "bad", "Gather", [(I64, [2])], [np.int64(5)])
    case("shape_gather_elements", "bad", "GatherElements", [X], [np.full((2, 3), 9, np.int64)])
    case("shape_gathernd", "bad", "GatherND", [X], [np.full((1, 3), 0, np.int64)])
    case("shape_scatter", "bad", "ScatterND", [X], [np.full((1, 2), 9, np.int64), floats(1)])
    case("shape_depth", "bad", "DepthToSpace", [(F, [1, 3, 2, 2])], blocksize=2)
    case("shape_depth_zero", "bad", "DepthToSpace", [(F, [1, 4, 2, 2])], blocksize=0)
    case("shape_topk", "bad", "TopK", [X], [ints(9)], outputs=2)
    case("shape_lstm", "bad", "LSTM", [(F, [3, 1, 4])], [floats(1, 8, 4), floats(1, 8, 3)], hidden_size=2)
    case("shape_quantize", "bad", "QuantizeLinear", [X], [floats(7), np.zeros(7, np.uint8)])
    case("shape_reduce", "bad", "ReduceMean", [X], axes=[5])
    case("shape_flatten", "bad", "Flatten", [X], axis=9)
    case("shape_einsum", "bad", "Einsum", [X, X], equation="ij,jk->ik")
    case("shape_where", "bad", "Where", [(BOOL, [2, 5]), X, X])


def main():
    for group in (operators, types, dims, shapes):
        group()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for name, (model, _) in CASES.items():
        (OUT / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (OUT / "index.txt").write_text("".join(f"{name}\t{sentence}\n" for name, (_, sentence) in CASES.items()))


if __name__ == "__main__":
    main()
