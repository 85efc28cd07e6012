"""The nouns of a layout: what goes in, what comes out, and how far apart things are.

Coordinates grow to the right and down. A layout is in pixels for SVG and in character cells for text; one cell's
centre lies at half numbers, so the cell of a point is the floor of its coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ("Item", "Link", "Picture", "Point", "Rect", "Route", "Side", "Spacing")

Point = tuple[float, float]
Side = Literal["", "top", "bottom"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something with a size to be placed. A `side` makes it a port: a place where a link crosses the frame."""

    id: str
    width: float
    height: float
    side: Side = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A line to be drawn; `label` is the size of its text; `*_at` fixes where it meets an item, from its left edge."""

    key: int
    source: str
    target: str
    label: tuple[float, float] | None = None
    source_at: float | None = None
    target_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float

    def moved(self, by: Point) -> Rect:
        return Rect(self.x + by[0], self.y + by[1], self.width, self.height)


@dataclass(frozen=True, slots=True)
class Route:
    """A link's way from source to target, in strokes (broken where its label stands); `label` is that text's centre."""

    strokes: tuple[tuple[Point, ...], ...]
    label: Point | None = None

    def moved(self, by: Point) -> Route:
        strokes = tuple(tuple((x + by[0], y + by[1]) for x, y in stroke) for stroke in self.strokes)
        label = (self.label[0] + by[0], self.label[1] + by[1]) if self.label else None
        return Route(strokes, label)

    def reversed(self) -> Route:
        return Route(tuple(stroke[::-1] for stroke in self.strokes[::-1]), self.label)

    def then(self, other: Route) -> Route:
        """This way continued by `other`, whose first stroke goes on where the last one here ends."""
        joint = (*self.strokes[-1], *other.strokes[0])
        return Route((*self.strokes[:-1], joint, *other.strokes[1:]), self.label or other.label)


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished layout; `frames` are the boxes around subgraphs, outer before inner."""

    width: float
    height: float
    rects: dict[str, Rect] = field(default_factory=dict[str, Rect])
    routes: dict[int, Route] = field(default_factory=dict[int, Route])
    frames: dict[str, Rect] = field(default_factory=dict[str, Rect])


@dataclass(frozen=True, slots=True)
class Spacing:
    """Distances: between items side by side, lines side by side, layers, and the frame of a subgraph and its content.

    With `grid`, all positions are whole cells and lines run along rows and columns.
    """

    beside: float
    lines: float
    layers: float
    frame_top: float
    frame: float
    ports: float
    grid: bool = False
