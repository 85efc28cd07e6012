"""One run of a program on a thread: from the loaded checkpoint to the end, a question, or an error.

Invariant: the thread is claimed, durably, before any node starts; every superstep ends in exactly one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clew.constants import ERROR, ERROR_SOURCE_NODE, INTERRUPT, NULL_TASK_ID
from clew.engine import effects as fx
from clew.engine.apply import apply
from clew.engine.enter import Entry, enter
from clew.engine.plan import Place, plan
from clew.engine.program import Program, Write
from clew.engine.project import (
    Address,
    checkpoint_config,
    checkpoint_event,
    interrupts_of,
    ns_config,
    output_of,
    snapshot_tasks,
    task_event,
)
from clew.engine.request import UNSAVED, Request, make_step
from clew.engine.resume import given_answers
from clew.engine.state import State, read
from clew.engine.superstep import Steps, Superstep
from clew.engine.task import Task, in_order, path_text
from clew.errors import ErrorCode, GraphDrained, GraphRecursionError, InvalidUpdateError, ParentCommand
from clew.protocols import Step, TaskWrites
from clew.types import All, Interrupt

_EMPTY: Mapping[str, Sequence[Write]] = {}


@dataclass(slots=True)
class Outcome:
    """How a run ended. `state` is what to read the output from, `interrupts` are the questions that wait now.

    `error`: a node failed with it (the thread is saved as far as it got).
    """

    status: Literal["done", "interrupted", "failed"]
    state: State
    interrupts: tuple[Interrupt, ...] = ()
    error: BaseException | None = None


def run(program: Program, request: Request) -> Steps[Outcome]:
    """Run until nothing is left to do. Raises typed errors for what cannot be run; node errors are in the outcome."""
    entry: Entry = yield from enter(program, request)
    place = Place(request.ns, entry.loaded_step + request.limit + 2, request.thread_id)
    return (yield from _Run(program, request, entry, place).loop())


class _Run:
    """The loop's moving parts: the state, where it was saved, and the writes loaded with it."""

    __slots__ = (
        "entry",
        "metadata",
        "parent_id",
        "pending",
        "place",
        "program",
        "request",
        "state",
    )

    def __init__(self, program: Program, request: Request, entry: Entry, place: Place) -> None:
        self.program = program
        self.request = request
        self.entry = entry
        self.place = place
        self.state = entry.state
        self.pending = entry.pending
        self.metadata = entry.metadata
        self.parent_id = entry.parent_id

    def loop(self) -> Steps[Outcome]:
        request = self.request
        while True:
            is_out = self.state.step + 1 > self.place.stop
            tasks = plan(self.program, self.state, self.place)
            if "checkpoints" in request.modes and request.has_saver:
                yield fx.Emit("checkpoints", self._checkpoint_event(tasks), self.state.step)
            if is_out:
                yield fx.Flush(is_final=True, is_failed=True)
                raise _out_of_steps(request)
            if not tasks:
                yield fx.Flush(is_final=True)
                return Outcome("done", self.state)
            superstep = self._superstep(tasks)
            if request.before and self._stops(request.before, tasks):
                return (yield from self._break())
            if request.control is not None and request.control.drain_requested:
                yield fx.Flush(is_final=True, is_failed=True)
                raise GraphDrained(request.control.drain_reason or "shutdown")
            if "tasks" in request.modes:
                for task in tasks.values():
                    if not task.node.hidden:
                        yield fx.Emit("tasks", task_event(task, request.task_metadata), task.step)
            if self.pending and request.modes:
                yield from _show_reused(superstep)
            yield from superstep.run()
            if superstep.error is not None:
                yield fx.Flush(is_final=True, is_failed=True)
                return Outcome("failed", self.state, error=_outermost(superstep.error, self.program, request))
            if superstep.parked:
                return (yield from self._suspend(superstep))
            stamp: fx.Stamp = yield fx.Commit(self._advance(superstep))
            self.state.checkpoint_id = stamp.checkpoint_id
            if request.modes:
                yield from self._show(superstep)
            if request.after and self._stops(request.after, tasks):
                if "checkpoints" in request.modes and request.has_saver:
                    tasks = plan(self.program, self.state, self.place)
                    yield fx.Emit("checkpoints", self._checkpoint_event(tasks), self.state.step)
                return (yield from self._break())

    def _superstep(self, tasks: dict[str, Task]) -> Superstep:
        """Give tasks what is stored for them: finished tasks their writes, failed ones their handler, answers."""
        pending = self.pending
        superstep = Superstep(
            self.program, self.place, tasks, pending, self.request.modes, self.request.task_metadata,
            has_cache=self.request.has_cache, outputs=self.request.outputs,
        )  # fmt: skip
        if pending or self.entry.origins or self.entry.offered:
            for task in list(tasks.values()):
                stored = pending.get(task.id, ())
                writes = output_of(stored)
                if writes:
                    task.writes = writes
                elif any(channel == ERROR_SOURCE_NODE for channel, _ in stored) and task.node.error_handler:
                    superstep.add_handler(task, next(value for channel, value in stored if channel == ERROR))
                else:
                    task.resume, inside = given_answers(stored)
                    asked = {question.id for question in interrupts_of(stored)}
                    task.inside = {id: answer for id, answer in inside.items() if id in asked}
                task.origin = self.entry.origins.get(task.path)
            if self.entry.offered and len(tasks) == 1:
                task = next(iter(tasks.values()))
                task.resume = task.resume or self.entry.offered
            self.entry.origins = {}
            self.entry.offered = []
        return superstep

    def _advance(self, superstep: Superstep) -> Step:
        """Apply the superstep's writes and move to the state this makes; gives the step that is to be saved."""
        tasks = superstep.tasks
        ordered: Sequence[Task] = list(tasks.values())
        if len(ordered) > 1:
            ordered = in_order(ordered)
        applied = apply(self.program, self.state, ordered)
        state = applied.state
        state.step += 1
        ran = applied.ran
        if self.entry.has_passed:
            ran = [*ran, INTERRUPT]
            self.entry.has_passed = False
        made = UNSAVED
        if self.request.has_saver:
            written = [self._written(task) for task in ordered]
            if NULL_TASK_ID in self.pending:
                written.append(TaskWrites(NULL_TASK_ID, self.pending[NULL_TASK_ID]))
            request = self.request
            self.metadata = {"source": "loop", "step": state.step, "parents": request.parents, **request.metadata}
            made = make_step(self.program, state, applied.changed, ran, self.metadata, written, request)
        self.parent_id = self.state.checkpoint_id
        self.state = state
        self.pending = _EMPTY
        return made

    def _show(self, superstep: Superstep) -> Steps[None]:
        """Show what was held back until the superstep was durable."""
        yield from superstep.show_alone()
        if "values" in self.request.modes:
            outputs, updated = self.request.outputs, self.state.updated
            names = (outputs,) if isinstance(outputs, str) else outputs
            if updated and not updated.isdisjoint(names):
                yield fx.Emit("values", read(self.state.channels, outputs))

    def _written(self, task: Task) -> TaskWrites:
        """What the step consumes of a task; the questions it had asked stay visible in history."""
        writes = task.writes or ()
        if self.pending:
            writes = [*(write for write in self.pending.get(task.id, ()) if write[0] == INTERRUPT), *writes]
        return TaskWrites(task.id, writes, path_text(task.path[:3]), task.name)

    def _stops(self, nodes: All | Sequence[str], tasks: Mapping[str, Task]) -> bool:
        """Whether a breakpoint is hit: a channel moved since the last stop, and one of the nodes runs now."""
        seen = self.state.seen.get(INTERRUPT, {})
        if not any(version > seen.get(name, 0) for name, version in self.state.versions.items()):
            return False
        return any(
            (not task.node.hidden if nodes == "*" else task.name in nodes)
            for task in tasks.values()
        )  # fmt: skip

    def _break(self) -> Steps[Outcome]:
        if "updates" in self.request.modes:
            yield fx.Emit("updates", {INTERRUPT: ()})
        yield fx.Flush(is_final=True, is_failed=True)
        return Outcome("interrupted", self.state)

    def _suspend(self, superstep: Superstep) -> Steps[Outcome]:
        """Stop at questions; finished siblings are saved and already count in what is shown."""
        state = self.state
        finished = [task for task in in_order(superstep.tasks.values()) if task.writes is not None]
        if finished:
            applied = apply(self.program, state, finished)
            state = applied.state
            outputs = self.request.outputs
            names = (outputs,) if isinstance(outputs, str) else outputs
            if "values" in self.request.modes and not applied.changed.isdisjoint(names):
                yield fx.Emit("values", read(state.channels, outputs))
        yield fx.Flush(is_final=True, is_failed=True)
        asked = (superstep.parked.get(task.id, ()) for task in in_order(superstep.tasks.values()))
        return Outcome("interrupted", state, tuple(question for questions in asked for question in questions))

    def _checkpoint_event(self, tasks: Mapping[str, Task]) -> dict[str, Any]:
        request, state = self.request, self.state
        parents, address = request.parents, Address(request.thread_id, request.tenant)
        states = {task.id: ns_config(address, task.ns) for task in tasks.values() if task.node.subgraphs}
        return checkpoint_event(
            config=checkpoint_config(address, request.ns, state.checkpoint_id, parents),
            parent_config=(checkpoint_config(address, request.ns, self.parent_id, parents) if self.parent_id else None),
            values=read(state.channels, self.program.stream_channels),
            metadata=self.metadata,
            tasks=list(tasks.values()),
            shown=snapshot_tasks(tasks.values(), self.pending, request.outputs, states),
        )


def _show_reused(superstep: Superstep) -> Steps[None]:
    for task in superstep.tasks.values():
        if task.writes is not None and task.writes[0][0] != ERROR:
            task.is_cached = True
            yield from superstep.show_reused(task)


def _outermost(error: BaseException, program: Program, request: Request) -> BaseException:
    """What a run fails with; a command for a parent ends here when there is none."""
    if not isinstance(error, ParentCommand) or request.owner:
        return error
    return InvalidUpdateError(
        f"there is no parent graph of {program.name!r} to send a command to: {error.args[0]!r}",
        hint="Command.PARENT is for graphs that run inside of a node; leave `graph` out for this graph",
    )


def _out_of_steps(request: Request) -> GraphRecursionError:
    thread = f" on thread {request.thread_id!r}" if request.thread_id else ""
    return GraphRecursionError(
        f"recursion limit of {request.limit} reached without hitting a stop condition{thread}",
        hint='raise the limit with config={"recursion_limit": N}, or give the cycle a condition that ends it',
        code=ErrorCode.GRAPH_RECURSION_LIMIT,
    )


__all__ = ["Outcome", "Request", "run"]
