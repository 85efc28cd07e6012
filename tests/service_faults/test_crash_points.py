"""A worker killed at each point of a run's life, on both databases: one run, each effect as often as it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.service_faults.kit import House, Replica, follow, made, new_run, new_thread, updates

LONG = pytest.mark.long
FAST = {"lease": 0.4, "renew": 0.1, "poll": 0.05}
MODES = ["updates", "values"]
BACKENDS = ["sqlite", "postgres"]
SQLITE_FIRST = ["sqlite", pytest.param("postgres", marks=LONG)]
POSTGRES_FIRST = [pytest.param("sqlite", marks=LONG), "postgres"]


def points(*names: str, first: int = 1) -> list[Any]:
    """Failpoints, the first of which stand for all in the default run."""
    return [name if number < first else pytest.param(name, marks=LONG) for number, name in enumerate(names)]


def ask(replica: Replica, thread: str, **body: Any) -> httpx.Response | None:
    """Ask for a run of a process that may die of it; its nodes take their time, so that what they show is stored."""
    orders = {"orders": {node: {"sleep": 0.05} for node in ("one", "two", "three")}}
    try:
        return new_run(replica.client(), thread, key="k", stream_mode=MODES, input=orders, **body)
    except httpx.TransportError:
        return None


def dying(house: House, failpoints: str, **body: Any) -> tuple[str, str]:
    """A run whose worker dies at a point and is started again; gives thread and run."""
    replica = house.replica(work=FAST).start()
    thread = new_thread(replica.client())
    replica.kill()
    replica.start(failpoints)
    ask(replica, thread, **body)
    replica.joined()
    replica.start()
    again = ask(replica, thread, **body)
    assert again is not None
    return thread, made(again)


def check(house: House, thread: str, run: str, *, repeats: int = 0) -> None:
    """The run has ended well, has shown each step once, and had each effect once, but for one that was under way."""
    with house.client(house.replicas[-1].port) as client:
        seen = follow(client, thread, run)
        assert client.get(f"/threads/{thread}/state").json()["values"]["log"] == [
            f"{run}:{node}" for node in ("one", "two", "three")
        ]
        assert client.get(f"/threads/{thread}").json()["status"] == "idle"
        assert len(client.get(f"/threads/{thread}/runs").json()) == 1
    assert seen[-1][:2] == ("end", {"run_id": run, "status": "success"})
    assert updates(seen) == ["one", "two", "three"]
    values = [data["log"] for name, data, _ in seen if name == "values"]
    assert [len(log) for log in values] == [0, 1, 2, 3]
    ids = [int(id) for _, _, id in seen if id is not None]
    assert ids == sorted(set(ids))
    assert [seq for seq, *_ in house.events(run)] == list(range(1, len(house.events(run)) + 1))
    effects = house.effects()
    assert set(effects) == {"one", "two", "three"}
    assert effects.total() <= 3 + repeats


# C1: the run is made, and nobody was told. C2, C3: taken, opened, loaded; no node has begun.
@pytest.mark.parametrize(
    "point", points("run.make.after", "run.opened", "effect.load.after", "effect.start.before", first=1)
)
@pytest.mark.parametrize("backend", POSTGRES_FIRST)
def test_killed_before_the_first_node(backend: str, point: str, house_on: Callable[[str], House]) -> None:
    house = house_on(backend)
    check(house, *dying(house, f"{point}=kill@1"))


@LONG
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_when_a_waiting_run_was_taken(backend: str, house_on: Callable[[str], House]) -> None:
    """A run that waited for its time is taken from the table (C2)."""
    house = house_on(backend)
    thread, run = dying(house, "run.take.after=kill@3", after_seconds=0.3)
    check(house, thread, run)


# C4 to C9: inside a node, before, in and after the commit of its step, and before and after its events are stored.
@pytest.mark.parametrize(
    "point",
    [
        "run.show.before=kill@2",
        *(
            pytest.param(point, marks=LONG)
            for point in (
                "effect.commit.before=kill@3", "commit.uncommitted=kill@3", "commit.after=kill@3",
                "commit.after=kill@4", "run.show.before=kill@1", "run.show.uncommitted=kill@2",
                "run.show.after=kill@2", "run.show.before=kill@3",
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("backend", SQLITE_FIRST)
def test_killed_between_steps(backend: str, point: str, house_on: Callable[[str], House]) -> None:
    house = house_on(backend)
    check(house, *dying(house, point, durability="sync"), repeats=1)


# What is lost with "async" is done again, and so is all of a run with "exit".
@LONG
@pytest.mark.parametrize(
    ("durability", "point"),
    [
        *(("async", f"{point}=kill@2") for point in ("run.show.before", "run.show.after", "commit.after")),
        *(
            ("exit", point)
            for point in ("run.show.after=kill@2", "effect.flush.before=kill@1", "run.end.before=kill@1")
        ),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_between_steps_that_nobody_waits_for(
    backend: str, durability: str, point: str, house_on: Callable[[str], House]
) -> None:
    house = house_on(backend)
    thread, run = dying(house, point, durability=durability)
    client = house.client(house.replicas[-1].port)
    seen = follow(client, thread, run)
    assert seen[-1][:2] == ("end", {"run_id": run, "status": "success"})
    assert set(updates(seen)) == {"one", "two", "three"}
    assert client.get(f"/threads/{thread}/state").json()["values"]["log"] == [
        f"{run}:{node}" for node in ("one", "two", "three")
    ]
    assert all(count <= 2 for count in house.effects().values())


# C12: all is done but for saying so.
@pytest.mark.parametrize("point", points("run.end.before", "run.end.uncommitted", "run.end.after"))
@pytest.mark.parametrize("backend", POSTGRES_FIRST)
def test_killed_at_the_end(backend: str, point: str, house_on: Callable[[str], House]) -> None:
    house = house_on(backend)
    check(house, *dying(house, f"{point}=kill@1"))
