"""The first two steps of a layered drawing: which edges point up, and which layer each item is in.

Everything here depends on the order of items and links alone, so the same graph is always drawn the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from clew.graph._drawing.shapes import Item, Link

__all__ = ("flipped_links", "ranks_of")


def flipped_links(items: Sequence[Item], links: Sequence[Link]) -> set[int]:
    """The keys of links to draw upwards, so that all others can go down: those that would close a cycle.

    A link of a port goes up if the port's side demands it.
    """
    side = {item.id: item.side for item in items}
    flipped = {link.key for link in links if side[link.source] == "bottom" or side[link.target] == "top"}
    inner = [link for link in links if not side[link.source] and not side[link.target]]
    return flipped | _closing_links([item.id for item in items if not item.side], inner)


def _closing_links(nodes: Sequence[str], links: Sequence[Link]) -> set[int]:
    """The links that lead back to a node on the path of a depth-first walk, which starts at nodes without sources."""
    outgoing: dict[str, list[Link]] = {node: [] for node in nodes}
    for link in links:
        outgoing[link.source].append(link)
    targets = {link.target for link in links if link.source != link.target}
    closing: set[int] = set()
    on_path: dict[str, bool] = {}  # True: on the path now; False: left for good
    for root in sorted(nodes, key=lambda node: node in targets):
        if root in on_path:
            continue
        on_path[root] = True
        walk = [(root, iter(outgoing[root]))]
        while walk:
            node, rest = walk[-1]
            link = next(rest, None)
            if link is None:
                on_path[node] = False
                walk.pop()
            elif link.target not in on_path:
                on_path[link.target] = True
                walk.append((link.target, iter(outgoing[link.target])))
            elif on_path[link.target] and link.target != node:
                closing.add(link.key)
    return closing


def ranks_of(items: Sequence[Item], links: Sequence[Link], flipped: Collection[int]) -> dict[str, int]:
    """The layer of every item, from 0 at the top: as high as its links allow, labelled links spanning two layers.

    Ports of the top side are alone in the first layer and those of the bottom side in the last.
    """
    side = {item.id: item.side for item in items}
    below: dict[str, list[tuple[str, int]]] = {item.id: [] for item in items if not item.side}
    for link in links:
        if side[link.source] or side[link.target] or link.source == link.target:
            continue
        upper, lower = (link.target, link.source) if link.key in flipped else (link.source, link.target)
        below[upper].append((lower, 2 if link.label else 1))
    order = _topological(below)
    ranks = dict.fromkeys(below, 0)
    for node in order:
        for lower, length in below[node]:
            ranks[lower] = max(ranks[lower], ranks[node] + length)
    _pull_down(order, below, ranks)
    first = min(ranks.values(), default=0) - any(item.side == "top" for item in items)
    last = max(ranks.values(), default=0)
    placed = {node: rank - first for node, rank in ranks.items()}
    for item in items:
        if item.side:
            placed[item.id] = 0 if item.side == "top" else last + 1 - first
    return placed


def _topological(below: Mapping[str, Iterable[tuple[str, int]]]) -> list[str]:
    waiting = dict.fromkeys(below, 0)
    for lowers in below.values():
        for lower, _ in lowers:
            waiting[lower] += 1
    order = [node for node, count in waiting.items() if count == 0]
    for node in order:  # grows while it is walked
        for lower, _ in below[node]:
            waiting[lower] -= 1
            if waiting[lower] == 0:
                order.append(lower)
    return order


def _pull_down(order: Sequence[str], below: Mapping[str, Sequence[tuple[str, int]]], ranks: dict[str, int]) -> None:
    """Move a node with more links down than up next to what is below it, which shortens its links."""
    above = dict.fromkeys(below, 0)
    for lowers in below.values():
        for lower, _ in lowers:
            above[lower] += 1
    for node in reversed(order):
        if len(below[node]) > above[node]:
            ranks[node] = min(ranks[lower] - length for lower, length in below[node])
