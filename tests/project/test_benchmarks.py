"""The benchmarks' table, and that each workload says what it measures."""

from __future__ import annotations

import pytest

from benchmarks.library import CLEW, PEER
from benchmarks.measure import AtLeast, AtMost, Faster, Goal, Row
from benchmarks.run import NAMES, Result, medians, workload
from benchmarks.table import table, verdict


@pytest.mark.parametrize("name", NAMES)
def test_every_workload_has_rows_rounds_and_a_measurement(name: str) -> None:
    module = workload(name)

    assert module.ROUNDS >= 1
    assert len({row.key for row in module.ROWS}) == len(module.ROWS) >= 1
    assert callable(module.measure)


def test_table_shows_both_figures_their_ratio_and_the_goal() -> None:
    result = Result("memory", {PEER: {"step": 288.0}, CLEW: {"step": 32.0}})

    assert table([result]).splitlines()[-1] == (
        "| 20-node chain, memory saver: per superstep | 288 us | 32.0 us | 9.0x | 8x less | met |"
    )


@pytest.mark.parametrize(
    ("goal", "better", "ours", "expected"),
    [
        (Faster(8), 8.0, 10.0, "met"),
        (Faster(8), 7.9, 10.0, "missed"),
        (AtMost(2), 350.0, 2.0, "met"),
        (AtMost(2), 330.0, 2.1, "missed"),
        (AtLeast(60), 9.0, 60.0, "met"),
        (AtLeast(60), 9.0, 59.0, "missed"),
        (None, 0.5, 2.0, ""),
    ],
)
def test_goal_is_met_or_missed(goal: Goal, better: float, ours: float, expected: str) -> None:
    assert verdict(goal, better, ours) == expected


def test_cost_is_better_when_lower_and_a_rate_when_higher() -> None:
    assert Row("time", "a step", "us").times_better(peer=80.0, ours=10.0) == 8.0
    assert Row("rate", "turns", "/s").times_better(peer=10.0, ours=80.0) == 8.0


def test_medians_are_taken_for_each_row() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 7.0}, {"a": 2.0, "b": 8.0}]) == {"a": 2.0, "b": 8.0}
