"""The functional API: durable workflows as plain functions.

`@task` marks a function whose result is saved when it has finished; `@entrypoint` makes a function that calls tasks
into a graph that can be run, streamed, interrupted and resumed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, get_args, get_origin, get_type_hints, overload

from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew._scope import TaskScope, current_task
from clew.channels.ephemeral_value import EphemeralValue
from clew.channels.last_value import LastValue
from clew.constants import END, PREVIOUS, RETURN, START
from clew.engine.program import Body, Node
from clew.engine.task import Call
from clew.errors import GraphError
from clew.pregel._body import _INJECTORS, body_of, injected_names, is_async, subgraphs_of  # pyright: ignore[reportPrivateUsage] - one room's rules for calling functions
from clew.pregel.main import Pregel
from clew.types import Checkpointer

__all__ = ("TaskFunction", "entrypoint", "task")

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
S = TypeVar("S")


class TaskFunction:
    """A function as a task: calling it inside a graph starts it and gives a future (`.result()`, or `await`)."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        retry_policy: Sequence[RetryPolicy] = (),
        cache_policy: CachePolicy[Any] | None = None,
        timeout: TimeoutPolicy | None = None,
    ) -> None:
        self.func = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.retry_policy = tuple(retry_policy)
        self.cache_policy = cache_policy
        self.timeout = timeout
        if timeout is not None and not is_async(function):
            raise GraphError(
                f"task {self.name!r} is sync and cannot have a timeout: a running function cannot be cancelled",
                hint="make it an async function",
            )
        self.node = Node(
            name=self.name,
            body=_call_body(function),
            writers=(lambda result: ((RETURN, result),),),
            cache_identity=f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', self.name)}",
            subgraphs=subgraphs_of(function),
        )
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start the task; its result is saved when it has finished and reused when the run is resumed."""
        scope = current_task(f"task {self.name!r}")
        assert scope.call is not None
        return scope.call(
            Call(
                scope.task,
                scope.next_call(),
                self.name,
                self.node,
                (args, kwargs),
                None,
                self.retry_policy,
                self.cache_policy,
                self.timeout,
            )
        )

    def clear_cache(self, cache: Any) -> None:
        """Forget this task's cached results."""
        if self.cache_policy is not None:
            cache.clear([("writes", self.node.cache_identity)])

    async def aclear_cache(self, cache: Any) -> None:
        """As `clear_cache`, under asyncio."""
        if self.cache_policy is not None:
            await cache.aclear([("writes", self.node.cache_identity)])


def _call_body(function: Callable[..., Any]) -> Body:
    """How a task's function is called with the arguments of the call; injected names are filled in if not given."""
    names = injected_names(function, skip=0)
    injectors = [(name, _INJECTORS[name]) for name in names]

    def call(given: Any, scope: TaskScope) -> Any:
        args, kwargs = given
        if injectors:
            bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
            kwargs = {**{name: inject(scope) for name, inject in injectors if name not in bound}, **kwargs}
        return function(*args, **kwargs)

    return Body(None, call, function) if is_async(function) else Body(call, None, function)


@overload
def task(function: Callable[..., Any], /) -> TaskFunction: ...


@overload
def task(
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy[Any] | None = None,
    timeout: Any = None,
) -> Callable[[Callable[..., Any]], TaskFunction]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
    cache_policy: CachePolicy[Any] | None = None,
    timeout: Any = None,
) -> Any:
    """Make a function a task: durable once it has finished, retried and cached by its policies.

    A finished task is never run again when its run is resumed. `timeout` (seconds, or a `TimeoutPolicy`) needs an
    async function.
    """

    def made(target: Callable[..., Any]) -> TaskFunction:
        return TaskFunction(
            target,
            name=name,
            retry_policy=_policies(retry_policy),
            cache_policy=cache_policy,
            timeout=TimeoutPolicy.coerce(timeout),
        )

    return made if function is None else made(function)


def _policies(policy: RetryPolicy | Sequence[RetryPolicy] | None) -> tuple[RetryPolicy, ...]:
    if policy is None:
        return ()
    return (policy,) if isinstance(policy, RetryPolicy) else tuple(policy)


@dataclass(slots=True)
class _Final(Generic[R, S]):
    """What an entrypoint returns to give one value and save another as `previous`."""

    value: R
    save: S


def _parts(result: Any) -> tuple[Any, Any]:
    """What an entrypoint's result gives, and what it saves."""
    if isinstance(result, _Final):
        final = cast("_Final[Any, Any]", result)
        return final.value, final.save
    return result, result


class entrypoint:  # noqa: N801 - a decorator, named as the field names it
    """Make a function the entry of a durable workflow: a graph with `invoke`, `stream` and the rest.

    The function's first parameter is the input; it may also take `config`, `runtime`, `store`, `writer` and
    `previous` (the value it last returned, or saved with `entrypoint.final`, on this thread).
    """

    final = _Final

    def __init__(
        self,
        checkpointer: Checkpointer = None,
        store: Any = None,
        cache: Any = None,
        context_schema: type | None = None,
        cache_policy: CachePolicy[Any] | None = None,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        timeout: Any = None,
    ) -> None:
        self.checkpointer = checkpointer
        self.store = store
        self.cache = cache
        self.context_schema = context_schema
        self.cache_policy = cache_policy
        self.retry_policy = _policies(retry_policy)
        self.timeout = TimeoutPolicy.coerce(timeout)

    def __call__(self, function: Callable[..., Any]) -> Pregel:
        """The graph that runs `function`."""
        name = getattr(function, "__name__", type(function).__name__)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise NotImplementedError(f"entrypoint {name!r} is a generator; return a value instead of yielding")
        try:
            parameters = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            parameters = ["input"]
        if not parameters:
            raise GraphError(f"entrypoint {name!r} must take at least one parameter: its input")
        if self.timeout is not None and not is_async(function):
            raise GraphError(f"entrypoint {name!r} is sync and cannot have a timeout", hint="make it an async function")
        hints = _hints(function)
        given = hints.get(parameters[0], Any)
        output, saved = _output_types(hints.get("return", Any))
        node = Node(
            name=name,
            body=body_of(function),
            triggers=(START,),
            channels=START,
            writers=(
                lambda result: ((END, _parts(result)[0]),),
                lambda result: ((PREVIOUS, _parts(result)[1]),),
            ),
            retry=self.retry_policy,
            cache=self.cache_policy,
            timeout=self.timeout,
            subgraphs=subgraphs_of(function),
            cache_identity=f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', name)}",
        )
        graph = EntrypointGraph(
            nodes={name: node},
            channels={
                START: EphemeralValue(given),
                END: LastValue(output, END),
                PREVIOUS: LastValue(saved, PREVIOUS),
            },
            input_channels=START,
            output_channels=END,
            stream_channels=END,
            checkpointer=self.checkpointer,
            store=self.store,
            cache=self.cache,
            context_schema=self.context_schema,
            name=name,
            types=_types(function),
        )
        graph.stream_mode = "updates"
        graph.__doc__ = function.__doc__
        return graph


class EntrypointGraph(Pregel):
    """The graph of one entrypoint function."""

    def get_graph(self, config: Any = None, *, xray: bool | int = False) -> Any:
        """The workflow as a drawing: one node, since tasks are only known while it runs."""
        from clew.graph._draw import drawn  # late: drawing is not needed to run

        return drawn(self, xray)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:
        return {}  # annotations are help, not a requirement


def _output_types(annotation: Any) -> tuple[Any, Any]:
    if get_origin(annotation) is _Final:
        value, saved = get_args(annotation)
        return value, saved
    return annotation, annotation


def _types(function: Callable[..., Any]) -> frozenset[type]:
    from clew.graph._known import parameter_types  # late: start-up time
    from clew.serde import known_types

    return known_types(*parameter_types(function))
