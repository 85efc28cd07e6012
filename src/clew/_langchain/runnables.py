"""A compiled graph as a langchain-core `Runnable`, for `prompt | graph`, `graph | parser` and `astream_events`.

Invariant: wrapping adds no run of its own to the trace; the graph tells callbacks of itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import coerce_to_runnable


class Graph(Protocol):
    """What is needed of a compiled graph."""

    name: str

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any: ...
    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any: ...
    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]: ...
    def astream(self, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]: ...


class GraphRunnable(Runnable[Any, Any]):
    """A compiled graph seen as a `Runnable`; `graph` is the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.name = graph.name

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the graph and give its output."""
        return self.graph.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `invoke`, under asyncio."""
        return await self.graph.ainvoke(input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream what the graph streams."""
        yield from self.graph.stream(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """As `stream`, under asyncio."""
        async for chunk in self.graph.astream(input, config, **kwargs):
            yield chunk

    def get_graph(self, config: RunnableConfig | None = None) -> Any:
        """The graph's own drawing."""
        return cast("Any", self.graph).get_graph(config)


def as_runnable(thing: Any) -> Runnable[Any, Any]:
    """`thing` as a `Runnable`: a compiled graph wrapped, anything else as langchain-core coerces it.

    A graph's class may be registered as a `Runnable` (`adopt`) without having its methods, so what counts is whether
    it is derived from it.
    """
    kind = cast("type[Any]", type(thing))
    is_derived = Runnable in kind.__mro__
    if not is_derived and all(hasattr(kind, name) for name in ("invoke", "ainvoke", "stream", "astream")):
        return GraphRunnable(thing)
    return coerce_to_runnable(thing)


def compose(first: Any, second: Any) -> Runnable[Any, Any]:
    """`first | second`: a sequence that gives the output of `first` to `second`; either may be a graph."""
    return RunnableSequence(as_runnable(first), as_runnable(second))
