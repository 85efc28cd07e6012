"""Warnings clew gives, as categories that can be filtered."""

from __future__ import annotations

__all__ = ("ClewDeprecationWarning", "MissingThreadIdWarning")


class MissingThreadIdWarning(UserWarning):
    """A graph with a checkpointer ran without a thread id: nothing was saved."""


class ClewDeprecationWarning(DeprecationWarning):
    """A name or argument that is still accepted and will go."""
