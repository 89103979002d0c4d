"""What bench/goodput.py makes of its runs: which of them count, which are compared, and what C a run is a share of."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "bench"))
import goodput  # noqa: E402  bench/goodput.py
import windows  # noqa: E402  bench/windows.py

KEY = ("poisson", 2.0)
FOREVER = float("inf")


def contestant(name, goods, slowness=()):
    """Its answers a second by round; None: no run."""
    slowness = slowness or [1.0] * len(goods)
    one = goodput.Contestant(name)
    one.runs[KEY] = [{"good": good, "turn": turn, "slowness": slow}
                     for turn, (good, slow) in enumerate(zip(goods, slowness)) if good is not None]
    return one


def test_rounds_are_compared_with_themselves():
    ours, rival = contestant("ours", [100, 200, 300]), contestant("rival", [100, 100, None])
    assert ours.beside(rival, KEY) == pytest.approx(1.5)  # 1 and 2; the medians alone are 200 and 100


def test_without_a_common_round_medians_are_compared():
    ours, rival = contestant("ours", [None, 90]), contestant("rival", [100, None])
    assert ours.beside(rival, KEY) == pytest.approx(0.9)


def test_the_best_rival_is_the_one_beside_which_it_does_worst():
    ours, slow, fast = contestant("ours", [100] * 3), contestant("slow", [50] * 3), contestant("fast", [125] * 3)
    value, rival = ours.worst_beside([slow, contestant("absent", [None]), fast], KEY)
    assert (value, rival.name) == (pytest.approx(0.8), "fast")


def test_doubt_shrinks_with_rounds_and_needs_three():
    def doubt(rounds):
        return contestant("ours", [90, 110] * rounds).doubt(contestant("rival", [100] * 2 * rounds), KEY)

    assert doubt(1) == 0
    assert doubt(8) == pytest.approx(1.25 * 0.1 / 4, rel=0.05)
    assert doubt(2) > 1.9 * doubt(8)


def test_rounds_on_a_slower_machine_are_left_out_unless_it_is_measured_as_it_is():
    one = contestant("ours", [100, 70, 98], [1.0, 1.4, 1.02])
    one.leave_out(FOREVER)
    assert one.left_out == 0
    one.leave_out(0.05)
    assert (one.left_out, one.median(KEY)) == (1, 99)


def steady(probes, slack):
    made = windows.Steady(lambda: probes.pop(0), 10.0, slack, FOREVER, 3)
    made.patience = 0.0  # it does not wait for a fast moment
    return made


def test_a_run_counts_between_fast_probes():
    got, stands = steady([10.1], 0.08).window(lambda: {}, [])
    assert stands and got["probe_ms"] == pytest.approx(10.05)
    made = steady([14.0], 0.08)
    _, stands = made.window(lambda: {}, [])
    assert not stands and made.thrown_away == 1


def test_as_it_is_every_run_counts_and_c_is_that_of_the_time():
    o = SimpleNamespace(as_is=True, target=100, slack=FOREVER, noise=FOREVER, tries=3)
    machine = goodput.Machine(o, "model", {}, {1: 4.0, 16: 10.0, 32: 60.0})  # a batch of 32 would not fit twice
    assert (machine.c, machine.batch) == (pytest.approx(1600), 16)
    probes = [18.0, 16.0, 20.0, 12.0]
    machine.steady.probe = lambda: probes.pop(0)
    assert machine.c_now() == pytest.approx(16 / 18e-3)  # the median of three
    machine.steady.patience = 0.0
    got, stands = machine.window(lambda: {"good": 1.0}, [])
    assert stands and got["c"] == pytest.approx(16 / 16e-3)  # between the last of those and the one behind it
