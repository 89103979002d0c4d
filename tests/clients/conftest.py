"""Public clients whose packages are too heavy for the test tools: run by tools/check-clients, each in a venv of its own."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("server_conftest", Path(__file__).resolve().parent.parent / "server/conftest.py")
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    running = made.Server(made.add_model(folder / "plain.onnx", 1), made.pair_model(folder / "pair.onnx"),
                          made.text_model(folder / "text.onnx"), made.identity_model(folder / "types.onnx"))
    yield running
    code, log = running.stop()
    assert code == 0, log
