"""The command line, `clew` (extra `cli`): run graphs, look at threads, draw, and check a database.

Importing this loads neither typer nor rich, so that a missing extra is a message and not a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clew.errors import MissingExtraError

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (default: the process's own); always ends in SystemExit.

    Status 0: done (a run that now waits for an answer included), 1: it failed and said why, 2: wrong usage.
    """
    try:
        from clew.cli._app import run_app  # late: needs the extra
    except ModuleNotFoundError as error:
        if error.name not in {"rich", "typer"}:
            raise
        missing = MissingExtraError("the command line", "cli")
        print(f"error: {missing}\nhint: {missing.hint}", file=sys.stderr)
        raise SystemExit(1) from None
    run_app(sys.argv[1:] if arguments is None else arguments)
