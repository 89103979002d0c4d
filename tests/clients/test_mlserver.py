"""mlserver's batch command line, `mlserver infer`: requests from a file, one JSON document a line, replies into another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MLSERVER = Path(sys.executable).parent / "mlserver"


def request(i, rows=1):
    data = [[float(i)] * 4] * rows
    return {"id": f"r{i}", "inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data}]}


def infer(server, folder, lines, *options):
    """Replies by the index of their line."""
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run([MLSERVER, "infer", "-u", server.url, "-m", "plain", "-i", source, "-o", target, *options],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    replies = list(map(json.loads, target.read_text().splitlines()))
    assert len({reply["parameters"]["batch_index"] for reply in replies}) == len(replies)
    return {reply["parameters"]["batch_index"]: reply for reply in replies}


@pytest.mark.parametrize("options", [(), ("-w", "4"), ("-s", "8", "-w", "2"), ("-b",), ("-b", "-s", "5")])
def test_every_line_is_answered(server, tmp_path, options):
    replies = infer(server, tmp_path, [request(i) for i in range(40)], *options)
    assert len(replies) == 40
    for index, reply in replies.items():
        (output,) = reply["outputs"]
        assert output["name"] == "y" and output["datatype"] == "FP32" and output["shape"] == [1, 4], (index, reply)
        assert set(sum_up(output["data"])) == {float(index) + 1}, (index, reply)


def sum_up(data):
    return [v for row in data for v in (row if isinstance(row, list) else [row])]


def test_a_wrong_line_fails_alone(server, tmp_path):
    wrong = {"inputs": [{"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}
    replies = infer(server, tmp_path, [request(0), wrong, request(2)], "-r", "1")
    errors = {i: r["error"] for i, r in replies.items() if r.get("error")}
    assert list(errors) == [1] and "'z'" in json.dumps(errors), replies
