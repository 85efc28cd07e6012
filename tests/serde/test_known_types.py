"""Which classes the annotations of a graph make known."""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar, Union

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from clew.serde import known_types


class Kind(enum.Enum):
    A = 1


class Level(enum.Enum):
    LOW = 1


@dataclass
class Leaf:
    kind: Kind


@dataclass
class Base:
    leaf: Leaf


@dataclass
class Child(Base):
    own: int


class Unmentioned(Base):
    pass


class Pair(NamedTuple):
    left: Leaf
    right: int


class Inner(BaseModel):
    pair: Pair


class Outer(BaseModel):
    inner: list[Inner] | None = None
    next: Outer | None = None


class Plain:
    attribute: Level


class Bounded(Plain):
    pass


T = TypeVar("T", bound=Bounded)


U = TypeVar("U")


class Box(BaseModel, Generic[U]):
    item: U


Id = NewType("Id", Plain)


class InnerState(TypedDict, total=False):
    leaf: Leaf


class State(InnerState):
    messages: Annotated[list[Outer], operator.add]
    level: Literal[Level.LOW, "text"]


@pytest.mark.parametrize(
    ("annotation", "known"),
    [
        (int, set()),
        (Any, set()),
        (Kind, {Kind}),
        (list[Leaf], {Leaf, Kind}),
        (dict[str, tuple[Leaf, ...]], {Leaf, Kind}),
        (Union[Kind, None], {Kind}),  # noqa: UP007 - the older spelling
        (Kind | None, {Kind}),
        (Annotated[Leaf, operator.add, "text"], {Leaf, Kind}),
        (Child, {Child, Leaf, Kind}),
        (Inner, {Inner, Pair, Leaf, Kind}),
        (Outer, {Outer, Inner, Pair, Leaf, Kind}),
        (Plain, {Plain, Level}),
        (Id, {Plain, Level}),
        (T, {Bounded, Level}),
        (Box[Leaf], {Box[Leaf], Leaf, Kind}),
        (Callable[[Kind], Level], {Kind, Level}),
        (type[Kind], {Kind}),
        (Literal[Kind.A], {Kind}),
        (State, {Outer, Inner, Pair, Leaf, Kind, Level}),
        ("unresolvable without a module", set()),
    ],
    ids=range(20),
)
def test_reachable_classes_are_known(annotation: Any, known: set[type]) -> None:
    assert known_types(annotation) == known


def test_several_annotations_are_joined() -> None:
    assert known_types(Kind, list[Plain]) == {Kind, Plain, Level}


def test_subclass_is_not_known_through_its_base() -> None:
    assert Unmentioned not in known_types(Base)
    assert Unmentioned in known_types(Base | Unmentioned)


def test_names_that_cannot_be_resolved_do_not_hide_the_others() -> None:
    class Partial(TypedDict):
        good: Kind
        bad: OnlyForTypeCheckers  # noqa: F821 # pyright: ignore
        also: list[Plain]

    assert known_types(Partial) == {Kind, Plain, Level}


def test_annotation_that_raises_is_passed_over() -> None:
    class Odd:
        __annotations__ = {"a": "1 / 0", "b": "Kind", "c": "Sequence[Plain]"}

    assert Sequence is not None
    assert known_types(Odd) == {Odd, Kind, Plain, Level}


def test_alias_is_followed_and_one_that_raises_is_passed_over() -> None:
    good = TypeAliasType("good", list[Leaf])

    class Bad:
        @property
        def __value__(self) -> object:
            raise NameError("only for type checkers")

    assert known_types(good, Bad(), Kind) == {Leaf, Kind}


def test_recursive_class_ends() -> None:
    class Tree(TypedDict):
        children: list[Tree]
        kind: Kind

    assert known_types(Tree) == {Kind}


def test_message_classes_are_not_walked() -> None:
    from langchain_core.messages import AnyMessage

    assert known_types(list[AnyMessage]) == frozenset()
