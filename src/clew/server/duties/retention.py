"""The duties that keep a database small: threads whose time is up, old checkpoints, what runs have left behind."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import Any

from clew.retention import Retention, RetentionReport, ThreadTtl
from clew.server.duties.settings import DutySettings
from clew.server.duties.turns import MICROSECONDS, Desk
from clew.storage import duties, forgetting
from clew.storage.deliveries import forget_deliveries
from clew.store.base import BaseStore

log = logging.getLogger("clew.server.retention")
_PAGE = 200  # runs that one transaction looks at
_LONGEST_PATIENCE = 60.0  # seconds


class Regular:
    """The base of duties that are done from time to time: `pause` seconds after they were done last, by whomever."""

    name = ""

    def __init__(self, desk: Desk, pause: float) -> None:
        self._desk = desk
        self.pause = pause
        self.patience = min(pause, _LONGEST_PATIENCE)

    async def due(self) -> float | None:
        """In how many seconds it is to be done again."""
        micros = await self._desk.do(lambda: duties.duty_due(self._desk.tenant, self.name), "read")
        return micros / MICROSECONDS

    async def work(self) -> None:
        """Do it."""
        raise NotImplementedError


class Retain(Regular):
    """Apply a retention policy to every thread."""

    name = "retention"

    def __init__(self, desk: Desk, policy: Retention, pause: float) -> None:
        super().__init__(desk, pause)
        self._policy = policy

    async def work(self) -> None:
        """Drop what the policy says."""
        note(await self._desk.storage.aretain(self._policy), "retention")


class Expire(Regular):
    """Deal with threads whose time to live is over."""

    name = "ttl"

    def __init__(self, desk: Desk, ttl: ThreadTtl) -> None:
        super().__init__(desk, ttl.sweep_every.total_seconds())
        self._ttl = ttl

    async def work(self) -> None:
        """Delete them, or leave them their newest checkpoints."""
        note(await self._desk.storage.aexpire(self._ttl), "ttl")


class Forget(Regular):
    """Remove events of runs, runs of threads that are gone, and what is known of old deliveries."""

    name = forgetting.EVENTS

    def __init__(self, desk: Desk, settings: DutySettings) -> None:
        keep = settings.keep_events.total_seconds()
        super().__init__(desk, min(max(keep / 2, 1.0), _LONGEST_PATIENCE))
        self._keep = int(keep * MICROSECONDS)
        rows = settings.keep_runs
        self._keep_rows = None if rows is None else int(rows.total_seconds() * MICROSECONDS)

    async def work(self) -> None:
        """Remove what has been kept for long enough."""
        tenant, root, keep, rows = self._desk.tenant, self._desk.root, self._keep, self._keep_rows
        removed, count, after = 0, _PAGE, None
        while count == _PAGE:
            steps = partial(forgetting.remove_old_events, tenant, keep, _PAGE, after)
            count, after = await self._desk.do(steps, "forget")
            removed += count
        for steps in (
            lambda: forgetting.forget_runs(root, keep, rows, _PAGE),
            lambda: forget_deliveries(tenant, keep, _PAGE),
        ):
            count = _PAGE
            while count == _PAGE:
                count = await self._desk.do(steps, "forget")
                removed += count
        if removed:
            log.info("runs: %d events, rows and deliveries of such that ended long ago were removed", removed)


class SweepItems(Regular):
    """Delete expired items of the store."""

    name = "items"

    def __init__(self, desk: Desk, store: BaseStore, pause: float) -> None:
        super().__init__(desk, pause)
        self._store: Any = store

    async def work(self) -> None:
        """Sweep once."""
        if inspect.iscoroutinefunction(self._store.sweep_ttl):
            count = await self._store.sweep_ttl()
        else:
            count = await asyncio.to_thread(self._store.sweep_ttl)
        if count:
            log.info("items: %d that had expired were deleted", count)


def note(report: RetentionReport, why: str) -> None:
    """Log what went."""
    for one in report.details:
        what = "deleted" if one.is_deleted else "pruned"
        log.info("thread %s: %s (%s), %d checkpoints, %d bytes", one.thread_id, what, why, one.checkpoints, one.bytes)
    for one in report.skipped:
        log.warning("thread %s: left alone (%s): %s", one.thread_id, why, one.message)


def regular_duties(desk: Desk, settings: DutySettings, store: BaseStore | None) -> list[Regular]:
    """Those that the settings ask for."""
    found: list[Regular] = [Expire(desk, settings.ttl), Forget(desk, settings)]
    if settings.retention is not None:
        found.append(Retain(desk, settings.retention, settings.retain_every.total_seconds()))
    config: Any = getattr(store, "ttl_config", None) or {}
    minutes = config.get("sweep_interval_minutes")
    if store is not None and minutes and hasattr(store, "sweep_ttl"):
        found.append(SweepItems(desk, store, minutes * 60.0))
    return found
