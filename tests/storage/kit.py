"""A stand-in for the engine: runs that commit whole states through the saver's protocol."""

from __future__ import annotations

import copy
from typing import Any

from clew.testing._runs import TASK, Run, history, load, write

__all__ = ("TASK", "Run", "frozen", "history", "load", "write")


def frozen(value: Any) -> Any:
    """A copy that in-place changes do not reach."""
    return copy.deepcopy(value)
