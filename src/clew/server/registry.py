"""The graphs of an application, by name: each compiled already, still to compile, or made for each request."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

from clew.graph import StateGraph
from clew.server.errors import not_found
from clew.server.factories import Factory, Purpose

_NAMES = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def default_id(graph_id: str) -> str:
    """The id of the assistant that every graph has; the same on every replica, and on the field's platform."""
    return str(uuid.uuid5(_NAMES, graph_id))


class Registry:
    """Graphs by name, bound to an application's saver and store when they are used.

    A factory is called for each use (`clew.server.factories`). `descriptions` say what some of them are for.
    """

    def __init__(self, graphs: Mapping[str, Any], storage: Any, descriptions: Mapping[str, str] | None = None) -> None:
        if not graphs:
            raise ValueError("there is no graph to serve; pass graphs={'name': graph}")
        self._storage = storage
        self._sources = {name: _source(name, given) for name, given in graphs.items()}
        self.descriptions = descriptions or {}
        self._bound = {
            name: source.copy({"checkpointer": storage})
            for name, source in self._sources.items()
            if not isinstance(source, Factory)
        }
        self.default_ids = {default_id(name): name for name in self._sources}

    def __contains__(self, graph_id: object) -> bool:
        return isinstance(graph_id, str) and graph_id in self._sources

    def __iter__(self) -> Any:
        return iter(self._sources)

    @property
    def only(self) -> str | None:
        """The graph's name, if there is just one."""
        return next(iter(self._sources)) if len(self._sources) == 1 else None

    def bound(self, graph_id: str) -> Any:
        """A graph that need not be made for each use, on the application's saver; None for others."""
        return self._bound.get(graph_id)

    @contextlib.asynccontextmanager
    async def open(
        self, graph_id: str, store: Any, config: Mapping[str, Any] | None = None, purpose: Purpose | None = None
    ) -> AsyncGenerator[Any]:
        """A graph on the application's saver and on `store`; raises `ApiError` 404 for a name that there is not.
        `purpose` is what factories are told."""
        if graph_id not in self._sources:
            raise not_found("graph", graph_id)
        source = self._sources[graph_id]
        if graph_id in self._bound:
            bound = self._bound[graph_id]
            yield bound if store is None else bound.copy({"store": store})
            return
        async with contextlib.AsyncExitStack() as stack:
            made = await source.call(config or {}, purpose or Purpose(), store)
            if isinstance(made, contextlib.AbstractAsyncContextManager):
                made = await stack.enter_async_context(cast("Any", made))
            graph: Any = _compiled(graph_id, made)
            changes: dict[str, Any] = {"checkpointer": self._storage}
            if store is not None:
                changes["store"] = store
            yield graph.copy(changes)


def _source(name: str, given: Any) -> Any:
    if isinstance(given, StateGraph) or hasattr(given, "aget_state"):
        return _compiled(name, given)
    if callable(given):
        return Factory(name, given)
    raise TypeError(f"graph {name!r} is a {type(given).__name__}, not a graph or a factory of graphs")


def _compiled(name: str, given: Any) -> Any:
    if isinstance(given, StateGraph):
        return given.compile(name=name)
    if not hasattr(given, "aget_state") or not hasattr(given, "copy"):
        raise TypeError(f"the factory of graph {name!r} gave a {type(given).__name__}, not a graph")
    return given
