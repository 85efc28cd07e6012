"""What a retention policy drops and what it keeps, in small cases that can be read."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ThreadConflictError
from clew.retention import Retention, RetentionProgress, ThreadUsage
from clew.serde import Opaque
from tests.retention.kit import fill, lengths, stored, threads
from tests.storage.kit import Run, history, load, write
from tests.storage.test_unknown_types import Ticket

FUTURE = datetime.now(UTC) + timedelta(days=1)
PAST = datetime.now(UTC) - timedelta(days=1)


def nested(saver: Any, thread: str) -> None:
    """A thread of four turns, each with a task that ran a subgraph, and a subgraph with memory of its own."""
    root = Run(saver, thread)
    for turn in range(4):
        root.state["turn"] = turn
        root.commit()
        for ns in (f"node:{turn}", "memory", f"node:{turn}|inner"):
            fill(saver, thread, 2, ns, session=root.session)


def test_keep_last_keeps_that_many_of_every_thread(saver: Any) -> None:
    for count, thread in enumerate("abcd"):
        fill(saver, thread, count + 1)
    before = {thread: history(saver, thread) for thread in "abcd"}

    report = saver.retain(Retention(keep_last=2))

    assert [lengths(saver, thread)[""] for thread in "abcd"] == [1, 2, 2, 2]
    for thread in "abcd":
        assert [found.values for found in history(saver, thread)] == [found.values for found in before[thread][:2]]
    assert (report.examined, report.threads, report.checkpoints, report.deleted_threads) == (4, 2, 3, 0)
    assert [(one.thread_id, one.checkpoints) for one in report.details] == [("c", 1), ("d", 2)]
    assert saver.verify().problems == []


def test_what_ran_inside_a_task_goes_with_the_checkpoint_of_the_task(saver: Any) -> None:
    nested(saver, "t")

    report = saver.retain(Retention(keep_last=2))

    left = {"": 2, "memory": 2} | {f"node:{turn}{inner}": 2 for turn in (2, 3) for inner in ("", "|inner")}
    assert lengths(saver, "t") == left
    assert report.checkpoints == 28 - sum(left.values())
    assert load(saver, "t", "memory").values["log"][-1] == "t 7 "
    assert saver.verify().problems == []


def test_prune_keeps_the_newest_of_every_namespace(saver: Any) -> None:
    nested(saver, "t")

    saver.prune(["t"])

    assert set(lengths(saver, "t").values()) == {1}
    assert len(lengths(saver, "t")) == 10


def test_age_is_a_duration_or_a_time(saver: Any) -> None:
    for thread in ("a", "b"):
        fill(saver, thread, 5)
    middle = sorted(one.created_at for one in stored(saver) if one.thread == "a")[2]

    assert saver.retain(Retention(older_than=timedelta(days=1))).checkpoints == 0
    assert saver.retain(Retention(older_than=PAST)).checkpoints == 0
    cut = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=middle)
    saver.retain(Retention(older_than=cut), thread_ids=["a"])
    assert (lengths(saver, "a"), lengths(saver, "b")) == ({"": 3}, {"": 5})
    report = saver.retain(Retention(older_than=FUTURE))

    assert (lengths(saver, "a"), lengths(saver, "b")) == ({"": 1}, {"": 1}), "the newest always stays"
    assert report.checkpoints == 2 + 4


def test_what_either_rule_drops_goes(saver: Any) -> None:
    fill(saver, "t", 6)

    saver.retain(Retention(keep_last=4, older_than=PAST))
    assert lengths(saver, "t") == {"": 4}
    saver.retain(Retention(keep_last=4, older_than=FUTURE))
    assert lengths(saver, "t") == {"": 1}


def test_whole_threads_go_when_nothing_was_written_to_them_for_long(saver: Any) -> None:
    for thread in ("old", "new"):
        nested(saver, thread)
    cut = min(one.created_at for one in stored(saver) if one.thread == "new")
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=cut)

    assert saver.retain(Retention(delete_threads_older_than=timedelta(hours=1))).deleted_threads == 0
    report = saver.retain(Retention(delete_threads_older_than=moment))

    assert threads(saver) == ["new"]
    assert (report.threads, report.deleted_threads, report.checkpoints) == (1, 1, 28)
    assert sum(lengths(saver, "new").values()) == 28, "a policy about threads prunes nothing"


def test_a_predicate_chooses_threads(saver: Any) -> None:
    for thread in ("archived", "live"):
        fill(saver, thread, 3)
    asked: list[ThreadUsage] = []

    def archived(usage: ThreadUsage) -> bool:
        asked.append(usage)
        return usage.thread_id == "archived"

    saver.retain(Retention(delete_if=archived))

    assert threads(saver) == ["live"]
    archived_usage, live = asked
    assert (archived_usage.checkpoints, archived_usage.namespaces) == (3, 1)
    assert PAST < live.created_at <= live.updated_at < FUTURE
    assert live.bytes == sum(one.size for one in stored(saver))


def test_a_run_on_a_deleted_thread_stops(saver: Any) -> None:
    run = fill(saver, "t", 2)

    saver.retain(Retention(delete_if=lambda usage: True))

    with pytest.raises(ThreadConflictError):
        run.commit()
    assert threads(saver) == []


def test_a_dry_run_changes_nothing(saver: Any) -> None:
    for thread in ("a", "b"):
        nested(saver, thread)
    before = stored(saver)
    policy = Retention(keep_last=1, delete_if=lambda usage: usage.thread_id == "b")

    told = saver.retain(policy, dry_run=True)

    assert stored(saver) == before
    assert told.dry_run
    assert told.details == saver.retain(policy).details
    assert told.bytes > 0


def test_the_async_twin_does_the_same(saver: Any) -> None:
    fill(saver, "t", 9)

    report = asyncio.run(saver.aretain(Retention(keep_last=3), batch=2))

    assert lengths(saver, "t") == {"": 3}
    assert report.checkpoints == 6


def test_progress_tells_of_every_batch(saver: Any) -> None:
    for thread in ("a", "b"):
        fill(saver, thread, 7)
    told: list[RetentionProgress] = []

    report = saver.retain(Retention(keep_last=1), batch=3, on_progress=told.append)

    assert [(one.threads, one.checkpoints) for one in told] == [(0, 3), (0, 6), (1, 6), (1, 9), (1, 12), (2, 12)]
    assert {one.of for one in told} == {2}
    assert told[-1].bytes == report.bytes


def test_values_of_unknown_types_survive(saver: Any) -> None:
    knows = frozenset({Ticket})
    run = Run(saver, "t", session=saver.session("t", types=knows))
    for number in range(6):
        run.state |= {"ticket": Ticket(7), "count": number}
        run.commit(["count"] if number else None)
    saver.run(run.cursor.save_writes([write(Ticket(8))]))

    report = saver.retain(Retention(keep_last=2), batch=1)

    assert (report.checkpoints, report.skipped) == (4, ())
    opaque = saver.run(saver.session("t").cursor().load(opaque=True))
    assert isinstance(opaque.values["ticket"], Opaque)
    found = saver.run(saver.session("t", types=knows).cursor().load())
    assert found.values == {"ticket": Ticket(7), "count": 5}
    assert found.pending[0].writes == [("messages", Ticket(8))]


def test_a_thread_that_cannot_be_read_is_skipped_and_reported(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path) as saver:
        for thread in ("a", "poisoned", "z"):
            fill(saver, thread, 10)
    with sqlite3.connect(path) as connection:
        place = "select line from clew_head where thread = 'poisoned'"
        damage = (
            f"update clew_step set body = cast(x'00' || substr(body, 2) as blob) where line in ({place}) and seq = 4"
        )
        assert connection.execute(damage).rowcount == 1
    connection.close()

    with SqliteSaver.from_conn_string(path) as saver:
        report = saver.retain(Retention(keep_last=2), batch=3)

        assert [(one.thread_id, "cannot be read" in one.message) for one in report.skipped] == [("poisoned", True)]
        assert [lengths(saver, thread)[""] for thread in ("a", "poisoned", "z")] == [2, 10, 2]
        assert saver.retain(Retention(delete_if=lambda usage: usage.thread_id == "poisoned"), batch=3).checkpoints == 10
        assert threads(saver) == ["a", "z"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a retention policy says what goes"),
        ({"keep_last": 0}, "keep_last is 0; the newest checkpoint always stays"),
        ({"older_than": datetime(2026, 1, 1)}, "older_than is a time without a time zone"),
        (
            {"delete_threads_older_than": datetime(2026, 1, 1)},
            "delete_threads_older_than is a time without a time zone",
        ),
        ({"older_than": timedelta(seconds=-1)}, "older_than is -1 day, 23:59:59, a duration that ends in the future"),
    ],
)
def test_policies_that_make_no_sense_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retention(**fields)


def test_a_saver_without_a_tenant_covers_all_and_a_bound_one_its_own(own_saver: Any) -> None:
    for tenant in ("a", "b", ""):
        fill(own_saver.with_tenant(tenant) if tenant else own_saver, "t", 5)
    a, b = own_saver.with_tenant("a"), own_saver.with_tenant("b")
    told: list[RetentionProgress] = []

    assert a.retain(Retention(keep_last=3)).checkpoints == 2
    assert [lengths(saver, "t") for saver in (a, b, own_saver)] == [{"": 3}, {"": 5}, {"": 5}]
    policy = Retention(keep_last=2, delete_if=lambda usage: usage.tenant == "b")
    would = own_saver.retain(policy, dry_run=True)
    report = own_saver.retain(policy, on_progress=told.append)

    assert [(one.tenant, one.checkpoints, one.is_deleted) for one in report.details] == [
        ("", 3, False),
        ("a", 1, False),
        ("b", 5, True),
    ]
    assert would.details == report.details
    assert (told[-1].threads, told[-1].of) == (3, 3)
    assert [lengths(saver, "t") for saver in (own_saver, a, b)] == [{"": 2}, {"": 2}, {}]
    assert own_saver.retain(Retention(keep_last=1), thread_ids=["t"]).checkpoints == 1
    assert lengths(a, "t") == {"": 2}, "threads that are named are the saver's own"


def test_a_batch_drops_at_least_one(saver: Any) -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        saver.retain(Retention(keep_last=1), batch=0)
