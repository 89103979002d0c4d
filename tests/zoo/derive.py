#!/usr/bin/env python3
"""Derives models from exported ones with ONNX Runtime's own tools: what its optimiser and its quantisers write.

    python tests/zoo/derive.py [--zoo DIR] [--only PATTERN]... [--force]

Each becomes DIR/models/NAME.TOOL like an export (README.md). Needs export.py to have run, and packages of requirements.txt.
"""

import argparse
import fnmatch
import json
import os
import shutil
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

import export as exports


# ---- tools: (folder of the export, path to write) ----
def optimised(source, path):
    """Fusions that do not depend on the machine: com.microsoft operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(source / "model.onnx", options, providers=["CPUExecutionProvider"])


def fused(kind, heads=4, width=64):
    def tool(source, path):
        from onnxruntime.transformers import optimizer

        found = optimizer.optimize_model(str(source / "model.onnx"), kind, num_heads=heads, hidden_size=width, opt_level=0)
        found.save_model_to_file(str(path))

    return tool


def half(source, path):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source / "model.onnx"), keep_io_types=True), path)


def dynamic(source, path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source / "model.onnx", path, weight_type=QuantType.QUInt8)


def nbits(source, path):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    found = MatMulNBitsQuantizer(onnx.load(source / "model.onnx"), 4, 32, True)
    found.process()
    onnx.save(found.model.model, path)


def static(form, per_channel=True):
    """Calibrated on the test set itself."""

    def tool(source, path):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.sets = iter(test_sets(source))

            def get_next(self):
                return next(self.sets, None)

        prepared = path.parent / "prepared.onnx"
        quant_pre_process(source / "model.onnx", prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
        )
        prepared.unlink()

    return tool


def test_sets(source):
    case = json.loads((source / "case.json").read_text())
    for number in range(case["sets"]):
        place = source / f"test_data_set_{number}"
        yield {name: array(place / f"input_{i}.pb") for i, name in enumerate(case["inputs"])}


def array(path):
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


PHOTOS = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "yolov5", "unet"]
TEXTS = ["bert", "distilbert", "roberta", "gpt2", "llama", "t5_encoder", "whisper_encoder", "hf_vit"]
DERIVED = {
    "optimised": (
        optimised,
        PHOTOS + TEXTS + ["whisper_decoder", "qwen2", "deberta_v2", "clip", "hf_swin", "wav2vec2", "lstm_tagger"],
    ),
    "fused-bert": (fused("bert"), ["bert", "distilbert", "roberta", "electra"]),
    "fused-gpt2": (fused("gpt2"), ["gpt2"]),
    "fused-vit": (fused("vit"), ["hf_vit"]),
    "half": (half, ["resnet18", "mobilenet_v2", "bert", "gpt2", "unet", "yolov8"]),
    "dynamic": (dynamic, ["bert", "distilbert", "gpt2", "llama", "resnet18", "lstm_tagger", "hf_vit", "whisper_encoder"]),
    "nbits": (nbits, ["llama", "gpt2", "qwen2", "bert"]),
    "qdq": (static("qdq"), ["resnet18", "mobilenet_v2", "efficientnet_b0", "yolov5", "unet", "bert"]),
    "qoperator": (static("qoperator", False), ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "bert"]),
}


def derive(tool, name, label, zoo):
    source = zoo / "models" / f"{name}.torchscript"
    folder = zoo / "models" / f"{name}.{label}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = json.loads((source / "case.json").read_text())
    case = {key: given[key] for key in ("name", "key", "compare")}
    case |= {"kind": "derived", "source": given["source"], "exporter": label, "status": "", "why": "", "notes": [], "sets": 0}
    try:
        tool(source, folder / "model.onnx")
        case["opsets"], case["operators"] = exports.opsets(folder / "model.onnx")
        try:
            exports.answers(folder, [list(one.values()) for one in test_sets(source)], case)
            case["status"] = "exported"
        except Exception as error:
            case["status"], case["why"] = "refused by ONNX Runtime", str(error).splitlines()[0][:300]
    except Exception as error:
        case["status"], case["why"] = "refused by the exporter", exports.cause(error)
    (folder / "case.json").write_text(json.dumps(case, indent=1))
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=Path(os.environ.get("POLESTAR_ZOO", "/tmp/polestar-zoo")))
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="names, or names with tool, that match")
    parser.add_argument("--force", action="store_true", help="derive also what is there")
    options = parser.parse_args()
    for label, (tool, names) in DERIVED.items():
        for name in names:
            full = f"{name}.{label}"
            if options.only and not any(fnmatch.fnmatch(full, p) or fnmatch.fnmatch(name, p) for p in options.only):
                continue
            source = options.zoo / "models" / f"{name}.torchscript/case.json"
            if not source.exists() or json.loads(source.read_text())["status"] != "exported":
                continue
            there = options.zoo / "models" / full / "case.json"
            if there.exists() and not options.force and json.loads(there.read_text())["status"] == "exported":
                continue
            case = derive(tool, name, label, options.zoo)
            print(f"{full:45} {case['status']:26} {case['why'][:200]} {'; '.join(case['notes'])}", flush=True)


if __name__ == "__main__":
    main()
