"""SIGKILL of a real process at named failpoints: what the next process finds, and how the story ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.harness import Harness, Setting, story
from tests.faults.places import LOOP_LINKS
from tests.faults.stories import STORIES


def _moments(kind: str) -> str:
    return " ".join(f"{kind}.{moment}" for moment in ("before", "statement", "sent", "uncommitted", "after"))


# Crash points by what must survive there. Names are failpoints; `effect.*` surround what the engine asks of a driver.
CRASHES = {
    "before the input is claimed": ("parallel", "effect.load.after commit.before commit.uncommitted"),
    "inside a node, its side effect done": ("parallel", "node.done"),
    "node done, its writes not sent": ("fan_out", "effect.wait.after effect.savewrites.before"),
    "writes sent, not acknowledged": ("fan_out", _moments("pending")),
    "some of several parallel nodes acknowledged": ("children", "effect.savewrites.after pending.after"),
    "checkpoint sent, not acknowledged": ("loop", _moments("commit")),
    "checkpoint committed, not shown": ("fan_out", "effect.commit.after effect.emit.before effect.emit.after"),
    "question recorded, not shown": ("questions", "pending.after effect.savewrites.after effect.flush.before"),
    "answer accepted, its node not resumed": ("approval", _moments("claim")),
    "answers to a subgraph accepted": ("subgraph", "claim.after effect.load.after effect.start.before"),
    "failure recorded, handler not run": ("handler", "pending.after effect.savewrites.after"),
    "all done, not told": ("approval", "effect.flush.before effect.flush.after"),
}  # fmt: skip
SAMPLES = {  # crashes of each kind; all of them are in the long test
    **{("FULL", durability): 4 for durability in ("sync", "async", "exit")},
    **{("NORMAL", durability): 2 for durability in ("sync", "async", "exit")},
    ("postgres", "sync"): 2,
    ("postgres", "async"): 1,
    ("postgres", "exit"): 1,
    ("postgres fast", "sync"): 1,
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory, postgres_database: str) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("killed"), postgres_database)
    yield harness
    harness.close()


def sampled(points: list[str], count: int) -> list[str]:
    """At most `count` of the points, spread evenly, the first and the last among them."""
    if len(points) <= count:
        return points
    if count == 1:
        return [points[len(points) // 2]]
    return [points[round(index * (len(points) - 1) / (count - 1))] for index in range(count)]


@pytest.mark.parametrize(("storage", "durability"), SAMPLES)
@pytest.mark.parametrize("crash", CRASHES)
def test_a_killed_process_loses_nothing_that_was_acknowledged(
    harness: Harness, crash: str, storage: str, durability: str
) -> None:
    name, failpoints = CRASHES[crash]
    setting = Setting(storage, durability)

    every = harness.points(story(name), setting, failpoints)
    points = sampled(every, SAMPLES[storage, durability])
    crashed = [point for point in points if harness.crash(story(name), setting, point)]

    assert crashed or not points or harness.crash(story(name), setting, every[0])  # later ones may not be passed
    assert points or durability == "exit"  # some points are not passed when nothing is saved before the end


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    ("storage", "link", "name"),
    [
        *(("NORMAL", "", name) for name in ("children", "questions", "subgraph")),
        ("postgres", "pool", "children"),
        ("postgres", "pool", "scopes"),
        ("postgres", "async connection", "subgraph"),
        ("postgres", "async pool", "questions"),
    ],
)
def test_a_killed_process_under_asyncio(harness: Harness, storage: str, link: str, name: str, durability: str) -> None:
    setting = Setting(storage, durability, is_async=True, link=link)
    names = "node.done claim.after commit.after commit.sent pending.after pending.uncommitted effect.wait.after"

    points = harness.points(story(name), setting, names)

    sample = sampled(points, 4 if storage == "NORMAL" else 2)
    assert sum(harness.crash(story(name), setting, point) for point in sample) > 0


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("storage", ["NORMAL", "postgres"])
def test_a_process_killed_inside_subgraphs_of_every_scope(harness: Harness, storage: str, durability: str) -> None:
    setting = Setting(storage, durability)

    points = harness.points(story("scopes"), setting, "node.done pending.after claim.after commit.uncommitted")

    assert sum(harness.crash(story("scopes"), setting, point) for point in sampled(points, 5)) > 0


@pytest.mark.parametrize("link", ["connection", "given pool"])
def test_a_killed_process_on_connections_that_were_given(harness: Harness, link: str) -> None:
    setting = Setting("postgres", "sync", link=link)

    points = harness.points(story("questions"), setting, "claim.sent commit.uncommitted pending.sent node.done")

    assert sum(harness.crash(story("questions"), setting, point) for point in sampled(points, 3)) > 0


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("storage", ["FULL", "postgres"])
def test_a_process_killed_twice(harness: Harness, storage: str, durability: str) -> None:
    setting = Setting(storage, durability)
    first = harness.points(story("questions"), setting, "node.done commit.uncommitted")

    for point in sampled(first, 3 if storage == "FULL" else 1):
        harness.crash(story("questions"), setting, point, then="effect.start.after=kill@1")


@pytest.mark.parametrize("failpoint", ["before", "statement", "uncommitted", "after"])
@pytest.mark.parametrize("storage", ["FULL", "postgres"])
def test_a_process_killed_while_it_prunes_leaves_every_kept_checkpoint_readable(
    harness: Harness, storage: str, failpoint: str
) -> None:
    setting = Setting(storage, "sync")
    kept = harness.killed_in_prune(story("loop"), setting, f"prune.{failpoint}=kill")

    assert kept == (2 if failpoint == "after" else 6)


@pytest.mark.parametrize("failpoint", ["node.done=kill@1", "effect.wait.after=kill@2", "commit.uncommitted=kill@3"])
@pytest.mark.parametrize("storage", ["FULL", "postgres"])
def test_what_a_node_put_into_a_store_before_a_crash_is_there_once_under_its_key(
    harness: Harness, storage: str, failpoint: str
) -> None:
    setting = Setting(storage, "sync", has_store=True)

    assert harness.crash(story("storing"), setting, failpoint)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync driver", "asyncio"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    ("storage", "link"),
    [("FULL", ""), ("NORMAL", ""), ("postgres", "pool"), ("postgres fast", "pool"), ("postgres", "async connection")],
)
@pytest.mark.parametrize("name", [story.name for story in STORIES if not story.needs_store])
def test_a_process_killed_at_any_failpoint(
    harness: Harness, name: str, storage: str, link: str, durability: str, is_async: bool
) -> None:
    setting = Setting(storage, durability, is_async or link in LOOP_LINKS, link=link)
    passed, _ = harness.uninterrupted(story(name), setting)

    points = harness.points(story(name), setting, " ".join(passed))
    crashed = [point for point in points if harness.crash(story(name), setting, point)]

    assert len(crashed) > 0.8 * len(points)  # how often a point is passed depends on how finished tasks are batched
