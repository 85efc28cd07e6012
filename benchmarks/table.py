"""The results as a Markdown table, each goal beside its row."""

from __future__ import annotations

from benchmarks.library import CLEW, PEER
from benchmarks.measure import AtMost, Faster, Goal, Row
from benchmarks.run import Result, workload

HEADER = f"| what | {PEER} | {CLEW} | ratio | goal | |\n|---|---:|---:|---:|---:|---|"


def table(results: list[Result]) -> str:
    lines = [line(row, result) for result in results for row in workload(result.name).ROWS]
    return "\n".join([HEADER, *lines])


def line(row: Row, result: Result) -> str:
    peer, ours = result.figures[PEER][row.key], result.figures[CLEW][row.key]
    cells = (row.label, shown(peer, row.unit), shown(ours, row.unit), f"{peer / ours:.1f}x", goal(row.goal))
    return f"| {' | '.join(cells)} | {verdict(row.goal, peer, ours)} |"


def shown(figure: float, unit: str) -> str:
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    return f"{figure:,.{0 if unit == 'modules' else digits}f} {'' if unit == 'modules' else unit}".rstrip()


def goal(wanted: Goal) -> str:
    match wanted:
        case Faster(times):
            return f"{times:g}x less"
        case AtMost(value):
            return f"at most {value:g}"
        case None:
            return ""


def verdict(wanted: Goal, peer: float, ours: float) -> str:
    match wanted:
        case Faster(times):
            return "met" if peer / ours >= times else "missed"
        case AtMost(value):
            return "met" if ours <= value else "missed"
        case None:
            return ""
