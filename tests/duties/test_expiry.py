"""Threads whose time to live is over, and what runs leave behind: the rules, and the duties that follow them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from clew.errors import RunNotFoundError, ThreadNotFoundError
from clew.retention import Retention, ThreadTtl
from clew.server.duties import DutySettings, retention
from clew.server.duties.retention import Forget, SweepItems
from clew.server.duties.turns import Desk
from clew.storage import expiry, forgetting, runs
from clew.storage.duties import take_duty
from clew.storage.expiry import Expired
from clew.storage.query import Query, Steps
from clew.storage.runs import NewRun, RunRow
from clew.store.memory import InMemoryStore
from tests.duties.kit import MINUTE, Office, duties_of
from tests.retention.kit import fill, lengths

HOUR = 60 * MINUTE


def change(office: Office, **columns: int) -> None:
    """Move times of rows into the past: `thread_t=HOUR` the last use of thread t, `run_r` the end of run r."""
    for name, ago in columns.items():
        kind, _, id = name.partition("_")
        if kind == "run":
            moved = (("clew_run", "run_id", "updated_at"), ("clew_run", "run_id", "ended_at"))
        else:
            moved = (("clew_thread", "thread", "active_at"), ("clew_head", "thread", "updated_at"))
        for table, key, column in moved:
            office.sql(f"update {table} set {column} = {column} - ({ago}) where {key} = '{id}'")


def found(office: Office, **ttl: Any) -> list[tuple[str, str]]:
    rows = office.do(lambda: expiry.expired_threads(office.place(""), ThreadTtl(**ttl)), "read")
    return [(row.thread, row.strategy) for row in rows]


def delete(office: Office, thread: str) -> Any:
    expired = office.do(lambda: expiry.expired_threads(office.place(""), ThreadTtl()), "read")
    (mine,) = [row for row in expired if row.thread == thread]
    return office.do(lambda: expiry.delete_expired(office.place(thread), mine), "delete")


def test_threads_expire_by_their_own_time_or_the_default(office: Office) -> None:
    threads = office.threads
    threads.create("own", ttl_minutes=30)
    threads.create("pruned", ttl_minutes=30, ttl_strategy="keep_latest")
    threads.create("young", ttl_minutes=90)
    threads.create("plain")
    threads.archive(threads.create("archived").id)
    assert found(office, default=timedelta(minutes=45)) == []

    for name in ("own", "pruned", "young", "plain", "archived"):
        change(office, **{f"thread_{name}": HOUR})

    assert sorted(found(office)) == [("own", "delete"), ("pruned", "keep_latest")]
    assert sorted(found(office, default=timedelta(minutes=45), strategy="keep_latest")) == [
        ("archived", "keep_latest"),
        ("own", "delete"),
        ("plain", "keep_latest"),
        ("pruned", "keep_latest"),
    ]
    assert len(found(office, default=timedelta(minutes=45), sweep_limit=3)) == 3
    assert found(office, default=timedelta(hours=2)) == found(office)


def test_a_thread_with_a_run_or_one_that_ended_just_now_stays(office: Office) -> None:
    for name in ("runs", "ended", "ended_long_ago", "waits"):
        office.threads.create(name, ttl_minutes=30)
        run = office.run(name, f"r_{name}", owner="another" if name == "waits" else "w")
        if name.startswith("ended"):
            office.do(lambda n=name, r=run: runs.end_run(office.place(n), r, "w", "success"))
        elif name == "waits":
            office.do(lambda: runs.release_runs("another"))
        change(office, **{f"thread_{name}": HOUR})
    change(office, run_r_ended_long_ago=HOUR)

    assert found(office) == [("ended_long_ago", "delete")]
    stale = Expired("waits", "delete", 0, 30)
    row = office.do(lambda: _thread(office, "waits"), "read")
    expired = stale._replace(active_at=row[6])
    assert office.do(lambda: expiry.delete_expired(office.place("waits"), expired), "delete") is None
    assert delete(office, "ended_long_ago") == (0, 0)


def _thread(office: Office, thread: str) -> Steps[Any]:
    return (yield Query("thread_get", (office.tenant, thread)))[0]


def test_a_thread_that_was_used_since_it_was_looked_for_stays(office: Office) -> None:
    office.threads.create("t", ttl_minutes=30)
    change(office, thread_t=HOUR)
    (expired,) = office.do(lambda: expiry.expired_threads(office.place(""), ThreadTtl()), "read")
    change(office, thread_t=-HOUR)
    assert office.do(lambda: expiry.delete_expired(office.place("t"), expired), "delete") is None
    change(office, thread_t=HOUR)
    fill(office.saver, "t", 2)  # written to just now, past the table of threads
    assert office.do(lambda: expiry.delete_expired(office.place("t"), expired), "delete") is None
    assert office.threads.get("t").ttl_minutes == 30


def test_expire_deletes_or_prunes_and_says_what_went(office: Office) -> None:
    fill(office.saver, "pruned", 5)
    office.threads.create("pruned", ttl_minutes=30, ttl_strategy="keep_latest")
    office.threads.create("empty", ttl_minutes=30)
    for name in ("pruned", "empty"):
        change(office, **{f"thread_{name}": HOUR})

    dry = office.saver.expire(dry_run=True)
    assert {each.thread_id: each.is_deleted for each in dry.details} == {"empty": True, "pruned": False}
    assert lengths(office.saver, "pruned")[""] == 5

    report = office.saver.expire()
    assert (report.dry_run, report.examined, report.deleted_threads) == (False, 2, 1)
    assert {each.thread_id: each.checkpoints for each in report.details} == {"empty": 0, "pruned": 4}
    assert report.bytes == dry.bytes > 0
    assert lengths(office.saver, "pruned")[""] == 1
    with pytest.raises(ThreadNotFoundError):
        office.threads.get("empty")
    assert office.saver.expire().examined == 0, "what was pruned is left alone until it is used again"
    change(office, thread_pruned=-1)
    assert found(office) == [("pruned", "keep_latest")]


def test_a_policy_deletes_no_thread_under_a_run(office: Office) -> None:
    everything = Retention(delete_if=lambda usage: True)
    for name in ("busy", "idle"):
        fill(office.saver, name, 3)
    office.run("busy", "r1")
    office.threads.create("idle")
    assert [each.thread_id for each in office.saver.retain(everything).details] == ["idle"]
    archived = Retention(delete_archived_older_than=timedelta(0))
    office.run("unused", "r2")
    for name in ("busy", "unused"):
        office.threads.archive(name)
    assert office.saver.retain(archived).details == ()
    assert office.threads.get("busy").archived


def ended(
    office: Office, thread: str, run_id: str, *, is_ephemeral: bool = False, leaves_thread: bool = True
) -> RunRow:
    """A run that ended an hour ago and has shown something."""
    new = NewRun(run_id, "a", {}, {}, is_ephemeral=is_ephemeral)
    office.threads.create(thread, if_exists="do_nothing")
    office.do(lambda: runs.add_run(office.place(thread), new))
    (run,) = office.do(lambda: runs.claim_runs(office.place(thread), "w", MINUTE, 1))
    office.do(lambda: runs.end_run(office.place(thread), run, "w", "success", batch=(1, [("values", b"1")])))
    change(office, **{f"run_{run_id}": HOUR})
    return run


def events(office: Office, run: RunRow) -> int:
    return len(office.do(lambda: runs.list_events(office.place(run.thread), run.run_id, 0, 10), "read"))


def test_events_go_when_they_were_kept_for_long_enough(office: Office) -> None:
    old, older = ended(office, "t", "r1"), ended(office, "t", "r2")
    assert office.do(lambda: take_duty(office.tenant, forgetting.EVENTS, "me", MINUTE))

    def remove(keep: int, limit: int = 10) -> int:
        return office.do(lambda: forgetting.remove_old_events(office.tenant, keep, limit))[0]

    assert remove(2 * HOUR) == 0
    assert (events(office, old), events(office, older)) == (1, 1)
    assert remove(HOUR // 2, limit=1) == 1
    assert events(office, old) + events(office, older) == 1
    assert remove(HOUR // 2) == 2, "a little is looked at twice"
    assert (events(office, old), events(office, older)) == (0, 0)
    change(office, run_r1=-HOUR)
    assert office.do(lambda: runs.get_run(office.place("t"), "r1"), "read").status == "success", "the run stays"


def test_more_events_than_one_transaction_removes_go_in_one_turn(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of runs that ended within the same minute, which each turn begins with again, too."""
    monkeypatch.setattr(retention, "_PAGE", 2)
    old = [ended(office, "t", f"r{number}") for number in range(5)]

    async def story() -> None:
        duties = duties_of(office.saver, keep_events=timedelta(minutes=30))
        await duties.start()
        for _ in range(200):
            if not any([await asyncio.to_thread(events, office, run) for run in old]):
                break
            await asyncio.sleep(0.02)
        await duties.stop()

    asyncio.run(story())
    assert [events(office, run) for run in old] == [0] * 5


def test_runs_of_threads_of_their_own_go_with_what_is_left_of_those(office: Office) -> None:
    ended(office, "gone", "r1", is_ephemeral=True)
    kept = ended(office, "t", "r2")
    office.threads.create("gone")  # as if the run's end had left it

    def forget(keep: int, rows: int | None) -> int:
        return office.do(lambda: forgetting.forget_runs(office.place(""), keep, rows, 10))

    assert forget(2 * HOUR, None) == 0
    assert forget(HOUR // 2, None) == 1
    with pytest.raises(ThreadNotFoundError):
        office.threads.get("gone")
    assert office.do(lambda: runs.get_run(office.place("t"), "r2"), "read").run_id == kept.run_id
    assert forget(HOUR // 2, 2 * HOUR) == 0
    assert forget(HOUR // 2, HOUR // 2) == 1
    with pytest.raises(RunNotFoundError):
        office.do(lambda: runs.get_run(office.place("t"), "r2"), "read")
    assert events(office, kept) == 0


def test_the_duties_do_all_of_it_and_log_what_went(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    fill(office.saver, "long", 4)
    office.threads.create("long")
    fill(office.saver, "old", 2)
    office.threads.create("old", ttl_minutes=30)
    with_events = ended(office, "t", "r1")
    change(office, thread_old=HOUR)

    async def story() -> None:
        duties = duties_of(
            office.saver, ttl=ThreadTtl(), retention=Retention(keep_last=2), keep_events=timedelta(minutes=30)
        )
        await duties.start()
        try:
            await until(lambda: events(office, with_events) == 0 and len(lines()) >= 3)
        finally:
            await duties.stop()

    def lines() -> list[str]:
        return sorted(record.getMessage().rpartition(",")[0] for record in caplog.records if record.name == LOGGER)

    LOGGER = "clew.server.retention"  # noqa: N806 - a constant of this test
    with caplog.at_level(logging.INFO, LOGGER):
        asyncio.run(story())
    assert lines()[-2:] == [
        "thread long: pruned (retention), 2 checkpoints",
        "thread old: deleted (ttl), 2 checkpoints",
    ]
    assert lengths(office.saver, "long")[""] == 2


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def test_expired_items_are_swept_where_the_store_says_how_often(office: Office) -> None:
    store = InMemoryStore(ttl={"default_ttl": None, "sweep_interval_minutes": 7})
    duties = duties_of(office.saver, store=store)
    sweep = next(duty for duty in duties._duties() if isinstance(duty, SweepItems))
    assert sweep.pause == 420
    asyncio.run(sweep.work())
    assert not any(isinstance(duty, SweepItems) for duty in duties_of(office.saver)._duties())


@pytest.mark.parametrize(
    "wrong",
    [{"retain_every": timedelta(0)}, {"keep_events": timedelta(-1)}, {"keep_runs": timedelta(-1)}, {"lease": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DutySettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"default": timedelta(seconds=1)}, {"strategy": "burn"}, {"sweep_limit": 0}, {"sweep_every": timedelta(0)}],
)
def test_times_to_live_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ThreadTtl(**wrong)


def test_how_often_events_are_looked_at(office: Office) -> None:
    assert Forget(Desk(office.saver), DutySettings()).pause == 60
    assert Forget(Desk(office.saver), DutySettings(keep_events=timedelta(seconds=10))).pause == 5
