"""A stored checkpoint as users see it. Never plans "for execution": looking at a state cannot fail on its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.constants import NULL_TASK_ID
from clew.engine.apply import apply
from clew.engine.enter import with_null_writes
from clew.engine.plan import Place, pending_by_task, plan, stored_handler
from clew.engine.program import Program
from clew.engine.project import Address, checkpoint_config, output_of, snapshot_tasks
from clew.engine.resume import waiting
from clew.engine.state import State, read, restored_state
from clew.engine.task import Task, in_order
from clew.protocols import Saved
from clew.types import Interrupt, StateSnapshot


def planned(program: Program, saved: Saved) -> tuple[State, dict[str, Task], Mapping[str, Any]]:
    """The state at a checkpoint, its next tasks, and the writes stored for them."""
    state = restored_state(program, saved)
    pending = pending_by_task(saved.pending)
    tasks = plan(program, state, Place(saved.ns, 0), has_inputs=False)
    if NULL_TASK_ID in pending:
        state = with_null_writes(program, state, pending[NULL_TASK_ID])
    return state, tasks, pending


def _waiting(
    program: Program, ns: str, task: Task, pending: Mapping[str, Any], asked: tuple[Interrupt, ...]
) -> tuple[Interrupt, ...]:
    """The questions of a task, or of the error handler in its place, that still wait."""
    stored = pending.get(task.id, ())
    handler = stored_handler(program, Place(ns, 0), task, stored)
    if handler is not None:
        return waiting(handler.ns, pending.get(handler.id, ()))
    ids = {question.id for question in waiting(task.ns, stored)}
    return tuple(question for question in asked if question.id in ids)


def snapshot(
    program: Program, address: Address, saved: Saved, states: Mapping[str, Any] | None = None, *, is_live: bool
) -> StateSnapshot:
    """The snapshot of a checkpoint.

    `is_live`: what finished tasks of the unfinished superstep wrote is applied, and only questions that still wait are
    shown; without it, the state as of the start of the step, with all that was recorded for it.
    """
    state, tasks, pending = planned(program, saved)
    finished = {id for id in tasks if output_of(pending.get(id, ()))} if is_live else set[str]()
    if finished:
        for id in finished:
            tasks[id].writes = output_of(pending[id])
        try:
            state = apply(program, state, in_order(tasks[id] for id in finished)).state
        except Exception:  # what they wrote does not go together: the state stays at the start of the superstep
            finished = set[str]()
    shown = snapshot_tasks(tasks.values(), pending, program.stream_channels, states, is_live=is_live)
    if is_live:
        shown = tuple(
            task._replace(interrupts=_waiting(program, saved.ns, tasks[task.id], pending, task.interrupts))
            for task in shown
        )
    parents: Mapping[str, str] = saved.metadata.get("parents") or {}
    return StateSnapshot(
        values=read(state.channels, program.stream_channels),
        next=tuple(task.name for id, task in tasks.items() if id not in finished),
        config=checkpoint_config(address, saved.ns, saved.checkpoint_id, parents),
        metadata=saved.metadata,
        created_at=saved.created_at,
        parent_config=(
            checkpoint_config(address, saved.ns, saved.parent_id, parents) if saved.parent_id is not None else None
        ),
        tasks=shown,
        interrupts=tuple(question for task in shown for question in task.interrupts),
    )
