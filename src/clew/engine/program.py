"""The lowered, frozen form of a graph: what the engine plans and drivers run.

Invariant: a program holds no state of any run; one program serves any number of runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew.channels.base import BaseChannel

Write = tuple[str, Any]


class Writer(Protocol):
    """Turns a node's result into writes; pure."""

    def __call__(self, result: Any, /) -> Sequence[Write]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What a driver calls to run a node: `run(input, task_scope)`, or `arun` which gives an awaitable.

    At least one is there. `run` is None for a node that is only async.
    """

    run: Callable[[Any, Any], Any] | None
    arun: Callable[[Any, Any], Any] | None
    function: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A user's function that chooses where to go after a node, run in the node's task with its own writes visible.

    `channels` is what the function reads (as `Node.channels`), `mapper` coerces it, `route` turns the choice into
    writes (pure). `passes_result`: a dict the node returned is visible too, under the state's fields.
    """

    name: str
    body: Body
    channels: str | tuple[str, ...]
    mapper: Callable[[Any], Any] | None
    route: Callable[[Any], Sequence[Write]]
    passes_result: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node of a program.

    `channels`: the name of one channel (its value is the input) or several (a dict is). `mapper` coerces that to the
    node's input schema. A node runs when one of its `triggers` was updated. `error_handler` names the node that runs
    when this one has failed for good.
    """

    name: str
    body: Body
    triggers: tuple[str, ...] = ()
    channels: str | tuple[str, ...] = ()
    mapper: Callable[[Any], Any] | None = None
    writers: tuple[Writer, ...] = ()
    branches: tuple[Branch, ...] = ()
    retry: tuple[RetryPolicy, ...] = ()
    cache: CachePolicy[Any] | None = None
    timeout: TimeoutPolicy | None = None
    error_handler: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    subgraphs: tuple[Any, ...] = ()
    cache_identity: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A graph as the engine sees it. Channel tuples keep the order of the schema."""

    name: str
    nodes: Mapping[str, Node]
    channels: Mapping[str, BaseChannel[Any, Any, Any]]
    managed: Mapping[str, Any]
    triggered_by: Mapping[str, tuple[str, ...]]
    input_channels: str | tuple[str, ...]
    output_channels: str | tuple[str, ...]
    stream_channels: str | tuple[str, ...]
    step_timeout: float | None = None
    retry: tuple[RetryPolicy, ...] = ()
    cache: CachePolicy[Any] | None = None
    types: frozenset[type] = frozenset()
    validate: Callable[[str, Any], Any] | None = None
    reacts_to_empty: frozenset[str] = frozenset()
    reacts_to_consume: frozenset[str] = frozenset()
    reacts_to_finish: frozenset[str] = frozenset()
    untracked: frozenset[str] = frozenset()
    async_only: tuple[str, ...] = ()


def _is_async_only(node: Node) -> bool:
    return node.body.run is None or any(branch.body.run is None for branch in node.branches)


def lower(
    *,
    name: str,
    nodes: Mapping[str, Node],
    channels: Mapping[str, BaseChannel[Any, Any, Any]],
    managed: Mapping[str, Any],
    input_channels: str | Sequence[str],
    output_channels: str | Sequence[str],
    stream_channels: str | Sequence[str] | None = None,
    step_timeout: float | None = None,
    retry: Sequence[RetryPolicy] = (),
    cache: CachePolicy[Any] | None = None,
    types: frozenset[type] = frozenset(),
    validate: Callable[[str, Any], Any] | None = None,
) -> Program:
    """Freeze a graph's parts into a program and index what the engine asks at every superstep."""
    triggered: dict[str, list[str]] = {}
    for node in nodes.values():
        for trigger in node.triggers:
            triggered.setdefault(trigger, []).append(node.name)

    def names(value: str | Sequence[str]) -> str | tuple[str, ...]:
        return value if isinstance(value, str) else tuple(value)

    def reacting(flag: str) -> frozenset[str]:
        return frozenset(key for key, channel in channels.items() if getattr(channel, flag))

    return Program(
        name=name,
        nodes=nodes,
        channels=channels,
        managed=managed,
        triggered_by={channel: tuple(sorted(found)) for channel, found in triggered.items()},
        input_channels=names(input_channels),
        output_channels=names(output_channels),
        stream_channels=names(output_channels if stream_channels is None else stream_channels),
        step_timeout=step_timeout,
        retry=tuple(retry),
        cache=cache,
        types=types,
        validate=validate,
        reacts_to_empty=reacting("reacts_to_empty"),
        reacts_to_consume=reacting("reacts_to_consume"),
        reacts_to_finish=reacting("reacts_to_finish"),
        async_only=tuple(node.name for node in nodes.values() if _is_async_only(node)),
        untracked=frozenset(key for key, channel in channels.items() if not channel.is_tracked),
    )
