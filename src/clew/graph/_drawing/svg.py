"""A drawn graph as an SVG picture: self-contained, the same for the same graph, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from clew.graph._drawing.clusters import lay_out
from clew.graph._drawing.model import DrawnEdge, DrawnGraph, DrawnNode
from clew.graph._drawing.shapes import Item, Link, Picture, Point, Rect, Spacing
from clew.graph._drawing.style import SMALL, STYLE, TEXT, text_width, xml_text
from clew.graph._drawing.words import prefixes_of, shown_label, shown_name, shown_notes, subgraph_title

__all__ = ("graph_svg",)

_SPACING = Spacing(beside=30, lines=18, layers=46, frame_top=34, frame=16, ports=14)
_MARGIN = 12
_LINE = 17  # from one line of a label to the next
_LOOP = 26  # how far a loop stands out from its node


def graph_svg(graph: DrawnGraph) -> str:
    """The picture, as an `<svg>` element with its own styles."""
    loops = {edge.source: _loop_room(shown_label(edge.data)) for edge in graph.edges if edge.source == edge.target}
    items = [_item(node, loops.get(node.id, 0.0)) for node in graph.nodes.values()]
    labelled = [(edge, shown_label(edge.data)) for edge in graph.edges]
    links = [
        Link(number, edge.source, edge.target, _label_size(label) if label and edge.source != edge.target else None)
        for number, (edge, label) in enumerate(labelled)
    ]
    titles = {prefix: text_width(subgraph_title(prefix), SMALL) + 28 for prefix in prefixes_of(graph)}
    picture = lay_out(items, links, titles, _SPACING)
    parts = [
        *(_frame(prefix, rect) for prefix, rect in picture.frames.items()),
        *(_edge(edge, label, picture, number) for number, (edge, label) in enumerate(labelled)),
        *(_node(node, picture.rects[node.id], loops.get(node.id, 0.0)) for node in graph.nodes.values()),
        *(_frame_title(prefix, rect, picture) for prefix, rect in picture.frames.items()),
        *(_label(edge, label, picture, number) for number, (edge, label) in enumerate(labelled)),
    ]
    return svg_document(picture.width, picture.height, [part for part in parts if part], "graph")


def svg_document(width: float, height: float, parts: Sequence[str], title: str) -> str:
    """An `<svg>` element around `parts`, which are drawn from (0, 0) to (width, height)."""
    full = (_number(width + 2 * _MARGIN), _number(height + 2 * _MARGIN))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="clew" width="{full[0]}" height="{full[1]}" '
            f'viewBox="{-_MARGIN} {-_MARGIN} {full[0]} {full[1]}" role="img">',
            f"<title>{xml_text(title)}</title>",
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        )
    )


def _item(node: DrawnNode, loop: float) -> Item:
    lines = shown_notes(node)
    width = max(text_width(shown_name(node), TEXT), *(text_width(line, SMALL) for line in lines), 24) + 32
    return Item(node.id, width + 2 * loop, 36 + 15 * len(lines))


def _label_size(lines: Sequence[str]) -> tuple[float, float]:
    return max(text_width(line, SMALL) for line in lines) + 8, _LINE * len(lines) + 3


def _frame(prefix: str, rect: Rect) -> str:
    depth = "odd" if prefix.count(":") % 2 else "even"
    return f'<rect class="frame {depth}" {_place(rect)} rx="10"/>'


def _frame_title(prefix: str, rect: Rect, picture: Picture) -> str:
    """A subgraph's name at the top of its frame, as far left as no line passes."""
    title = subgraph_title(prefix)
    width = text_width(title, SMALL)
    crossed = sorted(_crossings(picture, rect.y + 8, rect.y + 24))
    starts = [
        start for x in (rect.x + 2, *crossed) if rect.x + 12 <= (start := x + 10) <= rect.x + rect.width - width - 6
    ]
    free = (start for start in starts if not any(start - 4 < x < start + width + 4 for x in crossed))
    x = next(free, rect.x + 12)
    return f'<text class="frame-title" x="{_number(x)}" y="{_number(rect.y + 20)}">{xml_text(title)}</text>'


def _crossings(picture: Picture, top: float, bottom: float) -> set[float]:
    """Where upright parts of lines pass a strip of the picture."""
    return {
        x
        for route in picture.routes.values()
        for stroke in route.strokes
        for (x, y), (next_x, next_y) in pairwise(stroke)
        if x == next_x and min(y, next_y) < bottom and max(y, next_y) > top
    }


def _loop_room(label: Sequence[str]) -> float:
    """How much a loop and its label need at a node's side; the other side gets as much, to keep the node centred."""
    return _LOOP + (_label_size(label)[0] if label else 0.0)


def _node(node: DrawnNode, rect: Rect, loop: float) -> str:
    rect = _core(rect, loop)
    kind = "end" if node.id in ("__start__", "__end__") else "node"
    radius = rect.height / 2 if kind == "end" else 8
    x, notes = _number(rect.x + rect.width / 2), shown_notes(node)
    texts = [f'<text x="{x}" y="{_number(rect.y + 23)}">{xml_text(shown_name(node))}</text>']
    for number, line in enumerate(notes):
        texts.append(f'<text class="note" x="{x}" y="{_number(rect.y + 39 + 15 * number)}">{xml_text(line)}</text>')
    return (
        f'<g class="{kind}"><title>{xml_text(node.id)}</title><rect {_place(rect)} rx="{_number(radius)}"/>'
        f"{''.join(texts)}</g>"
    )


def _core(rect: Rect, loop: float) -> Rect:
    """A node's own box, without the room for its loop."""
    return Rect(rect.x + loop, rect.y, rect.width - 2 * loop, rect.height)


def _edge(edge: DrawnEdge, label: Sequence[str], picture: Picture, number: int) -> str:
    if edge.source == edge.target:
        path, tip = _loop(_core(picture.rects[edge.source], _loop_room(label)))
    else:
        strokes = picture.routes[number].strokes
        path, tip = " ".join(map(_curve, strokes)), _tip(strokes[-1])
    kind = "edge conditional" if edge.conditional else "edge"
    return f'<g class="{kind}"><path class="line" d="{path}"/><path class="tip" d="{tip}"/></g>'


def _curve(stroke: Sequence[Point]) -> str:
    """A stroke as a smooth line that is upright at each of its points."""
    (x, y), text = stroke[0], f"M{_pair(*stroke[0])}"
    for next_x, next_y in stroke[1:]:
        if next_x == x:
            text += f" V{_number(next_y)}"
        else:
            middle = (y + next_y) / 2
            text += f" C{_pair(x, middle)} {_pair(next_x, middle)} {_pair(next_x, next_y)}"
        x, y = next_x, next_y
    return text


def _tip(stroke: Sequence[Point]) -> str:
    """An arrow's head at the end of a stroke, which is always upright there."""
    (x, y), (_, before) = stroke[-1], stroke[-2]
    back = -8 if y > before else 8
    return f"M{_pair(x, y)} L{_pair(x - 4.5, y + back)} L{_pair(x + 4.5, y + back)} Z"


def _loop(rect: Rect) -> tuple[str, str]:
    """The line and the head of an edge from a node to itself, on its right."""
    right, middle = rect.x + rect.width, rect.y + rect.height / 2
    out = right + _LOOP
    line = (
        f"M{_pair(right, middle - 8)} C{_pair(out, middle - 18)} {_pair(out, middle + 18)} {_pair(right, middle + 8)}"
    )
    tip = f"M{_pair(right, middle + 8)} L{_pair(right + 9, middle + 6.5)} L{_pair(right + 6, middle + 14)} Z"
    return line, tip


def _label(edge: DrawnEdge, lines: Sequence[str], picture: Picture, number: int) -> str:
    if not lines:
        return ""
    if edge.source == edge.target:
        rect = _core(picture.rects[edge.source], _loop_room(lines))
        anchor, x, y = "start", rect.x + rect.width + _LOOP, rect.y + rect.height / 2
    else:
        centre = picture.routes[number].label
        if centre is None:
            return ""
        anchor, (x, y) = "middle", centre
    top = y - _LINE * (len(lines) - 1) / 2 + 4
    spans = "".join(
        f'<tspan x="{_number(x)}" y="{_number(top + _LINE * line)}">{xml_text(text)}</tspan>'
        for line, text in enumerate(lines)
    )
    return f'<text class="label" style="text-anchor:{anchor}">{spans}</text>'


def _place(rect: Rect) -> str:
    return f'x="{_number(rect.x)}" y="{_number(rect.y)}" width="{_number(rect.width)}" height="{_number(rect.height)}"'


def _pair(x: float, y: float) -> str:
    return f"{_number(x)},{_number(y)}"


def _number(value: float) -> str:
    return f"{round(value, 1):g}"
