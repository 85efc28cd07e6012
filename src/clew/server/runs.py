"""The runs of one owner: made, listed, stopped, waited for; over the table of runs and this process's worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clew.errors import RunNotFoundError
from clew.server.errors import ApiError
from clew.server.formats import config_json, encoded
from clew.server.work.feeds import End, NumberedEvent
from clew.server.work.recorder import OUTPUT
from clew.server.work.worker import Worker
from clew.storage.runs import Action, Made, NewRun, RunRow
from clew.storage.threads import Only, ThreadRow

Json = dict[str, Any]
_STOP_SECONDS = 30.0


class Runs:
    """The runs of one owner; `user_id` None: of everyone."""

    def __init__(self, worker: Worker, user_id: str | None) -> None:
        self._worker = worker
        self._user_id = user_id

    async def make(
        self, thread_id: str, new: NewRun, if_missing: ThreadRow | None = None, only: Only | None = None
    ) -> Made:
        """Make a run; it starts here at once if nothing is before it. Raises `ThreadNotFoundError`,
        `ThreadBusyError`."""
        worker = self._worker
        made = await worker.queue.add(thread_id, replace(new, start=worker.lease), self._user_id, if_missing, only)
        if made.is_new and made.run.status == "running":
            if not worker.begin(made.run):
                await worker.give_back(made.run.run_id)
        elif made.is_new:
            worker.signals.work()
        for run_id in made.cancelled:
            worker.signals.cancel(run_id, "rollback" if new.strategy == "rollback" else "interrupt")
        return made

    async def get(self, thread_id: str, run_id: str) -> RunRow:
        """A run of a thread of the owner's; raises `RunNotFoundError`."""
        run = await self._worker.queue.get(thread_id, run_id)
        if self._user_id not in (None, run.user_id):
            raise RunNotFoundError(f"thread {thread_id!r} has no run {run_id!r}", hint="list the thread's runs")
        return run

    async def find(self, run_id: str) -> RunRow:
        """A run by its id alone; raises `RunNotFoundError`."""
        return await self._worker.queue.find(run_id, self._user_id)

    async def list(self, thread_id: str, status: str | None, limit: int, offset: int) -> list[RunRow]:
        """Runs of a thread, newest first; the caller has seen that the thread is the owner's."""
        return await self._worker.queue.list(thread_id, status, limit, offset)

    async def config(self, thread_id: str) -> Json:
        """The config of the newest run of a thread; empty if it had none."""
        newest = await self._worker.queue.list(thread_id, None, 1, 0)
        return config_json(newest[0]) if newest else {}

    async def failure(self, thread_id: str) -> Json | None:
        """What the newest run of a thread failed with, `{"error", "message"}`; None if it did not."""
        newest = await self._worker.queue.list(thread_id, None, 1, 0)
        error = newest[0].error if newest else None
        return None if error is None else _shown(error)

    async def active(self, thread_id: str) -> list[RunRow]:
        """Runs of a thread that wait or run, oldest first."""
        return await self._worker.queue.active(thread_id)

    async def stop(self, run: RunRow, action: Action, leaves: str) -> RunRow | None:
        """Ask for a run's end; one that waits ends at once. Gives the run then, None if it is gone already."""
        try:
            asked = await self._worker.queue.cancel(run.thread, run.run_id, action, leaves)
        except RunNotFoundError:
            return None
        if asked.status == "running":
            self._worker.signals.cancel(run.run_id, action)
        else:
            self._worker.signals.show(run.run_id)
        return asked

    async def stopped(self, run: RunRow) -> End:
        """Wait until a run that was asked to end has ended; raises `ApiError` 503 if it does not."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await self._worker.feeds.end(run)
        except TimeoutError:
            raise ApiError(503, f"run {run.run_id!r} has not ended yet; it will") from None

    async def leave(self, thread_id: str, status: str) -> None:
        """Note what has become of a thread, unless it has runs: then it is busy."""
        await self._worker.queue.settle(thread_id, status)

    def gone(self, runs: Sequence[RunRow]) -> None:
        """The thread of these runs was deleted: those that run have nothing to go on with."""
        for run in runs:
            if run.status == "running":
                self._worker.signals.cancel(run.run_id, "rollback")

    async def remove(self, run: RunRow) -> None:
        """Delete a run that has ended; raises `ApiError` 409 for one that has not."""
        if not run.is_over:
            raise ApiError(409, f"run {run.run_id!r} has not ended", hint="cancel it first")
        await self._worker.queue.remove(run.thread, run.run_id)

    def read(self, run: RunRow, after: int) -> AsyncGenerator[list[NumberedEvent] | End]:
        """What a run shows after an event, as it comes; how it ended is last."""
        return self._worker.feeds.read(run, after)

    async def last(self, run: RunRow) -> int:
        """The number of the newest event of a run."""
        here = self._worker.feeds.last(run.run_id)
        return await self._worker.queue.last_event(run) if here is None else here

    async def output(self, run: RunRow) -> bytes | None:
        """What a run gives, once it has ended, as JSON: its output, or its error; None where that is not kept any
        more."""
        end: End = End(None)
        found: bytes | None = None
        async for part in self.read(run, 0):
            if isinstance(part, End):
                end = part
                break
            found = next((data for _, name, data in reversed(part) if name in (OUTPUT, "values")), found)
        return found if end.error is None else _error(end.error)


def _error(error: Mapping[str, Any]) -> bytes:
    return encoded({"__error__": _shown(error)})


def _shown(error: Mapping[str, Any]) -> Json:
    return {"error": error.get("error"), "message": error.get("message")}
