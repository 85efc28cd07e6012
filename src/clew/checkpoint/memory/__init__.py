"""A saver in this process's memory: for tests, notebooks and prototypes. Nothing outlives the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from clew import _failpoints
from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.serde import Codec, TypeRegistry
from clew.storage.memory import MemoryTables
from clew.storage.operation import LogOp
from clew.storage.saver import HEADS_LIMIT, KEYFRAME_CHAIN, KEYFRAME_FACTOR, finished
from clew.storage.session import LogSession

if TYPE_CHECKING:
    from clew.checkpoint.serde.encrypted import EncryptedSerializer

__all__ = ("InMemorySaver", "MemorySaver")

T = TypeVar("T")


class InMemorySaver(CheckpointSaver):
    """Keeps checkpoints in memory, in the same encoded form and under the same rules as a database."""

    def __init__(
        self,
        *,
        serde: Codec | JsonPlusSerializer | EncryptedSerializer | None = None,
        types: TypeRegistry | None = None,
        tenant: str = "",
        keyframe_factor: float = KEYFRAME_FACTOR,
        keyframe_chain: int = KEYFRAME_CHAIN,
        heads_limit: int = HEADS_LIMIT,
    ) -> None:
        super().__init__(
            serde=serde,
            types=types,
            tenant=tenant,
            keyframe_factor=keyframe_factor,
            keyframe_chain=keyframe_chain,
            heads_limit=heads_limit,
        )
        self._tables = MemoryTables()

    def __enter__(self) -> InMemorySaver:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    async def __aenter__(self) -> InMemorySaver:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it."""
        session = op.session
        if session.error is not None:
            raise session.error
        if not op.is_write:
            return finished(op, self._tables.read(op.steps))
        new = None if op.intent is None else op.intent.appends
        if new is not None and not _failpoints.armed() and self._tables.append(session.root_line, session.epoch, new):
            return finished(op, None)
        try:
            result: Any = self._tables.write(op.steps, op.kind)
            _failpoints.hit(f"{op.kind}.after")
        except BaseException as error:
            session.error = error
            raise
        return finished(op, result)

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation; memory never makes an event loop wait."""
        return self.run(op)

    def submit(self, session: LogSession, op: LogOp[None]) -> None:
        """Write at once; a failure is kept for the session's next operation."""
        if session.error is not None:
            raise session.error
        try:
            self.run(op)
        except Exception as error:
            session.error = error

    def flush(self, session: LogSession) -> None:
        """Raise if a submitted write failed; nothing ever waits."""
        if session.error is not None:
            raise session.error

    async def aflush(self, session: LogSession) -> None:
        """As `flush`."""
        self.flush(session)


MemorySaver = InMemorySaver
"""Another name of `InMemorySaver`."""
