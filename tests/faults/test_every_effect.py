"""The process dies after every single effect, whoever finishes first, and the thread still ends where it should."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from clew.engine.program import Program
from clew.engine.project import output_of
from clew.engine.request import Request
from clew.engine.run import Outcome
from clew.engine.state import read
from tests.faults.by_hand import Crash, Disk, HandDriver, Player
from tests.faults.stories import BY_NAME, STORIES, Action, Asked, Notes, Story

# A nested graph is run by a driver of its own.
BY_HAND = tuple(story for story in STORIES if not story.has_subgraph and not story.needs_store)
MODES = frozenset({"values", "updates", "tasks"})
Choose = Callable[[int], int]


@dataclass
class Told:
    """A story told on a disk: how it ended, and what happened to each task on the way."""

    disk: Disk
    notes: Notes
    values: Any = None
    statuses: list[str] = field(default_factory=list)
    asked: list[list[str]] = field(default_factory=list)
    effects: int = 0
    has_crashed: bool = False
    crashed_after: str = ""


def tell(story: Story, choose: Choose, durability: str, budget: int | None = None) -> Told:
    """Run a story; with `budget`, the process dies once, after that many effects, and the caller tries again."""
    told = Told(Disk(), Notes())
    graph = story.build(told.notes, True).compile()
    player = Player(choose, budget, durability)
    outcome: Outcome | None = None
    for action in story.actions:
        asked = () if outcome is None else outcome.interrupts
        told.notes.is_repaired = told.notes.is_repaired or action.repairs
        outcome = act(told, graph.program, player, action, asked)
        told.values = read(outcome.state.channels, graph.program.output_channels)
        told.statuses.append(outcome.status)
        told.asked.append(sorted(question.id for question in outcome.interrupts))
    told.effects = player.performed
    return told


def act(told: Told, program: Program, player: Player, action: Action, asked: Asked) -> Outcome:
    given = action.given(asked)
    epoch = told.disk.epoch
    while True:
        driver = HandDriver(program, told.disk, player)
        stored = {id for id, task in told.disk.pending.items() if output_of(task.writes)}
        try:
            outcome = driver.play(request(given, program))
        except Crash:
            told.has_crashed, player.budget = True, None
            told.crashed_after = type(driver.effects[-1]).__name__
            if told.disk.epoch > epoch:  # the caller sees that what it gave was taken
                given = None
            continue
        finally:
            again = [task.name for task in driver.started if task.id in stored]
            assert not again, f"{again} had finished and was stored, and was started again"
            if player.durability == "sync":
                check_shown(driver, told.disk)
        return outcome


def request(given: Any, program: Program) -> Request:
    return Request(
        given, thread_id="t", has_saver=True, modes=MODES, outputs=program.output_channels, limit=25
    )  # fmt: skip


def check_shown(driver: HandDriver, disk: Disk) -> None:
    """Under `sync`, what was shown as finished is on the disk."""
    for mode, data in driver.shown:
        if mode == "tasks" and "result" in data and not data["error"] and not data["interrupts"]:
            assert data["id"] in disk.finished, f"{data['name']} was shown as finished before it was durable"


def finishing_orders(story: Story, count: int) -> Iterator[Choose]:
    """First in first out, last in first out, and others by seed."""
    yield lambda n: 0
    yield lambda n: n - 1
    for seed in range(count - 2):
        source = random.Random(f"{story.name} {seed}")
        yield source.randrange


def exhaustive_orders(length: int) -> Iterator[Choose]:
    for order in itertools.product(range(3), repeat=length):
        turns = itertools.cycle(order)
        yield lambda n, turns=turns: next(turns) % n


def told_well(told: Told, story: Story, *, has_exact_chain: bool, plain: Told) -> None:
    assert told.values == story.final
    assert told.statuses == [action.ends for action in story.actions]
    assert told.disk.rows[-1].values.get("log") == story.final["log"]
    ids = [row.id for row in told.disk.rows]
    assert [row.parent_id for row in told.disk.rows] == [None, *ids[:-1]]
    if has_exact_chain:
        assert told.asked == plain.asked
        for found, expected in zip(told.disk.chain(), plain.disk.chain(), strict=True):
            assert found == expected


def fresh(orders: Callable[[], Iterator[Choose]], index: int) -> Choose:
    """The same order again, from its beginning."""
    return next(itertools.islice(orders(), index, None))


def crash_everywhere(story: Story, durability: str, orders: Callable[[], Iterator[Choose]], stride: int = 1) -> int:
    plain = tell(story, lambda n: 0, durability)
    cases = 0
    for index, _ in enumerate(orders()):
        whole = tell(story, fresh(orders, index), durability)
        told_well(whole, story, has_exact_chain=durability != "exit", plain=plain)
        assert not whole.has_crashed
        for budget in range(1 + index % stride, whole.effects + 1, stride):
            told = tell(story, fresh(orders, index), durability, budget)
            assert told.has_crashed
            told_well(told, story, has_exact_chain=durability != "exit", plain=plain)
            cases += 1
    return cases


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", [story.name for story in BY_HAND])
def test_a_crash_after_any_effect_changes_nothing_about_the_end(name: str, durability: str) -> None:
    story = BY_NAME[name]

    cases = crash_everywhere(story, durability, lambda: finishing_orders(story, 4), stride=2)

    assert cases > 4 * 8


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", ["parallel", "fan_out", "questions", "handler", "repair", "children"])
def test_a_crash_after_any_effect_under_every_order_of_finishing(name: str, durability: str) -> None:
    cases = crash_everywhere(BY_NAME[name], durability, lambda: exhaustive_orders(5))

    assert cases > 243 * 10


@pytest.mark.parametrize("name", [story.name for story in BY_HAND])
def test_every_task_is_noted_once_when_nothing_fails(name: str) -> None:
    told = tell(BY_NAME[name], lambda n: n - 1, "sync")

    keys = [key for key, noted in told.notes.ran if noted != "breaks"]
    assert len(keys) == len(set(keys))
