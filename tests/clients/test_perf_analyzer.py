"""perf_analyzer, unmodified: it asks for metadata, configuration and statistics, and wants the counters to move."""

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
# a program of that name, or one that starts it (its binary needs glibc 2.38: on Debian 12 it runs in a root of Debian 13)
TOOL = os.environ.get("POLESTAR_PERF_ANALYZER", str(TOP / "../shared/tools/perf_analyzer.sh"))
pytestmark = pytest.mark.skipif(not Path(TOOL).exists(), reason=f"no perf_analyzer: {TOOL}")
SHORT = ["--measurement-interval", "500", "--stability-percentage", "999", "--max-trials", "3"]


def analyze(url, model, *options):
    """Infer requests a second, for each level."""
    done = subprocess.run([TOOL, "-m", model, "-u", url, *SHORT, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rates = [float(r) for r in re.findall(r"throughput: ([0-9.]+) infer/sec", done.stdout)]
    assert rates and min(rates) > 0, done.stdout
    return rates


@pytest.mark.parametrize("form", [[], ["--input-tensor-format", "json", "--output-tensor-format", "json"],
                                  ["--input-tensor-format", "binary", "--output-tensor-format", "binary"],
                                  ["--input-tensor-format", "json", "--output-tensor-format", "binary"]],
                         ids=["default", "json", "binary", "mixed"])
@pytest.mark.parametrize("how", [[], ["--async"]], ids=["sync", "async"])
def test_http(server, form, how):
    analyze(server.url, "plain", "--shape", "x:1,4", "--concurrency-range", "1:2", *form, *how)


def test_texts_and_many_types(server):
    analyze(server.url, "text", "--shape", "s:3", "--string-length", "5")
    shapes = [f"--shape=in_{kind}:2" for kind in
              "FP32 FP64 FP16 BF16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()]
    analyze(server.url, "types", *shapes)  # its BOOLs are any bytes
    analyze(server.grpc, "types", "-i", "grpc", *shapes)


@pytest.mark.parametrize("how", [[], ["--async"], ["--async", "--streaming"]], ids=["sync", "async", "streaming"])
def test_grpc(server, how):
    analyze(server.grpc, "plain", "-i", "grpc", "--shape", "x:1,4", "--concurrency-range", "1:2", *how)
    analyze(server.grpc, "text", "-i", "grpc", "--shape", "s:3", *how)


def test_request_rates(server):
    analyze(server.url, "plain", "--shape", "x:1,4", "--request-rate-range", "100:200:100", "--request-distribution", "poisson")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_wrong_model_is_an_error_with_our_sentence(server, protocol):
    url = server.url if protocol == "http" else server.grpc
    done = subprocess.run([TOOL, "-m", "nothing", "-u", url, "-i", protocol, *SHORT], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "is not known" in done.stdout + done.stderr
