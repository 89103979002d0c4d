#!/usr/bin/env python3
"""Runs polestar over the exported zoo and compares with the answers of ONNX Runtime that export.py wrote.

    tools/python tests/zoo/run.py [--zoo DIR] [--only PATTERN]... [--device cpu|ref] [--table docs/models.md] [-v]

Floats are close when |got - expected| <= 1e-3 |expected| + a, where a is the larger of 1e-5 times the largest number of that
output and ten times the difference of two executions of ONNX Runtime (all optimisations, none): float32 sums in another order
cannot be asked to agree better with either than those agree with each other. Everything else must be equal. Detections are
compared as sets (README.md).
The exit code is 1 if a model that ONNX Runtime runs is refused or differs.
"""

import argparse
import collections
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

TOP = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("POLESTAR", TOP / "build/release/bin/polestar"))
RELATIVE, RANGE, SPREAD = 1e-3, 1e-5, 10
# f16 keeps 11 bits, and both runtimes round to it at other places. With dynamic quantisation a sum that is rounded another way
# moves a code of the next operator; these models are 4 to 9 % of the range away from what they were made of.
RANGE_OF = {"half": 1e-2, "dynamic": 3e-2}
LIMIT_SECONDS = 120
# Of the detections this part may have no partner: two boxes whose overlap or score is within rounding of a threshold are kept by
# one runtime and not by the other.
UNMATCHED = 0.05


# ---- comparing ----
def largest_spread(case, output):
    """Over all sets: a code of a quantised model that is rounded the other way in one of them could have been in each."""
    found = [one[output][0] for one in case["spread"] if one[output]]
    return max(found, default=0.0)


def compare(name, got, want, spread, part=RANGE):
    """A sentence, or '' if they are the same."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{name} is {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    if want.dtype.kind not in "fc" and want.dtype.name != "bfloat16":
        wrong = np.flatnonzero(got != want)
        return f"{name}: {wrong.size} of {want.size} differ" if wrong.size else ""
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return f"{name}: NaN or infinities at other places"
    a, b = a[finite], b[finite]
    limit = max(part * np.abs(b).max(initial=0), SPREAD * spread)
    error = np.abs(a - b)
    if not np.isfinite(a).all():
        return f"{name}: NaN or infinities at other places"
    wrong = np.flatnonzero(error > RELATIVE * np.abs(b) + limit)
    return (
        f"{name}: {wrong.size} of {b.size} differ, by up to {error.max():.3g} where numbers go up to {np.abs(b).max():.3g}"
        if wrong.size
        else ""
    )


def compare_detections(got, want):
    """Every detection needs a partner of the same label, score and box; what else belongs to it is compared with the partner's."""
    if any(name not in got for name in want):
        return "outputs are missing"
    n, m = len(want["scores"]), len(got["scores"])
    size = np.abs(want["boxes"]).max(initial=1)
    free, alone = set(range(m)), 0
    for i in range(n):
        fits = [
            j
            for j in free
            if got["labels"][j] == want["labels"][i]
            and abs(got["scores"][j] - want["scores"][i]) < 1e-3
            and np.abs(got["boxes"][j] - want["boxes"][i]).max() < 2e-3 * size
        ]
        best = min(fits, key=lambda j: np.abs(got["boxes"][j] - want["boxes"][i]).max(), default=None)
        if best is None:
            alone += 1
            continue
        free.remove(best)
        for name in set(want) - {"boxes", "scores", "labels"}:
            a, b = got[name][best].astype(np.float64), want[name][i].astype(np.float64)
            if np.mean(np.abs(a - b) > 1e-2 * max(1e-9, np.abs(b).max())) > 0.02:
                alone += 1
                break
    if alone > UNMATCHED * n or len(free) > UNMATCHED * n + 0.5:
        return f"{alone} of {n} detections have no partner, {len(free)} of {m} found ones have none"
    return ""


def compare_queries(got, want):
    """Rows of one query, over all outputs, in any order: they are sorted by scores that may be within rounding."""
    if any(name not in got or got[name].shape != want[name].shape for name in want):
        return "outputs are missing, or of other shapes"
    a, b = (np.concatenate([found[name].reshape(-1, found[name].shape[-1]) for name in want], 1) for found in (got, want))
    distance = np.abs(a[None] - b[:, None]).max(2)
    alone = np.count_nonzero(distance.min(1) > 1e-3 * np.abs(b).max())
    return f"{alone} of {len(b)} queries have no partner" if alone > UNMATCHED * len(b) else ""


# ---- running ----
def call(words):
    try:
        done = subprocess.run(
            [BINARY, *words], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return 124, f"longer than {LIMIT_SECONDS} s", ""
    if done.returncode < 0:
        return done.returncode, f"ended by signal {-done.returncode}", ""
    lines = done.stderr.strip().splitlines() or [""]
    return done.returncode, lines[-1].split(": ", 1)[-1], done.stdout


def tensor(path):
    """The array in a .pb, or None if it holds a sequence, or strings, which .npy cannot."""
    found = onnx.TensorProto()
    try:
        found.ParseFromString(path.read_bytes())
        array = numpy_helper.to_array(found)
    except Exception:
        return None
    return array if found.data_type and array.dtype.kind not in "OUS" else None


def safe(name):
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def run_set(folder, case, number, device):
    """'' or a sentence."""
    place = folder / f"test_data_set_{number}"
    wants = [tensor(place / f"output_{i}.pb") for i in range(len(case["outputs"]))]
    if any(want is None for want in wants):
        code, why, out = call(["verify", "--device", device, "--rtol", "1e-3", "--atol", "1e-4", "--json", folder])
        if code and out:
            why = json.loads(out)["models"][0]["message"]
        return why if code else ""
    with tempfile.TemporaryDirectory() as scratch:
        words = ["run", folder / "model.onnx", "--output-dir", scratch, "--json", "--device", device]
        for i, name in enumerate(case["inputs"]):
            words += ["--input", f"{name}={place / f'input_{i}.pb'}"]
        code, why, _ = call(words)
        if code:
            return why or f"exit code {code}"
        got = {}
        for name in case["outputs"]:
            path = Path(scratch) / f"{safe(name)}.npy"
            if not path.exists():
                return f"no output '{name}'"
            got[name] = np.load(path)
    if case["compare"] == "detections" and {"boxes", "scores", "labels"} <= set(case["outputs"]):
        return compare_detections(got, dict(zip(case["outputs"], wants)))
    if case["compare"] == "queries":
        return compare_queries(got, dict(zip(case["outputs"], wants)))
    for output, (name, want) in enumerate(zip(case["outputs"], wants)):
        found = compare(name, got[name], want, largest_spread(case, output), RANGE_OF.get(case["exporter"], RANGE))
        if found:
            return found
    return ""


def run_case(folder, device):
    """(verdict, sentence): verdict is one of matches, differs, refused, no export."""
    case = json.loads((folder / "case.json").read_text())
    if case["status"] != "exported":
        return case, "no export", f"{case['status']}: {case['why']}"
    for number in range(case["sets"]):
        why = run_set(folder, case, number, device)
        if why:
            code, first, _ = call(["inspect", folder / "model.onnx"]) if number == 0 else (0, "", "")
            why = first if code else f"set {number}: {why}"
            return case, "refused" if code else "differs", why.replace(f"{folder}/model.onnx: ", "")
    return case, "matches", ""


# ---- the table ----
def cell(result):
    if result is None:
        return "–"
    case, verdict, why = result
    if verdict == "matches":
        return "matches"
    if verdict == "no export":
        return "exporter fails" if "exporter" in case["status"] else "ONNX Runtime fails"
    return f"**{verdict}**: {why.replace('|', '/').replace('<', '&lt;')[:160]}"


def table(results):
    """docs/models.md."""
    by_kind = collections.defaultdict(dict)
    for case, verdict, why in results:
        by_kind[case["kind"]].setdefault((case["source"], case["name"]), {})[case["exporter"]] = (case, verdict, why)
    torch = [r for r in results if r[0]["exporter"] in ("torchscript", "dynamo")]
    count = lambda rs, exporter, verdict: sum(exporter in (r[0]["exporter"], r[0]["kind"]) and r[1] == verdict for r in rs)
    names = lambda exporter: {r[0]["name"] for r in torch if r[0]["exporter"] == exporter and r[1] == "matches"}
    lines = [
        "# Models",
        "Printed by `tests/zoo/run.py --table` (tests/zoo/README.md): architectures exported with seeded random weights, run by",
        "polestar and compared with ONNX Runtime 1.32 on random input, in two sets of shapes where dims are dynamic. *matches*:",
        "every output is close, by the tolerance that `run.py` states. *exporter fails*, *ONNX Runtime fails*: there is no file,",
        "or no answer to compare with.",
        "",
        "| exporter | matches | differs | refused | no export |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, exporter in (
        ("TorchScript (`dynamo=False`)", "torchscript"),
        ("dynamo (`dynamo=True`)", "dynamo"),
        ("skl2onnx, onnxmltools", "converter"),
        ("ONNX Runtime's optimisers and quantisers", "derived"),
    ):
        lines.append(
            f"| {label} | "
            + " | ".join(str(count(results, exporter, v)) for v in ("matches", "differs", "refused", "no export"))
            + " |"
        )
    lines += [
        "",
        f"{len(names('torchscript') | names('dynamo'))} architectures match with at least one exporter, "
        f"{len(names('torchscript') & names('dynamo'))} with both.",
        "",
    ]
    derived = {name: found for (_, name), found in by_kind.pop("derived", {}).items()}
    if derived:
        tools = sorted({tool for found in derived.values() for tool in found})
        lines += ["## by ONNX Runtime's tools", "", "What `tests/zoo/derive.py` makes of the TorchScript exports.", ""]
        lines += ["| model | " + " | ".join(tools) + " |", "| --- |" + " --- |" * len(tools)]
        lines += [
            f"| {name} | " + " | ".join(cell(found.get(t)) for t in tools) + " |" for name, found in sorted(derived.items())
        ]
        lines.append("")
    for kind in sorted(by_kind, key=lambda k: (k == "classic", k)):
        lines += [f"## {kind}", ""]
        classic = kind == "classic"
        lines += (
            ["| model | of | |", "| --- | --- | --- |"]
            if classic
            else ["| architecture | of | TorchScript | dynamo |", "| --- | --- | --- | --- |"]
        )
        for (source, name), found in sorted(by_kind[kind].items()):
            cells = [cell(found.get("converter"))] if classic else [cell(found.get(e)) for e in ("torchscript", "dynamo")]
            lines.append(f"| {name} | {source} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def foreign_part(page):
    """What tests/torch/zoo.py has written at the end of the page."""
    text = page.read_text() if page.exists() else ""
    at = text.find("\n## .pt2\n")
    return text[at:] if at >= 0 else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=Path(os.environ.get("POLESTAR_ZOO", "/tmp/polestar-zoo")))
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="names, or names with exporter, that match"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", type=Path, help="write the table of results there")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-v", "--verbose", action="store_true", help="name also what matches and what has no export")
    options = parser.parse_args()
    folders = [p.parent for p in sorted((options.zoo / "models").glob("*/case.json"))]
    folders = [
        f
        for f in folders
        if not options.only
        or any(fnmatch.fnmatch(f.name, p) or fnmatch.fnmatch(f.name.rsplit(".", 1)[0], p) for p in options.only)
    ]
    if not folders:
        sys.exit(f"run: no exports below {options.zoo}; run tests/zoo/export.py first")
    with ThreadPoolExecutor(options.jobs) as pool:
        results = []
        for case, verdict, why in pool.map(lambda f: run_case(f, options.device), folders):
            results.append((case, verdict, why))
            if options.verbose or verdict in ("differs", "refused"):
                print(f"{verdict:9} {case['name']}.{case['exporter']}  {why}", flush=True)
    counts = collections.Counter(verdict for _, verdict, _ in results)
    if options.table:
        options.table.write_text(table(results) + foreign_part(options.table))
    failed = counts["differs"] + counts["refused"]
    print(f"{counts['matches']} passed, {failed} failed, {counts['no export']} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
