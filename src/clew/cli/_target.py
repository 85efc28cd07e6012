"""From `MODULE:GRAPH` on the command line to a graph that can run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from clew.cli._problem import CommandError


def load(target: str, saver: Any = None) -> Any:
    """The compiled graph that `target` names, with `saver` as its checkpointer.

    `target` is `package.module:name` or `path/to/file.py:name`; the name is a compiled graph, a graph to compile, or a
    function without arguments that makes one of the two. Raises CommandError with what is wrong.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(f"{target!r} is not MODULE:GRAPH", hint="for example: my_app.graphs:chat, or chat.py:graph")
    module = load_file(Path(place)) if place.endswith(".py") else load_module(place)
    try:
        found = getattr(module, name)
    except AttributeError:
        graphs = [key for key, value in vars(module).items() if is_builder(value) or is_compiled(value)]
        raise CommandError(
            f"module {place!r} has no {name!r}", hint=f"graphs in it: {', '.join(graphs) or 'none'}"
        ) from None
    return compiled(made(found), target, saver)


def load_module(name: str) -> ModuleType:
    # A program's own folder is where its graphs are looked for, as `python -m` does.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CommandError(
                f"there is no module {name!r} in the working folder or the environment",
                hint="give a dotted module name, or a path that ends in .py",
            ) from None
        raise


def load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CommandError(f"there is no file {str(path)!r}")
    # Under its own name, so that its classes are the same ones that an import of it would give.
    sys.path.insert(0, str(path.parent.resolve()))
    return load_module(path.stem)


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


def is_compiled(value: Any) -> bool:
    return hasattr(value, "astream") and hasattr(value, "get_state") and not isinstance(value, type)


def is_builder(value: Any) -> bool:
    return hasattr(value, "compile") and hasattr(value, "add_node") and not isinstance(value, type)
