"""A process that uses one SQLite store with others: `python worker.py PATH NAME PUTS`.

Prints each key once its put has returned. With PUTS = -1 it goes on until it is killed.
"""

from __future__ import annotations

import itertools
import sys

from clew.store.sqlite import SqliteStore


def main(path: str, name: str, puts: int) -> None:
    with SqliteStore.from_conn_string(path) as store:
        for n in itertools.count() if puts < 0 else range(puts):
            store.put(("work", name), str(n), {"n": n, "text": "x" * 200})
            store.put(("shared",), "last", {"by": name})
            print(n, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
