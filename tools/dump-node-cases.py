#!/usr/bin/env python3
"""Writes the official ONNX node test cases to a folder, one ONNX backend-test directory each.

    python tools/dump-node-cases.py FOLDER [SUBSTRING]

FOLDER/<case>/model.onnx and FOLDER/<case>/test_data_set_0/{input,output}_<n>.pb: what `polestar verify FOLDER/*` reads. With
SUBSTRING, only cases whose name contains it. Cases with inputs or outputs that are no tensors (sequences, optionals) are
left out; the last line counts them. Needs the package onnx, which generates the cases in memory.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests


def tensor(value, info):
    """TensorProto of a value, or None if it is no tensor of the declared type."""
    if isinstance(value, onnx.TensorProto):
        return value
    if info.type.WhichOneof("value") != "tensor_type" or isinstance(value, (list, dict)) or value is None:
        return None
    proto = numpy_helper.from_array(np.asarray(value), info.name)
    return proto if proto.data_type == info.type.tensor_type.elem_type else None


def case_files(case):
    """Name → bytes of a case's files, or None if it has values that are no tensors."""
    files = {"model.onnx": case.model.SerializeToString()}
    for k, (inputs, outputs) in enumerate(case.data_sets or []):
        for side, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for i, (value, info) in enumerate(zip(values, infos)):
                proto = tensor(value, info)
                if proto is None:
                    return None
                files[f"test_data_set_{k}/{side}_{i}.pb"] = proto.SerializeToString()
    return files


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder, part = pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else ""
    written = left_out = 0
    for case in load_model_tests(kind="node"):
        files = case_files(case) if part in case.name else {}
        left_out += files is None
        written += bool(files)
        for name, data in (files or {}).items():
            path = folder / case.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    print(f"{written} cases written to {folder}, {left_out} with values that are no tensors left out")


if __name__ == "__main__":
    main()
