"""The blocking driver: performs the engine's effects on the caller's thread, and runs nodes.

A single task runs inline, on the caller's thread. Several run on worker threads. When an inline node calls a child
task, a second thread goes on driving the engine until the node has ended.

Invariant: only one thread drives the engine at a time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from clew._scope import RunScope, TaskScope, current
from clew.drivers import _workers
from clew.drivers._attempts import ended
from clew.drivers._watched import watched
from clew.drivers.saving import Plan, Saving
from clew.engine import effects as fx
from clew.engine.attempt import addressed_here, attempt, node_writes
from clew.engine.program import Program
from clew.engine.project import update_event
from clew.engine.run import Outcome
from clew.engine.superstep import Steps
from clew.engine.task import Call, Task
from clew.errors import ParentCommand, StorageError, ThreadConflictError
from clew.ids import unsaved_ids

if TYPE_CHECKING:
    from concurrent.futures import Future

Show = Callable[[str, Any, int], None]
MAX_CONCURRENCY = 32
_STOP = object()


class SyncDriver:
    """Drives one run. `is_live`: someone reads custom events, messages or nested graphs while nodes run.

    `show` takes (mode, data) of what the engine emits; it and live events fill `output`, which `drive` yields from.
    """

    __slots__ = (
        "active", "cancelled", "deadline", "engine", "helper", "inbox", "inline", "is_live", "limit", "lock",
        "next_id", "next_inline", "output", "program", "pump_error", "queue", "running_calls", "saving", "scope",
        "show", "timed_step",
    )  # fmt: skip

    def __init__(
        self,
        program: Program,
        scope: RunScope,
        saving: Saving | None,
        show: Show,
        *,
        is_live: bool = False,
        limit: int | None = None,
    ) -> None:
        self.program = program
        self.scope = scope
        self.saving = saving
        self.show = show
        self.is_live = is_live
        self.limit = limit or MAX_CONCURRENCY
        self.output: deque[Any] = deque()
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.queue: deque[tuple[Task, float]] = deque()
        self.lock = threading.Lock()
        self.active = 0
        self.inline: Task | None = None
        self.next_inline: tuple[Task, float] | None = None
        self.helper: threading.Thread | None = None
        self.pump_error: BaseException | None = None
        self.running_calls: set[Future[Any]] = set()
        self.cancelled = threading.Event()
        self.deadline: float | None = None
        self.timed_step: int | None = None
        self.next_id = unsaved_ids() if saving is None else no_ids

    # -- driving ---------------------------------------------------------------------------------------------------

    def drive(self, engine: Steps[Outcome]) -> Generator[Any, None, Outcome]:
        """Run the engine to its end, yielding what is to be seen; the outcome is the generator's return value."""
        self.engine = engine = watched(engine)
        has_ended = False
        output = self.output
        reply: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    effect = engine.send(reply) if error is None else engine.throw(error)
                except StopIteration as stop:
                    has_ended = True
                    while output:
                        yield output.popleft()
                    return stop.value
                reply = error = None
                try:
                    if type(effect) is fx.Wait:
                        while not reply:
                            reply = self._wait(effect.timeout)
                            while output:
                                yield output.popleft()
                    else:
                        reply = self._perform(effect)
                except GeneratorExit:
                    raise
                except BaseException as raised:
                    error = raised
                while output:
                    yield output.popleft()
        finally:
            if not has_ended:
                self._leave(engine, reply)
            self._close(engine)
            if not has_ended:
                self._settle()

    def _leave(self, engine: Steps[Outcome], held: Any) -> None:
        """Let the engine stop what runs and save what still finishes; `held` are events it has not been told yet."""
        try:
            effect = engine.throw(fx.Left())
            while True:
                if type(effect) is fx.Wait:
                    events: list[fx.Event] | None = cast("list[fx.Event]", held) if isinstance(held, list) else None
                    held = None
                    effect = engine.send(events or self._wait(effect.timeout))
                else:
                    effect = engine.send(self._perform(effect))
        except (StopIteration, fx.Left, StorageError):
            pass  # what could not be saved is said when the run settles

    def _settle(self) -> None:
        """A run that was stopped early, or by an error of the engine: what it has done is saved all the same."""
        if self.saving is None or self.scope.ns:
            return
        is_closed = isinstance(sys.exception(), GeneratorExit)
        try:
            for plan in self.saving.flush(fx.Flush(is_final=True, is_failed=True)):
                self._save(plan)
        except ThreadConflictError:
            pass  # another run goes on with the thread that this one was stopped on
        except Exception:
            if is_closed:  # else the error that stopped the run is on its way, and is the one to see
                raise

    def _close(self, engine: Steps[Outcome]) -> None:
        """Whoever reads has gone away, or the run has ended: nothing may go on running."""
        self._cancel()
        for future in list(self.running_calls):
            _refuse(future)
        while self.active:
            event = self.inbox.get()
            if type(event) is fx.Called:
                _refuse(event.call.future)
        engine.close()

    def _perform(self, effect: fx.Effect) -> Any:
        match effect:
            case fx.Start():
                self._check_saved()
                self._start(effect)
            case fx.Commit():
                if self.saving is None:
                    return fx.Stamp(self.next_id(), "")
                return self._save(self.saving.commit(effect))
            case fx.Emit():
                self._check_saved()
                self.show(effect.mode, effect.data, effect.step)
            case fx.SaveWrites():
                if self.saving is not None:
                    self._save(self.saving.save_writes(effect))
            case fx.Load():
                assert self.saving is not None
                saved = self.scope.saver.run(
                    self.saving.cursor.load(checkpoint_id=effect.checkpoint_id, from_ns=effect.from_ns)
                )
                self.saving.last_id = None if saved is None else saved.checkpoint_id
                return saved
            case fx.Claim():
                if self.saving is not None:
                    self._save(self.saving.claim(effect))
            case fx.Flush():
                if self.saving is not None:
                    for plan in self.saving.flush(effect):
                        self._save(plan)
            case fx.Resolve():
                self._resolve(effect)
            case fx.LookUp():
                return self._look_up(effect)
            case fx.Remember(task):
                key = task.cache_key
                assert key is not None
                self.scope.cache.set({self.scope.cache_place(key): (list(task.writes or ()), key.ttl)})
            case fx.Cancel():
                self._cancel()
            case fx.Wait():
                raise AssertionError("waiting is done by drive")
        return None

    def _check_saved(self) -> None:
        """Raise if a save of this run has failed by now: then it starts nothing more and shows nothing more."""
        if self.saving is not None and self.scope.session.error is not None:
            raise self.scope.session.error

    def _save(self, plan: Plan) -> Any:
        if plan.op is not None:
            if plan.waits:
                self.scope.saver.run(plan.op)
            else:
                self.scope.saver.submit(self.scope.session, plan.op)
        elif plan.flushes and not self.scope.ns:
            self.scope.saver.flush(self.scope.session)
        return plan.reply

    def _look_up(self, effect: fx.LookUp) -> dict[str, Any]:
        keyed = {t.id: self.scope.cache_place(t.cache_key) for t in effect.tasks if t.cache_key is not None}
        found = self.scope.cache.get(tuple(dict.fromkeys(keyed.values())))
        return {id: found[key] for id, key in keyed.items() if key in found}

    # -- running nodes ---------------------------------------------------------------------------------------------

    def _start(self, effect: fx.Start) -> None:
        delay = effect.delay + (jitter() if effect.has_jitter else 0.0)
        tasks = effect.tasks
        if self.program.step_timeout is not None and tasks[0].step != self.timed_step:
            self.timed_step = tasks[0].step
            self.deadline = time.monotonic() + self.program.step_timeout
        if effect.is_alone and not self.is_live and self.program.step_timeout is None:
            self.next_inline = (tasks[0], delay)
            return
        with self.lock:
            self.active += len(tasks)
            if tasks[0].call is not None:  # its caller holds a thread: it gets one of its own, and goes first
                self.queue.extendleft((task, delay) for task in tasks)
            else:
                self.queue.extend((task, delay) for task in tasks)
        if tasks[0].call is not None:
            _workers.submit(self._work_once)
        else:
            _workers.submit(lambda: self._work(len(tasks)))

    def _work(self, waiting: int) -> None:
        """Run queued tasks until there are none; brings in one more thread first, if there is work for it."""
        if waiting > 1 and self.limit > 1:
            self._bring_in(self.limit - 1)
        while self._work_next():
            pass

    def _bring_in(self, remaining: int) -> None:
        def work() -> None:
            if remaining > 1 and len(self.queue) > 1:
                self._bring_in(remaining - 1)
            while self._work_next():
                pass

        if self.queue:
            _workers.submit(work)

    def _work_once(self) -> None:
        self._work_next()

    def _work_next(self) -> bool:
        try:
            task, delay = self.queue.popleft()
        except IndexError:
            return False
        if delay and self.cancelled.wait(delay):
            self._report(fx.Cancelled(task))
            return True
        self._report(self._attempt(task))
        return True

    def _report(self, event: fx.Event) -> None:
        with self.lock:
            self.active -= 1
        self.inbox.put(event)

    def _attempt(self, task: Task) -> fx.Event:
        scope = TaskScope(self.scope, task)
        scope.call = self._called
        try:
            return fx.Finished(task, copy_context().run(run_attempt, self.program, task, scope))
        except BaseException as error:
            return ended(task, error)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> list[fx.Event]:
        """Events that have come in; runs the inline task if there is one. May be empty when there is output to show."""
        if self.next_inline is not None:
            task, delay = self.next_inline
            if delay:
                time.sleep(delay)
            self.next_inline = None
            return [self._run_inline(task)]
        remaining = None
        if timeout is not None and self.deadline is not None:
            remaining = max(0.0, self.deadline - time.monotonic())
        try:
            first = self.inbox.get(timeout=remaining)
        except Empty:
            self.deadline = None
            return [fx.TimedOut()]
        events: list[fx.Event] = []
        while True:
            if type(first) is Output:
                self.output.append(first.data)
            elif first is not _STOP:  # left over when the helper ended by itself
                events.append(first)
            if self.inbox.empty():
                return events
            first = self.inbox.get()

    def _run_inline(self, task: Task) -> fx.Event:
        self.inline = task
        event = self._attempt(task)
        self.inline = None
        if self.helper is not None:
            try:
                self._take_over()
            except BaseException:
                self.inbox.put(event)  # the engine hears of the error first
                raise
        return event

    def put_live(self, chunk: Any) -> None:
        """Show something from a running node's thread."""
        self.inbox.put(Output(chunk))

    def _cancel(self) -> None:
        self.cancelled.set()
        with self.lock:
            dropped = [task for task, _ in self.queue]
            self.queue.clear()
        for task in dropped:
            self._report(fx.Cancelled(task))
        if self.next_inline is not None:
            self.inbox.put(fx.Cancelled(self.next_inline[0]))
            self.next_inline = None

    # -- child tasks -----------------------------------------------------------------------------------------------

    def _called(self, call: Call) -> Future[Any]:
        from concurrent.futures import Future  # late: start-up time of graphs that call no tasks

        future: Future[Any] = Future()
        call.future = future
        with self.lock:
            if self.pump_error is not None:
                _refuse(future)
                return future
            self.running_calls.add(future)
            if self.inline is not None and self.helper is None:
                self.helper = threading.Thread(target=self._pump, name="clew-engine", daemon=True)
                self.helper.start()
        self.inbox.put(fx.Called(call))
        return future

    def _resolve(self, effect: fx.Resolve) -> None:
        future: Future[Any] = effect.call.future
        self.running_calls.discard(future)
        if future.done() or not future.set_running_or_notify_cancel():
            return
        if effect.error is not None:
            future.set_exception(effect.error)
        else:
            future.set_result(effect.value)

    def _pump(self) -> None:
        """Drive the engine while the caller's thread is inside an inline node that has called child tasks."""
        try:
            while True:
                event = self.inbox.get()
                if event is _STOP:
                    return
                if type(event) is Output:
                    self.output.append(event.data)
                    continue
                effect = self.engine.send([event])
                while type(effect) is not fx.Wait:
                    effect = self.engine.send(self._perform(effect))
        except BaseException as error:
            with self.lock:
                self.pump_error = error
                calls = list(self.running_calls)
            for future in calls:
                if not future.done():
                    future.set_exception(error)

    def _take_over(self) -> None:
        assert self.helper is not None
        self.inbox.put(_STOP)
        self.helper.join()
        self.helper = None
        if self.pump_error is not None:
            error, self.pump_error = self.pump_error, None
            raise error


def no_ids() -> str:
    """What gives ids to unsaved checkpoints, in a run that has none."""
    raise AssertionError("a saved run gets its ids from storage")


def jitter() -> float:
    """Up to a second, so that many runs that fail at once do not come back at once."""
    import random  # late: start-up time

    return random.random()


def _refuse(future: Future[Any]) -> None:
    """Answer a call of a child task that will not run any more, so that its caller can end."""
    if not future.done():
        future.set_exception(RuntimeError("the run has been stopped"))


class Output:
    """Something to show, on its way from a node's thread to the thread that drives."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


def run_attempt(program: Program, task: Task, scope: TaskScope) -> list[tuple[str, Any]]:
    """Run one attempt in the current context, which must be the task's own."""
    current.set(scope)
    observer = scope.run.observer
    if observer is None or task.node.hidden:
        return _attempted(program, task, scope)
    attempt = observer.start(task, _call)
    try:
        writes = _attempted(program, task, scope)
    except BaseException as error:
        attempt.failed(error)
        raise
    attempt.finished()
    return writes


def _call(function: Callable[..., Any], argument: Any) -> Any:
    return function(argument)


def _attempted(program: Program, task: Task, scope: TaskScope) -> list[tuple[str, Any]]:
    if (scope.run.trace is not None or scope.run.has_langchain) and not task.node.hidden:
        return _traced(program, task, scope)
    return _steps(program, task, scope)


def _steps(program: Program, task: Task, scope: TaskScope) -> list[tuple[str, Any]]:
    node = task.node
    if not node.branches and node.body.run is not None:  # the common case, without a generator
        try:
            result = node.body.run(task.input, scope)
        except ParentCommand as up:
            result = addressed_here(up)
        return node_writes(task, result, scope.explicit)
    steps = attempt(program, task, scope.explicit)
    body, given = next(steps)
    while True:
        run = body.run
        if run is None:
            raise TypeError(f"node {task.name!r} is async only; use ainvoke, astream or abatch")
        try:
            result = run(given, scope)
        except ParentCommand as up:
            advance, argument = steps.throw, up
        else:
            advance, argument = steps.send, result
        try:
            body, given = advance(argument)
        except StopIteration as stop:
            return stop.value


def _traced(program: Program, task: Task, scope: TaskScope) -> list[tuple[str, Any]]:
    from clew import _langchain  # late: only when langchain-core is in use

    config = scope.config()
    run = scope.run.trace
    child = run.start_child(config, task.name, task.input, f"graph:step:{task.step}") if run is not None else None
    if child is not None:
        config = child.config
        scope.callbacks = config["callbacks"]
    _langchain.set_child_config(config)
    try:
        writes = _steps(program, task, scope)
    except BaseException as error:
        if child is not None:
            child.fail(error)
        raise
    if child is not None:
        child.end(update_event(task.name, writes, program.stream_channels, is_cached=False)[task.name])
    return writes
