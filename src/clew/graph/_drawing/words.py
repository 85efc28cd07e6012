"""What pictures say about a node, an edge and a subgraph, and how long texts are cut and wrapped."""

from __future__ import annotations

from typing import Any
from unicodedata import combining, east_asian_width

from clew.graph._drawing.mermaid import metadata_lines
from clew.graph._drawing.model import DrawnGraph, DrawnNode

__all__ = ("cells_of", "cut", "prefixes_of", "printable", "shown_label", "shown_name", "shown_notes", "subgraph_title")

_LABEL_LENGTH = 28
_NOTE_LENGTH = 40


def shown_name(node: DrawnNode) -> str:
    """A node's name without its subgraphs' names."""
    return {"__start__": "start", "__end__": "end"}.get(node.id) or printable(node.name.rpartition(":")[2])


def shown_notes(node: DrawnNode) -> list[str]:
    """The lines below a node's name: where a run stops, and what else its metadata holds in short."""
    notes: list[str] = []
    for line in metadata_lines(node.metadata or {}):
        key, _, value = line.partition(" = ")
        match key:
            case "__interrupt":
                line = f"pauses {value.replace(',', ' and ')}"
            case "__tools":
                line = f"tools: {value}"
            case "defer" if value == "True":
                line = "deferred"
            case _:
                pass
        notes.append(cut(printable(line), _NOTE_LENGTH))
    return notes


def shown_label(data: Any) -> list[str]:
    """The lines of an edge's label; none if it has no label."""
    lines: list[str] = []
    for word in printable(str(data)).split() if data is not None else ():
        if lines and len(lines[-1]) + len(word) < _LABEL_LENGTH:
            lines[-1] += f" {word}"
        else:
            lines.append(cut(word, 2 * _LABEL_LENGTH))
    return lines


def cut(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def prefixes_of(graph: DrawnGraph) -> list[str]:
    """Every subgraph of the graph, as "outer:inner:"."""
    prefixes: dict[str, None] = {}
    for key in graph.nodes:
        parts = key.split(":")[:-1]
        prefixes.update(dict.fromkeys(":".join(parts[: depth + 1]) + ":" for depth in range(len(parts))))
    return list(prefixes)


def subgraph_title(prefix: str) -> str:
    """The name on a subgraph's frame."""
    return printable(prefix.rstrip(":").rpartition(":")[2])


def printable(text: str) -> str:
    """The text in one line, with white space as spaces and other unprintable characters replaced."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)


def cells_of(text: str) -> int:
    """How many cells a text takes in a terminal."""
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)
