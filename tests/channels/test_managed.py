"""Managed values: how far a run is from its limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

from clew.managed import IsLastStep, RemainingSteps
from clew.managed.base import is_managed_value
from clew.managed.is_last_step import IsLastStepManager, RemainingStepsManager


def test_managed_values_follow_the_run() -> None:
    seen = [
        (IsLastStepManager.get(pad), RemainingStepsManager.get(pad))
        for pad in (SimpleNamespace(step=step, stop=4) for step in (1, 2, 3))
    ]

    assert seen == [(False, 3), (False, 2), (True, 1)]


def test_managed_values_are_recognised_in_annotations() -> None:
    assert get_args(IsLastStep) == (bool, IsLastStepManager)
    assert get_args(RemainingSteps) == (int, RemainingStepsManager)
    assert is_managed_value(IsLastStepManager)
    assert not is_managed_value(bool)
    assert not is_managed_value(IsLastStep)
