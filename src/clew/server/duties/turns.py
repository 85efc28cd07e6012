"""One duty's turns on one replica: wait until there is something to do, take the duty, do it, give it up.

A duty is held by a lease, which is renewed while its work goes on; work whose lease is lost is cancelled. A turn that
fails is logged, and the next one waits longer. What a duty does must be harmless if it is done twice nevertheless: a
process may be stopped for longer than its lease, and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.server.metrics import Metrics
from clew.storage import duties as rules
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.session import LogSession

T = TypeVar("T")

log = logging.getLogger("clew.server.duties")
MICROSECONDS = 1_000_000  # in a second
_LONGEST_BACKOFF = 60.0  # seconds
_LEAST_REST = 0.05  # seconds; what is due and another's is looked at again after this long at the earliest


class Desk:
    """A database as duties use it: each rule in a transaction of its own, for one tenant."""

    def __init__(self, storage: CheckpointSaver) -> None:
        self.storage = storage
        self.tenant = storage.tenant
        self.root = storage.place("")

    async def do(self, steps: Callable[[], Steps[T]], kind: str = "duty") -> T:
        """Run a rule; one that only reads has the kind "read"."""
        session = LogSession(self.storage, "", self.storage.codec(frozenset()), self.tenant)
        return await self.storage.arun(LogOp[T](session, steps, kind=kind))


class Duty(Protocol):
    """What is to be done in the background."""

    @property
    def name(self) -> str:
        """What it is called: the key of its lease."""
        ...

    @property
    def patience(self) -> float:
        """How many seconds pass at most before `due` is asked again."""
        ...

    @property
    def pause(self) -> float:
        """How many seconds nobody does it again after it was done."""
        ...

    async def due(self) -> float | None:
        """In how many seconds there is something to do; 0 or less: now, None: that is not known."""
        ...

    async def work(self) -> Any:
        """Do what is due."""
        ...


class Turns:
    """One duty on one replica, which is called `owner`; `lease` is in seconds."""

    def __init__(self, desk: Desk, duty: Duty, owner: str, lease: float, metrics: Metrics | None = None) -> None:
        self.duty = duty
        self._desk = desk
        self._owner = owner
        self._lease = lease
        self._metrics = metrics or Metrics()
        self._waking = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do."""
        self._waking.set()

    async def keep(self) -> None:
        """Turn after turn, until this is cancelled."""
        failures = 0
        while True:
            self._waking.clear()
            try:
                seconds = await self.turn()
                failures = 0
            except Exception:
                failures += 1
                seconds = min(0.2 * 2.0**failures, _LONGEST_BACKOFF) * random.uniform(0.5, 1)
                log.exception("duty %s failed; it is tried again in %.1f s", self.duty.name, seconds)
                self._waking.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # `wait_for` loses a cancellation that comes with the event
                    await self._waking.wait()

    async def turn(self) -> float:
        """Do what is due, if it is for this replica to do; gives how many seconds to rest."""
        seconds = await self.duty.due()
        if seconds is None or seconds > 0:
            return self.duty.patience if seconds is None else min(seconds, self.duty.patience)
        async with self._held() as is_held:
            if is_held:
                await self._work()
                return 0 if self.duty.pause == 0 else min(self.duty.pause, self.duty.patience)
        tenant, name = self._desk.tenant, self.duty.name
        wait = await self._desk.do(lambda: rules.duty_due(tenant, name), "read")
        return min(max(wait / MICROSECONDS, _LEAST_REST), self.duty.patience)

    async def _work(self) -> None:
        """Do the duty, and count what came of it."""
        began, is_failed = time.monotonic(), True
        try:
            await self.duty.work()
            is_failed = False
        finally:
            self._metrics.duty(self.duty.name, time.monotonic() - began, is_failed=is_failed)

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncGenerator[bool]:
        """Hold the duty meanwhile, if it can be had."""
        tenant, name, lease = self._desk.tenant, self.duty.name, int(self._lease * MICROSECONDS)
        if not await self._desk.do(lambda: rules.take_duty(tenant, name, self._owner, lease)):
            yield False
            return
        at_work = asyncio.current_task()
        assert at_work is not None, "a coroutine runs in a task"
        loss = _Loss()
        renewing = asyncio.create_task(self._renew(at_work, loss, time.monotonic()))
        pause = 0
        try:
            yield True
            pause = int(self.duty.pause * MICROSECONDS)
        except asyncio.CancelledError:
            if not loss.is_lost or at_work.uncancel() > 0:
                raise
            raise LostLeaseError(f"the lease on duty {name!r} was lost while it was done") from None
        finally:
            renewing.cancel()
            await self._desk.do(lambda: rules.release_duty(tenant, name, self._owner, pause))

    async def _renew(self, at_work: asyncio.Task[Any], loss: _Loss, since: float) -> None:
        """Renew the lease again and again; cancel the work when it is lost."""
        tenant, name, lease = self._desk.tenant, self.duty.name, int(self._lease * MICROSECONDS)
        while True:
            await asyncio.sleep(self._lease / 3)
            asked, is_held = time.monotonic(), True
            try:
                is_held = await self._desk.do(lambda: rules.renew_duty(tenant, name, self._owner, lease))
                since = asked if is_held else since
            except Exception:
                log.warning("the lease on duty %s could not be renewed", name, exc_info=True)
            if not is_held or time.monotonic() - since > self._lease:
                loss.is_lost = True
                at_work.cancel()
                return


class LostLeaseError(Exception):
    """A duty was taken over by another replica while it was done."""


class _Loss:
    def __init__(self) -> None:
        self.is_lost = False
