"""Runs of the service: made, claimed by workers under a lease, ended once. Rules over named queries; no I/O.

A worker that lost its lease is fenced by `owner` and `epoch`: what it says afterwards changes nothing. Leases and start
times are on the database's clock.

Invariants: at most one run of a thread is running; runs of a thread start in the order in which they were made; a run
ends once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from clew.errors import RunNotFoundError, ThreadBusyError
from clew.serde.compress import pack, unpack
from clew.storage.log import Place, Waiting
from clew.storage.query import Query, Row, Steps

Strategy = Literal["enqueue", "reject", "interrupt", "rollback"]
_BODY, _EVENT = b"run ", b"event "


class RunRow(NamedTuple):
    """A row of the table of runs. Times in microseconds since 1970; `request` is what was asked for, as JSON data;
    `error` what ended it, likewise."""

    run_id: str
    thread: str
    assistant_id: str
    status: str
    strategy: str
    created_at: int
    updated_at: int
    priority: int
    attempt: int
    epoch: int
    cancel: str | None
    metadata: Mapping[str, Any]
    error: Mapping[str, Any] | None
    request: Mapping[str, Any]
    tenant: str


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to make. `after` is how long it waits at least before it starts, in microseconds."""

    run_id: str
    assistant_id: str
    request: Mapping[str, Any]
    metadata: Mapping[str, Any]
    strategy: Strategy = "enqueue"
    priority: int = 0
    after: int = 0
    idempotency_key: str | None = None


class Made(NamedTuple):
    """What making a run came to: the run, whether it is new, and the runs that have to make way for it."""

    run: RunRow
    is_new: bool
    cancelled: tuple[str, ...]
    removed: tuple[str, ...]


def add_run(place: Place, new: NewRun) -> Steps[Made]:
    """Make a run on a thread that has a row in the table of threads.

    Of runs that are there already "reject" is refused with `ThreadBusyError`, "interrupt" and "rollback" stop the one
    that runs and take those that wait out. The same `idempotency_key` again gives the run that was made with it.
    """
    yield Query("thread_get", (place.tenant, place.thread))  # a backend that locks rows locks the thread's here
    if new.idempotency_key is not None:
        rows = yield Query("run_keyed", (place.tenant, new.idempotency_key))
        if rows:
            return Made(_read(place, rows[0]), False, (), ())
    active = [_read(place, row) for row in (yield Query("run_active", (place.tenant, place.thread)))]
    if active and new.strategy == "reject":
        raise ThreadBusyError(
            f"thread {place.thread!r} is already running a task", hint="wait for it, or choose another strategy"
        )
    cancelled: list[str] = []
    removed: list[str] = []
    if new.strategy in ("interrupt", "rollback"):
        for run in active:
            if run.status == "running":
                yield Query("run_cancel", (place.tenant, run.run_id, new.strategy))
                cancelled.append(run.run_id)
            elif new.strategy == "rollback":
                yield from remove_run(place, run.run_id)
                removed.append(run.run_id)
            else:
                yield Query("run_set", (place.tenant, run.run_id, "pending", "interrupted", None))
                cancelled.append(run.run_id)
    body = place.vault.seal_task(place, _bound(_BODY, new.run_id, 0, pack(json.dumps(new.request).encode())))
    rows = yield Query(
        "run_add",
        (
            place.tenant,
            new.run_id,
            place.thread,
            new.assistant_id,
            new.strategy,
            new.priority,
            new.after,
            new.idempotency_key,
            json.dumps(new.metadata),
            body,
        ),
    )
    if rows:
        return Made(_read(place, rows[0]), True, tuple(cancelled), tuple(removed))
    return Made((yield from get_run(place, new.run_id)), False, tuple(cancelled), tuple(removed))


def get_run(place: Place, run_id: str) -> Steps[RunRow]:
    """A run of a thread; raises `RunNotFoundError`."""
    rows = yield Query("run_get", (place.tenant, run_id))
    if not rows or rows[0][1] != place.thread:
        raise RunNotFoundError(f"thread {place.thread!r} has no run {run_id!r}", hint="list the thread's runs")
    return _read(place, rows[0])


def list_runs(place: Place, status: str | None, limit: int, offset: int) -> Steps[list[RunRow]]:
    """Runs of a thread, newest first."""
    rows = yield Query("run_list", (place.tenant, place.thread, status, limit, offset))
    return [_read(place, row) for row in rows]


def remove_run(place: Place, run_id: str) -> Steps[None]:
    """Delete a run with its events."""
    yield Query("event_remove", (place.tenant, run_id))
    yield Query("run_remove", (place.tenant, run_id))


def cancel_run(place: Place, run_id: str, action: Literal["interrupt", "rollback"]) -> Steps[RunRow]:
    """Ask for a run's end: one that waits ends at once, one that runs when its worker hears of it."""
    run = yield from get_run(place, run_id)
    if run.status == "pending":
        yield Query("run_set", (place.tenant, run_id, "pending", "interrupted", None))
    elif run.status == "running":
        yield Query("run_cancel", (place.tenant, run_id, action))
    return (yield from get_run(place, run_id))


# Workers


def claim_runs(root: Place, owner: str, lease: int, limit: int) -> Steps[list[RunRow]]:
    """Take up to `limit` runs that can start, for `lease` microseconds; of each thread the oldest that waits."""
    rows = yield Query("run_claim", (owner, lease, limit))
    return [_read(_of(root, row), row) for row in rows]


def renew_runs(owner: str, lease: int) -> Steps[dict[str, tuple[int, str | None]]]:
    """Hold on to all runs of a worker; gives the epoch of each by id, and how it is to be cancelled, if it is."""
    rows = yield Query("run_renew", (owner, lease))
    return {run_id: (epoch, cancel) for run_id, epoch, cancel in rows}


def end_run(run: RunRow, owner: str, status: str, error: Mapping[str, Any] | None = None) -> Steps[bool]:
    """Say how a run ended; False if the worker has lost it, and nothing was changed."""
    said = None if error is None else json.dumps(error)
    done = yield Query("run_end", (run.tenant, run.run_id, owner, run.epoch, status, said))
    return bool(done[0][0])


def release_runs(owner: str) -> Steps[list[str]]:
    """Give back all runs of a worker that goes away; the attempt does not count."""
    return [run_id for (run_id,) in (yield Query("run_release", (owner,)))]


def sweep_runs(max_attempts: int, limit: int) -> Steps[tuple[list[str], list[str]]]:
    """Runs whose worker was lost wait again, or end as failed where that has happened too often; gives both."""
    waiting: list[str] = []
    dead: list[str] = []
    for tenant, run_id, attempt in (yield Query("run_expired", (limit,))):
        if attempt < max_attempts:
            yield Query("run_set", (tenant, run_id, "running", "pending", None))
            waiting.append(run_id)
            continue
        error = {"error": "WorkerLostError", "message": f"the run was lost with its worker {attempt} times"}
        yield Query("run_set", (tenant, run_id, "running", "error", json.dumps(error)))
        dead.append(run_id)
    return waiting, dead


# What a run has shown


def add_events(place: Place, run: RunRow, owner: str, first: int, events: list[tuple[str, bytes]]) -> Steps[bool]:
    """Keep events from number `first` on, as (name, data); False if the worker has lost the run: nothing was kept."""
    for seq, (name, data) in enumerate(events, first):
        body = place.vault.seal_task(place, _bound(_EVENT, run.run_id, seq, pack(data)))
        done = yield Query("event_add", (run.tenant, run.run_id, owner, run.epoch, seq, name, body))
        if not done[0][0]:
            return False
    return True


def list_events(place: Place, run_id: str, after: int, limit: int) -> Steps[list[tuple[int, str, bytes]]]:
    """Events of a run after number `after`: number, name and data."""
    rows = yield Query("event_list", (place.tenant, run_id, after, limit))
    return [
        (seq, name, unpack(place.vault.open_task(place, _bound(_EVENT, run_id, seq, body)))) for seq, name, body in rows
    ]


def last_event(place: Place, run_id: str) -> Steps[int]:
    """The number of a run's last event; 0 if it has none."""
    return (yield Query("event_last", (place.tenant, run_id)))[0][0]


def _bound(kind: bytes, run_id: str, seq: int, body: bytes) -> Waiting:
    """What a sealed body is bound to, besides its thread."""
    return Waiting(0, seq, kind + run_id.encode(), 0, body)


def _of(root: Place, row: Row) -> Place:
    return Place(row[-1], row[1], "", root.vault)


def _read(place: Place, row: Row) -> RunRow:
    *rest, metadata, error, body, tenant = row
    request = unpack(place.vault.open_task(place, _bound(_BODY, row[0], 0, body)))
    return RunRow._make(
        (*rest, json.loads(metadata), None if error is None else json.loads(error), json.loads(request), tenant)
    )
