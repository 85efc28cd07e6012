"""Group commit on PostgreSQL: locks of others, races and failures touch exactly the session that they belong to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew import _failpoints
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres._saver import _settle_submitted as settled_as_submitted
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.errors import StorageError, StorageTimeoutError, ThreadConflictError
from clew.storage.operation import LogOp
from clew.storage.query import Query, Steps
from clew.storage.writer import Job
from tests.storage.kit import Run, history, load, write

SECONDS = 20


@pytest.fixture
def saver(database: str) -> Generator[PostgresSaver]:
    with PostgresSaver.from_conn_string(database) as opened:
        yield opened


@pytest.fixture
def other(database: str, saver: PostgresSaver) -> Generator[psycopg.Connection]:
    """Another client of the database."""
    saver.setup()
    with psycopg.connect(database) as connection:
        yield connection


def begun(saver: Any, thread: str) -> Run:
    """A run that has its thread, with one checkpoint."""
    run = Run(saver, thread)
    run.state["n"] = 0
    run.commit(claim=True)
    return run


def queued(run: Run, count: int = 1) -> list[Job]:
    """The run's next commits, in no queue yet."""
    jobs = []
    for _ in range(count):
        run.state["n"] += 1
        jobs.append(Job(run.cursor.commit(run.step()).op))
    return jobs


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def lock(connection: psycopg.Connection, thread: str) -> None:
    connection.execute("select 1 from clew_head where thread = %s for update", [thread])


def numbers(saver: Any, thread: str) -> list[Any]:
    return [saved.values["n"] for saved in history(saver, thread)]


def test_writes_behind_a_lock_wait_in_order_and_the_others_pass(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    first, second = begun(saver, "first"), begun(saver, "second")
    stuck, passing = queued(first, 3), queued(second, 2)
    lock(other, "first")

    saver._carry([stuck[0], passing[0], stuck[1], passing[1]])
    saver._carry([stuck[2]])

    assert [job.is_done for job in (*passing, *stuck)] == [True, True, False, False, False]
    other.rollback()
    until(lambda: all(job.is_done for job in stuck))
    assert [job.error for job in (*passing, *stuck)] == [None] * 5
    assert numbers(saver, "first") == [3, 2, 1, 0]
    assert numbers(saver, "second") == [2, 1, 0]


def test_a_session_that_was_parked_goes_on_with_the_others_afterwards(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    run = begun(saver, "t")
    lock(other, "t")
    jobs = queued(run)
    saver._carry(jobs)
    other.rollback()
    until(lambda: run.session.parked is None)

    more = queued(run, 2)
    saver._carry(more)

    assert [job.error for job in (*jobs, *more)] == [None] * 3
    assert numbers(saver, "t") == [3, 2, 1, 0]


def test_writes_behind_a_lock_whose_holder_takes_the_thread_are_fenced(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    run, bystander = begun(saver, "t"), begun(saver, "bystander")
    jobs, passing = queued(run, 2), queued(bystander)
    other.execute("update clew_head set epoch = epoch + 1 where thread = 't'")

    saver._carry([jobs[0], *passing, jobs[1]])
    other.commit()
    until(lambda: all(job.is_done for job in jobs))

    assert isinstance(jobs[0].error, ThreadConflictError)
    assert jobs[1].error is jobs[0].error
    assert passing[0].error is None
    assert numbers(saver, "t") == [0]


def test_what_waits_behind_a_lock_is_written_before_the_saver_is_closed(
    database: str, other: psycopg.Connection
) -> None:
    saver = PostgresSaver(database)
    run = begun(saver, "t")
    lock(other, "t")
    jobs = queued(run, 2)
    saver._carry(jobs[:1])
    closing = threading.Thread(target=saver.close)
    closing.start()
    until(lambda: saver.state.is_closed)

    other.rollback()
    closing.join(SECONDS)

    assert not closing.is_alive()
    assert (jobs[0].is_done, jobs[0].error) == (True, None)
    with PostgresSaver.from_conn_string(database) as later:
        assert numbers(later, "t") == [1, 0]


def test_a_parked_session_whose_connection_is_closed_ends_with_an_error(
    database: str, other: psycopg.Connection
) -> None:
    with psycopg.connect(database) as own:
        saver = PostgresSaver(own)
        run = begun(saver, "t")
        lock(other, "t")
        jobs = queued(run, 2)
        saver._carry(jobs[:1])
        own.close()
        saver._carry(jobs[1:])
        until(lambda: all(job.is_done for job in jobs))

    assert {type(job.error) for job in jobs} == {StorageError}
    assert "is closed" in str(jobs[0].error)


def test_a_lock_that_is_never_released_ends_in_an_error_that_says_so(database: str, other: psycopg.Connection) -> None:
    with PostgresSaver.from_conn_string(database, lock_wait=0.3) as saver:
        run = begun(saver, "t")
        lock(other, "t")

        with pytest.raises(StorageTimeoutError, match="has kept a row locked for too long"):
            run.commit()

        other.rollback()
        assert numbers(saver, "t") == [0]


def test_a_claim_that_fails_takes_what_was_queued_behind_it_along(saver: PostgresSaver) -> None:
    """The winner's epoch is the number that the loser expected to set: its later writes must not pass as its own."""
    begun(saver, "t")
    loser, winner = Run(saver, "t"), Run(saver, "t")
    bystander = queued(begun(saver, "bystander"))
    claim = Job(loser.cursor.claim())
    saver.run(winner.cursor.claim())

    jobs = [claim, Job(loser.cursor.save_writes([write("stray")])), *queued(loser)]
    saver._carry([*jobs, *bystander])

    assert isinstance(claim.error, ThreadConflictError)
    assert {job.error for job in jobs} == {claim.error}
    assert bystander[0].error is None
    winner.state["n"] = "won"
    winner.commit()
    assert numbers(saver, "t") == ["won", 0]


def test_a_run_whose_claim_a_server_has_lost_never_goes_on_as_the_run_that_claims_next(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    """What a crash with fast commits, or a failover, takes back: both runs count from the same head."""
    begun(saver, "t")
    columns = "epoch, branch, seq, key_seq, top_branch, since, last_id, owner"
    head = other.execute(f"select {columns} from clew_head".encode()).fetchone() or ()
    other.rollback()
    zombie = Run(saver, "t")
    zombie.state["n"] = "lost"
    zombie.commit(claim=True)
    values = ", ".join(f"{name.strip()} = %s" for name in columns.split(","))
    other.execute(f"update clew_head set {values}".encode(), head)
    other.execute("delete from clew_step where seq > 1")
    other.commit()

    later = Run(PostgresSaver(saver.conn), "t")
    later.state["n"] = "later"
    later.commit(claim=True)
    zombie.state["n"] = "zombie"
    jobs = [Job(zombie.cursor.save_writes([write("stray")])), Job(zombie.cursor.commit(zombie.step()).op)]
    saver._carry(jobs)

    assert {type(job.error) for job in jobs} == {ThreadConflictError}
    later.saver.close()
    assert numbers(saver, "t") == ["later", 0]


def test_a_late_write_never_replaces_that_of_the_run_which_took_the_thread(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    older = begun(saver, "t")
    line, branch, seq, epoch = (
        other.execute(
            "update clew_head set epoch = epoch + 1 where thread = 't' returning line, branch, seq, epoch"
        ).fetchone()
        or ()
    )
    op = older.cursor.save_writes([write("older")])
    assert op.intent is not None
    (task_id, _), *_ = op.intent.tasks
    other.execute(
        "insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)"
        " values ('', %s, %s, %s, %s, %s, 'later')",
        (line, branch, seq, task_id, epoch),
    )
    job = Job(op)
    carrying = threading.Thread(target=saver._carry, args=([job],))
    carrying.start()
    waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%%clew_pending%%'"
    until(lambda: other.execute(waiting).fetchone())  # its statement began before the thread was taken

    other.commit()
    carrying.join(SECONDS)
    until(lambda: job.is_done)

    kept = other.execute("select epoch, body from clew_pending").fetchall()
    assert kept == [(epoch, b"later")]


def test_a_copied_threads_writes_can_be_replaced(saver: PostgresSaver) -> None:
    run = begun(saver, "t")
    for _ in range(3):
        run = Run(saver, "t")
        saver.run(run.cursor.claim())
    saver.run(run.cursor.save_writes([write("of the original")]))
    saver.copy_thread("t", "copy")

    copy = Run(saver, "copy")
    saver.run(copy.cursor.claim([write("of the copy")]))

    found = load(saver, "copy")
    assert found is not None
    assert [value for task in found.pending for _, value in task.writes] == ["of the copy"]


def test_what_the_server_refuses_fails_alone(saver: PostgresSaver) -> None:
    first, broken, last = (begun(saver, thread) for thread in "abc")

    def refused() -> Steps[None]:
        yield Query("head_add", ("", None, "", 1))

    jobs = [*queued(first), *queued(broken), *queued(last)]
    bad = jobs[1].op.intent
    assert bad is not None
    assert bad.step is not None
    bad.step.row = bad.step.row._replace(created_at=2**70)
    worse = Job(LogOp(Run(saver, "d").session, refused, kind="commit"))
    worst = queued(begun(saver, "e"))[0]
    assert worst.op.intent is not None
    assert worst.op.intent.step is not None
    worst.op.intent.step.row = worst.op.intent.step.row._replace(body=object())  # pyright: ignore[reportArgumentType]
    saver._carry([*jobs, worse, worst])

    assert [job.error is None for job in jobs] == [True, False, True]
    assert isinstance(worse.error, StorageError)
    assert isinstance(worst.error, TypeError)
    assert [numbers(saver, thread) for thread in "abce"] == [[1, 0], [0], [1, 0], [0]]


@pytest.mark.parametrize("point", ["before", "sent", "uncommitted"])
def test_a_failure_at_a_named_point_is_one_sessions_alone(saver: PostgresSaver, point: str) -> None:
    first, second = begun(saver, "first"), begun(saver, "second")
    jobs = [*queued(first), *queued(second)]
    _failpoints.configure(f"commit.{point}=raise@1")
    try:
        saver._carry(jobs[:1])
        saver._carry(jobs[1:])
    finally:
        _failpoints.configure("")

    assert isinstance(jobs[0].error, _failpoints.InjectedFailureError)
    assert jobs[1].error is None
    # What was sent before the connection was closed is carried out, or not.
    assert numbers(saver, "first") in ([[0], [1, 0]] if point == "sent" else [[0]])
    assert numbers(saver, "second") == [1, 0]


def test_two_coroutines_that_wait_for_one_session_both_go_on(database: str) -> None:
    async def body() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            saver = AsyncPostgresSaver(connection)
            await saver.setup()
            session = saver.session("t")
            cursor = session.cursor()
            await saver.arun(cursor.load())
            run = Run.__new__(Run)
            run.saver, run.session, run.cursor = saver, session, cursor
            run.run_id, run.state, run.versions, run.seen, run.known, run.count = "", {"n": 0}, {}, {}, set(), 0
            await saver.arun(cursor.commit(run.step(), claim=True).op)
            for turn in range(20):
                run.state["n"] = turn
                run.submit()
                waiting = [asyncio.create_task(saver.aflush(session)) for _ in range(3)]
                await asyncio.sleep(0)
                run.state["n"] = -turn
                run.submit()
                await asyncio.wait_for(asyncio.gather(*waiting), SECONDS)
            return await saver.arun(saver.session("t").cursor().load())

    assert asyncio.run(body()).values == {"n": -19}


def test_loads_and_writes_of_many_threads_are_each_others_own(saver: PostgresSaver) -> None:
    runs = [begun(saver, f"t{number}") for number in range(8)]

    def live(run: Run) -> None:
        for _ in range(10):
            run.state["n"] += 1
            run.submit()
        saver.flush(run.session)

    threads = [threading.Thread(target=live, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert [load(saver, f"t{number}").values for number in range(8)] == [{"n": 10}] * 8  # pyright: ignore[reportOptionalMemberAccess]


LEAVES = """
import asyncio, sys
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres._saver import _settle_submitted as settled_as_submitted
from tests.storage.kit import Run

saver = PostgresSaver(sys.argv[1])
run, other = Run(saver, "blocking"), Run(saver, "asyncio")
for one in (run, other):
    one.state["n"] = 0
    one.commit(claim=True)
for n in range(1, 20):
    run.state["n"] = n
    run.submit()

async def leave():
    await saver.arun(other.cursor.claim())
    for n in range(1, 20):
        other.state["n"] = n
        other.submit()

asyncio.run(leave())
"""


def test_what_a_process_that_ends_has_queued_is_written(saver: PostgresSaver) -> None:
    """Nobody closes the saver, and nobody waits for the writes."""
    subprocess.run(
        [sys.executable, "-c", LEAVES, str(saver.conn)], check=True, timeout=60, cwd=Path(__file__).parents[2]
    )

    assert numbers(saver, "blocking") == list(range(19, -1, -1))
    assert numbers(saver, "asyncio") == list(range(19, -1, -1))


def test_a_write_that_waits_for_a_lock_outlives_its_event_loop(saver: PostgresSaver, other: psycopg.Connection) -> None:
    run = begun(saver, "t")
    lock(other, "t")
    run.state["n"] = 1
    op = run.cursor.commit(run.step()).op

    async def leave() -> None:
        waiting = asyncio.ensure_future(saver.arun(op))
        while run.session.parked is None:
            await asyncio.sleep(0.002)
        assert not waiting.done()

    asyncio.run(leave())
    other.rollback()
    until(lambda: run.session.settled == run.session.submitted)

    assert run.session.error is None
    assert numbers(saver, "t") == [1, 0]


def test_a_loop_that_waits_for_a_run_hears_of_what_blocking_callers_have_queued(
    saver: PostgresSaver, other: psycopg.Connection
) -> None:
    """A run fails on the loop while a node of it, in a thread, goes on to queue writes."""

    async def scenario() -> None:
        run = Run(saver, "t")
        run.state["n"] = 0
        await saver.arun(run.cursor.claim())
        await saver.arun(run.cursor.commit(run.step()).op)
        lock(other, "t")
        run.state["n"] = 1
        job = Job(run.cursor.commit(run.step()).op, settled_as_submitted)
        run.session.submitted += 1
        waiting = asyncio.create_task(saver.home().settled(run.session))
        await asyncio.sleep(0)  # it waits before the write is queued
        saver.post(job)
        other.rollback()
        await asyncio.wait_for(waiting, SECONDS)
        assert run.session.settled == run.session.submitted

    asyncio.run(scenario())
    assert numbers(saver, "t") == [1, 0]


def test_what_blocking_callers_queued_is_counted_as_done_before_their_lane_is_free(saver: PostgresSaver) -> None:
    run = begun(saver, "t")
    (job,) = queued(run)
    seen: list[int] = []
    job.on_done = lambda done: seen.append(done.op.session.in_lane)

    saver.post(job, hurry=True)

    until(lambda: not run.session.in_lane)
    assert seen == [1]


def test_blocking_calls_in_a_loop_whose_tasks_wait_for_the_only_connection(database: str) -> None:
    """What the pool hands to the loop while it is blocked comes back only when it goes on."""

    async def turns(saver: Any, thread: str) -> list[int]:
        first = Run(saver, thread)
        first.state["n"] = 0
        await saver.arun(first.cursor.claim())
        await saver.arun(first.cursor.commit(first.step()).op)
        run = Run(saver, thread)
        run.state["n"] = 1
        run.commit(claim=True)
        return numbers(saver, thread)

    async def scenario() -> None:
        settings: dict[str, Any] = {"max_size": 1, "retry_for": 1.0, "pool_timeout": 0.5}
        async with AsyncPostgresSaver.from_conn_string(database, **settings) as saver:
            found = await asyncio.gather(*(turns(saver, f"t{number}") for number in range(12)))
        assert found == [[1, 0]] * 12

    asyncio.run(scenario())
