"""From `--db` to an open saver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clew.checkpoint.sqlite import SqliteSaver
from clew.cli._problem import CommandError


@contextmanager
def open_saver(db: str, *, must_exist: bool = True) -> Iterator[SqliteSaver]:
    """The saver on the database at `db`, a path or `sqlite:///PATH`; raises CommandError if it is not there."""
    path = database_path(db)
    if must_exist and not path.is_file():
        raise CommandError(f"there is no database at {str(path)!r}", hint="say where it is with --db PATH")
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder {str(path.parent)!r} for the database {path.name!r}")
    with SqliteSaver.from_conn_string(str(path)) as saver:
        yield saver


def database_path(db: str) -> Path:
    """The file that `db` means; raises CommandError for a URL of another kind."""
    scheme, separator, _ = db.partition("://")
    if not separator:
        return Path(db)
    if scheme != "sqlite":
        raise CommandError(
            f"no storage serves {scheme!r} URLs", hint="give a path, or sqlite:///PATH (four slashes: from the root)"
        )
    return Path(unquote(urlsplit(db).path.removeprefix("/")))
