"""Channels that users write: which hooks the engine calls for them, and how they are copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pytest

import clew.channels as channels
from clew._missing import MISSING
from clew.channels import AnyValue, BaseChannel, LastValue, LastValueAfterFinish, NamedBarrierValue, Topic


class Maximum(BaseChannel[int, int, int]):
    """A channel from scratch: the largest value ever written."""

    def __init__(self, typ: Any) -> None:
        super().__init__(typ)
        self.largest: Any = MISSING

    def get(self) -> int:
        if self.largest is MISSING:
            raise channels.base.EmptyChannelError
        return self.largest

    def from_checkpoint(self, checkpoint: Any) -> Self:
        new = type(self)(self.typ)
        new.key = self.key
        new.largest = checkpoint
        return new

    def update(self, values: Sequence[int]) -> bool:
        known = [] if self.largest is MISSING else [self.largest]
        self.largest = max([*known, *values], default=MISSING)
        return [self.largest] != known


class Counted(LastValue[int]):
    """A built-in channel with one more attribute and its own update."""

    def __init__(self, typ: Any, key: str = "", *, limit: int = 3) -> None:
        super().__init__(typ, key)
        self.limit = limit

    def update(self, values: Sequence[int]) -> bool:
        return super().update([min(value, self.limit) for value in values])


class Slotted(LastValue[int]):
    __slots__ = ("extra",)


class Tagged(LastValue[int]):
    """Adds nothing to the state of a channel."""

    __slots__ = ()


def flags(channel: type[BaseChannel[Any, Any, Any]]) -> tuple[bool, bool, bool]:
    return channel.reacts_to_empty, channel.reacts_to_consume, channel.reacts_to_finish


def test_engine_is_told_which_calls_can_change_a_channel() -> None:
    expected = {
        "AnyValue": (True, False, False),
        "BaseChannel": (True, False, False),
        "BinaryOperatorAggregate": (False, False, False),
        "DeltaChannel": (False, False, False),
        "EphemeralValue": (True, False, False),
        "LastValue": (False, False, False),
        "LastValueAfterFinish": (False, True, True),
        "NamedBarrierValue": (False, True, False),
        "NamedBarrierValueAfterFinish": (False, True, True),
        "Topic": (True, False, False),
        "UntrackedValue": (False, False, False),
    }

    assert {name: flags(getattr(channels, name)) for name in channels.__all__} == expected


def test_user_channel_is_asked_for_what_it_overrides() -> None:
    class Closing(Maximum):
        def finish(self) -> bool:
            return True

    class Declared(LastValue[int]):
        reacts_to_empty = False

        def update(self, values: Sequence[int]) -> bool:
            return super().update(values)

    class Loud:
        def update(self, values: Sequence[int]) -> bool:
            return False

    class Mixed(Loud, LastValue[int]):  # type: ignore[misc]  # the point: a method from outside the channels
        pass

    assert flags(Maximum) == (True, False, False)
    assert flags(Closing) == (True, False, True)
    assert flags(Counted) == (True, False, False)
    assert flags(Tagged) == (False, False, False)
    assert flags(Declared) == (False, False, False)
    assert flags(Mixed) == (True, False, False)


def test_channel_from_scratch_has_a_copy_and_a_checkpoint() -> None:
    channel = Maximum(int)
    assert channel.checkpoint() is MISSING
    assert not channel.is_available()
    channel.update([3, 5])

    twin = channel.copy()
    twin.update([9])

    assert (channel.checkpoint(), twin.get()) == (5, 9)
    assert channel.is_available()


def test_subclass_of_a_built_in_channel_keeps_its_own_attributes_in_a_copy() -> None:
    channel = Counted(int, "n", limit=7)
    channel.update([10])
    slotted = Slotted(int)
    slotted.extra = "kept"

    twin = channel.copy()
    restored = channel.from_checkpoint(2)

    assert (twin.get(), twin.limit, twin.key) == (7, 7, "n")
    assert (restored.get(), restored.limit) == (2, 7)
    assert slotted.copy().extra == "kept"


def test_subclass_with_its_own_copy_keeps_it() -> None:
    class Own(LastValue[int]):
        def copy(self) -> Self:
            twin = super().copy()
            twin.mark = "own"
            return twin

    class Below(Own):
        pass

    assert Own(int).copy().mark == "own"
    assert Below(int).copy().mark == "own"


@pytest.mark.parametrize("kind", [LastValue, AnyValue, LastValueAfterFinish])
def test_channel_can_be_made_with_type_arguments(kind: Any) -> None:
    assert isinstance(kind[int](int), kind)


def test_subclass_of_topic_and_barrier_with_attributes_copies_apart() -> None:
    class Noted(Topic[int]):
        note = ""

    class Door(NamedBarrierValue[str]):
        note = ""

    topic, door = Noted(int, accumulate=True), Door(str, {"a"})
    topic.note = door.note = "here"
    topic.copy().update([1])
    door.copy().update(["a"])

    assert (topic.copy().note, door.copy().note) == ("here", "here")
    assert not topic.is_available()
    assert not door.is_available()
