"""A drawn graph as text, for terminals and plain documents.

Boxes are nodes, `|` and `-` are edges, `:` and `.` conditional ones; where lines cross, the upright one is on top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from clew.graph._drawing.clusters import lay_out
from clew.graph._drawing.model import DrawnEdge, DrawnGraph, DrawnNode
from clew.graph._drawing.shapes import Item, Link, Point, Rect, Route, Spacing
from clew.graph._drawing.words import cells_of, prefixes_of, shown_label, shown_name, shown_notes, subgraph_title

__all__ = ("graph_text",)

_SPACING = Spacing(beside=3, lines=2, layers=2, frame_top=2, frame=2, ports=1, grid=True)


def graph_text(graph: DrawnGraph) -> str:
    """The drawing, lines without trailing spaces, ending in a newline."""
    lines_at: dict[str, int] = {}
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            lines_at[end] = lines_at.get(end, 0) + 1
    loops = {edge.source: edge for edge in graph.edges if edge.source == edge.target}
    items = [_item(node, lines_at.get(key, 0), loops.get(key)) for key, node in graph.nodes.items()]
    labels = [shown_label(edge.data) for edge in graph.edges]
    links = [
        Link(number, edge.source, edge.target, _size(label) if label else None)
        for number, (edge, label) in enumerate(zip(graph.edges, labels, strict=True))
    ]
    titles = {prefix: float(cells_of(subgraph_title(prefix)) + 8) for prefix in prefixes_of(graph)}
    picture = lay_out(items, links, titles, _SPACING)
    canvas = _Canvas()
    for rect in picture.frames.values():
        canvas.box(rect)
    drawn = [(edge, picture.routes[number]) for number, edge in enumerate(graph.edges) if number in picture.routes]
    for upright in (False, True):
        for edge, route in drawn:
            canvas.route(route, edge.conditional, upright)
    for _, route in drawn:
        canvas.tip(route.strokes[-1])
    for prefix, rect in picture.frames.items():
        canvas.write(rect.x + 3, rect.y, f" {subgraph_title(prefix)} ")
    for key, node in graph.nodes.items():
        canvas.node(node, picture.rects[key], loops.get(key))
    for label, number in ((label, number) for number, label in enumerate(labels) if label):
        if number in picture.routes and (centre := picture.routes[number].label):
            canvas.centred(centre[0], centre[1] - len(label) / 2, label)
    return canvas.text()


def _item(node: DrawnNode, lines: int, loop: DrawnEdge | None) -> Item:
    inner = max(map(cells_of, (shown_name(node), *shown_notes(node))))
    width = max(inner + 4, 2 * lines + 1) + 2 * _loop_room(loop)
    return Item(node.id, width, 3 + len(shown_notes(node)))


def _loop_room(loop: DrawnEdge | None) -> int:
    return 0 if loop is None else 4 + cells_of(" ".join(shown_label(loop.data)))


def _size(label: list[str]) -> tuple[float, float]:
    return float(max(map(cells_of, label))), float(len(label))


class _Canvas:
    """Cells by row and column, written over each other."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], str] = {}

    def text(self) -> str:
        rows: dict[int, dict[int, str]] = {}
        for (row, column), character in self.cells.items():
            rows.setdefault(row, {})[column] = character
        lines: list[str] = []
        for row in range(max(rows, default=-1) + 1):
            cells = rows.get(row, {})
            lines.append("".join(cells.get(column, " ") for column in range(max(cells, default=-1) + 1)).rstrip())
        return "\n".join(lines) + "\n"

    def write(self, x: float, y: float, text: str) -> None:
        column = math.floor(x)
        for character in text:
            width = cells_of(character)
            if width == 0:
                self.cells[math.floor(y), column - 1] = self.cells.get((math.floor(y), column - 1), " ") + character
                continue
            self.cells[math.floor(y), column] = character
            for covered in range(1, width):
                self.cells[math.floor(y), column + covered] = ""
            column += width

    def centred(self, x: float, y: float, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            self.write(x - cells_of(line) / 2, math.ceil(y) + number, line)

    def box(self, rect: Rect) -> None:
        inside = int(rect.width) - 2
        for row in range(int(rect.height)):
            edge = row in (0, int(rect.height) - 1)
            self.write(rect.x, rect.y + row, f"+{'-' * inside}+" if edge else f"|{' ' * inside}|")

    def node(self, node: DrawnNode, rect: Rect, loop: DrawnEdge | None) -> None:
        room = _loop_room(loop)
        rect = Rect(rect.x + room, rect.y, rect.width - 2 * room, rect.height)
        self.box(rect)
        self.centred(rect.x + rect.width / 2, rect.y + 1, [shown_name(node), *shown_notes(node)])
        if loop:
            label = " ".join(shown_label(loop.data))
            self.write(rect.x + rect.width, rect.y + 1, f"<{'..' if loop.conditional else '--'} {label}".rstrip())

    def route(self, route: Route, conditional: bool, upright: bool) -> None:
        """Draw a route's upright or its level parts."""
        for stroke in route.strokes:
            for (x, y), (next_x, next_y) in pairwise(stroke):
                if x == next_x and upright:
                    for row in range(math.floor(min(y, next_y)), math.ceil(max(y, next_y))):
                        self.cells[row, math.floor(x)] = ":" if conditional else "|"
                elif y == next_y and not upright:
                    for column in range(math.floor(min(x, next_x)), math.floor(max(x, next_x)) + 1):
                        self.cells[math.floor(y), column] = "." if conditional else "-"
            if upright:
                self._corners(stroke, conditional)

    def _corners(self, stroke: tuple[Point, ...], conditional: bool) -> None:
        for before, here, after in zip(stroke, stroke[1:], stroke[2:], strict=False):
            if (before[0] == here[0]) != (here[0] == after[0]):
                self.cells[math.floor(here[1]), math.floor(here[0])] = "." if conditional else "+"

    def tip(self, stroke: tuple[Point, ...]) -> None:
        (x, y), before = stroke[-1], stroke[-2][1]
        down = y > before
        self.cells[math.floor(y) - 1 if down else math.floor(y), math.floor(x)] = "v" if down else "^"
