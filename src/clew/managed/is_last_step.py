"""How far a run is from its recursion limit."""

from __future__ import annotations

from typing import Annotated

from clew.managed.base import ManagedValue, Scratchpad

__all__ = ("IsLastStep", "IsLastStepManager", "RemainingSteps", "RemainingStepsManager")


class IsLastStepManager(ManagedValue[bool]):
    """Whether the limit allows no superstep after this one."""

    @staticmethod
    def get(scratchpad: Scratchpad) -> bool:
        """True in the last superstep that the limit allows."""
        return scratchpad.step == scratchpad.stop - 1


class RemainingStepsManager(ManagedValue[int]):
    """How many supersteps the limit still allows, this one included."""

    @staticmethod
    def get(scratchpad: Scratchpad) -> int:
        """The supersteps left, at least 1 while a node runs."""
        return scratchpad.stop - scratchpad.step


IsLastStep = Annotated[bool, IsLastStepManager]
"""The type of a field that says whether no superstep may follow this one."""
RemainingSteps = Annotated[int, RemainingStepsManager]
"""The type of a field that says how many supersteps may run, with this one, before the recursion limit."""
