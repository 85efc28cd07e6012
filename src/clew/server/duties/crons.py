"""The duty that makes the runs of crons when they are due."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from clew.errors import ClewError, StorageTimeoutError, StorageUnavailableError
from clew.ids import new_id
from clew.server.assistants import Assistant, Assistants
from clew.server.duties.turns import MICROSECONDS, Desk
from clew.server.errors import ApiError
from clew.server.metrics import Metrics
from clew.server.requests import RunCreate, new_run, new_thread
from clew.server.schedules import following
from clew.storage import crons as rules
from clew.storage.crons import CronRow
from clew.storage.query import Steps
from clew.storage.runs import NewRun, add_run

log = logging.getLogger("clew.server.crons")
_PAGE = 100  # crons that are looked up together


class FireCrons:
    """Make the runs of crons that are due, each in the transaction that moves its cron on. `made` is told of each."""

    name = "crons"
    patience = 1.0
    pause = 0.0

    def __init__(self, desk: Desk, assistants: Assistants, made: Callable[[], object], metrics: Metrics) -> None:
        self._desk = desk
        self._assistants = assistants
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
        root = self._desk.root
        try:
            row = await self._desk.do(lambda: rules.find_cron(root, cron_id, None), "read")
            if row is None:
                return
            made = await self._rule(row)
            fired = await self._desk.do(lambda: rules.fire_cron(root, cron_id, made, _following), "cron")
        except (StorageUnavailableError, StorageTimeoutError):
            raise
        except (ClewError, ValidationError) as error:
            said = str(error)
            self._metrics.cron("failed")
            log.warning("cron %s: its run was not made: %s", cron_id, said)
            await self._desk.do(lambda: rules.skip_cron(root, cron_id, _following, said), "cron")
            return
        if fired is not None:
            self._metrics.cron("done")
            log.info("cron %s: its run was made", cron_id)
            self._made()

    async def _rule(self, row: CronRow) -> Callable[[CronRow, int], Steps[object]]:
        """The rule that makes a cron's run, with its assistant as it is now."""
        assistant = await self._assistants.of(row.user_id or None).get(row.assistant_id)

        def make(row: CronRow, at: int) -> Steps[object]:
            thread = row.thread or new_id()
            new = run_of(row, at, assistant, thread)
            if_missing = None if row.thread is not None else new_thread(thread, row.user_id, dict(new.metadata))
            place = self._desk.root.of(thread)
            return (yield from add_run(place, new, user_id=row.user_id or None, if_missing=if_missing))

        return make


def run_of(row: CronRow, at: int, assistant: Assistant, thread: str) -> NewRun:
    """The run of a cron at a time."""
    keeps = {"on_completion": row.on_run_completed} if row.thread is None else {}
    body = RunCreate.model_validate({**row.payload, **keeps, "assistant_id": assistant.id})
    return new_run(
        body,
        assistant,
        thread,
        row.configurable,
        user_id=row.user_id,
        metadata={**row.metadata, "cron_id": row.cron_id},
        is_shown=True,
        is_stateless=row.thread is None,
        idempotency_key=f"cron:{row.cron_id}:{at}",
    )


def _following(schedule: str, timezone: str | None, after: int) -> int | None:
    """A schedule that was understood and is not any more is never due again: a time zone may have gone."""
    try:
        return following(schedule, timezone, after)
    except ApiError as error:
        log.error("a cron is over: %s", error)
        return None
