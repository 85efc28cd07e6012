"""Rows for the level parts of lines between two layers, when lines may run along rows and columns only."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ("assign_tracks",)

_OVERLAP = 1000  # two lines on top of each other are worse than any number of crossings


def assign_tracks(steps: Sequence[tuple[int, int]]) -> tuple[int, list[int | None]]:
    """How many rows are needed, and the row of each step (upper column, lower column); None for a straight one.

    Each step in turn takes the row, an existing one or a new one in between, that costs least.
    """
    tracks: list[list[int]] = []
    for number, (upper, lower) in enumerate(steps):
        if upper != lower:
            _insert(tracks, number, steps)
    rows: list[int | None] = [None] * len(steps)
    for row, track in enumerate(tracks):
        for number in track:
            rows[number] = row
    return len(tracks), rows


def _insert(tracks: list[list[int]], number: int, steps: Sequence[tuple[int, int]]) -> None:
    options: list[tuple[int, int, int]] = []  # cost, whether a row is added, twice the row (odd: before the next row)
    for position in range(2 * len(tracks) + 1):
        cost = 0
        for row, track in enumerate(tracks):
            there = 2 * row + 1
            for other in track:
                if there == position:
                    cost += _same_row(steps[number], steps[other])
                elif position < there:
                    cost += _cost(steps[number], steps[other])
                else:
                    cost += _cost(steps[other], steps[number])
        options.append((cost, 1 - position % 2, position))
    _, added, position = min(options)
    if added:
        tracks.insert(position // 2, [number])
    else:
        tracks[position // 2].append(number)


def _same_row(a: tuple[int, int], b: tuple[int, int]) -> int:
    return _OVERLAP if max(min(a), min(b)) <= min(max(a), max(b)) else 0


def _cost(above: tuple[int, int], below: tuple[int, int]) -> int:
    """Crossings of two steps of which one turns in a row above the other's."""
    if above[1] == below[0]:
        return _OVERLAP
    return (min(below) <= above[1] <= max(below)) + (min(above) <= below[0] <= max(above))
