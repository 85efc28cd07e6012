"""Our own conformance kits, on a saver and a store that have a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from clew.checkpoint.memory import InMemorySaver
from clew.store.memory import InMemoryStore
from clew.testing import SaverConformance, StoreConformance
from tests.encryption.backends import bodies, serde


class TestEncryptedSaver(SaverConformance):
    is_durable = False

    @contextmanager
    def open(self) -> Iterator[Any]:
        self.opened = InMemorySaver(serde=serde())
        yield self.opened

    def stored_bytes(self) -> int:
        return sum(map(len, bodies(self.opened)))


class TestEncryptedStore(StoreConformance):
    is_durable = False

    def open(self) -> Any:
        return nullcontext(InMemoryStore(serde=serde()))
