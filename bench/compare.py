#!/usr/bin/env python3
"""polestar beside ONNX Runtime (and OpenVINO where installed) on this CPU, in one process, window by window.

    tools/python --bench bench/compare.py                          the table below, 1 thread and all CPUs
    ... bench/compare.py --models magika,mlp --threads 1 --isa avx2,native --json
    ... bench/compare.py --quantized FOLDER --engines polestar,ort,openvino,fp32
                                                                   the int8 files that bench/int8.py wrote there

How it measures: per thread count and instruction-set cap one child process, pinned to as many CPUs. Each engine runs the
same input; outputs must agree before anything is timed. Then short windows alternate between the engines; a window in
which other processes used more than --noise cores of ours is thrown away and tried again. A figure is the median over the
windows of the median time of a run. If too few quiet windows were found, the row is marked with "~".

The instruction-set cap (ONEDNN_MAX_CPU_ISA) holds for polestar only: ONNX Runtime has no such switch.

With --quantized all engines run the same int8 file, and "fp32" is polestar on the model it was made of. Outputs are then told
but need not agree: engines round at other places (bench/int8.py judges that).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from windows import busy_seconds, own_seconds

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "bench"))
ISA = {"native": None, "avx512_core": "AVX512_CORE", "avx2": "AVX2", "sse41": "SSE41"}


# ---- what is measured -----------------------------------------------------------------------------------------------
def f32(*shape):
    return lambda rng: rng.standard_normal(shape).astype(np.float32)


def whole(low, high, dtype, *shape):
    return lambda rng: rng.integers(low, high, shape).astype(dtype)


def tokens(batch, length):
    return [whole(0, 30000, np.int64, batch, length), whole(1, 2, np.int64, batch, length),
            whole(0, 1, np.int64, batch, length)]


# label: (folder names of the model, inputs in the model's order)
CASES = {
    "resnet50 b1": (["resnet50"], [f32(1, 3, 224, 224)]),
    "resnet50 b8": (["resnet50"], [f32(8, 3, 224, 224)]),
    "mobilenetv2 b1": (["mobilenetv2"], [f32(1, 3, 224, 224)]),
    "mobilenetv2 b8": (["mobilenetv2"], [f32(8, 3, 224, 224)]),
    "bert-base 1x128": (["bert-base"], tokens(1, 128)[:2]),
    "unet b1": (["unet"], [f32(1, 3, 256, 256)]),
    "mlp b1": (["mlp"], [f32(1, 784)]),
    "mlp b32": (["mlp"], [f32(32, 784)]),
    "lstm 32x1": (["lstm"], [f32(32, 1, 64)]),
    "efficientnet-lite0 b1": (["efficientnet-lite0"], [f32(1, 3, 224, 224)]),
    "efficientnet-lite0 b8": (["efficientnet-lite0"], [f32(8, 3, 224, 224)]),
    "minilm 1x103": (["minilm-l6-v2-emb16"], tokens(1, 103)),
    "minilm 8x64": (["minilm-l6-v2-emb16"], tokens(8, 64)),
    "minilm 8x103": (["minilm-l6-v2-emb16"], tokens(8, 103)),
    "ppocr-det 256x320": (["ppocr-v4-det", "ppocr-det"], [f32(1, 3, 256, 320)]),
    "ppocr-rec w160": (["ppocr-v4-rec", "ppocr-rec"], [f32(1, 3, 48, 160)]),
    "ppocr-rec w320": (["ppocr-v4-rec", "ppocr-rec"], [f32(1, 3, 48, 320)]),
    "ppocr-rec w320 b8": (["ppocr-v4-rec", "ppocr-rec"], [f32(8, 3, 48, 320)]),
    "ppocr-cls b1": (["ppocr-v2-cls", "ppocr-cls"], [f32(1, 3, 48, 192)]),
    "silero-vad chunk": (["silero-vad"], [f32(1, 576), f32(2, 1, 128), whole(16000, 16001, np.int64)]),
    "magika b1": (["magika-v3_3", "magika"], [whole(0, 256, np.int32, 1, 2048)]),
    "magika b8": (["magika-v3_3", "magika"], [whole(0, 256, np.int32, 8, 2048)]),
    "med-xray b1": (["med-xray-cls-synth"], [f32(1, 1, 256, 256)]),
    "med-ct b1": (["med-ct-seg-synth"], [f32(1, 1, 128, 128)]),
    "med-mri b1": (["med-mri-cls3d-synth"], [f32(1, 1, 32, 64, 64)]),
}


QUANTIZED = {"resnet50": "resnet50", "efficientnet-lite0": "lite0", "minilm-l6-v2-emb16": "minilm", "ppocr-v4-rec": "rec"}


def quantized_file(names, arguments):
    path = Path(arguments.quantized) / f"{QUANTIZED[names[0]]}.{arguments.form}.onnx"
    return path if path.exists() else None


def model_file(names, cache):
    """The first model.onnx found; topologies of bench/models.py are written on demand. None if it cannot be had here."""
    further = Path(os.environ.get("POLESTAR_MODELS", TOP.parent / "shared/models"))
    for name in names:
        for folder in (further, cache / "models", TOP / "tests/models", cache / "bench-models"):
            if (folder / name / "model.onnx").exists():
                return folder / name / "model.onnx"
    import models  # bench/models.py; needs onnx
    return models.MODELS[names[0]](cache / "bench-models") if names[0] in models.MODELS else None


# ---- the engines: prepare(inputs) → run(), results() ----------------------------------------------------------------
class Polestar:
    def __init__(self, path, arrays, threads, library):
        import polestar_capi
        start = time.perf_counter()
        self.session = polestar_capi.Session(polestar_capi.Library(library), path, threads)
        self.bound = self.session.bind(dict(zip(self.session.inputs, arrays)))
        self.run()
        self.first_ms = (time.perf_counter() - start) * 1000

    def run(self):
        self.session.run(self.bound)

    def results(self):
        return self.session.results()

    def close(self):
        self.session.close(self.bound)


class Fp32(Polestar):
    """On the model that an int8 file was made of."""


class OnnxRuntime:
    def __init__(self, path, arrays, threads, _):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        start = time.perf_counter()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {info.name: array for info, array in zip(self.session.get_inputs(), arrays)}
        self.outputs = []
        self.run()
        self.first_ms = (time.perf_counter() - start) * 1000

    def run(self):
        self.outputs = self.session.run(None, self.inputs)

    def results(self):
        return self.outputs

    def close(self):
        self.session = None


class OpenVino:
    def __init__(self, path, arrays, threads, _):
        import openvino
        start = time.perf_counter()
        core = openvino.Core()
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        model = core.read_model(path)
        model.reshape({index: list(array.shape) for index, array in enumerate(arrays)})
        self.request = core.compile_model(model, "CPU", hints).create_infer_request()
        for index, array in enumerate(arrays):
            self.request.set_input_tensor(index, openvino.Tensor(np.asarray(array)))
        self.run()
        self.first_ms = (time.perf_counter() - start) * 1000

    def run(self):
        self.request.infer()

    def results(self):
        return [tensor.data.copy() for tensor in self.request.output_tensors]

    def close(self):
        self.request = None


ENGINES = {"polestar": Polestar, "ort": OnnxRuntime, "openvino": OpenVino, "fp32": Fp32}


# ---- measuring ------------------------------------------------------------------------------------------------------
def window(engine, seconds, cpus):
    """(median ms of a run, cores that others used) over at least `seconds` and three runs."""
    engine.run()
    busy, own, start = busy_seconds(cpus), own_seconds(), time.perf_counter()
    times, now = [], start
    while now - start < seconds or len(times) < 3:
        engine.run()
        before, now = now, time.perf_counter()
        times.append((now - before) * 1000)
    others = (busy_seconds(cpus) - busy) - (own_seconds() - own)
    return statistics.median(times), max(0.0, others / (now - start))


def measure(engines, arguments, cpus):
    """{engine: median ms}, and whether enough windows were quiet."""
    quiet, every = {name: [] for name in engines}, {name: [] for name in engines}
    for _ in range(arguments.rounds * 4):
        for name, engine in engines.items():
            if len(quiet[name]) < arguments.rounds:
                figure, others = window(engine, arguments.window, cpus)
                every[name].append(figure)
                if others <= arguments.noise:
                    quiet[name].append(figure)
        if all(len(figures) >= arguments.rounds for figures in quiet.values()):
            break
    enough = all(len(figures) * 2 >= arguments.rounds for figures in quiet.values())
    chosen = quiet if enough else every
    return {name: statistics.median(figures) for name, figures in chosen.items()}, enough


def disagreement(found, wanted):
    """Largest difference over all outputs, as a share of the largest output; None where shapes differ."""
    if [array.shape for array in found] != [array.shape for array in wanted]:
        return None
    worst = 0.0
    for left, right in zip(found, wanted):
        scale = float(np.abs(right).max(initial=0)) or 1.0
        worst = max(worst, float(np.abs(left.astype(np.float64) - right).max(initial=0)) / scale)
    return worst


def measure_case(label, arguments, cpus):
    names, makers = CASES[label]
    row = {"case": label, "threads": len(cpus), "isa": arguments.isa}
    source = model_file(names, Path(arguments.cache))
    path = quantized_file(names, arguments) if arguments.quantized else source
    if not path or not source:
        return {**row, "skipped": "no such model here"}
    rng = np.random.default_rng(7)
    arrays = [np.asarray(make(rng)) for make in makers]
    engines = {}
    for name in arguments.engines.split(","):
        try:
            engines[name] = ENGINES[name](source if name == "fp32" else path, arrays, len(cpus), arguments.library)
        except Exception as problem:  # an engine that cannot run a model is a result, not a crash
            row[f"{name}_error"] = str(problem).splitlines()[0][:200]
    wanted = engines["ort"].results() if "ort" in engines else None
    for name in list(engines):
        if wanted and name != "ort":
            row[f"{name}_difference"] = disagreement(engines[name].results(), wanted)
            if not arguments.quantized and (row[f"{name}_difference"] is None or not row[f"{name}_difference"] < arguments.agree):
                row[f"{name}_error"] = "outputs differ from ONNX Runtime's"
                engines.pop(name).close()
    row.update({f"{name}_first_ms": engine.first_ms for name, engine in engines.items()})
    if engines:
        medians, row["quiet"] = measure(engines, arguments, cpus)
        row.update({f"{name}_ms": figure for name, figure in medians.items()})
        for name, figure in medians.items():
            if name != "polestar" and "polestar" in medians:
                row[f"{name}_ratio"] = medians["polestar"] / figure
    for engine in engines.values():
        engine.close()
    return row


def child(arguments):
    """Measures all cases in this process, pinned; one JSON line a case."""
    cpus = sorted(os.sched_getaffinity(0))[:int(arguments.threads)]
    os.sched_setaffinity(0, cpus)
    for label in arguments.cases.split(","):
        print(json.dumps(measure_case(label, arguments, cpus)), flush=True)


# ---- the parent -----------------------------------------------------------------------------------------------------
def spawn(arguments, threads, isa, labels):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    environment.setdefault("GOMP_SPINCOUNT", "2000")  # as the polestar commands set it, docs/threads.md
    if ISA[isa]:
        environment["ONEDNN_MAX_CPU_ISA"] = environment["DNNL_MAX_CPU_ISA"] = ISA[isa]
    command = [sys.executable, __file__, "--child", "--cases", ",".join(labels), "--threads", str(threads), "--isa", isa]
    for option in ("engines", "rounds", "window", "noise", "agree", "library", "cache", "quantized", "form"):
        command += [f"--{option}", str(getattr(arguments, option))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        yield json.loads(line)
    if process.wait():
        raise SystemExit(f"compare: the measuring process ended with code {process.returncode}")


def cell(row, key, form):
    return format(row[key], form) if key in row else "-"


def print_row(row, engines):
    if "skipped" in row:
        print(f"{row['case']:22} {row['skipped']}")
        return
    times = "".join(f"{cell(row, f'{name}_ms', '.3f'):>11}" for name in engines)
    ratios = "".join(f"{cell(row, f'{name}_ratio', '.2f'):>8}" for name in engines if name != "polestar")
    first = "".join(f"{cell(row, f'{name}_first_ms', '.0f'):>8}" for name in engines)
    mark = " " if row.get("quiet", True) else "~"
    errors = "; ".join(f"{name}: {row[f'{name}_error']}" for name in engines if f"{name}_error" in row)
    print(f"{row['case']:22} {row['threads']:>3} {row['isa']:>11} {times}{ratios}{mark}{first}  {errors}", flush=True)


def processor():
    """(name, instruction-set flags that matter here)"""
    text = Path("/proc/cpuinfo").read_text()
    lines = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    shown = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimd")
    return lines.get("model name", os.uname().machine), [flag for flag in shown if flag in flags]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cpus = len(os.sched_getaffinity(0))
    home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "polestar-build")
    parser.add_argument("--models", default="", help="comma list of words; a case is taken when its label holds one of them")
    parser.add_argument("--threads", default=",".join(sorted({"1", str(min(cpus, 8))})), help="comma list")
    parser.add_argument("--isa", default="native", help=f"comma list of {', '.join(ISA)}")
    parser.add_argument("--engines", default="polestar,ort", help=f"comma list of {', '.join(ENGINES)}")
    parser.add_argument("--rounds", type=int, default=7, help="quiet windows for each engine")
    parser.add_argument("--window", type=float, default=0.3, help="seconds of a window")
    parser.add_argument("--noise", type=float, default=0.1, help="cores that others may use in a window")
    parser.add_argument("--agree", type=float, default=1e-3, help="largest difference allowed, as a share of max |output|")
    parser.add_argument("--quantized", default="", help="folder of bench/int8.py: its int8 files instead")
    parser.add_argument("--form", default="qdq-u8", help="which form of them")
    parser.add_argument("--library", default=TOP / "build/release/lib/libpolestar.so")
    parser.add_argument("--cache", default=home)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cases", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = parse()
    if arguments.child:
        return child(arguments)
    words = [word for word in arguments.models.split(",") if word]
    labels = [label for label in CASES if not words or any(word in label for word in words)]
    if arguments.quantized:
        labels = [label for label in labels if CASES[label][0][0] in QUANTIZED]
    engines, name_flags, rows = arguments.engines.split(","), processor(), []
    unknown = [name for name in engines if name not in ENGINES] + [i for i in arguments.isa.split(",") if i not in ISA]
    if unknown or not labels:
        raise SystemExit(f"compare: unknown {unknown[0] if unknown else arguments.models!r}; see --help")
    if not arguments.json:
        print(f"{name_flags[0]}: {' '.join(name_flags[1])}; medians in ms; ratio = polestar / other, below 1 is faster")
        print(f"{'case':22} thr {'isa':>11} " + "".join(f"{name:>11}" for name in engines)
              + "".join(f"{'/' + name:>8}" for name in engines if name != "polestar") + " "
              + "".join(f"{'1st ' + name[:3]:>8}" for name in engines))
    for isa in arguments.isa.split(","):
        for threads in map(int, arguments.threads.split(",")):
            for row in spawn(arguments, threads, isa, labels):
                rows.append(row)
                if not arguments.json:
                    print_row(row, engines)
    if arguments.json:
        print(json.dumps({"processor": name_flags[0], "flags": name_flags[1], "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
