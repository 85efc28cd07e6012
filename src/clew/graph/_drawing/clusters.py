"""A layout with subgraphs: each is laid out by itself and then takes part, as one framed item, in the level above.

A node belongs to the subgraphs that its id names ("outer:inner:node"). A link that crosses a frame is cut there: in
each subgraph it runs to a port on the frame, and one level up it goes on from the same place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clew.graph._drawing.layered import arrange
from clew.graph._drawing.ranks import flipped_links
from clew.graph._drawing.shapes import Item, Link, Picture, Rect, Route, Side, Spacing

__all__ = ("lay_out",)


def lay_out(items: Sequence[Item], links: Sequence[Link], titles: Mapping[str, float], spacing: Spacing) -> Picture:
    """The layout of a whole graph; `titles` are the least widths of subgraphs' frames, by prefix ("outer:inner:")."""
    return _Level("", items, links, {}, titles, spacing).picture()


def _is_subgraph(member: str) -> bool:
    return member.startswith("\1")


@dataclass(frozen=True, slots=True)
class _Level:
    """One subgraph, or the whole graph: what lies in it, and the side on which each link crosses its frame."""

    prefix: str
    items: Sequence[Item]
    links: Sequence[Link]
    crossing: Mapping[int, Side]
    titles: Mapping[str, float]
    spacing: Spacing

    def picture(self) -> Picture:
        members: dict[str, list[Item]] = {}
        for item in self.items:
            members.setdefault(self._member(item.id, 0), []).append(item)
        ports = [Item(f"\0{key}", 1.0 if self.spacing.grid else 0.0, 0.0, side) for key, side in self.crossing.items()]
        links = [
            replace(link, source=source, target=target, label=None if link.key in self.crossing else link.label)
            for link in self.links
            if (source := self._member(link.source, link.key)) != (target := self._member(link.target, link.key))
            or not _is_subgraph(source)
        ]
        shells = [Item(member, 0, 0) for member in members]
        flipped = flipped_links([*shells, *ports], links)
        inner = {
            member: self._inner(member, content, links, flipped)
            for member, content in members.items()
            if _is_subgraph(member)
        }
        sized = [
            Item(member, *self._frame(member, inner[member])) if member in inner else content[0]
            for member, content in members.items()
        ]
        outer = arrange([*sized, *ports], [self._attached(link, inner) for link in links], flipped, self.spacing)
        return self._merged(outer, inner, links)

    def _member(self, node: str, key: int) -> str:
        """The item of this level that stands for a node: itself, the subgraph it is in, or the port of link `key`.

        Subgraphs and ports have ids that begin with a control character, so that they differ from nodes.
        """
        if not node.startswith(self.prefix):
            return f"\0{key}"
        head, _, rest = node[len(self.prefix) :].partition(":")
        return f"\1{self.prefix}{head}:" if rest else node

    def _inner(self, member: str, content: Sequence[Item], links: Sequence[Link], flipped: set[int]) -> Picture:
        crossing: dict[int, Side] = {}
        for link in links:
            if member in (link.source, link.target):
                crossing[link.key] = "bottom" if (link.source == member) != (link.key in flipped) else "top"
        prefix = member[1:]
        touching = [link for link in self.links if link.source.startswith(prefix) or link.target.startswith(prefix)]
        return _Level(prefix, content, touching, crossing, self.titles, self.spacing).picture()

    def _frame(self, member: str, inner: Picture) -> tuple[float, float]:
        space = self.spacing
        width = max(inner.width + 2 * space.frame, self.titles.get(member[1:], 0.0))
        return width, inner.height + space.frame_top + space.frame

    def _inset(self, member: str, inner: Picture) -> tuple[float, float]:
        slack = self._frame(member, inner)[0] - inner.width
        return (float(slack // 2) if self.spacing.grid else slack / 2), self.spacing.frame_top

    def _attached(self, link: Link, inner: Mapping[str, Picture]) -> Link:
        """The link with the places where it meets frames, which are where its ports in them are."""

        def at(member: str) -> float | None:
            if member not in inner:
                return None
            port = inner[member].rects[f"\0{link.key}"]
            return self._inset(member, inner[member])[0] + port.x + port.width / 2

        return replace(link, source_at=at(link.source), target_at=at(link.target))

    def _merged(self, outer: Picture, inner: Mapping[str, Picture], links: Sequence[Link]) -> Picture:
        rects = {key: rect for key, rect in outer.rects.items() if key not in inner}
        routes: dict[int, Route] = dict(outer.routes)
        frames: dict[str, Rect] = {}
        ends = {link.key: (link.source, link.target) for link in links}
        for member, picture in inner.items():
            frame = outer.rects[member]
            inset = self._inset(member, picture)
            by = (frame.x + inset[0], frame.y + inset[1])
            frames[member[1:]] = frame
            frames.update((key, rect.moved(by)) for key, rect in picture.frames.items())
            rects.update((key, rect.moved(by)) for key, rect in picture.rects.items() if not key.startswith("\0"))
            for key, route in picture.routes.items():
                moved = route.moved(by)
                match ends.get(key):
                    case (source, _) if source == member:
                        routes[key] = moved.then(routes[key])
                    case (_, target) if target == member:
                        routes[key] = routes[key].then(moved)
                    case _:
                        routes[key] = moved
        return Picture(outer.width, outer.height, rects, routes, frames)
