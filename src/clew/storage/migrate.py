"""SQL files: named queries of a dialect, and the numbered migrations that make its tables."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from clew.errors import SchemaVersionError

_PRE, _POST = ".pre", ".post"
_NAME = re.compile(r"^-- name: ([\w{}]+)$", re.MULTILINE)
_WORD = re.compile(r"^-- \{(\w+)\} (\w+): (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of a schema; `statements` run in one transaction. One whose name ends in `.pre` only adds, so
    that older versions go on working; one that ends in `.post` takes away what only they use."""

    number: int
    name: str
    statements: tuple[str, ...]

    @property
    def is_post(self) -> bool:
        return self.name.endswith(_POST)


@functools.cache
def named_queries(dialect: str) -> dict[str, str]:
    """Every query in one dialect, by name.

    One whose name has words in braces is a query for each text that the file's head gives to those words.
    """
    folder = resources.files("clew.storage") / "sql"
    files = sorted(file.name for file in folder.iterdir() if file.name.startswith(dialect))
    queries: dict[str, str] = {}
    for file in files:
        head, *parts = _NAME.split((folder / file).read_text("utf-8"))
        words = _WORD.findall(head)
        for name, sql in zip(parts[::2], parts[1::2], strict=True):
            queries |= _worded(name, sql.strip(), words)
    return queries


def _worded(name: str, sql: str, words: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """The queries that one with words in its name stands for."""
    queries = {name: sql}
    for word in re.findall(r"\{(\w+)\}", name):
        queries = {
            each.replace(f"{{{word}}}", choice): _with_text(text, word, meant)
            for each, text in queries.items()
            for known, choice, meant in words
            if known == word
        }
    return queries


def _with_text(sql: str, word: str, meant: str) -> str:
    """A query with what a word means; `{word.where}` and `{word.order}` are the halves of a condition and an order."""
    where, order, by = meant.partition("order by")
    halves = sql.replace(f"{{{word}.where}}", where.strip()).replace(f"{{{word}.order}}", order + by)
    return halves.replace(f"{{{word}}}", meant)


@functools.cache
def migrations(dialect: str) -> tuple[Migration, ...]:
    """The migrations of one dialect, in order."""
    folder = resources.files("clew.storage") / "migrations" / dialect
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(
        Migration(int(name[:4]), name.removesuffix(".sql"), _statements((folder / name).read_text("utf-8")))
        for name in names
    )


def _statements(text: str) -> tuple[str, ...]:
    """The statements of a file; a semicolon at the end of a line ends one."""
    bare = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
    return tuple(statement.strip() for statement in re.split(r";\s*$", bare, flags=re.MULTILINE) if statement.strip())


def check_applied(applied: Iterable[tuple[Any, ...]], known: Sequence[Migration], where: str) -> None:
    """Raise if the database has had a migration, as (number, name), that this version of clew cannot live with."""
    newest = known[-1].number
    for number, name in applied:
        if number > newest and not str(name).endswith(_PRE):
            raise SchemaVersionError(
                f"{where} has schema version {number}, and this clew knows {newest}",
                hint="upgrade clew: pip install --upgrade clew",
            )
