"""Pages: bare lists, and where the next one begins in headers.

`x-pagination-total` is how many there are up to here and whether there are more, as on the field's platform: one more
than what was given so far where the list goes on. A true count of a long list is what `/count` is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

LIMIT_MAX = 1000
TOTAL, NEXT = "x-pagination-total", "x-pagination-next"


def page_of(found: Sequence[T], offset: int, limit: int) -> tuple[Sequence[T], dict[str, str]]:
    """A page and its headers; `found` begins at `offset`, and has one more than `limit` where the list goes on."""
    if len(found) <= limit:
        return found, {TOTAL: str(offset + len(found))}
    return found[:limit], {TOTAL: str(offset + limit + 1), NEXT: str(offset + limit)}
