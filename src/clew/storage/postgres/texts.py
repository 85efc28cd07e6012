"""The texts of statements, in one schema."""

from __future__ import annotations

import re
from typing import Any

from clew.storage.migrate import named_queries
from clew.storage.postgres.direct import new_line
from clew.storage.postgres.wire import Call

_TABLE = re.compile(
    r"\bclew_(head|step|fork|pending|spill|thread|assistant|assistant_version|run|event|cron|duty|delivery|migration)\b(?!\.)"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")


def check_schema(schema: str | None) -> None:
    """Raise `ValueError` unless `schema` is a name that may stand in a statement, or None."""
    if schema is not None and not _NAME.fullmatch(schema):
        raise ValueError(f"schema is {schema!r}, not a name of letters, digits and _ of at most 63 characters")


class Texts:
    """Statements whose tables are those of `schema`; None: wherever the connection's search_path finds them."""

    def __init__(self, schema: str | None) -> None:
        self.schema = schema
        self._queries = {name: self.text(sql) for name, sql in named_queries("postgres").items()}
        self._direct: dict[str, str] = {}

    def text(self, sql: str) -> str:
        """A statement with its tables' schema."""
        return sql if self.schema is None else _TABLE.sub(rf'"{self.schema}".clew_\1', sql)

    def qualified(self, call: Call) -> Call:
        """A statement of `direct` with its tables' schema."""
        if self.schema is None:
            return call
        text = self._direct.get(call.sql)
        if text is None:
            text = self._direct[call.sql] = self.text(call.sql)
        return Call(text, call.params)

    def call(self, name: str, params: tuple[Any, ...], *, locks: bool = False) -> Call:
        """A named query; with `locks` what it reads stays as it is to the end of the transaction."""
        if name == "head_add":
            params = (*params, new_line())
        if locks:
            locked = self._queries.get(f"{name}_locked")
            if locked is not None:
                return Call(locked, params)
        return Call(self._queries[name], params)
