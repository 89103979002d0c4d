#!/usr/bin/env python3
"""Writes tests/golden: inputs for the fetched models and the outputs ONNX Runtime gives for them.

    tools/python --bench tests/gen/golden.py        needs onnxruntime; run once, the result is committed

Layout of the ONNX backend tests: <model>/test_data_set_K/{input,output}_I.pb. tolerance.json holds for each model the
absolute tolerance: ten times the largest difference between ONNX Runtime with its default optimisations and with none,
at least 1e-5. Two correct float32 runtimes that order sums differently cannot be asked to agree better than that.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tools"))
import demo_inputs  # noqa: E402

GOLDEN = TOP / "tests/golden"


def line(text, width):
    """A line of text as PP-OCR wants it, cut or padded with zeros to `width`."""
    page = demo_inputs.draw_page([text], width=900)
    found = demo_inputs.ocr_input(page.crop((20, 10, 880, 58)), 48)
    return np.ascontiguousarray(found[:, :, :, :width])


def silero(session):
    """One chunk with zero state, one with the state after ten chunks of a vowel; 16 and 8 kHz."""
    for rate in (16000, 8000):
        state = np.zeros((2, 1, 128), np.float32)
        for index, chunk in enumerate(demo_inputs.sound_chunks(demo_inputs.vowel(0.4, rate), rate)[:11]):
            inputs = {"input": chunk, "state": state, "sr": np.array(rate, np.int64)}
            if index in (0, 10):
                yield inputs
            state = session.run(None, inputs)[1]


def magika(_):
    def file(name):
        return demo_inputs.file_bytes((TOP / name).read_bytes())

    yield {"bytes": file("include/polestar/error.h")}
    yield {"bytes": np.concatenate([file("tools/fetch-models"), file("Makefile"), file("LICENSE")])}


def ppocr_cls(_):
    yield {"x": line("which way is up", 192)}
    upside_down = line("which way is up", 192)[:, :, ::-1, ::-1]
    yield {"x": np.concatenate([line("polestar", 192), upside_down])}


def ppocr_rec(_):
    yield {"x": line("north", 80)}
    yield {"x": np.concatenate([line("41", 40), line("ok", 40)])}


def ppocr_det(_):
    yield {"x": demo_inputs.ocr_input(demo_inputs.draw_page(["find me"], width=128, size=20).crop((0, 0, 128, 64)))}
    yield {"x": demo_inputs.ocr_input(demo_inputs.draw_page(["a", "b"], width=64, size=24).crop((0, 0, 64, 96)))}


MODELS = {"silero-vad": silero, "magika": magika, "ppocr-cls": ppocr_cls, "ppocr-rec": ppocr_rec, "ppocr-det": ppocr_det}


def write(path, array, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numpy_helper.from_array(np.asarray(array, order="C"), name).SerializeToString())


def generate(name, inputs_of, models):
    """Writes the sets of one model; returns the largest difference between optimised and plain execution."""
    plain_options = onnxruntime.SessionOptions()
    plain_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    file = models / name / "model.onnx"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    plain = onnxruntime.InferenceSession(file, plain_options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for index, inputs in enumerate(inputs_of(session)):
        folder = GOLDEN / name / f"test_data_set_{index}"
        outputs = session.run(None, inputs)
        for position, info in enumerate(session.get_inputs()):
            write(folder / f"input_{position}.pb", inputs[info.name], info.name)
        for position, (info, output, other) in enumerate(zip(session.get_outputs(), outputs, plain.run(None, inputs))):
            write(folder / f"output_{position}.pb", output, info.name)
            largest = max(largest, float(np.abs(output - other).max()))
    return largest


def main():
    models = Path(subprocess.run([TOP / "tools/fetch-models", "--dir"], capture_output=True, text=True, check=True)
                  .stdout.strip())
    differences = {name: generate(name, inputs_of, models) for name, inputs_of in MODELS.items()}
    tolerances = {name: float(f"{max(1e-5, 10 * difference):.2g}") for name, difference in differences.items()}
    (GOLDEN / "tolerance.json").write_text(json.dumps(tolerances, indent=2) + "\n")
    for name, difference in differences.items():
        print(f"{name:12} optimised against plain: {difference:.2e}, tolerance {tolerances[name]:.2e}")


if __name__ == "__main__":
    main()
