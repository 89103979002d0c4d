"""bench/polestar_capi.py mirrors the structs of the public headers: it fails to load anything once it does not any more."""

import sys

import numpy as np
from conftest import BINARY, TOP, save
from onnx import TensorProto, helper

sys.path.insert(0, str(TOP / "bench"))
import polestar_capi  # noqa: E402


def test_a_model_runs(tmp_path):
    path = tmp_path / "double.onnx"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    save(path, [helper.make_node("Add", ["x", "x"], ["y"])], ends[:1], ends[1:])
    session = polestar_capi.Session(polestar_capi.Library(BINARY.parent.parent / "lib/libpolestar.so"), path, 1)
    assert session.inputs == ["x"] and session.names("output") == ["y"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    bound = session.bind({"x": x})
    session.run(bound)
    np.testing.assert_array_equal(session.results()[0], x + x)
    session.close(bound)
