"""Answers, updates and rollbacks whose worker is killed: each is used once, and a thread is as it was or as it was
asked to be, never between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.service_faults.kit import House, Replica, follow, made, new_run, new_thread
from tests.service_faults.test_crash_points import FAST, LONG, POSTGRES_FIRST, SQLITE_FIRST


def command(replica: Replica, thread: str, key: str, **said: Any) -> httpx.Response | None:
    try:
        return new_run(replica.client(), thread, "ask", key=key, input=None, command=said, stream_mode=["updates"])
    except httpx.TransportError:
        return None


def asked(house: House) -> tuple[Replica, str]:
    """A thread on which the first question waits."""
    replica = house.replica(work=FAST).start()
    client = replica.client()
    thread = new_thread(client)
    house.ended(made(new_run(client, thread, "ask")))
    return replica, thread


def killed(house: House, replica: Replica, thread: str, point: str, **said: Any) -> str:
    """A command whose worker dies at a point and is started again; gives the run, which has ended then."""
    replica.kill()
    replica.start(point)
    command(replica, thread, "k", **said)
    replica.joined()
    replica.start()
    again = command(replica, thread, "k", **said)
    assert again is not None
    run = made(again)
    assert house.ended(run) == "success", house.run(run)
    return run


# The answer is on its way, noted, taken with the thread, used up to the next question, which is stored, and all said.
POINTS = [
    "claim.after=kill@1",
    *(
        pytest.param(f"{point}=kill@1", marks=LONG)
        for point in (
            "run.begin.before", "run.begin.after", "claim.before", "claim.uncommitted", "effect.start.before",
            "effect.savewrites.before", "pending.after", "run.end.before", "run.end.after",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("backend", SQLITE_FIRST)
def test_each_answer_is_used_once(backend: str, point: str, house_on: Callable[[str], House]) -> None:
    house = house_on(backend)
    replica, thread = asked(house)
    killed(house, replica, thread, point, resume="A")
    with house.client(replica.port) as client:
        state = client.get(f"/threads/{thread}/state").json()
        assert [question["value"] for question in state["interrupts"]] == ["second?"], "the first answer is no other's"
        last = command(replica, thread, "last", resume="B")
        assert last is not None
        house.ended(made(last))
        state = client.get(f"/threads/{thread}/state").json()
    assert state["values"]["answers"] == ["A", "B"]
    assert [line["answers"] for line in house.ledger.lines("answered")] == [["A", "B"]]
    assert house.effects() == {"one": 1, "three": 1}


@pytest.mark.parametrize("point", ["claim.after=kill@1", *(
    pytest.param(f"{point}=kill@1", marks=LONG)
    for point in ("run.begin.after", "effect.start.before", "pending.before", "pending.after", "run.end.before")
)])  # fmt: skip
@pytest.mark.parametrize("said", [{"update": {"log": ["u"]}, "goto": "three"}], ids=["update and goto"])
@pytest.mark.parametrize("backend", SQLITE_FIRST)
def test_an_update_is_applied_once(
    backend: str, said: dict[str, Any], point: str, house_on: Callable[[str], House]
) -> None:
    house = house_on(backend)
    replica, thread = asked(house)
    run = killed(house, replica, thread, point, **said)
    once = {"three": 2 if point.startswith("pending.before") else 1}  # two: its writes were not stored yet
    assert house.effects(run) == once, "beside the question, which is asked again"
    for key in ("A", "B"):
        last = command(replica, thread, key, resume=key)
        assert last is not None
        house.ended(made(last))
    with house.client(replica.port) as client:
        values = client.get(f"/threads/{thread}/state").json()["values"]
    assert values["answers"] == ["A", "B"]
    assert values["log"].count("u") == values["log"].count(f"{run}:three") == 1
    assert house.effects(run) == once


# C13: killed while a run is stopped, or taken back.
@pytest.mark.parametrize("point", ["run.roll_back.uncommitted", *(
    pytest.param(point, marks=LONG)
    for point in ("run.cancel.before", "run.cancel.after", "run.roll_back.before", "run.roll_back.after")
)])  # fmt: skip
@pytest.mark.parametrize("action", ["rollback", pytest.param("interrupt", marks=LONG)])
@pytest.mark.parametrize("backend", POSTGRES_FIRST)
def test_killed_while_a_run_is_stopped(backend: str, action: str, point: str, house_on: Callable[[str], House]) -> None:
    if action == "interrupt":
        point = point.replace("roll_back", "end")
    house = house_on(backend)
    replica = house.replica(work=FAST).start(f"{point}=kill@1" if "cancel" in point else "")
    client = replica.client()
    thread, gate = new_thread(client), house.file()
    first = None if action == "interrupt" else made(new_run(client, thread))
    if first is not None and "cancel" not in point:
        house.ended(first)
        replica.kill()
        replica.start(f"{point}=kill@1")
    elif first is not None:
        house.ended(first)
    elif "cancel" not in point:
        replica.kill()
        replica.start(f"{point}=kill@1")
    run = made(new_run(client, thread, input={"orders": {"two": {"hold": str(gate)}}}))
    house.wait_for("began", "two", run_id=run)
    url = f"/threads/{thread}/runs/{run}/cancel?action={action}"
    try:
        assert client.post(url).status_code == 202
    except httpx.TransportError:
        pass
    replica.joined()
    replica.start()
    if point == "run.cancel.before":  # nobody has heard of it
        assert client.post(url).status_code == 202
    seen = follow(client, thread, run) if action == "interrupt" else []

    kept = [step for step in house.steps(thread) if step[0] == run]
    if action == "interrupt":
        assert house.ended(run) == "interrupted"
        assert seen[-1][:2] == ("end", {"run_id": run, "status": "interrupted"})
        assert kept
        assert client.get(f"/threads/{thread}").json()["status"] == "interrupted"
    else:
        house.until(lambda: house.run(run) is None)
        assert [step for step in house.steps(thread) if step[0] == run] == []
        assert {step[0] for step in house.steps(thread)} == {first}
        assert client.get(f"/threads/{thread}").json()["status"] == "idle"
        assert client.get(f"/threads/{thread}/state").json()["values"]["log"] == [
            f"{first}:{node}" for node in ("one", "two", "three")
        ]
    assert house.effects(run) == {"one": 1}
