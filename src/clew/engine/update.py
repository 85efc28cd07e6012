"""Changing a thread's state from outside, as if nodes had run.

Invariant: an update goes through the writers, reducers and branches of the node it acts as, and ends in one claimed
commit per superstep; refused updates leave the thread as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from clew.constants import END, INPUT, INTERRUPT, NULL_TASK_ID
from clew.engine import effects as fx
from clew.engine.apply import Applied, Writes, apply
from clew.engine.enter import input_writes, records, with_null_writes
from clew.engine.plan import Place, pending_by_task, plan
from clew.engine.program import Body, Program, Write
from clew.engine.project import output_of
from clew.engine.request import Request, make_step
from clew.engine.state import State, empty_state, restored_state
from clew.engine.superstep import Steps
from clew.engine.task import Task, in_order, task_id, task_ns
from clew.errors import EmptyUpdateError, InvalidUpdateError
from clew.protocols import Saved, TaskWrites
from clew.types import StateUpdate

COPY = "__copy__"


def update(program: Program, request: Request, supersteps: Sequence[Sequence[StateUpdate]]) -> Steps[str]:
    """Apply supersteps of updates to where `request` points; gives the id of the last checkpoint made."""
    if not supersteps:
        raise EmptyUpdateError("no supersteps were provided to update the state with")
    if any(not updates for updates in supersteps):
        raise EmptyUpdateError("a superstep without updates was provided")
    saved: Saved | None = yield fx.Load(request.checkpoint_id, request.from_ns)
    run = _Update(program, request, saved)
    for updates in supersteps:
        yield from run.superstep([StateUpdate(*item) for item in updates])
    yield fx.Flush(is_final=True, is_failed=True)
    return run.state.checkpoint_id


class _Update:
    """The state while supersteps of updates are applied to it; `pending` are writes stored for its next tasks."""

    __slots__ = ("has_claimed", "metadata", "parents", "pending", "program", "request", "saved", "state")

    def __init__(self, program: Program, request: Request, saved: Saved | None) -> None:
        self.program = program
        self.request = request
        self.saved = saved
        self.state = empty_state(program) if saved is None else restored_state(program, saved)
        is_head = saved is not None and saved.is_head  # the child of an older checkpoint has consumed what is stored
        self.pending: Mapping[str, Sequence[Write]] = pending_by_task(saved.pending) if saved and is_head else {}
        self.parents: Mapping[str, str] = {} if saved is None else saved.metadata.get("parents") or {}
        self.has_claimed = False

    def superstep(self, updates: Sequence[StateUpdate]) -> Steps[None]:
        values, as_node = updates[0].values, updates[0].as_node
        if as_node in (END, INPUT, COPY) and (as_node != END or values is None):
            if len(updates) > 1:
                raise InvalidUpdateError(f"as_node={as_node!r} takes one update in a superstep, got {len(updates)}")
        if values is None and as_node == END:
            yield from self._clear()
        elif as_node == INPUT:
            yield from self._as_input(values)
        elif as_node == COPY:
            yield from self._copy(values)
        else:
            yield from self._as_nodes(updates)

    def _clear(self) -> Steps[None]:
        """Drop the next tasks, keeping what those that had finished wrote."""
        state = self._with_null_writes()
        tasks = plan(self.program, state, Place(self.request.ns, 0), has_inputs=False)
        for id, task in tasks.items():
            task.writes = output_of(self.pending.get(id, ()))
        applied = apply(self.program, state, in_order(tasks.values()))
        yield from self._commit(applied, "update", records(self.pending))

    def _as_input(self, values: Any) -> Steps[None]:
        writes = list(input_writes(self.program, values))
        if not writes:
            raise InvalidUpdateError(f"received no input writes for {self.program.input_channels}")
        applied = apply(self.program, self._with_null_writes(), [Writes(INPUT, writes)])
        yield from self._commit(applied, "input", records(self.pending))

    def _copy(self, values: Any) -> Steps[None]:
        """Make a sibling of the checkpoint; a list of (values, as_node) is then applied to the copy."""
        if self.saved is None:
            raise InvalidUpdateError("cannot copy a checkpoint that does not exist")
        if self.saved.parent_id is not None and not self.has_claimed:
            yield fx.Load(self.saved.parent_id)
        applied = Applied(self.state, set(self.state.versions), list(self.state.seen))
        yield from self._commit(applied, "fork", ())
        if isinstance(values, list) and values:
            yield from self._as_nodes(_grouped(cast("list[Any]", values)))

    def _as_nodes(self, updates: Sequence[StateUpdate]) -> Steps[None]:
        state = self._with_null_writes()
        place = Place(self.request.ns, state.step + 2, self.request.thread_id)
        waiting: dict[str, list[str]] = {}
        for task in plan(self.program, state, place, has_inputs=False).values():
            waiting.setdefault(task.name, []).append(task.id)
        tasks: list[Task] = []
        for index, item in enumerate(updates):
            name = self._node(item, len(updates))
            ids = waiting.get(name, [])
            id = item.task_id or (ids.pop(0) if ids else task_id(state.checkpoint_id, "", -1, name, str(index)))
            tasks.append(self._task(id, name, index, item.values, state))
        yield from self._run(tasks)
        applied = apply(self.program, state, tasks)
        ids = {task.id for task in tasks}
        written = records({id: writes for id, writes in self.pending.items() if id not in ids})
        for task in tasks:
            asked = [write for write in self.pending.get(task.id, ()) if write[0] == INTERRUPT]
            written.append(TaskWrites(task.id, [*asked, *(task.writes or ())], name=task.name))
        yield from self._commit(applied, "update", written)

    def _node(self, item: StateUpdate, count: int) -> str:
        name = item.as_node
        if name is None and count > 1:
            raise InvalidUpdateError("as_node is required when several updates are applied in one superstep")
        if name is None:
            name = self._last_writer()
        if name is None:
            raise InvalidUpdateError(
                "ambiguous update: it is not clear which node wrote last, specify as_node",
                hint=f"as_node is one of {', '.join(n for n in self.program.nodes if not n.startswith('__'))}",
            )
        if name not in self.program.nodes:
            raise InvalidUpdateError(
                f"node {name!r} does not exist, so the state cannot be updated as that node",
                hint=f"as_node is one of {', '.join(n for n in self.program.nodes if not n.startswith('__'))}",
            )
        return name

    def _last_writer(self) -> str | None:
        """The node that ran last, if that is only one."""
        nodes, inputs = self.program.nodes, self.program.input_channels
        if len(nodes) == 1:
            return next(iter(nodes))
        seen = {name: versions for name, versions in self.state.seen.items() if any(versions.values())}
        if not seen:
            return inputs if isinstance(inputs, str) and inputs in nodes else None
        last = sorted((version, name) for name, own in seen.items() if name in nodes for version in own.values())
        if len(last) == 1 or (last and last[-1][0] != last[-2][0]):
            return last[-1][1]
        return None

    def _task(self, id: str, name: str, index: int, values: Any, state: State) -> Task:
        """A task that, instead of running the node, gives `values` as its result."""
        node = replace(
            self.program.nodes[name], body=Body(lambda given, _: given, None), retry=(), timeout=None, cache=None
        )  # fmt: skip
        if not node.writers:
            raise InvalidUpdateError(f"node {name!r} has no writers, so the state cannot be updated as that node")
        step = state.step + 1
        return Task(
            id, name, (INTERRUPT, index), task_ns(name, id), (0, index), node, values, (INTERRUPT,), step, step + 1,
            state=state, checkpoint_id=state.checkpoint_id,
        )  # fmt: skip

    def _run(self, tasks: Sequence[Task]) -> Steps[None]:
        running = set(tasks)
        error: BaseException | None = None
        yield fx.Start(tasks, is_alone=len(tasks) == 1)
        while running:
            for event in (yield fx.Wait()):
                match event:
                    case fx.Finished(task, writes):
                        running.discard(task)
                        task.writes = writes
                    case fx.Failed(task, raised):
                        running.discard(task)
                        error = error or raised
                    case fx.Interrupted(task) | fx.Cancelled(task):
                        running.discard(task)
                        error = error or InvalidUpdateError(f"node {task.name!r} cannot ask during an update")
                    case _:
                        pass
        if error is not None:
            raise error

    def _with_null_writes(self) -> State:
        if NULL_TASK_ID in self.pending:
            return with_null_writes(self.program, self.state, self.pending[NULL_TASK_ID])
        return self.state

    def _commit(self, applied: Applied, source: str, written: Iterable[TaskWrites]) -> Steps[None]:
        state = applied.state
        first = -1 if source == "input" else 0
        step = first if self.saved is None and not self.has_claimed else self.state.step + 1
        # an update leaves tasks waiting that it has nothing to do with, so what runs next is planned from versions
        state = replace(state, step=step, updated=None if source == "update" else state.updated)
        metadata = {"source": source, "step": step, "parents": self.parents, **self.request.metadata}
        made = make_step(self.program, state, applied.changed, applied.ran, metadata, list(written), self.request)
        if self.saved is not None:
            made.owner = self.saved.owner
        stamp: fx.Stamp = yield fx.Commit(made, claim=not self.has_claimed)
        self.has_claimed = True
        self.state = replace(state, checkpoint_id=stamp.checkpoint_id)
        self.pending = {}


def _grouped(items: Sequence[Any]) -> list[StateUpdate]:
    updates: dict[Any, list[StateUpdate]] = {}
    for item in items:
        pair: Any = item
        if not isinstance(item, Sequence) or isinstance(item, str) or len(pair) < 2:
            raise InvalidUpdateError(f"invalid item {item!r} when copying a checkpoint; expected (values, as_node)")
        updates.setdefault(pair[1], []).append(StateUpdate(pair[0], pair[1]))
    return [update for group in updates.values() for update in group]
