"""Layouts of random graphs: nothing overlaps, every line starts and ends where it should, the same every time."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.graph._drawing.clusters import lay_out
from clew.graph._drawing.shapes import Item, Link, Picture, Rect, Spacing
from clew.graph._drawing.tracks import assign_tracks

PIXELS = Spacing(beside=30, lines=18, layers=46, frame_top=34, frame=16, ports=14)
CELLS = Spacing(beside=3, lines=2, layers=2, frame_top=2, frame=2, ports=1, grid=True)
EPSILON = 1e-6


@st.composite
def graphs(draw: Any) -> tuple[list[Item], list[Link]]:
    count = draw(st.integers(1, 10))
    prefixes = draw(st.lists(st.sampled_from(["", "", "s:", "s:t:", "u:"]), min_size=count, max_size=count))
    ids = [f"{prefix}n{number}" for number, prefix in enumerate(prefixes)]
    ends = draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids), st.booleans()), max_size=2 * count))
    width = 2 * 2 * len(ends) + 5  # room for all lines to meet one item
    items = [Item(key, width + draw(st.integers(0, 9)), draw(st.integers(3, 6))) for key in ids]
    links = [Link(number, a, b, (9.0, 1.0) if label else None) for number, (a, b, label) in enumerate(ends)]
    return items, links


def overlap(one: Rect, other: Rect) -> bool:
    return (
        one.x + EPSILON < other.x + other.width
        and other.x + EPSILON < one.x + one.width
        and one.y + EPSILON < other.y + other.height
        and other.y + EPSILON < one.y + one.height
    )


def meets(rect: Rect, point: tuple[float, float]) -> bool:
    """Whether a point lies on a box's upper or lower side."""
    within = rect.x - EPSILON <= point[0] <= rect.x + rect.width + EPSILON
    return within and min(abs(point[1] - rect.y), abs(point[1] - rect.y - rect.height)) < EPSILON


@pytest.mark.parametrize("spacing", [PIXELS, CELLS], ids=["pixels", "cells"])
@given(graph=graphs())
def test_random_graphs_are_laid_out_cleanly(spacing: Spacing, graph: tuple[list[Item], list[Link]]) -> None:
    items, links = graph

    picture = lay_out(items, links, {"s:": 10.0}, spacing)

    assert picture == lay_out(items, links, {"s:": 10.0}, spacing)
    assert not [pair for pair in combinations(picture.rects.values(), 2) if overlap(*pair)]
    for prefix, frame in picture.frames.items():
        assert {key for key, rect in picture.rects.items() if overlap(rect, frame)} == {
            key for key in picture.rects if key.startswith(prefix)
        }
    for link in links:
        if link.source != link.target:
            check_route(picture, link, spacing.grid)


def check_route(picture: Picture, link: Link, grid: bool) -> None:
    route = picture.routes[link.key]
    assert meets(picture.rects[link.source], route.strokes[0][0])
    assert meets(picture.rects[link.target], route.strokes[-1][-1])
    assert (route.label is None) == (link.label is None)
    for stroke in route.strokes:
        for (x, y), (next_x, next_y) in pairwise(stroke):
            if grid:
                assert x == next_x or y == next_y
            if x == next_x:
                line = Rect(x, min(y, next_y), 0, abs(y - next_y))
                assert not [key for key, rect in picture.rects.items() if overlap(line, rect)]


def test_edges_of_a_tree_point_down() -> None:
    items = [Item(name, 5, 3) for name in "abcd"]
    links = [Link(0, "a", "b"), Link(1, "a", "c"), Link(2, "b", "d")]

    picture = lay_out(items, links, {}, CELLS)

    assert all(picture.rects[link.source].y < picture.rects[link.target].y for link in links)
    assert picture.rects["b"].y == picture.rects["c"].y


def test_edge_that_closes_a_cycle_points_up() -> None:
    items = [Item(name, 5, 3) for name in "abc"]
    links = [Link(0, "a", "b"), Link(1, "b", "c"), Link(2, "c", "b")]

    picture = lay_out(items, links, {}, CELLS)

    assert picture.rects["a"].y < picture.rects["b"].y < picture.rects["c"].y
    assert picture.routes[2].strokes[0][0][1] > picture.routes[2].strokes[-1][-1][1]


def test_steps_that_would_cover_each_other_get_rows_of_their_own() -> None:
    assert assign_tracks([(0, 5), (1, 6), (3, 3)]) == (2, [1, 0, None])
    assert assign_tracks([(0, 2), (4, 6)]) == (1, [0, 0])
    assert assign_tracks([(0, 4), (4, 8)])[1] == [
        1,
        0,
    ]  # the line that ends in column 4 is below the one that starts there
