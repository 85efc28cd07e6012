"""The duties of one application, on the event loop that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.memory import InMemorySaver
from clew.server.assistants import Assistants
from clew.server.duties.crons import FireCrons
from clew.server.duties.retention import regular_duties
from clew.server.duties.settings import DutySettings
from clew.server.duties.turns import Desk, Duty, Turns
from clew.server.duties.webhooks import Deliver
from clew.server.metrics import Metrics
from clew.store.base import BaseStore


class Duties:
    """The duties of one replica: each is done by it or by another one, never by two at the same time.

    `made_run` is called when a duty has made a run.
    """

    def __init__(
        self,
        storage: CheckpointSaver,
        assistants: Assistants,
        settings: DutySettings | None = None,
        metrics: Metrics | None = None,
        store: BaseStore | None = None,
    ) -> None:
        self._store = store
        self._assistants = assistants
        self.settings = settings or DutySettings()
        self._metrics = metrics or Metrics()
        self.made_run: Callable[[], object] = _nothing
        self._desk = Desk(storage)
        self._tasks: list[asyncio.Task[None]] = []
        self._turns: dict[str, Turns] = {}

    async def start(self) -> None:
        """Begin; the tables are there. Does nothing where it has begun, and in memory, which has no such tables."""
        if self._tasks or isinstance(self._desk.storage, InMemorySaver):
            return
        owner = uuid.uuid4().hex
        lease, metrics = self.settings.lease, self._metrics
        self._turns = {duty.name: Turns(self._desk, duty, owner, lease, metrics) for duty in self._duties()}
        self._tasks = [asyncio.create_task(turns.keep(), name=f"clew {name}") for name, turns in self._turns.items()]

    async def stop(self) -> None:
        """End; what was being done is broken off, and another replica's to do at once."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def wake(self, name: str) -> None:
        """There may be something to do for a duty: it does not wait until it looks by itself."""
        if name in self._turns:
            self._turns[name].wake()

    def _duties(self) -> Sequence[Duty]:
        return [
            FireCrons(self._desk, self._assistants, self._made, self._metrics),
            Deliver(self._desk, self.settings.webhooks, self._metrics),
            *regular_duties(self._desk, self.settings, self._store),
        ]

    def _made(self) -> None:
        self.made_run()


def _nothing() -> Any:
    """Nobody waits for runs here."""
