"""The fixtures of this room's tests: both drivers, and savers whose tables no other test uses."""

from tests.both import drive, own_saver

__all__ = ["drive", "own_saver"]
