"""State with a reducer: each write is folded into the value.

Invariant: the value is never changed in place, even by a reducer that would (`operator.iadd`, `operator.ior`), so a
copy of the channel may share it.
"""

from __future__ import annotations

import copy as _copy
import operator as _operator
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Self, cast

from clew._missing import MISSING, Missing
from clew._overwrite import MAYBE_OVERWRITE, overwrite_of
from clew.channels._concurrent import several_overwrites
from clew.channels._initial import initial_value
from clew.channels._single import SingleValueChannel
from clew.channels.base import Value

__all__ = ("BinaryOperatorAggregate", "same_reducer")

_IN_PLACE_NAMES = (
    *("iadd", "iand", "iconcat", "ifloordiv", "ilshift", "imatmul", "imod"),
    *("imul", "ior", "ipow", "irshift", "isub", "itruediv", "ixor"),
)
_IN_PLACE: tuple[Any, ...] = tuple(getattr(_operator, name) for name in _IN_PLACE_NAMES)
_new = object.__new__


class BinaryOperatorAggregate(SingleValueChannel[Value]):
    """Holds the fold of all writes with `operator(value, write)`, starting at `typ()` where that can be made.

    An `Overwrite` (in any of its forms) replaces the value; the other writes of that superstep are then dropped, and
    a second one raises `InvalidUpdateError`.
    """

    __slots__ = ("_fold", "operator")
    reacts_to_empty = False

    operator: Callable[[Value, Value], Value]
    _fold: Callable[[Any, Any], Any]

    def __init__(self, typ: Any, operator: Callable[[Value, Value], Value]) -> None:
        super().__init__(typ)
        self.operator = operator
        self._fold = _on_a_copy(operator) if any(operator is known for known in _IN_PLACE) else operator
        self.value = initial_value(typ)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BinaryOperatorAggregate) and same_reducer(
            self.operator, cast("BinaryOperatorAggregate[Any]", other).operator
        )

    def copy(self) -> Self:
        """A copy that shares the value."""
        twin = _new(type(self))
        twin.typ = self.typ
        twin.key = self.key
        twin.value = self.value
        twin.operator = self.operator
        twin._fold = self._fold
        return twin

    def from_checkpoint(self, checkpoint: Value | Missing) -> Self:
        """A channel that holds the stored value, or a fresh initial one."""
        twin = self.copy()
        twin.value = initial_value(self.typ) if checkpoint is MISSING else checkpoint
        return twin

    def update(self, values: Sequence[Value]) -> bool:
        """Fold the writes into the value, in order."""
        if len(values) == 1 and self.value is not MISSING and not isinstance(values[0], MAYBE_OVERWRITE):
            self.value = self._fold(self.value, values[0])
            return True
        if not values:
            return False
        self.value = self._folded(values)
        return True

    def _folded(self, values: Sequence[Any]) -> Any:
        overwrites = [new for found, new in map(overwrite_of, values) if found]
        if len(overwrites) > 1:
            raise several_overwrites(self)
        if overwrites:
            return overwrites[0]
        if self.value is MISSING:
            return self._reduced(values[0], values[1:])
        return self._reduced(self.value, values)

    def _reduced(self, total: Any, values: Sequence[Any]) -> Any:
        if self.operator is _operator.add and all(type(value) is list for value in (total, *values)):
            return list(chain.from_iterable((total, *values)))  # one new list instead of one per write
        for value in values:
            total = self._fold(total, value)
        return total


def same_reducer(left: Callable[..., Any], right: Callable[..., Any]) -> bool:
    """Whether two declarations of one channel mean the same reducer.

    Two lambdas cannot be compared, so a lambda is taken to equal anything.
    """
    names = (getattr(left, "__name__", ""), getattr(right, "__name__", ""))
    return left is right or "<lambda>" in names


def _on_a_copy(operator: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`operator` made safe for a shared left side."""
    return lambda left, right: operator(_copy.copy(left), right)
