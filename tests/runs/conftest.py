"""The fixtures of this room's tests."""

from tests.both import own_saver

__all__ = ["own_saver"]
