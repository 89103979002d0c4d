"""`polestar verify` over real trained models against outputs of ONNX Runtime.

Three sources: models fetched from Python packages (outputs in this folder), models of our own (tests/models), and, where it
lies beside the checkout or POLESTAR_MODELS names it, a folder of further models in the same layout.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
GOLDEN = TOP / "tests/golden"
OWN = TOP / "tests/models"
FURTHER = Path(os.environ.get("POLESTAR_MODELS", TOP.parent / "shared/models"))
RELATIVE = "1e-3"
LEAST_REAL_MODELS = 4


def fetched_folder():
    done = subprocess.run([TOP / "tools/fetch-models", "--dir"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def readme_tolerance(folder):
    """Ten times the difference of two ONNX Runtime executions that the model's README states, at least 1e-5."""
    found = re.search(r"max \|default - ORT_DISABLE_ALL\|.*?= ([0-9.e+-]+)", (folder / "README.md").read_text())
    return max(1e-5, 10 * float(found.group(1)))


def cases():
    """[(name, model file, folder with the test sets, absolute tolerance)]"""
    fetched = fetched_folder()
    found = [(name, fetched / name / "model.onnx", GOLDEN / name, tolerance)
             for name, tolerance in json.loads((GOLDEN / "tolerance.json").read_text()).items()]
    found += [(name, OWN / name / "model.onnx", OWN / name, tolerance)
              for name, tolerance in json.loads((OWN / "tolerance.json").read_text()).items()]
    for folder in sorted(FURTHER.glob("*/test_data_set_0")):
        folder = folder.parent
        found.append((f"further-{folder.name}", folder / "model.onnx", folder, readme_tolerance(folder)))
    return found


def opencl_device():
    """The first OpenCL device, or None: PoCL where there is no card."""
    done = subprocess.run([BINARY, "devices", "--json"], capture_output=True, text=True, check=False)
    names = [device["name"] for device in json.loads(done.stdout)["devices"]] if done.returncode == 0 else []
    return next((name for name in names if name.startswith("opencl:")), None)


CASES = cases()
verified = set()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("name, model, sets, tolerance", CASES, ids=[case[0] for case in CASES])
def test_model(name, model, sets, tolerance, device, tmp_path):
    if device == "gpu" and not opencl_device():
        pytest.skip("no OpenCL device: tools/bootstrap installs PoCL")
    if not model.exists():
        pytest.skip(f"{model} is not there: tools/fetch-models could not fetch it")
    (tmp_path / "model.onnx").symlink_to(model)
    folders = sorted(sets.glob("test_data_set_*"))
    assert folders, f"{sets} holds no test set"
    for folder in folders:
        (tmp_path / folder.name).symlink_to(folder)
    done = subprocess.run([BINARY, "verify", "--device", device, tmp_path, "--rtol", RELATIVE, "--atol", str(tolerance)],
                          capture_output=True, text=True, timeout=600, check=False)
    print(done.stdout + done.stderr)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    counts = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped$", done.stdout.strip())
    assert counts, "verify's last line does not count"
    passed, failed, skipped = map(int, counts.groups())
    assert passed >= 1 and failed == 0 and skipped == 0
    verified.add(name)


def test_enough_real_models():
    """The promise of this suite: at least four real models were verified by the tests above, in this run."""
    assert len(verified) >= LEAST_REAL_MODELS, f"only {sorted(verified)}"
