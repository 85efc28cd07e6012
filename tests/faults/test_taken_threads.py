"""A run that stands still while a later one takes its thread over: it wakes up, and does nothing more to the thread."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ThreadConflictError
from tests.faults.checker import stored
from tests.faults.parking import park, settle
from tests.faults.stories import BY_NAME, Notes, Story

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
FIRST = 2  # the first effect is the load: a run that has loaded nothing is simply a later run

_numbers = itertools.count(1)


class Teller:
    """Tells a story in process; `shown` is what its stream gave."""

    def __init__(self, story: Story, saver: Any, durability: str, is_async: bool) -> None:
        self.story = story
        self.saver = saver
        self.durability = durability
        self.is_async = is_async
        self.notes = Notes()
        self.graph = story.build(self.notes, is_async).compile(checkpointer=saver)
        self.shown: list[dict[str, Any]] = []

    def begin(self) -> None:
        """The story's first action."""
        self.run(self.story.actions[0].given(()))

    def take_over(self) -> None:
        """Go on from where the thread stands, or begin; then to the end."""
        try:
            self.go_on()
        except ThreadConflictError:  # what the older run had queued has come in between; nothing else can
            self.go_on()
        for action in self.story.actions[1:]:
            self.run(action.given(self.graph.get_state(CONFIG).interrupts))

    def go_on(self) -> None:
        state = self.graph.get_state(CONFIG)
        self.run(None if state.config["configurable"].get("checkpoint_id") else self.story.actions[0].given(()))

    def run(self, given: Any) -> None:
        if self.is_async:
            asyncio.run(self.arun(given))
            return
        for chunk in self.graph.stream(given, CONFIG, stream_mode="tasks", durability=self.durability):
            self.shown.append(chunk)

    async def arun(self, given: Any) -> None:
        async for chunk in self.graph.astream(given, CONFIG, stream_mode="tasks", durability=self.durability):
            self.shown.append(chunk)

    def picture(self) -> list[Any]:
        """The whole thread as a user sees it."""
        return [
            (one.config, one.parent_config, one.values, one.next, one.tasks, one.interrupts)
            for one in self.graph.get_state_history(CONFIG)
        ]


def taken_over_at(number: int, story: Story, savers: tuple[Any, Any], durability: str, is_async: bool) -> bool:
    """Park a run at its `number`-th effect, let another one take over and finish, wake the first; False if no such."""
    older = Teller(story, savers[0], durability, is_async)
    later = Teller(story, savers[1], durability, is_async)
    parking, run = park(older.begin, number)
    if not parking.at:
        assert run.join().error is None
        return False
    settle(savers[0])
    state = later.graph.get_state(CONFIG)
    durable = stored(savers[1]).finished
    shown, ran = len(older.shown), len(older.notes.ran)
    later.take_over()
    picture = later.picture()
    parking.gate.set()
    run.join()
    assert later.picture() == picture, f"the older run changed the thread after {parking.at}"
    assert savers[1].verify("thread").is_intact
    assert picture[0][2] == story.final
    if run.error is None:
        assert not state.next or state.interrupts, f"the older run noticed nothing after {parking.at}"
    else:
        assert isinstance(run.error, ThreadConflictError), run.error
        assert "thread 'thread'" in str(run.error)
    if not state.config["configurable"].get("checkpoint_id"):
        assert isinstance(run.error, ThreadConflictError)
        assert len(older.notes.ran) == ran == 0, "a node ran before its run had claimed the thread"
    if durability == "sync":
        ends = [chunk for chunk in older.shown[shown:] if "result" in chunk]
        news = [chunk["id"] for chunk in ends if not chunk["interrupts"] and not chunk["error"]]
        if story.has_subgraph:  # only the nested run stood still: what ran beside it was saved and shown meanwhile
            durable |= stored(savers[1]).finished
        assert set(news) <= durable, f"the older run showed what it could not save, after {parking.at}"
    return True


def sweep(savers: Callable[[int], tuple[Any, Any]], name: str, durability: str, is_async: bool, stride: int) -> int:
    """Park at every `stride`-th effect."""
    cases = 0
    number = FIRST
    while True:
        pair = savers(number)
        try:
            if not taken_over_at(number, BY_NAME[name], pair, durability, is_async):
                return cases
        finally:
            for saver in pair:
                if isinstance(saver, SqliteSaver):
                    saver.close()
        number += stride
        cases += 1


def memory(number: int) -> tuple[Any, Any]:
    saver = InMemorySaver()
    return saver, saver


@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", ["parallel", "children", "asking_child", "subgraph"])
def test_a_run_that_lost_its_thread_in_memory(name: str, durability: str, is_async: bool) -> None:
    assert sweep(memory, name, durability, is_async, 3) > 8


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", ["loop", "subgraph"])
def test_a_run_that_lost_its_thread_in_a_file(tmp_path: Path, name: str, durability: str) -> None:
    def file(number: int) -> tuple[Any, Any]:
        path = str(tmp_path / f"{number}.db")
        return SqliteSaver(path, synchronous="NORMAL"), SqliteSaver(path, synchronous="NORMAL")

    assert sweep(file, name, durability, False, 5) > 5


@pytest.fixture
def server_savers(postgres_database: str) -> Iterator[Callable[[int], tuple[Any, Any]]]:
    """Two savers on a server, with a tenant for each case."""
    with PostgresSaver(postgres_database) as older, PostgresSaver(postgres_database) as later:

        def pair(number: int) -> tuple[Any, Any]:
            tenant = f"taken-{next(_numbers)}"
            return older.with_tenant(tenant), later.with_tenant(tenant)

        yield pair


@pytest.mark.parametrize(
    ("name", "durability", "is_async"),
    [
        ("loop", "sync", False),
        ("children", "async", False),
        ("subgraph", "exit", False),
        ("parallel", "sync", True),
        ("subgraph", "async", True),
    ],
)
def test_a_run_that_lost_its_thread_on_a_server(
    server_savers: Callable[[int], tuple[Any, Any]], name: str, durability: str, is_async: bool
) -> None:
    assert sweep(server_savers, name, durability, is_async, 7) > 3


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in ("repair", "storing")])
def test_a_run_that_lost_its_thread_on_a_server_at_any_effect(
    server_savers: Callable[[int], tuple[Any, Any]], name: str, durability: str, is_async: bool
) -> None:
    assert sweep(server_savers, name, durability, is_async, 1) > 10


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in ("repair", "storing")])
def test_a_run_that_lost_its_thread_at_any_effect(name: str, durability: str, is_async: bool) -> None:
    assert sweep(memory, name, durability, is_async, 1) > 10
