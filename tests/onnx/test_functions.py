"""Model-local functions: models that call them, against the reference evaluator of the `onnx` package on the same model, and on the
model after `onnx.inliner` has taken the functions out."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
F = TensorProto.FLOAT
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


def node(op, inputs, outputs, domain="", **attributes):
    return helper.make_node(op, inputs, outputs, domain=domain, **attributes)


def ref(name, kind, to):
    return AttributeProto(name=name, type=kind, ref_attr_name=to)


def with_refs(n, *attributes):
    n.attribute.extend(attributes)
    return n


def function(name, inputs, outputs, nodes, attributes=(), defaults=(), opset=18, domain="local", overload=""):
    f = helper.make_function(domain, name, inputs, outputs, nodes,
                             [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)], list(attributes), list(defaults))
    f.overload = overload
    return f


def model(nodes, functions, outputs=("y",), inputs=("x",), opset=18, initializers=()):
    def info(name):
        return helper.make_tensor_value_info(name, F, None if name in outputs else [2, 3])

    g = helper.make_graph(nodes, "g", [info(n) for n in inputs], [info(n) for n in outputs], list(initializers))
    m = helper.make_model(g, functions=functions, ir_version=10,
                          opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("local", 1)])
    return m


def scale(default=None):
    """y = x * factor + offset, both attributes; offset has a default."""
    nodes = [with_refs(node("Constant", [], ["f"]), ref("value_float", AttributeProto.FLOAT, "factor")),
             with_refs(node("Constant", [], ["o"]), ref("value_float", AttributeProto.FLOAT, "offset")),
             node("Mul", ["x", "f"], ["m"]), node("Add", ["m", "o"], ["y"])]
    return function("Scale", ["x"], ["y"], nodes, ["factor"], [helper.make_attribute("offset", default or 1.0)])


@case
def plain():
    f = function("Twice", ["x"], ["y"], [node("Add", ["x", "x"], ["t"]), node("Relu", ["t"], ["y"])])
    return model([node("Twice", ["x"], ["h"], "local", name="a"), node("Twice", ["h"], ["y"], "local", name="b")], [f])


@case
def attributes_and_defaults():
    return model([node("Scale", ["x"], ["h"], "local", factor=2.0), node("Scale", ["h"], ["y"], "local", factor=0.5, offset=-3.0)],
                 [scale()])


@case
def absent_attribute_leaves_the_operators_default():
    f = function("Leak", ["x"], ["y"], [with_refs(node("LeakyRelu", ["x"], ["y"]), ref("alpha", AttributeProto.FLOAT, "slope"))],
                 ["slope"])
    return model([node("Leak", ["x"], ["h"], "local"), node("Leak", ["h"], ["y"], "local", slope=0.5)], [f])


@case
def functions_calling_functions():
    outer = function("Outer", ["a"], ["b"],
                     [with_refs(node("Scale", ["a"], ["s"], "local"), ref("factor", AttributeProto.FLOAT, "gain")),
                      node("Scale", ["s"], ["b"], "local", factor=3.0)], ["gain"])
    return model([node("Outer", ["x"], ["y"], "local", name="call", gain=-2.0)], [outer, scale()])


@case
def same_names_inside_and_outside():
    f = function("F", ["y"], ["x"], [node("Neg", ["y"], ["h"]), node("Exp", ["h"], ["x"])])
    return model([node("Abs", ["x"], ["h"]), node("F", ["h"], ["t"], "local"), node("F", ["t"], ["y"], "local")], [f])


@case
def omitted_inputs_and_outputs():
    f = function("C", ["x", "low", "high"], ["y", "other", "third"],
                 [node("Clip", ["x", "low", "high"], ["y"]), node("Neg", ["x"], ["other"]), node("Exp", ["x"], ["third"])])
    low = numpy_helper.from_array(np.float32(0.25), "low")
    return model([node("C", ["x", "low"], ["h"], "local"), node("C", ["h", "", "low"], ["", "", "y"], "local")], [f],
                 initializers=[low])


@case
def outputs_that_are_inputs_or_given_twice():
    f = function("P", ["a", "b"], ["a", "c", "c"], [node("Add", ["a", "b"], ["c"])])
    return model([node("P", ["x", "x"], ["y", "z", "w"], "local")], [f], outputs=("y", "z", "w"))


@case
def constant_outputs():
    value = helper.make_tensor("v", F, [2], [1.0, 2.0])
    f = function("K", [], ["y"], [node("Constant", [], ["y"], value=value)])
    return model([node("K", [], ["k"], "local"), node("ReduceSum", ["x"], ["s"], keepdims=0), node("Add", ["s", "k"], ["y"])], [f])


def branch(name, *nodes):
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], F, None)])


@case
def subgraphs_see_the_functions_names():
    choice = node("If", ["c"], ["y"], then_branch=branch("t", node("Add", ["x", "k"], ["r"])),
                  else_branch=branch("e", node("Sub", ["x", "k"], ["r"])))
    f = function("Choose", ["x", "c"], ["y"], [node("ReduceMax", ["x"], ["k"], keepdims=0), choice])
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return model([node("ReduceSum", ["x"], ["k"], keepdims=0), node("Greater", ["k", "zero"], ["c"]),
                  node("Not", ["c"], ["d"]), node("Choose", ["x", "c"], ["h"], "local"),
                  node("Choose", ["h", "d"], ["y"], "local")], [f], initializers=[zero])


@case
def calls_inside_of_subgraphs():
    choice = node("If", ["c"], ["y"], then_branch=branch("t", node("Scale", ["x"], ["r"], "local", factor=2.0)),
                  else_branch=branch("e", node("Scale", ["x"], ["r"], "local", factor=4.0)))
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return model([node("ReduceSum", ["x"], ["k"], keepdims=0), node("Greater", ["k", "zero"], ["c"]), choice], [scale()],
                 initializers=[zero])


@case
def overloads():
    one = function("F", ["x"], ["y"], [node("Neg", ["x"], ["y"])], overload="one")
    two = function("F", ["x"], ["y"], [node("Exp", ["x"], ["y"])], overload="two")
    calls = [node("F", ["x"], ["h"], "local"), node("F", ["h"], ["y"], "local")]
    calls[0].overload, calls[1].overload = "two", "one"
    return model(calls, [one, two])


@case
def an_opset_of_its_own():
    """Opset 11's Softmax flattens from its axis on, that of 13 does not: the function means the old one."""
    f = function("S", ["x"], ["y"], [node("Softmax", ["x"], ["y"], axis=0)], opset=11)
    return model([node("S", ["x"], ["h"], "local"), node("Softmax", ["h"], ["y"], axis=0)], [f])


def write(folder, m, feeds, results):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(m.SerializeToString())
    for i, info in enumerate(m.graph.input):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(feeds[info.name], info.name).SerializeToString())
    for i, (info, value) in enumerate(zip(m.graph.output, results)):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(value), info.name).SerializeToString())


def softmax_flat(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", ["cpu", "ref"])
def test_functions(tmp_path, name, device):
    m = CASES[name]()
    feeds = {"x": np.linspace(-1, 1.5, 6, dtype=np.float32).reshape(2, 3)}
    if name == "an_opset_of_its_own":  # the evaluator has one opset for all; the old formula by hand
        h = softmax_flat(feeds["x"])
        e = np.exp(h - h.max(axis=0))
        results = [(e / e.sum(axis=0)).astype(np.float32)]
    else:
        results = ReferenceEvaluator(m).run(None, feeds)
    write(tmp_path / "called", m, feeds, results)
    folders = [tmp_path / "called"]
    if name not in ("an_opset_of_its_own", "overloads"):  # what the inliner does not do
        write(tmp_path / "inlined", onnx.inliner.inline_local_functions(m), feeds, results)
        folders.append(tmp_path / "inlined")
    done = subprocess.run([BINARY, "verify", "--device", device, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
