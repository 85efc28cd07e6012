"""Several callers on one thread at once: nothing is lost, and of those who start from one head exactly one goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ThreadConflictError
from clew.types import Command
from tests.faults.harness import Harness, Setting, error_of, shown_history, story, told
from tests.faults.ledger import Ledger
from tests.faults.parking import Background, failpoints
from tests.faults.places import open_saver
from tests.faults.stories import BY_NAME, Notes

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
CALLERS = 4


class Savers:
    """Four savers on one storage, as callers in one process or in four would have them."""

    def __init__(self, kind: str, folder: Path) -> None:
        path = str(folder / "clew.db")
        match kind:
            case "memory":
                self.all: list[Any] = [InMemorySaver()] * CALLERS
            case "one file saver":
                self.all = [SqliteSaver(path, synchronous="NORMAL")] * CALLERS
            case _:
                self.all = [SqliteSaver(path, synchronous="NORMAL") for _ in range(CALLERS)]

    def close(self) -> None:
        for saver in self.all:
            if isinstance(saver, SqliteSaver):
                saver.close()


@pytest.fixture(params=["memory", "one file saver", "four file savers"])
def savers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Any]]:
    made = Savers(request.param, tmp_path)
    yield made.all
    made.close()


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
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Harness, Harness]]:
    folder = tmp_path_factory.mktemp("races")
    made = Harness(folder), Harness(folder)
    yield made
    for harness in made:
        harness.close()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"nobody arrived at {path.name}"
        time.sleep(0.002)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_of_two_processes_that_loaded_one_head_one_passes(
    pair: tuple[Harness, Harness], tmp_path: Path, durability: str
) -> None:
    setting = Setting("FULL", durability)
    place = {"database": str(tmp_path / "clew.db"), "ledger": str(tmp_path / "ledger")}
    doors = [tmp_path / "first", tmp_path / "second"]
    for harness, door in zip(pair, doors, strict=True):
        harness.start(
            **place, **told(story("parallel"), setting), updates=[door.name], retries=False,
            failpoints=f"effect.load.after=barrier({door})@1",
        )  # fmt: skip
    for door in doors:
        wait_for(door)
    for door in doors:
        Path(f"{door}.go").touch()

    assert [harness.wait() for harness in pair] == [0, 0], error_of(place)

    ledger = Ledger(place["ledger"])
    raced = {line["outcome"]: line for line in ledger.lines("raced")}
    assert sorted(raced) == ["lost", "won"]
    assert {line["pid"] for line in ledger.lines("ran")} == {raced["won"]["pid"]}
    with open_saver(place) as saver:
        graph = story("parallel").build(Notes(), False).compile(checkpointer=saver)
        assert graph.get_state(CONFIG).values["log"][0] == raced["won"]["name"]
        assert raced["lost"]["name"] not in graph.get_state(CONFIG).values["log"]
        assert is_one_chain(graph)
        assert saver.verify().is_intact


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_two_processes_that_keep_writing_to_one_thread_lose_nothing(
    pair: tuple[Harness, Harness], tmp_path: Path, durability: str
) -> None:
    setting = Setting("NORMAL", durability)
    place = {"database": str(tmp_path / "clew.db"), "ledger": str(tmp_path / "ledger")}
    names = [[f"{who}{n}" for n in range(12)] for who in "ab"]
    for harness, own in zip(pair, names, strict=True):
        harness.start(**place, **told(story("parallel"), setting), updates=own, retries=True)

    assert [harness.wait() for harness in pair] == [0, 0], error_of(place)

    with open_saver(place) as saver:
        graph = story("parallel").build(Notes(), False).compile(checkpointer=saver)
        log = Counter(graph.get_state(CONFIG).values["log"])
        assert {name: log[name] for own in names for name in own} == {name: 1 for own in names for name in own}
        assert is_one_chain(graph)
        assert saver.verify().is_intact


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    ("name", "failpoint"),
    [
        ("parallel", "node.done"),
        ("loop", "effect.commit.after"),
        ("subgraph", "effect.savewrites.before"),
        ("subgraph", "effect.load.after"),
    ],
)
def test_a_process_that_was_overtaken_stops_and_changes_nothing(
    pair: tuple[Harness, Harness], tmp_path: Path, name: str, failpoint: str, durability: str
) -> None:
    setting = Setting("NORMAL", durability)
    place = {"database": str(tmp_path / "clew.db"), "ledger": str(tmp_path / "ledger")}
    door = tmp_path / "door"
    pair[0].start(**place, **told(story(name), setting), failpoints=f"{failpoint}=barrier({door})@2")
    wait_for(door)
    with open_saver(place) as saver:
        graph = story(name).build(Notes(), False).compile(checkpointer=saver)
        graph.invoke(None, CONFIG)
        if name == "subgraph":
            graph.invoke(Command(resume="ok"), CONFIG)
        assert graph.get_state(CONFIG).values == story(name).final
        picture = shown_history(story(name), saver)

    Path(f"{door}.go").touch()

    assert pair[0].wait() == 1
    assert "ThreadConflictError: another run has taken thread 'thread'" in error_of(place)
    with open_saver(place) as saver:
        assert shown_history(story(name), saver) == picture
        assert saver.verify().is_intact
