"""A layered drawing (Sugiyama's method) of one level of a graph: items in, positions and ways out."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from clew.graph._drawing.order import order_layers
from clew.graph._drawing.place import place_vertices
from clew.graph._drawing.ranks import ranks_of
from clew.graph._drawing.shapes import Item, Link, Picture, Point, Rect, Route, Spacing
from clew.graph._drawing.tracks import assign_tracks
from clew.graph._drawing.vertices import Chain, Vertex, vertices_of

__all__ = ("arrange",)

_LOWERED = 24.0  # pixels that a low item beside high ones stands below their top; half the difference if that is less
_NEARLY_UPRIGHT = {False: 12.0, True: 1.5}  # pixels, and cells of a grid


def arrange(items: Sequence[Item], links: Sequence[Link], flipped: Collection[int], spacing: Spacing) -> Picture:
    """Place `items` in layers and route `links` between them; `flipped` ones (by key) run upwards.

    Links from an item to itself get no route.
    """
    bend = 1.0 if spacing.grid else 0.0
    vertices, chains = vertices_of(items, links, flipped, ranks_of(items, links, flipped), bend)
    layers = order_layers(vertices)
    place_vertices(vertices, layers, spacing)
    columns = _columns(vertices, chains, spacing)
    gaps, turns = _gaps(vertices, chains, columns, layers, spacing)
    rows = _rows(vertices, layers, gaps)
    boxes = [_box(vertex, rows[vertex.rank], spacing) for vertex in vertices]
    routes: dict[int, Route] = {}
    for chain, xs, turn in zip(chains, columns, turns, strict=True):
        route = _route(
            [boxes[index] for index in chain.path],
            [rows[vertices[index].rank] for index in chain.path],
            [vertices[index].kind == "label" for index in chain.path],
            xs,
            turn,
        )
        routes[chain.link.key] = route.reversed() if chain.flipped else route
    return Picture(
        max((box.x + box.width for box in boxes), default=0.0),
        rows[-1].bottom if rows else 0.0,
        {item.id: box for item, box in zip(items, boxes, strict=False)},
        routes,
    )


class _Row(NamedTuple):
    """The strip that a layer takes."""

    top: float
    bottom: float


def _rows(vertices: Sequence[Vertex], layers: Sequence[Sequence[int]], gaps: Sequence[float]) -> list[_Row]:
    rows: list[_Row] = []
    top = 0.0
    for layer, gap in zip(layers, [*gaps, 0.0], strict=False):
        bottom = top + max((vertices[index].height for index in layer), default=0.0)
        rows.append(_Row(top, bottom))
        top = bottom + gap
    return rows


def _box(vertex: Vertex, row: _Row, spacing: Spacing) -> Rect:
    slack = (row.bottom - row.top - vertex.height) / 2
    lowered = min(math.floor(slack), 1) if spacing.grid else min(slack, _LOWERED)
    return Rect(vertex.x - vertex.width / 2, row.top + lowered, vertex.width, vertex.height)


def _columns(vertices: Sequence[Vertex], chains: Sequence[Chain], spacing: Spacing) -> list[list[float]]:
    """The x of every chain at each vertex it passes.

    Lines that meet an item on one side do so side by side, in the order of where they come from.
    """
    columns = [[vertices[index].x for index in chain.path] for chain in chains]
    meeting: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for number, chain in enumerate(chains):
        for end, neighbour, fixed in ((0, 1, chain.upper_at), (-1, -2, chain.lower_at)):
            if fixed is None:
                meeting.setdefault((chain.path[end], end), []).append((columns[number][neighbour], number))
            else:
                columns[number][end] += fixed
    margin, widest = (2.0, 2.0) if spacing.grid else (28.0, 22.0)
    for (index, end), lines in meeting.items():
        vertex = vertices[index]
        room = max(vertex.width - margin, vertex.width / 2)
        step = min(widest, room / max(len(lines) - 1, 1))
        for position, (_, number) in enumerate(sorted(lines)):
            columns[number][end] = vertex.x + (position - (len(lines) - 1) / 2) * step
    for (index, end), lines in meeting.items():
        if len(lines) == 1 and vertices[index].kind == "item":
            _make_upright(columns[lines[0][1]], end, _NEARLY_UPRIGHT[spacing.grid])
    if spacing.grid:
        return [[math.floor(x) + 0.5 for x in column] for column in columns]
    return columns


def _make_upright(column: list[float], end: int, tolerance: float) -> None:
    """Move a line's only end at an item's side a little, if that makes its first or last piece upright."""
    neighbour = 1 if end == 0 else -2
    if abs(column[end] - column[neighbour]) <= tolerance:
        column[end] = column[neighbour]


def _gaps(
    vertices: Sequence[Vertex],
    chains: Sequence[Chain],
    columns: Sequence[Sequence[float]],
    layers: Sequence[Sequence[int]],
    spacing: Spacing,
) -> tuple[list[float], list[list[float | None]]]:
    """The height of the gap below each layer, and for each chain how deep into each gap it turns (grid only)."""
    steps: list[list[tuple[int, int]]] = [[] for _ in layers[1:]]
    for number, chain in enumerate(chains):
        for position, index in enumerate(chain.path[:-1]):
            steps[vertices[index].rank].append((number, position))
    turns: list[list[float | None]] = [[None] * len(chain.path) for chain in chains]
    gaps: list[float] = []
    for rank, passing in enumerate(steps):
        kinds = [{vertices[index].kind for index in layers[side]} for side in (rank, rank + 1)]
        if spacing.grid:
            count, rows = assign_tracks(
                [(math.floor(columns[n][k]), math.floor(columns[n][k + 1])) for n, k in passing]
            )
            for (number, position), row in zip(passing, rows, strict=True):
                turns[number][position] = None if row is None else row + 1.5
            gaps.append(count + (2 if all("item" in kind for kind in kinds) or count else 1))
        elif any("port" in kind for kind in kinds):
            gaps.append(spacing.ports)
        else:
            base = spacing.layers if all("item" in kind for kind in kinds) else spacing.layers * 0.6
            widest = max((abs(columns[n][k] - columns[n][k + 1]) for n, k in passing), default=0.0)
            gaps.append(base + min(widest / 10, spacing.layers))
    return gaps, turns


def _route(
    boxes: Sequence[Rect],
    rows: Sequence[_Row],
    labels: Sequence[bool],
    xs: Sequence[float],
    turns: Sequence[float | None],
) -> Route:
    """The way along one chain from its upper end to its lower."""
    strokes: list[tuple[Point, ...]] = []
    stroke: list[Point] = [(xs[0], boxes[0].y + boxes[0].height)]
    label: Point | None = None
    for here in range(len(boxes) - 1):
        there = here + 1
        stroke.append((xs[here], rows[here].bottom))
        if (turn := turns[here]) is not None:
            stroke += [(xs[here], rows[here].bottom + turn), (xs[there], rows[here].bottom + turn)]
        stroke.append((xs[there], rows[there].top))
        if labels[there]:
            box = boxes[there]
            strokes.append(_tidy([*stroke, (xs[there], box.y)]))
            label = (xs[there], box.y + box.height / 2)
            stroke = [(xs[there], box.y + box.height)]
    strokes.append(_tidy([*stroke, (xs[-1], boxes[-1].y)]))
    return Route(tuple(strokes), label)


def _tidy(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points without repetition."""
    return tuple(point for number, point in enumerate(points) if number == 0 or point != points[number - 1])
