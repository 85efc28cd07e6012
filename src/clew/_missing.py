"""The one value that means "nothing here", where None is a value of the user's.

Invariant: there is one `MISSING`, in every process and after any copy or pickle, so `is MISSING` is always right.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

__all__ = ("MISSING", "Missing", "MissingType")


class MissingType(Enum):
    """The type of `MISSING`; an enum, because type checkers narrow `is MISSING` for it."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = MissingType.MISSING
Missing = Literal[MissingType.MISSING]
