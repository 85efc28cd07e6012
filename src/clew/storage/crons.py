"""Crons: requests for runs that are made again and again. Rules over named queries; no I/O, no schedules.

When a cron is due next is asked of a function that the caller brings; times are on the database's clock.

Invariants: a cron fires once for each time: its run is made, under a key of that time, in the transaction that moves it
on. What was missed while nobody was there is made up for by one run. A cron of another owner does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from clew import _failpoints
from clew.serde.compress import pack, unpack
from clew.storage.log import Place, Waiting
from clew.storage.query import Query, Row, Steps

Following = Callable[[str, str | None, int], int | None]
"""The time after one, in microseconds since 1970, at which a schedule in a time zone is due; None: never again."""


class CronRow(NamedTuple):
    """A row of the table of crons. Times in microseconds since 1970; `user_id` "" is nobody's, `thread` None: each run
    has its own. `payload` is the request, as JSON data, `configurable` what its runs know of who asked; `error` says
    why the last run was not made."""

    cron_id: str
    user_id: str
    thread: str | None
    assistant_id: str
    schedule: str
    timezone: str | None
    on_run_completed: str | None
    enabled: int
    created_at: int
    updated_at: int
    next_at: int | None
    end_time: int | None
    error: str | None
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    configurable: Mapping[str, Any]


class Fired(NamedTuple):
    """A time at which a cron was due, and when it is due next."""

    at: int
    next_at: int | None


class CronFilter(NamedTuple):
    """Which crons a list asks for; None is all."""

    user_id: str | None
    thread: str | None = None
    assistant_id: str | None = None
    enabled: bool | None = None


def add_cron(root: Place, row: CronRow, following: Following) -> Steps[CronRow]:
    """Make a cron; its times are set here."""
    now = (yield Query("now", ()))[0][0]
    row = row._replace(created_at=now, updated_at=now)
    row = row._replace(next_at=_next(row, following, now))
    yield Query(
        "cron_add",
        (root.tenant, *row[:8], now, row.next_at, row.end_time, _kept(root, row)),
    )
    return row


def find_cron(root: Place, cron_id: str, user_id: str | None) -> Steps[CronRow | None]:
    """A cron of `user_id`, or of anyone; None if there is none."""
    rows = yield Query("cron_get", (root.tenant, cron_id))
    return _read(root, rows[0]) if rows and user_id in (None, rows[0][1]) else None


def list_crons(root: Place, wanted: CronFilter) -> Steps[list[CronRow]]:
    """Crons, newest first."""
    enabled = None if wanted.enabled is None else int(wanted.enabled)
    rows = yield Query("cron_list", (root.tenant, *wanted[:3], enabled))
    return [_read(root, row) for row in rows]


def change_cron(
    root: Place, cron_id: str, user_id: str | None, changes: Mapping[str, Any], following: Following
) -> Steps[CronRow | None]:
    """Set fields of a cron; `payload` and `metadata` are merged into what is there. None if there is no such cron.

    A cron whose schedule, zone or end changes, or that is enabled again, is due at the next time from now on.
    """
    row = yield from find_cron(root, cron_id, user_id)
    if row is None:
        return None
    now = (yield Query("now", ()))[0][0]
    merged = {name: {**getattr(row, name), **changes[name]} for name in ("payload", "metadata") if name in changes}
    changed = row._replace(**{**changes, **merged}, updated_at=now)
    timing = ("schedule", "timezone", "end_time", "enabled")
    if any(getattr(row, name) != getattr(changed, name) for name in timing):
        changed = changed._replace(next_at=_next(changed, following, now))
    yield Query(
        "cron_set",
        (root.tenant, cron_id, *changed[3:8], now, changed.next_at, changed.end_time, _kept(root, changed)),
    )
    return changed


def remove_cron(root: Place, cron_id: str, user_id: str | None) -> Steps[bool]:
    """Delete a cron; runs that it made stay. Gives whether there was one."""
    row = yield from find_cron(root, cron_id, user_id)
    if row is None:
        return False
    yield Query("cron_remove", (root.tenant, cron_id))
    return True


# Firing


def next_cron(tenant: str) -> Steps[int | None]:
    """In how many microseconds the next cron is due; None: none ever is."""
    return (yield Query("cron_next", (tenant,)))[0][0]


def due_crons(tenant: str, limit: int) -> Steps[list[str]]:
    """Crons that are due, the longest overdue first."""
    return [cron_id for (cron_id,) in (yield Query("cron_due", (tenant, limit)))]


def fire_cron(
    root: Place, cron_id: str, make: Callable[[CronRow, int], Steps[object]], following: Following
) -> Steps[Fired | None]:
    """Make the run of a cron that is due, by the rule that `make` gives for the cron and the time, and move the cron
    on; None if it is not due any more."""
    row, now = yield from _due(root, cron_id)
    if row is None or row.next_at is None:
        return None
    yield from make(row, row.next_at)
    _failpoints.hit("cron.made")
    fired = Fired(row.next_at, _next(row, following, now))
    yield Query("cron_move", (root.tenant, cron_id, fired.at, fired.next_at, None))
    return fired


def skip_cron(root: Place, cron_id: str, following: Following, error: str) -> Steps[Fired | None]:
    """Move a cron on whose run could not be made, and note why; None if it is not due any more."""
    rows = yield Query("cron_get", (root.tenant, cron_id))
    now = (yield Query("now", ()))[0][0]
    if not rows or rows[0][10] is None or rows[0][10] > now:
        return None
    row = CronRow._make((*rows[0][:-1], {}, {}, {}))  # its body may be what cannot be read
    assert row.next_at is not None, "it is due"
    fired = Fired(row.next_at, _next(row, following, now))
    yield Query("cron_move", (root.tenant, cron_id, fired.at, fired.next_at, error))
    return fired


def rekey_crons(root: Place) -> Steps[int]:
    """Put every request that is not under the current key under it; gives how many."""
    keys, changed = root.vault.keys, 0
    assert keys is not None, "only asked where there is a key"
    for cron_id, user_id, body in (yield Query("cron_body_list", (root.tenant,))):
        if not keys.is_current(body):
            opened = _open(root, cron_id, user_id, body)
            yield Query("cron_body_set", (root.tenant, cron_id, _sealed(root, cron_id, user_id, opened)))
            changed += 1
    return changed


def _due(root: Place, cron_id: str) -> Steps[tuple[CronRow | None, int]]:
    """A cron if it is due, locked where a backend locks rows, and the time."""
    row = yield from find_cron(root, cron_id, None)
    now = (yield Query("now", ()))[0][0]
    is_due = row is not None and row.next_at is not None and row.next_at <= now
    return (row if is_due else None), now


def _next(row: CronRow, following: Following, now: int) -> int | None:
    """When a cron is due next, after `now`."""
    if not row.enabled:
        return None
    at = following(row.schedule, row.timezone, now)
    return None if at is None or (row.end_time is not None and at > row.end_time) else at


def _kept(root: Place, row: CronRow) -> bytes:
    return _sealed(root, row.cron_id, row.user_id, json.dumps((row.payload, row.metadata, row.configurable)).encode())


def _sealed(root: Place, cron_id: str, user_id: str, opened: bytes) -> bytes:
    return root.vault.seal_task(root.of(cron_id), Waiting(0, 0, _task(user_id), 0, pack(opened)))


def _open(root: Place, cron_id: str, user_id: str, body: bytes) -> bytes:
    return unpack(root.vault.open_task(root.of(cron_id), Waiting(0, 0, _task(user_id), 0, body)))


def _read(root: Place, fields: Row) -> CronRow:
    *rest, body = fields
    return CronRow(*rest, *json.loads(_open(root, fields[0], fields[1], body)))


def _task(user_id: str) -> bytes:
    """The name under which a sealed request is bound to its owner."""
    return b"cron of " + user_id.encode()
