"""What every saver shares: sessions, codecs by graph, the cache of heads, and when a keyframe is due."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self, TypeVar

from clew.errors import InvalidTenantError
from clew.ids import check_namespace, tenant_name
from clew.ids import thread_id as check_thread_id
from clew.serde import Codec, TypeRegistry, default_registry
from clew.serde.given import codec_and_keys
from clew.storage.cursor import LogCursor
from clew.storage.heads import Heads
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.session import LogSession
from clew.storage.state import Recent, State
from clew.storage.vault import PLAIN, Sealed, Vault

T = TypeVar("T")

KEYFRAME_FACTOR = 4.0
KEYFRAME_CHAIN = 4096
HEADS_LIMIT = 64 * 1024 * 1024
_FLOOR = 2048  # bytes of versions and names that a keyframe repeats even when the values are small


class LogSaver:
    """The base of savers over the log. A keyframe is written when the differences since the last one are
    `keyframe_factor` times as long as the state, or `keyframe_chain` in number.

    `tenant` leads every key: no call can reach the threads, checkpoints or runs of another one. A saver without one
    ("") takes it from each call; one that has a tenant is bound to it. `original` is the saver whose storage a clone
    shares: closing a clone closes nothing.
    """

    def __init__(
        self,
        *,
        serde: Any = None,
        types: TypeRegistry | None = None,
        tenant: str = "",
        keyframe_factor: float = KEYFRAME_FACTOR,
        keyframe_chain: int = KEYFRAME_CHAIN,
        heads_limit: int = HEADS_LIMIT,
    ) -> None:
        codec, keys = codec_and_keys(serde)
        self.tenant = tenant_name(tenant)
        self.original: Self | None = None
        self.titler: Callable[[Any], str | None] | None = None  # where the table of threads is in use
        self.vault: Vault = PLAIN if keys is None else Sealed(keys)
        self.types = types or (default_registry if codec is None else codec.types)
        self.heads = Heads(heads_limit)
        self._keyframe_factor = keyframe_factor
        self._keyframe_chain = keyframe_chain
        self._codecs: dict[frozenset[type], Codec] = {}

    def session(self, thread_id: str, *, types: frozenset[type] = frozenset(), tenant: str | None = None) -> LogSession:
        """Open a run on a thread; no I/O. `types` are the classes the graph's annotations make known, `tenant` is whose
        thread it is (None: the saver's)."""
        return LogSession(self, check_thread_id(thread_id), self.codec(types), self.tenant_of(tenant))

    def with_tenant(self, tenant: str) -> Self:
        """A saver on the same storage, queues and connections that is bound to `tenant`; closing it closes nothing.

        Raises `InvalidTenantError` for what is no text, over 255 characters, or holds NUL or a lone surrogate.
        """
        clone = self._clone()
        clone.tenant = tenant_name(tenant)
        return clone

    def tenant_of(self, tenant: str | None) -> str:
        """The tenant of a call that names `tenant` (None: no one); a saver that is bound to one serves no other."""
        if tenant is None:
            return self.tenant
        tenant = tenant_name(tenant)
        if self.tenant and tenant != self.tenant:
            raise InvalidTenantError(
                f"a call names tenant {tenant!r}, and the saver is bound to {self.tenant!r}",
                hint="use a saver without a tenant for calls that name theirs, or saver.with_tenant(...)",
            )
        return tenant

    def _clone(self) -> Self:
        clone = copy.copy(self)
        clone.original = self.original or self
        return clone

    def cursor(self, session: LogSession, ns: str) -> LogCursor:
        """A new cursor of a session."""
        return LogCursor(session, ns)

    def place(self, thread_id: str, ns: str = "", tenant: str | None = None) -> Place:
        """A namespace of a thread, of this saver's tenant unless told."""
        if ns:
            check_namespace(ns)
        return Place(self.tenant if tenant is None else tenant, thread_id, ns, self.vault)

    def codec(self, types: frozenset[type]) -> Codec:
        """The codec that also knows `types`."""
        codec = self._codecs.get(types)
        if codec is None:
            codec = self._codecs[types] = Codec(self.types.extended(types) if types else self.types)
        return codec

    def is_behind(self, session: LogSession) -> bool:
        """Whether so much waits to be written that a run should not get further ahead of it."""
        return False

    def wants_keyframe(self, state: State | Recent, seq: int) -> bool:
        """Whether the step at `seq`, the one after `state`, should be written in full."""
        if seq - state.key_seq >= self._keyframe_chain:
            return True
        return state.since > self._keyframe_factor * (state.size + _FLOOR)


def finished(op: LogOp[T], result: object) -> T:
    """What running an operation gives, from the result of its rule."""
    if op.done is not None:
        op.done()
    return op.finish(result) if op.finish is not None else result  # pyright: ignore[reportReturnType] - writes give None
