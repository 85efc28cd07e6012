"""Rows of a store as items, and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clew.errors import StorageError
from clew.store._values import Values
from clew.store.base._item import Item, SearchItem
from clew.store.base._namespace import decode_namespace


@dataclass(frozen=True, slots=True)
class Found:
    """One row of the table of items, with its value decoded; times are seconds since 1970, `ttl` is minutes."""

    ns: bytes
    encoded_key: bytes
    value: dict[str, Any]
    created_at: float
    updated_at: float
    ttl: float | None

    def item(self) -> Item:
        """The row as what `get` gives."""
        return Item(
            value=self.value,
            key=decode_key(self.encoded_key),
            namespace=decode_namespace(self.ns),
            created_at=datetime.fromtimestamp(self.created_at, UTC),
            updated_at=datetime.fromtimestamp(self.updated_at, UTC),
        )

    def search_item(self, score: float | None) -> SearchItem:
        """The row as what `search` gives."""
        return SearchItem(
            decode_namespace(self.ns),
            decode_key(self.encoded_key),
            self.value,
            datetime.fromtimestamp(self.created_at, UTC),
            datetime.fromtimestamp(self.updated_at, UTC),
            score,
        )


def load_row(row: tuple[Any, ...], values: Values) -> Found:
    """Decode a row of ns, key, value, created_at, updated_at, ttl (and more, which is ignored).

    Raises:
        StorageError: The value cannot be read; a note names the item.
    """
    ns, key, value, created_at, updated_at, ttl = row[:6]
    try:
        return Found(ns, key, values.load(ns, key, value), created_at, updated_at, ttl)
    except StorageError as error:
        error.add_note(f"in item {decode_key(key)!r} of namespace {decode_namespace(ns)!r}")
        raise


def encode_key(key: str) -> bytes:
    """The key as it is stored; lone surrogates are kept."""
    return key.encode("utf-8", "surrogatepass")


def decode_key(key: bytes) -> str:
    """The key that `encode_key` made the bytes from."""
    return key.decode("utf-8", "surrogatepass")
