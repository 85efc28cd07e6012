"""The rules of runs: made once, claimed by one worker, ended once; and the strategies for a thread that is busy."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import (
    RunNotFoundError,
    ThreadBusyError,
    ThreadConflictError,
    ThreadExistsError,
    ThreadNotFoundError,
)
from clew.graph import StateGraph
from clew.pregel._prepare import Options
from clew.pregel._served import run_served
from clew.storage import runs
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.runs import NewRun, RunRow
from clew.storage.session import LogSession
from clew.storage.threads import ThreadRow
from clew.threads import Threads

MINUTE = 60_000_000  # microseconds


class Office:
    """Runs in one database, as a server and its workers use them."""

    def __init__(self, saver: Any) -> None:
        self.saver = saver
        self.threads = Threads(saver).of("ada")

    def do(self, steps: Callable[[], Steps[Any]]) -> Any:
        session = LogSession(self.saver, "office", self.saver.codec(frozenset()), self.saver.tenant)
        return self.saver.run(LogOp(session, steps, kind="run"))

    def place(self, thread: str) -> Place:
        return self.saver.place(thread)

    def add(self, thread: str, run_id: str, **fields: Any) -> runs.Made:
        self.threads.create(thread, if_exists="do_nothing")
        new = NewRun(run_id, "assistant", {"input": f"of {run_id}"}, {"n": 1}, **fields)
        return self.do(lambda: runs.add_run(self.place(thread), new))

    def claim(self, owner: str, limit: int = 10, lease: int = MINUTE) -> list[RunRow]:
        return self.do(lambda: runs.claim_runs(self.place("any"), owner, lease, limit))

    def claimed(self, owner: str = "w") -> list[str]:
        return [run.run_id for run in self.claim(owner)]

    def status(self, thread: str, run_id: str) -> str:
        return self.do(lambda: runs.get_run(self.place(thread), run_id)).status

    def end(self, run: RunRow, owner: str = "w", status: str = "success") -> bool:
        return self.do(lambda: runs.end_run(self.place(run.thread), run, owner, status)) is not None

    def sweep(self, max_attempts: int = 3) -> tuple[list[str], list[str], list[str]]:
        swept = self.do(lambda: runs.sweep_runs(self.place("any"), max_attempts, 10))
        waiting, dead, cancelled = ([run.run_id for run in found] for found in swept)
        return waiting, dead, cancelled


@pytest.fixture(params=["sqlite", "postgres"])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    if request.param == "sqlite":
        with SqliteSaver.from_conn_string(str(tmp_path / "runs.db"), synchronous="NORMAL") as saver:
            yield Office(saver)
        return
    with PostgresSaver.from_conn_string(request.getfixturevalue("database")) as saver:
        yield Office(saver)


def test_a_run_from_beginning_to_end(office: Office) -> None:
    made = office.add("t", "r1", priority=2)
    assert made.is_new
    assert (made.run.status, made.run.attempt, made.run.request) == ("pending", 0, {"input": "of r1"})
    (run,) = office.claim("w")
    assert (run.run_id, run.status, run.attempt, run.epoch, run.metadata) == ("r1", "running", 1, 1, {"n": 1})
    assert office.claim("w2") == []
    assert office.end(run)
    assert office.status("t", "r1") == "success"
    assert not office.end(run, status="error"), "it ends once"
    assert office.status("t", "r1") == "success"


def test_runs_of_a_thread_start_one_by_one_in_their_order(office: Office) -> None:
    for name in ("r1", "r2", "r3"):
        office.add("t", name)
    office.add("other", "x")
    first = {run.run_id: run for run in office.claim("w")}
    assert set(first) == {"r1", "x"}
    assert office.claimed() == []
    office.end(first["r1"])
    assert office.claimed() == ["r2"]


def test_priority_comes_first_among_threads_but_not_within_one(office: Office) -> None:
    office.add("a", "r1")
    office.add("b", "r2", priority=5)
    office.add("a", "r3", priority=9)
    assert [run.run_id for run in office.claim("w", limit=1)] == ["r2"]
    assert [run.run_id for run in office.claim("w", limit=1)] == ["r1"]


def test_a_run_may_start_later(office: Office) -> None:
    office.add("t", "r1", after=60 * MINUTE)
    assert office.claimed() == []
    office.add("t", "r2")
    assert office.claimed() == ["r2"], "what waits for its time keeps nobody else waiting"


def test_the_same_key_makes_one_run(office: Office) -> None:
    first = office.add("t", "r1", idempotency_key="k")
    again = office.add("t", "r2", idempotency_key="k")
    assert again.run.run_id == first.run.run_id == "r1"
    assert not again.is_new
    assert not office.add("t", "r1").is_new, "so does the same id"
    assert office.claimed() == ["r1"]


def test_reject(office: Office) -> None:
    office.add("t", "r1")
    with pytest.raises(ThreadBusyError, match="thread 't' is already running a task"):
        office.add("t", "r2", strategy="reject")
    (run,) = office.claim("w")
    with pytest.raises(ThreadBusyError):
        office.add("t", "r2", strategy="reject")
    office.end(run)
    assert office.add("t", "r2", strategy="reject").is_new


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
def test_making_way(office: Office, strategy: Any) -> None:
    office.add("t", "running")
    (run,) = office.claim("w")
    office.add("t", "waiting")
    made = office.add("t", "new", strategy=strategy)
    assert "running" in made.cancelled
    assert office.do(lambda: runs.renew_runs("w", MINUTE)) == {"running": (1, strategy)}
    if strategy == "interrupt":
        assert office.status("t", "waiting") == "interrupted"
    else:
        assert made.removed == ("waiting",)
        with pytest.raises(RunNotFoundError):
            office.status("t", "waiting")
    assert office.claimed() == [], "it waits until the other one has ended"
    if strategy == "interrupt":
        assert office.end(run, status="interrupted")
    else:
        assert not office.end(run), "it was said that it leaves nothing"
        assert office.do(lambda: runs.roll_back(office.place("t"), run, "another")) is None
        assert office.do(lambda: runs.roll_back(office.place("t"), run, "w")) == "busy"
    assert office.claimed() == ["new"]


def test_cancelling(office: Office) -> None:
    office.add("t", "r1")
    assert office.do(lambda: runs.cancel_run(office.place("t"), "r1", "interrupt")).status == "interrupted"
    office.add("t", "r2")
    (run,) = office.claim("w")
    asked = office.do(lambda: runs.cancel_run(office.place("t"), "r2", "interrupt"))
    assert (asked.status, asked.cancel) == ("running", "interrupt")
    office.end(run, status="interrupted")
    ended = office.do(lambda: runs.cancel_run(office.place("t"), "r2", "interrupt"))
    assert ended.status == "interrupted"
    with pytest.raises(RunNotFoundError):
        office.do(lambda: runs.cancel_run(office.place("another thread"), "r2", "interrupt"))


def test_what_is_to_be_rolled_back_stays_so(office: Office) -> None:
    office.add("t", "r1")
    (run,) = office.claim("w")
    for action in ("interrupt", "rollback", "interrupt"):
        office.do(lambda action=action: runs.cancel_run(office.place("t"), "r1", action))
    assert office.do(lambda: runs.renew_runs("w", MINUTE)) == {"r1": (1, "rollback")}
    assert not office.end(run)


def test_a_run_that_waits_again_can_be_rolled_back(office: Office) -> None:
    office.add("t", "r1")
    office.claim("w", lease=0)
    office.sweep()
    assert office.do(lambda: runs.cancel_run(office.place("t"), "r1", "rollback")).status == "interrupted"
    with pytest.raises(RunNotFoundError):
        office.status("t", "r1")
    assert office.threads.get("t").status == "idle"


def test_a_lost_worker_s_run_is_taken_over_and_the_lost_one_is_fenced(office: Office) -> None:
    office.add("t", "r1")
    (lost,) = office.claim("lost", lease=0)
    assert office.sweep() == (["r1"], [], [])
    (taken,) = office.claim("w")
    assert (taken.attempt, taken.epoch) == (2, 2)
    assert office.do(lambda: runs.renew_runs("lost", MINUTE)) == {}
    place = office.place("t")
    assert not office.do(lambda: runs.add_events(place, lost, "lost", 1, [("values", b"1")]))
    assert not office.end(lost, owner="lost")
    assert office.do(lambda: runs.list_events(place, "r1", 0, 10)) == []
    assert office.do(lambda: runs.add_events(place, taken, "w", 1, [("values", b"1"), ("end", b"2")]))
    assert office.do(lambda: runs.list_events(place, "r1", 1, 10)) == [(2, "end", b"2")]
    assert office.do(lambda: runs.last_event(place, "r1")) == 2
    assert office.end(taken)


def test_a_run_that_loses_its_worker_each_time_is_given_up(office: Office) -> None:
    office.add("poison-thread", "poison")
    for _ in range(3):
        assert [run.run_id for run in office.claim("w", lease=0)] == ["poison"]
        swept = office.sweep()
    assert swept == ([], ["poison"], [])
    run = office.do(lambda: runs.get_run(office.place("poison-thread"), "poison"))
    assert run.status == "error"
    assert run.error == {"error": "WorkerLostError", "message": "the run was lost with its worker 3 times"}
    assert office.sweep() == ([], [], [])
    assert office.threads.get("poison-thread").status == "error"


def test_a_worker_that_goes_away_gives_its_runs_back(office: Office) -> None:
    office.add("a", "r1")
    office.add("b", "r2")
    assert len(office.claim("w")) == 2
    assert set(office.do(lambda: runs.release_runs("w"))) == {"r1", "r2"}
    assert {run.attempt for run in office.claim("w2")} == {1}, "it was nobody's fault"


def test_lists_and_removal(office: Office) -> None:
    for number in range(5):
        office.add("t", f"r{number}")
    office.claim("w")
    place = office.place("t")
    newest = office.do(lambda: runs.list_runs(place, None, 2, 1))
    assert [run.run_id for run in newest] == ["r3", "r2"]
    assert [run.run_id for run in office.do(lambda: runs.list_runs(place, "running", 10, 0))] == ["r0"]
    office.do(lambda: runs.remove_run(place, "r0"))
    assert office.claimed() == ["r1"]


def test_a_deleted_thread_takes_its_runs_along(office: Office) -> None:
    office.add("t", "r1")
    office.add("other", "r2")
    runs_of = {run.run_id: run for run in office.claim("w")}
    for name in ("t", "other"):
        run = runs_of["r1" if name == "t" else "r2"]
        office.do(lambda n=name, r=run: runs.add_events(office.place(n), r, "w", 1, [("values", b"1")]))
    office.threads.delete("t")
    assert office.do(lambda: runs.list_runs(office.place("t"), None, 10, 0)) == []
    assert office.do(lambda: runs.list_events(office.place("t"), "r1", 0, 10)) == []
    assert not office.end(runs_of["r1"])
    assert office.do(lambda: runs.list_events(office.place("other"), "r2", 0, 10)) == [(1, "values", b"1")]


def test_many_workers_claim_each_run_once(office: Office) -> None:
    rnd = random.Random(7)
    for number in range(60):
        office.add(f"t{rnd.randrange(12)}", f"r{number:02}")
    done: list[str] = []
    running: set[str] = set()
    lock, overlaps = threading.Lock(), list[str]()

    def work(name: str) -> None:
        idle = 0
        while idle < 20:
            claimed = office.claim(name, limit=3)
            idle = 0 if claimed else idle + 1
            with lock:
                for run in claimed:
                    if run.thread in running:
                        overlaps.append(run.run_id)
                    running.add(run.thread)
            for run in claimed:
                with lock:
                    running.discard(run.thread)
                    done.append(run.run_id)
                assert office.end(run, owner=name)

    workers = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(done) == [f"r{number:02}" for number in range(60)]
    assert overlaps == []


def test_under_a_key_requests_and_events_are_sealed(tmp_path: Path) -> None:
    with SqliteSaver(tmp_path / "runs.db", serde=EncryptedSerializer({"k": b"0" * 32})) as saver:
        office = Office(saver)
        office.threads.create("t")
        new = NewRun("r1", "assistant", {"input": "confidential-input"}, {})
        office.do(lambda: runs.add_run(office.place("t"), new))
        (run,) = office.claim("w")
        assert run.request == {"input": "confidential-input"}
        office.do(lambda: runs.add_events(office.place("t"), run, "w", 1, [("values", b"confidential-event")]))
        assert office.do(lambda: runs.list_events(office.place("t"), "r1", 0, 5))[0][2] == b"confidential-event"
    assert b"confidential" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_run_is_given_to_the_worker_that_makes_it_if_nothing_is_before_it(office: Office) -> None:
    start = runs.Lease("w", MINUTE)
    made = office.add("t", "r1", start=start)
    assert (made.run.status, made.run.attempt, made.run.epoch) == ("running", 1, 1)
    assert office.do(lambda: runs.renew_runs("w", MINUTE)) == {"r1": (1, None)}
    assert office.add("t", "r2", start=start).run.status == "pending"
    assert office.add("later", "r3", start=start, after=MINUTE).run.status == "pending"
    assert office.end(made.run)
    assert office.claimed() == ["r2"]


def test_a_thread_is_busy_while_it_has_runs(office: Office) -> None:
    office.add("t", "r1", marks={"graph_id": "g"})
    office.add("t", "r2")
    thread = office.threads.get("t")
    assert (thread.status, thread.metadata) == ("busy", {"graph_id": "g"})
    for status in ("busy", "error"):
        (run,) = office.claim("w")
        left = office.do(lambda r=run: runs.end_run(office.place("t"), r, "w", "error", {"error": "E"}, leaves="error"))
        assert left == office.threads.get("t").status == status
    office.add("t", "r3")
    office.do(lambda: runs.cancel_run(office.place("t"), "r3", "interrupt", leaves="interrupted"))
    assert office.threads.get("t").status == "interrupted"


def test_the_end_that_was_said_already_may_be_said_again(office: Office) -> None:
    office.add("t", "r1")
    (run,) = office.claim("w")
    assert office.end(run)
    assert office.end(run), "its answer may have been lost"
    assert not office.end(run, status="error")


def test_a_run_makes_the_thread_that_it_needs_and_takes_it_along(office: Office) -> None:
    place = office.place("gone-soon")
    with pytest.raises(ThreadNotFoundError):
        office.do(lambda: runs.add_run(place, NewRun("r1", "a", {}, {}), user_id="ada"))
    row = ThreadRow("gone-soon", "ada", "idle", 0, 1, 1, 1, None, None, None, None, None, {})
    new = NewRun("r1", "a", {}, {}, user_id="ada", is_ephemeral=True)
    office.do(lambda: runs.add_run(place, new, user_id="ada", if_missing=row))
    assert office.threads.get("gone-soon").status == "busy"
    (run,) = office.claim("w")
    office.do(lambda: runs.end_run(place, run, "w", "success", batch=(1, [("values", b"1")])))
    with pytest.raises(ThreadNotFoundError):
        office.threads.get("gone-soon")
    assert office.do(lambda: runs.find_run(place, "r1", "ada")).status == "success"
    assert office.do(lambda: runs.list_events(place, "r1", 0, 5)) == [(1, "values", b"1")]
    for user in ("eve", "adA"):
        with pytest.raises(RunNotFoundError):
            office.do(lambda u=user: runs.find_run(place, "r1", u))


def test_another_s_thread_does_not_exist(office: Office) -> None:
    office.threads.create("t")
    with pytest.raises(ThreadNotFoundError):
        office.do(lambda: runs.add_run(office.place("t"), NewRun("r1", "a", {}, {}), user_id="eve"))
    row = ThreadRow("t", "eve", "idle", 0, 1, 1, 1, None, None, None, None, None, {})
    with pytest.raises(ThreadExistsError):
        office.do(lambda: runs.add_run(office.place("t"), NewRun("r1", "a", {}, {}), user_id="eve", if_missing=row))


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
def test_a_lost_worker_s_run_that_was_to_be_cancelled_is(office: Office, action: Any) -> None:
    office.add("t", "r1")
    office.claim("lost", lease=0)
    office.do(lambda: runs.cancel_run(office.place("t"), "r1", action))
    assert office.sweep() == ([], [], ["r1"])
    if action == "interrupt":
        assert office.status("t", "r1") == "interrupted"
    else:
        with pytest.raises(RunNotFoundError):
            office.status("t", "r1")
    assert office.threads.get("t").status == ("interrupted" if action == "interrupt" else "idle")


def test_events_are_read_from_the_middle_of_a_batch(office: Office) -> None:
    office.add("t", "r1")
    (run,) = office.claim("w")
    place = office.place("t")
    for first in (1, 4):
        batch = [(f"e{first + n}", b"%d" % n) for n in range(3)]
        assert office.do(lambda f=first, b=batch: runs.add_events(place, run, "w", f, b))
    numbers = [seq for seq, _, _ in office.do(lambda: runs.list_events(place, "r1", 2, 10))]
    assert numbers == [3, 4, 5, 6]
    assert office.do(lambda: runs.last_event(place, "r1")) == 6


def test_a_claim_of_a_thread_holds_only_for_the_worker_that_has_the_run(office: Office) -> None:
    """A worker that was stopped before it took the thread, and wakes up later, does nothing."""
    graph = StateGraph(dict).add_node("n", lambda state: {"x": 1}).set_entry_point("n").compile(office.saver)
    office.add("t", "r1")
    (lost,) = office.claim("lost", lease=0)
    office.sweep()
    config = {"configurable": {"thread_id": "t"}, "run_id": "r1"}

    async def work(run: RunRow, owner: str, given: Any) -> Any:
        guard = (run.run_id, owner, run.epoch)
        return await run_served(graph, given, config, Options(), lambda chunk: None, guard=guard)

    for given in ({"x": 0}, {"x": 0}):  # on a new thread, and on one that is there
        with pytest.raises(ThreadConflictError):
            asyncio.run(work(lost, "lost", given))
        (run,) = office.claim("w")
        assert asyncio.run(work(run, "w", given)).output == {"x": 1}
        with pytest.raises(ThreadConflictError):
            asyncio.run(work(lost, "lost", None))
        steps = len(list(graph.get_state_history(config)))
        office.end(run)
        lost = run._replace(epoch=run.epoch)
        office.add("t", f"r{steps}")
