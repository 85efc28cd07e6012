"""SQL files: named queries of a dialect, and the numbered migrations that make its tables."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of a schema; `statements` run in one transaction."""

    number: int
    name: str
    statements: tuple[str, ...]


@functools.cache
def named_queries(dialect: str) -> dict[str, str]:
    """Every query of the log in one dialect, by name."""
    text = (resources.files("clew.storage") / "sql" / f"{dialect}.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


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
