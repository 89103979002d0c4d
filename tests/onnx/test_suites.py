"""Every case of the ONNX project's own suites through `polestar verify`, with the suites' own tolerances, on every device:
exactly what manifest.txt lists must pass. A case that it does not list, one that fails without a reason and one that passes in
spite of its reason are errors, so that the manifest stays true.
"""
import pytest
import suites


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    return suites.all_cases(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def results(cases):
    return {device: suites.verify(cases, device) for device in suites.DEVICES}


def test_suites_are_complete(cases):
    """The pinned package is there as a whole: a case that vanished is no pass."""
    expected, known, wide = suites.read_manifest()
    installed = {case.key for case in cases}
    gone = [key for key in {*expected, *known, *wide} if key.startswith("onnx/") and key not in installed]
    assert not gone, f"listed, but not in the suite: {sorted(gone)[:20]}"
    if not any(key.startswith("debian/") for key in installed):
        pytest.skip("libonnx-testdata is not installed: its suites did not run")


def test_every_case_is_listed(cases):
    listed = {key for kind in suites.read_manifest() for key in kind}
    new = sorted(case.key for case in cases if case.key not in listed)
    assert not new, f"not in manifest.txt: {new[:20]}"


@pytest.mark.parametrize("device", suites.DEVICES)
def test_listed_cases_pass(results, device):
    expected, _, wide = suites.read_manifest()
    wrong = [f"{key}: {message}" for key, message in results[device].items()
             if message is not None and (key in expected or key in wide)]
    assert not wrong, "\n".join(wrong)


def test_known_failures_fail(results):
    _, known, _ = suites.read_manifest()
    wrong = [f"{key} passes, but manifest.txt says: {why}" for key, why in known.items()
             if key in results["ref"] and all(results[device][key] is None for device in suites.DEVICES)]
    assert not wrong, "\n".join(wrong)
