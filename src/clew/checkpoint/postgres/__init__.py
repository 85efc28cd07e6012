"""Checkpoints in PostgreSQL."""

from clew.checkpoint.postgres._saver import PostgresSaver

__all__ = ("PostgresSaver",)
