#!/usr/bin/env python3
"""The conformance suites of the ONNX project as folders that `polestar verify` reads, and the manifest of what passes.

Suites: `onnx/...` come with the package onnx (pinned in tests/requirements.txt; its node cases are made in memory and written
out here), `debian/...` with the package libonnx-testdata. Each case has the tolerance that the suite's own runner applies:
data.json of the case or 1e-3 and 1e-7, and at least two steps of bf16 (2^-6) for bf16 outputs.

    tools/python tests/onnx/suites.py --update      runs every case and rewrites manifest.txt; read the difference

Manifest: a line `suite case` is expected to pass on every device, `suite case ! reason` is known to fail.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
MANIFEST = Path(__file__).parent / "manifest.txt"
DEBIAN = Path(os.environ.get("ONNX_TESTDATA", "/usr/share/libonnx-testdata/data"))
KINDS = ("simple", "pytorch-converted", "pytorch-operator")
DEVICES = tuple(os.environ.get("POLESTAR_ONNX_DEVICES", "ref cpu").split())
BF16_RTOL = 2.0 ** -6
F32_ATOL = 1e-6  # a few roundings of f32 beside values of about 10


@dataclass(frozen=True)
class Case:
    suite: str
    name: str
    folder: Path
    rtol: float = 1e-3
    atol: float = 1e-7

    @property
    def key(self):
        return f"{self.suite} {self.name}"


# ---- files of the node cases ----

def value_proto(value, name, kind):
    """The message that stands in input_N.pb for a value of the declared type."""
    if isinstance(value, (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto)):
        return value
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return sequence_proto(value, name, kind.sequence_type.elem_type)
    if which == "optional_type":
        return optional_proto(value, name, kind.optional_type.elem_type)
    array = np.asarray(value)
    return numpy_helper.from_array(array.astype(object) if array.dtype.kind in "US" else array, name)


def sequence_proto(values, name, kind):
    proto = onnx.SequenceProto(name=name)
    if kind.WhichOneof("value") == "sequence_type":
        proto.elem_type = onnx.SequenceProto.SEQUENCE
        proto.sequence_values.extend(value_proto(v, "", kind) for v in values)
    else:
        proto.elem_type = onnx.SequenceProto.TENSOR
        proto.tensor_values.extend(value_proto(v, "", kind) for v in values)
    return proto


def optional_proto(value, name, kind):
    sequence = kind.WhichOneof("value") == "sequence_type"
    proto = onnx.OptionalProto(name=name)
    if value is None:
        proto.elem_type = onnx.OptionalProto.UNDEFINED
        return proto
    proto.elem_type = onnx.OptionalProto.SEQUENCE if sequence else onnx.OptionalProto.TENSOR
    target = proto.sequence_value if sequence else proto.tensor_value
    target.CopyFrom(value_proto(value, "", kind))
    return proto


def write_node_case(folder, case):
    graph = case.model.graph
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for k, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{k}"
        data.mkdir(exist_ok=True)
        for side, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for i, (value, info) in enumerate(zip(values, infos)):
                (data / f"{side}_{i}.pb").write_bytes(value_proto(value, info.name, info.type).SerializeToString())


def node_cases(folder, part=""):
    """Writes the node cases whose name contains `part` below `folder`."""
    from onnx.backend.test.loader import load_model_tests
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if part in case.name and case.model is not None:
                write_node_case(folder / case.name, case)
                yield Case("onnx/node", case.name, folder / case.name, case.rtol, case.atol)


# ---- suites on disk ----

RETYPED = {onnx.TensorProto.UINT16: {onnx.TensorProto.BFLOAT16},
           onnx.TensorProto.UINT8: {getattr(onnx.TensorProto, t) for t in dir(onnx.TensorProto) if t.startswith("FLOAT8")}}


def retyped(file, kind):
    """The tensor of a file as the type that the model declares, where the file was written before numpy had that type and holds
    its bits in an unsigned integer; None if nothing has to change."""
    declared = kind.tensor_type.elem_type
    if declared not in set().union(*RETYPED.values()):
        return None
    tensor = onnx.TensorProto.FromString(file.read_bytes())
    if declared not in RETYPED.get(tensor.data_type, ()):
        return None
    tensor.data_type = declared
    return tensor.SerializeToString()


def misdeclared(file, kind):
    """Whether an input has another rank than the model says; the suites' own runner never looks."""
    tensor = kind.tensor_type
    return tensor.HasField("shape") and len(onnx.TensorProto.FromString(file.read_bytes()).dims) != len(tensor.shape.dim)


def with_declared_types(case, scratch):
    """The case's folder, or a copy of it in `scratch` in which data and declarations agree."""
    model = onnx.load(case / "model.onnx", load_external_data=False)
    new = {}
    for file in case.glob("test_data_set_*/*.pb"):
        side, _, index = file.stem.rpartition("_")
        infos = model.graph.input if side == "input" else model.graph.output
        if int(index) >= len(infos) or infos[int(index)].type.WhichOneof("value") != "tensor_type":
            continue
        kind = infos[int(index)].type
        data = retyped(file, kind)
        if data is not None:
            new[file.relative_to(case)] = data
        if side == "input" and misdeclared(file, kind):
            kind.tensor_type.ClearField("shape")
            new[Path("model.onnx")] = None
    if Path("model.onnx") in new:
        new[Path("model.onnx")] = model.SerializeToString()
    if not new:
        return case
    copy = scratch / case.parent.parent.parent.name / case.parent.name / case.name
    shutil.copytree(case, copy)
    for name, data in new.items():
        (copy / name).write_bytes(data)
    return copy


def disk_cases(suite, folder, scratch):
    for case in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (case / "model.onnx").exists():
            data = json.loads((case / "data.json").read_text()) if (case / "data.json").exists() else {}
            yield Case(suite, case.name, with_declared_types(case, scratch), data.get("rtol", 1e-3), data.get("atol", 1e-7))


def all_cases(scratch):
    """Every case of every suite that is installed; the node cases of the package onnx, and
    corrected copies of cases, are written to `scratch`."""
    import onnx.backend.test.loader
    cases = list(node_cases(scratch / "node"))
    package = Path(onnx.backend.test.loader.DATA_DIR)
    for kind in KINDS:
        cases += disk_cases(f"onnx/{kind}", package / kind, scratch)
    for kind in ("node", *KINDS):
        cases += disk_cases(f"debian/{kind}", DEBIAN / kind, scratch)
    return cases


# ---- running ----

def tolerance(case):
    """As the suite's runner: the relative one is at least 2^-6 for bf16. Outputs of several types: the strict one for all."""
    outputs = onnx.load(case.folder / "model.onnx", load_external_data=False).graph.output
    types = {output.type.tensor_type.elem_type for output in outputs}
    return (max(case.rtol, BF16_RTOL) if types == {onnx.TensorProto.BFLOAT16} else case.rtol), case.atol


def verify(cases, device):
    """Case key -> None if it passes, else the message."""
    groups, results, wide = {}, {}, read_manifest()[2] if MANIFEST.exists() else {}
    for case in cases:
        rtol, atol = tolerance(case)
        groups.setdefault((rtol, max(atol, F32_ATOL) if case.key in wide else atol), []).append(case)
    for (rtol, atol), group in groups.items():
        done = subprocess.run([BINARY, "verify", "--json", "--device", device, "--rtol", repr(rtol), "--atol", repr(atol),
                               *[case.folder for case in group]], capture_output=True, text=True, check=False)
        models = json.loads(done.stdout)["models"]
        for case, model in zip(group, models, strict=True):
            results[case.key] = None if model["status"] == "passed" else model["message"] or model["status"]
    return results


# ---- manifest ----

def read_manifest():
    """(keys expected to pass, key -> reason of those known to fail, key -> reason of those expected to pass within F32_ATOL)"""
    expected, known, wide = set(), {}, {}
    for line in MANIFEST.read_text().splitlines():
        if line and not line.startswith("#"):
            suite, case, mark, reason = (line.split(" ", 3) + ["", ""])[:4]
            key = f"{suite} {case}"
            if mark == "!":
                known[key] = reason
            elif mark == "?":
                wide[key] = reason
            else:
                expected.add(key)
    return expected, known, wide


def reason(case, message, old):
    """One line on why a case fails: the reason it has already, a class that is out of scope, or what polestar said."""
    if old and not old.startswith("missing"):
        return old
    model = onnx.load(case.folder / "model.onnx", load_external_data=False)
    domains = {node.domain for node in model.graph.node}
    if any("training" in domain for domain in domains):
        return "training domain"
    if any("preview" in domain for domain in domains):
        return "preview domain"
    if "training_dropout" in case.name or "bernoulli" in case.name:
        return "random draws: tests/unit/test_random.c checks type, shape and distribution"
    if "is not read by this build" in message:
        return "a picture format behind a build option (PS_WITH_JP2, PS_WITH_TIFF, PS_WITH_WEBP); all pass with these on"
    return "missing: " + " ".join(message.replace(str(case.folder), "").split())[:110]


def update():
    with tempfile.TemporaryDirectory() as scratch:
        cases = all_cases(Path(scratch))
        results = [verify(cases, device) for device in DEVICES]
        _, known, wide = read_manifest() if MANIFEST.exists() else ({}, {}, {})
        lines = {}
        for case in cases:
            message = next((r[case.key] for r in results if r[case.key] is not None), None)
            why = "" if message is None else f" ! {reason(case, message, known.get(case.key))}"
            lines[case.key] = case.key + (f" ? {wide[case.key]}" if case.key in wide else why)
    if MANIFEST.exists():  # Debian 12 and 13 have different versions of the test data: keep what is not installed here
        for line in MANIFEST.read_text().splitlines():
            if line.startswith("debian/"):
                lines.setdefault(" ".join(line.split(" ", 2)[:2]), line)
    head = ("# Written by `tools/python tests/onnx/suites.py --update`; `suite case` passes, `suite case ! reason` does not.\n"
            "# `suite case ? reason`, by hand: it passes within an absolute error of 1e-6, as Debian's versions of it differ.\n")
    MANIFEST.write_text(head + "".join(lines[key] + "\n" for key in sorted(lines)))
    failing = [line for line in lines.values() if " ! " in line]
    print(f"{len(lines) - len(failing)} pass, {len(failing)} do not")


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    update()
