"""From `--db` to an open saver, and to the store beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.serde.encrypted import KEYS_VARIABLE, EncryptedSerializer
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.cli._problem import CommandError

if TYPE_CHECKING:
    from clew.store.base import BaseStore, IndexConfig, TTLConfig

VARIABLES = ["CLEW_DATABASE", "DATABASE_URI", "POSTGRES_URI"]  # the first that is set is used where there is no --db

_POSTGRES = ("postgres", "postgresql")


@contextmanager
def open_saver(db: str, *, must_exist: bool = True, classes: tuple[type, ...] = ()) -> Iterator[CheckpointSaver]:
    """The saver on the database at `db`: a path, `sqlite:///PATH` or `postgresql://...`; raises CommandError if
    nothing is there, MissingExtraError if what PostgreSQL needs is not installed, StorageError if the server cannot be
    reached. `classes` are those that values may be of, beside those that are registered."""
    if is_postgres(db):
        with postgres_saver(db, must_exist=must_exist, classes=classes) as saver:
            yield saver
        return
    path = database_path(db)
    if must_exist and not path.is_file():
        raise CommandError(f"there is no database at {str(path)!r}", hint="say where it is with --db PATH")
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder {str(path.parent)!r} for the database {path.name!r}")
    with SqliteSaver.from_conn_string(str(path), serde=serializer(classes)) as saver:
        yield saver


@contextmanager
def open_store(db: str, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None) -> Iterator[BaseStore]:
    """The store in the same database."""
    options: dict[str, Any] = {"index": index, "ttl": ttl, "serde": keys_in_environment()}
    if is_postgres(db):
        from clew.store.postgres import PostgresStore  # late: needs the extra

        opened: Any = PostgresStore.from_conn_string(db, **options)
    else:
        from clew.store.sqlite import SqliteStore  # late: most commands need none

        opened = SqliteStore.from_conn_string(str(database_path(db)), **options)
    with opened as store:
        store.setup()
        yield store


def database_in_environment() -> str | None:
    """The database that a variable of the environment names."""
    return next((found for name in VARIABLES if (found := os.environ.get(name))), None)


def is_postgres(db: str) -> bool:
    """Whether `db` is the URL of a PostgreSQL database."""
    return db.partition("://")[0] in _POSTGRES


def postgres_saver(
    url: str, *, must_exist: bool, classes: tuple[type, ...] = ()
) -> AbstractContextManager[CheckpointSaver]:
    """The saver on a PostgreSQL database. Who waits for a command hears at once that there is no server."""
    from clew.checkpoint.postgres import PostgresSaver  # late: needs the extra
    from clew.storage.postgres.connections import reach, where_is

    logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what goes wrong is said once, by the command
    with reach(url) as connection:
        found = connection.execute("select to_regclass('clew_migration') is not null").fetchone()
    if must_exist and found != (True,):
        raise CommandError(f"{where_is(url)} has no tables of clew", hint="say where they are with --db URL")
    return PostgresSaver.from_conn_string(url, serde=serializer(classes))


def serializer(classes: tuple[type, ...]) -> EncryptedSerializer | JsonPlusSerializer | None:
    """What encodes values, some of these classes among them; encrypted, if CLEW_ENCRYPTION_KEYS has keys."""
    inner = JsonPlusSerializer(allowed_msgpack_modules=classes) if classes else None
    return EncryptedSerializer.from_env(serde=inner) if os.environ.get(KEYS_VARIABLE) else inner


def keys_in_environment() -> EncryptedSerializer | None:
    """What reads an encrypted database, if CLEW_ENCRYPTION_KEYS has its keys."""
    return EncryptedSerializer.from_env() if os.environ.get(KEYS_VARIABLE) else None


def database_path(db: str) -> Path:
    """The file that `db` means; raises CommandError for a URL of another kind."""
    scheme, separator, _ = db.partition("://")
    if not separator:
        return Path(db)
    if scheme != "sqlite":
        raise CommandError(
            f"no storage serves {scheme!r} URLs",
            hint="give a path, sqlite:///PATH (four slashes: from the root), or postgresql://...",
        )
    return Path(unquote(urlsplit(db).path.removeprefix("/")))
