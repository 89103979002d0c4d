#!/usr/bin/env python3
"""Static INT8 of EfficientNet-Lite0: polestar compress beside ONNX Runtime's quantizer, on the same photos.

    tools/python --bench bench/compress.py ../shared/models/efficientnet-lite0 ../shared/imagenet-public.tar

Calibrates on the first 100 photos in file order and judges on the others; every file is run by ONNX Runtime, and ours by
polestar too. Prints size, time, agreement, photos lost and won against float, mean SQNR of the logits.
"""

import argparse
import os
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "bench"))
from top1 import read_photos, tensor_of  # noqa: E402

CALIBRATED = 100


def logits(path, tensors):
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 2))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: t})[0] for t in tensors])


def tell(name, path, took, before, after, labels):
    sqnr = np.mean(10 * np.log10((before**2).sum(1) / ((before - after) ** 2).sum(1)))
    a, b = before.argmax(1), after.argmax(1)
    lost, won = int(((a == labels) & (b != labels)).sum()), int(((a != labels) & (b == labels)).sum())
    print(f"{name:22} {path.stat().st_size / 1e6:6.2f} MB  {took:6.1f} s  same argmax {100 * np.mean(a == b):6.2f} %  "
          f"lost {lost}  won {won}  SQNR {sqnr:5.2f} dB", flush=True)


def quantize(model, out, tensors, method):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    import onnx
    name = onnx.load(model, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(tensors)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {name: row}

    quantize_static(str(model), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=getattr(CalibrationMethod, method))


def unpack(photos, folder):
    folder.mkdir()
    for name, _, data in photos:
        (folder / name).write_bytes(data)
    (folder / "labels.txt").write_text("".join(f"{name} {label}\n" for name, label, _ in photos))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--binary", type=Path, default=TOP / "build/release/bin/polestar")
    parser.add_argument("--methods", default="MinMax,Percentile,Entropy", help="of ONNX Runtime's quantizer")
    arguments = parser.parse_args()
    model = arguments.model / "model.onnx"
    photos = read_photos(arguments.photos)
    tensors = [tensor_of(data) for _, _, data in photos]
    labels = np.array([label for _, label, _ in photos])[CALIBRATED:]
    before = logits(model, tensors[CALIBRATED:])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack(photos, folder / "photos")
        words = ["--calibration", folder / "photos", "--calibration-samples", CALIBRATED, "--preset", "efficientnet-lite0"]
        out = folder / "ours.onnx"
        start = time.monotonic()
        done = subprocess.run([arguments.binary, "compress", model, "-o", out, *map(str, words), "--validation-samples", "1",
                               "--no-latency"], check=False, capture_output=True, text=True)
        took = time.monotonic() - start
        if done.returncode:
            sys.exit(done.stderr)
        tell("polestar compress", out, took, before, logits(out, tensors[CALIBRATED:]), labels)
        done = subprocess.run([arguments.binary, "compress", model, "-o", folder / "again.onnx", *map(str, words), "--json"],
                              check=True, capture_output=True, text=True)
        ours = json.loads(done.stdout)["accuracy"]
        print(f"{'  run by polestar':22} same argmax {ours['agreement']:.2f} %  lost {ours['lost']}  won {ours['won']}  "
              f"SQNR {ours['sqnr_db']:.2f} dB  difference {-ours['drop_high']:+.2f} ... {-ours['drop_low']:+.2f} points (95 %)")
        for method in arguments.methods.split(","):
            out = folder / f"{method}.onnx"
            start = time.monotonic()
            quantize(model, out, tensors[:CALIBRATED], method)
            tell(f"ORT quantizer {method}", out, time.monotonic() - start, before, logits(out, tensors[CALIBRATED:]), labels)


if __name__ == "__main__":
    main()
