"""The fixtures of this room's tests: both drivers, and the savers."""

from tests.both import drive, saver

__all__ = ["drive", "saver"]
