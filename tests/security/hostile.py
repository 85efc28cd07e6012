"""What somebody who can write to a database puts there: values that other libraries call or import when they read them.

`fired` says whether one of them ran: each would make the file that `CLEW_TEST_CANARY` names.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import ormsgpack
import zstandard

from clew.serde import Opaque, rules
from clew.serde.compress import _sealed, pack, seal

CANARY = "CLEW_TEST_CANARY"


def fire(*_: object) -> None:
    """What the hostile values would have called."""
    Path(os.environ[CANARY]).touch()


class Pickled:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return fire, ()


def extension(code: int, content: Any) -> Opaque:
    """A value that is stored as these very bytes."""
    return Opaque(code, "hostile", content if isinstance(content, bytes) else ormsgpack.packb(content))


_HERE = "tests.security.hostile"

# What the peer's serializer means by its extension codes 0 to 5: call a constructor by its module and name.
VALUES: dict[str, Opaque] = {
    f"constructor call {code}": extension(code, content)
    for code, content in enumerate(
        (
            (_HERE, "fire", "x"),
            (_HERE, "fire", ["x"]),
            (_HERE, "fire", {"x": "x"}),
            (_HERE, "fire", {}, "fire"),
            (_HERE, "fire", {"x": 1}, "model_construct"),
            (_HERE, "fire", "x"),
        )
    )
}
VALUES |= {
    "named function": extension(rules.NAMED, [f"{_HERE}:fire", ["x"]]),
    "named module to import": extension(rules.NAMED, ["antigravity:fly", None]),
    "named class of ours": extension(rules.NAMED, ["clew.checkpoint.sqlite:SqliteSaver", {"conn": "x"}]),
    "named path with dots": extension(rules.NAMED, ["os:path.os.system", {}]),
    "exception by name": extension(rules.EXCEPTION, [f"{_HERE}:fire", ["x"], {}]),
    "factory by name": extension(rules.DEFAULTDICT, [f"{_HERE}:fire", {}]),
    "pickle": extension(127, pickle.dumps(Pickled())),
    "pickle in an array": extension(rules.ARRAY, ["|O", [1], pickle.dumps(Pickled())]),
    "time zone from a path": extension(rules.ZONEINFO, "../../../../etc/passwd"),
    "payload that nests": extension(rules.TUPLE, b"\x91" * 200_000 + b"\xc0"),
    "payload of 4 GB": extension(rules.TUPLE, b"\xdd\xff\xff\xff\xff"),
}

_ZEROS = b"\0" * (64 * 1024 * 1024 + 1)

# Whole stored records, all with a good checksum.
RECORDS: dict[str, bytes] = {
    "nothing": b"",
    "not an envelope": b"hello",
    "pickle": seal(pickle.dumps(Pickled())),
    "bare pickle": pickle.dumps(Pickled()),
    "zstd bomb": _sealed(0x11, zstandard.ZstdCompressor(level=19).compress(_ZEROS)),
    "zstd frame without a size": _sealed(0x11, zstandard.ZstdCompressor(write_content_size=False).compress(_ZEROS)),
    "list of 4 GB": seal(b"\xdd\xff\xff\xff\xff"),
    "text of 4 GB": seal(b"\xdb\xff\xff\xff\xff"),
    "depth of a million": pack(b"\x91" * 1_000_000),
    "maps of a million": pack(b"\x81\xa1a" * 1_000_000),
}

# A record that is well formed, and whose content other libraries take for a call.
CALL = {"lc": 2, "type": "constructor", "id": [*_HERE.split("."), "fire"], "kwargs": {}}
