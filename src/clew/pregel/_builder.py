"""Building a node of a low-level program: what it reads, what it does, what it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clew._missing import MISSING
from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew._scope import TaskScope
from clew.engine.program import Body, Node, Write
from clew.pregel._body import body_of, subgraphs_of

__all__ = ("ChannelWriteEntry", "NodeBuilder")


@dataclass(frozen=True, slots=True)
class ChannelWriteEntry:
    """A write of a node: to `channel`, of `value` (by default the node's result), through `mapper` if given."""

    channel: str
    value: Any = MISSING
    skip_none: bool = False
    mapper: Callable[[Any], Any] | None = None

    def write(self, result: Any) -> Sequence[Write]:
        """The write for a node's result; none when it is None and `skip_none` is set."""
        value = result if self.value is MISSING else self.value
        if self.mapper is not None:
            value = self.mapper(value)
        if value is None and self.skip_none:
            return ()
        return ((self.channel, value),)


class NodeBuilder:
    """Builds a node for `Pregel(nodes={...})`; every method gives the builder itself."""

    __slots__ = ("_cache", "_channels", "_metadata", "_retry", "_steps", "_tags", "_timeout", "_triggers", "_writes")

    def __init__(self) -> None:
        self._channels: str | list[str] = []
        self._triggers: list[str] = []
        self._steps: list[Any] = []
        self._writes: list[ChannelWriteEntry] = []
        self._tags: list[str] = []
        self._metadata: dict[str, Any] = {}
        self._retry: list[RetryPolicy] = []
        self._cache: CachePolicy[Any] | None = None
        self._timeout: TimeoutPolicy | None = None

    def subscribe_only(self, channel: str) -> NodeBuilder:
        """Run when `channel` is updated, with its value as the input."""
        if self._channels:
            raise ValueError("subscribe_only cannot be combined with other channels to read")
        self._channels = channel
        self._triggers.append(channel)
        return self

    def subscribe_to(self, *channels: str, read: bool = True) -> NodeBuilder:
        """Run when one of `channels` is updated; with `read`, the input is a dict that has their values."""
        if isinstance(self._channels, str):
            raise ValueError("subscribe_to cannot follow subscribe_only: the input is one channel's value")
        if read:
            self._channels.extend(name for name in channels if name not in self._channels)
        self._triggers.extend(name for name in channels if name not in self._triggers)
        return self

    def read_from(self, *channels: str) -> NodeBuilder:
        """Read further channels without running because of them."""
        if isinstance(self._channels, str):
            raise ValueError("read_from cannot follow subscribe_only: the input is one channel's value")
        self._channels.extend(channels)
        return self

    def do(self, node: Any) -> NodeBuilder:
        """Run a function, graph or runnable; several run one after another, each on the result of the one before."""
        self._steps.append(node)
        return self

    def write_to(self, *channels: str | ChannelWriteEntry, **mapped: Any) -> NodeBuilder:
        """Write the result to `channels`; keyword arguments write a constant, or what a function makes of it."""
        for channel in channels:
            self._writes.append(channel if isinstance(channel, ChannelWriteEntry) else ChannelWriteEntry(channel))
        for channel, value in mapped.items():
            entry = (
                ChannelWriteEntry(channel, mapper=value) if callable(value) else ChannelWriteEntry(channel, value)
            )  # fmt: skip
            self._writes.append(entry)
        return self

    def meta(self, *tags: str, **metadata: Any) -> NodeBuilder:
        """Tags and metadata of the node's runs."""
        self._tags.extend(tags)
        self._metadata.update(metadata)
        return self

    def add_retry_policies(self, *policies: RetryPolicy) -> NodeBuilder:
        """When to run the node again; the first policy that matches an error counts."""
        self._retry.extend(policies)
        return self

    def add_cache_policy(self, policy: CachePolicy[Any]) -> NodeBuilder:
        """Reuse the node's writes for equal input."""
        self._cache = policy
        return self

    def set_timeout(self, timeout: Any) -> NodeBuilder:
        """How long one attempt may take (async nodes only)."""
        self._timeout = TimeoutPolicy.coerce(timeout)
        return self

    def build(self, name: str = "") -> Node:
        """The node."""
        return Node(
            name=name,
            body=_sequence([body_of(step) for step in self._steps]),
            triggers=tuple(self._triggers),
            channels=self._channels if isinstance(self._channels, str) else tuple(self._channels),
            writers=tuple(entry.write for entry in self._writes),
            retry=tuple(self._retry),
            cache=self._cache,
            timeout=self._timeout,
            tags=tuple(self._tags),
            metadata=self._metadata,
            subgraphs=tuple(graph for step in self._steps for graph in subgraphs_of(step)),
            cache_identity=name,
        )


def _sequence(bodies: Sequence[Body]) -> Body:
    if len(bodies) == 1:
        return bodies[0]
    if not bodies:
        return Body(lambda given, _: given, None)

    def run(given: Any, scope: TaskScope) -> Any:
        for body in bodies:
            if body.run is None:
                raise TypeError("a step of the node is async only; use ainvoke, astream or abatch")
            given = body.run(given, scope)
        return given

    async def arun(given: Any, scope: TaskScope) -> Any:
        from asyncio import to_thread  # late: asyncio is not needed to run synchronously

        for body in bodies:
            if body.arun is not None:
                given = await body.arun(given, scope)
            else:
                assert body.run is not None
                given = await to_thread(body.run, given, scope)
        return given

    return Body(run, None if all(body.arun is None for body in bodies) else arun)
