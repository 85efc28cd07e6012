"""Applying a superstep's writes: state and writes in, next state out.

Invariant: the result depends on the tasks' paths, never on the order in which they finished; the state that came in
is left as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clew import _log
from clew.constants import NEVER_APPLIED, RESERVED
from clew.engine.program import Program, Write
from clew.engine.state import State
from clew.errors import ClewError, InvalidUpdateError


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
    version = state.version + 1
    changed: set[str] = set()
    updated: set[str] = set()
    ran, seen = _mark_seen(state, tasks)
    if program.reacts_to_consume:
        _consume(program, tasks, channels, version, versions, changed)
    for name, values in _by_channel(program, tasks).items():
        channel = channels[name].copy()
        try:
            is_changed = channel.update(values)
        except InvalidUpdateError as error:
            raise _located(error, name, tasks, state.step + 1) from None
        except Exception as error:  # of the user's reducer
            error.add_note(f"in the reducer of channel {name!r}, superstep {state.step + 1}, {_by(name, tasks)}")
            raise
        channels[name] = channel
        if is_changed:
            if program.validate is not None and channel.is_available():
                program.validate(name, channel.get())
            versions[name] = version
            changed.add(name)
            if channel.is_available():
                updated.add(name)
    live = state.live
    if ran:
        for name in live:
            if name not in updated and channels[name].is_available():
                _notify(channels, name, "update", version, versions, changed, updated)
        if program.reacts_to_finish and updated.isdisjoint(program.triggered_by):
            for name in program.reacts_to_finish:
                _notify(channels, name, "finish", version, versions, changed, updated)
    touched = changed & program.reacts_to_empty
    if touched:
        live = (live - touched) | {name for name in touched if channels[name].is_available()}
    following = State(
        channels, versions, seen, version if changed else state.version, state.step, state.checkpoint_id,
        frozenset(updated), live,
    )  # fmt: skip
    return Applied(following, changed, ran)


def _mark_seen(state: State, tasks: Sequence[Written]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Names of the tasks that belong to a superstep, and what their nodes have now seen of their triggers."""
    ran: list[str] = []
    seen, versions = state.seen, state.versions
    for task in tasks:
        triggers = task.triggers
        if triggers:
            name = task.name
            if not ran:
                seen = dict(seen)
            before = seen.get(name)
            own = dict(before) if before else {}
            for trigger in triggers:
                if trigger in versions:
                    own[trigger] = versions[trigger]
            seen[name] = own
            ran.append(name)
    return ran, seen


def _consume(
    program: Program,
    tasks: Sequence[Written],
    channels: dict[str, Any],
    version: int,
    versions: dict[str, Any],
    changed: set[str],
) -> None:
    """Tell the triggers that react to it that they have been read."""
    for task in tasks:
        for name in task.triggers:
            if name in program.reacts_to_consume:
                channel = channels[name].copy()
                if channel.consume():
                    channels[name] = channel
                    versions[name] = version
                    changed.add(name)


def _by_channel(program: Program, tasks: Sequence[Written]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for task in tasks:
        for name, value in task.writes or ():
            if name in grouped:
                grouped[name].append(value)
            elif name in program.channels:
                grouped[name] = [value]
            elif name not in NEVER_APPLIED and name not in RESERVED:
                _log.warn("task %r wrote to unknown channel %r, which is ignored", task.name, name)
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
    return InvalidUpdateError(f"{error} (superstep {step}, {_by(channel, tasks)})", hint=error.hint, code=error.code)


def _by(channel: str, tasks: Sequence[Written]) -> str:
    writers = sorted({task.name for task in tasks if any(name == channel for name, _ in task.writes or ())})
    return f"written by {', '.join(repr(name) for name in writers)}"
