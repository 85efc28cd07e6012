"""Planning, once, how a user's function is called: what it may receive, and whether it waits.

Invariant: nothing about a function's signature is looked at while a graph runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from clew import _langchain
from clew._scope import TaskScope
from clew.engine.program import Body

_INJECTORS: dict[str, Callable[[TaskScope], Any]] = {
    "config": TaskScope.config,
    "runtime": TaskScope.runtime,
    "store": lambda scope: scope.run.store,
    "writer": TaskScope.writer,
    "previous": lambda scope: scope.task.previous,
    "error": lambda scope: scope.task.error,
}
INJECTED = frozenset(_INJECTORS)
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def injected_names(function: Callable[..., Any], *, skip: int = 1) -> tuple[str, ...]:
    """Names of the parameters, after the first `skip`, that the runtime fills in."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return ()
    named = [parameter for parameter in parameters[skip:] if parameter.kind in _KEYWORD]
    if skip == 0:
        named = [parameter for parameter in parameters if parameter.kind in _KEYWORD]
    return tuple(parameter.name for parameter in named if parameter.name in INJECTED)


def is_async(function: Any) -> bool:
    """Whether calling `function` gives an awaitable by declaration."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def function_body(function: Callable[..., Any]) -> Body:
    """A node's or path's function: called with its input and whatever of the runtime it asks for by name."""
    names = injected_names(function)
    if not names:

        def plain(given: Any, _scope: Any) -> Any:
            return function(given)

        call = plain
    elif len(names) == 1:
        name, inject = names[0], _INJECTORS[names[0]]

        def with_one(given: Any, scope: Any) -> Any:
            return function(given, **{name: inject(scope)})

        call = with_one
    else:
        injectors = [(name, _INJECTORS[name]) for name in names]

        def with_several(given: Any, scope: Any) -> Any:
            return function(given, **{name: inject(scope) for name, inject in injectors})

        call = with_several
    return Body(None, call, function) if is_async(function) else Body(call, None, function)


def graph_body(graph: Any) -> Body:
    """A compiled graph as a node: it finds its parent by itself."""

    def run(given: Any, _scope: Any) -> Any:
        return graph.invoke(given)

    async def arun(given: Any, _scope: Any) -> Any:
        return await graph.ainvoke(given)

    return Body(run, arun, graph)


def runnable_body(runnable: Any) -> Body:
    """A langchain-core `Runnable` as a node."""

    def run(given: Any, scope: TaskScope) -> Any:
        return _langchain.invoke_runnable(runnable, given, _inside(scope))

    async def arun(given: Any, scope: TaskScope) -> Any:
        return await _langchain.ainvoke_runnable(runnable, given, _inside(scope))

    return Body(run, arun, runnable)


def _inside(scope: TaskScope) -> Any:
    return _langchain.inherited_config() or scope.config()


def body_of(action: Any) -> Body:
    """How to run whatever a user gave as a node or path: a function, a compiled graph, or a Runnable."""
    if is_graph(action):
        return graph_body(action)
    if _langchain.is_runnable(action):
        return runnable_body(action)
    if callable(action):
        return function_body(action)
    if isinstance(action, dict):
        from langchain_core.runnables import RunnableParallel  # late: a dict of runnables is langchain-core's idea

        return runnable_body(RunnableParallel(cast("dict[str, Any]", action)))
    raise TypeError(f"a node must be a function, a compiled graph or a runnable, not {type(action).__name__}")


def is_graph(action: Any) -> bool:
    """Whether `action` is a compiled graph of this library."""
    return getattr(action, "is_clew_graph", False) is True


def subgraphs_of(action: Any) -> tuple[Any, ...]:
    """The compiled graphs that a node runs: itself, or those that its function refers to by name."""
    if is_graph(action):
        return (action,)
    seen: list[Any] = []
    _find_graphs(action, seen, depth=3)
    return tuple(seen)


def _find_graphs(action: Any, found: list[Any], depth: int) -> None:
    while isinstance(action, functools.partial):
        action = action.func
    steps = getattr(action, "steps", None)
    if isinstance(steps, list):
        for step in cast("list[Any]", steps):
            _find_value(step, found, depth)
        return
    function = action if inspect.isfunction(action) else getattr(action, "__func__", None)
    if function is None:
        call = getattr(cast("Any", type(action)), "__call__", None)  # noqa: B004 - the function itself is wanted
        function = call if inspect.isfunction(call) else None
    if function is None or depth == 0:
        return
    code = function.__code__
    for name in code.co_names:
        if name in function.__globals__:
            _find_value(function.__globals__[name], found, depth)
    for cell in function.__closure__ or ():
        try:
            _find_value(cell.cell_contents, found, depth)
        except ValueError:
            continue  # the cell is not filled yet


def _find_value(value: Any, found: list[Any], depth: int) -> None:
    if is_graph(value):
        if value not in found:
            found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in cast("Sequence[Any]", value):
            if is_graph(item):
                _find_value(item, found, depth)
    elif isinstance(value, dict):
        _find_value(list(cast("dict[Any, Any]", value).values()), found, depth)
    elif inspect.isfunction(value) and depth > 1 and not value.__module__.startswith("clew."):
        _find_graphs(value, found, depth - 1)
