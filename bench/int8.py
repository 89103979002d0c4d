#!/usr/bin/env python3
"""Int8 beside ONNX Runtime: makes the int8 forms of models with ONNX Runtime's quantiser, compares results and times.

    tools/python --bench bench/int8.py FOLDER [--models lite0,resnet50,minilm,rec] [--shared DIR] [--isa AVX2] [--times]

Forms: static QDQ with u8 and with i8 activations, QOperator, dynamic with i8 and u8 weights; weights per channel. Written to FOLDER
once. One line a form: largest difference and signal-to-noise ratio against ONNX Runtime, and that of ONNX Runtime with all its
optimisations against itself with none: what two right executions of that file may differ by. --times: least time of a run in
alternating windows, 1 thread, of polestar on it, of ONNX Runtime, and of polestar on the fp32 model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

TOP = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("POLESTAR", str(TOP / "build/release/bin/polestar"))
FOLDERS = {"lite0": "efficientnet-lite0", "minilm": "minilm-l6-v2-emb16", "rec": "ppocr-v4-rec"}
STATIC = {
    "qdq-u8": (QuantFormat.QDQ, QuantType.QUInt8),
    "qdq-i8": (QuantFormat.QDQ, QuantType.QInt8),
    "qoperator": (QuantFormat.QOperator, QuantType.QUInt8),
}
DYNAMIC = {"dynamic-i8": QuantType.QInt8, "dynamic-u8": QuantType.QUInt8}


class Reader(CalibrationDataReader):
    def __init__(self, sets):
        self.sets = iter(sets)

    def get_next(self):
        return next(self.sets, None)


def inputs_of(model):
    weights = {i.name for i in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in weights]


def data_sets(folder, names):
    sets = []
    for case in sorted(folder.glob("test_data_set_*")):
        files = sorted(case.glob("input_*.pb"))
        sets.append({n: numpy_helper.to_array(onnx.load_tensor(str(f))) for n, f in zip(names, files)})
    return sets


def widened(model):
    """f16 tables as f32, which the quantiser wants."""
    tensors = list(model.graph.initializer) + [a.t for n in model.graph.node for a in n.attribute if a.name == "value"]
    for t in tensors:
        if t.data_type == onnx.TensorProto.FLOAT16:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name))
    return model


def source(name, folder, shared):
    """The fp32 model as a file of opset 13 or later, and sets of inputs."""
    if name == "resnet50":
        path = folder / "bench/resnet50/model.onnx"
        if not path.exists():
            subprocess.run([sys.executable, TOP / "bench/models.py", folder / "bench", "resnet50"], check=True)
        rng = np.random.default_rng(5)
        return path, [{inputs_of(onnx.load(path))[0]: rng.standard_normal((1, 3, 224, 224), np.float32)} for _ in range(3)]
    model = onnx.load(shared / FOLDERS[name] / "model.onnx")
    sets = data_sets(shared / FOLDERS[name], inputs_of(model))
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 13)
    path = folder / f"{name}.fp32.onnx"
    onnx.save(widened(model), path)
    return path, sets


def make(name, folder, shared):
    path, sets = source(name, folder, shared)
    ready = folder / f"{name}.ready.onnx"
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    only = {"op_types_to_quantize": ["MatMul"]} if name == "minilm" else {}  # masks of -3e38 leave a sum no codes
    for form, (style, activations) in STATIC.items():
        out = folder / f"{name}.{form}.onnx"
        if not out.exists():
            quantize_static(
                str(ready), str(out), Reader(sets), quant_format=style, activation_type=activations,
                weight_type=QuantType.QInt8, per_channel=True, **only,
            )
    for form, weights in DYNAMIC.items():
        out = folder / f"{name}.{form}.onnx"
        if not out.exists():
            quantize_dynamic(str(ready), str(out), weight_type=weights)
    return path, sets[-1]


def session(path, optimise=True):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def polestar(path, feed, names, env):
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "run", str(path), "--output-dir", folder]
        for key, value in feed.items():
            np.save(f"{folder}/{key}.in.npy", value)
            command += ["--input", f"{key}={folder}/{key}.in.npy"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
        return [np.load(f"{folder}/{n.replace('/', '_')}.npy") for n in names]


def decibels(want, got):
    noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(want, got))
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in want)
    return 10 * np.log10(signal / noise) if noise else np.inf


def least(run, seconds):
    best, until = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def ours(path, feed, seconds, env):
    shapes = [x for k, v in feed.items() for x in ("--shape", f"{k}={'x'.join(map(str, v.shape))}")]
    command = [BINARY, "bench", str(path), "--threads", "1", "--seconds", str(seconds), "--json", *shapes]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    return json.loads(text)["results"][0]["min_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="lite0,resnet50,minilm,rec")
    parser.add_argument("--shared", type=Path, default=TOP.parent / "shared/models")
    parser.add_argument("--isa", help="cap of polestar's instruction set")
    parser.add_argument("--times", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, **({"ONEDNN_MAX_CPU_ISA": arguments.isa} if arguments.isa else {}))
    for name in arguments.models.split(","):
        fp32, feed = make(name, arguments.folder, arguments.shared)
        for form in [*STATIC, *DYNAMIC]:
            path = arguments.folder / f"{name}.{form}.onnx"
            peer = session(path)
            outputs = [o.name for o in peer.get_outputs()]
            want, plain = peer.run(None, feed), session(path, False).run(None, feed)
            got = polestar(path, feed, outputs, env)
            worst = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(want, got))
            line = f"{name:9} {form:11} largest difference {worst:.3g}, {decibels(want, got):.1f} dB"
            line += f" (ONNX Runtime against itself {decibels(want, plain):.1f}, polestar against that {decibels(plain, got):.1f})"
            if arguments.times:
                times = np.min(
                    [
                        (ours(path, feed, 1, env), least(lambda: peer.run(None, feed), 1), ours(fp32, feed, 1, env))
                        for _ in range(3)
                    ],
                    axis=0,
                )
                line += f"; ms {times[0]:.2f}, ONNX Runtime {times[1]:.2f}, fp32 {times[2]:.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
