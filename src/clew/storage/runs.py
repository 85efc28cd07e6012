"""Runs of the service: made, claimed by workers under a lease, ended once. Rules over named queries; no I/O.

A worker that lost its lease is fenced by `owner` and `epoch`: what it says afterwards changes nothing. Leases and start
times are on the database's clock.

Invariants: at most one run of a thread is running; runs of a thread start in the order in which they were made; a run
ends once; a thread that has a run which waits or runs is busy.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import ormsgpack

from clew.errors import RunNotFoundError, ThreadBusyError, ThreadNotFoundError
from clew.ids import id_bytes
from clew.serde.compress import pack, unpack
from clew.storage import threads, upkeep
from clew.storage.log import Place, Waiting
from clew.storage.query import Query, Row, Steps, ask
from clew.storage.threads import Only, ThreadRow

Strategy = Literal["enqueue", "reject", "interrupt", "rollback"]
Action = Literal["interrupt", "rollback"]
Event = tuple[str, bytes]
_random = random.SystemRandom()
_BODY, _EVENTS = b"run ", b"events "
UNREADABLE = "unreadable"  # why a request cannot be read, in its place


class RunRow(NamedTuple):
    """A row of the table of runs. Times in microseconds since 1970; `request` is what was asked for, as JSON data;
    `began` what its first worker found, and `error` what ended it, likewise. `user_id` "" is nobody's."""

    run_id: str
    thread: str
    user_id: str
    assistant_id: str
    status: str
    strategy: str
    created_at: int
    updated_at: int
    ended_at: int | None
    priority: int
    attempt: int
    epoch: int
    is_ephemeral: int
    cancel: str | None
    began: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    error: Mapping[str, Any] | None
    request: Mapping[str, Any]
    tenant: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("pending", "running")

    @property
    def is_repeated(self) -> bool:
        """Whether a worker had it before the one that has it now; one that gave it back made no attempt of it."""
        return self.epoch > 1


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker, and for how long it is given a run, in microseconds."""

    owner: str
    duration: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to make. `after` is how long it waits at least before it starts, in microseconds. With `start`, the run is
    given to that worker at once if nothing is before it. `marks` is put into the thread's metadata. An ephemeral run
    takes its thread along when it ends."""

    run_id: str
    assistant_id: str
    request: Mapping[str, Any]
    metadata: Mapping[str, Any]
    user_id: str = ""
    strategy: Strategy = "enqueue"
    priority: int = 0
    after: int = 0
    idempotency_key: str | None = None
    is_ephemeral: bool = False
    marks: Mapping[str, Any] | None = None
    start: Lease | None = None


class Made(NamedTuple):
    """What making a run came to: the run, whether it is new, and the runs that have to make way for it."""

    run: RunRow
    is_new: bool
    cancelled: tuple[str, ...]
    removed: tuple[str, ...]


class Swept(NamedTuple):
    """What became of runs whose worker was lost."""

    waiting: list[RunRow]
    dead: list[RunRow]
    cancelled: list[RunRow]


def add_run(
    place: Place,
    new: NewRun,
    *,
    user_id: str | None = None,
    if_missing: ThreadRow | None = None,
    only: Only | None = None,
    is_last: bool = False,
) -> Steps[Made]:
    """Make a run on a thread of `user_id` (None: anyone's), one of `only`; `if_missing` is the row of one to make.

    Of runs that are there already "reject" is refused with `ThreadBusyError`, "interrupt" and "rollback" stop the one
    that runs and take those that wait out. The same `idempotency_key` again gives the run that was made with it.
    Raises `ThreadNotFoundError` where there is no such thread. `is_last`: nothing follows in this transaction.
    """
    if new.idempotency_key is not None:
        rows = yield Query("run_keyed", (place.tenant, new.idempotency_key))
        if rows:
            return Made(_read(_of(place, rows[0]), rows[0]), False, (), ())
    found, running = yield from ask(  # a backend that locks rows locks the thread's here
        Query("thread_get", (place.tenant, place.thread)), Query("run_active", (place.tenant, place.thread))
    )
    thread = threads.seen_thread(place, found, user_id, only)
    if thread is None:
        if if_missing is None:
            raise ThreadNotFoundError(
                f"there is no thread {place.thread!r}", hint="make it first, or if_not_exists='create'"
            )
        thread = yield from threads.add_thread(place, if_missing, if_exists="do_nothing", only=only)
        if thread is not if_missing:  # another request has made it meanwhile, and a run on it
            running = yield Query("run_active", (place.tenant, place.thread))
    is_there = thread is not if_missing
    if running and new.idempotency_key is not None:  # before its thread was ours to look at, the run was not there
        rows = yield Query("run_keyed", (place.tenant, new.idempotency_key))
        if rows:
            return Made(_read(_of(place, rows[0]), rows[0]), False, (), ())
    active = [_read(place, row) for row in running]
    if active and new.strategy == "reject":
        raise ThreadBusyError(
            f"thread {place.thread!r} is already running a task", hint="wait for it, or choose another strategy"
        )
    cancelled, removed = yield from _make_way(place, new.strategy, active)
    body = place.vault.seal_task(place, _bound(_BODY, new.run_id, 0, pack(json.dumps(new.request).encode())))
    start = None if active or new.after > 0 else new.start
    is_marked = all(thread.metadata.get(key) == value for key, value in (new.marks or {}).items())
    add = Query(
        "run_add",
        (
            place.tenant,
            new.run_id,
            place.thread,
            new.user_id,
            new.assistant_id,
            new.strategy,
            new.priority,
            new.after,
            new.idempotency_key,
            json.dumps(new.metadata),
            body,
            None if start is None else start.owner,
            int(new.is_ephemeral),
            0 if start is None else start.duration,
        ),
    )
    settle = Query("run_settle", (place.tenant, place.thread, thread.status))
    rows, _ = yield from ask(add, settle, is_last=is_last and is_marked and new.idempotency_key is None)
    if not rows:
        return (yield from _made_before(place, new, is_made=is_there))
    run = _read(place, rows[0])
    if not is_marked:
        yield from threads.change_thread(place, None, {"metadata": new.marks, "status": "busy"}, run.created_at)
    return Made(run, True, cancelled, removed)


def _made_before(place: Place, new: NewRun, *, is_made: bool) -> Steps[Made]:
    """The run that another request has made with the same id or key while this one was made; a thread that was made
    for this one goes again, unless `is_made`: it was there."""
    rows = yield Query("run_get", (place.tenant, new.run_id))
    if not rows and new.idempotency_key is not None:
        rows = yield Query("run_keyed", (place.tenant, new.idempotency_key))
    if not rows:
        raise RunNotFoundError(f"thread {place.thread!r} has no run {new.run_id!r}", hint="list the thread's runs")
    run = _read(_of(place, rows[0]), rows[0])
    if not is_made and run.thread != place.thread:
        yield Query("thread_remove", (place.tenant, place.thread))
    return Made(run, False, (), ())


def _make_way(
    place: Place, strategy: Strategy, active: Sequence[RunRow]
) -> Steps[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Stop what is there for a run that interrupts or replaces it; gives the runs stopped, and those taken out."""
    cancelled: list[str] = []
    removed: list[str] = []
    for run in active if strategy in ("interrupt", "rollback") else ():
        if run.status == "running":
            yield Query("run_cancel", (place.tenant, run.run_id, strategy))
            cancelled.append(run.run_id)
        elif strategy == "rollback":
            yield from (roll_back(place, run) if run.epoch else remove_run(place, run.run_id))
            removed.append(run.run_id)
        else:
            yield Query("run_set", (place.tenant, run.run_id, "pending", "interrupted", None))
            cancelled.append(run.run_id)
    return tuple(cancelled), tuple(removed)


def find_run(root: Place, run_id: str, user_id: str | None) -> Steps[RunRow]:
    """A run of `user_id` (None: anyone's) by its id alone; raises `RunNotFoundError`."""
    rows = yield Query("run_get", (root.tenant, run_id))
    if not rows or user_id not in (None, rows[0][2]):
        raise RunNotFoundError(f"there is no run {run_id!r}")
    return _read(_of(root, rows[0]), rows[0])


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


def shown_runs(place: Place, ended: int, limit: int) -> Steps[list[RunRow]]:
    """Runs of a thread that ended at that time or later, in that order, and then the one that runs."""
    return [_read(place, row) for row in (yield Query("run_shown", (place.tenant, place.thread, ended, limit)))]


def run_ends(place: Place) -> Steps[tuple[int, int, int]]:
    """When a run of a thread ended last (0: never), how many runs it has, and the time now."""
    last, count, now = (yield Query("run_ends", (place.tenant, place.thread)))[0]
    return last, count, now


def active_runs(place: Place) -> Steps[list[RunRow]]:
    """Runs of a thread that wait or run, oldest first."""
    return [_read(place, row) for row in (yield Query("run_active", (place.tenant, place.thread)))]


def count_runs(tenant: str) -> Steps[dict[str, int]]:
    """How many runs wait and how many run."""
    return dict((yield Query("run_counts", (tenant,))))


def remove_run(place: Place, run_id: str) -> Steps[None]:
    """Delete a run with its events."""
    yield Query("event_remove", (place.tenant, run_id))
    yield Query("run_remove", (place.tenant, run_id))


def cancel_run(place: Place, run_id: str, action: Action, *, leaves: str = "idle") -> Steps[RunRow]:
    """Ask for a run's end: one that waits ends at once, and leaves its thread in that status; one that runs ends when
    its worker hears of it."""
    run = yield from get_run(place, run_id)
    if run.status == "pending" and run.epoch and action == "rollback":  # it has run before: there may be something
        yield from roll_back(place, run)
        return run._replace(status="interrupted")
    if run.status == "pending":
        yield Query("run_set", (place.tenant, run_id, "pending", "interrupted", None))
        yield Query("run_settle", (place.tenant, place.thread, leaves))
    elif run.status == "running":
        yield Query("run_cancel", (place.tenant, run_id, action))
    return (yield from get_run(place, run_id))


# Workers


def claim_runs(
    root: Place,
    owner: str,
    lease: int,
    limit: int,
    last: int = 1_000_000,
    *,
    takes_last: bool = True,
    passed: Collection[str] = (),
) -> Steps[list[RunRow]]:
    """Take up to `limit` runs that can start, for `lease` microseconds; of each thread the oldest that waits.

    Of those that were lost `last` times at least, one, and with `takes_last` only: it may be what its workers died of.
    Those whose ids are in `passed` are left to other workers.
    """
    rows = yield Query(
        "run_claim", (root.tenant, owner, lease, limit, last, int(takes_last), json.dumps(sorted(passed)))
    )
    return [_read(_of(root, row), row) for row in rows]


def pass_run(run: RunRow, owner: str) -> Steps[None]:
    """Let a run that was just taken wait for another worker, as if nobody had taken it."""
    yield Query("run_pass", (run.tenant, run.run_id, owner, run.epoch))


def renew_runs(owner: str, lease: int) -> Steps[dict[str, tuple[int, str | None]]]:
    """Hold on to all runs of a worker; gives the epoch of each by id, and how it is to be cancelled, if it is."""
    rows = yield Query("run_renew", (owner, lease))
    return {run_id: (epoch, cancel) for run_id, epoch, cancel in rows}


def holds_run(run: RunRow, owner: str) -> Steps[bool]:
    """Whether a worker still has a run."""
    return bool((yield Query("run_guard", (run.tenant, run.run_id, owner, run.epoch))))


def begin_run(run: RunRow, owner: str, began: Mapping[str, Any]) -> Steps[bool]:
    """Keep what the run's first worker found, for those that take over; False if the worker has lost it."""
    done = yield Query("run_begin", (run.tenant, run.run_id, owner, run.epoch, json.dumps(began)))
    return bool(done[0][0])


def end_run(
    place: Place,
    run: RunRow,
    owner: str,
    status: str,
    error: Mapping[str, Any] | None = None,
    *,
    leaves: str = "idle",
    batch: tuple[int, Sequence[Event]] | None = None,
    is_last: bool = False,
) -> Steps[str | None]:
    """Say how a run ended, with its last events, and how it leaves its thread, unless other runs wait there.

    Gives the thread's status ("" if the thread is gone); None if the worker has lost the run, and nothing was changed.
    """
    key = (run.tenant, run.run_id, owner, run.epoch)
    queries = [Query("run_end", (*key, status, None if error is None else json.dumps(error)))]
    if batch is not None and batch[1]:
        queries.insert(0, _adding(place, run, owner, *batch))
    if not run.is_ephemeral:
        queries.append(Query("run_settle_ended", (*key, place.thread, status, leaves)))
    answers = yield from ask(*queries, is_last=is_last and not run.is_ephemeral)
    ended = answers[0 if batch is None or not batch[1] else 1]
    if not ended[0][0]:
        return None
    if run.is_ephemeral:
        return (yield from _settle(place, run, leaves))
    return answers[-1][0][0] if answers[-1] else ""


def roll_back(place: Place, run: RunRow, owner: str | None = None) -> Steps[str | None]:
    """Take a run back: its checkpoints, its events and itself; gives the thread's status then ("": it is gone). With
    `owner`, only while that worker has it; None: it does not any more, and nothing was changed."""
    if owner is not None and not (yield Query("run_guard", (run.tenant, run.run_id, owner, run.epoch))):
        return None
    yield from upkeep.delete_run(place, id_bytes(run.run_id))
    yield from _fence(place)
    yield from remove_run(place, run.run_id)
    return (yield from _settle(place, run, "idle"))


def release_runs(owner: str, run_id: str | None = None) -> Steps[list[str]]:
    """Give back all runs of a worker that goes away, or one that it does not know of; the attempt does not count."""
    return [run_id for (run_id,) in (yield Query("run_release", (owner, run_id)))]


def sweep_runs(root: Place, max_attempts: int, limit: int) -> Steps[Swept]:
    """Runs whose worker was lost wait again, or end: those that were to be cancelled, and as failed those to which it
    has happened too often."""
    swept = Swept([], [], [])
    for row in (yield Query("run_expired", (root.tenant, limit))):
        place = _of(root, row)
        run = _read(place, row)
        key = (run.tenant, run.run_id, "running")
        if run.cancel == "rollback":
            yield from roll_back(place, run)
            swept.cancelled.append(run)
        elif run.cancel is not None:
            yield from _fence(place)
            yield Query("run_set", (*key, "interrupted", None))
            yield from _settle(place, run, "interrupted")
            swept.cancelled.append(run)
        elif run.attempt < max_attempts:
            yield from _fence(place)
            yield Query("run_set", (*key, "pending", None))
            swept.waiting.append(run)
        else:
            message = f"the run was lost with its worker {run.attempt} times"
            yield from _fence(place)
            yield Query("run_set", (*key, "error", json.dumps({"error": "WorkerLostError", "message": message})))
            yield from _settle(place, run, "error")
            swept.dead.append(run)
    return swept


def settle_thread(tenant: str, thread: str, status: str) -> Steps[str]:
    """Set a thread's status, unless it has runs: then it is busy. Gives the status; "" if there is no such thread."""
    rows = yield Query("run_settle", (tenant, thread, status))
    return rows[0][0] if rows else ""


def _settle(place: Place, run: RunRow, leaves: str) -> Steps[str]:
    if run.is_ephemeral:
        yield from upkeep.delete_log(place.tenant, place.thread)
        yield Query("thread_remove", (place.tenant, place.thread))
        return ""
    return (yield from settle_thread(place.tenant, place.thread, leaves))


def _fence(place: Place) -> Steps[None]:
    """Raise the thread's epoch: a worker that was lost and comes back saves nothing more there."""
    yield Query("head_fence", (_random.getrandbits(20) + 1, place.tenant, place.thread))


# What a run has shown


def add_events(place: Place, run: RunRow, owner: str, first: int, events: Sequence[Event]) -> Steps[bool]:
    """Keep events from number `first` on; False if the worker has lost the run: nothing was kept."""
    done = yield _adding(place, run, owner, first, events)
    return bool(done[0][0])


def _adding(place: Place, run: RunRow, owner: str, first: int, events: Sequence[Event]) -> Query:
    last = first + len(events) - 1
    body = place.vault.seal_task(place, _bound(_EVENTS, run.run_id, last, pack(ormsgpack.packb(list(events)))))
    return Query("event_add", (run.tenant, run.run_id, owner, run.epoch, place.thread, last, body))


def list_events(
    place: Place, run_id: str, after: int, limit: int, *, whole: bool = False
) -> Steps[list[tuple[int, str, bytes]]]:
    """Events of a run after number `after`, at most `limit` batches of them: number, name and data. With `whole`, also
    those that were stored together with the first."""
    found: list[tuple[int, str, bytes]] = []
    for last, body in (yield Query("event_list", (place.tenant, run_id, after, limit))):
        events = ormsgpack.unpackb(unpack(place.vault.open_task(place, _bound(_EVENTS, run_id, last, body))))
        found += [(seq, *event) for seq, event in enumerate(events, last - len(events) + 1) if whole or seq > after]
    return found


def last_event(place: Place, run_id: str) -> Steps[int]:
    """The number of a run's last event; 0 if it has none."""
    return (yield Query("event_last", (place.tenant, run_id)))[0][0]


def _bound(kind: bytes, run_id: str, seq: int, body: bytes) -> Waiting:
    """What a sealed body is bound to, besides its thread."""
    return Waiting(0, seq, kind + run_id.encode(), 0, body)


def _of(root: Place, row: Row) -> Place:
    return Place(row[-1], row[1], "", root.vault)


def _read(place: Place, row: Row) -> RunRow:
    *rest, began, metadata, error, body, tenant = row
    said = (None if text is None else json.loads(text) for text in (began, metadata, error))
    try:
        request = json.loads(unpack(place.vault.open_task(place, _bound(_BODY, row[0], 0, body))))
    except Exception as failure:  # damaged, or under a key that is not here: it stands in no other run's way
        request = {UNREADABLE: f"{type(failure).__name__}: {failure}"}
    return RunRow._make((*rest, *said, request, tenant))
