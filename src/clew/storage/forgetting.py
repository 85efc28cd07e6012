"""What runs leave behind, removed when it has been kept for long enough. Rules over named queries; no I/O."""

from __future__ import annotations

from clew.storage import upkeep
from clew.storage.log import Place
from clew.storage.query import Query, Steps
from clew.storage.runs import remove_run

EVENTS = "events"  # the duty that goes by
_LATE = 60_000_000  # microseconds: a transaction may end so much later than the time that it wrote
_NEVER = 2**61  # microseconds


def remove_old_events(tenant: str, keep: int, limit: int, after: int | None = None) -> Steps[tuple[int, int | None]]:
    """Remove the events of up to `limit` runs that ended more than `keep` microseconds ago; gives how many runs were
    looked at, and what to go on `after`. How far it came is kept with the duty, so that no run is looked at for ever:
    the next one begins a little before that."""
    if after is None:
        rows = yield Query("duty_mark", (tenant, EVENTS))
        mark = rows[0][0] if rows else None
        after = -1 if mark is None else mark - _LATE
    over = yield Query("run_over", (tenant, after, keep, limit))
    if not over:
        return 0, after
    last = over[-1][1]
    yield Query("event_remove_over", (tenant, after, last))
    yield Query("duty_note", (tenant, EVENTS, last))
    return len(over), last


def forget_runs(root: Place, keep: int, keep_rows: int | None, limit: int) -> Steps[int]:
    """Remove up to `limit` runs that ended long ago, with their events: those of a thread of their own after `keep`
    microseconds, and what is left of that thread; the others after `keep_rows` (None: with their thread)."""
    gone = yield Query("run_forgettable", (root.tenant, keep, limit))
    for thread, has_thread, _ in gone:
        if has_thread:
            yield from _remove_leftover(root.of(thread))
    if gone:
        last = gone[-1][2]
        yield Query("event_forget", (root.tenant, last))
        yield Query("run_forget", (root.tenant, last))
    if keep_rows is None or len(gone) >= limit:
        return len(gone)
    old = yield Query("run_listed_too_long", (root.tenant, max(keep_rows, keep), limit - len(gone)))
    for run_id, thread in old:
        yield from remove_run(root.of(thread), run_id)
    return len(gone) + len(old)


def _remove_leftover(place: Place) -> Steps[None]:
    """Remove the thread of a stateless run, if its end did not; not while there is another run on it."""
    yield Query("thread_get", (place.tenant, place.thread))
    if not (yield Query("thread_busy", (place.tenant, place.thread, _NEVER)))[0][0]:
        yield from upkeep.delete_thread(place.tenant, place.thread)
