"""What a run looks like from outside: stream payloads and snapshot tasks. Pure projections of tasks and state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from clew.constants import CONTROL_WRITES, ERROR, INTERRUPT, NS_SEP, RETURN
from clew.engine.program import Write
from clew.engine.task import Task
from clew.types import Interrupt, PregelTask

Writes = Sequence[Write]


class Address(NamedTuple):
    """A thread as configs name it; `tenant` is None where the saver knows it without being told."""

    thread_id: str
    tenant: str | None = None


def interrupts_of(writes: Writes) -> tuple[Interrupt, ...]:
    """The questions recorded in a task's stored writes."""
    return tuple(question for channel, value in writes if channel == INTERRUPT for question in value)


def output_of(writes: Writes) -> list[Write]:
    """The writes that are output rather than a record of what happened to the task; empty: it has not finished."""
    return [write for write in writes if write[0] not in CONTROL_WRITES]


def update_event(name: str, writes: Writes, outputs: str | tuple[str, ...], *, is_cached: bool) -> dict[str, Any]:
    """`{node: update}` for a finished task; None when it wrote nothing that is output, a list when several updates."""
    updates: list[Any] = []
    for channel, value in writes:
        if channel == RETURN:
            updates = [value]
            break
    else:
        if isinstance(outputs, str):
            updates = [value for channel, value in writes if channel == outputs]
        else:
            own = [(channel, value) for channel, value in writes if channel in outputs]
            if len({channel for channel, _ in own}) < len(own):
                updates = [{channel: value} for channel, value in own]
            elif own:
                updates = [dict(own)]
    event: dict[str, Any] = {name: updates[0] if len(updates) == 1 else (updates or None)}
    if is_cached:
        event["__metadata__"] = {"cached": True}
    return event


def result_of(writes: Iterable[Write]) -> dict[str, Any]:
    """Writes folded by channel; several of one channel become `{"$writes": [...]}`."""
    result: dict[str, Any] = {}
    several: set[str] = set()
    for channel, value in writes:
        if channel in several:
            result[channel]["$writes"].append(value)
        elif channel in result and result[channel] is not None:
            result[channel] = {"$writes": [result[channel], value]}
            several.add(channel)
        else:
            result[channel] = value
    return result


def task_event(task: Task, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The start of a task (mode "tasks")."""
    event: dict[str, Any] = {
        "id": task.id,
        "name": task.name,
        "input": task.input,
        "triggers": tuple(sorted(task.triggers)),
    }
    own = {**metadata, **task.node.metadata}
    if task.node.tags:
        own["tags"] = list(task.node.tags)
    if own:
        event["metadata"] = own
    return event


def task_result_event(task: Task, writes: Writes, streams: str | tuple[str, ...]) -> dict[str, Any]:
    """The end of a task (mode "tasks")."""
    names = (streams,) if isinstance(streams, str) else streams
    return {
        "id": task.id,
        "name": task.name,
        "error": next((value for channel, value in writes if channel == ERROR), None),
        "result": result_of(write for write in writes if write[0] in names or write[0] == RETURN),
        "interrupts": [asdict(question) for question in interrupts_of(writes)],
    }


def snapshot_tasks(
    tasks: Iterable[Task],
    pending: Mapping[str, Writes],
    outputs: str | tuple[str, ...],
    states: Mapping[str, Any] | None = None,
    *,
    is_live: bool = False,
) -> tuple[PregelTask, ...]:
    """Tasks with the results, errors and questions stored for them.

    `is_live`: only questions that still wait are shown; otherwise also those answered later in the same superstep.
    """
    shown: list[PregelTask] = []
    for task in tasks:
        writes = pending.get(task.id, ())
        output = output_of(writes)
        error = next((value for channel, value in writes if channel == ERROR), None)
        questions = () if is_live and output else interrupts_of(writes)
        shown.append(
            PregelTask(
                task.id,
                task.name,
                task.path,
                error if error is None or isinstance(error, str) else repr(error),  # pyright: ignore[reportArgumentType] - the field's peers show text
                questions,
                states.get(task.id) if states else None,
                _shown_result(output, outputs) if output else None,
            )
        )
    return tuple(shown)


def _shown_result(output: Writes, outputs: str | tuple[str, ...]) -> Any:
    for channel, value in output:
        if channel == RETURN:
            return value
    if isinstance(outputs, str):
        return result_of(write for write in output if write[0] == outputs).get(outputs)
    return result_of(write for write in output if write[0] in outputs)


def ns_config(address: Address, ns: str) -> dict[str, Any]:
    """The config that reads the newest checkpoint of a namespace."""
    configurable: dict[str, Any] = {"thread_id": address.thread_id, "checkpoint_ns": ns}
    if address.tenant is not None:
        configurable["checkpoint_tenant"] = address.tenant
    return {"configurable": configurable}


def checkpoint_config(address: Address, ns: str, id: str, parents: Mapping[str, str]) -> dict[str, Any]:
    """The config that reads one checkpoint again; a subgraph's also says where its parents stood."""
    config = ns_config(address, ns)
    config["configurable"]["checkpoint_id"] = id
    if parents:
        config["configurable"]["checkpoint_map"] = {**parents, ns: id}
    return config


def checkpoint_event(
    *,
    config: dict[str, Any] | None,
    parent_config: dict[str, Any] | None,
    values: Any,
    metadata: Mapping[str, Any],
    tasks: Sequence[Task],
    shown: Sequence[PregelTask],
) -> dict[str, Any]:
    """A checkpoint (mode "checkpoints"), shaped like `get_state`."""
    return {
        "config": config,
        "parent_config": parent_config,
        "values": values,
        "metadata": dict(metadata),
        "next": [task.name for task in tasks],
        "tasks": [_checkpoint_task(task) for task in shown],
    }


def _checkpoint_task(task: PregelTask) -> dict[str, Any]:
    if task.error:
        return {"id": task.id, "name": task.name, "error": task.error, "state": task.state}
    shown: dict[str, Any] = {"id": task.id, "name": task.name}
    if task.result:
        shown["result"] = task.result
    return {**shown, "interrupts": tuple(asdict(question) for question in task.interrupts), "state": task.state}


def parent_ns(task_namespace: str) -> tuple[str, ...]:
    """The namespace, as a tuple, of the graph that a task with this namespace belongs to."""
    return tuple(task_namespace.split(NS_SEP)[:-1])
