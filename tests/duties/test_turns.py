"""Duties on several replicas: one at a time, taken over from the lost, tried again where they fail."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.server.duties.turns import Desk, LostLeaseError, Turns
from clew.storage.duties import duty_due, take_duty
from tests.duties.kit import Office


class Chore:
    """A duty that counts, and waits at its work until it may go on."""

    name = "chore"
    patience = 0.02

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.at_work = 0
        self.most = 0
        self.done = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def due(self) -> float | None:
        return 0.0

    async def work(self) -> None:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.begun.set()
        try:
            if self.error is not None:
                error, self.error = self.error, None
                raise error
            await self.may_end.wait()
            self.done += 1
        finally:
            self.at_work -= 1


@asynccontextmanager
async def replicas(office: Office, chore: Chore, *, lease: float = 30.0, count: int = 1) -> AsyncGenerator[list[Any]]:
    turns = [Turns(Desk(office.saver), chore, f"replica {number}", lease) for number in range(count)]
    tasks = [asyncio.create_task(each.keep()) for each in turns]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def test_one_replica_at_a_time(office: Office) -> None:
    async def story() -> None:
        chore = Chore()
        async with replicas(office, chore, count=3) as tasks:
            await chore.begun.wait()
            assert await Turns(Desk(office.saver), chore, "a late one", 30).turn() > 0
            chore.may_end.set()
            await until(lambda: chore.done > 5)
            assert not any(task.done() for task in tasks)
        assert chore.most == 1

    asyncio.run(story())


def test_a_duty_that_was_broken_off_is_anothers_at_once(office: Office) -> None:
    async def story() -> None:
        first, second = Chore(), Chore()
        async with replicas(office, first):
            await first.begun.wait()
        async with replicas(office, second):
            await second.begun.wait()

    asyncio.run(story())


def test_the_duty_of_a_lost_replica_is_taken_over_when_its_lease_ends(office: Office) -> None:
    async def story() -> None:
        chore = Chore()
        assert await Desk(office.saver).do(lambda: take_duty(office.tenant, "chore", "lost", 200_000))
        async with replicas(office, chore):
            assert not chore.begun.is_set()
            await chore.begun.wait()

    asyncio.run(story())


def test_a_lease_is_renewed_while_the_work_goes_on(office: Office) -> None:
    async def story() -> None:
        chore = Chore()
        async with replicas(office, chore, lease=0.3):
            await chore.begun.wait()
            for _ in range(12):
                await asyncio.sleep(0.05)
                assert await Desk(office.saver).do(lambda: duty_due(office.tenant, "chore"), "read") > 0
            assert chore.at_work == 1

    asyncio.run(story())


def test_work_whose_lease_was_lost_is_cancelled(tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        chore = Chore()
        turns = Turns(Desk(office.saver), chore, "replica", 0.3)
        turn = asyncio.create_task(turns.turn())
        await chore.begun.wait()
        with sqlite3.connect(tmp_path / "d.db") as connection:
            connection.execute("update clew_duty set owner = 'another'")
        connection.close()
        with pytest.raises(LostLeaseError, match="the lease on duty 'chore' was lost"):
            await turn
        assert chore.at_work == 0

    with SqliteSaver(tmp_path / "d.db", synchronous="NORMAL") as saver:
        asyncio.run(story(Office(saver)))


def test_a_duty_that_fails_is_logged_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(office: Office) -> None:
        chore = Chore()
        chore.error = ValueError("no luck")
        chore.may_end.set()
        async with replicas(office, chore):
            await until(lambda: chore.done)

    with SqliteSaver(tmp_path / "d.db", synchronous="NORMAL") as saver, caplog.at_level(logging.ERROR):
        asyncio.run(story(Office(saver)))
    (record,) = caplog.records
    assert "duty chore failed; it is tried again in" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no luck"


def test_the_end_is_heard_in_the_moment_of_a_wake_up(tmp_path: Path) -> None:
    class Idle(Chore):
        async def due(self) -> float | None:
            self.begun.set()
            return None

    async def story(office: Office) -> None:
        idle = Idle()
        idle.patience = 60.0
        turns = Turns(Desk(office.saver), idle, "replica", 30)
        task = asyncio.create_task(turns.keep())
        await idle.begun.wait()
        await asyncio.sleep(0)  # it waits now

        turns.wake()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()

    with SqliteSaver(tmp_path / "d.db", synchronous="NORMAL") as saver:
        asyncio.run(story(Office(saver)))


def test_a_duty_with_a_pause_rests_on_every_replica(office: Office) -> None:
    async def story() -> None:
        chore = Chore(pause=60.0)
        chore.may_end.set()
        async with replicas(office, chore, count=2):
            async with asyncio.timeout(30):
                while await Desk(office.saver).do(lambda: duty_due(office.tenant, "chore"), "read") < 50_000_000:
                    await asyncio.sleep(0.005)
        assert chore.done == 1

    asyncio.run(story())
