"""Several callers on one thread at once: nothing is lost, and of those who start from one head exactly one goes on."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.errors import ThreadConflictError
from clew.types import Command
from tests.faults.harness import Harness, Setting, error_of, shown_history, story, told
from tests.faults.ledger import Ledger
from tests.faults.parking import Background, failpoints
from tests.faults.places import LOOP_LINKS, open_saver
from tests.faults.stories import BY_NAME, Notes

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
CALLERS = 4


_numbers = itertools.count(1)


@pytest.fixture(params=["memory", "one file saver", "four file savers", "one server saver", "four server savers"])
def savers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Any]]:
    """Four savers on one storage, as callers in one process or in four would have them."""
    if request.param == "memory":
        yield [InMemorySaver()] * CALLERS
        return
    count, kind, _ = request.param.split()
    place = {"database": str(tmp_path / "clew.db"), "storage": "NORMAL"}
    if kind == "server":
        database = request.getfixturevalue("postgres_database")
        place = {"database": database, "storage": "postgres", "tenant": f"races-{next(_numbers)}"}
    with contextlib.ExitStack() as stack:
        if count == "one":
            yield [stack.enter_context(open_saver(place))] * CALLERS
        else:
            yield [stack.enter_context(open_saver(place)) for _ in range(CALLERS)]


class Meeting:
    """Everybody who has loaded waits until all have."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(CALLERS)

    def hit(self, name: str) -> None:
        if name == "effect.load.after":
            self.barrier.wait(20)


def at_once(name: str, savers: list[Any], act: Callable[[int, Any], Any]) -> tuple[list[int], list[Notes]]:
    """All callers act on one head; gives who won, and what ran for each. The losers' error is checked."""
    worlds = [Notes() for _ in range(CALLERS)]
    graphs = [
        BY_NAME[name].build(world, False).compile(checkpointer=saver)
        for world, saver in zip(worlds, savers, strict=True)
    ]
    with failpoints(Meeting().hit):
        runs = [Background(lambda n=n: act(n, graphs[n])).start() for n in range(CALLERS)]
        ended = [run.join() for run in runs]
    for run in ended:
        assert run.error is None or isinstance(run.error, ThreadConflictError), run.error
    return [number for number, run in enumerate(ended) if run.error is None], worlds


def is_one_chain(graph: Any) -> bool:
    history = list(graph.get_state_history(CONFIG))
    ids = [one.config["configurable"]["checkpoint_id"] for one in history]
    parents = [one.parent_config and one.parent_config["configurable"]["checkpoint_id"] for one in history]
    return parents == [*ids[1:], None]


@pytest.mark.parametrize("is_new", [True, False], ids=["new thread", "known thread"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_of_four_inputs_to_one_head_one_passes_and_the_others_run_no_node(
    savers: list[Any], durability: Any, is_new: bool
) -> None:
    graph = BY_NAME["parallel"].build(Notes(), False).compile(checkpointer=savers[0])
    if not is_new:
        graph.invoke({"log": ["before"], "total": 0}, CONFIG)
    before = [] if is_new else graph.get_state(CONFIG).values["log"]

    winners, worlds = at_once(
        "parallel", savers, lambda n, own: own.invoke({"log": [f"from {n}"], "total": 0}, CONFIG, durability=durability)
    )

    assert len(winners) == 1
    assert [n for n, world in enumerate(worlds) if world.ran] == winners
    assert graph.get_state(CONFIG).values["log"][: len(before) + 1] == [*before, f"from {winners[0]}"]
    assert is_one_chain(graph)
    assert savers[0].verify("thread").is_intact


def test_of_four_answers_to_one_question_one_is_taken(savers: list[Any]) -> None:
    graph = BY_NAME["approval"].build(Notes(), False).compile(checkpointer=savers[0])
    graph.invoke({"log": ["in"], "total": 1}, CONFIG)

    winners, worlds = at_once("approval", savers, lambda n, own: own.invoke(Command(resume=f"by {n}"), CONFIG))

    assert len(winners) == 1
    assert [n for n, world in enumerate(worlds) if world.ran] == winners
    assert graph.get_state(CONFIG).values["log"] == ["in", "draft", f"approved:by {winners[0]}", "send3:11"]


def test_of_four_updates_of_one_head_one_is_taken(savers: list[Any]) -> None:
    graph = BY_NAME["loop"].build(Notes(), False).compile(checkpointer=savers[0])
    graph.invoke({"log": ["in"], "total": 400}, CONFIG)

    winners, _ = at_once("loop", savers, lambda n, own: own.update_state(CONFIG, {"log": [f"by {n}"]}, as_node="left"))

    assert len(winners) == 1
    assert graph.get_state(CONFIG).values["log"][-1] == f"by {winners[0]}"
    assert is_one_chain(graph)


# Processes


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, postgres_database: str) -> Iterator[Harness]:
    made = Harness(tmp_path_factory.mktemp("races"), postgres_database)
    yield made
    made.close()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60  # a slow disk is not a hang
    while not path.exists():
        assert time.monotonic() < deadline, f"nobody arrived at {path.name}"
        time.sleep(0.002)


def contenders(setting: Setting, count: int) -> list[dict[str, Any]]:
    """What each of several processes is told: on both drivers, and reaching the storage in every way there is."""
    links = ["pool", "async connection", "connection", "async pool"] if setting.storage == "postgres" else ["pool"]
    told_each: list[dict[str, Any]] = []
    for number in range(count):
        link = links[number % len(links)]
        own = replace(setting, link=link, is_async=link in LOOP_LINKS or number % 3 == 1)
        told_each.append({**told(story("parallel"), own), "link": link})
    return told_each


@pytest.mark.parametrize(
    ("storage", "durability", "count"),
    [
        *itertools.product(["FULL", "postgres"], ["sync", "async", "exit"], [2]),
        ("NORMAL", "sync", 8),
        ("postgres", "sync", 8),
    ],
)
def test_of_several_processes_that_loaded_one_head_one_passes(
    harness: Harness, tmp_path: Path, storage: str, durability: str, count: int
) -> None:
    setting = Setting(storage, durability)
    place = harness.place(setting)
    doors = [tmp_path / f"door{number}" for number in range(count)]
    harness.start_all(
        [
            {
                **place, **case, "updates": [door.name], "retries": False,
                "failpoints": f"effect.load.after=barrier({door})@1",
            }
            for case, door in zip(contenders(setting, count), doors, strict=True)
        ]
    )  # fmt: skip
    for door in doors:
        wait_for(door)
    for door in doors:
        Path(f"{door}.go").touch()

    assert harness.wait_all() == [0] * count, error_of(place)

    ledger = Ledger(place["ledger"])
    raced = {line["name"]: line for line in ledger.lines("raced")}
    (winner,) = [line for line in raced.values() if line["outcome"] == "won"]
    assert len(raced) == count
    assert {line["pid"] for line in ledger.lines("ran")} == {winner["pid"]}
    with open_saver(place) as saver:
        graph = story("parallel").build(Notes(), False).compile(checkpointer=saver)
        log = graph.get_state(CONFIG).values["log"]
        assert [name for name in log if name in raced] == [winner["name"]] == log[:1]
        assert is_one_chain(graph)
        assert saver.verify().is_intact


@pytest.mark.parametrize(
    ("storage", "durability", "count"),
    [
        *itertools.product(["NORMAL", "postgres"], ["sync", "async", "exit"], [2]),
        ("NORMAL", "sync", 8),
        ("postgres", "sync", 8),
        ("postgres", "async", 8),
    ],
)
def test_processes_that_keep_writing_to_one_thread_lose_nothing(
    harness: Harness, storage: str, durability: str, count: int
) -> None:
    setting = Setting(storage, durability)
    place = harness.place(setting)
    names = [[f"{who}{n}" for n in range(12 // count + 1)] for who in "abcdefgh"[:count]]
    harness.start_all(
        [
            {**place, **case, "updates": own, "retries": True}
            for case, own in zip(contenders(setting, count), names, strict=True)
        ]
    )

    assert harness.wait_all() == [0] * count, error_of(place)

    ledger = Ledger(place["ledger"])
    won = [line["name"] for line in ledger.lines("raced") if line["outcome"] == "won"]
    ran = Counter(line["name"] for line in ledger.lines("ran"))
    with open_saver(place) as saver:
        graph = story("parallel").build(Notes(), False).compile(checkpointer=saver)
        log = Counter(graph.get_state(CONFIG).values["log"])
        assert {name: log[name] for own in names for name in own} == {name: 1 for own in names for name in own}
        assert all(len(won) <= log[name] <= ran[name] for name in ("a", "b", "c", "late")), (won, log, ran)
        assert is_one_chain(graph)
        assert saver.verify().is_intact


OVERTAKEN = [
    ("parallel", "node.done"),
    ("loop", "effect.commit.after"),
    ("subgraph", "effect.savewrites.before"),
    ("subgraph", "effect.load.after"),
]


@pytest.mark.parametrize(
    ("storage", "link", "durability", "name", "failpoint"),
    [
        *(("NORMAL", "", durability, *case) for durability in ("sync", "async", "exit") for case in OVERTAKEN),
        *(("postgres", "pool", "sync", *case) for case in OVERTAKEN),
        ("postgres", "pool", "async", *OVERTAKEN[2]),
        ("postgres", "connection", "exit", *OVERTAKEN[1]),
        ("postgres", "async connection", "async", *OVERTAKEN[0]),
        ("postgres", "async pool", "sync", *OVERTAKEN[2]),
    ],
)
def test_a_process_that_was_overtaken_stops_and_changes_nothing(
    harness: Harness, tmp_path: Path, storage: str, link: str, name: str, failpoint: str, durability: str
) -> None:
    setting = Setting(storage, durability, is_async=link in LOOP_LINKS, link=link)
    place = harness.place(setting)
    door = tmp_path / "door"
    harness.start(**place, **told(story(name), setting), failpoints=f"{failpoint}=barrier({door})@2")
    wait_for(door)
    with open_saver({**place, "link": "pool"}) as saver:
        graph = story(name).build(Notes(), False).compile(checkpointer=saver)
        graph.invoke(None, CONFIG)
        if name == "subgraph":
            graph.invoke(Command(resume="ok"), CONFIG)
        assert graph.get_state(CONFIG).values == story(name).final
        picture = shown_history(story(name), saver)
        shown = Ledger(place["ledger"]).lines("seen")

        Path(f"{door}.go").touch()

        assert harness.wait() == 1
        assert "ThreadConflictError: another run has taken thread 'thread'" in error_of(place)
        assert shown_history(story(name), saver) == picture
        assert saver.verify().is_intact
        if durability == "sync" and name == "loop":
            assert Ledger(place["ledger"]).lines("seen") == shown


@pytest.mark.parametrize("link", ["pool", "async connection"])
def test_a_process_that_was_stopped_for_longer_than_a_takeover_wakes_up_fenced(
    harness: Harness, tmp_path: Path, link: str
) -> None:
    setting = Setting("postgres", "sync", is_async=link in LOOP_LINKS, link=link)
    place = harness.place(setting)
    ledger = Ledger(place["ledger"])
    door = tmp_path / "door"
    harness.start(**place, **told(story("loop"), setting), failpoints=f"effect.start.before=barrier({door})@3")
    wait_for(door)
    (pid,) = {line["pid"] for line in ledger.lines("begin")}
    os.kill(pid, signal.SIGSTOP)
    Path(f"{door}.go").touch()
    with open_saver({**place, "link": "pool"}) as saver:
        graph = story("loop").build(Notes(), False).compile(checkpointer=saver)
        graph.invoke(None, CONFIG)
        picture, seen = shown_history(story("loop"), saver), ledger.lines("seen")

        os.kill(pid, signal.SIGCONT)

        assert harness.wait() == 1
        assert "ThreadConflictError" in error_of(place)
        assert shown_history(story("loop"), saver) == picture
        assert ledger.lines("seen") == seen
        assert graph.get_state(CONFIG).values == story("loop").final


@pytest.mark.parametrize("moment", ["killed", "resumed"])
def test_a_process_waits_for_a_lock_that_another_one_holds_in_the_middle_of_its_commit(
    harness: Harness, tmp_path: Path, postgres_database: str, moment: str
) -> None:
    setting = Setting("postgres", "sync")
    place = harness.place(setting)
    ledger = Ledger(place["ledger"])
    door = tmp_path / "door"
    harness.start(**place, **told(story("loop"), setting), failpoints=f"commit.uncommitted=barrier({door})@3")
    wait_for(door)
    (pid,) = {line["pid"] for line in ledger.lines("begin")}
    with open_saver(place) as saver, psycopg.connect(postgres_database) as watcher:
        graph = story("loop").build(Notes(), False).compile(checkpointer=saver)
        later = Background(lambda: graph.invoke(None, CONFIG)).start()
        until_blocked(watcher, place["tenant"])
        if moment == "killed":
            os.kill(pid, signal.SIGKILL)
        else:
            Path(f"{door}.go").touch()

        later.join()

        if moment == "killed":
            assert harness.wait() == -signal.SIGKILL
            assert later.error is None
        else:
            assert isinstance(later.error, ThreadConflictError)
            assert harness.wait() == 0, error_of(place)
        assert graph.get_state(CONFIG).values == story("loop").final
        assert is_one_chain(graph)
        assert saver.verify().is_intact


def until_blocked(watcher: psycopg.Connection, tenant: str) -> None:
    """Wait until a client of the case waits for a lock."""
    deadline = time.monotonic() + 60  # a slow disk is not a hang
    waiting = "select 1 from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    while not watcher.execute(waiting, [tenant]).fetchone():
        watcher.rollback()
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.002)
