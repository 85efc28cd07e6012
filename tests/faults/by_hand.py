"""Driving the engine by hand, in one thread: a disk that can lose what was not acknowledged, and a player who decides
who finishes first and after which effect the process dies.

The disk stands in for a saver; durability is decided by the drivers' own `Saving`, so what is lost in a crash is what
the three modes allow to be lost.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clew._scope import RunScope, TaskScope, current
from clew.drivers._attempts import ended
from clew.drivers.saving import Plan, Saving
from clew.engine import effects as fx
from clew.engine.attempt import attempt
from clew.engine.program import Program
from clew.engine.project import output_of
from clew.engine.request import Request
from clew.engine.run import Outcome, run
from clew.engine.task import Task
from clew.errors import ParentCommand, ThreadConflictError
from clew.protocols import Committed, Saved, Step, TaskWrites


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Row:
    """One checkpoint on the disk, complete."""

    id: str
    parent_id: str | None
    step: Step
    values: dict[str, Any]


@dataclass
class Disk:
    """One thread in one namespace. Operations are closures: running one is what makes it durable."""

    rows: list[Row] = field(default_factory=list)
    pending: dict[str, TaskWrites] = field(default_factory=dict)
    epoch: int = 0
    finished: set[str] = field(default_factory=set)

    def cursor(self) -> HandCursor:
        return HandCursor(self)

    def keep(self, writes: Iterable[TaskWrites]) -> None:
        for one in copy.deepcopy(list(writes)):
            if output_of(one.writes):
                assert one.task_id not in self.finished, f"{one.name} was saved as finished twice"
                self.finished.add(one.task_id)
            self.pending[one.task_id] = one

    def chain(self) -> list[dict[str, Any]]:
        """The whole history, comparable; errors by what they show."""
        return [
            {
                "id": row.id,
                "parent": row.parent_id,
                "metadata": row.step.metadata,
                "values": row.values,
                "versions": dict(row.step.versions),
                "seen": row.step.seen,
                "writes": [(task.name, task.task_id, [(to, _shown(what)) for to, what in task.writes])
                           for task in row.step.writes],
            }
            for row in self.rows
        ]  # fmt: skip


def _shown(value: Any) -> Any:
    return repr(value) if isinstance(value, BaseException) else value


class HandCursor:
    """A run's place on the disk."""

    ns = ""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.count = 0  # checkpoints there are once everything built has been run
        self.expected = 0
        self.epoch: int | None = None
        self.last_id: str | None = None

    def load(self, *, checkpoint_id: str | None = None, from_ns: str | None = None) -> Callable[[], Saved | None]:
        assert (checkpoint_id, from_ns) == (None, None), "stories do not travel in time"

        def read() -> Saved | None:
            disk = self.disk
            self.expected, self.count = disk.epoch, len(disk.rows)
            if not disk.rows:
                return None
            row = copy.deepcopy(disk.rows[-1])
            self.last_id = row.id
            pending = copy.deepcopy(sorted(disk.pending.values(), key=lambda task: (task.path, task.task_id)))
            return Saved(
                row.id, row.parent_id, "", dict(row.step.metadata), row.values, dict(row.step.versions),
                {name: dict(seen) for name, seen in row.step.seen.items()},
                None if row.step.updated is None else tuple(row.step.updated), pending,
            )  # fmt: skip

        return read

    def commit(self, step: Step, *, claim: bool = False, checkpoint_id: str | None = None) -> Committed[Any]:
        self.count += 1
        number = self.count
        id = checkpoint_id or f"checkpoint {number}"
        parent_id, self.last_id = self.last_id, id
        step = copy.deepcopy(step)

        def write() -> None:
            disk = self.disk
            self._fence(claim)
            assert len(disk.rows) == number - 1, "a checkpoint without its parent"
            values = dict(disk.rows[-1].values) if disk.rows else {}
            for name in step.changed:
                values.pop(name, None)
            values |= step.values
            for task in step.writes:
                known = disk.pending.get(task.task_id)
                if known is not None and output_of(known.writes):
                    assert output_of(known.writes) == output_of(task.writes), "other writes than those that were saved"
                elif output_of(task.writes):
                    assert task.task_id not in disk.finished, f"{task.name} was consumed twice"
                    disk.finished.add(task.task_id)
            disk.rows.append(Row(id, parent_id, step, copy.deepcopy(values)))
            disk.pending.clear()

        return Committed(id, "", write)  # pyright: ignore[reportArgumentType] - an operation of this disk

    def claim(self, writes: Sequence[TaskWrites] = ()) -> Any:
        def write() -> None:
            self._fence(True)
            self.disk.keep(writes)

        return write

    def save_writes(self, writes: Sequence[TaskWrites]) -> Any:
        number = self.count
        writes = copy.deepcopy(list(writes))

        def write() -> None:
            self._fence(False)
            assert len(self.disk.rows) == number, "writes behind another checkpoint than the newest"
            self.disk.keep(writes)

        return write

    def _fence(self, is_claim: bool) -> None:
        disk = self.disk
        if is_claim:
            assert self.epoch is None, "a run claims its thread once"
            if disk.epoch != self.expected:
                raise ThreadConflictError("lost")
            disk.epoch += 1
            self.epoch = disk.epoch
        elif disk.epoch != self.epoch:
            raise ThreadConflictError("lost")


@dataclass
class Player:
    """What chance decides. `choose(n)` gives a number below n; `budget` effects are performed before the crash."""

    choose: Callable[[int], int]
    budget: int | None = None
    durability: Any = "sync"
    performed: int = 0


class HandFuture:
    """What a task's body awaits: the value of a child task."""

    def __init__(self) -> None:
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def __await__(self) -> Any:
        if not self.is_done:
            yield self
        if self.error is not None:
            raise self.error
        return self.value


class HandDriver:
    """One run. Tasks stand in line until the engine waits; then the player picks who goes on, and how many report."""

    def __init__(self, program: Program, disk: Disk, player: Player) -> None:
        self.program = program
        self.player = player
        self.saving = Saving(disk.cursor(), player.durability)  # pyright: ignore[reportArgumentType] - a cursor of closures
        self.scope = RunScope(name="by hand", config={})
        self.scope.saver = self.scope.session = object()
        self.queue: deque[Callable[[], None]] = deque()  # writes that nobody has waited for yet
        self.ready: list[tuple[Task, Any]] = []  # tasks that can go on, with their coroutine once they have begun
        self.asleep: dict[HandFuture, tuple[Task, Any]] = {}
        self.called: list[fx.Event] = []
        self.effects: list[fx.Effect] = []
        self.shown: list[tuple[str, Any]] = []
        self.started: list[Task] = []

    def play(self, request: Request) -> Outcome:
        """Run to the end; raises `Crash` when the player's budget is used up."""
        engine = run(self.program, request)
        reply: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = engine.send(reply) if error is None else engine.throw(error)
            except StopIteration as stop:
                return stop.value
            reply = error = None
            self.effects.append(effect)
            try:
                reply = self.perform(effect)
            except Exception as raised:
                error = raised
            self.player.performed += 1
            if self.player.budget is not None and self.player.performed >= self.player.budget:
                self.lose()
                engine.close()
                raise Crash

    def lose(self) -> None:
        """Of what nobody waited for, a prefix has reached the disk."""
        for write in list(self.queue)[: self.player.choose(len(self.queue) + 1)]:
            write()
        for _, coroutine in (*self.ready, *self.asleep.values()):
            if coroutine is not None:
                coroutine.close()

    def perform(self, effect: fx.Effect) -> Any:
        match effect:
            case fx.Load():
                saved = self.saving.cursor.load()()  # pyright: ignore[reportCallIssue] - a closure
                self.saving.last_id = None if saved is None else saved.checkpoint_id
                return saved
            case fx.Commit():
                return self.save(self.saving.commit(effect))
            case fx.Claim():
                return self.save(self.saving.claim(effect))
            case fx.SaveWrites():
                self.save(self.saving.save_writes(effect))
            case fx.Flush():
                for plan in self.saving.flush(effect):
                    self.save(plan)
            case fx.Start(tasks):
                self.started.extend(tasks)
                self.ready.extend((task, None) for task in tasks)
            case fx.Wait():
                return self.wait()
            case fx.Cancel():
                pass  # what has not begun may end as cancelled: see wait
            case fx.Resolve(call, value, raised):
                future: HandFuture = call.future
                future.is_done, future.value, future.error = True, value, raised
                if future in self.asleep:
                    self.ready.append(self.asleep.pop(future))
            case fx.Emit(mode, data):
                self.shown.append((mode, data))
            case fx.LookUp():
                return {}
            case fx.Remember():
                pass
        return None

    def save(self, plan: Plan) -> Any:
        if plan.op is not None:
            write: Any = plan.op
            self.queue.append(write)
            if plan.waits:
                self.drain()
        elif plan.flushes:
            self.drain()
        return plan.reply

    def drain(self) -> None:
        while self.queue:
            self.queue.popleft()()

    def wait(self) -> list[fx.Event]:
        has_cancelled = any(isinstance(effect, fx.Cancel) for effect in self.effects)
        events: list[fx.Event] = []
        at_least = 1 + self.player.choose(2)
        while len(events) < at_least:
            if not self.ready:
                if has_cancelled and not events and self.asleep:
                    return [self.give_up()]
                assert events, "the engine waits, and nothing runs"
                break
            task, coroutine = self.ready.pop(self.player.choose(len(self.ready)))
            if has_cancelled and coroutine is None and self.player.choose(2):
                events.append(fx.Cancelled(task))
                continue
            events += self.go_on(task, coroutine or self.body(task))
        return events

    def give_up(self) -> fx.Event:
        future, (task, coroutine) = self.asleep.popitem()
        del future
        coroutine.close()
        return fx.Cancelled(task)

    def go_on(self, task: Task, coroutine: Any) -> list[fx.Event]:
        try:
            future = coroutine.send(None)
        except StopIteration as stop:
            return [*self.calls(), fx.Finished(task, stop.value)]
        except BaseException as error:
            return [*self.calls(), ended(task, error)]
        self.asleep[future] = (task, coroutine)
        return self.calls()

    def calls(self) -> list[fx.Event]:
        called, self.called = self.called, []
        return called

    async def body(self, task: Task) -> Any:
        scope = TaskScope(self.scope, task)
        scope.call = self.call
        steps = attempt(self.program, task, scope.explicit)
        step: Any = steps.send
        given: Any = None
        while True:
            try:
                body, given = step(given)
            except StopIteration as stop:
                return stop.value
            token = current.set(scope)
            try:
                if body.arun is None:
                    given = body.run(given, scope)
                else:
                    given = await self.inside(scope, body.arun(given, scope))
                step = steps.send
            except ParentCommand as up:
                step, given = steps.throw, up
            finally:
                current.reset(token)

    def inside(self, scope: TaskScope, coroutine: Any) -> Any:
        return _Inside(scope, coroutine)

    def call(self, call: Any) -> HandFuture:
        call.future = HandFuture()
        self.called.append(fx.Called(call))
        return call.future


class _Inside:
    """Awaits a coroutine with its task's scope in place at each step."""

    def __init__(self, scope: TaskScope, coroutine: Any) -> None:
        self.scope = scope
        self.coroutine = coroutine

    def __await__(self) -> Any:
        try:
            while True:
                token = current.set(self.scope)
                try:
                    waiting = self.coroutine.send(None)
                except StopIteration as stop:
                    return stop.value
                finally:
                    current.reset(token)
                yield waiting
        finally:
            self.coroutine.close()
