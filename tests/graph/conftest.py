"""The fixtures of this room's tests: both drivers, and the savers."""

from tests.both import drive, own_saver, saver

__all__ = ["drive", "own_saver", "saver"]
