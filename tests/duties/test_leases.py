"""One duty, one replica: leases on the database's clock."""

from __future__ import annotations

import threading

from clew.storage.duties import duty_due, release_duty, renew_duty, take_duty
from tests.duties.kit import MINUTE, Office


def take(office: Office, owner: str, lease: int = MINUTE, name: str = "sweep") -> bool:
    return office.do(lambda: take_duty(office.tenant, name, owner, lease))


def due(office: Office, name: str = "sweep") -> int:
    return office.do(lambda: duty_due(office.tenant, name), "read")


def test_one_replica_has_a_duty_until_it_gives_it_up(office: Office) -> None:
    assert due(office) == 0
    assert take(office, "a")
    assert not take(office, "b")
    assert not take(office, "a"), "nor twice by the same"
    assert take(office, "b", name="another duty")
    assert 0 < due(office) <= MINUTE

    office.do(lambda: release_duty(office.tenant, "sweep", "b", 0))
    assert not take(office, "b"), "it was not b's to give up"
    office.do(lambda: release_duty(office.tenant, "sweep", "a", 0))
    assert take(office, "b")


def test_a_duty_that_was_done_rests(office: Office) -> None:
    assert take(office, "a")
    office.do(lambda: release_duty(office.tenant, "sweep", "a", 60 * MINUTE))

    assert not take(office, "a")
    assert not take(office, "b")
    assert 59 * MINUTE < due(office) <= 60 * MINUTE


def test_the_duty_of_a_lost_replica_is_taken_over(office: Office) -> None:
    assert take(office, "lost", lease=0)
    assert take(office, "b")

    assert not office.do(lambda: renew_duty(office.tenant, "sweep", "lost", MINUTE))
    assert office.do(lambda: renew_duty(office.tenant, "sweep", "b", 2 * MINUTE))
    assert due(office) > MINUTE


def test_of_many_replicas_one_gets_it(office: Office) -> None:
    got: list[str] = []
    start = threading.Barrier(6)

    def run(name: str) -> None:
        start.wait()
        if take(office, name):
            got.append(name)

    replicas = [threading.Thread(target=run, args=(f"replica {number}",)) for number in range(6)]
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.join()

    assert len(got) == 1
