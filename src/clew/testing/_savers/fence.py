"""Who owns a thread: of runs that start from one head exactly one goes on; the others change nothing and say so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from clew.errors import InvalidTenantError, InvalidThreadIdError, ThreadConflictError
from clew.testing._kit import Conformance, equal, holds, needs, refused
from clew.testing._runs import TASK, Run, found, history, load, write


def facts(saver: Any, thread: str = "t") -> list[Any]:
    """Everything that readers can see of a thread and of its namespace "child"."""
    return [
        (saved.checkpoint_id, saved.parent_id, saved.values, saved.metadata, [task.writes for task in saved.pending])
        for ns in ("", "child")
        for saved in history(saver, thread, ns)
    ]


def together(work: Callable[[int], None], count: int) -> None:
    """Run `work(0)`, `work(1)`, ... on threads that begin at once; raises what one of them raised."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def begin(number: int) -> None:
        try:
            barrier.wait(30)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    for error in errors:
        raise error
    holds(not any(thread.is_alive() for thread in threads), "nobody hangs")


class FenceChecks(Conformance):
    """Claims, takeovers, queues and tenants, by callers at once."""

    has_tenants = True
    """Whether the saver keeps tenants apart."""

    def started(self, value: int = 0) -> Run:
        """A run that has made a first checkpoint."""
        run = Run(self.subject, "t")
        run.state["n"] = value
        run.commit(claim=True)
        return run

    def test_of_two_runs_from_one_head_one_passes(self) -> None:
        saver = self.subject
        for round in range(3):  # on a new thread, and on one that has steps
            first, second, third = (Run(saver, "t") for _ in range(3))
            first.state["n"], second.state["n"] = round, -1
            first.commit(claim=True)
            before = facts(saver)
            with refused(ThreadConflictError, "a claim by a commit from a head that was moved"):
                second.commit(claim=True)
            with refused(ThreadConflictError, "a claim without a commit from a head that was moved"):
                saver.run(third.cursor.claim([write("late")]))
            equal(facts(saver), before, "a run that lost has changed nothing")
        equal([saved.values["n"] for saved in history(saver, "t")], [2, 1, 0], "every run that passed, in one chain")

    def test_a_run_that_was_overtaken_writes_nothing_more(self) -> None:
        saver, older = self.subject, self.started()
        child = Run(saver, "t", "child", session=older.session)
        child.state["m"] = 1
        child.commit()
        later = Run(saver, "t")
        saver.run(later.cursor.claim())
        before = facts(saver)
        older.state["n"], child.state["m"] = 9, 9

        with refused(ThreadConflictError, "a subgraph's commit of a run that was overtaken"):
            child.commit()
        with refused(ThreadConflictError, "its root's commit"):
            older.commit()
        with refused(ThreadConflictError, "a save of its tasks' writes"):
            older.save(write("late"))
        with refused(ThreadConflictError, "a load"):
            saver.run(older.cursor.load())
        holds(isinstance(older.session.error, ThreadConflictError), "the session keeps its error")
        equal(facts(saver), before, "a run that was overtaken has changed nothing")
        later.state["n"] = 5
        later.commit()
        equal(found(saver, "t").values, {"n": 5}, "the run that has the thread goes on")

    def test_each_write_of_a_run_that_was_overtaken_is_fenced(self) -> None:
        saver = self.subject

        def attempts(run: Run, child: Run) -> list[Callable[[], Any]]:
            return [
                lambda: run.commit([]),
                lambda: run.save(write("late")),
                lambda: child.commit([]),
                lambda: child.save(write("late")),
            ]

        for number in range(4):
            older = Run(saver, "t")
            older.commit([], claim=True)
            child = Run(saver, "t", "child", session=older.session)
            child.commit([])
            Run(saver, "t").commit([], claim=True)
            before = facts(saver)
            with refused(ThreadConflictError, f"write {number} of a run that was overtaken"):
                attempts(older, child)[number]()
            equal(facts(saver), before, f"write {number} of a run that was overtaken has changed nothing")

    def test_one_of_many_that_race_passes_in_every_round(self) -> None:
        saver, callers = self.subject, 6
        for round in range(8):
            runs = [Run(saver, "t") for _ in range(callers)]
            lost: list[int] = []

            def race(number: int, runs: list[Run] = runs, lost: list[int] = lost, round: int = round) -> None:
                runs[number].state.setdefault("log", []).append([round, number])
                try:
                    runs[number].commit(claim=True)
                except ThreadConflictError:
                    lost.append(number)

            together(race, callers)
            equal(len(lost), callers - 1, f"runs that lost in round {round}, of {callers}")
            head = found(saver, "t")
            equal(len(head.values["log"]), round + 1, "entries in the state: one for each round")
            holds(head.values["log"][-1][1] not in lost, "the run that was told that it passed is the one stored")
        listed = history(saver, "t")
        equal(len(listed), 8, "checkpoints: one for each round")
        parents = [saved.parent_id for saved in listed]
        equal(parents, [*(saved.checkpoint_id for saved in listed[1:]), None], "the thread is one chain")

    def test_threads_do_not_wait_for_each_other_s_conflicts(self) -> None:
        saver, callers = self.subject, 8

        def work(number: int) -> None:
            run = Run(saver, f"t{number}")
            for turn in range(10):
                run.state["n"] = turn
                run.submit()
            if number % 4 == 1:
                saver.flush(run.session)
                saver.run(Run(saver, f"t{number}").cursor.claim())  # another run of this caller's
                run.submit()
                with refused(ThreadConflictError, "a flush of a run that was overtaken"):
                    saver.flush(run.session)
            else:
                run.commit([])

        together(work, callers)
        for number in range(callers):
            states = [saved.values.get("n") for saved in history(saver, f"t{number}")][::-1]
            expected = list(range(10)) if number % 4 == 1 else [*range(10), 9]
            equal(states, expected, f"every step of thread t{number}, whatever its neighbours met")

    def test_submitted_writes_keep_their_order_and_are_seen_by_their_run(self) -> None:
        saver, run = self.subject, self.started()
        for number in range(1, 40):
            run.state["n"] = number
            run.submit()
        equal(saver.run(run.session.cursor().load()).values, {"n": 39}, "a read sees what its run has submitted")
        saver.flush(run.session)
        listed = [saved.values["n"] for saved in history(saver, "t")]
        equal(listed, list(range(39, -1, -1)), "submitted steps, newest first")

    def test_a_submitted_write_that_failed_fails_everything_after_it(self) -> None:
        saver, older = self.subject, self.started()
        saver.run(Run(saver, "t").cursor.claim())
        older.state["n"] = 1
        older.submit()

        calls: list[tuple[str, Callable[[], Any]]] = [
            ("flush", lambda: saver.flush(older.session)),
            ("aflush", lambda: asyncio.run(saver.aflush(older.session))),
            ("submit", older.submit),
            ("run", older.commit),
            ("arun", lambda: asyncio.run(saver.arun(older.cursor.load()))),
        ]
        for name, call in calls:
            with refused(ThreadConflictError, f"{name} after a submitted write that failed"):
                call()
        equal([saved.values for saved in history(saver, "t")], [{"n": 0}], "nothing of it is stored")

    def test_event_loops_and_blocking_callers_share_a_saver(self) -> None:
        saver = self.subject

        async def turn(thread: str, number: int) -> None:
            session = saver.session(thread)
            cursor = session.cursor()
            saved = await saver.arun(cursor.load())
            equal(None if saved is None else saved.values["n"], number - 1 if number else None, "what a load gives")
            step = Run(saver, "nobody")
            step.state["n"] = number
            await saver.arun(cursor.commit(step.step(), claim=True).op)
            saver.submit(session, cursor.save_writes([write(number, TASK)]))
            await saver.aflush(session)

        async def turns(number: int) -> None:
            await asyncio.gather(*(turn(f"t{thread}", number) for thread in range(8)))

        for number in range(3):
            asyncio.run(turns(number))  # each time a new loop
        for thread in range(8):
            states = [saved.values["n"] for saved in history(saver, f"t{thread}")]
            equal(states, [2, 1, 0], f"the states of thread t{thread}")
            equal([task.writes for task in found(saver, f"t{thread}").pending], [[("messages", 2)]], "its writes")

    def test_bad_thread_ids_are_refused_by_name(self) -> None:
        for bad in ("", "a\x00b", "x" * 256, "x" * 1_000_000, "\ud800", None, 1.5, b"t", ["t"]):
            with refused(InvalidThreadIdError, f"a session on thread {str(bad)[:20]!r}"):
                self.subject.session(bad)

    @needs("has_tenants")
    def test_nothing_of_another_tenant_is_ever_found(self) -> None:
        saver = self.subject

        def run_of(tenant: str, at: str | None = None) -> Run:
            return Run(saver, "t", at=at, session=saver.session("t", tenant=tenant))

        names = ["", "acme", "acme-corp", "Acme", "acme%", "\u00e9", "e\u0301"]
        ids: dict[str, str] = {}
        for number, tenant in enumerate(names):
            run = run_of(tenant)
            equal(run.loaded, None, "a tenant's thread begins empty")
            run.state["n"] = number
            ids[tenant] = run.commit(claim=True)
        for number, tenant in enumerate(names):
            equal(run_of(tenant).state, {"n": number}, f"the state of tenant {tenant!r}")
            bound = saver.with_tenant(tenant)
            equal([saved.values for saved in history(bound, "t")], [{"n": number}], "and by a saver bound to it")
            stolen = ids["acme" if tenant != "acme" else ""]
            with refused(Exception, "a load of another tenant's checkpoint"):
                run_of(tenant, at=stolen)
        equal(load(saver.with_tenant("nobody"), "t"), None, "a tenant that has nothing")

    @needs("has_tenants")
    def test_a_bound_saver_serves_no_other_tenant(self) -> None:
        saver = self.subject
        bound = saver.with_tenant("acme")
        for other in ("", "other"):
            with refused(InvalidTenantError, f"a session of tenant {other!r} on a saver that is bound to another"):
                bound.session("t", tenant=other)
        for bad in ("a\x00b", "x" * 256, "\ud800", 7):
            with refused(InvalidTenantError, f"a session of tenant {bad!r}"):
                saver.session("t", tenant=bad)
        bound.close() if hasattr(bound, "close") else None
        Run(saver, "t").commit([], claim=True)
        equal(load(saver.with_tenant("acme"), "t"), None, "closing a bound saver closes nothing, and shares nothing")
