"""Applying a superstep's writes: state and writes in, next state out.

Invariant: the result depends on the tasks' paths, never on the order in which they finished; the state that came in
is left as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clew.constants import NEVER_APPLIED, RESERVED
from clew.engine.program import Program, Write
from clew.engine.state import State
from clew.errors import ClewError, InvalidUpdateError

_log = logging.getLogger("clew")


class Written(Protocol):
    """A task, or anything like one, that has written."""

    @property
    def name(self) -> str: ...
    @property
    def triggers(self) -> Sequence[str]: ...
    @property
    def writes(self) -> Sequence[Write] | None: ...


@dataclass(slots=True)
class Writes:
    """Writes that come from outside of a task: input, an update, a command."""

    name: str
    writes: Sequence[Write]
    triggers: Sequence[str] = ()


@dataclass(slots=True)
class Applied:
    """The next state; `changed` are channels whose version moved, `ran` nodes whose seen versions moved."""

    state: State
    changed: set[str]
    ran: list[str]


def apply(program: Program, state: State, tasks: Sequence[Written]) -> Applied:
    """Apply the writes of `tasks` (in path order) to `state`.

    A superstep (some task has triggers) also tells the channels that were not written that a step has passed, and,
    when nothing more would run, that the graph is about to finish. Raises `InvalidUpdateError` when a channel cannot
    take its writes; nothing is changed then.
    """
    channels = dict(state.channels)
    versions = dict(state.versions)
    seen = state.seen
    version = state.version + 1
    changed: set[str] = set()
    updated: set[str] = set()
    ran: list[str] = []
    is_step = False

    consumed: list[str] = []
    for task in tasks:
        triggers = task.triggers
        if triggers:
            is_step = True
            if not ran:
                seen = dict(seen)
            own = {**seen.get(task.name, {})}
            for trigger in triggers:
                if trigger in versions:
                    own[trigger] = versions[trigger]
                if trigger in program.reacts_to_consume:
                    consumed.append(trigger)
            seen[task.name] = own
            ran.append(task.name)
    for name in consumed:
        channel = channels[name].copy()
        if channel.consume():
            channels[name] = channel
            versions[name] = version
            changed.add(name)

    for name, values in _by_channel(program, tasks).items():
        channel = channels[name].copy()
        try:
            is_changed = channel.update(values)
        except InvalidUpdateError as error:
            raise _located(error, name, tasks, state.step + 1) from None
        if program.validate is not None and is_changed and channel.is_available():
            program.validate(name, channel.get())
        channels[name] = channel
        if is_changed:
            versions[name] = version
            changed.add(name)
            if channel.is_available():
                updated.add(name)

    live = state.live
    if is_step:
        for name in live:
            if name not in updated and channels[name].is_available():
                _notify(channels, name, "update", version, versions, changed, updated)
        if program.reacts_to_finish and updated.isdisjoint(program.triggered_by):
            for name in program.reacts_to_finish:
                _notify(channels, name, "finish", version, versions, changed, updated)
    if changed:
        touched = changed & program.reacts_to_empty
        if touched:
            live = (live - touched) | {name for name in touched if channels[name].is_available()}
    following = State(
        channels, versions, seen, version if changed else state.version, state.step, state.checkpoint_id,
        frozenset(updated), live,
    )  # fmt: skip
    return Applied(following, changed, ran)


def _by_channel(program: Program, tasks: Sequence[Written]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for task in tasks:
        for name, value in task.writes or ():
            if name in grouped:
                grouped[name].append(value)
            elif name in program.channels:
                grouped[name] = [value]
            elif name not in NEVER_APPLIED and name not in RESERVED:
                _log.warning("task %r wrote to unknown channel %r, which is ignored", task.name, name)
    return grouped


def _notify(
    channels: dict[str, Any],
    name: str,
    what: str,
    version: int,
    versions: dict[str, Any],
    changed: set[str],
    updated: set[str],
) -> None:
    channel = channels[name].copy()
    if channel.update(()) if what == "update" else channel.finish():
        channels[name] = channel
        versions[name] = version
        changed.add(name)
        if channel.is_available():
            updated.add(name)


def _located(error: ClewError, channel: str, tasks: Sequence[Written], step: int) -> InvalidUpdateError:
    """The same error, saying which nodes wrote and in which superstep."""
    writers = sorted({task.name for task in tasks if any(name == channel for name, _ in task.writes or ())})
    message = f"{error} (superstep {step}, written by {', '.join(repr(name) for name in writers)})"
    return InvalidUpdateError(message, hint=error.hint, code=error.code)
