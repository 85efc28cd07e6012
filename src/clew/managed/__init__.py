"""Managed values: state fields that the engine computes and no node can write."""

from clew.managed.is_last_step import IsLastStep, RemainingSteps

__all__ = ("IsLastStep", "RemainingSteps")
