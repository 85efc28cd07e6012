"""What all runs of a thread show, one run after the other, on whatever replica each of them is executed.

A reader is a place in the thread: the number of the last event that it has had (`stamps` says how they are numbered).
Nothing is kept for a reader but that, and which runs it has been through since then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import NamedTuple

from clew.server.work.feeds import End, Feeds, NumberedEvent
from clew.server.work.queue import RunQueue
from clew.server.work.signals import Signals, thread_key
from clew.server.work.stamps import AT, Stamp, base_of, read_stamp
from clew.storage.runs import RunRow

LOOK = 1.0  # seconds between two looks for a thread's next run, if nothing wakes its reader
INPUT = ".input"  # a question that a run leaves, said when it ends
ENDED = ".end"  # the last that a run stores; no stream of the run shows it
ASKED = b"asked"  # what it says where the run left questions
_SLACK = 5_000_000  # microseconds: clocks of a database that was replaced
_RECENT = 2_000_000  # microseconds for which a run that is over counts as going on for those who come


class Shown(NamedTuple):
    """An event of a thread: its number there, when it was stored in milliseconds since 1970, its run, its name and its
    data. The name is `AT` when a run begins and `ENDED` when it is over, `end` says how then."""

    seq: int
    millis: int
    run: RunRow
    name: str
    data: bytes
    end: End | None = None


@dataclass(slots=True)
class Place:
    """Where a reader begins: after event `seq`, with runs that ended at `ended` or later, but for those of `done`."""

    seq: int = 0
    ended: int = 0
    done: set[str] = field(default_factory=set[str])


class ThreadFeeds:
    """Reading the runs of threads of one saver."""

    def __init__(self, queue: RunQueue, feeds: Feeds, signals: Signals) -> None:
        self._queue = queue
        self._feeds = feeds
        self._signals = signals

    def after(self, seq: int) -> Place:
        """The place after an event."""
        return Place(seq, max(seq - _SLACK, 0))

    async def now(self, thread: str) -> Place:
        """The place after all that was shown so far."""
        ended, _, _ = await self._queue.ends(thread)
        place = Place(ended=ended)
        for run in await self._queue.shown(thread, ended):
            if run.is_over:
                place.done.add(run.run_id)
            elif base := base_of(await self._queue.events(run, 0, 1)):
                place.seq = base + await self._queue.last_event(run)
        return place

    async def current(self, thread: str) -> Place:
        """The place before what is going on: the run that runs, runs that were made just now, the last one if it waits
        for answers, the only one if there is no other."""
        ended, count, now = await self._queue.ends(thread)
        if count <= 1:
            return Place()
        place = Place(ended=min(ended, now - _RECENT))
        runs = await self._queue.shown(thread, place.ended)
        for run in runs:
            is_recent = not run.is_over or now - run.created_at < _RECENT
            if not is_recent and not (run is runs[-1] and (await self._ending(run, None))[1] == ASKED):
                place.done.add(run.run_id)
        return place

    async def read(self, thread: str, place: Place) -> AsyncGenerator[list[Shown]]:
        """What runs of a thread show after a place, as it comes; never ends."""
        key = thread_key(self._queue.storage.tenant, thread)
        while True:
            woken = self._signals.next(key)
            runs = await self._queue.shown(thread, place.ended)
            run = next((run for run in runs if run.run_id not in place.done), None)
            if run is not None:
                async for part in self._read(run, place.seq):
                    yield part
                place.done.add(run.run_id)
                continue
            if over := [run for run in runs if run.is_over]:
                place.ended = over[-1].ended_at or 0
                place.done = {run.run_id for run in runs if not run.is_over or run.ended_at == place.ended}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._signals.shown(key, woken)

    async def _read(self, run: RunRow, since: int) -> AsyncGenerator[list[Shown]]:
        """What a run shows after a number in its thread."""
        at, last, after = Stamp(run.created_at, run.created_at // 1000), 0, 0
        held: NumberedEvent | None = None
        if since and (base := base_of(await self._queue.events(run, 0, 1))) is not None:
            at, after = Stamp(base, base // 1000), max(since - base, 0)
            last = after
            while after and (events := await self._queue.events(run, last, whole=True)):
                at, shown = _shown(run, at, events)
                held, last = events[-1], events[-1][0]
                if kept := [event for event in shown if event.seq > since]:
                    yield kept
        async for part in self._feeds.read(run, last):
            if isinstance(part, End):
                number, data = await self._ending(run, held)
                ending = Shown(at.base + number + 1, at.millis, run, ENDED, data, part)
                if ending.seq > since:
                    yield [ending]
                return
            at, shown = _shown(run, at, part)
            held = part[-1]
            if kept := [event for event in shown if event.seq > since]:
                yield kept

    async def _ending(self, run: RunRow, held: NumberedEvent | None) -> tuple[int, bytes]:
        """The number of a run's last event, and how it left its thread if it says so."""
        if held is None:
            last = await self._queue.last_event(run)
            found = await self._queue.events(run, last - 1, 1) if last else []
            held = found[-1] if found else None
        if held is None:
            return 0, b""
        return held[0], held[2] if held[1] == ENDED else b""


def _shown(run: RunRow, at: Stamp, events: list[NumberedEvent]) -> tuple[Stamp, list[Shown]]:
    found: list[Shown] = []
    for number, name, data in events:
        if name == AT:
            at = read_stamp(data)
        if (name == AT and number > 1) or name == ENDED:
            continue
        found.append(Shown(at.base + number, at.millis, run, name, data))
    return at, found
