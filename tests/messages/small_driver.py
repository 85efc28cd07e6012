"""A graph-like driver in a few lines: what the engine does with `clew._langchain`, without the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from clew import _langchain


def node_config(config: dict[str, Any], name: str, step: int, ns: str | None = None) -> dict[str, Any]:
    metadata = _langchain.node_metadata(
        step=step,
        node=name,
        triggers=(f"branch:to:{name}",),
        path=("__pregel_pull", name),
        checkpoint_ns=ns or f"{name}:1",
    )
    return {**config, "metadata": {**config.get("metadata", {}), **metadata}}


def run_nodes(
    config: dict[str, Any],
    nodes: Sequence[tuple[str, Callable[..., Any]]],
    value: Any = None,
    handlers: Sequence[Any] = (),
) -> Any:
    run = _langchain.start_graph_run(config, "graph", value, handlers)
    for step, (name, action) in enumerate(nodes, 1):
        own = node_config(config, name, step)
        node = run.start_child(own, name, value, f"graph:step:{step}") if run else None
        inside = node.config if node else own
        context = copy_context()
        context.run(_langchain.set_child_config, inside)
        try:
            value = context.run(action, value, inside)
        except BaseException as error:
            if run and node:
                node.fail(error)
                run.fail(error)
            raise
        if node:
            node.end(value)
    if run:
        run.end(value)
    return value


async def arun_nodes(
    config: dict[str, Any],
    nodes: Sequence[tuple[str, Callable[..., Any]]],
    value: Any = None,
    handlers: Sequence[Any] = (),
) -> Any:
    run = await _langchain.astart_graph_run(config, "graph", value, handlers)
    for step, (name, action) in enumerate(nodes, 1):
        own = node_config(config, name, step)
        node = await run.astart_child(own, name, value, f"graph:step:{step}") if run else None
        inside = node.config if node else own
        _langchain.set_child_config(inside)
        try:
            value = await action(value, inside)
        except BaseException as error:
            if run and node:
                await node.afail(error)
                await run.afail(error)
            raise
        if node:
            await node.aend(value)
    if run:
        await run.aend(value)
    return value
