"""The one logger, `clew`; the logging package is only imported when there is something to say (start-up time)."""

from __future__ import annotations

from typing import Any


def warn(message: str, *args: Any) -> None:
    """Log a warning."""
    import logging  # late: see above

    logging.getLogger("clew").warning(message, *args)
