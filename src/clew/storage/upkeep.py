"""Maintenance of threads: delete, prune, copy, list. Works on bytes; no user's type is needed or decoded.

Invariant: what is kept reads exactly as before. The first kept step after a hole is rewritten as a keyframe, and the
steps that build on it are pointed at it, in the transaction that makes the hole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from clew import _failpoints
from clew.errors import StorageError
from clew.storage import log
from clew.storage.encode import timestamp
from clew.storage.log import Place, Position, StepRow, Waiting
from clew.storage.query import Query, Steps
from clew.storage.records import pack_step, unpack_step, unpack_task
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


Keep = Callable[[list[StepKey]], set[Position]]


def list_threads(tenant: str) -> Steps[list[ThreadSummary]]:
    """Every thread that has a checkpoint, the one used last first."""
    rows = yield Query("thread_list", (tenant,))
    return [
        ThreadSummary(thread, steps, checkpoints, namespaces, timestamp(created_at), timestamp(updated_at))
        for thread, steps, checkpoints, namespaces, created_at, updated_at in rows
    ]


def delete_thread(tenant: str, thread: str) -> Steps[None]:
    """Remove a thread with all its namespaces."""
    for line, *_ in (yield Query("head_list", (tenant, thread))):
        yield from _drop_line(tenant, line)
    yield Query("spill_drop_all", (tenant, thread))


def prune_thread(root: Place, keep: Keep) -> Steps[None]:
    """Keep what `keep` chooses from the steps of each namespace (given oldest first), and the newest one always."""
    for line, ns, *_ in (yield Query("head_list", (root.tenant, root.thread))):
        keys = yield from read_keys(root.tenant, line)
        if keys:
            newest = max(keys, key=lambda key: key.checkpoint_id).position
            yield from retain(root.at(ns), line, keys, keep(keys) | {newest})
    yield from sweep_spills(root)


def delete_runs(tenant: str, run_ids: Iterable[bytes], vault: Vault) -> Steps[set[str]]:
    """Remove every step that the runs made, on any thread; gives the threads that lost one."""
    doomed: dict[int, set[Position]] = {}
    for run_id in run_ids:
        for line, branch, seq in (yield Query("run_steps", (tenant, run_id))):
            doomed.setdefault(line, set()).add((branch, seq))
    threads: set[str] = set()
    for line, positions in doomed.items():
        thread, ns, *_ = (yield Query("head_place", (tenant, line)))[0]
        keys = yield from read_keys(tenant, line)
        yield from retain(Place(tenant, thread, ns, vault), line, keys, {key.position for key in keys} - positions)
        threads.add(thread)
    for thread in threads:
        yield from sweep_spills(Place(tenant, thread, "", vault))
    return threads


def copy_thread(source: Place, target: Place) -> Steps[None]:
    """Copy a thread, its whole history and what is pending included, to a thread that does not exist yet."""
    tenant = source.tenant
    if (yield Query("head_list", (tenant, target.thread))):
        raise StorageError(
            f"thread {target.thread!r} exists already; {source.thread!r} was not copied onto it",
            hint="delete the target first, or choose another id",
        )
    for line, ns, *_ in (yield Query("head_list", (tenant, source.thread))):
        copied = yield from log.add_head(target.at(ns), epoch=1 if ns == "" else 0)
        for table in ("head", "step", "fork", "pending"):
            yield Query(f"{table}_copy", (tenant, copied, line))
    yield Query("spill_copy", (tenant, target.thread, source.thread))


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
        yield from _close_holes(place, line, branch, kept)
    for key in keys:
        if key.position not in kept:
            yield Query("step_drop", (place.tenant, line, *key.position))
            yield Query("pending_clear", (place.tenant, line, *key.position))
    yield from reset_head(place.tenant, line)


def rebase(place: Place, line: int, branch: int, first: int, seqs: set[int]) -> Steps[None]:
    """Rewrite the steps at `seqs` as keyframes; `first` is the keyframe before all of them."""
    last = max(seqs)
    rows = yield from log.read_chain(place, line, branch, first, last)
    replay = Replay()
    for row in rows:
        record = yield from log.read_record(place, row)
        log.advance(replay, row, record)
        if row.seq in seqs:
            body, _, spills = pack_step(keyframe(replay.state(), writes=record), place)
            yield from log.write_spills(place, spills)
            yield from rewrite(place, line, row, body)
            _failpoints.hit("prune.statement")


def rewrite(place: Place, line: int, row: StepRow, body: bytes) -> Steps[None]:
    """Put another body, a keyframe's, into a row."""
    keyframe_row = place.vault.seal_step(place, row._replace(key_seq=row.seq, body=body))
    yield Query("step_rewrite", (row.seq, keyframe_row.body, place.tenant, line, row.branch, row.seq))


def sweep_spills(root: Place) -> Steps[None]:
    """Drop the thread's large leaves that no step and no pending write refers to any more."""
    tenant, thread, vault = root.tenant, root.thread, root.vault
    stored = {hash for (hash,) in (yield Query("spill_list", (tenant, thread)))}
    if not stored:
        return
    for line, ns, *_ in (yield Query("head_list", (tenant, thread))):
        place = root.at(ns)
        for key in (yield from read_keys(tenant, line)):
            for row in (yield from log.read_chain(place, line, key.branch, key.seq, key.seq)):
                stored.difference_update(unpack_step(vault.open_step(place, row)).spills)
        for fields in (yield Query("pending_list", (tenant, line))):
            stored.difference_update(unpack_task(vault.open_task(place, Waiting(*fields)))[1])
    for hash in stored:
        yield Query("spill_drop", (tenant, thread, hash))


def keep_newest(count: int) -> Keep:
    """Keep the newest `count` checkpoints of each namespace."""

    def keep(keys: list[StepKey]) -> set[Position]:
        newest = sorted(keys, key=lambda key: key.checkpoint_id, reverse=True)
        return {key.position for key in newest[:count]}

    return keep


def keep_since(micros: int) -> Keep:
    """Keep the checkpoints made at `micros` since 1970 or later."""

    def keep(keys: list[StepKey]) -> set[Position]:
        return {key.position for key in keys if key.created_at >= micros}

    return keep


def keep_both(policies: Iterable[Keep]) -> Keep:
    """Keep what every policy keeps."""
    chosen = list(policies)

    def keep(keys: list[StepKey]) -> set[Position]:
        kept = {key.position for key in keys}
        for policy in chosen:
            kept &= policy(keys)
        return kept

    return keep


def keep_policy(keep_last: int | None, older_than: timedelta | datetime | None) -> Keep:
    """The policy of `prune`: keep that many, drop what is older than a time or a duration; with neither, keep one."""
    policies: list[Keep] = []
    if keep_last is not None:
        if keep_last < 1:
            raise ValueError(f"keep_last is {keep_last}; the newest checkpoint always stays, so it is at least 1")
        policies.append(keep_newest(keep_last))
    match older_than:
        case timedelta():
            policies.append(keep_since(time.time_ns() // 1000 - older_than // timedelta(microseconds=1)))
        case datetime():
            if older_than.tzinfo is None:
                raise ValueError("older_than is a time without a time zone, which names no moment")
            since = older_than - datetime(1970, 1, 1, tzinfo=UTC)
            policies.append(keep_since(since // timedelta(microseconds=1)))
        case None:
            pass
    return keep_both(policies) if policies else keep_newest(1)


def _close_holes(place: Place, line: int, branch: list[StepKey], kept: set[Position]) -> Steps[None]:
    """Make the kept steps of one branch independent of those that go."""
    new_key: dict[int, int] = {}  # seq -> the seq of its keyframe from now on
    previous = None
    for key in branch:
        if key.position not in kept:
            continue
        if key.key_seq == key.seq:
            new_key[key.seq] = key.seq
        elif previous is not None and previous == key.seq - 1:
            new_key[key.seq] = new_key[previous]
        else:
            new_key[key.seq] = key.seq
        previous = key.seq
    rewritten = {key.seq: key.key_seq for key in branch if new_key.get(key.seq) == key.seq != key.key_seq}
    if rewritten:
        yield from rebase(place, line, branch[0].branch, min(rewritten.values()), set(rewritten))
    for first, last, key_seq in _spans(branch, new_key):
        yield Query("step_rekey", (key_seq, place.tenant, line, branch[0].branch, first, last))


def _spans(branch: list[StepKey], new_key: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """The runs of steps that get another keyframe: first seq, last seq, seq of the keyframe."""
    spans: list[tuple[int, int, int]] = []
    for key in branch:
        key_seq = new_key.get(key.seq)
        if key_seq is None or key_seq == key.key_seq:
            continue
        if spans and spans[-1][1] == key.seq - 1 and spans[-1][2] == key_seq:
            spans[-1] = (spans[-1][0], key.seq, key_seq)
        else:
            spans.append((key.seq, key.seq, key_seq))
    return spans


def reset_head(tenant: str, line: int) -> Steps[None]:
    """Point the head at the newest step that is left."""
    _, _, _, _, top = (yield Query("head_place", (tenant, line)))[0]
    branch, seq, key_seq, _ = (yield Query("step_list", (tenant, line, None, 1)))[0]
    rows = yield Query("step_chain", (tenant, line, branch, key_seq + 1, seq))
    since = sum(len(row[8]) for row in rows)
    tip = rows[-1] if rows else (yield Query("step_chain", (tenant, line, branch, seq, seq)))[0]
    yield Query("head_reset", (branch, seq, key_seq, top, since, tip[4], tip[5], tenant, line))


def _empty_line(tenant: str, line: int) -> Steps[None]:
    """Take the last steps of a namespace; the head row stays, so that a run that goes on there finds itself fenced."""
    _, _, _, _, top = (yield Query("head_place", (tenant, line)))[0]
    for table in ("step", "fork", "pending"):
        yield Query(f"{table}_drop_all", (tenant, line))
    yield Query("head_reset", (top + 1, 0, 0, top + 1, 0, None, None, tenant, line))


def _drop_line(tenant: str, line: int) -> Steps[None]:
    for table in ("step", "fork", "pending"):
        yield Query(f"{table}_drop_all", (tenant, line))
    yield Query("head_drop", (tenant, line))
