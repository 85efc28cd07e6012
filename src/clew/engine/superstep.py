"""One superstep: start its tasks, take what they report, make it durable, then visible.

Invariant: a task whose writes were saved is never started again; when this returns or raises, nothing runs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar, assert_never

from clew.constants import ERROR, ERROR_SOURCE_NODE, INTERRUPT, NO_WRITES, RESUME, RETURN
from clew.engine import effects as fx
from clew.engine.plan import Place, plan_call, plan_handler
from clew.engine.program import Program, Write
from clew.engine.project import output_of, task_event, task_result_event, update_event
from clew.engine.resume import answered, given_answers, without
from clew.engine.state import read, tracked_writes
from clew.engine.task import Task, path_text
from clew.errors import GraphInterrupt, ParentCommand, StepTimeoutError, refused_answer
from clew.protocols import TaskWrites
from clew.types import Interrupt

T = TypeVar("T")
Steps = Generator[fx.Effect, Any, T]
_NOTHING: tuple[Write, ...] = ((NO_WRITES, None),)


class Superstep:
    """The tasks of one superstep while they run.

    `tasks` are the planned ones and error handlers (those whose writes get applied), by id; `is_alone` means that the
    only task's writes are saved with the checkpoint that consumes them, not before.
    """

    __slots__ = (
        "calls", "children", "error", "has_cache", "is_alone", "metadata", "modes", "outputs", "parked", "pending",
        "place", "program", "running", "taken", "tasks",
    )  # fmt: skip

    def __init__(
        self,
        program: Program,
        place: Place,
        tasks: dict[str, Task],
        pending: Mapping[str, Sequence[Write]],
        modes: frozenset[str],
        metadata: Mapping[str, Any],
        *,
        has_cache: bool,
        outputs: str | tuple[str, ...],
    ) -> None:
        self.program = program
        self.place = place
        self.tasks = tasks
        self.pending = pending
        self.modes = modes
        self.metadata = metadata
        self.has_cache = has_cache
        self.outputs = outputs
        self.is_alone = len(tasks) == 1
        self.running: set[Task] = set()
        self.calls: set[fx.Call] = set()  # of child tasks, not answered yet
        self.children: dict[str, Task] = {}
        self.parked: dict[str, Sequence[Interrupt]] = {}  # by task id
        self.error: BaseException | None = None
        self.taken: Sequence[fx.Event] = ()

    def run(self) -> Steps[None]:
        """Run every task that has no writes yet; see `parked` and `error` for what kept it from finishing."""
        todo = [task for task in self.tasks.values() if task.writes is None]
        if self.has_cache:
            todo = yield from self._from_cache(todo)
        if not todo:
            return
        if self.is_alone and (yield from self._run_alone(todo)):
            return
        if not self.running:
            yield from self._start(todo)
        try:
            while self.running:
                events, self.taken = self.taken, ()
                yield from self._take(events or (yield fx.Wait(self.program.step_timeout)))
                if self.error is not None:
                    yield from self._stop(is_saving=True)
        except GeneratorExit:
            raise  # the driver is gone: it has stopped what ran
        except BaseException as error:
            if self.running:
                yield from self._stop(is_saving=not isinstance(error, Exception))
            raise

    def _run_alone(self, todo: Sequence[Task]) -> Steps[bool]:
        """The common case, without the bookkeeping: one task that finishes. Gives whether it did."""
        task = todo[0]
        yield fx.Start(todo, is_alone=True)  # refused when the run has lost its thread: then nothing runs
        self.running.add(task)
        try:
            events: Sequence[fx.Event] = yield fx.Wait(self.program.step_timeout)
        except GeneratorExit:
            raise  # the driver is gone: it has stopped what ran
        except BaseException as error:
            yield from self._stop(is_saving=not isinstance(error, Exception))
            raise
        if len(events) == 1 and task.cache_key is None:
            event = events[0]
            if type(event) is fx.Finished:
                self.running.clear()
                task.writes = event.writes or _NOTHING
                return True
        self.taken = events
        return False

    def _start(self, tasks: Sequence[Task]) -> Steps[None]:
        is_alone = not self.running and len(tasks) == 1 and tasks[0].call is None
        yield fx.Start(tasks, is_alone=is_alone)
        self.running.update(tasks)

    def _from_cache(self, todo: list[Task]) -> Steps[list[Task]]:
        keyed = [task for task in todo if task.cache_key is not None]
        if not keyed:
            return todo
        found: Mapping[str, Sequence[Write]] = yield fx.LookUp(keyed)
        for task in keyed:
            if task.id in found:
                task.writes = found[task.id]
                task.is_cached = True
                yield from self._show_end(task, task.writes)
        return [task for task in todo if task.writes is None]

    def _take(self, events: Sequence[fx.Event]) -> Steps[None]:
        """Handle what has been reported; finished tasks of one batch are saved together."""
        finished: list[fx.Finished] = []
        self._note(events)
        for event in events:
            match event:
                case fx.Finished():
                    finished.append(event)
                case fx.Interrupted():
                    yield from self._park(event)
                case fx.Failed():
                    yield from self._fail(event.task, event.error)
                case fx.Called():
                    yield from self._call(event.call)
                case fx.Cancelled():
                    pass
                case fx.TimedOut():
                    self.error = self.error or StepTimeoutError(
                        f"superstep {self._step()} took longer than the step timeout of {self.program.step_timeout}s",
                        hint="raise step_timeout, or give the slow node a timeout policy of its own",
                    )
                case _:
                    assert_never(event)
        if finished:
            yield from self._finish(finished)

    def _note(self, events: Sequence[fx.Event]) -> None:
        """Before anything that may raise: which tasks have ended, and which calls wait for an answer."""
        for event in events:
            match event:
                case fx.Finished() | fx.Failed() | fx.Interrupted() | fx.Cancelled():
                    self.running.discard(event.task)
                case fx.Called(call):
                    self.calls.add(call)
                case fx.TimedOut():
                    pass
                case _:
                    assert_never(event)

    def _answer(self, call: fx.Call, value: Any = None, error: BaseException | None = None) -> Steps[None]:
        """Answer a call, once."""
        if call in self.calls:
            self.calls.discard(call)
            yield fx.Resolve(call, value, error)

    def _step(self) -> int:
        return next(iter(self.tasks.values())).step

    def _finish(self, finished: Sequence[fx.Finished]) -> Steps[None]:
        for event in finished:
            event.task.writes = event.writes or _NOTHING
        if not (self.is_alone and finished[0].task.call is None and not self.children):
            yield fx.SaveWrites([self._kept(event.task) for event in finished])
        for event in finished:
            task = event.task
            if task.cache_key is not None and self.has_cache:
                yield fx.Remember(task)
            if task.call is not None:
                yield from self._answer(task.call, _returned(event.writes))
            if self.modes and not (self.is_alone and task.call is None):
                yield from self._show_end(task, event.writes or _NOTHING)

    def _kept(self, task: Task) -> TaskWrites:
        """What a finished task leaves: the questions it had asked stay on record with what it wrote."""
        writes = task.writes or ()
        if self.pending:
            writes = [*(write for write in self.pending.get(task.id, ()) if write[0] == INTERRUPT), *writes]
        if self.program.untracked:
            writes = tracked_writes(self.program, writes) or _NOTHING
        return _stored(task, writes)

    def show_alone(self) -> Steps[None]:
        """Show the end of the only task; called when its writes are as durable as the mode asks for."""
        if self.is_alone and self.modes:
            for task in self.tasks.values():
                if task.writes is not None and not task.is_cached:
                    yield from self._show_end(task, task.writes)

    def _park(self, event: fx.Interrupted) -> Steps[None]:
        task = event.task
        writes: list[Write] = [(INTERRUPT, list(event.interrupts))]
        writes += [write for write in self.pending.get(task.id, ()) if write[0] == RESUME]
        yield fx.SaveWrites([_stored(task, writes)])
        if task.call is not None:
            yield from self._answer(task.call, error=GraphInterrupt(event.interrupts))
            return
        self.parked[task.id] = event.interrupts
        if "updates" in self.modes:
            yield fx.Emit("updates", {INTERRUPT: tuple(event.interrupts)})
        if "values" in self.modes:
            yield fx.Emit("interrupts", (_values(task, self.outputs), tuple(event.interrupts)))
        if "tasks" in self.modes:
            yield fx.Emit("tasks", task_result_event(task, writes, self.program.stream_channels), task.step)

    def _failed(self, task: Task, error: BaseException) -> TaskWrites:
        """What is stored for a failed task: the error, with its questions and answers, so that it goes on from them.

        An answer that did not fit its question is left out: the question waits again.
        """
        kept: Sequence[Write] = [w for w in self.pending.get(task.id, ()) if w[0] in (INTERRUPT, RESUME)]
        refused = refused_answer(error)
        if refused is not None:
            kept = without(kept, task.ns, refused)
        return _stored(task, [*kept, (ERROR, error)])

    def _fail(self, task: Task, error: BaseException) -> Steps[None]:
        is_refused = refused_answer(error) is not None
        for policy in task.retry:
            if policy.matches(error) and not is_refused:
                if task.attempt < policy.max_attempts and self.error is None:
                    interval = policy.interval(task.attempt)
                    task.attempt += 1
                    yield fx.Start([task], interval, policy.jitter, is_alone=not self.running)
                    self.running.add(task)
                    return
                break
        if isinstance(error, ParentCommand):
            self.error = self.error or error
            return
        has_handler = task.node.error_handler is not None and task.error is None and not is_refused
        if task.call is not None:
            yield fx.SaveWrites([self._failed(task, error)])
            yield from self._answer(task.call, error=noted(error, task, self.place.thread_id))
        elif has_handler and isinstance(error, Exception):
            yield from self._handle(task, error)
            return
        else:
            yield fx.SaveWrites([self._failed(task, error)])
            self.error = self.error or noted(error, task, self.place.thread_id)
        if "tasks" in self.modes:
            yield fx.Emit("tasks", task_result_event(task, [(ERROR, error)], self.program.stream_channels), task.step)

    def _handle(self, task: Task, error: BaseException) -> Steps[None]:
        """Record that the task failed for good, durably; then run its error handler in this superstep."""
        writes: list[Write] = [(ERROR, error), (ERROR_SOURCE_NODE, task.name)]
        yield fx.SaveWrites([_stored(task, writes)], is_barrier=True)
        if "tasks" in self.modes:
            yield fx.Emit("tasks", task_result_event(task, writes[:1], self.program.stream_channels), task.step)
        yield from self._start([self.add_handler(task, error)])

    def add_handler(self, task: Task, error: BaseException) -> Task:
        """Replace a task that failed for good by its error handler's task."""
        task.writes = [(ERROR, error)]
        handler = plan_handler(self.program, self.place, task, error)
        self.tasks[handler.id] = handler
        self.is_alone = False
        stored = output_of(self.pending.get(handler.id, ()))
        if stored:
            handler.writes = stored
        handler.resume, handler.inside = given_answers(self.pending.get(handler.id, ()))
        return handler

    def _call(self, call: fx.Call) -> Steps[None]:
        task = plan_call(self.program, self.place, call)
        self.children[task.id] = task
        stored = self.pending.get(task.id, ())
        if output_of(stored):
            yield from self._answer(call, _returned(stored))
            return
        if self.has_cache and task.cache_key is not None:
            found: Mapping[str, Sequence[Write]] = yield fx.LookUp([task])
            if task.id in found:
                task.writes, task.is_cached = found[task.id], True
                yield fx.SaveWrites([_stored(task, found[task.id])])
                yield from self._answer(call, _returned(found[task.id]))
                yield from self._show_end(task, found[task.id])
                return
        news = answered(task.ns, stored, call.parent.inside or {})
        if news is not None:
            yield fx.SaveWrites([_stored(task, news)])
            self.pending = {**self.pending, task.id: news}
            stored = news
        task.resume, task.inside = given_answers(stored)
        if "tasks" in self.modes:
            yield fx.Emit("tasks", task_event(task, self.metadata), task.step)
        yield from self._start([task])

    def _stop(self, *, is_saving: bool) -> Steps[None]:
        """Cancel what runs and wait for its end; what still finished is saved, so that it is not repeated.

        Whoever waits for a child task is answered, whatever became of it: otherwise the caller could not end.
        """
        yield fx.Cancel()
        reason = self.error or RuntimeError("the run has been stopped")
        if not is_saving:
            for call in list(self.calls):
                yield from self._answer(call, error=reason)
        while self.running:
            events: Sequence[fx.Event] = yield fx.Wait()
            self._note(events)
            finished = [event.task for event in events if isinstance(event, fx.Finished)]
            for event in events:
                match event:
                    case fx.Finished(task, writes):
                        task.writes = writes or _NOTHING
                    case fx.Called(call):
                        yield from self._answer(call, error=reason)
                    case fx.Failed(task) | fx.Interrupted(task) | fx.Cancelled(task):
                        if task.call is not None:
                            yield from self._answer(task.call, error=reason)
                    case fx.TimedOut():
                        pass
                    case _:
                        assert_never(event)
            if finished and is_saving:
                yield fx.SaveWrites([self._kept(task) for task in finished])
            for task in finished:
                if task.call is not None:
                    yield from self._answer(task.call, _returned(task.writes or ()))

    def show_reused(self, task: Task) -> Steps[None]:
        """Show a task whose writes were stored by an earlier run."""
        yield from self._show_end(task, task.writes or _NOTHING)

    def _show_end(self, task: Task, writes: Sequence[Write]) -> Steps[None]:
        if task.node.hidden:
            return
        if "messages" in self.modes:
            yield fx.Emit("messages", (task, writes))
        if "updates" in self.modes and writes[0][0] != ERROR:
            yield fx.Emit("updates", update_event(task.name, writes, self.outputs, is_cached=task.is_cached))
        if "tasks" in self.modes and not task.is_cached:
            yield fx.Emit("tasks", task_result_event(task, writes, self.program.stream_channels), task.step)


def _stored(task: Task, writes: Sequence[Write]) -> TaskWrites:
    return TaskWrites(task.id, writes, path_text(task.path[:3]), task.name)


def _values(task: Task, outputs: str | tuple[str, ...]) -> Any:
    assert task.state is not None
    return read(task.state.channels, outputs)


def _returned(writes: Sequence[Write]) -> Any:
    return next((value for channel, value in writes if channel == RETURN), None)


def noted(error: BaseException, task: Task, thread_id: str) -> BaseException:
    """The same error, with a note that says in which node (or child task), superstep and thread it was raised."""
    thread = f", thread {thread_id!r}" if thread_id else ""
    note = f"in {'task' if task.call is not None else 'node'} {task.name!r}, superstep {task.step}{thread}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error
