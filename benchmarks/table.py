"""The results as a Markdown table, each goal beside its row."""

from __future__ import annotations

from benchmarks.library import CLEW, PEER
from benchmarks.measure import RATES, AtLeast, AtMost, Faster, Goal, Row
from benchmarks.run import Result, workload

HEADER = f"| what | {PEER} | {CLEW} | ratio | goal | |\n|---|---:|---:|---:|---:|---|"
COUNTS = ("modules", "round trips", "statements")


def table(results: list[Result]) -> str:
    lines = [line(row, result) for result in results for row in workload(result.name).ROWS]
    return "\n".join([HEADER, *lines])


def line(row: Row, result: Result) -> str:
    peer, ours = result.figures[PEER][row.key], result.figures[CLEW][row.key]
    better = row.times_better(peer, ours)
    cells = (row.label, shown(peer, row.unit), shown(ours, row.unit), f"{better:.1f}x", goal(row))
    return f"| {' | '.join(cells)} | {verdict(row.goal, better, ours)} |"


def shown(figure: float, unit: str) -> str:
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    said = "" if unit in COUNTS else unit
    return f"{figure:,.{0 if unit in COUNTS else digits}f} {said}".rstrip()


def goal(row: Row) -> str:
    match row.goal:
        case Faster(times):
            return f"{times:g}x {'more' if row.unit in RATES else 'less'}"
        case AtMost(value):
            return f"at most {value:g}"
        case AtLeast(value):
            return f"at least {value:g}"
        case None:
            return ""


def verdict(wanted: Goal, better: float, ours: float) -> str:
    match wanted:
        case Faster(times):
            return "met" if better >= times else "missed"
        case AtMost(value):
            return "met" if ours <= value else "missed"
        case AtLeast(value):
            return "met" if ours >= value else "missed"
        case None:
            return ""
