#!/usr/bin/env python3
"""Writes the official ONNX node test cases to a folder, one ONNX backend-test directory each.

    tools/python tools/dump-node-cases.py FOLDER [SUBSTRING]

FOLDER/<case>/model.onnx and FOLDER/<case>/test_data_set_0/{input,output}_<n>.pb: what `polestar verify FOLDER/*` reads. With
SUBSTRING, only cases whose name contains it. Sequences and optionals are SequenceProto and OptionalProto files.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/onnx"))
import suites  # noqa: E402


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    written = sum(1 for _ in suites.node_cases(folder, *sys.argv[2:]))
    print(f"{written} cases written to {folder}")


if __name__ == "__main__":
    main()
