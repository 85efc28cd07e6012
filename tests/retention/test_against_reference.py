"""Random threads and random policies: what stays is what a few plain lines say should stay, and a dry run knew it."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.ids import id_text
from clew.retention import Retention
from clew.storage import records, upkeep
from tests.retention.conftest import Opened
from tests.retention.kit import Stored, ask, lines, spill_sizes, stored, threads
from tests.storage.kit import Run, history, write

SETTINGS = {"keyframe_factor": 0.3, "keyframe_chain": 7}
NAMESPACES = ("", "", "", "memory", "node:1", "node:2", "node:2|inner")
_1970 = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SPILL_FROM", 200)


def grow(saver: Any, thread: str, rnd: random.Random) -> None:
    """Runs, forks, runs in namespaces, and writes that wait, as they come."""
    root = Run(saver, thread)
    documents = [rnd.randbytes(300) for _ in range(3)]
    for _ in range(rnd.randrange(1, 7)):
        ids = [found.checkpoint_id for found in history(saver, thread)]
        at = rnd.choice(ids) if ids and rnd.random() < 0.4 else None
        root = Run(saver, thread, at=at)
        for turn in range(rnd.randrange(1, 6)):
            root.state.setdefault("log", []).append(rnd.random())
            if rnd.random() < 0.4:
                root.state["document"] = rnd.choice([*documents, None])
            root.commit(claim=turn == 0)
            ns = rnd.choice(NAMESPACES)
            if ns:
                child = Run(saver, thread, ns, session=root.session)
                child.state["document"] = rnd.choice(documents)
                child.commit()
            if rnd.random() < 0.2:
                saver.run(root.cursor.save_writes([write(rnd.randbytes(300))]))


def policy(saver: Any, rnd: random.Random) -> Retention:
    times = [one.created_at for one in stored(saver)]
    return Retention(
        keep_last=rnd.choice([None, 1, 2, 5]),
        older_than=rnd.choice([None, _1970 + timedelta(microseconds=rnd.choice(times))]),
        delete_threads_older_than=_1970 + timedelta(microseconds=rnd.choice(times)) if rnd.random() < 0.3 else None,
        delete_if=lambda usage: usage.thread_id == "c",
    )


def reference(rows: list[Stored], policy: Retention) -> list[Stored]:
    """What should stay."""
    kept: list[Stored] = []
    for thread in {row.thread for row in rows} - {"c"}:
        own = [row for row in rows if row.thread == thread]
        before = micros(policy.delete_threads_older_than)
        if before is not None and max(row.created_at for row in own) < before:
            continue
        by_ns: dict[str, list[Stored]] = defaultdict(list)
        for row in sorted(own, key=lambda row: row.id):
            by_ns[row.ns].append(row)
        staying = {ns: kept_of(found, policy) for ns, found in by_ns.items()}
        if policy.keep_last is not None or policy.older_than is not None:
            oldest = staying[""][0].id
            staying = {ns: found for ns, found in staying.items() if ":" not in ns or by_ns[ns][-1].id >= oldest}
        kept += [row for found in staying.values() for row in found]
    return kept


def kept_of(rows: list[Stored], policy: Retention) -> list[Stored]:
    count, since = policy.keep_last, micros(policy.older_than)
    newest = rows[-count:] if count else rows
    return [row for row in newest if row is rows[-1] or since is None or row.created_at >= since]


def micros(time: Any) -> int | None:
    return None if time is None else (time - _1970) // timedelta(microseconds=1)


def values(saver: Any) -> dict[tuple[str, str, str], Any]:
    """What every checkpoint reads as, but for its parent."""
    return {
        (thread, ns, found.checkpoint_id): (found.values, found.versions, found.metadata, found.seen)
        for thread in threads(saver)
        for ns in lines(saver, thread)
        for found in history(saver, thread, ns)
    }


def check_nothing_is_left_over(saver: Any, pruned: set[str]) -> None:
    for thread in pruned & set(threads(saver)):
        referred = {hash for row in stored(saver) if row.thread == thread for hash in row.spills}
        for ns, line in lines(saver, thread).items():
            rows = ask(saver, "step_rows", saver.tenant, line)
            positions = {row[:2] for row in rows}
            for waiting in ask(saver, "pending_list", saver.tenant, line):
                assert waiting[:2] in positions or waiting[1] == 0
                referred.update(upkeep.task_spills(saver.place(thread, ns), waiting))
            origins = {branch for branch, *_ in ask(saver, "fork_list", saver.tenant, line)}
            parents = {parent for _, parent, _ in ask(saver, "fork_list", saver.tenant, line)}
            assert origins <= {branch for branch, _ in positions} | parents
        assert referred == set(spill_sizes(saver, thread))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_stays_is_what_the_policy_says(opened: Opened, seed: int) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), **SETTINGS) as saver:
        for thread in "abc"[: rnd.randrange(1, 4)]:
            grow(saver, thread, rnd)
        rows, before, chosen = stored(saver), values(saver), policy(saver, rnd)
        spills = {thread: spill_sizes(saver, thread) for thread in threads(saver)}
        expected = reference(rows, chosen)
        batch = rnd.choice([1, 2, 3, 10, 500])
        told = saver.retain(chosen, dry_run=True, batch=batch)
        assert stored(saver) == rows

        report = saver.retain(chosen, batch=batch)

        assert {(row.thread, row.ns, row.id) for row in stored(saver)} == {
            (row.thread, row.ns, row.id) for row in expected
        }
        assert values(saver) == {(row.thread, row.ns, row.id): before[row.thread, row.ns, row.id] for row in expected}
        assert saver.verify().problems == []
        assert report.details == told.details
        for one in report.details:
            gone = [row for row in rows if row.thread == one.thread_id and row not in expected]
            left = spill_sizes(saver, one.thread_id)
            freed = sum(size for hash, size in spills[one.thread_id].items() if hash not in left)
            assert (one.checkpoints, one.bytes) == (len(gone), sum(row.size for row in gone) + freed)
        assert {one.thread_id for one in report.details} == {row.thread for row in rows if row not in expected}
        for thread in {one.thread_id for one in report.details}:
            assert (thread in threads(saver)) == any(row.thread == thread for row in expected)
        check_nothing_is_left_over(saver, {one.thread_id for one in report.details})
        again = saver.retain(chosen, batch=batch)
        assert (again.checkpoints, again.threads) == (0, 0)
        run_on(saver)


def run_on(saver: Any) -> None:
    """Every thread that is left goes on, from where it was and from its oldest checkpoint."""
    for thread in threads(saver):
        check = [found.checkpoint_id for found in history(saver, thread)]
        for at in (None, check[-1]):
            run = Run(saver, thread, at=at)
            run.state["more"] = True
            run.commit(claim=True)
        assert len(history(saver, thread)) == len(check) + 2
        assert saver.verify(thread).problems == []


def test_the_reference_drops_something() -> None:
    rows = [Stored("t", "", id_text(bytes([1] * 15 + [number])), number, 1, frozenset()) for number in range(5)]

    kept = reference(rows, Retention(keep_last=3, older_than=_1970 + timedelta(microseconds=3)))

    assert [row.created_at for row in kept] == [3, 4]
