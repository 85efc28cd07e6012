"""The table of runs, over a saver: the rules of `clew.storage.runs` as calls. One object serves all owners."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.ids import thread_id as check_thread_id
from clew.storage import runs as rules
from clew.storage.deliveries import add_delivery
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.query import Query, Steps
from clew.storage.runs import Action, Event, Made, NewRun, RunRow, Swept
from clew.storage.session import LogSession
from clew.storage.threads import Only, ThreadRow

T = TypeVar("T")
_QUEUE = "queue"  # the thread that operations on runs of all threads are filed under


class RunQueue:
    """Runs in a saver's database. Calls are async but for the worker's own beat."""

    def __init__(self, storage: CheckpointSaver) -> None:
        self.storage = storage
        self._of_tenants: dict[str, CheckpointSaver] = {storage.tenant: storage}

    def storage_of(self, run: RunRow) -> CheckpointSaver:
        """The saver that has a run's thread."""
        found = self._of_tenants.get(run.tenant)
        if found is None:
            found = self._of_tenants[run.tenant] = self.storage.with_tenant(run.tenant)
        return found

    def place(self, run: RunRow) -> Place:
        """Where a run's rows are."""
        return self.storage_of(run).place(run.thread)

    # For requests

    async def add(
        self,
        thread: str,
        new: NewRun,
        user_id: str | None,
        if_missing: ThreadRow | None = None,
        only: Only | None = None,
    ) -> Made:
        """Make a run; see `clew.storage.runs.add_run`."""
        place = self.storage.place(check_thread_id(thread))
        return await self._write(
            thread,
            lambda: rules.add_run(place, new, user_id=user_id, if_missing=if_missing, only=only, is_last=True),
            "make",
        )

    async def get(self, thread: str, run_id: str) -> RunRow:
        """A run of a thread; raises `RunNotFoundError`."""
        place = self.storage.place(thread)
        return await self._read(thread, lambda: rules.get_run(place, run_id))

    async def find(self, run_id: str, user_id: str | None) -> RunRow:
        """A run by its id; raises `RunNotFoundError`, also for another owner's."""
        place = self.storage.place(_QUEUE)
        return await self._read(_QUEUE, lambda: rules.find_run(place, run_id, user_id))

    async def list(self, thread: str, status: str | None, limit: int, offset: int) -> list[RunRow]:
        """Runs of a thread, newest first."""
        place = self.storage.place(thread)
        return await self._read(thread, lambda: rules.list_runs(place, status, limit, offset), "load")

    async def active(self, thread: str) -> list[RunRow]:
        """Runs of a thread that wait or run, oldest first."""
        place = self.storage.place(thread)
        return await self._read(thread, lambda: rules.active_runs(place), "load")

    async def shown(self, thread: str, ended: int, limit: int = 100) -> list[RunRow]:
        """Runs of a thread that ended at that time or later, in that order, and then the one that runs."""
        place = self.storage.place(thread)
        return await self._read(thread, lambda: rules.shown_runs(place, ended, limit), "load")

    async def ends(self, thread: str) -> tuple[int, int, int]:
        """When a run of a thread ended last (0: never), how many runs it has, and the time now."""
        place = self.storage.place(thread)
        return await self._read(thread, lambda: rules.run_ends(place), "load")

    async def counts(self) -> dict[str, int]:
        """How many runs wait and run."""
        tenant = self.storage.tenant
        return await self._read(_QUEUE, lambda: rules.count_runs(tenant), "load")

    async def settle(self, thread: str, status: str) -> None:
        """Set a thread's status after a change by hand, unless runs of it wait or run; it comes first in lists."""
        tenant, now = self.storage.tenant, time.time_ns() // 1000

        def steps() -> Steps[None]:
            yield from rules.settle_thread(tenant, thread, status)
            yield Query("thread_active", (tenant, thread, now))

        await self._write(thread, steps, "settle")

    async def cancel(self, thread: str, run_id: str, action: Action, leaves: str = "idle") -> RunRow:
        """Ask for a run's end; gives the run as it is then."""
        place = self.storage.place(thread)
        return await self._write(thread, lambda: rules.cancel_run(place, run_id, action, leaves=leaves), "cancel")

    async def remove(self, thread: str, run_id: str) -> None:
        """Delete a run with its events."""
        place = self.storage.place(thread)
        await self._write(thread, lambda: rules.remove_run(place, run_id), "remove")

    async def events(
        self, run: RunRow, after: int, limit: int = 50, *, whole: bool = False
    ) -> list[tuple[int, str, bytes]]:
        """What a run has shown after event number `after`; with `whole`, also what was stored together with it."""
        place = self.place(run)
        return await self._read(
            run.thread, lambda: rules.list_events(place, run.run_id, after, limit, whole=whole), "load"
        )

    async def last_event(self, run: RunRow) -> int:
        """The number of a run's last event."""
        place = self.place(run)
        return await self._read(run.thread, lambda: rules.last_event(place, run.run_id))

    # For workers

    async def claim(
        self,
        owner: str,
        lease: int,
        limit: int,
        last: int,
        *,
        takes_last: bool,
        passed: Collection[str],
        is_meant: Callable[[RunRow], bool],
    ) -> tuple[list[RunRow], list[RunRow]]:
        """Take runs that can start, but for those `passed`; gives them, and those that are not meant for this worker:
        they wait for another one."""
        place = self.storage.place(_QUEUE)

        def steps() -> Steps[tuple[list[RunRow], list[RunRow]]]:
            found = yield from rules.claim_runs(place, owner, lease, limit, last, takes_last=takes_last, passed=passed)
            taken: list[RunRow] = []
            others: list[RunRow] = []
            for run in found:
                (taken if is_meant(run) else others).append(run)
            for run in others:
                yield from rules.pass_run(run, owner)
            return taken, others

        return await self._write(_QUEUE, steps, "take")

    async def sweep(self, max_attempts: int) -> Swept:
        """See to runs whose worker was lost."""
        place = self.storage.place(_QUEUE)

        def steps() -> Steps[Swept]:
            swept = yield from rules.sweep_runs(place, max_attempts, 100)
            for run in swept.dead:
                error = {"error": "WorkerLostError", "message": f"the run was lost with its worker {run.attempt} times"}
                yield from add_delivery(self.place(run), run, "error", error)
            return swept

        swept = await self._write(_QUEUE, steps, "sweep")
        for run in swept.cancelled:
            self.forget(run)
        return swept

    def renew(self, owner: str, lease: int) -> dict[str, tuple[int, str | None]]:
        """Hold on to a worker's runs; blocks."""
        op = self._op(f"beat {owner}", lambda: rules.renew_runs(owner, lease), "run.renew")
        return self.storage.run(op)

    async def holds(self, run: RunRow, owner: str) -> bool:
        """Whether a run is still a worker's."""
        return await self._read(run.thread, lambda: rules.holds_run(run, owner))

    async def begin(self, run: RunRow, owner: str, began: Mapping[str, Any]) -> bool:
        """Keep what a run's first worker found; False: the run was lost."""
        return await self._write(run.thread, lambda: rules.begin_run(run, owner, began), "begin")

    async def add_events(self, run: RunRow, owner: str, first: int, events: Sequence[Event]) -> bool:
        """Keep what a run shows; False: the run was lost."""
        place = self.place(run)
        return await self._write(run.thread, lambda: rules.add_events(place, run, owner, first, events), "show")

    async def end(
        self,
        run: RunRow,
        owner: str,
        status: str,
        error: Mapping[str, Any] | None,
        leaves: str,
        batch: tuple[int, Sequence[Event]],
        values: bytes | None,
    ) -> str | None:
        """Say how a run ended, and have its webhook told; gives its thread's status, None: the run was lost."""
        place = self.place(run)

        def steps() -> Steps[str | None]:
            is_told = bool(run.request.get("webhook"))
            left = yield from rules.end_run(
                place, run, owner, status, error, leaves=leaves, batch=batch, is_last=not is_told
            )
            if is_told and left is not None:
                yield from add_delivery(place, run, status, error, values)
            return left

        left = await self._write(run.thread, steps, "end")
        if run.is_ephemeral:
            self.forget(run)
        return left

    async def roll_back(self, run: RunRow, owner: str) -> str | None:
        """Take a worker's run back; gives its thread's status, None: the run was lost."""
        place = self.place(run)
        left = await self._write(run.thread, lambda: rules.roll_back(place, run, owner), "roll_back")
        self.forget(run)
        return left

    async def release(self, owner: str, run_id: str | None = None) -> list[str]:
        """Give back a worker's runs, or one of them."""
        return await self._write(_QUEUE, lambda: rules.release_runs(owner, run_id), "release")

    def forget(self, run: RunRow) -> None:
        """Drop what is kept in memory of a thread that was changed from outside of its log."""
        self.storage_of(run).heads.drop(run.tenant, run.thread)

    def _op(self, thread: str, steps: Callable[[], Steps[T]], kind: str) -> LogOp[T]:
        storage = self.storage
        return LogOp(LogSession(storage, thread, storage.codec(frozenset()), storage.tenant), steps, kind=kind)

    async def _read(self, thread: str, steps: Callable[[], Steps[T]], kind: str = "row") -> T:
        """Ask one thing: it needs no transaction, and travels with others."""
        return await self.storage.arun(self._op(thread, steps, kind))

    async def _write(self, thread: str, steps: Callable[[], Steps[T]], name: str) -> T:
        """Do something in a transaction; `name` is what a test calls it that kills the process in the middle of it."""
        return await self.storage.arun(self._op(thread, steps, f"run.{name}"))
