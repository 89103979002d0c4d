#!/usr/bin/env python3
"""Writes the operator case files tests/data/ops/*.txt that tests/unit/test_ops_cases.c runs.

Run by hand (it needs numpy, onnx and onnxruntime), then commit the files:

    python tests/gen/ops_cases.py                 all families
    python tests/gen/ops_cases.py elementwise     one

A family is a module tests/gen/cases_<family>.py with a function `build(add)` and, optionally, a dictionary
TOLERANCE = {"Exp": (rtol, atol, "why the default is too strict")}. Inside build:

    add("Add", 14, [x, y])                         numpy arrays in; expected outputs from the oracle
    add("Clip", 13, [x, None, hi])                 None: omitted input
    add("Reshape", 14, [x, C([2, 3])])             C(...): the shape rule may read it as data (see `const` below); i64 by default
    add("Elu", 6, [x], alpha=2.0)                  attributes by keyword: int, float, str, lists, numpy arrays (tensors)
    add("Split", 18, [x], n_out=3, num_outputs=3)  several outputs
    add("Foo", 1, [x], want=[y])                   expected outputs given by hand (say why in a comment)
    add("Foo", 1, [x], domain="com.microsoft")     another domain
    add("SequenceAt", 11, [[x, y], C(1)])          a list is a sequence, a dict a map, Opt(x) and Opt(None) are optionals
    add("Foo", 1, [x], oracle="reference")         the ONNX reference evaluator instead of ONNX Runtime
    add("Foo", 1, [x], tol=(rtol, atol))           for this case only
    add.fails("SHAPE", "Add", 14, [x, y])          resolving or the shape rule must give this status
    name="edge"                                    puts a word into the case's name
    dtypes=["f32"]                                 output types, where they differ from what the oracle computes in

f16 and bf16 are computed by the oracle in f32 and rounded once, which is the engine's rule. The oracle is ONNX Runtime; what it
does not implement goes to onnx.reference automatically.

The file format, one statement a line; words are separated by single spaces:

    # comment
    tolerance OP RTOL ATOL reason …     for all cases of OP in the file; the default is a few rounding steps of the type
    case NAME                           starts a case
    op NAME VERSION [DOMAIN]            the opset the model imports
    attr NAME KIND VALUES …             KIND: i f s is fs ss (int, float, string, lists) or t DTYPE [DIMS] VALUES …
    in DTYPE [D,D,…] VALUES …           an input: row-major values, "nan", "inf", "-inf"; in - : omitted
    const DTYPE [D,D,…] VALUES …        the same; the runner makes it a constant first and a plain input in a second run
    out DTYPE [D,D,…] VALUES …          an expected output; out - : omitted
    out sequence [N] TENSOR …           a container: its elements follow, each written as here ("optional", "map" as well)
    tol RTOL ATOL                       tolerance of this case
    fails STATUS                        PS_<STATUS> is expected of ps_ops_resolve or ps_ops_infer
    end

A string value is 'text with %XX for space, %, quote and bytes outside ASCII.
"""
import importlib
import pathlib
import sys

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data" / "ops"

NAMES = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "bool": "bool",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "float8_e4m3fn": "f8e4m3fn", "float8_e4m3fnuz": "f8e4m3fnuz", "float8_e5m2": "f8e5m2", "float8_e5m2fnuz": "f8e5m2fnuz",
    "float4_e2m1fn": "f4e2m1", "float6_e2m3fn": "f6e2m3", "float6_e3m2fn": "f6e3m2", "float8_e8m0fnu": "f8e8m0",
    "int4": "i4", "uint4": "u4", "int2": "i2", "uint2": "u2",
}
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
BF16 = ml_dtypes.bfloat16


class C:
    """An input that the shape rule may read as data."""

    def __init__(self, value, dtype=np.int64):
        self.value = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else np.array(value, dtype=dtype)


class Opt:
    """An optional; of a type only where it is empty."""

    def __init__(self, value, elem=None):
        self.value, self.elem = value, elem


def is_container(value):
    return isinstance(value, (list, dict, Opt))


def parts(value):
    """Kind and elements of a container."""
    if isinstance(value, dict):
        keys = list(value)
        text = keys and isinstance(keys[0], str)
        values = list(value.values())
        text_values = values and isinstance(values[0], str)
        kind = object if text_values else values[0].dtype if values and isinstance(values[0], np.generic) else np.float32
        return "map", [np.array(keys, object if text else np.int64), np.array(values, kind)]
    if isinstance(value, Opt):
        return "optional", [] if value.value is None else [value.value]
    return "sequence", value


def dtype_name(array):
    return "string" if array.dtype.kind in "OUS" else NAMES[array.dtype.name]


def quote(text):
    data = text if isinstance(text, bytes) else str(text).encode()
    return "'" + "".join(chr(b) if 33 <= b < 127 and b not in b"%'" else "%%%02X" % b for b in data)


def number(x, kind):
    """Shortest text that reads back as the same value."""
    if kind in "bi":
        return str(int(x))
    x = float(x)
    if kind == "d" or not np.isfinite(x):
        text = repr(x)
    elif x == 0 or 1e-4 <= abs(x) < 1e7:
        text = np.format_float_positional(np.float32(x), trim="-")
    else:
        text = np.format_float_scientific(np.float32(x), trim="-")
    return text[:-2] if text.endswith(".0") else text


def words(array):
    if is_container(array):
        kind, elements = parts(array)
        return " ".join([f"{kind} [{len(elements)}]"] + [words(e) for e in elements])
    array = np.asarray(array)
    dims = "[" + ",".join(str(d) for d in array.shape) + "]"
    name = dtype_name(array)
    if name == "string":
        values = [quote(v) for v in array.reshape(-1)]
    else:
        kind = "d" if name == "f64" else "f" if name[0] in "fb" and name != "bool" else "b" if name == "bool" else "i"
        values = [number(v, kind) for v in array.reshape(-1)]
    return " ".join([name, dims] + values)


def attr_line(name, value):
    if isinstance(value, np.ndarray):
        return f"attr {name} t {words(value)}"
    if isinstance(value, onnx.TypeProto):  # as the importer hands it over: the kind, and that of a container's elements
        kind = value.tensor_type.elem_type if value.HasField("tensor_type") else 27
        return f"attr {name} is {kind} {value.sequence_type.elem_type.tensor_type.elem_type}"
    if isinstance(value, bool) or isinstance(value, (int, np.integer)):
        return f"attr {name} i {int(value)}"
    if isinstance(value, float):
        return f"attr {name} f {value!r}"
    if isinstance(value, str):
        return f"attr {name} s {quote(value)}"
    kind = "ss" if value and isinstance(value[0], str) else "fs" if value and isinstance(value[0], float) else "is"
    return " ".join([f"attr {name} {kind}"] + [quote(v) if kind == "ss" else repr(v) for v in value])


def value_info(name, value):
    return onnx.helper.make_value_info(name, type_proto(value))


def type_proto(value):
    if isinstance(value, Opt):
        return helper.make_optional_type_proto(type_proto(value.value) if value.value is not None else value.elem)
    if isinstance(value, dict):
        keys, values = parts(value)[1]
        return helper.make_map_type_proto(tensor_type(keys), helper.make_tensor_type_proto(tensor_type(values), None))
    if isinstance(value, list):
        element = type_proto(value[0]) if value else helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        return helper.make_sequence_type_proto(element)
    return helper.make_tensor_type_proto(tensor_type(value), value.shape)


def feed(value):
    return value.value if isinstance(value, Opt) else value


def result(value):
    """What an oracle gave, in the forms of this file."""
    if isinstance(value, (list, dict)):
        return [result(v) for v in value] if isinstance(value, list) else value
    return Opt(None) if value is None else np.asarray(value)


def tensor_type(array):
    return TensorProto.STRING if dtype_name(array) == "string" else helper.np_dtype_to_tensor_dtype(array.dtype)


def widen(array):
    return array.astype(np.float32) if isinstance(array, np.ndarray) and array.dtype in HALVES else array


def make_model(op, version, domain, arrays, n_out, attrs):
    attrs = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
    names = ["" if a is None else f"in{i}" for i, a in enumerate(arrays)]
    outs = [f"out{i}" if keep else "" for i, keep in enumerate(n_out)]
    node = helper.make_node(op, names, outs, domain=domain, **attrs)
    inputs = [value_info(n, a) for n, a in zip(names, arrays) if a is not None]
    graph = helper.make_graph([node], "case", inputs, [onnx.ValueInfoProto(name=o) for o in outs if o])
    opsets = [helper.make_opsetid(domain, version)] + ([helper.make_opsetid("", 21)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), {n: feed(a) for n, a in zip(names, arrays) if n}


def ort_outputs(model, feeds):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def oracle_outputs(which, model, feeds):
    if which == "reference":
        return ReferenceEvaluator(model).run(None, feeds)
    try:
        return ort_outputs(model, feeds)
    except Exception as first:  # not implemented for this type or opset
        try:
            return ReferenceEvaluator(model).run(None, feeds)
        except Exception as second:
            raise RuntimeError(f"neither oracle runs it:\n{first}\n{second}") from second


class Writer:
    def __init__(self, family, tolerance):
        self.lines = [f"# {family}: written by tests/gen/ops_cases.py, which documents the format."]
        self.lines += [f"tolerance {op} {r!r} {a!r} {why}" for op, (r, a, why) in sorted(tolerance.items())]
        self.seen = {}
        self.count = 0

    def _start(self, op, version, inputs, domain, name, attrs):
        label = f"{op}-{version}" + (f"/{name}" if name else "")
        k = self.seen[label] = self.seen.get(label, 0) + 1
        self.lines += [f"case {label}" + (f"#{k}" if k > 1 else ""), f"op {op} {version}" + (f" {domain}" if domain else "")]
        self.lines += [attr_line(k, v) for k, v in attrs.items()]
        for x in inputs:
            array = x.value if isinstance(x, C) else x
            self.lines.append(("const " if isinstance(x, C) else "in ") + ("-" if array is None else words(array)))
        self.count += 1

    def __call__(self, op, version, inputs, n_out=1, domain="", name="", want=None, oracle="ort", dtypes=None, tol=None, **attrs):
        """n_out: a count, or a list of bools (False: omitted output)."""
        inputs = [x if x is None or is_container(x) or isinstance(x, (C, np.ndarray)) else np.asarray(x) for x in inputs]
        arrays = [x.value if isinstance(x, C) else x for x in inputs]
        keep = [True] * n_out if isinstance(n_out, int) else list(n_out)
        if want is None:
            half = next((a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype in HALVES), None)
            model, feeds = make_model(op, version, domain, [widen(a) for a in arrays], keep, attrs)
            with np.errstate(all="ignore"):
                got = [result(o) for o in oracle_outputs(oracle, model, feeds)]
                if half is not None:
                    got = [o.astype(half) if o.dtype == np.float32 else o for o in got]
        else:
            got = [o if is_container(o) else np.asarray(o) for o in want]
        if dtypes:
            got = [o.astype(next(n for n, v in NAMES.items() if v == t)) for o, t in zip(got, dtypes)]
        self._start(op, version, inputs, domain, name, attrs)
        rest = iter(got)
        self.lines += ["out " + (words(next(rest)) if k else "-") for k in keep]
        if tol:
            self.lines.append(f"tol {tol[0]!r} {tol[1]!r}")
        self.lines.append("end")

    def fails(self, status, op, version, inputs, n_out=1, domain="", name="fails", **attrs):
        self._start(op, version, inputs, domain, name, attrs)
        self.lines += ["out -"] * n_out + [f"fails {status}", "end"]


def main():
    sys.path.insert(0, str(HERE))
    sys.modules["ops_cases"] = sys.modules[__name__]
    families = sys.argv[1:] or sorted(p.stem[6:] for p in HERE.glob("cases_*.py"))
    DATA.mkdir(parents=True, exist_ok=True)
    for family in families:
        module = importlib.import_module(f"cases_{family}")
        writer = Writer(family, getattr(module, "TOLERANCE", {}))
        module.build(writer)
        (DATA / f"{family}.txt").write_text("\n".join(writer.lines) + "\n")
        print(f"{family}: {writer.count} cases")


if __name__ == "__main__":
    main()
