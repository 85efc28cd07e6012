"""A thread's checkpoints as a tree: the oldest on top, forks to the side, the way to the newest straight down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clew.graph._drawing.style import SMALL, text_width, xml_text
from clew.graph._drawing.svg import svg_document
from clew.graph._drawing.words import cells_of, printable

__all__ = ("HistoryRow", "history_svg", "history_tree")


class HistoryRow(NamedTuple):
    """What is shown of one checkpoint; `next` are the nodes that would run from it, `created_at` an ISO 8601 time."""

    checkpoint_id: str
    parent_id: str | None
    step: int | None
    source: str
    next: Sequence[str] = ()
    created_at: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row in the order of drawing; lane 0 is the trunk, and `parent` is the place of its parent in that order."""

    row: HistoryRow
    lane: int
    parent: int | None
    forks: bool
    newest: bool


def history_tree(rows: Iterable[HistoryRow], *, ascii_only: bool = False) -> str:
    """The tree as text, one line per checkpoint, in columns.

    `rows` come newest first, as histories do; plain tuples in the order of `HistoryRow`'s fields will do. A row whose
    parent is not among them (it was pruned) starts a tree of its own.
    """
    placed = _placed(rows)
    pipe, fork, dot, newest, arrow = ("| ", "|-", "*", "@", "->") if ascii_only else ("│ ", "├─", "●", "◉", "→")
    table: list[tuple[str, ...]] = []
    for place in placed:
        lead = pipe * (place.lane - 1) + (fork if place.forks else pipe) if place.lane else ""
        cells = _cells(place.row, arrow)
        mark = "(newest)" if place.newest else ""
        texts = map(printable, (*cells, place.row.checkpoint_id))
        table.append((lead + (newest if place.newest else dot), *texts, mark))
    widths = [max(map(cells_of, column), default=0) for column in zip(*table, strict=True)]
    lines: list[str] = []
    for line in table:
        cells = [
            " " * (width - cells_of(cell)) + cell if number == 1 else cell + " " * (width - cells_of(cell))
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            if width
        ]
        lines.append("  ".join(cells).rstrip())
    return "".join(f"{line}\n" for line in lines)


_ROW, _LANE, _RADIUS = 30, 22, 5.5


def history_svg(rows: Iterable[HistoryRow]) -> str:
    """The tree as an SVG picture; takes what `history_tree` takes."""
    placed = _placed(rows)
    lanes = max((place.lane for place in placed), default=0) + 1
    table = [_cells(place.row, "→") for place in placed]
    starts = [lanes * _LANE + 6.0]
    for column in zip(*table, strict=True):
        width = max(text_width(cell, SMALL) for cell in column)
        starts.append(starts[-1] + (width + 18 if width else 0))
    points = [(place.lane * _LANE + 10, number * _ROW + _ROW // 2) for number, place in enumerate(placed)]
    parts = [
        _line(points[place.parent], point)
        for place, point in zip(placed, points, strict=True)
        if place.parent is not None
    ]
    for place, cells, (x, y) in zip(placed, table, points, strict=True):
        texts = "".join(
            f'<text class="row" x="{start:g}" y="{y + 4}">{xml_text(cell)}</text>'
            for start, cell in zip([round(start, 1) for start in starts], cells, strict=False)
            if cell
        )
        kind = "newest" if place.newest else "checkpoint"
        parts.append(
            f'<g class="{kind}"><title>{xml_text(place.row.checkpoint_id)}</title>'
            f'<circle class="dot" cx="{x}" cy="{y}" r="{_RADIUS}"/>{texts}</g>'
        )
    return svg_document(starts[-1], len(placed) * _ROW, parts, "history")


def _line(parent: tuple[int, int], child: tuple[int, int]) -> str:
    (x, y), (to_x, to_y) = parent, child
    if x == to_x:
        path = f"M{x},{y} V{to_y}"
    else:  # leave the parent's lane just above the fork's first row
        bend = to_y - _ROW
        path = f"M{x},{y} V{bend} C{x},{to_y - 8} {to_x},{bend + 8} {to_x},{to_y}"
    return f'<path class="line" d="{path}"/>'


def _cells(row: HistoryRow, arrow: str) -> tuple[str, ...]:
    step = "" if row.step is None else str(row.step)
    following = f"{arrow} {', '.join(row.next)}" if row.next else "(end)"
    return step, row.source, following, row.label, row.created_at[:19].replace("T", " ")


def _placed(rows: Iterable[HistoryRow]) -> list[_Placed]:
    newest_first = [HistoryRow(*row) for row in rows]
    by_id = {row.checkpoint_id: row for row in newest_first}
    children: dict[str, list[HistoryRow]] = {}
    roots: list[HistoryRow] = []
    for row in reversed(newest_first):
        siblings = roots if row.parent_id not in by_id else children.setdefault(row.parent_id, [])
        siblings.append(row)
    trunk = _line_to_newest(newest_first, by_id)
    order: dict[str, int] = {}
    placed: list[_Placed] = []
    for root in roots:
        for row, lane, forks in _walk(root, children, trunk):
            order[row.checkpoint_id] = len(placed)
            parent = order.get(row.parent_id) if row.parent_id is not None else None
            placed.append(_Placed(row, lane, parent, forks, row is newest_first[0]))
    return placed


def _line_to_newest(newest_first: Sequence[HistoryRow], by_id: dict[str, HistoryRow]) -> set[str]:
    """The ids on the way from the newest checkpoint back to its root."""
    line: set[str] = set()
    row = newest_first[0] if newest_first else None
    while row is not None and row.checkpoint_id not in line:
        line.add(row.checkpoint_id)
        row = by_id.get(row.parent_id) if row.parent_id is not None else None
    return line


def _walk(
    root: HistoryRow, children: dict[str, list[HistoryRow]], trunk: set[str]
) -> Iterator[tuple[HistoryRow, int, bool]]:
    """Rows from the root down, with lane and whether a fork starts there; forks come before what goes straight on."""
    waiting = [(root, 0, False)]
    while waiting:
        row, lane, forks = waiting.pop()
        yield row, lane, forks
        following = sorted(children.get(row.checkpoint_id, ()), key=lambda child: child.checkpoint_id in trunk)
        if following:
            *side, straight = following
            waiting.append((straight, lane, False))
            waiting.extend((child, lane + 1, True) for child in reversed(side))
