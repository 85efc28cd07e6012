"""Threads whose time is up: which they are, and deleting one. Rules over named queries; no I/O.

A thread lives for so many minutes after it was last used: by a message, a run's end, or any other write. Those that do
not say how many live as long as the default says, or for ever.

Invariant: a thread with a run that waits or runs is never deleted here.
"""

from __future__ import annotations

from typing import NamedTuple

from clew.retention import ThreadTtl
from clew.storage import retention as rules
from clew.storage import upkeep
from clew.storage.log import Place
from clew.storage.query import Query, Steps

MINUTE = 60_000_000  # microseconds
DELETE = "delete"


class Expired(NamedTuple):
    """A thread whose time is up, what is to become of it, and when it was last used, in microseconds since 1970."""

    thread: str
    strategy: str
    active_at: int
    minutes: int


class Lost(NamedTuple):
    """What went with a thread."""

    checkpoints: int
    bytes: int


def expired_threads(root: Place, ttl: ThreadTtl) -> Steps[list[Expired]]:
    """Threads whose time is up, those that say it themselves first; at most `ttl.sweep_limit`."""
    limit = ttl.sweep_limit
    rows = yield Query("thread_expired", (root.tenant, DELETE, limit))
    if ttl.minutes is not None and len(rows) < limit:
        asked = (root.tenant, ttl.strategy, ttl.minutes, DELETE, limit - len(rows))
        rows += yield Query("thread_expired_default", asked)
    return [Expired._make(row) for row in rows]


def measure_expired(place: Place) -> Steps[Lost]:
    """What would go with a thread."""
    found = yield from rules.read_usage(place.tenant, place.thread, place.thread)
    lines = found[0] if found else []
    spilled = yield from rules.spilled_bytes(place)
    return Lost(sum(line.checkpoints for line in lines), sum(line.bytes for line in lines) + spilled)


def delete_expired(place: Place, expired: Expired) -> Steps[Lost | None]:
    """Delete a thread whose time is up, in one transaction; None if it was used again meanwhile, or changed."""
    rows = yield Query("thread_get", (place.tenant, place.thread))  # no run is made on it from here on
    if not rows or rows[0][6] != expired.active_at:
        return None
    minutes = rows[0][9]
    if minutes is not None and (minutes != expired.minutes or rows[0][10] not in (None, DELETE)):
        return None
    since = (yield Query("now", ()))[0][0] - expired.minutes * MINUTE
    yield Query("head_list", (place.tenant, place.thread))
    touched = (yield Query("thread_touched", (place.tenant, place.thread)))[0][0]
    if (touched or 0) > since or (yield Query("thread_busy", (place.tenant, place.thread, since)))[0][0]:
        return None
    lost = yield from measure_expired(place)
    yield from upkeep.delete_thread(place.tenant, place.thread)
    return lost


def note_swept(place: Place, expired: Expired) -> Steps[None]:
    """All but the newest checkpoints of a thread went: it is left alone until it was used again."""
    yield Query("thread_swept", (place.tenant, place.thread, expired.active_at))
