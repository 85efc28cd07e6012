"""Random histories of writes give what LangGraph's channels give, but for differences that are on purpose."""

from __future__ import annotations

import operator
from typing import Any

import langgraph.channels as theirs
from hypothesis import given
from hypothesis import strategies as st
from langgraph.errors import EmptyChannelError as TheirEmpty
from langgraph.errors import InvalidUpdateError as TheirInvalid

import clew.channels as ours
from clew.errors import EmptyChannelError, InvalidUpdateError

NUMBERS = st.integers(0, 3)
LISTS = st.lists(NUMBERS, max_size=2)
OVERWRITES = st.builds(lambda value: {"__overwrite__": value}, LISTS)


def reducer(state: list[int], writes: list[list[int]]) -> list[int]:
    return [*state, *(number for write in writes for number in write)]


KINDS: dict[str, tuple[Any, Any]] = {
    "last": (lambda module: module.LastValue(int), NUMBERS),
    "last after finish": (lambda module: module.LastValueAfterFinish(int), NUMBERS),
    "any": (lambda module: module.AnyValue(int), NUMBERS),
    "ephemeral": (lambda module: module.EphemeralValue(int), NUMBERS),
    "ephemeral, no guard": (lambda module: module.EphemeralValue(int, guard=False), NUMBERS),
    "untracked": (lambda module: module.UntrackedValue(int), NUMBERS),
    "untracked, no guard": (lambda module: module.UntrackedValue(int, guard=False), NUMBERS),
    "sum": (lambda module: module.BinaryOperatorAggregate(int, operator.add), NUMBERS),
    "log": (lambda module: module.BinaryOperatorAggregate(list, operator.add), LISTS | OVERWRITES),
    "delta": (lambda module: module.DeltaChannel(reducer, list).from_checkpoint([]), LISTS | OVERWRITES),
    "barrier": (lambda module: module.NamedBarrierValue(int, {0, 1, 2}), NUMBERS),
    "barrier after finish": (lambda module: module.NamedBarrierValueAfterFinish(int, {0, 1}), NUMBERS),
    "topic": (lambda module: module.Topic(int), NUMBERS | LISTS),
    "accumulating topic": (lambda module: module.Topic(int, accumulate=True), NUMBERS | LISTS),
}
CALLS = st.sampled_from(["update", "update", "update", "consume", "finish", "copy"])


def told(channel: Any, call: str, writes: list[Any]) -> Any:
    """What one call said, and what can be seen of the channel after it."""
    try:
        said = channel.update(writes) if call == "update" else getattr(channel, call)()
    except (InvalidUpdateError, TheirInvalid):
        return "refused"
    try:
        value = channel.get()
    except (EmptyChannelError, TheirEmpty):
        value = "empty"
    return said, value, channel.is_available()


@given(data=st.data())
def test_every_channel_tells_the_same_story(data: st.DataObject) -> None:
    make, writes = KINDS[data.draw(st.sampled_from(sorted(KINDS)), label="channel")]
    mine, other = make(ours), make(theirs)

    for call in data.draw(st.lists(CALLS, max_size=8), label="calls"):
        if call == "copy":
            mine, other = mine.copy(), other.copy()
            continue
        batch = data.draw(st.lists(writes, max_size=3), label="writes")
        story = told(mine, call, batch)

        assert story == told(other, call, batch)
        if story == "refused":
            return  # theirs may be half changed, ours is as it was
