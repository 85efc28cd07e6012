"""What a benchmark is made of: rows with goals, and the clock."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Faster:
    """clew is at least so many times as good as the peer: as little of a cost, or as much of a rate."""

    times: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """clew's own figure is at most `value`."""

    value: float


@dataclass(frozen=True, slots=True)
class AtLeast:
    """clew's own figure is at least `value`."""

    value: float


Goal = Faster | AtMost | AtLeast | None
Unit = Literal["us", "ms", "s", "x", "MB", "kB", "modules", "round trips", "statements", "/s", "%"]
RATES = ("/s", "%")  # higher is better; in all others lower is


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `key` is what a measurement calls its figure."""

    key: str
    label: str
    unit: Unit
    goal: Goal = None

    def times_better(self, peer: float, ours: float) -> float:
        """How many times as good clew is as the peer."""
        return ours / peer if self.unit in RATES else peer / ours


def seconds(work: Callable[[], object], *, repeats: int, warm_up: int = 1) -> float:
    """The median time of one call of `work`, in seconds, after `warm_up` calls that do not count."""
    for _ in range(warm_up):
        work()
    gc.collect()
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
