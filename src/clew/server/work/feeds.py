"""What runs show, for readers: from memory while the run is here, from storage otherwise, each event once.

A reader is a number: the last event that it has had. Nothing is kept for a reader, so a slow one costs nothing, and one
that has fallen behind what is in memory reads from storage.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clew.errors import RunNotFoundError
from clew.server.work.queue import RunQueue
from clew.server.work.signals import Signals
from clew.storage.runs import Event, RunRow

RING_BYTES = 1024 * 1024  # of each run's newest events, in memory
_PAGE = 8  # batches of events that are read at once, and four times as many after those that are small
_SMALL = 64 * 1024  # bytes
POLL = 0.25  # seconds between two looks at a run of another replica, if nothing else wakes its readers
NumberedEvent = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended; None as status: it was taken back."""

    status: str | None
    error: Mapping[str, Any] | None = None


class Feed:
    """The newest events of a run that is executed here."""

    def __init__(self, first: int) -> None:
        self.last = first - 1
        self.end: End | None = None
        self.is_lost = False  # the run is somebody else's now
        self._ring: deque[NumberedEvent] = deque()
        self._size = 0
        self._changed: asyncio.Event | None = None

    def publish(self, events: Sequence[Event]) -> None:
        """Show events that are stored."""
        for name, data in events:
            self.last += 1
            self._ring.append((self.last, name, data))
            self._size += len(data)
        while self._size > RING_BYTES and len(self._ring) > 1:
            self._size -= len(self._ring.popleft()[2])
        self._notify()

    def close(self, end: End) -> None:
        """Nothing more comes."""
        self.end = end
        self._notify()

    def lose(self) -> None:
        """The run goes on elsewhere, or not at all: readers are to look at what is stored."""
        self.is_lost = True
        self._notify()

    def after(self, seq: int) -> list[NumberedEvent] | None:
        """Events after a number; None if some of them are not in memory any more."""
        if seq >= self.last:
            return []
        if not self._ring or self._ring[0][0] > seq + 1:
            return None
        return [event for event in self._ring if event[0] > seq]

    async def changed(self) -> None:
        """Wait for something new."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


class Feeds:
    """The feeds of one process, and reading the runs of all."""

    def __init__(self, queue: RunQueue, signals: Signals) -> None:
        self._queue = queue
        self._signals = signals
        self._here: dict[str, Feed] = {}

    def open(self, run_id: str, feed: Feed) -> Feed:
        """Show a run's readers that it is executed here."""
        self._here[run_id] = feed
        return feed

    def drop(self, run_id: str, feed: Feed) -> None:
        """Forget a feed whose run is not here any more."""
        if self._here.get(run_id) is feed:
            del self._here[run_id]

    def last(self, run_id: str) -> int | None:
        """The number of the last event of a run that is executed here."""
        feed = self._here.get(run_id)
        return None if feed is None else feed.last

    async def read(self, run: RunRow, after: int) -> AsyncGenerator[list[NumberedEvent] | End]:
        """What a run shows after event number `after`, as it comes, in order; the `End` is last."""
        while True:
            feed = self._here.get(run.run_id)
            if feed is None or feed.is_lost:
                async for part in self._stored(run, after):
                    yield part
                    if isinstance(part, End):
                        return
                    after = part[-1][0]
                continue
            while not feed.is_lost:
                events = feed.after(after)
                if events is None:
                    events = await self._page(run, after)
                if events:
                    after = events[-1][0]
                    yield events
                elif feed.end is not None:
                    yield feed.end
                    return
                else:
                    await feed.changed()

    async def end(self, run: RunRow) -> End:
        """How a run ends, once it has."""
        while True:
            feed = self._here.get(run.run_id)
            while feed is not None and not feed.is_lost:
                if feed.end is not None:
                    return feed.end
                await feed.changed()
            row = await self._row(run)
            if row is None or row.is_over:
                return End(None) if row is None else End(row.status, row.error)
            await self._pause(run)

    async def _stored(self, run: RunRow, after: int) -> AsyncGenerator[list[NumberedEvent] | End]:
        """Read from storage, until the run is executed here."""
        while True:
            row = await self._row(run)  # before its events: those of a run that is over are all there
            while events := await self._page(run, after):
                after = events[-1][0]
                yield events
            if row is None or row.is_over:
                yield End(None) if row is None else End(row.status, row.error)
                return
            feed = self._here.get(run.run_id)
            if feed is not None and not feed.is_lost:
                return
            await self._pause(run)

    async def _page(self, run: RunRow, after: int) -> list[NumberedEvent]:
        """The next stored events: not many at once, so that a client that reads slowly holds little of a long run."""
        events = await self._queue.events(run, after, _PAGE)
        if sum(len(data) for *_, data in events) > _SMALL:
            return events
        return events + (await self._queue.events(run, events[-1][0], 4 * _PAGE) if len(events) >= _PAGE else [])

    async def _row(self, run: RunRow) -> RunRow | None:
        try:
            return await self._queue.find(run.run_id, None)
        except RunNotFoundError:
            return None

    async def _pause(self, run: RunRow) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await self._signals.shown(run.run_id)
