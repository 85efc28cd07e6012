"""A step's body belongs to its row: the checksum of the stored body also covers the columns beside it.

SQLite checks none of its pages. Without this, one flipped bit in an index or in a column could give a step another
place, id or time, while its body still matched the checksum.

Invariant: a body that is read with any of those columns changed is a `CorruptRecordError`, as is a changed body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ormsgpack
import xxhash

from clew.errors import CorruptRecordError
from clew.serde.compress import encrypted_body, unpack

if TYPE_CHECKING:
    from clew.storage.log import StepRow

_START, _END = 1, 9  # of the checksum in an envelope; see `clew.serde.compress`


def bind(row: StepRow) -> StepRow:
    """`row` with the envelope in its body bound to its columns. Of `key_seq` only whether it is the row's own counts:
    pruning moves it."""
    return row._make((*row[:8], _mixed(row)))


def unbound(row: StepRow) -> bytes:
    """The envelope in the body of a stored row, which fails its checksum if the row is not the one it was bound to."""
    if not isinstance(row.body, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - a damaged row says otherwise
        raise CorruptRecordError(f"a stored record is a {type(row.body).__name__}, not bytes")
    if encrypted_body(row.body) is not None:
        unpack(row.body)  # says which key it needs
    return _mixed(row)


def _mixed(row: StepRow) -> bytes:
    body = row.body
    columns = ormsgpack.packb(
        (row.branch, row.seq, row.key_seq == row.seq, row.checkpoint_id, *row[4:8]),
    )
    mixed = int.from_bytes(body[_START:_END]) ^ xxhash.xxh3_64_intdigest(columns)
    return b"".join((body[:_START], mixed.to_bytes(_END - _START), body[_END:]))
