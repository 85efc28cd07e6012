"""The state of a graph between two supersteps, and how it is read.

Invariant: a `State` is never changed once it has been handed out; `apply` makes the next one, sharing what did not
change (channels are copied before they are updated).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clew._missing import MISSING
from clew.channels.base import BaseChannel
from clew.engine.program import Program
from clew.protocols import Saved

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
    return values
