"""Each channel's rule for the writes of a superstep, and the messages of those that refuse some."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from clew._missing import MISSING
from clew.channels import (
    AnyValue,
    BaseChannel,
    BinaryOperatorAggregate,
    DeltaChannel,
    EphemeralValue,
    LastValue,
    LastValueAfterFinish,
    NamedBarrierValue,
    NamedBarrierValueAfterFinish,
    Topic,
    UntrackedValue,
)
from clew.errors import EmptyChannelError, ErrorCode, InvalidUpdateError


def named(channel: Any, key: str) -> Any:
    channel.key = key
    return channel


def batch_add(state: list[int], writes: list[list[int]]) -> list[int]:
    for write in writes:
        state.extend(write)
    return state


ALL = [
    LastValue(int),
    LastValueAfterFinish(int),
    AnyValue(int),
    EphemeralValue(int),
    UntrackedValue(int),
    BinaryOperatorAggregate(int, operator.add),
    DeltaChannel(batch_add, list),
    NamedBarrierValue(str, {"a", "b"}),
    NamedBarrierValueAfterFinish(str, {"a", "b"}),
    Topic(int),
    Topic(int, accumulate=True),
]


def test_last_value_keeps_the_value_until_it_is_written_again() -> None:
    channel = LastValue(str, "answer")

    assert channel.update(["yes"])
    assert not channel.update([])
    assert channel.get() == "yes"


@pytest.mark.parametrize(
    ("typ", "suggested"),
    [
        (str, "list[str]"),
        (list, "list"),
        (list[int], "list[int]"),
        (dict[str, int], "list"),
        (str | None, "list"),
    ],
)
def test_two_writes_to_plain_state_are_refused_with_a_remedy(typ: Any, suggested: str) -> None:
    channel = LastValue(typ, "answer")
    channel.update(["before"])

    with pytest.raises(InvalidUpdateError) as caught:
        channel.update(["a", "b"])

    assert str(caught.value) == "channel 'answer' received 2 writes in one superstep"
    assert caught.value.hint == f"give it a reducer: answer: Annotated[{suggested}, operator.add]"
    assert caught.value.code is ErrorCode.INVALID_CONCURRENT_GRAPH_UPDATE
    assert channel.get() == "before"


def test_none_and_falsy_values_are_values() -> None:
    for value in (None, 0, "", [], False):
        channel = LastValue(object)
        channel.update([value])

        assert channel.is_available()
        assert channel.get() is value


def test_empty_channel_says_which_one_it_is() -> None:
    with pytest.raises(EmptyChannelError, match="channel 'answer' is empty"):
        LastValue(str, "answer").get()


def test_value_after_finish_is_hidden_until_the_run_would_end() -> None:
    channel = LastValueAfterFinish(str, "later")
    assert channel.update(["a", "b"])

    assert not channel.is_available()
    assert not channel.consume()
    assert channel.finish()
    assert not channel.finish()
    assert channel.get() == "b"
    assert channel.consume()
    assert channel.checkpoint() is MISSING


def test_value_after_finish_is_hidden_again_by_a_new_write() -> None:
    channel = LastValueAfterFinish(str)
    channel.update(["a"])
    channel.finish()

    channel.update(["b"])

    assert not channel.is_available()
    assert channel.checkpoint() == ("b", False)


def test_any_value_takes_the_last_and_forgets_without_writes() -> None:
    channel = AnyValue(int)

    assert channel.update([1, 2])
    assert channel.get() == 2
    assert channel.update([])
    assert not channel.is_available()
    assert not channel.update([])


def test_ephemeral_value_lives_for_one_superstep() -> None:
    channel = EphemeralValue(int)

    assert channel.update([1])
    assert channel.update([])
    assert not channel.is_available()
    assert not channel.update([])


@pytest.mark.parametrize("kind", [EphemeralValue, UntrackedValue])
def test_guarded_channel_takes_one_write_and_an_unguarded_one_the_last(kind: Any) -> None:
    guarded, unguarded = named(kind(int), "start"), kind(int, guard=False)

    with pytest.raises(InvalidUpdateError) as caught:
        guarded.update([1, 2])
    unguarded.update([1, 2])

    assert str(caught.value) == "channel 'start' received 2 writes in one superstep"
    assert caught.value.hint == f"keep any one of several with {kind.__name__}(guard=False)"
    assert unguarded.get() == 2


def test_untracked_value_is_never_stored_nor_restored() -> None:
    channel = UntrackedValue(int)
    channel.update([1])

    assert channel.get() == 1
    assert channel.checkpoint() is MISSING
    assert not channel.from_checkpoint(5).is_available()
    assert channel.copy().get() == 1


def test_topic_holds_one_superstep_and_flattens_lists() -> None:
    topic = Topic(int)

    assert topic.update([1, [2, 3]])
    assert topic.get() == [1, 2, 3]
    assert topic.update([])
    assert not topic.is_available()
    assert not topic.update([])


def test_accumulating_topic_keeps_earlier_values() -> None:
    topic = Topic(int, accumulate=True)
    topic.update([1])

    assert not topic.update([])
    assert topic.update([[2], 3])
    assert topic.get() == [1, 2, 3]


def test_changing_what_a_topic_gave_does_not_change_the_topic() -> None:
    topic = Topic(int)
    topic.update([1])

    list_given = topic.get()
    assert isinstance(list_given, list)
    list_given.append(2)

    assert topic.get() == [1]


def test_barrier_opens_when_all_names_were_written_and_closes_when_consumed() -> None:
    barrier = NamedBarrierValue(str, {"a", "b"})

    assert barrier.update(["a"])
    assert not barrier.update(["a"])
    assert not barrier.is_available()
    assert not barrier.consume()
    assert barrier.update(["b"])
    assert barrier.is_available()
    assert barrier.get() is None
    assert barrier.consume()
    assert not barrier.is_available()
    assert barrier.checkpoint() is MISSING


def test_closed_barrier_says_what_it_waits_for() -> None:
    barrier = named(NamedBarrierValue(str, {"a", "b", "c"}), "join:a+b+c:d")
    barrier.update(["b"])

    with pytest.raises(EmptyChannelError, match=r"channel 'join:a\+b\+c:d' still waits for 'a', 'c'"):
        barrier.get()


def test_barrier_after_finish_opens_only_at_the_end() -> None:
    barrier = NamedBarrierValueAfterFinish(str, {"a", "b"})
    barrier.update(["a"])
    assert not barrier.finish()
    barrier.update(["b"])

    assert not barrier.is_available()
    assert not barrier.consume()
    assert barrier.finish()
    assert not barrier.finish()
    assert barrier.is_available()
    assert barrier.consume()
    assert barrier.checkpoint() is MISSING


@pytest.mark.parametrize("kind", [NamedBarrierValue, NamedBarrierValueAfterFinish])
def test_barrier_refuses_an_unexpected_name_and_stays_as_it_was(kind: Any) -> None:
    barrier = named(kind(str, {"a", "b"}), "join:a+b:c")

    with pytest.raises(InvalidUpdateError) as caught:
        barrier.update(["a", "x"])

    assert str(caught.value) == "channel 'join:a+b:c' waits for 'a', 'b' and received 'x'"
    assert barrier.seen == set()


def test_delta_channel_gives_the_reducer_the_whole_batch() -> None:
    batches: list[Any] = []

    def reducer(state: list[int], writes: list[int]) -> list[int]:
        batches.append(writes)
        return [*state, *writes]

    channel = DeltaChannel(reducer, list[int]).from_checkpoint(MISSING)
    channel.update([1, 2])
    channel.update([3])

    assert batches == [[1, 2], [3]]
    assert channel.checkpoint() == [1, 2, 3]


def test_delta_channel_overwrite_replaces_and_none_means_empty() -> None:
    channel = DeltaChannel(batch_add, list).from_checkpoint([1])

    channel.update([[2], {"__overwrite__": [9]}, [3]])
    assert channel.get() == [9]
    channel.update([{"__overwrite__": None}])
    assert channel.get() == []


def test_delta_channel_refuses_an_impossible_frequency() -> None:
    with pytest.raises(ValueError, match="snapshot_frequency must be a positive int, not 0"):
        DeltaChannel(batch_add, list, snapshot_frequency=0)


@pytest.mark.parametrize("spec", ALL, ids=[f"{number}-{type(spec).__name__}" for number, spec in enumerate(ALL)])
def test_copy_changes_apart_from_the_original(spec: Any) -> None:
    writes = {"NamedBarrierValue": ["a"], "NamedBarrierValueAfterFinish": ["a"], "DeltaChannel": [[1]]}
    more = {"NamedBarrierValue": ["b"], "NamedBarrierValueAfterFinish": ["b"], "DeltaChannel": [[2]]}
    name = type(spec).__name__
    original = spec.from_checkpoint(MISSING)
    original.key = "k"
    original.update(writes.get(name, [1]))
    before = repr(original.checkpoint())

    twin = original.copy()
    assert type(twin) is type(original)
    assert repr(twin.checkpoint()) == before
    twin.update(more.get(name, [2]))
    twin.finish()
    twin.consume()

    assert repr(original.checkpoint()) == before
    assert twin.key == "k"
    assert twin == original


@pytest.mark.parametrize("spec", ALL, ids=[f"{number}-{type(spec).__name__}" for number, spec in enumerate(ALL)])
def test_checkpoint_restores_the_channel(spec: Any) -> None:
    writes = {"NamedBarrierValue": ["a"], "NamedBarrierValueAfterFinish": ["a"], "DeltaChannel": [[1]]}
    channel = spec.from_checkpoint(MISSING)
    channel.update(writes.get(type(spec).__name__, [1]))

    restored = spec.from_checkpoint(channel.checkpoint())

    assert restored.checkpoint() == channel.checkpoint()
    assert restored.is_available() == (channel.is_available() and not isinstance(spec, UntrackedValue))


def test_channels_of_the_same_declaration_are_equal() -> None:
    assert LastValue(int) == LastValue(str)
    assert LastValue(int) != AnyValue(int)
    assert EphemeralValue(int) != EphemeralValue(int, guard=False)
    assert Topic(int) != Topic(int, accumulate=True)
    assert NamedBarrierValue(str, {"a"}) != NamedBarrierValue(str, {"b"})
    assert DeltaChannel(batch_add) == DeltaChannel(batch_add)
    assert DeltaChannel(batch_add) != DeltaChannel(batch_add, snapshot_frequency=3)


def test_types_of_values_and_writes_are_told() -> None:
    assert LastValue(int).ValueType is int
    assert LastValue(int).UpdateType is int
    assert Topic(int).UpdateType == int | list[int]
    assert issubclass(Topic, BaseChannel)
