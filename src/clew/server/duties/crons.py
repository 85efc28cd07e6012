"""The duty that makes the runs of crons when they are due."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from clew.errors import ClewError, StorageTimeoutError, StorageUnavailableError
from clew.server.duties.turns import MICROSECONDS, Desk
from clew.server.errors import ApiError
from clew.server.metrics import Metrics
from clew.server.schedules import following
from clew.storage import crons as rules
from clew.storage.crons import CronRow
from clew.storage.query import Steps
from clew.storage.runs import NewRun, add_run
from clew.storage.threads import ThreadRow

log = logging.getLogger("clew.server.crons")
_PAGE = 100  # crons that are looked up together


class FireCrons:
    """Make the runs of crons that are due, each in the transaction that moves its cron on. `made` is told of each."""

    name = "crons"
    patience = 1.0
    pause = 0.0

    def __init__(self, desk: Desk, made: Callable[[], object], metrics: Metrics) -> None:
        self._desk = desk
        self._metrics = metrics
        self._made = made

    async def due(self) -> float | None:
        """In how many seconds the next cron is due."""
        micros = await self._desk.do(lambda: rules.next_cron(self._desk.tenant), "read")
        return None if micros is None else micros / MICROSECONDS

    async def work(self) -> None:
        """Fire every cron that is due."""
        while due := await self._desk.do(lambda: rules.due_crons(self._desk.tenant, _PAGE), "read"):
            for cron_id in due:
                await self.fire(cron_id)

    async def fire(self, cron_id: str) -> None:
        """Make a cron's run, or note why it cannot be made: in either case the cron is due at its next time."""
        try:
            fired = await self._desk.do(
                lambda: rules.fire_cron(self._desk.root, cron_id, self._make, _following), "cron"
            )
        except (StorageUnavailableError, StorageTimeoutError):
            raise
        except ClewError as error:
            said = str(error)
            self._metrics.cron("failed")
            log.warning("cron %s: its run was not made: %s", cron_id, said)
            await self._desk.do(lambda: rules.skip_cron(self._desk.root, cron_id, _following, said), "cron")
            return
        if fired is not None:
            self._metrics.cron("done")
            log.info("cron %s: its run was made", cron_id)
            self._made()

    def _make(self, row: CronRow, at: int) -> Steps[object]:
        thread = row.thread or str(uuid.uuid4())
        new, if_missing = run_of(row, at), None
        if row.thread is None:
            if_missing = _new_thread(thread, row)
        place = self._desk.root.of(thread)
        return (yield from add_run(place, new, user_id=row.user_id or None, if_missing=if_missing))


def run_of(row: CronRow, at: int) -> NewRun:
    """The run of a cron at a time."""
    strategy: Any = row.payload.get("multitask_strategy") or "enqueue"
    return NewRun(
        str(uuid.uuid4()),
        row.assistant_id,
        {**row.payload, "assistant_id": row.assistant_id},
        {**row.metadata, "cron_id": row.cron_id},
        user_id=row.user_id,
        strategy=strategy,
        idempotency_key=f"cron:{row.cron_id}:{at}",
        is_ephemeral=row.thread is None and row.on_run_completed != "keep",
    )


def _new_thread(thread: str, row: CronRow) -> ThreadRow:
    metadata = {**row.metadata, "cron_id": row.cron_id}
    assert row.next_at is not None, "it is due"
    now = row.next_at
    return ThreadRow(thread, row.user_id, "idle", 0, now, now, now, None, None, None, None, None, metadata)


def _following(schedule: str, timezone: str | None, after: int) -> int | None:
    """A schedule that was understood and is not any more is never due again: a time zone may have gone."""
    try:
        return following(schedule, timezone, after)
    except ApiError as error:
        log.error("a cron is over: %s", error)
        return None
