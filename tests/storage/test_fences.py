"""Who owns a thread: of runs that start from one head exactly one goes on, and a later run takes over."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from clew.errors import ThreadConflictError
from clew.protocols import HistoryQuery
from tests.storage.kit import TASK, Run, history, load, write

LOST = r"another run has taken thread 't'; this run has stopped and saved nothing more"


def started(saver: Any, value: int = 0) -> Run:
    """A run that has made a first checkpoint."""
    run = Run(saver, "t")
    run.state["n"] = value
    run.commit(claim=True)
    return run


def test_of_two_first_commits_on_a_new_thread_one_passes(saver: Any) -> None:
    first, second = Run(saver, "t"), Run(saver, "t")
    first.state["n"], second.state["n"] = 1, 2
    first.commit(claim=True)

    with pytest.raises(ThreadConflictError, match=LOST):
        second.commit(claim=True)

    assert [saved.values for saved in history(saver, "t")] == [{"n": 1}]


def test_of_two_runs_from_one_head_one_passes(saver: Any) -> None:
    started(saver)
    first, second = Run(saver, "t"), Run(saver, "t")
    first.state["n"] = 1
    first.commit(claim=True)

    with pytest.raises(ThreadConflictError, match=LOST):
        second.commit(claim=True)

    assert [saved.values for saved in history(saver, "t")] == [{"n": 1}, {"n": 0}]


def test_a_later_run_takes_over_and_the_older_one_is_fenced(saver: Any) -> None:
    older = started(saver)
    later = Run(saver, "t")
    later.state["n"] = 1
    later.commit(claim=True)
    older.state["n"] = 2

    with pytest.raises(ThreadConflictError, match=LOST):
        older.commit()
    with pytest.raises(ThreadConflictError, match=LOST):
        saver.run(older.cursor.save_writes([write("late")]))

    later.state["n"] = 3
    later.commit()
    assert [saved.values["n"] for saved in history(saver, "t")] == [3, 1, 0]


def test_a_claim_without_a_checkpoint_takes_the_thread(saver: Any) -> None:
    older = started(saver)
    later = Run(saver, "t")
    saver.run(later.cursor.claim([write("answer")]))

    with pytest.raises(ThreadConflictError, match=LOST):
        saver.run(older.cursor.save_writes([write("late")]))

    head = load(saver, "t")
    assert head is not None
    assert [task.writes for task in head.pending] == [[("messages", "answer")]]


def test_a_first_commit_that_does_not_claim_is_a_claim_all_the_same(saver: Any) -> None:
    started(saver)
    first, second = Run(saver, "t"), Run(saver, "t")
    first.state["n"] = 1
    first.commit()

    with pytest.raises(ThreadConflictError, match=LOST):
        second.commit()


def test_subgraph_commits_are_fenced_by_the_root(saver: Any) -> None:
    older = started(saver)
    inner = Run(saver, "t", "child", session=older.session)
    inner.state["m"] = 1
    inner.commit()
    later = Run(saver, "t")
    saver.run(later.cursor.claim())
    inner.state["m"] = 2

    with pytest.raises(ThreadConflictError, match=LOST):
        inner.commit()

    assert [saved.values for saved in history(saver, "t", "child")] == [{"m": 1}]


def test_a_run_on_a_deleted_thread_stops_even_after_the_thread_is_made_again(saver: Any) -> None:
    older = started(saver)
    saver.delete_thread("t")
    started(saver, 5)
    older.state["n"] = 9

    with pytest.raises(ThreadConflictError, match=LOST):
        older.commit()

    assert [saved.values for saved in history(saver, "t")] == [{"n": 5}]


def test_what_was_submitted_is_saved_in_order_and_seen_by_reads_of_the_session(saver: Any) -> None:
    run = started(saver)
    for n in range(1, 40):
        run.state["n"] = n
        run.submit()

    listed = saver.run(run.session.cursor().history(HistoryQuery()))

    assert [saved.values["n"] for saved in listed] == list(range(39, -1, -1))
    saver.flush(run.session)


def test_a_failed_submit_is_raised_by_everything_that_follows(saver: Any) -> None:
    older = started(saver)
    saver.run(Run(saver, "t").cursor.claim())
    older.state["n"] = 1
    older.submit()

    with pytest.raises(ThreadConflictError, match=LOST):
        saver.flush(older.session)
    with pytest.raises(ThreadConflictError, match=LOST):
        older.submit()
    with pytest.raises(ThreadConflictError, match=LOST):
        older.commit()
    with pytest.raises(ThreadConflictError, match=LOST):
        saver.run(older.cursor.load())
    with pytest.raises(ThreadConflictError, match=LOST):
        asyncio.run(saver.aflush(older.session))


def test_many_threads_race_for_one_thread_and_one_chain_is_left(saver: Any) -> None:
    won: list[int] = []
    lost: list[int] = []
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(12):
            run = Run(saver, "t")
            run.state.setdefault("log", []).append([number, turn])
            try:
                run.commit(claim=True)
                run.state["log"].append("done")
                run.commit()
            except ThreadConflictError:
                lost.append(number)
            else:
                won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    head = load(saver, "t")
    assert head is not None
    listed = history(saver, "t")
    assert len(won) + len(lost) == 72
    assert len(head.values["log"]) == len(listed), "every commit that passed is in the state, none is lost"
    assert [saved.parent_id for saved in listed] == [saved.checkpoint_id for saved in listed[1:]] + [None]
    assert saver.verify("t").problems == []


def test_runs_on_different_threads_commit_together(saver: Any) -> None:
    def work(number: int) -> None:
        run = Run(saver, f"t{number}")
        for turn in range(20):
            run.state["n"] = turn
            run.commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(history(saver, f"t{number}")) for number in range(8)] == [20] * 8
    assert [summary.steps for summary in saver.threads()] == [20] * 8


def test_async_and_blocking_callers_on_several_loops_share_a_saver(saver: Any) -> None:
    async def turn(number: int) -> str:
        session = saver.session("t")
        cursor = session.cursor()
        await saver.arun(cursor.load())
        step = Run(saver, "other").step([])
        committed = cursor.commit(step, claim=True)
        await saver.arun(committed.op)
        await saver.arun(cursor.save_writes([write(number)]))
        saver.submit(session, cursor.commit(step).op)
        await saver.aflush(session)
        return committed.checkpoint_id

    ids = [asyncio.run(turn(number)) for number in range(3)]

    assert sorted(ids) == ids
    assert len(history(saver, "t")) == 6


def test_a_cancelled_caller_leaves_its_write_to_be_carried_out(saver: Any) -> None:
    run = started(saver)
    run.state["n"] = 7

    async def cancelled() -> None:
        task = asyncio.ensure_future(saver.arun(run.cursor.commit(run.step()).op))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if "memory" in type(saver).__name__.lower() or getattr(saver.tables, "is_shared", False):
        run.commit()  # in memory there is no moment at which to cancel
    else:
        asyncio.run(cancelled())
    run.state["n"] = 8
    run.commit()

    assert [saved.values["n"] for saved in history(saver, "t")] == [8, 7, 0]


def test_pending_writes_wait_for_the_next_step_and_then_belong_to_it(saver: Any) -> None:
    run = started(saver)
    other = TASK.replace("0f0e", "1f1e")
    saver.run(run.cursor.save_writes([write("first"), write("second", other)]))
    saver.run(run.cursor.save_writes([write("replaced")]))

    head = load(saver, "t")
    assert head is not None
    assert [(task.task_id, task.writes, task.name) for task in head.pending] == [
        (TASK, [("messages", "replaced")], "node"),
        (other, [("messages", "second")], "node"),
    ]
    run.state["n"] = 1
    run.commit(writes=[write("replaced")])
    newest, oldest = history(saver, "t")
    assert newest.pending == []
    assert [task.writes for task in oldest.pending] == [[("messages", "replaced")]]
    past = load(saver, "t", at=oldest.checkpoint_id)
    assert past is not None
    assert past.pending == oldest.pending
    assert not past.is_head


def test_a_first_write_of_a_subgraph_that_loses_takes_back_its_claim(saver: Any) -> None:
    started(saver)
    first, second = Run(saver, "t"), Run(saver, "t")
    inner, other = (Run(saver, "t", "child", session=run.session) for run in (first, second))
    late = Run(saver, "t", "child", session=first.session)
    inner.commit()
    with pytest.raises(ThreadConflictError, match=LOST):
        other.commit()
    with pytest.raises(ThreadConflictError, match=LOST):
        late.commit()

    third = Run(saver, "t")
    stale = Run(saver, "t", "child", session=third.session)
    fresh = Run(saver, "t", "child", session=third.session)
    assert fresh.loaded is not None
    stale.cursor = third.session.cursor("child")  # stands on nothing, though the namespace has a step
    with pytest.raises(ThreadConflictError, match=LOST):
        stale.commit()
    fourth = Run(saver, "t")
    fourth.state["n"] = 4
    fourth.commit(claim=True)
    assert len(history(saver, "t", "child")) == 1
    assert saver.verify("t").problems == []
