"""Several replicas on one PostgreSQL: lost, stopped for a while, sent away; what they had goes on elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.service_faults.kit import House, Replica, follow, made, new_run, new_thread, read_stream, updates
from tests.service_faults.test_crash_points import FAST

MODES = ["updates", "values"]
LOST = ("is not this worker's any more", "could not be gone on with")  # what a worker logs


def held(house: House, replica: Replica, node: str = "two", **body: Any) -> tuple[str, str, Any]:
    """A run that waits in a node at a replica for a file; gives thread, run and file."""
    client, gate = replica.client(), house.file()
    thread = new_thread(client)
    orders = {"orders": {node: {"hold": str(gate)}}}
    run = made(new_run(client, thread, input=orders, stream_mode=MODES, **body))
    house.wait_for("began", node, run_id=run)
    return thread, run, gate


def whole(house: House, replica: Replica, thread: str, run: str) -> None:
    """The run has ended well; its steps were made once, shown once and in order."""
    seen = follow(replica.client(), thread, run)
    assert seen[-1][:2] == ("end", {"run_id": run, "status": "success"})
    assert updates(seen) == ["one", "two", "three"]
    ids = [int(id) for _, _, id in seen if id is not None]
    assert ids == sorted(set(ids))
    assert [seq for seq, *_ in house.events(run)] == list(range(1, len(house.events(run)) + 1))
    assert house.steps(thread) == [
        (run, "loop", 3), (run, "loop", 2), (run, "loop", 1), (run, "loop", 0), (run, "input", -1)
    ]  # fmt: skip


@pytest.mark.parametrize("work", [FAST, pytest.param({}, id="by default", marks=pytest.mark.long)])
def test_a_killed_worker_s_run_is_taken_over(work: dict[str, Any], replicated: House) -> None:
    house = replicated
    first, second = house.replica(work=work).start(), house.replica(work=work).start()
    thread, run, gate = held(house, first)
    seen: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, second.client(), thread, run)
        first.kill()
        killed = time.monotonic()
        gate.touch()
        seen = following.result()
    assert time.monotonic() - killed < 10
    assert updates(seen) == ["one", "two", "three"]
    whole(house, second, thread, run)
    assert house.effects() == {"one": 1, "two": 1, "three": 1}


# Where the worker is when it is stopped for longer than its lease: before it takes the thread, before and after a step
# is stored, before events are, and before the end.
@pytest.mark.parametrize(
    "point",
    [
        "effect.commit.before@2",
        *(
            pytest.param(point, marks=pytest.mark.long)
            for point in (
                "run.opened@1",
                "effect.claim.before@1",
                "commit.after@3",
                "run.show.before@1",
                "run.end.before@1",
            )
        ),
    ],
)
@pytest.mark.parametrize("durability", ["async", pytest.param("sync", marks=pytest.mark.long)])
def test_a_worker_that_was_stopped_is_silent_afterwards(point: str, durability: str, replicated: House) -> None:
    house = replicated
    barrier = house.file()
    name, _, at = point.partition("@")
    zombie = house.replica(work=FAST).start(f"{name}=barrier({barrier})@{at}")
    thread = new_thread(zombie.client())
    orders = {"orders": {node: {"sleep": 0.05} for node in ("one", "two", "three")}}
    given: dict[str, Any] = {"durability": durability, "input": orders}
    if name == "effect.claim.before":  # a run that goes on takes the thread without a step of its own
        other = house.replica(work=FAST).start()
        house.ended(made(new_run(other.client(), thread, interrupt_before=["one"], **given)))
        other.stop()
        given |= {"input": None}
    run = made(new_run(zombie.client(), thread, stream_mode=MODES, **given))
    house.until(barrier.exists)
    zombie.send(signal.SIGSTOP)
    other = house.replica(work=FAST).start()
    assert house.ended(run) == "success"
    before = house.events(run), house.steps(thread)

    barrier.with_name(barrier.name + ".go").touch()
    continued = time.monotonic()
    zombie.send(signal.SIGCONT)
    following = made(new_run(zombie.client(), new_thread(zombie.client())))
    assert house.ended(following) == "success", "it works on what is its own"
    house.until(lambda: any(text in house.said() for text in LOST))

    late = [line for line in house.ledger.lines("began") if line["run"] == run and line["at"] > continued]
    assert (house.events(run), house.steps(thread)) == before
    assert late == [], "it has begun no node any more"
    if name != "effect.claim.before":
        whole(house, zombie, thread, run)
    assert house.run(run).attempt == 2  # type: ignore[union-attr] - it is there


def test_a_node_that_blocks_the_loop_keeps_its_lease(replicated: House) -> None:
    house = replicated
    blocked, other = house.replica(work=FAST).start(), house.replica(work=FAST).start()
    thread = new_thread(blocked.client())
    orders = {"orders": {"two": {"block": 1.5}}}
    run = made(new_run(blocked.client(), thread, input=orders, stream_mode=MODES))
    assert house.ended(run) == "success"
    whole(house, other, thread, run)
    assert house.effects() == {"one": 1, "two": 1, "three": 1}
    assert {line["pid"] for line in house.ledger.lines("ran")} == {blocked.pid}
    assert house.run(run).attempt == 1  # type: ignore[union-attr] - it is there


@pytest.mark.long
def test_a_node_that_blocks_the_loop_for_long_keeps_its_lease(replicated: House) -> None:
    """With the settings that a service has by default."""
    house = replicated
    blocked = house.replica().start()
    house.replica().start()
    run = made(new_run(blocked.client(), new_thread(blocked.client()), input={"orders": {"two": {"block": 8}}}))
    assert house.ended(run) == "success"
    assert house.effects() == {"one": 1, "two": 1, "three": 1}


def test_a_run_that_kills_its_workers_is_given_up_and_takes_no_other_along(replicated: House) -> None:
    house = replicated
    replica = house.replica(work=FAST).start()
    client = replica.client()
    gate, ready = house.file(), house.file()
    innocent_thread, poisoned_thread = new_thread(client), new_thread(client)
    innocent = made(new_run(client, innocent_thread, input={"orders": {"two": {"hold": str(gate)}}}, stream_mode=MODES))
    house.wait_for("began", "two", run_id=innocent)
    orders = {"orders": {"one": {"hold": str(ready), "die": True}}}
    poison = made(new_run(client, poisoned_thread, input=orders, stream_mode=MODES))
    house.wait_for("began", "one", run_id=poison)
    ready.touch()
    for _ in range(2):
        replica.joined()
        replica.start()
    house.until(lambda: (found := house.run(innocent)) is not None and found.attempt == 3)
    gate.touch()  # the last attempts are made one by one
    replica.joined()
    replica.start()
    seen = follow(client, poisoned_thread, poison)
    assert [event[:2] for event in seen[-2:]] == [
        ("error", {"error": "WorkerLostError", "message": "the run was lost with its worker 3 times"}),
        ("end", {"run_id": poison, "status": "error"}),
    ]
    assert client.get(f"/threads/{poisoned_thread}").json()["status"] == "error"
    assert (
        client.get(f"/threads/{poisoned_thread}/runs/{poison}/join").json()["__error__"]["error"] == "WorkerLostError"
    )
    assert house.ended(innocent) == "success"
    whole(house, replica, innocent_thread, innocent)
    assert house.effects(poison) == {}
    after = made(new_run(client, poisoned_thread, input={"orders": {}}))
    assert house.ended(after) == "success", "the thread can be gone on with"


def test_a_replica_that_is_sent_away_hands_its_runs_back(replicated: House) -> None:
    house = replicated
    leaving, staying = house.replica().start(), house.replica().start()
    thread, run, gate = held(house, leaving)
    seen: list[Any] = []
    ended = threading.Event()

    def read() -> None:
        for event in read_stream(leaving.client(), thread, run):
            seen.append(event)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    house.until(lambda: updates(seen) == ["one"])
    leaving.stop()
    gone = time.monotonic()
    assert ended.wait(5), "its streams end"
    house.wait_for("began", "two", 2, run)
    assert time.monotonic() - gone < 1, "nobody waits for a lease"
    gate.touch()
    rest = follow(staying.client(), thread, run)
    whole(house, staying, thread, run)
    assert rest[-1][1]["status"] == "success"
    assert house.run(run).attempt == 1, "it was no failure"  # type: ignore[union-attr] - it is there
    assert house.effects() == {"one": 1, "two": 1, "three": 1}
