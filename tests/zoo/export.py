#!/usr/bin/env python3
"""Exports the zoo: every architecture with both exporters of PyTorch, every classic model with its converter.

    python tests/zoo/export.py [--zoo DIR] [--only PATTERN]... [--force] [--again]

Each export becomes DIR/models/NAME.EXPORTER: model.onnx, test_data_set_K/{input,output}_I.pb with the answers of ONNX Runtime, and
case.json (README.md says what is in it). An export that is there and whose key (source of its entry, versions) is the present one
is left alone; --again repeats those that failed, --force all.
"""

import argparse
import fnmatch
import hashlib
import inspect
import json
import os
import shutil
import signal
import sys
import time
import traceback
import zlib
from pathlib import Path

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
)
sys.path.insert(0, str(Path(__file__).resolve().parent))

LIMIT_SECONDS = 400
FORMAT = 1  # raise to export everything anew
OPSET_TORCHSCRIPT = 17


# ---- the key of an entry ----
def described(value):
    """Of a function: its byte code and what it holds on to, so that layout and comments of the source do not matter."""
    if inspect.isfunction(value):
        held = [value.__defaults__, [cell.cell_contents for cell in value.__closure__ or ()]]
        return described(value.__code__) + described(held)
    if inspect.iscode(value):
        return f"{value.co_code.hex()}{value.co_names}" + described(value.co_consts)
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{described(value[k])}" for k in sorted(value, key=str)) + "}"
    if isinstance(value, frozenset):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(described, value)) + "]"
    return value.__name__ if inspect.isclass(value) else str(value)


def key_of(entry, versions):
    what = described([entry.build, getattr(entry, "options", None)])
    return hashlib.sha256(f"{FORMAT}|{what}|{versions}".encode()).hexdigest()[:16]


# ---- exporting (in a child process) ----
def traced(case):
    """The set the exporter sees: torch.export takes a dim of 1 for a constant, so one without, if there is one."""

    def fits(arguments):
        return all(tensor.shape[dim] > 1 for name, tensor in zip(case.inputs, arguments) for dim in case.dynamic.get(name, ()))

    return next(filter(fits, case.sets), case.sets[0])


def export_torch(entry, exporter, folder, notes):
    import torch

    torch.manual_seed(zlib.crc32(entry.name.encode()))
    case = entry.build(exporter)
    path = folder / "model.onnx"
    common = {"input_names": case.inputs, "output_names": case.outputs}
    if case.opset:
        common["opset_version"] = case.opset
    elif exporter == "torchscript":
        common["opset_version"] = OPSET_TORCHSCRIPT
    with torch.no_grad():
        if exporter == "torchscript":
            scripted = isinstance(case.module, torch.jit.ScriptModule)
            torch.onnx.export(
                case.module if scripted else case.module.eval(),
                case.sets[0],
                path,
                dynamo=False,
                dynamic_axes=case.dynamic,
                **common,
            )
        else:
            dims = [case.dynamic.get(name) or None for name in case.inputs]
            flat = "args" in inspect.signature(case.module.forward).parameters
            shapes = ({"args": tuple(dims)} if flat else tuple(dims)) if any(dims) else None
            try:
                torch.onnx.export(case.module.eval(), traced(case), path, dynamo=True, dynamic_shapes=shapes, **common)
            except Exception as error:
                if not shapes:
                    raise
                notes.append(f"fixed shapes, as the exporter fails with dynamic ones: {cause(error)}")
                case.sets = [traced(case)]
                torch.onnx.export(case.module.eval(), case.sets[0], path, dynamo=True, **common)
    return [[tensor.numpy() for tensor in arguments] for arguments in case.sets]


def export_classic(entry, folder):
    import classic

    found, inputs = classic.convert(entry)
    (folder / "model.onnx").write_bytes(found.SerializeToString())
    return [list(inputs.values())]


# ---- what ONNX Runtime says ----
def session(path, level):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def proto(value, name):
    import numpy as np
    from onnx import numpy_helper

    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return sequence_of_maps(value, name)
        return numpy_helper.from_list([np.asarray(item) for item in value], name)
    return numpy_helper.from_array(np.asarray(value, order="C"), name)


def sequence_of_maps(value, name):
    import numpy as np
    import onnx
    from onnx import numpy_helper

    found = onnx.SequenceProto(name=name, elem_type=onnx.SequenceProto.MAP)
    for row in value:
        one = found.map_values.add()
        if isinstance(next(iter(row)), str):
            one.key_type = onnx.TensorProto.STRING
            one.string_keys.extend(k.encode() for k in row)
        else:
            one.key_type = onnx.TensorProto.INT64
            one.keys.extend(row)
        one.values.CopyFrom(onnx.SequenceProto(elem_type=onnx.SequenceProto.TENSOR))
        one.values.tensor_values.extend(numpy_helper.from_array(np.float32(v)) for v in row.values())
    return found


def difference(a, b):
    """(largest difference, largest number) of two results, None if they cannot be compared number by number."""
    import numpy as np

    if isinstance(a, list) or np.asarray(a).dtype.kind in "OUS" or np.shape(a) != np.shape(b):
        return None
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    good = np.isfinite(a) & np.isfinite(b)
    return [float(np.abs(a - b)[good].max(initial=0)), float(np.abs(a)[good].max(initial=0))]


def answers(folder, sets, case):
    """Writes the test sets; ONNX Runtime runs each with all of its optimisations and with none."""
    import numpy as np
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    fast, plain = (session(folder / "model.onnx", level) for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL))
    names, outputs = [i.name for i in fast.get_inputs()], [o.name for o in fast.get_outputs()]
    case["inputs"], case["outputs"], case["spread"] = names, outputs, []
    for number, arrays in enumerate(sets):
        if len(arrays) > len(names):  # an exporter drops inputs that nothing reads
            arrays = [array for name, array in zip(case["given"], arrays) if name in names] if case.get("given") else arrays
        feed = dict(zip(names, arrays))
        try:
            got, other = fast.run(None, feed), plain.run(None, feed)
        except Exception as error:
            if not number:
                raise
            case["notes"].append(f"set {number}: ONNX Runtime: {str(error).splitlines()[0][:200]}")
            continue
        if not all(np.isfinite(v).all() for v in got if isinstance(v, np.ndarray) and v.dtype.kind == "f"):
            case["notes"].append(f"set {number}: outputs are not all finite")
        place = folder / f"test_data_set_{case['sets']}"
        place.mkdir()
        for kind, labels, values in (("input", names, arrays), ("output", outputs, got)):
            for index, (label, value) in enumerate(zip(labels, values)):
                (place / f"{kind}_{index}.pb").write_bytes(proto(value, label).SerializeToString())
        case["spread"].append([difference(a, b) for a, b in zip(got, other)])
        case["sets"] += 1


def opsets(path):
    import onnx

    found = onnx.load(path, load_external_data=False)
    ops = sorted(
        {
            (f"{n.domain}." if n.domain not in ("", "ai.onnx") else "") + n.op_type
            for g in [found.graph, *found.functions]
            for n in (g.node)
        }
    )
    return {o.domain or "ai.onnx": o.version for o in found.opset_import}, ops


def cause(error):
    """One line: the exporters wrap what went wrong several times."""
    while error.__cause__:
        error = error.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:240]}"


def export(entry, exporter, folder, case):
    started = time.monotonic()
    try:
        if exporter in ("torchscript", "dynamo"):
            sets = export_torch(entry, exporter, folder, case["notes"])
        else:
            sets = export_classic(entry, folder)
    except BaseException as error:
        case["status"] = "refused by the exporter"
        case["why"] = cause(error)
        case["trace"] = traceback.format_exc()[-3000:]
        return
    case["seconds"] = round(time.monotonic() - started, 1)
    case["opsets"], case["operators"] = opsets(folder / "model.onnx")
    try:
        answers(folder, sets, case)
        case["status"] = "exported"
    except Exception as error:
        case["status"] = "refused by ONNX Runtime"
        case["why"] = str(error).splitlines()[0][:300]


def child(entry, exporter, folder, case):
    """Forked: libraries are loaded already, and what an exporter breaks stays here."""
    log = open(folder / "log.txt", "w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    signal.alarm(LIMIT_SECONDS)
    export(entry, exporter, folder, case)
    (folder / "case.json").write_text(json.dumps(case, indent=1))
    os._exit(0)


def run_one(entry, exporter, folder, key):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = {
        "name": entry.name,
        "kind": getattr(entry, "kind", "classic"),
        "source": entry.source,
        "exporter": exporter,
        "key": key,
        "compare": getattr(entry, "compare", "numbers"),
        "status": "",
        "why": "",
        "notes": [],
        "sets": 0,
    }
    pid = os.fork()
    if pid == 0:
        try:
            child(entry, exporter, folder, case)
        finally:
            os._exit(1)
    _, code = os.waitpid(pid, 0)
    path = folder / "case.json"
    if not path.exists():
        case["status"] = "refused by the exporter"
        case["why"] = f"longer than {LIMIT_SECONDS} s" if code == signal.SIGALRM else f"the exporter ended with status {code}"
        path.write_text(json.dumps(case, indent=1))
    return json.loads(path.read_text())


# ---- the list ----
def entries():
    """[(entry, exporter, versions)], one design of each kind first, so that an interrupted run is a fair sample."""
    import lightgbm
    import skl2onnx
    import sklearn
    import timm
    import torch
    import torchvision
    import transformers
    import xgboost

    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # an operator that no exporter knows
    import classic
    import own  # noqa: F401
    import registry
    import text  # noqa: F401
    import vision  # noqa: F401

    versions = {
        "torchvision": [torch.__version__, torchvision.__version__],
        "timm": [torch.__version__, timm.__version__],
        "transformers": [torch.__version__, transformers.__version__],
        "tests/zoo": [torch.__version__],
        "scikit-learn": [sklearn.__version__, skl2onnx.__version__],
        "xgboost": [xgboost.__version__],
        "lightgbm": [lightgbm.__version__],
    }
    found = [(entry, exporter, versions[entry.source]) for entry in registry.MODELS.values() for exporter in entry.exporters]
    places = {}
    order = []
    for entry, exporter, version in found:
        place = places.setdefault((entry.kind, entry.source, exporter), [0])
        order.append((place[0], len(order), entry, exporter, version))
        place[0] += 1
    found = [item[2:] for item in sorted(order, key=lambda item: item[:2])]
    return [(entry, "converter", versions[entry.source]) for entry in classic.register().values()] + found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=Path(os.environ.get("POLESTAR_ZOO", "/tmp/polestar-zoo")))
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="names, or names with exporter, that match"
    )
    parser.add_argument("--force", action="store_true", help="export also what is there")
    parser.add_argument("--again", action="store_true", help="export also what failed before")
    options = parser.parse_args()
    for entry, exporter, versions in entries():
        label = f"{entry.name}.{exporter}"
        if options.only and not any(fnmatch.fnmatch(label, p) or fnmatch.fnmatch(entry.name, p) for p in options.only):
            continue
        folder, key = options.zoo / "models" / label, key_of(entry, versions)
        path = folder / "case.json"
        if path.exists() and not options.force:
            case = json.loads(path.read_text())
            if case["key"] == key and (case["status"] == "exported" or not options.again):
                continue
        case = run_one(entry, exporter, folder, key)
        print(
            f"{label:45} {case['status']:26} {case.get('seconds', '')} {case['why'][:200]} {'; '.join(case['notes'])}", flush=True
        )


if __name__ == "__main__":
    main()
