"""A drawn graph as Mermaid text, character for character what langchain-core writes for the same graph.

Three cases differ, on purpose: subgraphs of one name in different places are drawn (there it is an error), so are
subgraphs that hold nothing but a subgraph, and brackets and quotes in names and labels are escaped (there the text is
no valid Mermaid).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from clew.graph._drawing.model import DrawnEdge, DrawnGraph, DrawnNode

__all__ = ("CurveStyle", "NodeStyles", "mermaid_text")


class CurveStyle(Enum):
    """The curves that Mermaid can draw."""

    BASIS = "basis"
    BUMP_X = "bumpX"
    BUMP_Y = "bumpY"
    CARDINAL = "cardinal"
    CATMULL_ROM = "catmullRom"
    LINEAR = "linear"
    MONOTONE_X = "monotoneX"
    MONOTONE_Y = "monotoneY"
    NATURAL = "natural"
    STEP = "step"
    STEP_AFTER = "stepAfter"
    STEP_BEFORE = "stepBefore"


@dataclass
class NodeStyles:
    """CSS for the nodes of a Mermaid graph: all, the first and the last."""

    default: str = "fill:#f2f0ff,line-height:1.2"
    first: str = "fill-opacity:0"
    last: str = "fill:#bfb6fc"


def mermaid_text(
    graph: DrawnGraph,
    *,
    with_styles: bool,
    curve: str,
    styles: NodeStyles | None,
    words: int,
    frontmatter: Mapping[str, Any],
) -> str:
    """The text; see `DrawnGraph.draw_mermaid`."""
    writer = _Writer(graph, with_styles, words)
    body = "graph TD;\n" + "".join(writer.subgraph(""))
    if not with_styles:
        return body
    given: Mapping[str, Any] = frontmatter.get("config", {})
    config = {**given, "flowchart": {**given.get("flowchart", {}), "curve": curve}}
    colors = styles or NodeStyles()
    classes = "".join(f"\tclassDef {name} {getattr(colors, name)}\n" for name in ("default", "first", "last"))
    return f"---\n{_yaml({**frontmatter, 'config': config})}---\n{body}{classes}"


class _Writer:
    """Writes a graph's nodes and edges subgraph by subgraph; `""` is the whole graph, `"a:b"` is b in a."""

    def __init__(self, graph: DrawnGraph, with_nodes: bool, words: int) -> None:
        self.words = words
        self.keys = graph.nodes.keys()
        first, last = graph.first_node(), graph.last_node()
        self.shapes = {node.id: kind for node, kind in ((first, "first"), (last, "last")) if node}
        self.nodes: dict[str, list[DrawnNode]] = {}
        self.edges: dict[str, list[DrawnEdge]] = {}
        for key, node in graph.nodes.items() if with_nodes else ():
            self.nodes.setdefault(key.rpartition(":")[0], []).append(node)
        for edge in graph.edges:
            self.edges.setdefault(_common_prefix(edge), []).append(edge)
        self.inner: dict[str, list[str]] = {}
        for prefix in [*self.edges, *self.nodes]:
            self._note(prefix)
        self.titles: set[str] = set()

    def _note(self, prefix: str) -> None:
        """Register a subgraph with the one around it, and that one in turn."""
        while prefix:
            outer = prefix.rpartition(":")[0]
            siblings = self.inner.setdefault(outer, [])
            if prefix not in siblings:
                siblings.append(prefix)
            prefix = outer

    def subgraph(self, prefix: str) -> list[str]:
        edges = self.edges.get(prefix, [])
        content = [
            *(self._node(node) for node in self.nodes.get(prefix, ())),
            *(self._edge(edge) for edge in edges),
        ]
        framed = prefix and prefix not in self.keys
        title = self._title(prefix) if framed else ""
        content += [line for inner in self.inner.get(prefix, ()) for line in self.subgraph(inner)]
        return [f"\tsubgraph {title}\n", *content, "\tend\n"] if framed else content

    def _title(self, prefix: str) -> str:
        name = prefix.rpartition(":")[2]
        title = name if name not in self.titles else f"{_safe(prefix)}[{name}]"
        self.titles.add(name)
        return title

    def _node(self, node: DrawnNode) -> str:
        name = node.name.rpartition(":")[2].translate(_BRACKETS)
        label = f"<p>{name}</p>" if name[:1] in _MARKDOWN and name[-1:] in _MARKDOWN and name else name
        if notes := metadata_lines(node.metadata or {}):
            label += "<hr/><small><em>" + "\n".join(map(_escaped, notes)) + "</em></small>"
        kind = self.shapes.get(node.id)
        return f"\t{_safe(node.id)}([{label}]):::{kind}\n" if kind else f"\t{_safe(node.id)}({label})\n"

    def _edge(self, edge: DrawnEdge) -> str:
        if edge.data is None:
            arrow = "-.->" if edge.conditional else "-->"
        else:
            label = f"&nbsp;{self._wrapped(str(edge.data).translate(_BRACKETS))}&nbsp;"
            arrow = f"-. {label} .->" if edge.conditional else f"-- {label} -->"
        return f"\t{_safe(edge.source)} {arrow} {_safe(edge.target)};\n"

    def _wrapped(self, label: str) -> str:
        words = label.split()
        if len(words) <= self.words:
            return label
        lines = (words[start : start + self.words] for start in range(0, len(words), self.words))
        return "&nbsp<br>&nbsp".join(map(" ".join, lines))


_MARKDOWN = ("*", "_", "`")


def _common_prefix(edge: DrawnEdge) -> str:
    """The innermost subgraph that holds both ends of an edge; for a loop the node, which comes after other edges."""
    if edge.source == edge.target:
        return edge.source
    common: list[str] = []
    for mine, theirs in zip(edge.source.split(":")[:-1], edge.target.split(":")[:-1], strict=False):
        if mine != theirs:
            break
        common.append(mine)
    return ":".join(common)


def metadata_lines(metadata: Mapping[str, Any]) -> list[str]:
    """The notes about a node that are plain enough to show, as "key = value"."""
    lines: list[str] = []
    for key, value in metadata.items():
        if isinstance(value, (str, int, float)):
            lines.append(f"{key} = {value}")
        elif isinstance(value, (list, tuple, set)):
            items = list(cast("Sequence[object]", value))
            if all(isinstance(item, (str, int, float)) for item in items):
                texts = [str(item) for item in items]
                lines.append(f"{key} = {', '.join(sorted(texts) if isinstance(value, set) else texts)}")
    return lines


_BRACKETS = {ord(character): f"#{ord(character)};" for character in "[](){}|"} | {ord('"'): "#quot;"}
_ENTITIES = {ord(character): f"#{ord(character)};" for character in "#[](){}<>|"} | {ord('"'): "#quot;"}


def _escaped(text: str) -> str:
    return text.translate(_ENTITIES)


def _safe(key: str) -> str:
    """A node's id for Mermaid: characters that could mean something are written as a backslash and their code."""
    return re.sub(r"[^a-zA-Z0-9_-]", lambda match: f"\\{ord(match[0]):x}", key)


def _yaml(value: Mapping[str, Any], indent: str = "") -> str:
    """Nested mappings as YAML, keys sorted."""
    text = ""
    for key in sorted(value):
        entry = value[key]
        if isinstance(entry, Mapping) and entry:
            text += f"{indent}{_scalar(key)}:\n{_yaml(cast('Mapping[str, Any]', entry), indent + '  ')}"
        elif isinstance(entry, (list, tuple)) and entry:
            items = cast("Sequence[Any]", entry)
            text += f"{indent}{_scalar(key)}:\n" + "".join(f"{indent}- {_scalar(item)}\n" for item in items)
        else:
            text += f"{indent}{_scalar(key)}: {_scalar(entry)}\n"
    return text


_PLAIN = re.compile(r"[A-Za-z_][\w ./-]*(?<! )")
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.isascii() and value.lower() not in _RESERVED:
            return value
        printable = value.isprintable() and value.isascii()
        return "'" + value.replace("'", "''") + "'" if printable else json.dumps(value)
    return json.dumps(value)  # JSON's other values are YAML's too
