"""What a run shows: named as the field's protocol names it, stored in batches, then shown to readers.

Nothing is shown that is not stored, and storing is fenced by the run's lease: a worker that lost its run shows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from clew.server.formats import checkpoint_json, encoded
from clew.server.protocol.record import Record
from clew.server.work.feeds import Feed
from clew.server.work.queue import RunQueue
from clew.server.work.stamps import stamp
from clew.storage.runs import Event, RunRow

BATCH_BYTES = 256 * 1024  # of events that are stored together, so that a reader need not hold more at once
OUTPUT = ".output"  # the run's output, for those who join it; no stream shows it
_ENGINE_MODES = {"messages-tuple": "messages", "messages": "messages"}


def engine_modes(modes: Sequence[str]) -> list[str]:
    """What the engine is asked to stream for the modes of a request."""
    return list(dict.fromkeys(_ENGINE_MODES.get(mode, mode) for mode in modes))


class Recorder:
    """Stores what one run shows, as `record` says if there is one. `on_lost` is called when the run turns out not to
    be this worker's any more."""

    def __init__(
        self,
        queue: RunQueue,
        run: RunRow,
        owner: str,
        feed: Feed,
        modes: Sequence[str],
        base: int,
        record: Record | None,
        on_stored: Callable[[int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._run = run
        self._owner = owner
        self._feed = feed
        self._modes = frozenset(modes)
        self._base = base
        self._record = record
        self._on_stored = on_stored
        self._on_lost = on_lost
        self._waiting: list[Event] = []
        self._flushing: asyncio.Task[None] | None = None
        self._messages: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.last_values: bytes | None = None  # of the root, as shown last

    def show(self, chunk: Any) -> None:
        """Take a chunk of the engine's stream, `(namespace, mode, data)`."""
        ns, mode, data = chunk
        if self._record is not None:
            for name, said in self._record.take(ns, mode, data):
                self._add_encoded(name, said)
            return
        suffix = "|" + "|".join(ns) if ns else ""
        if mode != "messages":
            self._add_encoded(mode + suffix, _addressed(data) if mode == "debug" else data)
            return
        if "messages-tuple" in self._modes:
            self.add("messages" + suffix, encoded(list(data)))
        if "messages" in self._modes:
            for name, body in self._whole_messages(*data):
                self.add(name + suffix, body)

    def _add_encoded(self, name: str, data: Any) -> None:
        body = encoded(data)
        if name == "values":
            self.last_values = body
        self.add(name, body)

    def add(self, name: str, data: bytes) -> None:
        """Take an event."""
        self._waiting.append((name, data))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def settled(self) -> None:
        """Wait until what was taken is stored, or cannot be."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def rest(self) -> tuple[int, list[Event]]:
        """Wait for what is being stored, and give what is not, with the number of its first event."""
        await self.settled()
        if self._record is not None:
            self._waiting += [(name, encoded(data)) for name, data in self._record.finish()]
        if self.error is None and sum(len(data) for _, data in self._waiting) > BATCH_BYTES:
            await self._flush()
        return self._feed.last + 1, self._batch()

    async def _flush(self) -> None:
        while self._waiting:
            events = self._batch()
            try:
                is_kept = await self._queue.add_events(self._run, self._owner, self._feed.last + 1, events)
            except Exception as error:
                self.error = error
                is_kept = False
            if not is_kept:
                self._on_lost()
                return
            self._feed.publish(events)
            self._on_stored(len(events) - 1)

    def _batch(self) -> list[Event]:
        """The first of what waits, as much of it as fits into a batch, with its time."""
        count = size = 0
        for _, data in self._waiting:
            size += len(data)
            if count and size > BATCH_BYTES:
                break
            count += 1
        events, self._waiting = self._waiting[:count], self._waiting[count:]
        return [stamp(self._base), *events]

    def _whole_messages(self, chunk: Any, metadata: Any) -> Sequence[Event]:
        """A chunk as mode "messages" shows it: the whole message so far, with its metadata when it is new."""
        id, is_chunk = str(chunk.id), str(chunk.type).endswith("Chunk")
        events: list[Event] = []
        if id not in self._messages:
            events.append(("messages/metadata", encoded({id: {"metadata": metadata}})))
        self._messages[id] = self._messages[id] + chunk if is_chunk and id in self._messages else chunk
        events.append(("messages/partial" if is_chunk else "messages/complete", encoded([_whole(self._messages[id])])))
        return events


def _addressed(data: Any) -> Any:
    """What mode "debug" tells of a checkpoint, with which one it is, as in a thread's history."""
    if data["type"] != "checkpoint":
        return data
    payload = data["payload"]
    before = payload.get("parent_config")
    named = {
        "checkpoint": checkpoint_json(payload["config"]),
        "parent_checkpoint": checkpoint_json(before) if before else None,
    }
    return {**data, "payload": {**payload, **named}}


def _whole(message: Any) -> Any:
    """A message that was put together from chunks, as what it is: one of "ai", say, and not a chunk of one."""
    if not str(message.type).endswith("Chunk"):
        return message
    from langchain_core.messages import message_chunk_to_message  # late: whoever has chunks has it

    return message_chunk_to_message(message)
