"""What runs leave behind, removed when it has been kept for long enough. Rules over named queries; no I/O."""

from __future__ import annotations

from clew.storage import upkeep
from clew.storage.log import Place
from clew.storage.query import Query, Steps
from clew.storage.runs import remove_run

EVENTS = "events"  # the duty that goes by
_LATE = 60_000_000  # microseconds: a transaction may end so much later than the time that it wrote
_NEVER = 2**61  # microseconds


def remove_old_events(tenant: str, keep: int, limit: int) -> Steps[int]:
    """Remove the events of up to `limit` runs that ended more than `keep` microseconds ago; gives how many runs were
    looked at. How far it came is kept with the duty, so that no run is looked at for ever."""
    rows = yield Query("duty_mark", (tenant, EVENTS))
    mark = rows[0][0] if rows else None
    over = yield Query("run_over", (tenant, -1 if mark is None else mark - _LATE, keep, limit))
    for run_id, _ in over:
        yield Query("event_remove", (tenant, run_id))
    if over:
        yield Query("duty_note", (tenant, EVENTS, over[-1][1]))
    return len(over)


def forget_runs(root: Place, keep: int, keep_rows: int | None, limit: int) -> Steps[int]:
    """Remove up to `limit` runs that ended long ago, with their events: those of a thread of their own after `keep`
    microseconds, and what is left of that thread; the others after `keep_rows` (None: with their thread)."""
    gone = yield Query("run_forgettable", (root.tenant, keep, limit))
    for run_id, thread in gone:
        yield from _remove_leftover(root.of(thread))
        yield from remove_run(root.of(thread), run_id)
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
