"""Replicas that are killed while they fire a cron: it has fired once nevertheless (C16)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.server.duties.turns import Desk
from clew.storage import crons, runs
from clew.storage.crons import CronRow
from clew.storage.query import Query, Steps
from tests.duties.kit import AGENT, MINUTE, Office, duties_of

ROOT = Path(__file__).parents[2]
LONG = pytest.mark.long


@contextmanager
def replica(database: str, failpoints: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that does duties on a database."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.duties.replica", database],
        env={**os.environ, "PYTHONPATH": path, "CLEW_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


async def taken_over(office: Office) -> None:
    """Do the duties here until no cron is due."""
    duties = duties_of(office.saver)
    await duties.start()
    try:
        async with asyncio.timeout(30):
            while await Desk(office.saver).do(lambda: crons.next_cron(office.tenant), "read") <= 0:
                await asyncio.sleep(0.02)
    finally:
        await duties.stop()


def overdue(office: Office) -> int:
    """A cron that is due every hour, and was the last time a while ago; gives that time."""
    row = CronRow("c", "", "t", AGENT, "0 * * * *", None, None, 1, 0, 0, None, None, None, {}, {}, {})
    at = 1_000_000 * 3600

    def steps() -> Steps[None]:
        added = yield from crons.add_cron(office.place(""), row, lambda _schedule, _zone, after: after + MINUTE)
        yield Query("cron_move", (office.tenant, "c", added.next_at, at, None))

    office.do(steps)
    return at


def fired(office: Office) -> list[str]:
    found = office.do(lambda: runs.list_runs(office.place("t"), None, 10, 0), "read")
    return [run.metadata["cron_id"] for run in found]


# Before anything, between the run's row and the cron's, before the commit, and after it.
@pytest.mark.parametrize(
    "moment", ["cron.made", *(pytest.param(f"cron.{name}", marks=LONG) for name in ("before", "uncommitted", "after"))]
)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_cron_whose_replica_is_killed_has_fired_once(
    backend: str, moment: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = str(tmp_path / "c.db") if backend == "sqlite" else request.getfixturevalue("database")
    opened: Any = SqliteSaver if backend == "sqlite" else PostgresSaver
    with opened.from_conn_string(database) as saver:
        office = Office(saver)
        office.threads.create("t")
        at = overdue(office)

        with replica(database, f"{moment}=kill@1") as killed:
            assert killed.wait(30) == -signal.SIGKILL
        before = fired(office)
        asyncio.run(taken_over(office))

        assert before == (["c"] if moment == "cron.after" else [])
        assert fired(office) == ["c"]
        row = office.do(lambda: crons.find_cron(office.place(""), "c", None), "read")
        assert row.next_at > at
        keyed = office.do(lambda: _keyed(office.tenant, f"cron:c:{at}"), "read")
        assert len(keyed) == 1


def _keyed(tenant: str, key: str) -> Steps[list[Any]]:
    return (yield Query("run_keyed", (tenant, key)))
