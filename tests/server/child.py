"""A service on a SQLite file, as a process of its own: `python -m tests.server.child FILE`; prints its port."""

from __future__ import annotations

import socket
import sys

import uvicorn

from clew.checkpoint.sqlite import SqliteSaver
from clew.store.sqlite import SqliteStore
from tests.server.kit import make_app

if __name__ == "__main__":
    saver = SqliteSaver(sys.argv[1], synchronous="NORMAL")
    with SqliteStore.from_conn_string(f"{sys.argv[1]}-store") as store, socket.create_server(("127.0.0.1", 0)) as port:
        print(port.getsockname()[1], flush=True)
        config = uvicorn.Config(make_app(saver, store), log_level="warning")
        uvicorn.Server(config).run(sockets=[port])
