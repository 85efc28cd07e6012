"""Maintenance of threads: delete, prune, copy, list. Works on bytes; no user's type is needed or decoded.

Invariant: what is kept reads exactly as before. The first kept step after a hole is rewritten as a keyframe, and the
steps that build on it are pointed at it, in the transaction that makes the hole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from clew import _failpoints
from clew.errors import StorageError
from clew.serde.compress import encrypted_body, unpack
from clew.storage import log
from clew.storage.encode import timestamp
from clew.storage.log import Place, Position, StepRow, Waiting
from clew.storage.query import Query, Row, Steps
from clew.storage.records import pack_step, unpack_step, unpack_task
from clew.storage.reseal import copy_line
from clew.storage.state import Replay, keyframe
from clew.storage.vault import Vault


class StepKey(NamedTuple):
    """What maintenance knows of a step without reading its body."""

    branch: int
    seq: int
    key_seq: int
    checkpoint_id: bytes
    run_id: bytes | None
    created_at: int
    size: int = 0  # of its body in bytes, where that was asked for

    @property
    def position(self) -> Position:
        return (self.branch, self.seq)


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """One thread in storage. `steps` counts checkpoints of its root graph, `checkpoints` those of all namespaces;
    the times are ISO 8601 in UTC, of the oldest and the newest checkpoint."""

    thread_id: str
    steps: int
    checkpoints: int
    namespaces: int
    created_at: str
    updated_at: str


def list_threads(tenant: str) -> Steps[list[ThreadSummary]]:
    """Every thread that has a checkpoint, the one used last first."""
    rows = yield Query("thread_list", (tenant,))
    return [
        ThreadSummary(thread, steps, checkpoints, namespaces, timestamp(created_at), timestamp(updated_at))
        for thread, steps, checkpoints, namespaces, created_at, updated_at in rows
    ]


def delete_thread(tenant: str, thread: str) -> Steps[None]:
    """Remove a thread with all its namespaces, and from the table of threads."""
    yield from delete_log(tenant, thread)
    yield Query("event_drop_thread", (tenant, thread))
    yield Query("run_drop_thread", (tenant, thread))
    yield Query("cron_drop_thread", (tenant, thread))
    yield Query("thread_remove", (tenant, thread))


def delete_log(tenant: str, thread: str) -> Steps[None]:
    """Remove all namespaces of a thread."""
    yield Query("head_list", (tenant, thread))  # a backend that locks rows locks these: no run writes meanwhile
    for table in ("step", "fork", "pending", "head"):
        yield Query(f"{table}_drop_thread", (tenant, thread))
    yield Query("spill_drop_all", (tenant, thread))


def delete_run(place: Place, run_id: bytes) -> Steps[None]:
    """Remove every step that a run made on one thread, and the namespaces that it began."""
    for line, ns, *_ in (yield Query("head_list", (place.tenant, place.thread))):
        found = yield Query("line_run_steps", (place.tenant, line, run_id))
        if not found:
            continue
        doomed = {(branch, seq) for branch, seq in found}
        keys = yield from read_keys(place.tenant, line)
        yield from retain(place.at(ns), line, keys, {key.position for key in keys} - doomed)
    yield from sweep_spills(place)


def delete_runs(tenant: str, run_ids: Iterable[bytes], vault: Vault) -> Steps[set[str]]:
    """Remove every step that the runs made, on any thread; gives the threads that lost one."""
    doomed: dict[int, set[Position]] = {}
    for run_id in run_ids:
        for line, branch, seq in (yield Query("run_steps", (tenant, run_id))):
            doomed.setdefault(line, set()).add((branch, seq))
    threads: set[str] = set()
    for line, positions in doomed.items():
        found = yield Query("head_place", (tenant, line))
        if not found:
            continue  # the thread was deleted meanwhile
        thread, ns, *_ = found[0]
        keys = yield from read_keys(tenant, line)
        yield from retain(Place(tenant, thread, ns, vault), line, keys, {key.position for key in keys} - positions)
        threads.add(thread)
    for thread in threads:
        yield from sweep_spills(Place(tenant, thread, "", vault))
    return threads


def copy_thread(source: Place, target: Place) -> Steps[None]:
    """Copy a thread, its whole history and what is pending included, to a thread that does not exist yet."""
    tenant, is_sealed = source.tenant, target.vault.keys is not None  # what is sealed is so for its own thread
    if (yield Query("head_list", (tenant, target.thread))):
        raise _is_there(source, target)
    for line, ns, *tip, _ in (yield Query("head_list", (tenant, source.thread))):
        if not is_sealed:
            yield from _check_open(source.at(ns), line, *tip)
        copied = yield from log.add_head(target.at(ns), epoch=1 if ns == "" else 0)
        if copied is None:  # somebody else made it meanwhile
            raise _is_there(source, target)
        for table in ("head", "fork") if is_sealed else ("head", "step", "fork", "pending"):
            yield Query(f"{table}_copy", (tenant, copied, line))
        if is_sealed:
            yield from copy_line(source.at(ns), target.at(ns), line, copied)
    if not is_sealed:
        yield Query("spill_copy", (tenant, target.thread, source.thread))


def _check_open(place: Place, line: int, branch: int, seq: int) -> Steps[None]:
    """Raise `MissingKeyError` for a namespace that is encrypted: its rows, as they are, open in their thread only."""
    for row in (yield from log.read_chain(place, line, branch, seq, seq)):
        if encrypted_body(row.body) is not None:
            unpack(row.body)


def _is_there(source: Place, target: Place) -> StorageError:
    return StorageError(
        f"thread {target.thread!r} exists already; {source.thread!r} was not copied onto it",
        hint="delete the target first, or choose another id",
    )


def read_keys(tenant: str, line: int) -> Steps[list[StepKey]]:
    """Every step of a namespace, oldest first within its branch."""
    rows = yield Query("step_rows", (tenant, line))
    return [StepKey(*row) for row in rows]


def retain(place: Place, line: int, keys: list[StepKey], kept: set[Position]) -> Steps[None]:
    """Drop every step of a namespace that is not in `kept`."""
    if not kept:
        yield from _empty_line(place.tenant, line)
        return
    branches: dict[int, list[StepKey]] = {}
    for key in keys:
        branches.setdefault(key.branch, []).append(key)
    for branch in branches.values():
        yield from close_holes(place, line, branch, kept)
    yield from drop_steps(place, line, [key for key in keys if key.position not in kept])
    yield from reset_head(place.tenant, line)


def drop_steps(place: Place, line: int, keys: Iterable[StepKey]) -> Steps[None]:
    """Drop steps, given in order, and what is pending behind them; nothing that stays may build on them."""
    for span in _spans((key.branch, key.seq, 0) for key in keys):
        for table in ("step", "pending"):
            yield Query(f"{table}_drop_span", (place.tenant, line, *span[:3]))
        _failpoints.hit("prune.statement")


def rebase(
    place: Place, line: int, branch: int, first: int, seqs: set[int], *, is_dry: bool = False
) -> Steps[set[bytes]]:
    """Rewrite the steps at `seqs` as keyframes; `first` is the keyframe before all of them. Gives the hashes of the
    large leaves they refer to; with `is_dry` that is all it does."""
    last = max(seqs)
    referred: set[bytes] = set()
    rows = yield from log.read_chain(place, line, branch, first, last)
    replay = Replay()
    for row in rows:
        record = yield from log.read_record(place, row)
        log.advance(replay, row, record)
        if row.seq in seqs:
            body, _, spills = pack_step(keyframe(replay.state(), writes=record), place)
            referred.update(spills)
            if is_dry:
                continue
            yield from log.write_spills(place, spills)
            yield from rewrite(place, line, row, body)
            _failpoints.hit("prune.statement")
    return referred


def rewrite(place: Place, line: int, row: StepRow, body: bytes) -> Steps[None]:
    """Put another body, a keyframe's, into a row."""
    keyframe_row = place.vault.seal_step(place, row._replace(key_seq=row.seq, body=body))
    yield Query("step_rewrite", (row.seq, keyframe_row.body, place.tenant, line, row.branch, row.seq))


def sweep_spills(root: Place) -> Steps[None]:
    """Drop the thread's large leaves that no step and no pending write refers to any more."""
    tenant, thread = root.tenant, root.thread
    stored = {hash for (hash,) in (yield Query("spill_list", (tenant, thread)))}
    if not stored:
        return
    for line, ns, *_ in (yield Query("head_list", (tenant, thread))):
        place = root.at(ns)
        for key in (yield from read_keys(tenant, line)):
            for row in (yield from log.read_chain(place, line, key.branch, key.seq, key.seq)):
                stored.difference_update(step_spills(place, row))
        for row in (yield Query("pending_list", (tenant, line))):
            stored.difference_update(task_spills(place, row))
    for hash in stored:
        yield Query("spill_drop", (tenant, thread, hash))


def step_spills(place: Place, row: StepRow) -> Iterable[bytes]:
    """The hashes of the large leaves that a step refers to."""
    return unpack_step(place.vault.open_step(place, row)).spills


def task_spills(place: Place, row: Row) -> Iterable[bytes]:
    """The hashes of the large leaves that a row of `pending_list` refers to."""
    return unpack_task(place.vault.open_task(place, Waiting(*row)))[1]


def close_holes(
    place: Place, line: int, keys: list[StepKey], kept: set[Position], *, is_dry: bool = False
) -> Steps[set[bytes]]:
    """Make the kept steps of one branch, or of whole chains of it, independent of those that go; as `rebase`."""
    new_key: dict[int, int] = {}  # seq -> the seq of its keyframe from now on
    previous = None
    for key in keys:
        if key.position not in kept:
            continue
        if key.key_seq == key.seq:
            new_key[key.seq] = key.seq
        elif previous is not None and previous == key.seq - 1:
            new_key[key.seq] = new_key[previous]
        else:
            new_key[key.seq] = key.seq
        previous = key.seq
    referred: set[bytes] = set()
    branch = keys[0].branch
    rewritten = {key.seq: key.key_seq for key in keys if new_key.get(key.seq) == key.seq != key.key_seq}
    if rewritten:
        referred = yield from rebase(place, line, branch, min(rewritten.values()), set(rewritten), is_dry=is_dry)
    if not is_dry:
        moved = [(branch, key.seq, new_key[key.seq]) for key in keys if new_key.get(key.seq) not in (None, key.key_seq)]
        for _, first, last, key_seq in _spans(moved):
            yield Query("step_rekey", (key_seq, place.tenant, line, branch, first, last))
    return referred


def _spans(steps: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Neighbouring steps (branch, seq, value) of the same value together: branch, first seq, last seq, value."""
    spans: list[tuple[int, int, int, int]] = []
    for branch, seq, value in steps:
        if spans and (spans[-1][0], spans[-1][2], spans[-1][3]) == (branch, seq - 1, value):
            spans[-1] = (branch, spans[-1][1], seq, value)
        else:
            spans.append((branch, seq, seq, value))
    return spans


def reset_head(tenant: str, line: int) -> Steps[None]:
    """Point the head at the newest step that is left."""
    _, _, _, _, top = (yield Query("head_place", (tenant, line)))[0]
    branch, seq, key_seq, _ = (yield Query("step_list", (tenant, line, None, 1)))[0]
    since = (yield Query("chain_size", (tenant, line, branch, key_seq + 1, seq)))[0][0]
    tip = (yield Query("step_chain", (tenant, line, branch, seq, seq)))[0]
    yield Query("head_reset", (branch, seq, key_seq, top, since, tip[4], tip[5], tenant, line))


def _empty_line(tenant: str, line: int) -> Steps[None]:
    """Take the last steps of a namespace; the head row stays, so that a run that goes on there finds itself fenced."""
    _, _, _, _, top = (yield Query("head_place", (tenant, line)))[0]
    for table in ("step", "fork", "pending"):
        yield Query(f"{table}_drop_all", (tenant, line))
    yield Query("head_reset", (top + 1, 0, 0, top + 1, 0, None, None, tenant, line))


def drop_line(tenant: str, line: int) -> Steps[None]:
    """Remove a namespace."""
    for table in ("step", "fork", "pending"):
        yield Query(f"{table}_drop_all", (tenant, line))
    yield Query("head_drop", (tenant, line))
