"""The operations of a store, as data. A batch is a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from clew.errors import StorageError
from clew.store.base._item import Item, SearchItem
from clew.store.base._namespace import MatchCondition


class InvalidOpError(StorageError, ValueError):
    """An operation is malformed: its filter, limit, offset, time to live or kind. Nothing was read or written."""


class GetOp(NamedTuple):
    """Read one item."""

    namespace: tuple[str, ...]
    """Where the item lives."""
    key: str
    """Its name within the namespace."""
    refresh_ttl: bool = True
    """Whether reading starts the item's time to live anew, if it has one."""


class SearchOp(NamedTuple):
    """Find items in a namespace and all namespaces under it."""

    namespace_prefix: tuple[str, ...]
    """Where to look, by whole labels; () looks everywhere."""
    filter: dict[str, Any] | None = None
    """What the values must hold.

    A field is compared for equality, or by operators: `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not`. A
    dict without operators is a filter on the dict found there; "a.b" reaches into dicts. A comparison with a missing
    field or with a value of another type is false (but a missing field equals None).
    """
    limit: int = 10
    """How many items to give at most."""
    offset: int = 0
    """How many matching items to pass over first."""
    query: str | None = None
    """Text to rank the items by, if the store has an index; otherwise it is ignored."""
    refresh_ttl: bool = True
    """Whether being found starts the items' time to live anew."""


class PutOp(NamedTuple):
    """Write one item, or delete it."""

    namespace: tuple[str, ...]
    """Where the item lives."""
    key: str
    """Its name within the namespace."""
    value: Mapping[str, Any] | None
    """What to store; None deletes the item."""
    # A tuple's `index` method is never useful on an operation, so the field may take its name.
    index: Literal[False] | list[str] | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
    """Which texts of the value to embed: None for the store's own fields, False for none, or a list of paths.

    Paths are as in "title", "meta.author", "chapters[*].text", "tags[0]", "tags[-1]".
    """
    ttl: float | None = None
    """Minutes that the item lives after it was last written or read; None: forever."""


class ListNamespacesOp(NamedTuple):
    """List the namespaces that hold items, in order."""

    match_conditions: tuple[MatchCondition, ...] | None = None
    """What the namespaces must all meet."""
    max_depth: int | None = None
    """Cut longer namespaces to this many labels, each result once."""
    limit: int = 100
    """How many namespaces to give at most."""
    offset: int = 0
    """How many to pass over first."""


Op = GetOp | SearchOp | PutOp | ListNamespacesOp
"""One operation on a store."""
Result = Item | list[Item] | list[SearchItem] | list[tuple[str, ...]] | None
"""What an operation gives: an item or None, items found, or namespaces; a put gives None."""
