#!/usr/bin/env python3
"""INT8 files of polestar compress beside those of ONNX Runtime's quantizer, on the same data: accuracy, size, time, memory.

    tools/python --bench bench/compress.py [lite0 ocr xray ct mri] [--shared DIR] [--lines N] [--caps AVX2,AVX512_CORE]

Every file is judged as ONNX Runtime runs it; ours also as polestar runs it, natively and under caps of the instruction set.
Nothing is chosen by what judges. Lines that begin with "claim" hold or do not; times and memory are of whole processes, on this
machine as it is.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "bench"))
import compress_cases  # noqa: E402

SELF, MISSED = Path(__file__).resolve(), []


def claim(sentence, holds):
    print(f"  claim {'holds ' if holds else 'MISSES'} {sentence}", flush=True)
    if not holds:
        MISSED.append(sentence)


# ---- processes that are measured ----
def highest_memory(pid):
    """Megabytes; of the program itself (rusage would begin with what its parent had)."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


def measured(command, env=None):
    """(seconds, megabytes at the peak) of a process."""
    start, most = time.monotonic(), 0.0
    with tempfile.TemporaryFile() as text:
        process = subprocess.Popen([str(word) for word in command], stdout=text, stderr=text, env=env)
        while process.poll() is None:
            most = max(most, highest_memory(process.pid))
            time.sleep(0.01)
        text.seek(0)
        if process.returncode:
            sys.exit(f"compress: {command[0]} failed: {text.read().decode()[-500:]}")
    return time.monotonic() - start, most


def save_arrays(path, arrays):
    np.savez(path, **{f"{index:05}": array for index, array in enumerate(arrays)})


def load_arrays(path):
    with np.load(path) as file:
        return [file[name] for name in sorted(file.files)]


# ---- engines ----
def onnxruntime_outputs(path, inputs):
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: array})[0] for array in inputs]


def run_polestar(model, inputs, out):
    """In a process of its own: the cap of the instruction set is read once."""
    import ctypes
    from polestar_capi import Library, Session
    session = Session(Library(TOP / "build/release/lib/libpolestar.so"), model, 2)
    outputs = []
    for array in load_arrays(inputs):
        bound = session.bind({session.inputs[0]: array})
        session.run(bound)
        outputs.append(session.results()[0])
        for tensor in bound:
            session.library.c.ps_tensor_release(ctypes.c_void_p(tensor))
    save_arrays(out, outputs)


def polestar_outputs(path, inputs, folder, isa=None):
    env = dict(os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {}))
    out = folder / "outputs.npz"
    measured([sys.executable, SELF, "--run", path, inputs, out], env)
    return load_arrays(out)


def exact_text(shared, model):
    """For polestar compress --metric: per cent of the tuning lines that a model reads exactly."""
    with tempfile.TemporaryDirectory() as folder:
        case = compress_cases.TuningLines(Path(shared), Path(folder), 100)
        print(100 * case.right(onnxruntime_outputs(model, case.judged)).mean())


# ---- the quantizer beside us ----
def quantize(model, calibration, out, method):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    graph = onnx.load(model)
    if graph.opset_import[0].version < 13:
        graph = onnx.version_converter.convert_version(graph, 13)
    name = graph.graph.input[0].name
    ready = Path(out).with_suffix(".ready.onnx")
    onnx.save(graph, ready)
    quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(load_arrays(calibration))

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {name: row}

    quantize_static(str(ready), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=getattr(CalibrationMethod, method))


# ---- one case ----
class Contest:
    def __init__(self, case, binary, folder):
        self.case, self.binary, self.folder = case, binary, folder
        self.size = case.model.stat().st_size
        self.inputs, self.calibration = folder / "judged.npz", folder / "calibration.npz"
        save_arrays(self.inputs, case.judged)
        save_arrays(self.calibration, case.calibration)
        self.before = onnxruntime_outputs(case.model, case.judged)
        self.right = case.right(self.before)
        print(f"  {'float32':26} {self.size / 1e6:6.2f} MB  {self.figures(self.right)}")

    def figures(self, right):
        if not self.case.counts:
            return f"{self.case.measure} " + ", ".join(f"{value:.4f}" for value in right)
        lost, won = int(((self.right == 1) & (right < 1)).sum()), int(((self.right < 1) & (right == 1)).sum())
        return f"{self.case.measure} {100 * right.mean():6.2f} %  lost {lost}  won {won}"

    def tell(self, name, path, outputs, took=None):
        """One line; the values that claims are about."""
        right = self.case.right(outputs)
        same = 100 * np.mean(self.case.same(self.before, outputs))
        noise = [10 * np.log10((a.astype(np.float64)**2).sum() / max(((a.astype(np.float64) - b)**2).sum(), 1e-30))
                 for a, b in zip(self.before, outputs)]
        cost = f"{took[0]:6.1f} s {took[1]:5.0f} MB at the peak  " if took else ""
        print(f"  {name:26} {path.stat().st_size / 1e6:6.2f} MB  {self.figures(right)}  as float {same:6.2f} %  "
              f"{np.mean(noise):5.2f} dB  {cost}", flush=True)
        return right, same, float(np.mean(noise))

    def compress(self, out, *words):
        return measured([self.binary, "compress", self.case.model, "-o", out, *self.case.words, *words])

    def ours(self):
        path = self.folder / "ours.onnx"
        took = self.compress(path, "--validation-samples", 1, "--no-latency")
        return path, took, self.tell("polestar compress", path, onnxruntime_outputs(path, self.case.judged), took)

    def theirs(self, method):
        path = self.folder / f"{method}.onnx"
        took = measured([sys.executable, SELF, "--quantize", self.case.model, self.calibration, path, method])
        return path, took, self.tell(f"ORT quantizer {method}", path, onnxruntime_outputs(path, self.case.judged), took)

    def by_us(self, path, caps):
        """Ours as polestar runs it; and what a lesser processor would say."""
        peer = onnxruntime_outputs(path, self.case.judged)
        native = polestar_outputs(path, self.inputs, self.folder)
        self.tell("  run by polestar", path, native)
        agree = 100 * np.mean(self.case.agree(peer, native))
        claim(f"ONNX Runtime and polestar agree on our file: {agree:.2f} % (>= 99)", agree >= 99)
        for cap in caps:
            same = 100 * np.mean(self.case.agree(native, polestar_outputs(path, self.inputs, self.folder, cap)))
            claim(f"{cap} against native: {same:.2f} % (>= 99.5)", same >= 99.5)

    def packed(self):
        """Sizes as .zst, of ours and of the original; the interval of what is lost, by the tool's own account."""
        report, out = self.folder / "report.json", self.folder / "ours.onnx.zst"
        self.compress(out, "--no-latency", "--report", report)
        return out.stat().st_size, json.loads(report.read_text())


def lite0(contest, caps, methods):
    case = contest.case
    path, took, (right, same, noise) = contest.ours()
    contest.by_us(path, caps)
    packed, report = contest.packed()
    before, after = report["size"]["zstd_before"], report["accuracy"]
    low, high = -after["drop_high"], -after["drop_low"]
    print(f"  as .zst: {before / 1e6:.2f} -> {packed / 1e6:.2f} MB; "
          f"top-1 {low:+.2f} ... {high:+.2f} points (95 %, paired, by polestar)")
    peers = {method: contest.theirs(method) for method in methods}
    best = max(peer[2][2] for peer in peers.values())
    plain = contest.size / path.stat().st_size
    claim(f"the .onnx is {plain:.2f}x smaller (>= 3.6)", plain >= 3.6)
    claim(f"the .onnx.zst is {contest.size / packed:.2f}x smaller than the .onnx (>= 4), {before / packed:.2f}x than its .zst",
          contest.size >= 4 * packed)
    net = int(contest.right.sum() - right.sum())
    claim(f"net loss {net} photos of {len(right)} (<= 3)", net <= 3)
    claim(f"same argmax {same:.2f} % (>= 98)", same >= 98)
    claim(f"logits {noise:.2f} dB, the best peer's {best:.2f}", noise >= best)
    if "MinMax" in peers:
        claim(f"{took[0]:.1f} s, ONNX Runtime's MinMax {peers['MinMax'][1][0]:.1f} s", took[0] < peers["MinMax"][1][0])
    most = 6 * case.model.stat().st_size / 1e6 + 300
    claim(f"{took[1]:.0f} MB at the peak (< {most:.0f})", took[1] < most)


def ocr(contest, caps, methods):
    path, _, (right, _, _) = contest.ours()
    claim(f"{path.stat().st_size / 1e6:.2f} MB (<= 3.3)", path.stat().st_size <= 3.3e6)
    contest.by_us(path, caps)
    mixed, metric = contest.folder / "mixed.onnx", f"{sys.executable} {SELF} --exact {contest.case.shared}"
    took = contest.compress(mixed, "--max-drop", 1, "--metric", metric, "--no-latency")
    best = contest.tell("polestar, --max-drop 1", mixed, onnxruntime_outputs(mixed, contest.case.judged), took)[0]
    for method in methods:
        contest.theirs(method)
    base = contest.right.mean()
    claim(f"exact text {100 * right.mean():.2f} %, {100 * right.mean() / base:.2f} % of float32's (>= 98), or mixed "
          f"{100 * best.mean():.2f} %", max(right.mean(), best.mean()) >= 0.98 * base)


def medical(contest, caps, methods):
    path, _, (right, _, _) = contest.ours()
    contest.by_us(path, caps)
    for method in methods:
        contest.theirs(method)
    if contest.case.counts:
        lost = 100 * (contest.right.mean() - right.mean())
        claim(f"{lost:.2f} points lost (<= 1)", lost <= 1)
    else:
        lost = float((contest.right - right).max())
        claim(f"Dice {lost:.4f} lost (<= 0.01)", lost <= 0.01)


CASES = {"lite0": lite0, "ocr": ocr, "xray": medical, "ct": medical, "mri": medical}


def main():
    if sys.argv[1:2] == ["--run"]:
        return run_polestar(*sys.argv[2:5])
    if sys.argv[1:2] == ["--exact"]:
        return exact_text(*sys.argv[2:4])
    if sys.argv[1:2] == ["--quantize"]:
        return quantize(*sys.argv[2:6])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--shared", type=Path, default=TOP.parent / "shared")
    parser.add_argument("--binary", type=Path, default=TOP / "build/release/bin/polestar")
    parser.add_argument("--lines", type=int, default=200, help="to judge the recogniser by")
    parser.add_argument("--methods", help="of ONNX Runtime's quantizer: MinMax,Percentile,Entropy")
    parser.add_argument("--caps", default="AVX2,AVX512_CORE")
    arguments = parser.parse_args()
    caps = [cap for cap in arguments.caps.split(",") if cap]
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.cases:
            case = compress_cases.make(name, arguments.shared, Path(temporary) / name, arguments.lines)
            print(f"{name}: {case.model.parent.name}, {len(case.calibration)} calibrate, {len(case.judged)} judge", flush=True)
            methods = arguments.methods.split(",") if arguments.methods else case.methods
            CASES[name](Contest(case, arguments.binary, Path(temporary) / name), caps, methods)
    print(f"{len(MISSED)} claims missed" + "".join(f"\n  {sentence}" for sentence in MISSED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
