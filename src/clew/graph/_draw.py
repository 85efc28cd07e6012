"""From a compiled graph to a drawing: nodes, edges, and where commands and branches may go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clew.constants import END, START
from clew.graph._drawing import DrawnGraph, DrawnNode


def drawn(graph: Any, xray: bool | int = False) -> DrawnGraph:
    """The drawing of a compiled graph; `xray` expands subgraphs: True all the way down, a number that many levels."""
    drawing = DrawnGraph()
    builder = getattr(graph, "builder", None)
    ends = _Ends(drawing, graph, xray)
    if builder is None:
        names = list(graph.program.nodes)
        edges = [(START, name, None, False) for name in names] + [(name, END, None, False) for name in names]
    else:
        names = [name for name, spec in builder.nodes.items() if not spec.is_error_handler]
        edges = list(_edges(builder, names))
    ends.add(START)
    for name in names:
        ends.add(name)
    if any(target == END for _, target, _, _ in edges):
        ends.add(END)
    for source, target, label, is_conditional in dict.fromkeys(edges):
        drawing.add_edge(ends.last[source], ends.first[target], label, is_conditional)
    return drawing


class _Ends:
    """Where edges begin and end: a node is its own first and last, an expanded subgraph has one of each."""

    def __init__(self, drawing: DrawnGraph, graph: Any, xray: bool | int) -> None:
        self.drawing = drawing
        self.graph = graph
        self.xray = xray
        self.first: dict[str, DrawnNode] = {}
        self.last: dict[str, DrawnNode] = {}

    def add(self, name: str) -> None:
        if name in (START, END):
            node = self.drawing.add_node(None, name)
            self.first[name] = self.last[name] = node
            return
        spec = self.graph.program.nodes[name]
        inner = spec.subgraphs[0] if spec.subgraphs else None
        if self.xray and inner is not None:
            deeper = self.xray if isinstance(self.xray, bool) else self.xray - 1
            sub = inner.get_graph(xray=deeper)
            sub.trim_first_node()
            sub.trim_last_node()
            if len(sub.nodes) > 1:
                first, last = self.drawing.extend(sub, prefix=name)
                if first is not None and last is not None:
                    self.first[name], self.last[name] = first, last
                    return
        node = self.drawing.add_node(spec.body.function, name, metadata=self._metadata(name, spec) or None)
        self.first[name] = self.last[name] = node

    def _metadata(self, name: str, spec: Any) -> dict[str, Any]:
        metadata = dict(spec.metadata)
        before, after = self.graph.interrupt_before_nodes, self.graph.interrupt_after_nodes
        stops = [
            word for word, names in (("before", before), ("after", after)) if names == "*" or name in names
        ]  # fmt: skip
        if stops:
            metadata["__interrupt"] = ",".join(stops)
        builder = getattr(self.graph, "builder", None)
        if builder is not None and builder.nodes[name].defer:
            metadata["defer"] = True
        return metadata


def _edges(builder: Any, names: list[str]) -> Iterator[tuple[str, str, Any, bool]]:
    has_way_out: set[str] = set()
    for starts, end in builder.edge_order:
        for start in (starts,) if isinstance(starts, str) else starts:
            has_way_out.add(start)
            yield start, end, None, False
    for source, branches in builder.branches.items():
        has_way_out.add(source)
        for branch in branches.values():
            ends = branch.ends
            if ends is None:
                for target in [*(name for name in names if name != source), END]:
                    yield source, target, None, True
                continue
            for choice, target in ends.items():
                label = str(choice)
                yield source, target, None if label == target else label, True
    for name in names:
        spec = builder.nodes[name]
        if spec.ends:
            has_way_out.add(name)
            for target in spec.ends:
                yield name, target, spec.label(target), True
    for name in names:
        if name not in has_way_out:
            yield name, END, None, False
