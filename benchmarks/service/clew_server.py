"""clew's service as a process: `python -m benchmarks.service.clew_server PORT PATH_OR_CONNINFO`."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from benchmarks.service.graph import trivial
from clew.server import create_app


def opened(place: str) -> tuple[Any, Any]:
    """A saver and a store."""
    if "=" in place or place.startswith("postgres"):
        from clew.checkpoint.postgres import PostgresSaver
        from clew.store.postgres import PostgresStore

        return PostgresSaver.from_conn_string(place), PostgresStore.from_conn_string(place)
    from clew.checkpoint.sqlite import SqliteSaver
    from clew.store.sqlite import SqliteStore

    return SqliteSaver.from_conn_string(place), SqliteStore.from_conn_string(f"{place}-store")


if __name__ == "__main__":
    saver, store = opened(sys.argv[2])
    with saver as storage, store as items:
        items.setup()
        app = create_app({"agent": trivial().compile()}, storage, store=items)
        uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
