"""Crons: requests for runs that are made again and again; the repository over the rules of `clew.storage.crons`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.server.errors import not_found
from clew.server.schedules import check_schedule, following
from clew.storage import crons as rules
from clew.storage.crons import CronFilter, CronRow
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.session import LogSession
from clew.storage.thread_lists import contains
from clew.storage.threads import Only

T = TypeVar("T")


class Crons:
    """The crons of one owner (None: everyone's), of them those that `only` leaves."""

    def __init__(self, storage: CheckpointSaver, user_id: str | None, only: Only | None = None) -> None:
        self._storage = storage
        self._root = storage.place("")
        self._user_id = user_id
        self._only = only

    async def create(self, row: CronRow) -> CronRow:
        """Make a cron; its id, owner and times are set here. Raises `ApiError` 422 for what is no schedule."""
        check_schedule(row.schedule, row.timezone)
        metadata = row.metadata if self._only is None else self._only.made(row.metadata)
        made = row._replace(cron_id=str(uuid.uuid4()), user_id=self._user_id or "", metadata=metadata)
        return await self._run(lambda: rules.add_cron(self._root, made, following), "cron")

    async def get(self, cron_id: str) -> CronRow:
        """A cron; raises `ApiError` 404."""
        row = await self._run(lambda: rules.find_cron(self._root, cron_id, self._user_id))
        if row is None or not self._has(row):
            raise not_found("cron", cron_id)
        return row

    async def list(
        self, thread: str | None, assistant_id: str | None, enabled: bool | None, metadata: Mapping[str, Any]
    ) -> list[CronRow]:
        """Every cron that fits, newest first."""
        wanted = CronFilter(self._user_id, thread, assistant_id, enabled)
        rows = await self._run(lambda: rules.list_crons(self._root, wanted))
        return [row for row in rows if self._has(row) and contains(row.metadata, dict(metadata))]

    async def change(self, cron_id: str, changes: Mapping[str, Any]) -> CronRow:
        """Set fields; `payload` and `metadata` are merged. Raises `ApiError` 404, and 422 for what is no schedule."""
        row = await self.get(cron_id)
        check_schedule(changes.get("schedule", row.schedule), changes.get("timezone", row.timezone))
        changed = await self._run(
            lambda: rules.change_cron(self._root, cron_id, self._user_id, changes, following), "cron"
        )
        if changed is None:
            raise not_found("cron", cron_id)
        return changed

    async def remove(self, cron_id: str) -> None:
        """Delete a cron; raises `ApiError` 404."""
        await self.get(cron_id)
        if not await self._run(lambda: rules.remove_cron(self._root, cron_id, self._user_id), "cron"):
            raise not_found("cron", cron_id)

    def _has(self, row: CronRow) -> bool:
        return self._only is None or self._only.fits(row.metadata)

    async def _run(self, steps: Callable[[], Steps[T]], kind: str = "read") -> T:
        storage = self._storage
        session = LogSession(storage, "", storage.codec(frozenset()), storage.tenant)
        return await storage.arun(LogOp[T](session, steps, kind=kind))
