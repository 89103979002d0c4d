"""The node tests of the ONNX project itself (onnx.backend.test, pinned in tests/requirements.txt) through `polestar verify`, on
the CPU device and on the reference kernels.

A case may fail only for one of three reasons: its operator is not in the table, it needs sequences or optionals, or it stands in
known.json with a reason. A case of known.json that passes fails this test too, so that the list stays true.
"""

import json
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
KNOWN = {name: reason for reason, names in json.loads((Path(__file__).parent / "known.json").read_text()).items() for name in names}
NOT_YET = ("is not supported", "cannot run in this version", "only tensors are supported",
           "strings, which plans cannot run yet")
LEAST_PASSED = 1400


def write_case(folder, case):
    """False where an input or output is no tensor."""
    graph = case.model.graph
    for k, (inputs, outputs) in enumerate(case.data_sets):
        for kind, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for i, (value, info) in enumerate(zip(values, infos)):
                if not isinstance(value, onnx.TensorProto):
                    try:
                        value = numpy_helper.from_array(np.asarray(value), info.name)
                    except (ValueError, NotImplementedError):
                        return False
                file = folder / f"test_data_set_{k}" / f"{kind}_{i}.pb"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value.SerializeToString())
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    return True


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    from onnx.backend.test.case.node import collect_testcases
    top = tmp_path_factory.mktemp("node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [top / case.name for case in cases if case.model is not None and write_case(top / case.name, case)]


@pytest.mark.parametrize("device", ["cpu", "ref"])
def test_node_cases(folders, device):
    done = subprocess.run([BINARY, "verify", "--json", "--device", device, *folders], capture_output=True, text=True, check=False)
    result = json.loads(done.stdout)
    wrong = []
    for model in result["models"]:
        name, message = Path(model["model"]).name, model["message"] or ""
        if model["status"] == "passed":
            if name in KNOWN:
                wrong.append(f"{name} passes, but known.json lists it")
        elif name not in KNOWN and not any(text in message for text in NOT_YET):
            wrong.append(f"{name}: {message}")
    assert not wrong, "\n".join(wrong)
    assert result["passed"] >= LEAST_PASSED, f"only {result['passed']} of {len(folders)} cases pass"
