"""Factories of graphs: called for each use, with the config and with what the use is for.

A factory takes nothing, a config, a `langgraph_sdk.runtime.ServerRuntime`, or both. Which is which is said by the
annotation, else by the names `config` and `runtime`, else by the order. It may be async, and gives a graph or an async
context manager of one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Access = Literal["threads.create_run", "threads.update", "threads.read", "assistants.read"]
_KINDS = ("config", "runtime")


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a graph is opened for, and for whom; `context` is a run's."""

    access: Access = "assistants.read"
    user: Any = None
    context: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRuntime:
    """What a factory is told where `langgraph_sdk` is not installed; the same fields."""

    access_context: Access
    user: Any = None
    store: Any = None

    @property
    def execution_runtime(self) -> ExecutionRuntime | None:
        """This, if the graph will run."""
        return self if isinstance(self, ExecutionRuntime) else None

    def ensure_user(self) -> Any:
        """The user; raises `PermissionError` if there is none."""
        if self.user is None:
            raise PermissionError("there is no user: the service has no authentication")
        return self.user


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRuntime(ServerRuntime):
    """The same for a graph that will run."""

    context: Any = None


class Factory:
    """A function that makes a graph for each use."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._function = function
        self._arguments = _arguments(name, function)
        self._is_async = inspect.iscoroutinefunction(function)

    async def call(self, config: Mapping[str, Any], purpose: Purpose, store: Any) -> Any:
        """What the function gives; one that is not async is called where it may block."""
        given: list[Any] = []
        named: dict[str, Any] = {}
        for parameter, kind in self._arguments:
            value = dict(config) if kind == "config" else server_runtime(purpose, store)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                given.append(value)
        if self._is_async:
            return await self._function(*given, **named)
        made = await asyncio.to_thread(self._function, *given, **named)
        return await made if inspect.isawaitable(made) else made


def server_runtime(purpose: Purpose, store: Any) -> Any:
    """What a factory is told about a use: the field's own class, where it is installed."""
    said: dict[str, Any] = {"access_context": purpose.access, "user": purpose.user, "store": store}
    is_run = purpose.access == "threads.create_run"
    if is_run:
        said["context"] = purpose.context
    try:
        from langgraph_sdk import runtime  # late: optional, and only factories that ask for it need it
    except ImportError:
        return (ExecutionRuntime if is_run else ServerRuntime)(**said)
    kind: Any = getattr(runtime, "_ExecutionRuntime" if is_run else "_ReadRuntime")
    return kind(**said)


def _arguments(name: str, function: Callable[..., Any]) -> list[tuple[inspect.Parameter, str]]:
    """The parameters that are given something, in order, and what; raises `TypeError` for one that cannot be."""
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    found = {each.name: kind for each in parameters if (kind := _kind(each)) is not None}
    if len(set(found.values())) < len(found):
        raise TypeError(f"the factory of graph {name!r} takes two configs, or two runtimes")
    left = [kind for kind in _KINDS if kind not in found.values()]
    for each in parameters:
        if each.name in found or each.default is not each.empty:
            continue
        if not left:
            raise TypeError(f"the factory of graph {name!r} takes {each.name!r}, beside a config and a runtime")
        found[each.name] = left.pop(0)
    return [(each, found[each.name]) for each in parameters if each.name in found]


def _kind(parameter: inspect.Parameter) -> str | None:
    """What a parameter's annotation or name says it is."""
    said = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
    if "ServerRuntime" in said:
        return "runtime"
    if "RunnableConfig" in said:
        return "config"
    return parameter.name if parameter.name in _KINDS else None
