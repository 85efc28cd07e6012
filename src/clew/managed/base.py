"""What a managed value is: a class in a schema's annotation that computes the field from the run's progress."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

__all__ = ("ManagedValue", "ManagedValueMapping", "ManagedValueSpec", "Scratchpad", "is_managed_value")

Value = TypeVar("Value")


class Scratchpad(Protocol):
    """What a managed value may read of a run: the superstep a task is in, and the first one past the limit."""

    @property
    def step(self) -> int: ...

    @property
    def stop(self) -> int: ...


class ManagedValue(ABC, Generic[Value]):
    """A read-only field of the state: declare it with `Annotated[T, SomeManagedValue]`."""

    @staticmethod
    @abstractmethod
    def get(scratchpad: Scratchpad) -> Value:
        """The value for one task."""


ManagedValueSpec = type[ManagedValue[Any]]
ManagedValueMapping = dict[str, ManagedValueSpec]


def is_managed_value(value: Any) -> TypeGuard[ManagedValueSpec]:
    """Whether `value`, found in an annotation, is a managed value's class."""
    return isinstance(value, type) and issubclass(value, ManagedValue)
