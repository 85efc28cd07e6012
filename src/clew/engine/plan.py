"""Planning: which tasks a superstep has. Pure; reuses writes that are already stored.

Invariant: planning twice from one checkpoint gives the same tasks with the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xxhash

from clew.constants import ERROR, ERROR_SOURCE_NODE, PREVIOUS, PULL, PUSH, TASKS
from clew.engine.program import Node, Program, Write
from clew.engine.state import State, read
from clew.engine.task import Call, Task, child_ns, path_text, task_id, task_ns
from clew.errors import NodeError
from clew.types import CacheKey, Send

_PUSH_TRIGGERS = (PUSH,)


class Ticks(NamedTuple):
    """What managed values are computed from: the superstep, and the one after which the run must have ended."""

    step: int
    stop: int


@dataclass(slots=True)
class Place:
    """Where a run is: its namespace, the superstep after which it must have ended, and its thread ("" without one)."""

    ns: str
    stop: int
    thread_id: str = ""


def plan(program: Program, state: State, place: Place, *, has_inputs: bool = True) -> dict[str, Task]:
    """The tasks of the next superstep by id: sends first (in order), then triggered nodes by name.

    Without `has_inputs` the tasks are only to be looked at: no input is built, so no schema can refuse one.
    """
    tasks: dict[str, Task] = {}
    step = state.step + 1
    sends_channel = state.channels.get(TASKS)
    if sends_channel is not None and sends_channel.is_available():
        for index, send in enumerate(sends_channel.get()):
            task = _sent(program, state, place, step, index, send)
            if task is not None:
                tasks[task.id] = task
    for name in _triggered(program, state):
        task = _pulled(program, state, place, step, name, has_inputs)
        tasks[task.id] = task
    return tasks


def _triggered(program: Program, state: State) -> Sequence[str]:
    """Names of nodes that have a trigger which is available and newer than what the node has seen."""
    versions, channels = state.versions, state.channels
    if not versions:
        return ()
    if state.updated is not None:
        candidates: set[str] = set()
        for channel in state.updated:
            found = program.triggered_by.get(channel)
            if found:
                candidates.update(found)
        names: Sequence[str] = sorted(candidates) if len(candidates) > 1 else tuple(candidates)
    else:
        names = list(program.nodes)
    result: list[str] = []
    for name in names:
        seen = state.seen.get(name)
        for trigger in program.nodes[name].triggers:
            if channels[trigger].is_available() and (
                seen is None or trigger not in seen or versions.get(trigger, 0) > seen[trigger]
            ):
                result.append(name)
                break
    return result


def view(program: Program, state: State, node_channels: str | tuple[str, ...], place: Place, step: int) -> Any:
    """What a node reads: one channel's value, or a dict of available ones and managed values."""
    if isinstance(node_channels, str):
        return read(state.channels, node_channels)
    channels = state.channels
    values: dict[str, Any] = {}
    for name in node_channels:
        channel = channels.get(name)
        if channel is not None:
            if channel.is_available():
                values[name] = channel.get()
        elif name in program.managed:
            values[name] = program.managed[name].get(Ticks(step, place.stop))
    return values


def _pulled(program: Program, state: State, place: Place, step: int, name: str, has_input: bool) -> Task:
    node = program.nodes[name]
    ns = child_ns(place.ns, name)
    id = task_id(state.checkpoint_id, ns, step, name, PULL)
    given: Any = None
    if has_input:
        given = view(program, state, node.channels, place, step)
        if node.mapper is not None:
            given = node.mapper(given)
    return Task(
        id, name, (PULL, name), task_ns(ns, id), (0, name), node, given, node.triggers, step, place.stop,
        cache_key=_cache_key(program, node, given) if has_input and (node.cache or program.cache) else None,
        timeout=node.timeout,
        retry=node.retry or program.retry, previous=_previous(state), checkpoint_id=state.checkpoint_id, state=state,
    )  # fmt: skip


def _sent(program: Program, state: State, place: Place, step: int, index: int, send: Any) -> Task | None:
    if not isinstance(send, Send) or send.node not in program.nodes:
        return None
    node = program.nodes[send.node]
    ns = child_ns(place.ns, send.node)
    id = task_id(state.checkpoint_id, ns, step, send.node, PUSH, str(index))
    return Task(
        id, send.node, (PUSH, index, False), task_ns(ns, id), (1, index), node, send.arg, _PUSH_TRIGGERS, step,
        place.stop, cache_key=_cache_key(program, node, send.arg), timeout=send.timeout or node.timeout,
        retry=node.retry or program.retry, previous=_previous(state), checkpoint_id=state.checkpoint_id, state=state,
    )  # fmt: skip


def plan_call(program: Program, place: Place, call: Call) -> Task:
    """The child task of a call; its id depends on the parent's id and the number of the call."""
    parent = call.parent
    ns = child_ns(parent.ns, call.name)
    path = (PUSH, parent.path, call.index, parent.id, True)
    id = task_id(parent.checkpoint_id, ns, parent.step, call.name, PUSH, path_text(parent.path), str(call.index))
    return Task(
        id, call.name, path, task_ns(ns, id), (2, *parent.order, call.index), call.node, call.input, _PUSH_TRIGGERS,
        parent.step, place.stop, cache_key=_call_cache_key(program, call), timeout=call.timeout,
        retry=call.retry or program.retry, call=call, parent=parent, checkpoint_id=parent.checkpoint_id,
        state=parent.state,
    )  # fmt: skip


def plan_handler(program: Program, place: Place, failed: Task, error: BaseException) -> Task:
    """The error handler's task for a task that has failed for good; it runs in the same superstep."""
    name = failed.node.error_handler
    assert name is not None
    node = program.nodes[name]
    ns = child_ns(place.ns, name)
    id = task_id(failed.checkpoint_id, ns, failed.step, name, PUSH, "error_handler", failed.id)
    return Task(
        id, name, (*failed.path[:3], "node_error_handler", False), task_ns(ns, id), (*failed.order, name), node,
        failed.input, _PUSH_TRIGGERS, failed.step, place.stop, error=NodeError(failed.name, error),
        retry=node.retry or program.retry, previous=failed.previous,
        checkpoint_id=failed.checkpoint_id, state=failed.state,
        timeout=node.timeout,
    )  # fmt: skip


def stored_handler(program: Program, place: Place, task: Task, stored: Sequence[Write]) -> Task | None:
    """The error handler's task of a task that is recorded as failed for good; None if it is not."""
    if task.node.error_handler is None or all(channel != ERROR_SOURCE_NODE for channel, _ in stored):
        return None
    return plan_handler(program, place, task, next(value for channel, value in stored if channel == ERROR))


def _previous(state: State) -> Any:
    channel = state.channels.get(PREVIOUS)
    return channel.get() if channel is not None and channel.is_available() else None


def _cache_key(program: Program, node: Node, given: Any) -> CacheKey | None:
    policy = node.cache or program.cache
    if policy is None or node.hidden:
        return None
    return _hashed(policy.key_func(given), ("writes", node.cache_identity, node.name), policy.ttl)


def _call_cache_key(program: Program, call: Call) -> CacheKey | None:
    policy = call.cache or program.cache
    if policy is None:
        return None
    args, kwargs = call.input
    return _hashed(policy.key_func(*args, **kwargs), ("writes", call.node.cache_identity), policy.ttl)


def _hashed(key: str | bytes, ns: tuple[str, ...], ttl: int | None) -> CacheKey:
    return CacheKey(ns, xxhash.xxh3_128_hexdigest(key.encode() if isinstance(key, str) else key), ttl)


def pending_by_task(pending: Sequence[Any]) -> Mapping[str, Sequence[tuple[str, Any]]]:
    """Stored writes grouped by task id, in stored order."""
    grouped: dict[str, list[tuple[str, Any]]] = {}
    for stored in pending:
        grouped.setdefault(stored.task_id, []).extend(stored.writes)
    return grouped
