"""The rules of deliveries: written with a run's end, tried until they arrive, theirs whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.storage import runs
from clew.storage.deliveries import (
    Delivery,
    add_delivery,
    claim_deliveries,
    delay_delivery,
    end_delivery,
    find_delivery,
    forget_deliveries,
    next_delivery,
)
from clew.storage.query import Steps
from clew.storage.runs import RunRow
from tests.duties.kit import MINUTE, SECOND, Office

HOOK = "https://example.com/hook"


def end(office: Office, run: RunRow, status: str = "success", **said: Any) -> bool:
    """End a run as a worker does, and have it told."""

    def steps() -> Steps[bool]:
        is_mine = (yield from runs.end_run(office.place(run.thread), run, "w", status)) is not None
        if is_mine:
            yield from add_delivery(office.place(run.thread), run, status, **said)
        return is_mine

    return office.do(steps)


def claim(office: Office, limit: int = 10, patience: int = MINUTE) -> list[Delivery]:
    return office.do(lambda: claim_deliveries(office.place("any"), patience, limit))


@pytest.fixture
def ended(office: Office) -> Iterator[RunRow]:
    run = office.run("t", "r1", webhook=HOOK, input={"q": 1})
    assert end(office, run, "error", error={"error": "ValueError", "message": "no"}, values=b'{"answer":42}')
    return run


def test_a_run_without_a_webhook_has_no_delivery(office: Office) -> None:
    assert end(office, office.run("t", "r1"))
    assert office.do(lambda: find_delivery(office.tenant, "r1"), "read") is None
    assert office.do(lambda: next_delivery(office.tenant), "read") is None


def test_a_delivery_says_how_the_run_ended(office: Office, ended: RunRow) -> None:
    assert office.do(lambda: next_delivery(office.tenant), "read") <= 0
    (delivery,) = claim(office)
    assert (delivery.run_id, delivery.thread, delivery.attempt, delivery.url) == ("r1", "t", 1, HOOK)
    assert (delivery.run["status"], delivery.run["error"]["message"]) == ("error", "no")
    assert delivery.run["request"] == {"webhook": HOOK, "input": {"q": 1}}
    assert delivery.values == b'{"answer":42}'
    assert claim(office) == [], "it is somebody's"
    assert office.do(lambda: end_delivery(office.tenant, delivery))

    row = office.do(lambda: find_delivery(office.tenant, "r1"), "read")
    assert (row.status, row.attempt, row.next_at, row.error) == ("delivered", 1, None, None)
    assert not office.do(lambda: end_delivery(office.tenant, delivery, "late")), "it is over"


def test_a_delivery_is_written_once_and_outlives_its_thread(office: Office, ended: RunRow) -> None:
    assert not end(office, ended), "the run has ended already"
    office.do(lambda: add_delivery(office.place("t"), ended, "success"))
    office.threads.delete("t")
    (delivery,) = claim(office)
    assert delivery.run["status"] == "error"


def test_an_attempt_that_failed_is_made_again_later(office: Office, ended: RunRow) -> None:
    (first,) = claim(office)
    office.do(lambda: delay_delivery(office.tenant, first, 30 * SECOND, "refused"))
    assert claim(office) == []
    assert 0 < office.do(lambda: next_delivery(office.tenant), "read") <= 30 * SECOND
    assert office.do(lambda: find_delivery(office.tenant, "r1"), "read").error == "refused"


def test_a_lost_attempt_is_made_by_somebody_else_and_changes_nothing_any_more(office: Office, ended: RunRow) -> None:
    (lost,) = claim(office, patience=0)
    (second,) = claim(office)
    assert second.attempt == 2
    office.do(lambda: delay_delivery(office.tenant, lost, 0, "late"))
    assert not office.do(lambda: end_delivery(office.tenant, lost))
    assert claim(office) == []
    assert office.do(lambda: end_delivery(office.tenant, second, "410"))
    row = office.do(lambda: find_delivery(office.tenant, "r1"), "read")
    assert (row.status, row.error) == ("failed", "410")


def test_what_is_over_is_forgotten_after_a_while(office: Office, ended: RunRow) -> None:
    end(office, office.run("u", "r2", webhook=HOOK))
    first = next(each for each in claim(office) if each.run_id == "r1")
    office.do(lambda: end_delivery(office.tenant, first))
    assert office.do(lambda: forget_deliveries(office.tenant, MINUTE, 10)) == 0
    assert office.do(lambda: forget_deliveries(office.tenant, 0, 10)) == 1
    assert office.do(lambda: find_delivery(office.tenant, "r1"), "read") is None
    assert office.do(lambda: find_delivery(office.tenant, "r2"), "read").status == "pending"


def test_under_a_key_what_is_told_is_sealed_until_it_was_told(tmp_path: Path) -> None:
    keys = EncryptedSerializer({"old": b"0" * 32})
    with SqliteSaver(tmp_path / "d.db", serde=keys) as saver:
        office = Office(saver)
        end(office, office.run("t", "r1", webhook="https://confidential.example/"), values=b'"confidential"')
        (delivery,) = claim(office, patience=0)
        assert (delivery.url, delivery.values) == ("https://confidential.example/", b'"confidential"')
    assert b"confidential" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())

    with SqliteSaver(tmp_path / "d.db", serde=EncryptedSerializer({"new": b"1" * 32})) as saver:
        (unreadable,) = claim(Office(saver))
        assert unreadable.url is None
        assert "MissingKeyError" in (unreadable.unreadable or "")
