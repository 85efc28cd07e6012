"""A process that forks replicas: real processes, real signals, without importing everything each time.

Reads one replica per line, answers with its process id. It opens no database and has no threads. A replica that is
gone leaves nothing behind: nobody waits for it here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import traceback
from typing import Any

from clew import _failpoints
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.server import create_app
from clew.server.running import Limits, Running
from clew.server.work.worker import WorkSettings
from tests.faults.ledger import Ledger
from tests.service_faults.graphs import graphs

SECONDS = 110


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(guarded(json.loads(line)))
        print(child, flush=True)


def guarded(replica: dict[str, Any]) -> int:
    """Serve until a signal comes; what was logged and raised goes to a file."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(replica.get("seconds", SECONDS))
    log = os.open(replica["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.WARNING, format="%(process)d %(asctime)s %(name)s %(message)s")
    try:
        _failpoints.configure(replica.get("failpoints", ""))
        serve(replica)
        return 0
    except BaseException:
        traceback.print_exc()
        return 1


def serve(replica: dict[str, Any]) -> None:
    """One replica, on its port."""
    with contextlib.ExitStack() as stack:
        database = replica["database"]
        if database.endswith(".db"):
            saver: Any = stack.enter_context(SqliteSaver.from_conn_string(database, synchronous="NORMAL"))
        else:
            settings = replica.get("saver", {})
            saver = stack.enter_context(PostgresSaver.from_conn_string(database, **settings))
        work = WorkSettings(**replica.get("work", {}))
        app = create_app(graphs(Ledger(replica["ledger"])), saver, work=work)
        port = stack.enter_context(socket.create_server(("127.0.0.1", replica["port"]), backlog=512))
        limits = Limits(replica.get("grace", 0.0))
        asyncio.run(Running(app, limits=limits, drain=app.state.clew.drain).serve([port]))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
