"""A worker: takes runs that can start, executes each as a task of the event loop, and ends it under its lease.

A run is this worker's from its claim until it has ended, until the heartbeat finds that it is not any more, or until
the worker goes away and gives it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from clew.errors import ClewError, RunNotFoundError
from clew.server.errors import log
from clew.server.formats import encoded
from clew.server.metrics import Metrics
from clew.server.protocol.record import Record
from clew.server.registry import Registry
from clew.server.work.execution import Ending, Execution
from clew.server.work.feeds import End, Feed, Feeds
from clew.server.work.heartbeat import Heartbeat, Renewed
from clew.server.work.queue import RunQueue
from clew.server.work.recorder import OUTPUT, Recorder
from clew.server.work.signals import Signals, thread_key
from clew.server.work.stamps import base_of
from clew.server.work.strangers import Strangers
from clew.server.work.thread_feeds import ASKED, ENDED, INPUT, ThreadFeeds
from clew.storage.runs import Action, Event, Lease, RunRow
from clew.store.base import BaseStore

_SOON = 0.02  # seconds
_TAKING = 2.0  # seconds
Why = Literal["interrupt", "rollback", "lost", "leaving"]
_WANTED = 10.0  # seconds after which a reader on another replica that has not said so again is gone
_WANTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """How a process works on runs. Times in seconds.

    `max_runs` is how many runs are executed at once; 0: none, requests only. A run whose lease of `lease` is not
    renewed is taken over; it is renewed every `renew`. `poll` is how often the table is looked at where no signal
    comes. A run is given up when it was lost with its worker `max_attempts` times.
    """

    max_runs: int = 64
    lease: float = 2.5
    renew: float = 0.5
    poll: float = 0.5
    max_attempts: int = 3

    def __post_init__(self) -> None:
        if self.max_runs < 0 or self.max_attempts < 1 or self.poll <= 0 or not 0 < self.renew < self.lease:
            raise ValueError(f"these settings of a worker make no sense: {self}")


def _nobody() -> None:
    """Nobody waits for what is to be told."""


@dataclass(slots=True)
class _Job:
    run: RunRow
    feed: Feed
    began_at: float
    outer: asyncio.Task[None] | None = None
    inner: asyncio.Task[Ending] | None = None
    why: Why | None = None
    strays: int = field(default=0)

    def stop(self, why: Why) -> None:
        if self.why is None or why == "lost":
            self.why = why
        if self.inner is not None:
            self.inner.cancel()


@dataclass(frozen=True, slots=True)
class _Hold:
    """The lease on the run of a job. A process that was stopped for longer than it lasts starts no node with it."""

    worker: Worker
    job: _Job

    def is_sure(self) -> bool:
        return self.worker.is_sure(self.job)

    async def made_sure(self) -> None:
        await self.worker.made_sure(self.job)


class Worker:
    """Executes runs in this process."""

    def __init__(
        self,
        queue: RunQueue,
        registry: Registry,
        store: BaseStore | None,
        metrics: Metrics,
        signals: Signals,
        settings: WorkSettings,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.settings = settings
        self.queue = queue
        self.signals = signals
        self.feeds = Feeds(queue, signals)
        self.on_told: Callable[[], object] = _nobody  # a run has ended that a webhook is to be told of
        self.threads = ThreadFeeds(queue, self.feeds, signals)
        self._metrics = metrics
        self._execution = Execution(queue, registry, store, self.id)
        self._jobs: dict[str, _Job] = {}
        self._strays: dict[str, int] = {}
        self._wanted: dict[str, float] = {}
        self._strangers = Strangers(registry)
        self._lease = int(settings.lease * 1_000_000)
        self._renewed_at = 0.0  # on this process's clock, of what it has seen to
        self._is_leaving = False
        self._woken: asyncio.Event | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._heartbeat = Heartbeat(
            settings.renew, lambda: list(self._jobs) + list(self._strays), self._renew, self._on_renewed
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to take runs."""
        if self._claiming is not None or self._is_leaving:
            return
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self.signals.on_work = self.wake
        self.signals.on_cancel = self._on_cancel
        self.signals.on_wanted = self._on_wanted
        self.signals.start()
        if self.settings.max_runs:
            self._metrics.slots(self.settings.max_runs)
            self._claiming = self._loop.create_task(self._claim_forever())

    async def drain(self, grace: float) -> None:
        """Take no more runs, give those that run `grace` seconds to end, and hand the others back."""
        self._is_leaving = True
        if self._claiming is not None:
            self.wake()
            await asyncio.wait([self._claiming], timeout=_TAKING)  # what is being taken is to be given back, too
            self._claiming.cancel()
            await asyncio.wait([self._claiming])
        deadline = time.monotonic() + grace
        while self._jobs and time.monotonic() < deadline:
            outers = [job.outer for job in self._jobs.values() if job.outer is not None]
            await asyncio.wait(outers, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        for job in self._jobs.values():
            job.stop("leaving")
        outers = [job.outer for job in self._jobs.values() if job.outer is not None]
        if outers:
            await asyncio.wait(outers, timeout=5)
        try:
            if await self.queue.release(self.id):
                self.signals.work()
        except ClewError as error:
            log.warning("runs could not be handed back, they will be taken over: %s", error)
        self._heartbeat.stop()
        await self.signals.stop()

    @property
    def lease(self) -> Lease | None:
        """For a run that is to start here at once; None where there is no room for it."""
        if self._claiming is None or self._is_leaving or len(self._jobs) >= self.settings.max_runs:
            return None
        return Lease(self.id, self._lease)

    def is_sure(self, job: _Job) -> bool:
        """Whether a run is still this worker's, by its own clock."""
        return time.monotonic() - max(job.began_at, self._renewed_at) < self.settings.lease

    async def made_sure(self, job: _Job) -> None:
        """Wait until it is known that a run is still this worker's; cancelled if it is not."""
        while not self.is_sure(job):
            self._heartbeat.hurry()
            await asyncio.sleep(_SOON)

    def has(self, run_id: str) -> bool:
        """Whether a run is executed here."""
        return run_id in self._jobs

    def wake(self) -> None:
        """Look for runs that can start."""
        if self._woken is not None:
            self._woken.set()

    def begin(self, run: RunRow) -> bool:
        """Execute a run that was given to this worker; False: it is going away, and the run is to be given back."""
        known = self._jobs.get(run.run_id)
        if known is not None and known.run.epoch >= run.epoch:
            return True
        if self._is_leaving:
            return False
        self._strays.pop(run.run_id, None)
        feed = Feed(1) if run.is_repeated else self.feeds.open(run.run_id, Feed(1))
        job = self._jobs[run.run_id] = _Job(run, feed, time.monotonic())
        if run.cancel is not None:
            job.why = "rollback" if run.cancel == "rollback" else "interrupt"
        self._metrics.run_started(waited(run))
        task = job.outer = asyncio.get_running_loop().create_task(self._work(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._heartbeat.beat()
        thread = thread_key(run.tenant, run.thread)
        if self._wanted.get(thread, -_WANTED) > time.monotonic() - _WANTED:
            self.signals.show(thread)  # readers of the whole thread wait for its next run
        else:
            self._wanted.pop(thread, None)
            self.signals.wake(thread)
        return True

    # Taking runs

    async def _claim_forever(self) -> None:
        assert self._woken is not None
        swept_at = 0.0
        while not self._is_leaving:
            try:
                now = time.monotonic()
                if now - swept_at >= self.settings.poll:
                    swept_at = now
                    await self._sweep()
                await self._claim()
            except ClewError as error:
                log.warning("the table of runs cannot be read: %s", error)
            except Exception:
                log.exception("taking runs failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.poll):  # `wait_for` may swallow a cancellation
                    await self._woken.wait()
            self._woken.clear()

    async def _claim(self) -> None:
        while (free := self.settings.max_runs - len(self._jobs)) > 0:
            # A run that is lost once more is given up: of these one at a time, so that the one which kills its workers
            # takes no other along.
            last = max(1, self.settings.max_attempts - 1)
            is_trying = any(job.run.attempt > last for job in self._jobs.values())
            runs, others = await self.queue.claim(
                self.id,
                self._lease,
                free,
                last,
                takes_last=not is_trying,
                passed=self._strangers.passed(),
                is_meant=self._strangers.is_meant,
            )
            for run in runs:
                self.begin(run)
            self._strangers.leave(others)
            if len(runs) + len(others) < free:
                return

    async def _sweep(self) -> None:
        swept = await self.queue.sweep(self.settings.max_attempts)
        self._metrics.runs_retried(len(swept.waiting))
        self._metrics.runs_dead(len(swept.dead))
        for run in swept.waiting:
            log.warning("run %s on thread %r lost its worker, and waits again", run.run_id, run.thread)
        for run in swept.dead:
            log.error("run %s on thread %r was lost %d times, and is given up", run.run_id, run.thread, run.attempt)
        for run in (*swept.dead, *swept.cancelled):
            self.signals.show(run.run_id)

    # Executing one

    async def _work(self, job: _Job) -> None:
        run = job.run
        try:
            ending = await self._executed(job)
            if ending is not None:
                self._metrics.run_ended(ending.status, time.monotonic() - job.began_at)
            else:
                self._metrics.run_left()
        except ClewError as error:
            log.warning("run %s could not be gone on with, and will be taken over: %s", run.run_id, error)
            self._metrics.run_left()
        except Exception:
            log.exception("run %s could not be gone on with, and will be taken over", run.run_id)
            self._metrics.run_left()
        finally:
            if job.feed.end is None:
                job.feed.lose()
            if self._jobs.get(run.run_id) is job:
                del self._jobs[run.run_id]
            self.feeds.drop(run.run_id, job.feed)
            if run.run_id in self._wanted:
                self.signals.show(run.run_id)
                self._wanted.pop(run.run_id, None)

    async def _executed(self, job: _Job) -> Ending | None:
        """Run, and store how it ended; None if the run is not this worker's to end."""
        run = job.run
        base = run.updated_at
        if run.is_repeated:  # another worker had it before, and may have shown something
            job.feed.last = await self.queue.last_event(run)
            base = base_of(await self.queue.events(run, 0, 1)) or base
            self.feeds.open(run.run_id, job.feed)
        recorder = Recorder(
            self.queue, run, self.id, job.feed, run.request.get("stream_mode") or (), base,
            Record() if run.request.get("is_protocol") else None,
            on_stored=lambda count: self._on_stored(run.run_id, count), on_lost=lambda: self._lose(job),
        )  # fmt: skip
        if run.attempt > 1:
            recorder.add("metadata", encoded({"run_id": run.run_id, "attempt": run.attempt}))
        ending: Ending | None = None
        job.inner = asyncio.get_running_loop().create_task(self._execution.run(run, recorder, _Hold(self, job)))
        if job.why is not None:
            job.inner.cancel()
        await asyncio.wait([job.inner])
        if not job.inner.cancelled():
            ending = job.inner.result()
        batch = await recorder.rest()
        if job.why in ("lost", "leaving") and (ending is None or job.why == "lost"):
            return None
        if recorder.error is not None:
            raise recorder.error
        if job.why == "rollback":
            return await self._roll_back(job)
        if ending is None:
            ending = Ending("interrupted", await self._execution.left(run))
        if await self._end(job, ending, recorder, batch):
            return ending
        if await self._is_to_be_rolled_back(run):
            return await self._roll_back(job)
        self._lose(job)
        return None

    async def _is_to_be_rolled_back(self, run: RunRow) -> bool:
        """Whether a run cannot end by itself any more: somebody was told that it is taken back."""
        try:
            return (await self.queue.find(run.run_id, None)).cancel == "rollback"
        except RunNotFoundError:
            return False

    async def _roll_back(self, job: _Job) -> Ending | None:
        left = await self.queue.roll_back(job.run, self.id)
        if left is None:
            return None
        job.feed.close(End(None))
        self._after(left)
        return Ending("interrupted", "idle")

    async def _end(self, job: _Job, ending: Ending, recorder: Recorder, batch: tuple[int, list[Event]]) -> bool:
        run, (first, events) = job.run, batch
        if ending.output is not None and ending.output != recorder.last_values:
            events.append((OUTPUT, ending.output))
        events += [(INPUT, encoded({"interrupt_id": each.id, "value": each.value})) for each in ending.asked]
        events.append((ENDED, ASKED if ending.asked else b""))
        left = await self.queue.end(
            run, self.id, ending.status, ending.error, ending.leaves, (first, events), ending.output
        )
        if left is None:
            return False
        job.feed.publish(events)
        job.feed.close(End(ending.status, ending.error))
        if run.request.get("webhook"):
            self.on_told()
        self._after(left)
        return True

    def _after(self, left: str) -> None:
        """A place is free, and another run of the thread may wait."""
        if left == "busy":
            self.signals.work()
        elif len(self._jobs) >= self.settings.max_runs:
            self.wake()

    # What comes from elsewhere

    def _renew(self) -> Renewed:
        return self.queue.renew(self.id, self._lease)

    def _on_renewed(self, held: list[str], renewed: Renewed, asked: float) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._see_to, held, renewed, asked)

    def _see_to(self, held: list[str], renewed: Renewed, asked: float) -> None:
        for run_id in held:
            job = self._jobs.get(run_id)
            found = renewed.get(run_id)
            if job is None:
                continue
            if found is None or found[0] != job.run.epoch:
                if job.feed.end is None and (job.inner is None or not job.inner.done()):
                    self._lose(job)
            elif found[1] in ("interrupt", "rollback"):
                job.stop("rollback" if found[1] == "rollback" else "interrupt")
        self._renewed_at = asked
        self._see_to_strays(renewed)

    def _lose(self, job: _Job) -> None:
        """Go no further with a run: it is another worker's, or what it shows cannot be stored."""
        if not job.feed.is_lost:
            log.warning("run %s is not this worker's any more", job.run.run_id)
            self._metrics.lease_lost()
            job.feed.lose()
        job.stop("lost")

    def _see_to_strays(self, renewed: Renewed) -> None:
        """Runs that were given to this worker by a request that was cut off before it said so: they wait again."""
        for run_id in [*self._strays]:
            if run_id not in renewed or run_id in self._jobs:
                del self._strays[run_id]
        for run_id in renewed:
            if run_id in self._jobs:
                continue
            self._strays[run_id] = self._strays.get(run_id, 0) + 1
            if self._strays[run_id] > 2:
                del self._strays[run_id]
                self._soon(self.give_back(run_id))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def give_back(self, run_id: str) -> None:
        """Let a run that was given to this worker wait again."""
        with contextlib.suppress(ClewError):
            if await self.queue.release(self.id, run_id):
                self.wake()

    def _on_cancel(self, run_id: str, action: Action) -> None:
        job = self._jobs.get(run_id)
        if job is not None:
            job.stop(action)

    def _on_wanted(self, run_id: str) -> None:
        if run_id in self._jobs:
            self._wanted[run_id] = time.monotonic()
            self.signals.show(run_id)
        elif run_id.startswith("thread-"):
            if len(self._wanted) > _WANTED_MAX:
                self._wanted.clear()
            self._wanted[run_id] = time.monotonic()

    def _on_stored(self, run_id: str, count: int) -> None:
        self._metrics.events_stored(count)
        if run_id in self._wanted:
            self.signals.show(run_id)


def waited(run: RunRow) -> float | None:
    """How many seconds a run has waited since it could start; of one that was taken over, that is not known."""
    if run.attempt > 1:
        return None
    return (run.updated_at - run.created_at) / 1_000_000 - (run.request.get("after_seconds") or 0)
