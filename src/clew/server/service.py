"""The parts of one application, and its life: it begins to work, and goes away without losing anything."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from dataclasses import dataclass, field
from datetime import datetime

from clew.checkpoint._face import CheckpointSaver
from clew.errors import ClewError
from clew.server.assistants import Assistants
from clew.server.auth import Authenticate, Owner
from clew.server.duties import Duties
from clew.server.errors import log
from clew.server.handlers import Handlers
from clew.server.http import HttpSettings
from clew.server.metrics import Metrics
from clew.server.owned_store import owned
from clew.server.registry import Registry
from clew.server.work.worker import Worker
from clew.store.base import BaseStore
from clew.threads import Threads

FRESH = 1.0  # seconds for which a count of runs is good enough
PATIENCE = 2.0  # seconds that a count of runs may take
GRACE = 5.0  # seconds that runs have to end when a process goes away


@dataclass(slots=True)
class _Life:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    leaving: asyncio.Future[None] | None = None
    measured_at: float = -math.inf
    is_started: bool = False
    is_drained: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one application; on `app.state.clew`."""

    registry: Registry
    storage: CheckpointSaver
    store: BaseStore | None
    threads: Threads
    assistants: Assistants
    authenticate: Authenticate
    started_at: datetime
    worker: Worker
    duties: Duties
    http: HttpSettings
    metrics: Metrics
    handlers: Handlers | None = None
    _life: _Life = field(default_factory=_Life)

    def store_of(self, owner: Owner) -> BaseStore | None:
        """The store as an owner's graphs see it; None where there is none."""
        return None if self.store is None else owned(self.store, owner.of_items)

    @property
    def leaving(self) -> asyncio.Future[None]:
        """Done when the process goes away: answers that take their time end."""
        life = self._life
        if life.leaving is None:
            life.leaving = asyncio.get_running_loop().create_future()
        return life.leaving

    @property
    def is_started(self) -> bool:
        """Whether it has begun to work."""
        return self._life.is_started

    async def start(self) -> None:
        """Make the tables, and begin to work; done once, by the application's start or, mounted, its first request."""
        life = self._life
        async with life.lock:
            if life.is_started:
                return
            for part in (self.storage, self.store):
                setup = getattr(part, "setup", None)
                if inspect.iscoroutinefunction(setup):
                    await setup()
                elif setup is not None:
                    await asyncio.to_thread(setup)
            self.worker.start()
            await self.duties.start()
            life.is_started = True

    async def measured(self) -> Metrics:
        """The metrics, with what the database says of all runs; it is asked once a second at most."""
        life, now = self._life, time.monotonic()
        if now - life.measured_at < FRESH:
            return self.metrics
        life.measured_at, counts = now, None
        try:
            async with asyncio.timeout(PATIENCE):
                counts = await self.worker.queue.counts()
        except (ClewError, TimeoutError) as error:
            log.warning("runs could not be counted: %s", error or "the database took too long")
        self.metrics.queue(counts, time.monotonic() - now)
        return self.metrics

    async def drain(self, grace: float = GRACE) -> None:
        """Take no more runs; give those that run `grace` seconds to end, hand the others back, and end all streams."""
        life = self._life
        if life.is_drained:
            return
        life.is_drained = True
        await self.duties.stop()
        await self.worker.drain(grace)
        if not self.leaving.done():
            self.leaving.set_result(None)
