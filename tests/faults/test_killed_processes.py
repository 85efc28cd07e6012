"""SIGKILL of a real process at named failpoints, on SQLite: what the next process finds, and how the story ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.harness import Harness, Setting, story
from tests.faults.stories import STORIES

# Crash points by what must survive there. Names are failpoints; `effect.*` surround what the engine asks of a driver.
CRASHES = {
    "before the input is claimed": ("parallel", "effect.load.after commit.before commit.uncommitted"),
    "inside a node, its side effect done": ("parallel", "node.done"),
    "node done, its writes not sent": ("fan_out", "effect.wait.after effect.savewrites.before"),
    "writes sent, not acknowledged": ("fan_out", "pending.before pending.statement pending.uncommitted pending.after"),
    "some of several parallel nodes acknowledged": ("children", "effect.savewrites.after pending.after"),
    "checkpoint sent, not acknowledged": ("loop", "commit.before commit.statement commit.uncommitted commit.after"),
    "checkpoint committed, not shown": ("fan_out", "effect.commit.after effect.emit.before effect.emit.after"),
    "question recorded, not shown": ("questions", "pending.after effect.savewrites.after effect.flush.before"),
    "answer accepted, its node not resumed": ("approval", "claim.before claim.uncommitted claim.after"),
    "answers to a subgraph accepted": ("subgraph", "claim.after effect.load.after effect.start.before"),
    "failure recorded, handler not run": ("handler", "pending.after effect.savewrites.after"),
    "all done, not told": ("approval", "effect.flush.before effect.flush.after"),
}  # fmt: skip


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("killed"))
    yield harness
    harness.close()


def sampled(points: list[str], count: int) -> list[str]:
    """At most `count` of the points, spread evenly, the first and the last among them."""
    if len(points) <= count:
        return points
    return [points[round(index * (len(points) - 1) / (count - 1))] for index in range(count)]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@pytest.mark.parametrize("crash", CRASHES)
def test_a_killed_process_loses_nothing_that_was_acknowledged(
    harness: Harness, crash: str, synchronous: str, durability: str
) -> None:
    name, failpoints = CRASHES[crash]
    setting = Setting(synchronous, durability)

    points = sampled(harness.points(story(name), setting, failpoints), 4 if synchronous == "FULL" else 2)
    crashed = [point for point in points if harness.crash(story(name), setting, point)]

    assert crashed or not points
    assert points or durability == "exit"  # some points are not passed when nothing is saved before the end


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("name", ["children", "questions", "subgraph"])
def test_a_killed_process_under_asyncio(harness: Harness, name: str, durability: str) -> None:
    setting = Setting("NORMAL", durability, is_async=True)

    points = harness.points(story(name), setting, "node.done claim.after commit.after pending.after effect.wait.after")

    assert sum(harness.crash(story(name), setting, point) for point in sampled(points, 4)) > 0


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_process_killed_twice(harness: Harness, durability: str) -> None:
    setting = Setting("FULL", durability)
    first = harness.points(story("questions"), setting, "node.done commit.uncommitted")

    for point in sampled(first, 3):
        harness.crash(story("questions"), setting, point, then="effect.start.after=kill@1")


@pytest.mark.parametrize("failpoint", ["before", "statement", "uncommitted", "after"])
def test_a_process_killed_while_it_prunes_leaves_every_kept_checkpoint_readable(
    harness: Harness, failpoint: str
) -> None:
    setting = Setting("FULL", "sync")
    kept = harness.killed_in_prune(story("loop"), setting, f"prune.{failpoint}=kill")

    assert kept == (2 if failpoint == "after" else 6)


@pytest.mark.parametrize("failpoint", ["node.done=kill@1", "effect.wait.after=kill@2", "commit.uncommitted=kill@3"])
def test_what_a_node_put_into_a_store_before_a_crash_is_there_once_under_its_key(
    harness: Harness, failpoint: str
) -> None:
    setting = Setting("FULL", "sync", has_store=True)

    assert harness.crash(story("storing"), setting, failpoint)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@pytest.mark.parametrize("name", [story.name for story in STORIES if not story.needs_store])
def test_a_process_killed_at_any_failpoint(
    harness: Harness, name: str, synchronous: str, durability: str, is_async: bool
) -> None:
    setting = Setting(synchronous, durability, is_async)
    passed, _ = harness.uninterrupted(story(name), setting)

    points = harness.points(story(name), setting, " ".join(passed))
    crashed = [point for point in points if harness.crash(story(name), setting, point)]

    assert len(crashed) > 0.8 * len(points)  # how often a point is passed depends on how finished tasks are batched
