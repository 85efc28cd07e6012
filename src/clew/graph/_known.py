"""The classes a graph's annotations make known, so that stored bytes may name them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_type_hints

from clew.pregel._body import is_graph

if TYPE_CHECKING:
    from clew.graph.state import StateGraph


class KnownTypes:
    """Finds what is reachable from the schemas, node inputs and nested graphs of a graph."""

    def __init__(self, builder: StateGraph[Any]) -> None:
        self._builder = builder

    def found(self) -> frozenset[type]:
        """Every class that values of this graph may have."""
        from clew.serde import known_types  # late: start-up time of graphs that are never run

        types = set(known_types(*self._annotations()))
        for spec in self._builder.nodes.values():
            if is_graph(spec.action):
                types |= spec.action.program.types
        return frozenset(types)

    def _annotations(self) -> Iterator[Any]:
        builder = self._builder
        for schema in (builder.state_schema, builder.input_schema, builder.output_schema, builder.context_schema):
            if schema is not None:
                yield schema
        for spec in builder.nodes.values():
            yield spec.input_schema
            yield from parameter_types(spec.action)
        for branches in builder.branches.values():
            for branch in branches.values():
                if branch.input_schema is not None:
                    yield branch.input_schema


def parameter_types(function: Any) -> Iterator[Any]:
    """The annotations of a function's parameters and result, as far as they can be resolved."""
    if inspect.isfunction(function) or inspect.ismethod(function):
        try:
            yield from get_type_hints(function, include_extras=True).values()
        except Exception:
            return  # unresolvable annotations make nothing known
