"""What is around the server goes wrong: folders that cannot be written, a full disk, files that cannot be read, times of
files that make no sense. Models are served all the same, and the log says what is the matter."""

import json
import os
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest
import requests
from conftest import add_model
from test_repository import WAIT, infer, load, state


def make_two(folder):
    for amount, name in enumerate("ab", 1):
        add_model(folder / name / "1/model.onnx", amount)
    return folder


def in_turn(server, rounds=3):
    """One of them is there at a time."""
    for _ in range(rounds):
        assert infer(server, "a") == (1, "1") and infer(server, "b") == (2, "1")


def set_label(server):
    reply = requests.post(server.base + "/v2/models/a/traffic", data=json.dumps({"labels": {"stable": 1}}), timeout=WAIT)
    assert reply.status_code == 200, reply.text
    return requests.get(server.base + "/v2/models/a/traffic", timeout=WAIT).json()


def test_no_folder_can_be_written(tmp_path, start):
    """A file is in the place of the folders of cache and state."""
    (tmp_path / "file").write_text("")
    server = start("--model-repository", make_two(tmp_path / "models"), "--max-models", 1,
                   cache=SimpleNamespace(name=str(tmp_path / "file")))
    assert "event=no_cache" in server.read_log()
    in_turn(server)
    assert len(server.wait_log("event=load model=[ab] .*from=file", 6)) >= 6
    assert set_label(server)["kept"] is False
    server.wait_log("event=state_unwritten")
    assert infer(server, "a", "stable") == (1, "1"), "it holds all the same"


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KiB, all of it taken."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", folder], capture_output=True,
                             text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    try:
        for name in ("cache", "state"):
            (folder / "polestar" / name).mkdir(parents=True, mode=0o700, exist_ok=True)
        (folder / "polestar").chmod(0o700)
        with pytest.raises(OSError, match="No space left"), open(folder / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(tmp_path, start, full_disk):
    server = start("--model-repository", make_two(tmp_path / "models"), "--max-models", 1,
                   cache=SimpleNamespace(name=str(full_disk)))
    in_turn(server)
    assert len(server.wait_log("event=load model=[ab] .*from=file", 6)) >= 6, "nothing could be kept"
    assert set_label(server)["kept"] is False
    (full_disk / "filler").unlink()
    assert set_label(server)["kept"] is True, "there is room again"
    in_turn(server)
    assert server.wait_log("event=load model=a .*from=cache")
    code, log = server.stop()  # before the file system goes
    assert code == 0, log


def test_a_file_that_cannot_be_read(tmp_path, start):
    """A link to nowhere: as a file without permission, which root may read."""
    models = make_two(tmp_path / "models")
    file = models / "a/1/model.onnx"
    shutil.move(file, tmp_path / "away.onnx")
    file.symlink_to(tmp_path / "nowhere")
    server = start("--model-repository", models)
    assert infer(server, "b") == (2, "1")
    assert state(server, "a")[0] == "UNAVAILABLE" and state(server, "a")[1]
    assert load(server, "a").status_code >= 400
    file.unlink()
    shutil.move(tmp_path / "away.onnx", file)
    assert load(server, "a").status_code == 200 and infer(server, "a") == (1, "1")


def answers_with(server, amount):
    """The line of a load comes before the version takes over; on a busy machine a request may pass between."""
    deadline = time.monotonic() + 30
    while infer(server, "a") != (amount, "1"):
        assert time.monotonic() < deadline, "the old one still answers"
        time.sleep(0.01)


def test_times_of_files_make_no_sense(tmp_path, start):
    """A clock that jumps leaves files from the future, which are then replaced by older ones: any change is one."""
    models = make_two(tmp_path / "models")
    file = models / "a/1/model.onnx"
    os.utime(file, (4e9, 4e9))
    server = start("--model-repository", models, "--model-control", "poll")
    assert infer(server, "a") == (1, "1")
    for amount, when in ((7, 1e6), (8, 4.1e9), (9, 0)):
        add_model(tmp_path / "new.onnx", amount)
        os.utime(tmp_path / "new.onnx", (when, when))
        os.replace(tmp_path / "new.onnx", file)
        server.wait_log("event=load model=a", {7: 2, 8: 3, 9: 4}[amount])
        answers_with(server, amount)
