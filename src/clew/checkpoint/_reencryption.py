"""Bringing a database to the current key, as a generator of operations: it waits nowhere, so both drivers share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from clew.checkpoint._retention import MakeOp, Work
from clew.errors import EncryptionError
from clew.storage import direct
from clew.storage.assistants import rekey_assistants
from clew.storage.crons import rekey_crons
from clew.storage.reseal import Rekeying
from clew.storage.threads import rekey_row, rows_to_rekey
from clew.storage.upkeep import sweep_spills

if TYPE_CHECKING:
    from clew.storage.log import Place


def reencryption(root: Callable[[str], Place], op: MakeOp, thread_ids: Sequence[str] | None) -> Work[int]:
    """Rewrite what is not under the current key, on all threads or on those named; gives how many rows.

    `root` gives the place of a thread.
    """
    tenant, keys = root("").tenant, root("").vault.keys
    if keys is None:
        raise EncryptionError(
            "the saver has no key to encrypt with", hint="give it serde=EncryptedSerializer(...) when it is made"
        )
    changed = 0
    for name in (yield op("", lambda: direct.thread_names(tenant))) if thread_ids is None else thread_ids:
        rekeying = Rekeying(root(name), keys)
        for part in (yield op(name, rekeying.open)):
            changed += yield op(name, partial(rekeying.steps, part), kind="reencrypt")
        changed += yield op(name, rekeying.pending, kind="reencrypt")
        if rekeying.renames:
            yield op(name, partial(sweep_spills, root(name)), kind="reencrypt")
    for name in (yield op("", lambda: rows_to_rekey(root("")))):
        if thread_ids is None or name in thread_ids:
            changed += yield op(name, partial(rekey_row, root(name)), kind="reencrypt")
    if thread_ids is None:
        changed += yield op("", lambda: rekey_assistants(root("")), kind="reencrypt")
        changed += yield op("", lambda: rekey_crons(root("")), kind="reencrypt")
    return changed
