"""What a store gives back: items, and items found by a search."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

Value = dict[str, Any]


class Item:
    """One stored value with its place and its times.

    `value` is the caller's own copy: changing it does not change what is stored. Times are aware, in UTC; ISO 8601
    strings are accepted for them.
    """

    __slots__ = ("created_at", "key", "namespace", "updated_at", "value")

    def __init__(
        self,
        *,
        value: Value,
        key: str,
        namespace: Sequence[str],
        created_at: datetime | str,
        updated_at: datetime | str,
    ) -> None:
        self.value: Value = value
        self.key: str = key
        self.namespace: tuple[str, ...] = tuple(namespace)
        self.created_at: datetime = _time(created_at)
        self.updated_at: datetime = _time(updated_at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return False
        return _identity(self) == _identity(other) and self.value == other.value

    def __hash__(self) -> int:
        return hash((self.namespace, self.key))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.dict().items())
        return f"{type(self).__name__}({fields})"

    def dict(self) -> Value:
        """The item as plain data, with the namespace as a list and the times as ISO 8601 strings."""
        return {
            "namespace": list(self.namespace),
            "key": self.key,
            "value": self.value,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }


class SearchItem(Item):
    """An item that a search found; `score` is its similarity (higher is closer), or None if it was not ranked."""

    __slots__ = ("score",)

    def __init__(
        self,
        namespace: Sequence[str],
        key: str,
        value: Value,
        created_at: datetime | str,
        updated_at: datetime | str,
        score: float | None = None,
    ) -> None:
        super().__init__(value=value, key=key, namespace=namespace, created_at=created_at, updated_at=updated_at)
        self.score: float | None = score

    def dict(self) -> Value:
        """As `Item.dict`, with the score."""
        return {**super().dict(), "score": self.score}


def _time(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _identity(item: Item) -> tuple[object, ...]:
    return (item.namespace, item.key, item.created_at, item.updated_at)
