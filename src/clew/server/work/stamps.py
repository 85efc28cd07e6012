"""When and where: each batch of a run's events begins with one that no stream shows, which says when it was stored and
where the run's events are among those of its thread.

The number of an event in its thread is the run's base plus its number in the run. The base is when the run started
first, in microseconds since 1970 on the database's clock: runs of a thread start one after the other, and none shows
a million events a second, so that the numbers rise through a thread, on whatever replica they are read. A double
holds them exactly until 2255.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from clew.storage.runs import Event

AT = ".at"


class Stamp(NamedTuple):
    """The run's base, and when the batch was stored in milliseconds since 1970."""

    base: int
    millis: int


def stamp(base: int) -> Event:
    """The first event of a batch that is stored now."""
    return AT, b"%d %d" % (base, time.time_ns() // 1_000_000)


def read_stamp(data: bytes) -> Stamp:
    """What such an event says."""
    base, millis = data.split()
    return Stamp(int(base), int(millis))


def base_of(events: Sequence[tuple[int, str, bytes]]) -> int | None:
    """The base of a run that showed these events; None if none of them says it."""
    return next((read_stamp(data).base for _, name, data in events if name == AT), None)
