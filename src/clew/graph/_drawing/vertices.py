"""The graph that a layered drawing really works on: items, and bends where a link passes through a layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from clew.graph._drawing.shapes import Item, Link

__all__ = ("Chain", "Joint", "Vertex", "vertices_of")


class Joint(NamedTuple):
    """One end of a piece of line between neighbouring layers, seen from a vertex.

    `mine` and `theirs` are where the line meets the two vertices, from their centres; `shift` is `theirs` as a part
    of the other's width.
    """

    other: int
    mine: float
    theirs: float
    shift: float


@dataclass(slots=True)
class Vertex:
    """An item, a bend, or a label's place in a layer; `x` is its centre."""

    kind: Literal["item", "port", "bend", "label"]
    rank: int
    width: float
    height: float
    x: float = 0.0
    up: list[Joint] = field(default_factory=list[Joint])
    down: list[Joint] = field(default_factory=list[Joint])


@dataclass(frozen=True, slots=True)
class Chain:
    """A link as a row of vertices from its upper end to its lower; `*_at` are fixed meeting points from the centres."""

    link: Link
    flipped: bool
    path: tuple[int, ...]
    upper_at: float | None
    lower_at: float | None


def vertices_of(
    items: Sequence[Item], links: Sequence[Link], flipped: Collection[int], ranks: Mapping[str, int], bend: float
) -> tuple[list[Vertex], list[Chain]]:
    """The vertices (items first, in order) and one chain per link that joins two items; `bend` is a line's width."""
    vertices = [Vertex("port" if item.side else "item", ranks[item.id], item.width, item.height) for item in items]
    index = {item.id: number for number, item in enumerate(items)}
    chains: list[Chain] = []
    for link in links:
        if link.source == link.target:
            continue
        chains.append(_chain(link, link.key in flipped, index, vertices, bend))
    for chain in chains:
        _join(chain, vertices)
    return vertices, chains


def _chain(link: Link, flipped: bool, index: Mapping[str, int], vertices: list[Vertex], bend: float) -> Chain:
    ends = [(index[link.source], link.source_at), (index[link.target], link.target_at)]
    (upper, upper_at), (lower, lower_at) = reversed(ends) if flipped else ends
    passed = range(vertices[upper].rank + 1, vertices[lower].rank)
    path = [upper]
    for rank in passed:
        if link.label and rank == passed[len(passed) // 2]:
            vertices.append(Vertex("label", rank, *link.label))
        else:
            vertices.append(Vertex("bend", rank, bend, 0))
        path.append(len(vertices) - 1)
    path.append(lower)
    return Chain(
        link,
        flipped,
        tuple(path),
        None if upper_at is None else upper_at - vertices[upper].width / 2,
        None if lower_at is None else lower_at - vertices[lower].width / 2,
    )


def _join(chain: Chain, vertices: Sequence[Vertex]) -> None:
    last = len(chain.path) - 2
    for position, (upper, lower) in enumerate(zip(chain.path, chain.path[1:], strict=False)):
        above = (chain.upper_at or 0.0) if position == 0 else 0.0
        below = (chain.lower_at or 0.0) if position == last else 0.0
        vertices[upper].down.append(Joint(lower, above, below, below / (vertices[lower].width or 1)))
        vertices[lower].up.append(Joint(upper, below, above, above / (vertices[upper].width or 1)))
