"""The order of vertices within their layers: few crossings, by sweeps of barycentres that keep the best found."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise

from clew.graph._drawing.vertices import Vertex

__all__ = ("order_layers",)

_SWEEPS = 8


def order_layers(vertices: Sequence[Vertex]) -> list[list[int]]:
    """The indexes of `vertices` by layer, each layer from left to right."""
    layers = _first_order(vertices)
    best, fewest = [list(layer) for layer in layers], _crossings(vertices, layers)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        downwards = sweep % 2 == 0
        for rank in range(len(layers)) if downwards else range(len(layers) - 1, -1, -1):
            _sort_layer(vertices, layers, rank, downwards)
        crossings = _crossings(vertices, layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _first_order(vertices: Sequence[Vertex]) -> list[list[int]]:
    """Layers in the order in which a depth-first walk from the top meets their vertices."""
    layers: list[list[int]] = [[] for _ in range(max((vertex.rank for vertex in vertices), default=-1) + 1)]
    met: set[int] = set()
    stack = sorted(range(len(vertices)), key=lambda index: (vertices[index].rank, index), reverse=True)
    while stack:
        index = stack.pop()
        if index in met:
            continue
        met.add(index)
        layers[vertices[index].rank].append(index)
        stack.extend(joint.other for joint in reversed(vertices[index].down))
    return layers


def _sort_layer(vertices: Sequence[Vertex], layers: list[list[int]], rank: int, downwards: bool) -> None:
    fixed = rank - 1 if downwards else rank + 1
    if not 0 <= fixed < len(layers):
        return
    place = {index: position for position, index in enumerate(layers[fixed])}

    def centre(position_and_index: tuple[int, int]) -> float:
        position, index = position_and_index
        joints = vertices[index].up if downwards else vertices[index].down
        known = [place[joint.other] + joint.shift for joint in joints]
        return sum(known) / len(known) if known else float(position)

    layers[rank] = [index for _, index in sorted(enumerate(layers[rank]), key=centre)]


def _crossings(vertices: Sequence[Vertex], layers: Sequence[Sequence[int]]) -> int:
    total = 0
    for layer, below in pairwise(layers):
        place = {index: position for position, index in enumerate(below)}
        passed: list[int] = []
        for index in layer:
            ends = sorted(place[joint.other] for joint in vertices[index].down)
            total += sum(len(passed) - bisect_left(passed, end + 1) for end in ends)
            for end in ends:
                insort(passed, end)
    return total
