"""Was a window of a measurement this machine's own? What others used of its processors, and whether it was as fast as before.

A virtual machine's speed is its neighbours' affair too: a run of the same batch may take twice as long for some seconds, with
nothing of it in this machine's counts. So a measured window stands between two probes, short runs of known work. Some machines
are hardly ever as fast as at best: with a slack without limit every window stands, and the probes around it say what it had.
"""

import os
import statistics
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def busy_seconds(cpus=None):
    """Seconds since boot that these CPUs (None: all) were anything but idle; what the hypervisor kept of them counts too."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0].startswith("cpu") and words[0][3:].isdigit() and (cpus is None or int(words[0][3:]) in cpus):
            values = list(map(int, words[1:9]))
            total += sum(values) - values[3] - values[4]
    return total / TICK


def process_seconds(pid):
    """Of a living process: user and system time."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def own_seconds():
    """Of this process, and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Steady:
    """Windows of `put()` on a machine that was as fast before and behind them as at its best."""

    def __init__(self, probe, best_ms, slack, noise, tries):
        self.probe, self.best_ms, self.slack, self.noise, self.tries = probe, best_ms, slack, noise, tries
        self.fresh = False  # the last probe was fast
        self.last_ms = best_ms
        self.patience = 600.0  # seconds, all in all: a machine that became slower for good is measured as it is
        self.thrown_away = 0

    def is_fast(self):
        self.last_ms = self.probe()
        self.fresh = self.last_ms <= self.best_ms * (1 + self.slack)
        return self.fresh

    def now_ms(self, count=3):
        """What the probe takes now: the median of a few."""
        times = [self.probe() for _ in range(count)]
        self.last_ms = times[-1]
        return statistics.median(times)

    def wait(self):
        """For a fast moment; a minute at most."""
        start = time.monotonic()
        while not self.fresh and self.patience > 0 and not self.is_fast() and time.monotonic() < start + 60:
            pass
        self.patience -= time.monotonic() - start

    def window(self, put, pids, accept=lambda got: True):
        """(what put() returned, whether the window stands); pids: living processes whose time is not others'. What it
        returned, a dict, gets "probe_ms": the mean of the probes before and behind it."""
        for _ in range(self.tries):
            self.wait()
            first_ms = self.last_ms
            start, before = time.monotonic(), busy_seconds() - own_seconds() - sum(map(process_seconds, pids))
            got = put()
            others = busy_seconds() - own_seconds() - sum(map(process_seconds, pids)) - before
            is_fast = self.is_fast()
            got["probe_ms"] = (first_ms + self.last_ms) / 2
            if is_fast and others <= self.noise * (time.monotonic() - start) and accept(got):
                return got, True
            self.thrown_away += 1
            if self.patience <= 0:
                break
        return got, False
