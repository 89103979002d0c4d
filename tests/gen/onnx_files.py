#!/usr/bin/env python3
"""Writes tests/data/onnx: small ONNX files, good and bad, and tensors of every element type.

usage: onnx_files.py [OUT_DIR]        (needs the packages onnx and numpy)

  good/*.onnx      models that load; tests/unit/test_onnx_load.c knows what is in each
  bad/*.onnx       models that must be refused; bad.txt gives a part of the sentence for each
  tensors/*.pb     TensorProtos; tensors.txt gives element type, dims and packed bytes of each
Deterministic: a second run changes nothing.
"""

import pathlib
import shutil
import struct
import sys

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper

F, I64 = TensorProto.FLOAT, TensorProto.INT64
OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "data" / "onnx")


def info(name, dtype=F, dims=(2, 3)):
    return helper.make_tensor_value_info(name, dtype, dims)


def raw(name, array, dtype=None):
    array = np.asarray(array)
    t = TensorProto(name=name, dims=array.shape, data_type=dtype or helper.np_dtype_to_tensor_dtype(array.dtype))
    t.raw_data = array.tobytes()
    return t


def floats(name, *dims):
    n = int(np.prod(dims))
    return raw(name, (np.arange(n, dtype=np.float32) / 4).reshape(dims))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def graph(nodes, inputs, outputs, initializers=(), **more):
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers), **more)


def model(g, opset=17, ir=8, **more):
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", opset)], producer_name="gen", producer_version="1")
    m.ir_version = ir
    for key, value in more.items():
        setattr(m, key, value)
    return m


def relu(**more):
    """The smallest model: y = Relu(x)."""
    return model(graph([node("Relu", ["x"], ["y"], name="r")], [info("x")], [info("y")]), **more)


def with_init(t):
    """y = x + w, with the initializer given."""
    return model(graph([node("Add", ["x", "w"], ["y"], name="add")], [info("x")], [info("y")], [t]))


# ---- good models ----


def good_basic():
    g = graph(
        [node("Gemm", ["x", "w", "b"], ["h"], name="fc", alpha=0.5, transB=1), node("Relu", ["h"], ["y"])],
        [info("x", F, ["batch", 4])], [info("y", F, ["batch", 3])],
        [floats("w", 3, 4), helper.make_tensor("b", F, [3], [1, 2, 3])],
        value_info=[info("h", F, ["batch", 3])],
    )
    m = model(g)
    helper.set_model_props(m, {"author": "nobody", "task": "test"})
    return m


def good_constants():
    def constant(out, **attribute):
        return node("Constant", [], [out], **attribute)

    sparse = helper.make_sparse_tensor(raw("s", np.float32([5, 7])), raw("i", np.int64([1, 4])), [2, 3])
    rows = helper.make_sparse_tensor(raw("s", np.int64([5, 7])), raw("i", np.int64([[0, 2], [1, 0]])), [2, 3])
    nodes = [
        constant("tensor", value=floats("", 2, 2)), constant("float", value_float=1.5),
        constant("floats", value_floats=[1.0, 2.0]), constant("int", value_int=-3), constant("ints", value_ints=[4, 5, 6]),
        constant("string", value_string="abc"), constant("strings", value_strings=["a", "", "ccc"]),
        constant("sparse", sparse_value=sparse), constant("sparse_rows", sparse_value=rows), node("Identity", ["tensor"], ["y"]),
    ]
    names = ["float", "floats", "int", "ints", "string", "strings", "sparse", "sparse_rows"]
    types = [F, F, I64, I64, TensorProto.STRING, TensorProto.STRING, F, I64]
    outputs = [info("y", F, [2, 2])] + [info(n, t, None) for n, t in zip(names, types)]
    return model(graph(nodes, [], outputs))


def good_if():
    """Branches capture x and w; one returns an outer value as it is; the other holds another If."""
    inner_then = graph([node("Add", ["x", "k"], ["it"])], [], [info("it")], [floats("k", 2, 3)])
    inner_else = graph([node("Neg", ["h"], ["ie"])], [], [info("ie")])
    then = graph([], [], [info("h")])
    other = graph([node("If", ["c"], ["n"], then_branch=inner_then, else_branch=inner_else)], [], [info("n")])
    nodes = [
        node("Add", ["x", "w"], ["h"]),
        node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other),
    ]
    return model(graph(nodes, [info("x"), info("c", TensorProto.BOOL, [])], [info("y")], [floats("w", 2, 3)]))


def good_loop():
    """The body's inputs have no types."""
    body = graph([node("Identity", ["cond"], ["go"]), node("Add", ["s", "x"], ["t"])], [], [])
    for name in ("i", "cond", "s"):
        body.input.add().name = name
    for name in ("go", "t"):
        body.output.add().name = name
    return model(graph([node("Loop", ["n", "", "x"], ["y"], body=body)], [info("x"), info("n", I64, [])], [info("y")]))


def good_unsorted():
    nodes = [node("Relu", ["b"], ["y"]), node("Neg", ["a"], ["b"]), node("Abs", ["x"], ["a"])]
    return model(graph(nodes, [info("x")], [info("y")]))


def good_ir3():
    g = graph([node("Add", ["x", "w"], ["y"])], [info("x"), info("w")], [info("y")], [floats("w", 2, 3)])
    return model(g, opset=7, ir=3)


def good_dims():
    x = helper.make_tensor_value_info("x", F, ["N", -1, 4, "N", "?"])
    x.type.tensor_type.shape.dim.add().dim_param = ""
    x.type.tensor_type.shape.dim.add()
    return model(graph([node("Relu", ["x"], ["y"])], [x], [helper.make_tensor_value_info("y", F, None)]))


def good_shared():
    """The same tensor four times: two initializers, a Constant, and inside a branch; once more with another shape."""
    branch = graph([node("Add", ["x", "k"], ["t"])], [], [info("t")], [floats("k", 2, 3)])
    other = graph([node("Sub", ["x", "w"], ["e"])], [], [info("e")])
    nodes = [
        node("Constant", [], ["k2"], value=floats("", 2, 3)), node("Mul", ["w", "w2"], ["p"]),
        node("Add", ["p", "k2"], ["q"]), node("Reshape", ["flat", "shape"], ["r"]),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=other), node("Sum", ["q", "r", "y"], ["z"]),
    ]
    return model(graph(nodes, [info("x"), info("c", TensorProto.BOOL, [])], [info("z")],
                       [floats("w", 2, 3), floats("w2", 2, 3), floats("flat", 6), raw("shape", np.int64([2, 3]))]))


def good_attributes():
    t = floats("", 2)
    n = NodeProto(op_type="Everything", domain="test.custom", input=["x"], output=["y"], name="all")
    n.attribute.extend([
        helper.make_attribute("f", 1.5), helper.make_attribute("i", -7), helper.make_attribute("s", "text"),
        helper.make_attribute("t", t), helper.make_attribute("fs", [1.0, 2.0]), helper.make_attribute("is", [1, 2, 3]),
        helper.make_attribute("ss", ["a", "bc"]), helper.make_attribute("ts", [t, floats("", 3)]),
        AttributeProto(name="g", type=AttributeProto.GRAPH, g=graph([node("Relu", ["x"], ["r"])], [], [info("r")])),
        AttributeProto(name="gs", type=AttributeProto.GRAPHS, graphs=[graph([], [], [info("x")])] * 2),
        AttributeProto(name="none", type=AttributeProto.INTS),
    ])
    m = model(graph([n], [info("x")], [info("y")]))
    m.opset_import.append(helper.make_opsetid("test.custom", 1))
    return m


def good_optional():
    nodes = [node("Clip", ["x", "", "hi"], ["h"]), node("LSTM", ["h3", "w", "r"], ["", "y"], hidden_size=2),
             node("Reshape", ["h", "s"], ["h3"])]
    inits = [raw("hi", np.float32(6)), floats("w", 1, 8, 3), floats("r", 1, 8, 2), raw("s", np.int64([2, 1, 3]))]
    return model(graph(nodes, [info("x")], [info("y", F, None)], inits))


def good_strings():
    """Two equal tensors, two that differ in one element's content or length."""
    def strings(name, *values):
        return helper.make_tensor(name, TensorProto.STRING, [3], values)

    inits = [strings("w", b"one", b"", b"th\x00ree"), strings("same", b"one", b"", b"th\x00ree"),
             strings("content", b"one", b"", b"th\x00rex"), strings("length", b"one", b"x", b"th\x00ree")]
    return model(graph([node("Identity", ["w"], ["y"])], [], [info("y", TensorProto.STRING, [3])], inits))


def good_many():
    """A hundred constants, with names beyond ASCII."""
    nodes = [node("Constant", [], [f"größe_{i}_名_\U0001F600"], value_int=i) for i in range(100)]
    return model(graph(nodes + [node("Relu", ["x"], ["y"])], [info("x")], [info("y")]))


def good_sparse():
    g = graph([node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")])
    values, indices = raw("w", np.float32([5, 7])), raw("", np.int64([[0, 1], [1, 2]]))
    g.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    return model(g)


def external(location, offset=None, length=None, dims=(2, 3), dtype=F):
    t = TensorProto(name="w", dims=dims, data_type=dtype, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            t.external_data.add(key=key, value=str(value))
    return t


def good_external():
    """Two tensors of one file; the second has no offset and no length."""
    m = with_init(external("weights/w.bin", 8, 24))
    m.graph.initializer.append(external("weights/w.bin", dims=(2,)))
    m.graph.initializer[1].name = "zeros"
    return m


# ---- bad models: name -> (model or bytes, part of the sentence) ----

BAD = {}


def bad(name, content, sentence):
    assert name not in BAD
    BAD[name] = (content, sentence)


def changed(change, base=relu):
    m = base()
    change(m)
    return m


def varint(v):
    out = b""
    while v >= 0x80:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def deep_type(levels):
    content = b""
    for _ in range(levels):
        content = field(4, field(1, content))
    return content


def deep_graph(levels):
    """In bytes: the protobuf package itself stops at 100 nested messages."""
    def serialized_graph(one_node, output):
        return field(1, one_node) + field(2, b"g") + field(12, field(1, output))

    g = serialized_graph(field(1, b"x") + field(2, b"y0") + field(4, b"Relu"), b"y0")
    for i in range(1, levels):
        output = b"y%d" % i
        then = field(1, b"then_branch") + field(6, g) + varint(20 << 3) + bytes([AttributeProto.GRAPH])
        g = serialized_graph(field(1, b"c") + field(2, output) + field(4, b"If") + field(5, then), output)
    for i in (info("x"), info("c", TensorProto.BOOL, [])):
        g += field(11, i.SerializeToString())
    return b"\x08\x08" + field(8, b"\x10\x11") + field(7, g)


def edit_node(**fields):
    def change(m):
        for key, value in fields.items():
            target = m.graph.node[0]
            if isinstance(value, list):
                del getattr(target, key)[:]
                getattr(target, key).extend(value)
            else:
                setattr(target, key, value)
    return changed(change)


def attribute(**fields):
    return edit_node(attribute=[AttributeProto(**fields)])


def constant(*attributes, inputs=(), outputs=("k",)):
    k = NodeProto(op_type="Constant", name="k", input=inputs, output=outputs)
    k.attribute.extend(attributes)
    return model(graph([k, node("Add", ["x", "k"], ["y"])], [info("x")], [info("y")]))


def tensor(**fields):
    return with_init(TensorProto(**{"name": "w", "data_type": F, **fields}))


def sparse_init(values, indices, dims):
    g = graph([node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")])
    g.sparse_initializer.append(helper.make_sparse_tensor(raw("w", np.float32(values)), raw("", np.int64(indices)), dims))
    return model(g)


def make_bad_structure():
    good = relu().SerializeToString()
    g = relu().graph.SerializeToString()
    head = b"\x08\x08" + field(8, b"\x10\x11")  # ir_version 8, opset 17
    bad("empty", b"", "has no IR version")
    bad("text", b"this is a text file, not a model\n", "ModelProto: field 14 has wire type 4")
    bad("truncated", good[:-5], "ModelProto: field 8 has a broken length")
    bad("broken_tag", good + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "tag is broken")
    bad("length_beyond", head + b"\x3a\xff\xff\xff\xff\x07" + g, "ModelProto: field 7 needs 2147483647 bytes")
    bad("node_beyond", head + field(7, b"\x0a\x02\x0a\x05"), "ModelProto.graph.node[0]: field 1 needs 5 bytes, 0 are left")
    bad("group", head + field(7, g) + b"\x0b\x0c", "wire type 3")
    bad("graph_twice", head + field(7, g) + field(7, g), "'graph' appears twice")
    bad("graph_varint", head + b"\x38\x01", "field 'graph' is no message")
    bad("name_varint", head + field(7, g + b"\x10\x01"), "wrong type for a ModelProto")
    bad("deep_types", head + field(7, g + field(13, b"\x0a\x01q" + field(2, deep_type(300)))), "nest deeper than 250")
    bad("deep_graphs", deep_graph(70), "subgraphs nest deeper than 64")
    bad("no_ir", changed(lambda m: m.ClearField("ir_version")), "has no IR version")
    bad("new_ir", relu(ir=99), "IR version 99, 14 is the newest known")
    bad("no_opset", changed(lambda m: m.ClearField("opset_import")), "imports no opset")
    bad("new_opset", relu(opset=1000), "opset 1000, 28 is the newest known")
    bad("opset_zero", relu(opset=0), "'ai.onnx' has version 0")
    bad("opset_twice", changed(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 3))), "opsets 17 and 3")
    bad("no_graph", head, "has no graph")
    bad("no_outputs", changed(lambda m: m.graph.ClearField("output")), "has no outputs")


def function(name, nodes, inputs=("a",), outputs=("b",)):
    return helper.make_function("local", name, list(inputs), list(outputs), nodes,
                                [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)])


def call(name, *functions, inputs=("x",), outputs=("y",)):
    calls = helper.make_node(name, list(inputs), list(outputs), name="c", domain="local")
    m = model(graph([calls], [info("x")], [info("y")]))
    m.opset_import.append(helper.make_opsetid("local", 1))
    m.functions.extend(functions)
    return m


def doubling(levels):
    """Each function calls the next one twice: 2^levels nodes."""
    made = [function("F0", [node("Relu", ["a"], ["b"])])]
    for i in range(1, levels):
        twice = [helper.make_node(f"F{i - 1}", [x], [y], domain="local") for x, y in (("a", "t"), ("t", "b"))]
        made.append(function(f"F{i}", twice))
    return call(f"F{levels - 1}", *made)


def make_bad_functions():
    f = function("F", [node("Relu", ["a"], ["b"])])
    itself = function("F", [helper.make_node("F", ["a"], ["b"], domain="local")])
    bad("function_twice", call("F", f, f), "the function 'local::F' is defined twice")
    bad("function_without_name", call("F", function("", [])), "a function of the model has no name")
    bad("function_itself", call("F", itself), "nest deeper than 64 levels; a function may not call itself")
    bad("function_doubling", doubling(40), "more than 1048576 nodes")
    bad("function_inputs", call("F", f, inputs=["x", "x"]), "F 'c': 2 inputs, the function takes 1")
    bad("function_outputs", call("F", f, outputs=["y", "z"]), "F 'c': 2 outputs, the function gives 1")
    bad("function_output_missing", call("F", function("F", [node("Relu", ["a"], ["z"])])), "no node of the function makes its")
    bad("function_output_omitted", call("F", function("F", [], outputs=["a"]), inputs=[]),
        "output 'a' is an input that the call omits")
    bad("function_outer_name", call("F", function("F", [node("Relu", ["x"], ["b"])])),
        "function 'F' called by F 'c': Relu producing 'b': input 'x' is not defined")
    two = [node("Relu", ["a"], ["b"]), node("Abs", ["a"], ["b"])]
    bad("function_value_twice", call("F", function("F", two)),
        "Abs producing 'b': the name 'b' is already defined in the function")
    twice = function("F", [node("Relu", ["a"], ["b"])], inputs=["a", "a"])
    bad("function_input_twice", call("F", twice), "two inputs 'a'")
    unset = node("Constant", [], ["b"])
    unset.attribute.append(AttributeProto(name="value_float", type=AttributeProto.FLOAT, ref_attr_name="k"))
    bad("function_constant", call("F", function("F", [unset])), "the attribute 'k' that it refers to is not given")
    other = helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("G", ["a"], ["b"], domain="far")], [])
    bad("function_opset", call("F", other), "G producing 'b': the model imports no opset of domain 'far'")


def make_bad_nodes():
    bad("undefined_input", edit_node(input=["nothing"]), "Relu 'r': input 'nothing' is not defined")
    bad("no_op_type", edit_node(op_type=""), "node 'r' of graph 'g' has no operator")
    bad("node_without_outputs", edit_node(output=[""]), "has no outputs")
    bad("output_is_input", edit_node(output=["x"]), "the name 'x' is already defined")
    bad("unknown_domain", edit_node(domain="com.example"), "no opset of domain 'com.example'")
    m = edit_node(domain="polestar")
    m.opset_import.append(helper.make_opsetid("polestar", 1))
    bad("our_domain", m, "operators of the domain 'polestar'")
    bad("self_cycle", edit_node(input=["y"]), "cycle")
    bad("control_character", edit_node(name="a\nb"), "control character 0x0a")
    bad("broken_utf8", relu().SerializeToString().replace(b"\x1a\x01r", b"\x1a\x01\xff"), "not valid UTF-8")
    for kind, code in (("overlong", b"\xe0\x80\x80"), ("surrogate", b"\xed\xa0\x80"), ("beyond", b"\xf4\x90\x80\x80")):
        m = relu()
        m.graph.node[0].name = "q" * len(code)
        bad(f"utf8_{kind}", m.SerializeToString().replace(b"q" * len(code), code), "a node name is not valid UTF-8")
    twice = [node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])]
    bad("value_twice", model(graph(twice, [info("x")], [info("y")])), "Abs producing 'y': the name 'y' is already defined")
    circle = [node("Add", ["x", "b"], ["y"], name="one"), node("Abs", ["y"], ["b"], name="two")]
    bad("cycle", model(graph(circle, [info("x")], [info("y")])), "cycle")
    branch = graph([node("Relu", ["y"], ["t"])], [], [info("t")])
    choice = node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    bad("cycle_through_subgraph", model(graph([choice], [info("c", TensorProto.BOOL, [])], [info("y")])), "If 'if' is on a cycle")
    branch = graph([node("Relu", ["gone"], ["t"])], [], [info("t")])
    choice = node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    bad("undefined_capture", model(graph([choice], [info("c", TensorProto.BOOL, [])], [info("y")])), "input 'gone' is not defined")

    bad("attribute_twice", attribute_twice(), "attribute 'a' is given twice")
    bad("attribute_without_name", attribute(type=AttributeProto.INT, i=1), "an attribute has no name")
    bad("attribute_without_value", attribute(name="a"), "attribute 'a' has no value")
    bad("attribute_reference", attribute(name="a", type=AttributeProto.INT, ref_attr_name="b"), "refers to a function's attribute")
    bad("attribute_type", attribute(name="a", type=AttributeProto.TYPE_PROTOS, type_protos=[TypeProto()]), "of kind 14")
    bad("attribute_no_tensor", attribute(name="a", type=AttributeProto.TENSOR), "holds no tensor")
    bad("attribute_no_graph", attribute(name="a", type=AttributeProto.GRAPH), "holds no graph")
    short = TensorProto(data_type=F, dims=[2], raw_data=b"1234")
    bad("attribute_tensor", attribute(name="a", type=AttributeProto.TENSOR, t=short),
        "Relu 'r' attribute 'a': raw_data has 4 bytes")
    bad("constant_empty", constant(), "exactly one value, this has 0")
    two = [helper.make_attribute("value_int", 1), helper.make_attribute("value_float", 1.0)]
    bad("constant_two_values", constant(*two), "exactly one value, this has 2")
    bad("constant_kind", constant(helper.make_attribute("value_int", 1.5)), "'value_int' of kind 1 is no constant's value")
    bad("constant_input", constant(two[0], inputs=["x"]), "no inputs and one output, this has 1 and 1")
    bad("constant_outputs", constant(two[0], outputs=["k", "l"]), "no inputs and one output, this has 0 and 2")


def attribute_twice():
    a = helper.make_attribute("a", 1)
    return edit_node(attribute=[a, a])


def make_bad_interface():
    def set_input(value):
        return changed(lambda m: m.graph.input[0].CopyFrom(value))

    def set_output(value):
        return changed(lambda m: m.graph.output[0].CopyFrom(value))

    bad("input_without_name", set_input(info("")), "an input of graph 'g' has no name")
    bad("input_twice", changed(lambda m: m.graph.input.append(info("x"))), "the name 'x' is already defined")
    bad("input_without_type", changed(lambda m: m.graph.input[0].ClearField("type")), "is no type, which no operator takes")
    bad("input_undefined_type", set_input(info("x", 0)), "input 'x': has no element type")
    bad("input_unknown_type", set_input(info("x", 99)), "element type 99 is not known")
    sparse = helper.make_sparse_tensor_type_proto(F, [2])
    bad("input_sparse", set_input(helper.make_value_info("x", sparse)), "input 'x': is a sparse tensor, which no operator takes")
    odd = helper.make_value_info("x", helper.make_sequence_type_proto(helper.make_tensor_type_proto(99, [2])))
    bad("input_odd_sequence", set_input(odd), "input 'x': element type 99 is not known")
    bad("input_rank", set_input(info("x", F, [1] * 9)), "rank 9 is more than the 8 dims")
    bad("input_negative", set_input(info("x", F, [-2, 3])), "dim 0 is -2")
    bad("input_huge", set_input(info("x", F, [2**62, 4])), "input 'x': the number of elements overflows")
    bad("output_without_name", set_output(info("")), "an output of graph 'g' has no name")
    bad("output_undefined", set_output(info("z")), "output 'z': is not defined")
    bad("output_twice", changed(lambda m: m.graph.output.append(info("y"))), "output 'y': is listed twice")
    bad("output_sparse", set_output(helper.make_value_info("y", sparse)), "output 'y': is a sparse tensor")
    bad("value_info_rank", changed(lambda m: m.graph.value_info.append(info("y2", F, [1] * 9)), two_relus),
        "value_info of 'y2': rank 9")
    mismatch = with_init(floats("w", 2, 3))
    mismatch.graph.input.append(info("w", I64))
    bad("default_type", mismatch, "is declared i64, its initializer is f32")


def two_relus():
    return model(graph([node("Relu", ["x"], ["y2"]), node("Relu", ["y2"], ["y"])], [info("x")], [info("y")]))


def make_bad_tensors():
    six = np.arange(6, dtype=np.float32).tobytes()
    ok = dict(dims=[2, 3], raw_data=six)
    bad("tensor_without_name", tensor(name="", **ok), "an initializer of graph 'g' has no name")
    bad("tensor_twice", changed(lambda m: m.graph.initializer.append(floats("w", 2)), lambda: tensor(**ok)),
        "the name 'w' is already defined")
    bad("tensor_without_type", tensor(data_type=0, **ok), "initializer 'w': has no element type")
    bad("tensor_unknown_type", tensor(data_type=29, **ok), "element type 29 is not known")
    bad("tensor_rank", tensor(dims=[1] * 9, raw_data=b"1234"), "rank 9 is more than the 8 dims")
    bad("tensor_negative", tensor(dims=[2, -3], raw_data=six), "dim 1 is -3")
    bad("tensor_overflow", tensor(dims=[2**62, 4], raw_data=six), "the number of elements overflows")
    bad("tensor_bytes_overflow", tensor(dims=[2**62], raw_data=six), "w'")
    bad("tensor_no_data", tensor(dims=[2**40]), "has no data, f32 [1099511627776] needs")
    bad("tensor_raw_short", tensor(dims=[2, 3], raw_data=six[:20]), "raw_data has 20 bytes, f32 [2,3] needs 24")
    bad("tensor_raw_long", tensor(dims=[2, 3], raw_data=six + b"1"), "raw_data has 25 bytes, f32 [2,3] needs 24")
    bad("tensor_typed_short", tensor(dims=[2, 3], float_data=[1, 2]), "float_data has 2 numbers, f32 [2,3] needs 6")
    bad("tensor_wrong_field", tensor(dims=[2], int64_data=[1, 2]), "f32 elements stand in int64_data instead of float_data")
    bad("tensor_two_fields", tensor(dims=[2], raw_data=six[:8], float_data=[1, 2]), "data in both")
    bad("tensor_range", tensor(dims=[1], data_type=TensorProto.INT8, int32_data=[300]), "number that does not fit into i8")
    bad("tensor_string_raw", tensor(dims=[1], data_type=TensorProto.STRING, raw_data=b"a"), "strings cannot stand in raw_data")
    bad("tensor_segment", tensor(segment=TensorProto.Segment(begin=0, end=1), **ok), "stored in segments")
    bad("tensor_packed", field(8, b"\x10\x11") + b"\x08\x08" + field(7, field(12, b"\x0a\x01w") + field(5, (
        b"\x08\x01\x10\x01" + field(8, b"w") + field(4, b"12345")))), "float_data is malformed")
    bad("tensor_raw_twice", field(8, b"\x10\x11") + b"\x08\x08" + field(7, field(12, b"\x0a\x01w") + field(5, (
        b"\x08\x01\x10\x01" + field(8, b"w") + field(9, b"1234") * 2))), "raw_data appears twice")
    bad("sparse_outside", sparse_init([1, 2], [1, 6], [2, 3]), "sparse index 1 lies outside")
    bad("sparse_order", sparse_init([1, 2], [4, 1], [2, 3]), "sparse index 1 is not in ascending order")
    bad("sparse_huge", sparse_init([1], [1], [2**20, 2**20]), "sparse tensors need more than")
    bad("sparse_rank", sparse_init([1, 2], [[0, 0, 0], [0, 0, 1]], [2, 3]), "neither [n] nor [n,2]")
    bad("sparse_count", sparse_init([1, 2, 3], [0, 1], [2, 3]), "3 sparse values have 2 indices")


def make_bad_external():
    bad("external_missing", with_init(external("nowhere.bin")), "'nowhere.bin' is not in the model's folder")
    bad("external_escape", with_init(external("../good/weights/w.bin")), "lies outside of the model's folder")
    bad("external_probe", with_init(external("../../no/such/file")), "lies outside of the model's folder")
    bad("external_absolute", with_init(external("/etc/passwd")), "is an absolute path")
    bad("external_no_location", with_init(external(None, 0, 24)), "external data without a location")
    bad("external_short", with_init(external("w.bin", 24)), "has 32 bytes, 24 at offset 24 are needed")
    bad("external_offset", with_init(external("w.bin", "12x")), "external data offset '12x' is no number")
    bad("external_offset_huge", with_init(external("w.bin", 2**64)), "offset '18446744073709551616' is no number")
    bad("external_length", with_init(external("w.bin", 0, 20)), "external data has 20 bytes, the shape needs 24")
    bad("external_strings", with_init(external("w.bin", dtype=TensorProto.STRING)), "strings cannot be stored as external data")
    both = external("w.bin", 0, 24)
    both.raw_data = b"1" * 24
    bad("external_and_raw", with_init(both), "data in both raw_data and another file")
    bad("external_folder", with_init(external(".")), "")


# ---- tensors ----

TYPED = {  # field of the typed form, and how its numbers are read from the packed bytes
    "FLOAT": ("float_data", "f"), "DOUBLE": ("double_data", "d"), "COMPLEX64": ("float_data", "f"),
    "COMPLEX128": ("double_data", "d"), "INT64": ("int64_data", "q"), "UINT64": ("uint64_data", "Q"),
    "UINT32": ("uint64_data", "I"), "INT32": ("int32_data", "i"), "INT16": ("int32_data", "h"),
    "UINT16": ("int32_data", "H"), "FLOAT16": ("int32_data", "H"), "BFLOAT16": ("int32_data", "H"),
    "INT8": ("int32_data", "b"),
}


def packed_bytes(name, n, bits):
    size = (n * bits + 7) // 8
    data = bytes((37 * i + 11) & 0xFF for i in range(size))
    if name == "BOOL":
        return bytes(i % 2 for i in range(size))
    if name in ("FLOAT", "COMPLEX64"):
        return np.linspace(-2, 3, size // 4, dtype=np.float32).tobytes()
    if name in ("DOUBLE", "COMPLEX128"):
        return np.linspace(-2, 3, size // 8).tobytes()
    if bits < 8 and n * bits % 8:
        data = data[:-1] + bytes([data[-1] & ((1 << (n * bits % 8)) - 1)])
    return data


def write_tensors(folder):
    bits = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
    lines = []
    for name, value in TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING") or value > 28:
            continue
        width = bits.get(name)
        if width is None:
            width = helper.tensor_dtype_to_np_dtype(value).itemsize * 8
        for suffix, dims in (("", [3, 5]), ("_scalar", []), ("_empty", [2, 0])):
            n = int(np.prod(dims)) if dims else 1
            data = packed_bytes(name, n, width)
            as_raw = TensorProto(name="t", dims=dims, data_type=value, raw_data=data)
            typed = TensorProto(name="t", dims=dims, data_type=value)
            attribute_name, code = TYPED.get(name, ("int32_data", "B"))
            if width == 6:  # one element a number
                stream = int.from_bytes(data, "little")
                typed.int32_data.extend(stream >> 6 * i & 63 for i in range(n))
            else:
                getattr(typed, attribute_name).extend(v[0] for v in struct.iter_unpack("<" + code, data))
            a, b = onnx.numpy_helper.to_array(as_raw), onnx.numpy_helper.to_array(typed)
            assert a.tobytes() == b.tobytes(), name
            lines += save_tensor(folder, f"{name.lower()}{suffix}_raw.pb", as_raw, data)
            lines += save_tensor(folder, f"{name.lower()}{suffix}_typed.pb", typed, data)
    strings = helper.make_tensor("t", TensorProto.STRING, [2, 2], [b"one", b"", b"\x00\xff", b"four"])
    lines += save_tensor(folder, "string.pb", strings, b"one||\x00\xff|four|")
    (folder.parent / "tensors.txt").write_text(
        "# file, element type number, dims, packed bytes (strings: each followed by '|')\n" + "".join(lines))


def save_tensor(folder, name, t, data):
    (folder / name).write_bytes(t.SerializeToString(deterministic=True))
    dims = "x".join(map(str, t.dims)) or "-"
    return [f"{name} {t.data_type} {dims} {data.hex() or '-'}\n"]


def serialize(content):
    return content if isinstance(content, bytes) else content.SerializeToString(deterministic=True)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for folder in ("good/weights", "bad", "tensors"):
        (OUT / folder).mkdir(parents=True)
    for name, make in sorted(globals().items()):
        if name.startswith("good_"):
            (OUT / "good" / (name[5:] + ".onnx")).write_bytes(serialize(make()))
    weights = bytes(8) + (np.arange(6, dtype=np.float32) / 4).tobytes()
    (OUT / "good/weights/w.bin").write_bytes(weights)
    (OUT / "bad/w.bin").write_bytes(weights)
    for make in (make_bad_structure, make_bad_functions, make_bad_nodes, make_bad_interface, make_bad_tensors, make_bad_external):
        make()
    for name, (content, _) in BAD.items():
        (OUT / "bad" / (name + ".onnx")).write_bytes(serialize(content))
    huge = TensorProto(name="w", dims=[2**31 + 4096], data_type=TensorProto.UINT8, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("checksum", "da39a3ee")):
        huge.external_data.add(key=key, value=value)
    m = model(graph([node("Identity", ["w"], ["y"])], [], [info("y", TensorProto.UINT8, None)], [huge]))
    (OUT / "huge.onnx").write_bytes(serialize(m))  # its weights are made by the test, as a sparse file
    (OUT / "bad.txt").write_text("".join(f"{name}\t{sentence}\n" for name, (_, sentence) in BAD.items()))
    write_tensors(OUT / "tensors")
    print(f"{len(BAD)} bad models, {sum(1 for _ in (OUT / 'good').glob('*.onnx'))} good, "
          f"{sum(1 for _ in (OUT / 'tensors').iterdir())} tensors in {OUT}")


if __name__ == "__main__":
    main()
