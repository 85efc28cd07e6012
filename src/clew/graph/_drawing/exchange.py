"""A drawn graph as JSON, in the form that clients of LangGraph's servers read."""

from __future__ import annotations

from typing import Any, cast

from clew.graph._drawing.model import DrawnGraph, DrawnNode, is_uuid, node_label

__all__ = ("graph_json",)


def graph_json(graph: DrawnGraph, *, with_schemas: bool) -> dict[str, list[dict[str, Any]]]:
    """Nodes and edges as JSON values; random ids become the numbers of their nodes."""
    ids = {key: number if is_uuid(key) else key for number, key in enumerate(graph.nodes)}
    edges: list[dict[str, Any]] = []
    for edge in graph.edges:
        told: dict[str, Any] = {"source": ids[edge.source], "target": ids[edge.target]}
        if edge.data is not None:
            told["data"] = edge.data
        if edge.conditional:
            told["conditional"] = True
        edges.append(told)
    nodes = [{"id": ids[key], **_node_json(node, with_schemas)} for key, node in graph.nodes.items()]
    return {"nodes": nodes, "edges": edges}


def _node_json(node: DrawnNode, with_schemas: bool) -> dict[str, Any]:
    data = node.data
    told: dict[str, Any] = {}
    if isinstance(data, type) and hasattr(data, "model_json_schema"):
        told = {"type": "schema", "data": _schema(data) if with_schemas else node_label(node.id, data)}
    elif isinstance(data, type):
        told = {"type": "unknown", "data": node_label(node.id, data)}
    elif data is not None:
        told = {"type": "runnable", "data": {"id": _path(data), "name": node_label(node.id, data)}}
    if node.metadata is not None:
        told["metadata"] = node.metadata
    return told


def _path(data: Any) -> list[str]:
    """Where the code of a node is: the parts of its class's (or a function's own) module and name."""
    if hasattr(data, "lc_id"):
        return data.lc_id()
    named: Any = data if hasattr(data, "__qualname__") else cast("Any", type(data))
    return [*named.__module__.split("."), named.__name__]


def _schema(model: Any) -> Any:
    """A pydantic model's JSON schema, or its name if it has none."""
    try:
        return model.model_json_schema()
    except Exception:  # pydantic's error is not importable without pydantic, and a drawing must not fail over it
        return model.__name__
