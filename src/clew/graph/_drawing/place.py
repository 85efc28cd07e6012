"""Where vertices stand within their layers: near their neighbours, in order, and not on top of each other.

Each layer in turn is placed optimally for its neighbours' positions: the order and the distances make it an isotonic
regression, solved exactly by pooling adjacent violators (Ayer et al., 1955).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from clew.graph._drawing.shapes import Spacing
from clew.graph._drawing.vertices import Vertex

__all__ = ("place_vertices",)

_SWEEPS = 24
_STRAIGHT = 8.0  # how much more a straight line through a layer is wanted than an item near its neighbours


def place_vertices(vertices: Sequence[Vertex], layers: Sequence[Sequence[int]], spacing: Spacing) -> None:
    """Set `x` of every vertex; the leftmost edge is at 0."""
    apart = [_distances(vertices, layer, spacing) for layer in layers]
    for layer, distances in zip(layers, apart, strict=True):
        for index, x in zip(layer, _settled([0.0] * len(layer), [1.0] * len(layer), distances), strict=True):
            vertices[index].x = x
    count = len(layers)
    for sweep in range(_SWEEPS):
        ranks = range(count) if sweep % 2 == 0 else range(count - 1, -1, -1)
        both = sweep >= _SWEEPS - 4
        for rank in ranks:
            _place_layer(vertices, layers[rank], apart[rank], up=both or sweep % 2 == 0, down=both or sweep % 2 == 1)
    _straighten(vertices, layers, apart)
    if spacing.grid:
        for layer, distances in zip(layers, apart, strict=True):
            _snap(vertices, layer, distances)
    left = min((vertex.x - vertex.width / 2 for vertex in vertices), default=0.0)
    for vertex in vertices:
        vertex.x -= left


def _distances(vertices: Sequence[Vertex], layer: Sequence[int], spacing: Spacing) -> list[float]:
    """The least distance between the centres of each two neighbours in a layer."""
    distances: list[float] = []
    for left, right in pairwise(layer):
        a, b = vertices[left], vertices[right]
        thin = a.kind in ("bend", "port") or b.kind in ("bend", "port")
        distances.append((a.width + b.width) / 2 + (spacing.lines if thin else spacing.beside))
    return distances


def _place_layer(
    vertices: Sequence[Vertex], layer: Sequence[int], distances: Sequence[float], *, up: bool, down: bool
) -> None:
    wanted: list[float] = []
    weights: list[float] = []
    for index in layer:
        vertex = vertices[index]
        joints = [*(vertex.up if up else ()), *(vertex.down if down else ())]
        pulls = [
            (vertices[joint.other].x + joint.theirs - joint.mine, _pull(vertex, vertices[joint.other]))
            for joint in joints
        ]
        weight = sum(pull for _, pull in pulls)
        wanted.append(sum(x * pull for x, pull in pulls) / weight if pulls else vertex.x)
        weights.append(weight or 0.01)
    for index, x in zip(layer, _settled(wanted, weights, distances), strict=True):
        vertices[index].x = x


def _pull(one: Vertex, other: Vertex) -> float:
    """How much two neighbours want to stand below each other."""
    return 1.0 if "item" in (one.kind, other.kind) else _STRAIGHT


def _settled(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The positions closest to `wanted` (weighted least squares) that keep the order and the distances."""
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for target, weight, offset in zip(wanted, weights, offsets, strict=False):
        mean, members = target - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, other_weight, others = blocks.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight, members = weight + other_weight, members + others
        blocks.append((mean, weight, members))
    means = [mean for mean, _, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _straighten(vertices: Sequence[Vertex], layers: Sequence[Sequence[int]], apart: Sequence[Sequence[float]]) -> None:
    """Put the bends of a line that passes several layers below each other where their neighbours leave room."""
    left: dict[int, float] = {}
    right: dict[int, float] = {}
    for layer, distances in zip(layers, apart, strict=True):
        for one, other, distance in zip(layer, layer[1:], distances, strict=False):
            left[other], right[one] = distance, distance
    place = {index: (layer, position) for layer in layers for position, index in enumerate(layer)}
    for start in (index for layer in layers for index in layer):
        run = _run(vertices, start)
        if len(run) < 2:
            continue
        least, most = -math.inf, math.inf
        for index in run:
            layer, position = place[index]
            if position > 0:
                least = max(least, vertices[layer[position - 1]].x + left[index])
            if position + 1 < len(layer):
                most = min(most, vertices[layer[position + 1]].x - right[index])
        if least <= most:
            x = min(max(sum(vertices[index].x for index in run) / len(run), least), most)
            for index in run:
                vertices[index].x = x


def _run(vertices: Sequence[Vertex], start: int) -> list[int]:
    """The bends from `start` down, if it is the first bend of its line; else none."""
    if vertices[start].kind == "item" or (vertices[start].up and vertices[vertices[start].up[0].other].kind != "item"):
        return []
    run = [start]
    while (below := vertices[run[-1]].down) and vertices[below[0].other].kind != "item":
        run.append(below[0].other)
    return run


def _snap(vertices: Sequence[Vertex], layer: Sequence[int], distances: Sequence[float]) -> None:
    """Move a layer to whole cells, keeping the distances."""
    least = -1e9
    for index, distance in zip(layer, [*distances, 0.0], strict=True):
        vertex = vertices[index]
        left = max(float(round(vertex.x - vertex.width / 2)), least - vertex.width / 2)
        vertex.x = math.ceil(left) + vertex.width / 2
        least = vertex.x + distance
