"""A saver in a SQLite file: the embedded default."""

from clew.checkpoint.sqlite._saver import SqliteSaver

__all__ = ("SqliteSaver",)
