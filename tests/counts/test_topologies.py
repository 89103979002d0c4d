"""Counts that do not depend on the machine's speed, over the topologies of bench/models.py: layout conversions, steps, memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "bench"))
import models  # noqa: E402  bench/models.py


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topologies")

    def run(name):
        path = models.MODELS[name](folder)
        out = subprocess.run([TOP / "build/release/bin/polestar", "bench", path, "--batch", "1", "--threads", "1",
                              "--seconds", "0.1", "--json"], check=True, capture_output=True, text=True)
        return json.loads(out.stdout)["results"][0]

    return run


def test_resnet50_converts_layouts_at_most_four_times(bench):
    row = bench("resnet50")
    assert row["reorders"] <= 4
    assert row["macs"] == pytest.approx(4.09e9, rel=0.02)  # the published count of the topology
    # 53 convolutions, a pool, a mean, the classifier, the reorders: anything more is a fusion that was lost
    assert row["steps_count"] <= 56 + row["reorders"]


def test_unet_converts_layouts_only_at_its_ends(bench):
    assert bench("unet")["reorders"] <= 2


def test_mobilenetv2_reuses_memory(bench):
    row = bench("mobilenetv2")
    assert row["reorders"] <= 2
    assert row["arena_bytes"] * 3 < row["no_reuse_bytes"]
