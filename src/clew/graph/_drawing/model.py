"""A drawn graph: nodes and edges as plain data, with the methods that langchain-core's drawable graph has.

It works without langchain-core, and code written for that one's graph works with this one: nodes and edges are tuples
in the same order, with the same names, and `to_langchain` gives the real thing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn
from uuid import UUID, uuid4

from clew.errors import ClewError, GraphError, MissingExtraError

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph as LangchainGraph

    from clew.graph._drawing.mermaid import CurveStyle, NodeStyles

__all__ = ("DrawnEdge", "DrawnGraph", "DrawnNode")


class DrawnEdge(NamedTuple):
    """A line from node id to node id; `data` is its label, and a conditional one is drawn dashed."""

    source: str
    target: str
    data: Any = None
    conditional: bool = False

    def copy(self, *, source: str | None = None, target: str | None = None) -> DrawnEdge:
        """The edge between other nodes."""
        return self._replace(source=source or self.source, target=target or self.target)


class DrawnNode(NamedTuple):
    """A node: an id ("outer:inner:node" lies in subgraphs), a name, what it runs, and notes about it."""

    id: str
    name: str
    data: Any = None
    metadata: dict[str, Any] | None = None

    def copy(self, *, id: str | None = None, name: str | None = None) -> DrawnNode:
        """The node under another id or name."""
        return self._replace(id=id or self.id, name=name or self.name)


@dataclass(slots=True)
class DrawnGraph:
    """Nodes by id, and edges in order."""

    nodes: dict[str, DrawnNode] = field(default_factory=dict[str, DrawnNode])
    edges: list[DrawnEdge] = field(default_factory=list[DrawnEdge])

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def next_id(self) -> str:
        """A new id that no node has."""
        return uuid4().hex

    def add_node(self, data: Any, id: str | None = None, *, metadata: dict[str, Any] | None = None) -> DrawnNode:
        """Add a node and return it; it is named after its id, or after `data` if it gets a random id."""
        if id is not None and id in self.nodes:
            raise GraphError(f"node {id!r} is in the graph already", hint="give each node an id of its own")
        key = id or self.next_id()
        node = DrawnNode(key, node_label(key, data), data, metadata)
        self.nodes[key] = node
        return node

    def remove_node(self, node: DrawnNode) -> None:
        """Remove a node and its edges."""
        del self.nodes[node.id]
        self.edges = [edge for edge in self.edges if node.id not in edge[:2]]

    def add_edge(self, source: DrawnNode, target: DrawnNode, data: Any = None, conditional: bool = False) -> DrawnEdge:
        """Add an edge between two nodes of the graph and return it."""
        for node in (source, target):
            if node.id not in self.nodes:
                raise GraphError(f"node {node.id!r} is not in the graph", hint="add the node before its edges")
        edge = DrawnEdge(source.id, target.id, data, conditional)
        self.edges.append(edge)
        return edge

    def extend(self, graph: DrawnGraph, *, prefix: str = "") -> tuple[DrawnNode | None, DrawnNode | None]:
        """Add another graph's nodes and edges, as the subgraph `prefix` if given; returns its first and last node."""
        if all(is_uuid(key) for key in graph.nodes):
            prefix = ""

        def prefixed(key: str) -> str:
            return f"{prefix}:{key}" if prefix else key

        self.nodes |= {prefixed(key): node.copy(id=prefixed(key)) for key, node in graph.nodes.items()}
        self.edges += [edge.copy(source=prefixed(edge.source), target=prefixed(edge.target)) for edge in graph.edges]
        first, last = graph.first_node(), graph.last_node()
        return (
            first.copy(id=prefixed(first.id)) if first else None,
            last.copy(id=prefixed(last.id)) if last else None,
        )

    def reid(self) -> DrawnGraph:
        """The graph with names in place of random ids, numbered where several nodes have one name."""
        same_name: dict[str, list[str]] = {}
        for node in self.nodes.values():
            same_name.setdefault(node.name, []).append(node.id)
        readable = {
            key: name if len(keys) == 1 else f"{name}_{number}"
            for name, keys in same_name.items()
            for number, key in enumerate(keys, 1)
        }
        ids = {key: readable[key] if is_uuid(key) else key for key in self.nodes}
        return DrawnGraph(
            {ids[key]: node.copy(id=ids[key]) for key, node in self.nodes.items()},
            [edge.copy(source=ids[edge.source], target=ids[edge.target]) for edge in self.edges],
        )

    def first_node(self) -> DrawnNode | None:
        """The only node that no edge leads to; None if there is none or more than one."""
        return self._only_end("target", ())

    def last_node(self) -> DrawnNode | None:
        """The only node that no edge leads from; None if there is none or more than one."""
        return self._only_end("source", ())

    def trim_first_node(self) -> None:
        """Remove the first node if it has one edge and the graph has a first node without it."""
        self._trim("target")

    def trim_last_node(self) -> None:
        """Remove the last node if it has one edge and the graph has a last node without it."""
        self._trim("source")

    def _only_end(self, missing: Literal["source", "target"], without: Collection[str]) -> DrawnNode | None:
        """The only node outside `without` that is no edge's `missing` end, edges of `without` not counting."""
        other = "target" if missing == "source" else "source"
        used = {getattr(edge, missing) for edge in self.edges if getattr(edge, other) not in without}
        found = [node for key, node in self.nodes.items() if key not in without and key not in used]
        return found[0] if len(found) == 1 else None

    def _trim(self, missing: Literal["source", "target"]) -> None:
        node = self._only_end(missing, ())
        if node is None or self._only_end(missing, (node.id,)) is None:
            return
        if sum(node.id in edge[:2] for edge in set(self.edges)) == 1:
            self.remove_node(node)

    def to_json(self, *, with_schemas: bool = False) -> dict[str, list[dict[str, Any]]]:
        """The graph as JSON values; random ids become numbers."""
        from clew.graph._drawing.exchange import graph_json  # late: drawing is not needed to import a graph

        return graph_json(self, with_schemas=with_schemas)

    def to_langchain(self) -> LangchainGraph:
        """The same graph as a `langchain_core.runnables.graph.Graph`; needs the langchain extra."""
        try:
            from langchain_core.runnables.graph import Edge, Graph, Node  # late: an optional dependency
        except ImportError as error:
            raise MissingExtraError("to_langchain()", "langchain") from error
        return Graph({key: Node(*node) for key, node in self.nodes.items()}, [Edge(*edge) for edge in self.edges])

    def draw_mermaid(
        self,
        *,
        with_styles: bool = True,
        curve_style: CurveStyle | str = "linear",
        node_colors: NodeStyles | None = None,
        wrap_label_n_words: int = 9,
        frontmatter_config: dict[str, Any] | None = None,
    ) -> str:
        """The graph as Mermaid text.

        `curve_style` is one of Mermaid's, `node_colors` has CSS for `default`, `first` and `last` nodes,
        `frontmatter_config` is written before the graph (see mermaid.js.org/config/configuration.html); labels of
        edges are wrapped after `wrap_label_n_words` words.
        """
        from clew.graph._drawing.mermaid import mermaid_text  # late: drawing is not needed to import a graph

        return mermaid_text(
            self.reid(),
            with_styles=with_styles,
            curve=curve_style if isinstance(curve_style, str) else curve_style.value,
            styles=node_colors,
            words=wrap_label_n_words,
            frontmatter=frontmatter_config or {},
        )

    def draw_svg(self) -> str:
        """The graph as an SVG picture, laid out here; it suits light and dark pages."""
        from clew.graph._drawing.svg import graph_svg  # late: drawing is not needed to import a graph

        return graph_svg(self.reid())

    def draw_ascii(self) -> str:
        """The graph as text for a terminal, in ASCII (but for the characters of its names)."""
        from clew.graph._drawing.text import graph_text  # late: drawing is not needed to import a graph

        return graph_text(self.reid())

    def print_ascii(self) -> None:
        """Print the graph as text."""
        print(self.draw_ascii())

    def draw_mermaid_png(self, **_options: Any) -> NoReturn:
        """Not offered: it would send the graph to an external service."""
        raise ClewError(
            "draw_mermaid_png() would send the graph to an external service, and clew uses none",
            hint="draw_svg() makes a picture locally; draw_mermaid() gives the text for a renderer of your choice",
        )

    def draw_png(self, *_arguments: Any, **_options: Any) -> NoReturn:
        """Not offered: it would need Graphviz."""
        raise ClewError(
            "draw_png() needs Graphviz, which clew does not use",
            hint="draw_svg() makes a picture locally; to_langchain().draw_png() uses Graphviz where it is installed",
        )

    def _repr_svg_(self) -> str:
        """How notebooks show the graph."""
        return self.draw_svg()


def is_uuid(text: str) -> bool:
    """Whether an id is a random one, which is not shown."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def node_label(key: str, data: Any) -> str:
    """The name of a node: its id, or for a random id what its data is called."""
    if data is None or not is_uuid(key):
        return key
    name: str = data.get_name() if hasattr(data, "get_name") else getattr(data, "__name__", type(data).__name__)
    return name.removeprefix("Runnable")
