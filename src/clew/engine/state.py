"""The state of a graph between two supersteps, and how it is read.

Invariant: a `State` is never changed once it has been handed out; `apply` makes the next one, sharing what did not
change (channels are copied before they are updated).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from clew._missing import MISSING
from clew.channels.base import BaseChannel
from clew.constants import TASKS
from clew.engine.program import Program, Write
from clew.protocols import Saved
from clew.types import Send

Channels = Mapping[str, BaseChannel[Any, Any, Any]]


@dataclass(slots=True)
class State:
    """Channels and their versions after a superstep.

    `step` is the number of the checkpoint (-1: the input); `updated` are the channels whose update can trigger nodes
    next, None when that is not known; `live` are available channels that react to an empty update.
    """

    channels: dict[str, BaseChannel[Any, Any, Any]]
    versions: dict[str, Any]
    seen: dict[str, dict[str, Any]]
    version: int
    step: int
    checkpoint_id: str
    updated: frozenset[str] | None
    live: frozenset[str]


def empty_state(program: Program) -> State:
    """The state of a thread that has never run."""
    channels = {name: channel.from_checkpoint(MISSING) for name, channel in program.channels.items()}
    live = frozenset(name for name in program.reacts_to_empty if channels[name].is_available())
    return State(channels, {}, {}, 0, -2, "", None, live)


def restored_state(program: Program, saved: Saved) -> State:
    """The state at a stored checkpoint; channels the program no longer has are left out."""
    values = saved.values
    channels = {name: channel.from_checkpoint(values.get(name, MISSING)) for name, channel in program.channels.items()}
    live = frozenset(name for name in program.reacts_to_empty if channels[name].is_available())
    versions = dict(saved.versions)
    updated = None if saved.updated is None else frozenset(saved.updated)
    return State(
        channels,
        versions,
        {node: dict(seen) for node, seen in saved.seen.items()},
        max((v for v in versions.values() if isinstance(v, int)), default=0),
        saved.metadata.get("step", -2),
        saved.checkpoint_id,
        updated,
        live,
    )


def read(channels: Channels, select: str | tuple[str, ...]) -> Any:
    """One channel's value (None when empty), or a dict of those of several that are available."""
    if isinstance(select, str):
        channel = channels[select]
        return channel.get() if channel.is_available() else None
    values: dict[str, Any] = {}
    for name in select:
        channel = channels[name]
        if channel.is_available():
            values[name] = channel.get()
    return values


def checkpoint_values(program: Program, state: State, names: Iterable[str]) -> dict[str, Any]:
    """The storable values of the named channels that have one."""
    values: dict[str, Any] = {}
    for name in names:
        if name in program.untracked:
            continue
        channel = state.channels.get(name)
        if channel is None:
            continue
        value = channel.checkpoint()
        if value is not MISSING:
            values[name] = value
    if program.untracked and TASKS in values:
        values[TASKS] = [_tracked_send(program, send) for send in values[TASKS]]
    return values


def tracked_writes(program: Program, writes: Iterable[Write]) -> list[Write]:
    """The writes without what is never stored: those to untracked channels, and such fields of packets."""
    return [
        (channel, _tracked_send(program, value) if channel == TASKS else value)
        for channel, value in writes
        if channel not in program.untracked
    ]


def _tracked_send(program: Program, send: Any) -> Any:
    if not isinstance(send, Send) or not isinstance(send.arg, dict):
        return send
    given = cast("dict[Any, Any]", send.arg)  # user data
    if program.untracked.isdisjoint(given):
        return send
    kept = {name: value for name, value in given.items() if name not in program.untracked}
    return Send(send.node, kept, timeout=send.timeout)
