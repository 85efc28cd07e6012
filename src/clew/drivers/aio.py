"""The asyncio driver: performs the engine's effects on the running loop, and awaits nodes.

A single async task is awaited in place, without a task of its own; several become asyncio tasks. Sync nodes run on
worker threads. When a node that is awaited in place calls a child task, an asyncio task goes on driving the engine
until the node has ended.

Invariant: the engine is driven by one coroutine at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future as ThreadFuture
from contextvars import Context, copy_context
from typing import Any, cast

from clew._scope import RunScope, TaskScope, current
from clew.drivers import _workers
from clew.drivers._attempts import ended
from clew.drivers._timeouts import limited
from clew.drivers._watched import watched
from clew.drivers.saving import Plan, Saving
from clew.drivers.sync import Output, Show, jitter, no_ids
from clew.engine import effects as fx
from clew.engine.attempt import addressed_here, attempt, node_writes
from clew.engine.program import Program
from clew.engine.project import update_event
from clew.engine.run import Outcome
from clew.engine.superstep import Steps
from clew.engine.task import Call, Task
from clew.errors import ParentCommand, StorageError, ThreadConflictError
from clew.ids import unsaved_ids
from clew.protocols import Hold


class AsyncDriver:
    """Drives one run on the running event loop; see `SyncDriver` for the arguments."""

    __slots__ = (
        "deadline", "engine", "has_cancelled", "helper", "inbox", "inline", "is_closed", "is_live", "limit",
        "loop", "next_id", "next_inline", "output", "program", "queue", "running", "running_calls", "saving", "scope",
        "show", "timed_step", "waiter",
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
        self.limit = limit
        self.loop = asyncio.get_running_loop()
        self.output: deque[Any] = deque()
        self.inbox: deque[Any] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.queue: deque[tuple[Task, float]] = deque()
        self.running: dict[Task, asyncio.Task[None]] = {}
        self.running_calls: set[Any] = set()
        self.inline: Task | None = None
        self.next_inline: tuple[Task, float] | None = None
        self.helper: asyncio.Task[None] | None = None
        self.has_cancelled = False
        self.is_closed = False
        self.deadline: float | None = None
        self.timed_step: int | None = None
        self.next_id = unsaved_ids() if saving is None else no_ids

    # -- driving ---------------------------------------------------------------------------------------------------

    async def drive(self, engine: Steps[Outcome]) -> AsyncGenerator[Any, None]:
        """Run the engine to its end, yielding what is to be seen, and last of all the `Outcome`."""
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
                    yield stop.value
                    return
                reply = error = None
                try:
                    if type(effect) is fx.Wait:
                        while not reply:
                            reply = await self._wait(effect.timeout)
                            while output:
                                yield output.popleft()
                    else:
                        reply = self._perform(effect)
                        if isinstance(reply, _Pending):
                            reply = await reply.work
                except GeneratorExit:
                    raise
                except BaseException as raised:
                    error = raised
                while output:
                    yield output.popleft()
        finally:
            if not has_ended:
                await self._leave(engine, reply)
            await self._close(engine)
            if not has_ended:
                await self._settle()

    async def finish(self, engine: Steps[Outcome]) -> Outcome:
        """Run the engine to its end with nobody watching."""
        self.engine = engine = watched(engine)
        has_ended = False
        reply: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    effect = engine.send(reply) if error is None else engine.throw(error)
                except StopIteration as stop:
                    has_ended = True
                    return stop.value
                reply = error = None
                try:
                    if type(effect) is fx.Wait:
                        while not reply:  # what a node shows wakes it, too
                            reply = await self._wait(effect.timeout)
                    else:
                        reply = self._perform(effect)
                        if isinstance(reply, _Pending):
                            reply = await reply.work
                except BaseException as raised:
                    error = raised
        finally:
            if not has_ended:
                await self._leave(engine, reply)
            await self._close(engine)
            if not has_ended:
                await self._settle()

    async def _leave(self, engine: Steps[Outcome], held: Any) -> None:
        """Let the engine stop what runs and save what still finishes; `held` are events it has not been told yet."""
        try:
            effect = engine.throw(fx.Left())
            while True:
                if type(effect) is fx.Wait:
                    events: list[fx.Event] | None = cast("list[fx.Event]", held) if isinstance(held, list) else None
                    held = None
                    reply: Any = events or await self._wait(effect.timeout)
                else:
                    reply = self._perform(effect)
                    if isinstance(reply, _Pending):
                        reply = await reply.work
                effect = engine.send(reply)
        except (StopIteration, fx.Left, StorageError):
            pass  # what could not be saved is said when the run settles

    async def _settle(self) -> None:
        """A run that was stopped early, or by an error of the engine: what it has done is saved all the same."""
        if self.saving is None or self.scope.ns:
            return
        is_closed = isinstance(sys.exception(), GeneratorExit)
        try:
            await self._flush(self.saving.flush(fx.Flush(is_final=True, is_failed=True)))
        except ThreadConflictError:
            pass  # another run goes on with the thread that this one was stopped on
        except Exception:
            if is_closed:  # else the error that stopped the run is on its way, and is the one to see
                raise

    async def _close(self, engine: Steps[Outcome]) -> None:
        self.queue.clear()
        if self.running:
            self._cancel()
            while self.running:
                await asyncio.wait(list(self.running.values()))
                await asyncio.sleep(0)
        self.is_closed = True
        for future in list(self.running_calls):
            _refuse(future)
        engine.close()

    def _perform(self, effect: fx.Effect) -> Any:
        match effect:
            case fx.Start():
                self._check_saved()
                hold = self.scope.hold
                if hold is not None and not hold.is_sure():
                    return _Pending(self._start_surely(effect, hold))
                self._start(effect)
            case fx.Commit():
                if self.saving is None:
                    return fx.Stamp(self.next_id(), "")
                return self._save(self.saving.commit(effect))
            case fx.Emit():
                self._check_saved()
                self.show(effect.mode, effect.data, effect.step)
            case fx.SaveWrites():
                return None if self.saving is None else self._save(self.saving.save_writes(effect))
            case fx.Load():
                return _Pending(self._load(effect))
            case fx.Claim():
                return None if self.saving is None else self._save(self.saving.claim(effect))
            case fx.Flush():
                return None if self.saving is None else _Pending(self._flush(self.saving.flush(effect)))
            case fx.Resolve():
                self._resolve(effect)
            case fx.LookUp():
                return _Pending(self._look_up(effect))
            case fx.Remember(task):
                key = task.cache_key
                assert key is not None
                return _Pending(
                    self.scope.cache.aset({self.scope.cache_place(key): (list(task.writes or ()), key.ttl)})
                )
            case fx.Cancel():
                self._cancel()
            case fx.Wait():
                raise AssertionError("waiting is done by drive")
        return None

    async def _load(self, effect: fx.Load) -> Any:
        assert self.saving is not None
        saved = await self.scope.saver.arun(
            self.saving.cursor.load(checkpoint_id=effect.checkpoint_id, from_ns=effect.from_ns)
        )
        self.saving.last_id = None if saved is None else saved.checkpoint_id
        return saved

    def _check_saved(self) -> None:
        """Raise if a save of this run has failed by now: then it starts nothing more and shows nothing more."""
        if self.saving is not None and self.scope.session.error is not None:
            raise self.scope.session.error

    def _save(self, plan: Plan) -> Any:
        if plan.op is not None:
            if plan.waits or self.scope.saver.is_behind(self.scope.session):
                return _Pending(self._save_and_wait(plan))
            self.scope.saver.submit(self.scope.session, plan.op)
        return plan.reply

    async def _save_and_wait(self, plan: Plan) -> Any:
        assert plan.op is not None
        await self.scope.saver.arun(plan.op)
        return plan.reply

    async def _flush(self, plans: list[Plan]) -> None:
        for plan in plans:
            if plan.op is not None:
                await self.scope.saver.arun(plan.op)
            elif plan.flushes and not self.scope.ns:
                await self.scope.saver.aflush(self.scope.session)

    async def _look_up(self, effect: fx.LookUp) -> dict[str, Any]:
        keyed = {t.id: self.scope.cache_place(t.cache_key) for t in effect.tasks if t.cache_key is not None}
        found = await self.scope.cache.aget(tuple(dict.fromkeys(keyed.values())))
        return {id: found[key] for id, key in keyed.items() if key in found}

    # -- running nodes ---------------------------------------------------------------------------------------------

    def _start(self, effect: fx.Start) -> None:
        delay = effect.delay + (jitter() if effect.has_jitter else 0.0)
        tasks = effect.tasks
        if self.program.step_timeout is not None and tasks[0].step != self.timed_step:
            self.timed_step = tasks[0].step
            self.deadline = self.loop.time() + self.program.step_timeout
        if effect.is_alone and not self.is_live and self.program.step_timeout is None:
            self.next_inline = (tasks[0], delay)
        elif self.limit is None or tasks[0].call is not None:
            for task in tasks:
                self._spawn(task, delay)
        else:
            self.queue.extend((task, delay) for task in tasks)
            self._spawn_queued()

    async def _start_surely(self, effect: fx.Start, hold: Hold) -> None:
        """Start when it is known again that the run is still this process's, which was stopped for a while."""
        await hold.made_sure()
        self._check_saved()
        self._start(effect)

    def _spawn_queued(self) -> None:
        while self.queue and (self.limit is None or len(self.running) < self.limit):
            self._spawn(*self.queue.popleft())

    def _spawn(self, task: Task, delay: float) -> None:
        context = copy_context()
        self.running[task] = self.loop.create_task(self._run(task, delay), context=context)

    async def _run(self, task: Task, delay: float) -> None:
        try:
            if delay:
                await asyncio.sleep(delay)
            writes = await self._attempt(task, None)
        except BaseException as error:
            self._ended(task, ended(task, error, is_cancelled=self.has_cancelled))
        else:
            self._ended(task, fx.Finished(task, writes))

    def _ended(self, task: Task, event: fx.Event) -> None:
        self.running.pop(task, None)
        self._put(event)
        if self.queue and not self.has_cancelled:
            self._spawn_queued()

    async def _attempt(self, task: Task, context: Context | None) -> list[tuple[str, Any]]:
        scope = TaskScope(self.scope, task)
        scope.call = self._called
        if context is None:
            current.set(scope)
        else:
            context.run(current.set, scope)
        work = self._body(task, scope, context)
        if task.timeout is not None:
            work = limited(work, task, scope)
        observer = self.scope.observer
        if observer is None or task.node.hidden:
            return await work
        attempt = observer.start(task, _call if context is None else context.run)
        try:
            writes = await work
        except BaseException as error:
            attempt.failed(error)
            raise
        attempt.finished()
        return writes

    async def _body(self, task: Task, scope: TaskScope, context: Context | None) -> list[tuple[str, Any]]:
        run = self.scope
        if (run.trace is None and not run.has_langchain) or task.node.hidden:
            return await self._steps(task, scope, context)
        from clew import _langchain  # late: only when langchain-core is in use

        config = scope.config()
        child = None
        if run.trace is not None:
            child = await run.trace.astart_child(config, task.name, task.input, f"graph:step:{task.step}")
            config = child.config
            scope.callbacks = config["callbacks"]
        (context.run if context is not None else _call)(_langchain.set_child_config, config)
        try:
            writes = await self._steps(task, scope, context)
        except BaseException as error:
            if child is not None:
                await child.afail(error)
            raise
        if child is not None:
            shown = update_event(task.name, writes, self.program.stream_channels, is_cached=False)
            await child.aend(shown[task.name])
        return writes

    async def _steps(self, task: Task, scope: TaskScope, context: Context | None) -> list[tuple[str, Any]]:
        node = task.node
        if not node.branches and node.body.arun is not None:  # the common case, without a generator
            try:
                if context is None:
                    result = await node.body.arun(task.input, scope)
                else:
                    result = await _InContext(context.run(node.body.arun, task.input, scope), context)
            except ParentCommand as up:
                result = addressed_here(up)
            return node_writes(task, result, scope.explicit)
        steps = attempt(self.program, task, scope.explicit)
        body, given = next(steps)
        while True:
            try:
                if body.arun is not None:
                    if context is None:
                        result = await body.arun(given, scope)
                    else:
                        result = await _InContext(context.run(body.arun, given, scope), context)
                else:
                    assert body.run is not None
                    result = await self._on_thread(body.run, given, scope, context)
            except ParentCommand as up:
                advance, argument = steps.throw, up
            else:
                advance, argument = steps.send, result
            try:
                body, given = advance(argument)
            except StopIteration as stop:
                return stop.value

    def _on_thread(
        self, function: Callable[..., Any], given: Any, scope: TaskScope, context: Context | None
    ) -> asyncio.Future[Any]:
        """Run a sync function on a worker thread, in the task's context."""
        loop = self.loop
        future: asyncio.Future[Any] = loop.create_future()
        own = copy_context() if context is None else context.copy()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                setter(value)

        def work() -> None:
            try:
                setter, value = future.set_result, own.run(function, given, scope)
            except StopIteration as error:
                setter, value = future.set_exception, RuntimeError(f"node raised {error!r}")
            except BaseException as error:
                setter, value = future.set_exception, error
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                loop.call_soon_threadsafe(settle, setter, value)

        _workers.submit(work)
        return future

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _wait(self, timeout: float | None) -> list[fx.Event]:
        if self.next_inline is not None:
            task, delay = self.next_inline
            self.next_inline = None
            return [await self._run_inline(task, delay)]
        while not self.inbox:
            self.waiter = self.loop.create_future()
            remaining = None
            if timeout is not None and self.deadline is not None:
                remaining = max(0.0, self.deadline - self.loop.time())
            try:
                if remaining is None:
                    await self.waiter
                else:
                    await asyncio.wait_for(self.waiter, remaining)
            except TimeoutError:
                self.deadline = None
                return [fx.TimedOut()]
            finally:
                self.waiter = None
        events: list[fx.Event] = []
        while self.inbox:
            item = self.inbox.popleft()
            if type(item) is Output:
                self.output.append(item.data)
            elif item is not _STOP:  # left over when the helper ended by itself
                events.append(item)
        return events

    async def _run_inline(self, task: Task, delay: float) -> fx.Event:
        context = copy_context()
        self.inline = task
        try:
            if delay:
                await asyncio.sleep(delay)
            event: fx.Event = fx.Finished(task, await self._attempt(task, context))
        except asyncio.CancelledError as error:
            current_task = asyncio.current_task()
            if current_task is not None and current_task.cancelling():
                if self.helper is not None:
                    await self._take_over()
                self._put(fx.Cancelled(task))  # the engine stops by waiting for the end of what it started
                raise
            event = ended(task, error)
        except BaseException as error:
            event = ended(task, error)
        finally:
            self.inline = None
        if self.helper is not None:
            try:
                await self._take_over()
            except BaseException:
                self._put(event)  # the engine hears of the error first
                raise
        return event

    def _put(self, item: Any) -> None:
        self.inbox.append(item)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def put_live(self, chunk: Any) -> None:
        """Show something from a running node, from any thread."""
        if _is_on(self.loop):
            self._put(Output(chunk))
        else:
            self.loop.call_soon_threadsafe(self._put, Output(chunk))

    def _cancel(self) -> None:
        self.has_cancelled = True
        dropped = [task for task, _ in self.queue]
        self.queue.clear()
        for task in dropped:
            self._put(fx.Cancelled(task))
        if self.next_inline is not None:
            self._put(fx.Cancelled(self.next_inline[0]))
            self.next_inline = None
        for running in self.running.values():
            running.cancel()

    # -- child tasks -----------------------------------------------------------------------------------------------

    def _called(self, call: Call) -> Any:
        """Start a child task; gives an asyncio future on the loop's thread, a thread future elsewhere."""
        if _is_on(self.loop):
            future: Any = self.loop.create_future()
            call.future = future
            self._accept(call)
            return future
        call.future = ThreadFuture()
        self.loop.call_soon_threadsafe(self._accept, call)
        return call.future

    def _accept(self, call: Call) -> None:
        if self.is_closed or (self.helper is not None and self.helper.done()):
            _refuse(call.future)
            return
        self.running_calls.add(call.future)
        if self.inline is not None and self.helper is None:
            self.helper = self.loop.create_task(self._pump())
        self._put(fx.Called(call))

    def _resolve(self, effect: fx.Resolve) -> None:
        future = effect.call.future
        self.running_calls.discard(future)
        if future.cancelled() or future.done():
            return
        if effect.error is not None:
            future.set_exception(effect.error)
            if isinstance(future, asyncio.Future):
                future.exception()  # a caller that never awaits it is not worth a warning
        else:
            future.set_result(effect.value)

    async def _pump(self) -> None:
        """Drive the engine while a node awaited in place waits for its child tasks."""
        reply: Any = None
        try:
            while True:
                events = await self._events()
                if not events:
                    return
                effect = self.engine.send(events)
                while type(effect) is not fx.Wait:
                    reply = self._perform(effect)
                    if isinstance(reply, _Pending):
                        reply = await reply.work
                    effect = self.engine.send(reply)
        except BaseException as error:
            for future in list(self.running_calls):
                if not future.done():
                    future.set_exception(error)
            raise

    async def _events(self) -> list[fx.Event]:
        """Events for the engine; none when the driver takes over again."""
        while not self.inbox:
            self.waiter = self.loop.create_future()
            await self.waiter
            self.waiter = None
        events: list[fx.Event] = []
        while self.inbox:
            item = self.inbox.popleft()
            if item is _STOP:
                return events if events and self._requeue() else []
            if type(item) is Output:
                self.output.append(item.data)
            else:
                events.append(item)
        return events

    def _requeue(self) -> bool:
        self.inbox.appendleft(_STOP)
        return True

    async def _take_over(self) -> None:
        assert self.helper is not None
        helper, self.helper = self.helper, None
        self._put(_STOP)
        await helper


_STOP = object()


def _refuse(future: Any) -> None:
    """Answer a call of a child task that will not run any more, so that a caller on another thread can end."""
    if not future.done():
        future.set_exception(RuntimeError("the run has been stopped"))
        if isinstance(future, asyncio.Future):
            future.exception()  # its caller was cancelled: nobody awaits it


class _Pending:
    """A reply that has to be awaited."""

    __slots__ = ("work",)

    def __init__(self, work: Awaitable[Any]) -> None:
        self.work = work


class _InContext:
    """Awaits a coroutine in place, running each of its steps in a context of its own."""

    __slots__ = ("context", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self.coroutine = coroutine
        self.context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self.context.run
        steps = self.coroutine if hasattr(self.coroutine, "send") else self.coroutine.__await__()
        step: Callable[..., Any] = steps.send
        argument: Any = None
        while True:
            try:
                waiting = run(step, argument)
            except StopIteration as stop:
                return stop.value
            try:
                argument = yield waiting
                step = steps.send
            except BaseException as error:
                argument, step = error, steps.throw


def _call(function: Callable[..., Any], argument: Any) -> Any:
    return function(argument)


def _is_on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
