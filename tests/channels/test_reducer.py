"""The reducer channel: where it starts, how it folds, and how an overwrite replaces."""

from __future__ import annotations

import collections.abc
import operator
from collections import deque
from typing import Annotated, Any, NotRequired, Required

import pytest

from clew._missing import MISSING
from clew._overwrite import Overwrite, overwrite_of
from clew.channels import BinaryOperatorAggregate
from clew.errors import InvalidUpdateError


def adder(initial: Any = MISSING) -> BinaryOperatorAggregate[Any]:
    channel = BinaryOperatorAggregate[Any](list, operator.add)
    channel.key = "log"
    return channel.from_checkpoint(initial)


@pytest.mark.parametrize(
    ("typ", "initial"),
    [
        (int, 0),
        (list[int], []),
        (dict[str, int], {}),
        (collections.abc.Sequence[int], []),
        (collections.abc.MutableMapping, {}),
        (collections.abc.Set[str], set()),
        (Annotated[list[int], "note"], []),
        (Required[Annotated[list[int], "note"]], []),
        (NotRequired[set[int]], set()),
        (deque, deque()),
    ],
)
def test_reducer_starts_at_an_empty_value_of_its_type(typ: Any, initial: Any) -> None:
    channel = BinaryOperatorAggregate(typ, operator.add)

    assert channel.get() == initial
    assert type(channel.get()) is type(initial)


def test_type_that_needs_arguments_starts_empty_and_takes_the_first_write() -> None:
    channel = BinaryOperatorAggregate[Any](int | None, operator.add)

    assert not channel.is_available()
    channel.update([1, 2])
    assert channel.get() == 3


def test_each_fresh_channel_has_its_own_initial_value() -> None:
    spec = BinaryOperatorAggregate[Any](list, operator.add)

    first, second = spec.from_checkpoint(MISSING), spec.from_checkpoint(MISSING)

    assert first.get() is not second.get()


def test_writes_are_folded_in_order() -> None:
    channel = adder([0])

    channel.update([[1], [2, 3]])
    channel.update([[4]])

    assert channel.get() == [0, 1, 2, 3, 4]


def test_lists_and_other_sequences_fold_as_the_operator_says() -> None:
    channel = BinaryOperatorAggregate[Any](tuple, operator.add)
    channel.update([(1,), (2,)])
    assert channel.get() == (1, 2)

    mixed = adder([0])
    with pytest.raises(TypeError, match="can only concatenate list"):
        mixed.update([[1], (2,)])


@pytest.mark.parametrize(
    "form",
    [Overwrite([9]), {"__overwrite__": [9]}, {"type": "__overwrite__", "value": [9]}],
    ids=["object", "key", "json"],
)
def test_overwrite_replaces_and_drops_the_other_writes(form: Any) -> None:
    for writes in ([form], [form, [1]], [[1], form], [[1], form, [2]]):
        channel = adder([0])

        assert channel.update(writes)
        assert channel.get() == [9]


def test_overwrite_works_on_a_channel_without_a_value() -> None:
    channel = BinaryOperatorAggregate[Any](int | None, operator.add)

    channel.update([Overwrite(7), 1])

    assert channel.get() == 7


def test_two_overwrites_in_one_superstep_are_refused() -> None:
    channel = adder([0])

    with pytest.raises(InvalidUpdateError) as caught:
        channel.update([Overwrite([1]), {"__overwrite__": [2]}])

    assert str(caught.value) == "channel 'log' received more than one Overwrite in one superstep"
    assert caught.value.hint == "let one node overwrite it, or let the nodes that do run in different supersteps"
    assert channel.get() == [0]


@pytest.mark.parametrize(
    "update",
    [
        {"__overwrite__": 1, "more": 2},
        {"type": "__overwrite__"},
        {"type": "other", "value": 1},
        {},
        "__overwrite__",
        None,
    ],
)
def test_what_only_resembles_an_overwrite_is_a_plain_write(update: Any) -> None:
    assert overwrite_of(update) == (False, None)


def test_dict_writes_reach_the_reducer() -> None:
    channel = BinaryOperatorAggregate[Any](dict, operator.or_)

    channel.update([{"a": 1}])
    channel.update([{"b": 2}, {"a": 3}])

    assert channel.get() == {"a": 3, "b": 2}


@pytest.mark.parametrize(("function", "start", "write"), [(operator.iadd, [1], [2]), (operator.ior, {1}, {2})])
def test_in_place_operator_does_not_change_a_value_shared_with_a_copy(function: Any, start: Any, write: Any) -> None:
    original = BinaryOperatorAggregate[Any](type(start), function).from_checkpoint(start)

    for writes in ([write], [write, write]):
        original.copy().update(writes)

    assert original.get() == type(start)([1])


def test_reducers_are_compared_by_identity_and_lambdas_equal_anything() -> None:
    class Callable:
        def __call__(self, left: int, right: int) -> int:
            return left + right

    assert BinaryOperatorAggregate(int, operator.add) == BinaryOperatorAggregate(int, operator.add)
    assert BinaryOperatorAggregate(int, operator.add) != BinaryOperatorAggregate(int, operator.mul)
    assert BinaryOperatorAggregate(int, lambda a, b: a) == BinaryOperatorAggregate(int, operator.mul)
    assert BinaryOperatorAggregate(int, Callable()) != BinaryOperatorAggregate(int, Callable())
