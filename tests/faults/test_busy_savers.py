"""One saver on PostgreSQL under runs of every kind at once: what befalls one thread is no other thread's matter.

Some threads are locked by others for a while, some are taken over, of some the server refuses a row in the middle; the
rest must not notice. Every thread's state is compared with what its caller has seen.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import StorageError, ThreadConflictError
from tests.faults.test_crashed_servers import chat, expected

TURNS = 16
KINDS = ("well", "locked", "taken", "refused")
DURABILITIES = ("sync", "async", "exit")
EACH = 4  # threads of each kind on each driver
CURSED_AT = 10  # the seq that the server refuses

REFUSES = f"""
create function refuse() returns trigger language plpgsql as $$ begin
    if new.seq = {CURSED_AT} and exists (select 1 from clew_head where line = new.line and thread like 'refused%') then
        raise exception 'this row is cursed';
    end if;
    return new;
end $$;
create trigger refuse before insert on clew_step for each row execute function refuse();
"""


class Caller:
    """One caller of one thread; `ended` turns are those whose run came to its end."""

    def __init__(self, graph: Any, kind: str, number: int) -> None:
        self.graph, self.kind = graph, kind
        self.thread = f"{kind} {number}"
        self.config: Any = {"configurable": {"thread_id": self.thread}}
        self.durability: Any = DURABILITIES[number % 3]
        self.ended = 0
        self.error: BaseException | None = None

    def live(self) -> None:
        try:
            while self.ended < TURNS:
                self.graph.invoke(self.given(), self.config, durability=self.durability)
                self.ended += 1
        except BaseException as error:
            self.error = error

    async def alive(self) -> None:
        try:
            while self.ended < TURNS:
                await self.graph.ainvoke(self.given(), self.config, durability=self.durability)
                self.ended += 1
        except BaseException as error:
            self.error = error

    def given(self) -> Any:
        return {"log": [f"in {3 * self.ended}"], "total": 0}


@contextmanager
def background(work: Any) -> Iterator[None]:
    """Call `work(connection)` again and again until the end."""
    over = threading.Event()
    failed: list[BaseException] = []

    def loop() -> None:
        try:
            while not over.is_set():
                work(over)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
    assert not failed, failed


def locks(database: str) -> Any:
    """Hold the heads of the locked threads until somebody waits for them, or for a moment."""
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

    def work(over: threading.Event) -> None:
        with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as watcher:
            holder.execute("select 1 from clew_head where thread like 'locked%' order by thread for update")
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline and not watcher.execute(waiting).fetchone():
                over.wait(0.002)
            over.wait(0.25)  # longer than the saver's lock_timeout: whoever waits is parked
        over.wait(0.05)

    return work


def takes(database: str) -> Any:
    """Take the threads that are to be taken over, as an update by somebody else does."""
    saver = PostgresSaver(database)
    graph = chat(saver)

    def work(over: threading.Event) -> None:
        for number in range(2 * EACH):
            config: Any = {"configurable": {"thread_id": f"taken {number}"}}
            if graph.get_state(config).values.get("log"):
                try:
                    graph.update_state(config, {"total": 1}, as_node="say")
                except ThreadConflictError:
                    pass  # its caller was quicker
        over.wait(0.002)

    work.close = saver.close  # type: ignore[attr-defined]
    return work


@pytest.mark.parametrize("link", ["pool", "one connection"])
def test_what_befalls_one_thread_is_no_other_threads_matter(database: str, link: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection, PostgresSaver(database) as first:
        first.setup()
        connection.execute(REFUSES.encode())
        saver = PostgresSaver(connection) if link == "one connection" else first
        graph = chat(saver)
        callers = [Caller(graph, kind, number) for kind in KINDS for number in range(2 * EACH)]
        run_all(callers, database)

        for caller in callers:
            check(caller, saver)
        assert saver.verify().problems == []
        assert any(caller.error for caller in callers if caller.kind == "taken"), "nobody was overtaken"


def run_all(callers: list[Caller], database: str) -> None:
    taking = takes(database)

    async def all_async() -> None:
        await asyncio.gather(*(caller.alive() for caller in callers[1::2]))

    workers = [threading.Thread(target=caller.live) for caller in callers[::2]]
    workers.append(threading.Thread(target=lambda: asyncio.run(all_async())))
    with background(locks(database)), background(taking):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    taking.close()
    assert not any(worker.is_alive() for worker in workers), "a run hangs"


def check(caller: Caller, saver: Any) -> None:
    state = caller.graph.get_state(caller.config)
    log = state.values.get("log", [])
    assert log == expected(len(log)), caller.thread
    match caller.kind:
        case "well" | "locked":
            assert caller.error is None, (caller.thread, caller.error)
            assert log == expected(3 * TURNS)
        case "taken":
            assert isinstance(caller.error, ThreadConflictError | None), (caller.thread, caller.error)
            assert len(log) >= 3 * caller.ended
        case _:
            assert isinstance(caller.error, StorageError), (caller.thread, caller.error)
            assert "this row is cursed" in str(caller.error)
            assert len(log) >= 3 * caller.ended
            assert len(list(caller.graph.get_state_history(caller.config))) == CURSED_AT - 1
