"""The rules of crons: each time once, in the transaction that moves the cron on; what was missed, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew import _failpoints
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.storage import crons, runs
from clew.storage.crons import CronFilter, CronRow, Fired
from clew.storage.query import Steps
from clew.storage.runs import NewRun
from tests.duties.kit import MINUTE, Office

PAYLOAD = {"input": {"q": "confidential"}}


class Clock:
    """A schedule that is due when the test says so; counted in minutes from `start` on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, schedule: str, timezone: str | None, after: int) -> int | None:
        if schedule == "never":
            return None
        return after - (after - self.start) % MINUTE + MINUTE


class Crons:
    """Crons in one office."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.root = office.place("")
        now = office.do(lambda: _now(), "read")
        self.clock = Clock(now - 1000 * MINUTE)

    def add(self, cron_id: str = "c", user_id: str = "ada", **fields: Any) -> CronRow:
        row = CronRow(
            cron_id,
            user_id,
            None,
            "agent",
            "minutely",
            None,
            None,
            1,
            0,
            0,
            None,
            None,
            None,
            PAYLOAD,
            {"n": 1},
            {},
        )._replace(**fields)
        return self.office.do(lambda: crons.add_cron(self.root, row, self.clock))

    def overdue(self, cron_id: str = "c", by: int = 0) -> int:
        """Have a cron be due since some time ago; gives the time."""
        row = self.get(cron_id)
        assert row.next_at is not None
        at = row.next_at - MINUTE - by
        self.office.do(lambda: _move(self.root.tenant, cron_id, row.next_at, at))
        return at

    def get(self, cron_id: str = "c", user_id: str | None = None) -> Any:
        return self.office.do(lambda: crons.find_cron(self.root, cron_id, user_id), "read")

    def make(self, row: CronRow, at: int) -> Steps[object]:
        new = NewRun(f"run {at}", row.assistant_id, row.payload, {}, idempotency_key=f"cron:{row.cron_id}:{at}")
        return (yield from runs.add_run(self.office.place("t"), new))

    def fire(self, cron_id: str = "c", make: Callable[..., Any] | None = None) -> Fired | None:
        return self.office.do(lambda: crons.fire_cron(self.root, cron_id, make or self.make, self.clock))

    def runs(self) -> list[str]:
        found = self.office.do(lambda: runs.list_runs(self.office.place("t"), None, 100, 0), "read")
        return [run.run_id for run in found]


def _now() -> Steps[int]:
    return (yield crons.Query("now", ()))[0][0]


def _move(tenant: str, cron_id: str, before: int, at: int) -> Steps[None]:
    yield crons.Query("cron_move", (tenant, cron_id, before, at, None))


@pytest.fixture
def all_crons(office: Office) -> Crons:
    office.threads.create("t")
    return Crons(office)


def test_a_cron_fires_when_it_is_due_and_moves_on(all_crons: Crons) -> None:
    row = all_crons.add()
    assert row.next_at is not None
    assert row.created_at < row.next_at <= row.created_at + MINUTE
    tenant = all_crons.root.tenant
    assert 0 < all_crons.office.do(lambda: crons.next_cron(tenant), "read") <= MINUTE
    assert all_crons.office.do(lambda: crons.due_crons(tenant, 10), "read") == []
    assert all_crons.fire() is None

    at = all_crons.overdue()
    assert all_crons.office.do(lambda: crons.due_crons(tenant, 10), "read") == ["c"]
    assert all_crons.fire() == (at, row.next_at)
    assert all_crons.fire() is None, "once"
    assert all_crons.runs() == [f"run {at}"]


def test_what_was_missed_is_made_up_for_by_one_run(all_crons: Crons) -> None:
    row = all_crons.add()
    at = all_crons.overdue(by=500 * MINUTE)
    assert all_crons.fire() == (at, row.next_at)
    assert all_crons.fire() is None
    assert len(all_crons.runs()) == 1


def test_a_transaction_that_is_cut_off_leaves_the_cron_due(all_crons: Crons) -> None:
    all_crons.add()
    at = all_crons.overdue()
    _failpoints.configure("cron.made=raise@1")
    try:
        with pytest.raises(_failpoints.InjectedFailureError):
            all_crons.fire()
    finally:
        _failpoints.configure("")
    assert all_crons.runs() == []
    assert all_crons.fire() is not None
    assert all_crons.runs() == [f"run {at}"]


def test_of_many_replicas_one_fires_it(all_crons: Crons) -> None:
    all_crons.add()
    at = all_crons.overdue()
    start, fired, errors = threading.Barrier(5), list[Fired](), list[Exception]()

    def replica() -> None:
        start.wait()
        try:
            got = all_crons.fire()
        except Exception as error:
            errors.append(error)
        else:
            fired.extend([got] if got else [])

    replicas = [threading.Thread(target=replica) for _ in range(5)]
    for each in replicas:
        each.start()
    for each in replicas:
        each.join()

    assert errors == []
    assert [each.at for each in fired] == [at]
    assert all_crons.runs() == [f"run {at}"]


def test_a_run_that_cannot_be_made_is_passed_over_and_noted(all_crons: Crons) -> None:
    row = all_crons.add()
    at = all_crons.overdue()
    skipped = all_crons.office.do(lambda: crons.skip_cron(all_crons.root, "c", all_crons.clock, "no thread"))
    assert skipped == (at, row.next_at)
    assert (all_crons.get().error, all_crons.runs()) == ("no thread", [])
    assert all_crons.office.do(lambda: crons.skip_cron(all_crons.root, "c", all_crons.clock, "late")) is None


def test_the_end(all_crons: Crons) -> None:
    assert all_crons.add("over", end_time=1).next_at is None
    row = all_crons.add()
    at = all_crons.overdue()
    assert row.next_at is not None
    end = row.next_at - 1
    changed = all_crons.office.do(
        lambda: crons.change_cron(all_crons.root, "c", "ada", {"end_time": end}, all_crons.clock)
    )
    assert changed.next_at is None, "there is no time left before the end"
    everlasting = all_crons.office.do(
        lambda: crons.change_cron(all_crons.root, "c", "ada", {"end_time": None}, all_crons.clock)
    )
    assert everlasting.next_at > at


def test_changes(all_crons: Crons) -> None:
    row = all_crons.add()

    def change(**changes: Any) -> CronRow:
        return all_crons.office.do(lambda: crons.change_cron(all_crons.root, "c", "ada", changes, all_crons.clock))

    assert change(enabled=0).next_at is None
    assert change(enabled=1).next_at == row.next_at
    changed = change(payload={"webhook": "x"}, metadata={"m": 2}, assistant_id="other")
    assert changed.payload == {**PAYLOAD, "webhook": "x"}
    assert changed.metadata == {"n": 1, "m": 2}
    assert change(schedule="never").next_at is None
    assert all_crons.get()._replace(updated_at=0) == change()._replace(updated_at=0)
    assert all_crons.get().assistant_id == "other"


def test_lists_and_owners(all_crons: Crons) -> None:
    all_crons.add("a")
    all_crons.add("b", thread="t", assistant_id="other")
    all_crons.add("c", user_id="bob", enabled=0)

    def listed(*wanted: Any) -> set[str]:
        found = all_crons.office.do(lambda: crons.list_crons(all_crons.root, CronFilter(*wanted)), "read")
        return {row.cron_id for row in found}

    assert listed(None) == {"a", "b", "c"}
    assert listed("ada") == {"a", "b"}
    assert listed("ada", "t") == listed("ada", None, "other") == {"b"}
    assert listed(None, None, None, False) == {"c"}
    assert all_crons.get("a", "bob") is None
    assert not all_crons.office.do(lambda: crons.remove_cron(all_crons.root, "a", "bob"))
    assert (
        all_crons.office.do(lambda: crons.change_cron(all_crons.root, "a", "bob", {"enabled": 0}, all_crons.clock))
        is None
    )
    assert all_crons.office.do(lambda: crons.remove_cron(all_crons.root, "a", "ada"))
    all_crons.office.threads.delete("t")
    assert listed(None) == {"c"}, "a thread takes its crons along"


def test_under_a_key_requests_are_sealed_and_rekeyed(tmp_path: Path) -> None:
    with SqliteSaver(tmp_path / "c.db", serde=EncryptedSerializer({"old": b"0" * 32})) as saver:
        saved = Crons(Office(saver))
        saved.add()
        assert saved.get().payload == PAYLOAD
    assert b"confidential" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())

    both = EncryptedSerializer({"new": b"1" * 32, "old": b"0" * 32}, current="new")
    with SqliteSaver(tmp_path / "c.db", serde=both) as saver:
        assert saver.reencrypt() == 1
        assert saver.reencrypt() == 0
    with SqliteSaver(tmp_path / "c.db", serde=EncryptedSerializer({"new": b"1" * 32})) as saver:
        assert Crons(Office(saver)).get().payload == PAYLOAD
