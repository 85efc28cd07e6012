"""A replica's duties as a process of its own: `python -m tests.duties.replica DATABASE`; says when it is at work."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.duties.kit import duties_of


async def work(saver: Any) -> None:
    """Do duties until killed."""
    duties = duties_of(saver, lease=0.5)
    await duties.start()
    print("at work", flush=True)
    await asyncio.Event().wait()


def main(database: str) -> None:
    opened = PostgresSaver if database.startswith(("postgres", "host", "user", "dbname")) else SqliteSaver
    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(opened.from_conn_string(database))
        saver.setup()
        asyncio.run(work(saver))


if __name__ == "__main__":
    main(sys.argv[1])
