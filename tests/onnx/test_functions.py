"""Model-local functions: models that call them, against the formula in numpy, as they are and after `onnx.inliner` has taken the
functions out (where it can). The reference evaluator of the `onnx` package knows too little of functions to serve: no defaults, no
overloads, no omitted inputs."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
F = TensorProto.FLOAT
CASES = {}
# The inliner drops defaults, leaves other opsets alone, and gets overloads and repeated outputs wrong.
INLINED = {"plain", "absent_attribute_leaves_the_operators_default", "same_names_inside_and_outside", "omitted_inputs_and_outputs",
           "constant_outputs", "subgraphs_see_the_functions_names"}


def case(make):
    CASES[make.__name__] = make
    return make


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


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
    return (model([node("Twice", ["x"], ["h"], "local", name="a"), node("Twice", ["h"], ["y"], "local", name="b")], [f]),
            lambda x: np.maximum(2 * np.maximum(2 * x, 0), 0))


@case
def attributes_and_defaults():
    return model([node("Scale", ["x"], ["h"], "local", factor=2.0), node("Scale", ["h"], ["y"], "local", factor=0.5, offset=-3.0)],
                 [scale()]), lambda x: (x * 2 + 1) * 0.5 - 3


@case
def absent_attribute_leaves_the_operators_default():
    f = function("Leak", ["x"], ["y"], [with_refs(node("LeakyRelu", ["x"], ["y"]), ref("alpha", AttributeProto.FLOAT, "slope"))],
                 ["slope"])
    return (model([node("Leak", ["x"], ["h"], "local"), node("Leak", ["h"], ["y"], "local", slope=0.5)], [f]),
            lambda x: np.where(x < 0, x * 0.01 * 0.5, x))


@case
def functions_calling_functions():
    outer = function("Outer", ["a"], ["b"],
                     [with_refs(node("Scale", ["a"], ["s"], "local"), ref("factor", AttributeProto.FLOAT, "gain")),
                      node("Scale", ["s"], ["b"], "local", factor=3.0)], ["gain"])
    return model([node("Outer", ["x"], ["y"], "local", name="call", gain=-2.0)], [outer, scale()]), lambda x: (x * -2 + 1) * 3 + 1


@case
def same_names_inside_and_outside():
    f = function("F", ["y"], ["x"], [node("Neg", ["y"], ["h"]), node("Exp", ["h"], ["x"])])
    return (model([node("Abs", ["x"], ["h"]), node("F", ["h"], ["t"], "local"), node("F", ["t"], ["y"], "local")], [f]),
            lambda x: np.exp(-np.exp(-np.abs(x))))


@case
def omitted_inputs_and_outputs():
    f = function("C", ["x", "low", "high"], ["y", "other", "third"],
                 [node("Clip", ["x", "low", "high"], ["y"]), node("Neg", ["x"], ["other"]), node("Exp", ["x"], ["third"])])
    low = numpy_helper.from_array(np.float32(0.25), "low")
    return model([node("C", ["x", "low"], ["h"], "local"), node("C", ["h", "", "low"], ["", "", "y"], "local")], [f],
                 initializers=[low]), lambda x: np.exp(np.maximum(x, 0.25))


@case
def outputs_that_are_inputs_or_given_twice():
    f = function("P", ["a", "b"], ["a", "c", "c"], [node("Add", ["a", "b"], ["c"])])
    calls = [node("P", ["x", "x"], ["y", "z", "w"], "local")]
    return model(calls, [f], outputs=("y", "z", "w")), lambda x: (x, 2 * x, 2 * x)


@case
def constant_outputs():
    value = helper.make_tensor("v", F, [2], [1.0, 2.0])
    f = function("K", [], ["y"], [node("Constant", [], ["y"], value=value)])
    nodes = [node("K", [], ["k"], "local"), node("ReduceSum", ["x"], ["s"], keepdims=0), node("Add", ["s", "k"], ["y"])]
    return model(nodes, [f]), lambda x: x.sum() + np.float32([1, 2])


def branch(name, *nodes):
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], F, None)])


@case
def subgraphs_see_the_functions_names():
    choice = node("If", ["c"], ["y"], then_branch=branch("t", node("Add", ["x", "k"], ["r"])),
                  else_branch=branch("e", node("Sub", ["x", "k"], ["r"])))
    f = function("Choose", ["x", "c"], ["y"], [node("ReduceMax", ["x"], ["k"], keepdims=0), choice])
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return (model([node("ReduceSum", ["x"], ["k"], keepdims=0), node("Greater", ["k", "zero"], ["c"]),
                  node("Not", ["c"], ["d"]), node("Choose", ["x", "c"], ["h"], "local"),
                  node("Choose", ["h", "d"], ["y"], "local")], [f], initializers=[zero]),
            lambda x: (x + x.max()) - (x + x.max()).max())


@case
def calls_inside_of_subgraphs():
    choice = node("If", ["c"], ["y"], then_branch=branch("t", node("Scale", ["x"], ["r"], "local", factor=2.0)),
                  else_branch=branch("e", node("Scale", ["x"], ["r"], "local", factor=4.0)))
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return model([node("ReduceSum", ["x"], ["k"], keepdims=0), node("Greater", ["k", "zero"], ["c"]), choice], [scale()],
                 initializers=[zero]), lambda x: x * 2 + 1


@case
def overloads():
    one = function("F", ["x"], ["y"], [node("Neg", ["x"], ["y"])], overload="one")
    two = function("F", ["x"], ["y"], [node("Exp", ["x"], ["y"])], overload="two")
    calls = [node("F", ["x"], ["h"], "local"), node("F", ["h"], ["y"], "local")]
    calls[0].overload, calls[1].overload = "two", "one"
    return model(calls, [one, two]), lambda x: -np.exp(x)


@case
def an_opset_of_its_own():
    """Opset 11's Softmax flattens from its axis on, that of 13 does not: the function means the old one."""
    f = function("S", ["x"], ["y"], [node("Softmax", ["x"], ["y"], axis=0)], opset=11)
    return (model([node("S", ["x"], ["h"], "local"), node("Softmax", ["h"], ["y"], axis=0)], [f]),
            lambda x: softmax(softmax(x, None), 0))


def write(folder, m, feeds, results):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(m.SerializeToString())
    for i, info in enumerate(m.graph.input):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(feeds[info.name], info.name).SerializeToString())
    for i, (info, value) in enumerate(zip(m.graph.output, results)):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(value), info.name).SerializeToString())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", ["cpu", "ref"])
def test_functions(tmp_path, name, device):
    m, formula = CASES[name]()
    x = np.linspace(-1, 1.5, 6, dtype=np.float32).reshape(2, 3)
    wanted = formula(x)
    wanted = [np.asarray(w, np.float32) for w in (wanted if isinstance(wanted, tuple) else (wanted,))]
    write(tmp_path / "called", m, {"x": x}, wanted)
    folders = [tmp_path / "called"]
    if name in INLINED:
        write(tmp_path / "inlined", onnx.inliner.inline_local_functions(m), {"x": x}, wanted)
        folders.append(tmp_path / "inlined")
    done = subprocess.run([BINARY, "verify", "--device", device, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
