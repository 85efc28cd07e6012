"""Group commit: one transaction for many, and nobody pays for another one's failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from clew import _failpoints
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import StorageError, ThreadConflictError
from clew.storage.operation import LogOp
from clew.storage.query import Query, Steps
from clew.storage.writer import Job
from tests.storage.kit import Run, history, write


@pytest.fixture
def sqlite(tmp_path: Path) -> Generator[SqliteSaver]:
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL") as opened:
        yield opened


@pytest.fixture
def failpoints() -> Generator[Any]:
    yield _failpoints.configure
    _failpoints.configure("")


def ready(saver: Any, thread: str) -> tuple[Run, Job]:
    """A run whose next commit is built and waits in no queue yet."""
    run = Run(saver, thread)
    run.state["n"] = 0
    run.commit(claim=True)
    run.state["n"] = 1
    return run, Job(run.cursor.commit(run.step()).op)


def test_a_fenced_write_fails_alone_in_its_group(sqlite: SqliteSaver) -> None:
    (_, first), (_, fenced), (_, last) = (ready(sqlite, thread) for thread in ("a", "b", "c"))
    sqlite.run(Run(sqlite, "b").cursor.claim())

    sqlite.tables.write_group([first, fenced, last])

    assert [type(job.error) for job in (first, fenced, last)] == [type(None), ThreadConflictError, type(None)]
    assert [len(history(sqlite, thread)) for thread in ("a", "b", "c")] == [2, 1, 2]


def test_a_failing_statement_fails_alone_and_the_others_are_retried(sqlite: SqliteSaver) -> None:
    (_, first), (run, _), (_, last) = (ready(sqlite, thread) for thread in ("a", "b", "c"))

    def broken() -> Steps[None]:
        yield Query("head_add", ("", "z", "", 1))
        yield Query("head_add", ("", None, "", 1))

    failing = Job(LogOp(run.session, broken, kind="commit"))
    sqlite.tables.write_group([first, failing, last])

    assert (first.error, last.error) == (None, None)
    assert isinstance(failing.error, StorageError)
    assert "clew_head.thread" in str(failing.error)
    assert [len(history(sqlite, thread)) for thread in ("a", "c")] == [2, 2]
    assert [summary.thread_id for summary in sqlite.threads() if summary.thread_id == "z"] == []


def test_new_namespaces_survive_a_group_that_is_rolled_back(sqlite: SqliteSaver) -> None:
    """Rows whose numbers were given out in a transaction that was taken back are made again."""
    jobs = []
    runs = []
    for thread in ("a", "b", "c"):
        run, job = ready(sqlite, thread)
        child = Run(sqlite, thread, "child", session=run.session)
        child.state["m"] = thread
        jobs += [job, Job(child.cursor.commit(child.step()).op), Job(child.cursor.commit(child.step()).op)]
        runs.append(run)

    def broken() -> Steps[None]:
        yield Query("head_add", ("", None, "", 1))

    other = Run(sqlite, "other")
    sqlite.tables.write_group([*jobs[:4], Job(LogOp(other.session, broken, kind="commit")), *jobs[4:]])

    assert [job.error for job in jobs] == [None] * 9
    for thread in ("a", "b", "c"):
        assert [saved.values for saved in history(sqlite, thread, "child")] == [{"m": thread}] * 2
    assert sqlite.verify().problems == []


def test_after_a_failure_the_later_writes_of_that_session_are_not_run(sqlite: SqliteSaver, failpoints: Any) -> None:
    run, job = ready(sqlite, "a")
    later = Job(run.cursor.commit(run.step()).op)
    failpoints("commit.statement=raise@1")

    sqlite.tables.write_group([job])
    sqlite.tables.write_group([later])

    assert isinstance(job.error, _failpoints.InjectedFailureError)
    assert later.error is job.error
    assert len(history(sqlite, "a")) == 1
    assert sqlite.verify("a").problems == []


def test_an_interrupted_process_can_go_on_with_its_saver(saver: Any) -> None:
    run = Run(saver, "t")
    run.state["n"] = 0
    run.commit(claim=True)

    def interrupted() -> Steps[None]:
        yield Query("head_add", ("", "z", "", 1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saver.run(LogOp(saver.session("z"), interrupted, kind="commit"))

    run.state["n"] = 1
    run.commit()
    assert [saved.values["n"] for saved in history(saver, "t")] == [1, 0]
    assert saver.run(saver.session("z").cursor().load()) is None


@pytest.mark.parametrize("point", ["commit.before", "commit.statement", "commit.uncommitted", "pending.statement"])
def test_a_write_that_fails_in_the_middle_changes_nothing(saver: Any, failpoints: Any, point: str) -> None:
    run = Run(saver, "t")
    run.state["n"] = 0
    run.commit(claim=True)
    before = history(saver, "t")
    run.state["n"] = 1
    if isinstance(saver, PostgresSaver):
        point = point.replace("statement", "uncommitted")  # one statement does it all
    failpoints(f"{point}=raise")

    pending = run.cursor.save_writes([write(1)]) if point.startswith("pending") else None
    op = pending or run.cursor.commit(run.step()).op

    with pytest.raises(_failpoints.InjectedFailureError, match=f"failpoint '{point}' was hit"):
        saver.run(op)
    failpoints("")

    assert history(saver, "t") == before
    again = Run(saver, "t")
    again.state["n"] = 2
    again.commit(claim=True)
    assert saver.verify("t").problems == []


def test_whoever_submits_too_much_helps_to_write_it(sqlite: SqliteSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.storage.writer._QUEUE_BYTES", 2000)
    run = Run(sqlite, "t")
    for turn in range(60):
        run.state["text"] = f"{turn}" * 500
        run.submit()

    assert sqlite._writes._bytes <= 4000
    sqlite.flush(run.session)
    assert len(history(sqlite, "t")) == 60


def test_waiting_writes_travel_in_one_transaction(sqlite: SqliteSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    original = sqlite.tables.write_group
    monkeypatch.setattr(sqlite._writes, "_execute", lambda jobs: (groups.append(len(jobs)), original(jobs)))
    runs = [Run(sqlite, f"t{number}") for number in range(5)]
    for run in runs:
        run.state["n"] = 1
    threads = [threading.Thread(target=run.commit) for run in runs]

    with sqlite._writes._mutex:
        for thread in threads:
            thread.start()
        while len(sqlite._writes._jobs) < 5:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join()

    assert groups == [5]
    assert [len(history(sqlite, f"t{number}")) for number in range(5)] == [1] * 5


def test_a_short_run_is_committed_in_one_group_by_whoever_waits_for_it(
    sqlite: SqliteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite._writes._worker._delay = 600.0
    groups: list[tuple[int, int]] = []
    together = sqlite.tables.write_group
    monkeypatch.setattr(
        sqlite._writes,
        "_execute",
        lambda jobs: (groups.append((len(jobs), threading.get_ident())), together(jobs)),
    )
    run = Run(sqlite, "t")
    for turn in range(5):
        run.state["n"] = turn
        run.submit()
    sqlite.flush(run.session)

    assert groups == [(5, threading.get_ident())]
    assert len(history(sqlite, "t")) == 5


def test_what_nobody_waits_for_is_written_all_the_same(sqlite: SqliteSaver) -> None:
    run = Run(sqlite, "t")
    written = threading.Event()
    run.state["n"] = 1
    op = run.cursor.commit(run.step()).op
    run.session.submitted += 1
    sqlite._writes.post(Job(op, lambda _: written.set()))

    assert written.wait(10)
    assert len(history(sqlite, "t")) == 1


def test_a_write_that_a_coroutine_waits_for_is_not_held_back(sqlite: SqliteSaver) -> None:
    sqlite._writes._worker._delay = 600.0
    run = Run(sqlite, "t")

    async def turns() -> None:
        for turn in range(3):
            run.state["n"] = turn
            run.submit()
            run.state["n"] = -turn
            await asyncio.wait_for(sqlite.arun(run.cursor.commit(run.step()).op), 10)

    asyncio.run(turns())
    assert len(history(sqlite, "t")) == 6


def test_an_idle_writer_thread_goes_away_and_comes_back(sqlite: SqliteSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.storage.worker._IDLE_SECONDS", 0.01)
    run = Run(sqlite, "t")
    for turn in range(3):
        run.state["n"] = turn
        run.submit()
        sqlite.flush(run.session)
        thread = sqlite._writes._worker._thread
        if thread is not None:
            thread.join(10)

    assert sqlite._writes._worker._thread is None
    assert len(history(sqlite, "t")) == 3


def test_closing_writes_what_was_submitted(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    saver = SqliteSaver(path)
    run = Run(saver, "t")
    for turn in range(30):
        run.state["n"] = turn
        run.submit()
    saver.close()

    with SqliteSaver.from_conn_string(path) as again:
        assert len(history(again, "t")) == 30
    with pytest.raises(StorageError, match=r"the saver on '.*threads.db' is closed"):
        Run(saver, "t")
