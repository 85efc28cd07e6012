"""From `MODULE:GRAPH` on the command line to a graph that can run."""

from __future__ import annotations

from typing import Any

from clew._loading import is_builder, is_compiled, load_object
from clew.cli._problem import CommandError


def load(target: str, saver: Any = None) -> Any:
    """The compiled graph that `target` names, with `saver` as its checkpointer.

    `target` is `package.module:name` or `path/to/file.py:name`; the name is a compiled graph, a graph to compile, or a
    function without arguments that makes one of the two. Raises LoadError or CommandError with what is wrong.
    """
    return compiled(made(load_object(target)), target, saver)


def made(found: Any) -> Any:
    return found() if callable(found) and not is_builder(found) and not is_compiled(found) else found


def compiled(graph: Any, target: str, saver: Any) -> Any:
    if is_compiled(graph):
        return graph.copy({"checkpointer": saver}) if saver is not None else graph
    if is_builder(graph):
        return graph.compile(checkpointer=saver)
    raise CommandError(
        f"{target!r} is {type(graph).__name__!r}, which is not a graph",
        hint="name a StateGraph, a compiled graph, an entrypoint, or a function that makes one",
    )
