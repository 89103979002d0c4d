#!/usr/bin/env python3
"""How long a model takes to load, and how much memory: polestar beside ONNX Runtime, in the same run.

    tools/python --bench bench/load.py [MODEL.onnx ...] [--threads N] [--rounds 9]

defaults: the ResNet-50 topology (as it is and with its weights in aligned external data) and MiniLM, where they are.

Time: rounds alternate between the engines in one process, with the file in the page cache; medians. For both, everything that
comes before the second run and is not the run itself: reading, optimising, planning, packing. polestar plans when it first sees the
input's shapes, ONNX Runtime prepares most of it when the session is made, so the sum is what can be compared; "create" is
the part before the first run.
Memory: highest resident size (VmHWM) of a process of its own that loads the model and runs it once. polestar's is the command
`polestar run`; for ONNX Runtime, that of the interpreter with the package imported is given too.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "bench"))


def high_water():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def files_of(path):
    """The model and its files of external data."""
    import onnx
    locations = {entry.value for t in onnx.load(path, load_external_data=False).graph.initializer
                 for entry in t.external_data if entry.key == "location"}
    return [path, *(path.parent / name for name in sorted(locations))]


def ort_session(path, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds_of(session):
    import numpy as np
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    return {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape], kinds[i.type]) for i in session.get_inputs()}


# ---- children that measure memory -----------------------------------------------------------------------------------
def child_ort(path, threads):
    import numpy  # noqa: F401 (part of the base)
    import onnxruntime  # noqa: F401
    base = high_water()
    session = ort_session(path, threads)
    session.run(None, feeds_of(session))
    print(base, high_water())


def memory(path, threads):
    binary = os.environ.get("POLESTAR", TOP / "build/release/bin/polestar")
    # From a small process: Linux counts what the parent held when it started the child.
    small = ("import os, sys; n = os.open(os.devnull, os.O_WRONLY); p = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, "
             "file_actions=[(os.POSIX_SPAWN_DUP2, n, 1)]); _, s, u = os.wait4(p, 0); print(s, u.ru_maxrss)")
    command = [sys.executable, "-S", "-c", small, binary, "run", "--threads", str(threads), path]
    status, kilobytes = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    if status:
        sys.exit(f"load: polestar could not run {path}")
    done = subprocess.run([sys.executable, __file__, "--child", path, "--threads", str(threads)],
                          capture_output=True, text=True, check=True)
    return kilobytes * 1024, *map(int, done.stdout.split())


# ---- time -----------------------------------------------------------------------------------------------------------
def timed(call):
    begin = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - begin) * 1e3


def round_polestar(library, path, threads, feeds):
    import polestar_capi
    session, create = timed(lambda: polestar_capi.Session(library, path, threads))
    bound = session.bind(feeds)
    first = timed(lambda: session.run(bound))[1]
    steady = min(timed(lambda: session.run(bound))[1] for _ in range(3))
    session.close(bound)
    return create, create + first - steady


def round_ort(path, threads, feeds):
    session, create = timed(lambda: ort_session(path, threads))
    first = timed(lambda: session.run(None, feeds))[1]
    steady = min(timed(lambda: session.run(None, feeds))[1] for _ in range(3))
    return create, create + first - steady


def compare(path, threads, rounds):
    import polestar_capi
    library = polestar_capi.Library(os.environ.get("POLESTAR_LIB", TOP / "build/release/lib/libpolestar.so"))
    feeds = feeds_of(ort_session(path, threads))
    round_polestar(library, path, threads, feeds)
    times = {"polestar": [], "ONNX Runtime": []}
    for _ in range(rounds):
        times["polestar"].append(round_polestar(library, path, threads, feeds))
        times["ONNX Runtime"].append(round_ort(path, threads, feeds))
    return {name: [statistics.median(column) for column in zip(*values)] for name, values in times.items()}


def report(path, threads, rounds):
    size = sum(f.stat().st_size for f in files_of(path))
    ours, base, theirs = memory(path, threads)
    times = compare(path, threads, rounds)
    print(f"{path}: {size / 1e6:.1f} MB, {threads} threads")
    for name, (create, whole) in times.items():
        print(f"  {name:13} create {create:8.1f} ms   create and first run, less a run {whole:8.1f} ms")
    print(f"  ratio of the whole to ONNX Runtime's creation {times['polestar'][1] / times['ONNX Runtime'][0]:.2f}, "
          f"of whole to whole {times['polestar'][1] / times['ONNX Runtime'][1]:.2f}")
    print(f"  memory        polestar {ours / 1e6:.1f} MB ({(ours - 40e6) / size:.2f} x the file + 40 MB)   "
          f"ONNX Runtime {theirs / 1e6:.1f} MB ({base / 1e6:.1f} before loading)")


def with_external_data(source, target):
    """The same model with its weights in a file beside it, at multiples of 4096 bytes."""
    import onnx
    m = onnx.load(source)
    with open(str(target) + ".data", "wb") as data:
        for t in m.graph.initializer:
            if len(t.raw_data) < 1024:
                continue
            data.write(bytes(-data.tell() % 4096))
            for key, value in (("location", target.name + ".data"), ("offset", data.tell()), ("length", len(t.raw_data))):
                t.external_data.add(key=key, value=str(value))
            data.write(t.raw_data)
            t.data_location = onnx.TensorProto.EXTERNAL
            t.ClearField("raw_data")
    onnx.save(m, target)


def default_models():
    import compare as speed
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "polestar-build"
    found = [speed.model_file([name], cache) for name in ("resnet50", "minilm-l6-v2-emb16")]
    found = [path for path in found if path]
    outside = cache / "bench-models" / "resnet50-external" / "model.onnx"
    if not outside.exists() and found:
        outside.parent.mkdir(parents=True, exist_ok=True)
        with_external_data(found[0], outside)
    return [*found, outside] if outside.exists() else found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child_ort(args.child, args.threads)
        return
    for path in args.models or default_models():
        report(path, args.threads, args.rounds)


if __name__ == "__main__":
    main()
