"""What the engine asks for, line by line: the same by hand, under the blocking driver and under asyncio.

The transcripts in `transcripts/` are meant to be read. Lines between two commits are sorted, since who finishes first
is chance; waiting is left out. `CLEW_WRITE_TRANSCRIPTS=1` writes them anew, for a diff to be reviewed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.engine import effects as fx
from clew.engine.run import Outcome
from clew.engine.superstep import Steps
from clew.protocols import TaskWrites
from tests.faults.by_hand import Disk, HandDriver, Player
from tests.faults.stories import BY_NAME, Notes, Story
from tests.faults.test_every_effect import request

FOLDER = Path(__file__).with_name("transcripts")
NAMES = ("loop", "parallel", "fan_out", "commands", "approval", "questions", "handler", "retries", "repair", "children")
CONFIG: Any = {"configurable": {"thread_id": "t"}}


def lines(effect: fx.Effect) -> list[str]:
    """An effect as lines to read."""
    match effect:
        case fx.Load():
            return ["load"]
        case fx.Commit(step, claim):
            how = "claim and commit" if claim else "commit"
            names = ", ".join(task.name for task in step.writes) or "nothing"
            return [f"{how} {step.metadata['source']} {step.metadata['step']}: consumes {names}"]
        case fx.Claim(writes):
            return ["claim", *_writes(writes)]
        case fx.SaveWrites(writes, is_barrier):
            return [line + (" (barrier)" if is_barrier else "") for line in _writes(writes)]
        case fx.Start(tasks):
            return [f"  start {task.name} {task.input if task.call is None else task.input[0]!r}" for task in tasks]
        case fx.Resolve(call, value, error):
            return [f"  answer {call.parent.name}'s call {call.index}: {value if error is None else error!r}"]
        case fx.Emit(mode, data):
            return [f"  show {mode}: {_shown(mode, data)}"]
        case fx.Flush():
            return ["flush"]
        case fx.Cancel():
            return ["  cancel"]
        case fx.Wait() | fx.LookUp() | fx.Remember():
            return []


def _writes(writes: Sequence[TaskWrites]) -> list[str]:
    return [f"  save {task.name}: " + ", ".join(f"{to}={_plain(what)}" for to, what in task.writes) for task in writes]


def _shown(mode: str, data: Any) -> str:
    if mode == "interrupts":
        return f"{data[0]} {_plain(data[1])}"
    if mode != "tasks":
        return _plain(data)
    if "result" not in data:
        return f"{data['name']} starts"
    asked = [question["value"] for question in data["interrupts"]]
    return f"{data['name']} ends {asked or data['error'] or data['result']!r}"


def _plain(value: Any) -> str:
    """Without ids, which differ from run to run."""
    match value:
        case list() | tuple() if value and all(hasattr(one, "response_schema") for one in value):
            return f"{[one.value for one in value]}"
        case {"__interrupt__": asked, **rest}:
            return f"{rest} {_plain(asked)}".strip()
        case {"__answers__": answers}:
            return f"answers {sorted(answers.values())}"
        case set() | frozenset():
            return f"{sorted(value)}"
        case _:
            return repr(value)


def transcript(effects: Sequence[fx.Effect]) -> list[str]:
    """All lines, those between two commits in order of their text."""
    result: list[str] = []
    between: list[str] = []
    for effect in effects:
        found = lines(effect)
        if isinstance(effect, fx.Commit | fx.Flush | fx.Claim | fx.Load):
            result += [*sorted(between), *found]
            between = []
        else:
            between += found
    return [*result, *sorted(between)]


def by_hand(story: Story) -> list[str]:
    disk, world, found = Disk(), Notes(), list[str]()
    program = story.build(world, True).compile().program
    outcome: Outcome | None = None
    for action in story.actions:
        world.is_repaired = world.is_repaired or action.repairs
        driver = HandDriver(program, disk, Player(lambda n: 0))
        outcome = driver.play(request(action.given(() if outcome is None else outcome.interrupts), program))
        found += transcript(driver.effects)
    return found


class Recorder:
    """Listens to the engine of every run."""

    def __init__(self) -> None:
        self.effects: list[fx.Effect] = []

    def listen(self, engine: Steps[Any]) -> Steps[Any]:
        reply: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = engine.send(reply) if error is None else engine.throw(error)
            except StopIteration as stop:
                return stop.value
            self.effects.append(effect)
            reply = error = None
            try:
                reply = yield effect
            except GeneratorExit:
                engine.close()
                raise
            except BaseException as raised:
                error = raised


def driven(story: Story, recorder: Recorder, stream: Callable[[Any, Any], None], is_async: bool) -> list[str]:
    world, found = Notes(), list[str]()
    graph = story.build(world, is_async).compile(checkpointer=InMemorySaver())
    for action in story.actions:
        world.is_repaired = world.is_repaired or action.repairs
        asked = graph.get_state(CONFIG).interrupts
        recorder.effects.clear()
        stream(graph, action.given(asked))
        found += transcript(recorder.effects)
    return found


def blocking(graph: Any, given: Any) -> None:
    list(graph.stream(given, CONFIG, stream_mode=["values", "updates", "tasks"], durability="sync"))


def awaiting(graph: Any, given: Any) -> None:
    async def main() -> None:
        async for _ in graph.astream(given, CONFIG, stream_mode=["values", "updates", "tasks"], durability="sync"):
            pass

    asyncio.run(main())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "repair"])  # who is cancelled there is chance
def test_the_engine_asks_for_the_same_under_every_driver(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story, recorder = BY_NAME[name], Recorder()
    monkeypatch.setattr("clew.drivers.sync.watched", recorder.listen)
    monkeypatch.setattr("clew.drivers.aio.watched", recorder.listen)

    expected = by_hand(story)

    assert driven(story, recorder, blocking, False) == expected
    assert driven(story, recorder, awaiting, True) == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_asks_for_what_its_transcript_says(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    found = "\n".join(by_hand(BY_NAME[name])) + "\n"
    if os.environ.get("CLEW_WRITE_TRANSCRIPTS"):
        path.write_text(found)

    assert found == path.read_text()
