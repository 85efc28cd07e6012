"""What a PostgreSQL store can be told, checked before anything is connected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from clew.errors import StorageError
from clew.storage.postgres.connections import refuse_pipe
from clew.store.base import IndexConfig, StoreConfigError, TTLConfig
from clew.store.base._index import Index
from clew.store.base._vector import Metric

if TYPE_CHECKING:
    from clew.checkpoint.serde.encrypted import EncryptedSerializer
    from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
    from clew.serde import Codec

_KINDS: Final = ("hnsw", "ivfflat", "flat")
_MOST_DIMS: Final[Mapping[str, int]] = {"vector": 2000, "halfvec": 4000}  # that pgvector can index
_PARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {
    "hnsw": {"m": "m", "ef_construction": "ef_construction"},
    "ivfflat": {"nlist": "lists", "lists": "lists"},
    "flat": {},
}
_LONGEST_NAME: Final = 63  # bytes that the server keeps of a name


class PoolConfig(TypedDict, total=False):
    """How a store that opens its own connections keeps them."""

    min_size: int
    """How many connections are kept open (default 1)."""
    max_size: int | None
    """How many there are at most (default 8)."""
    timeout: float
    """How many seconds a call waits for a free connection, or for a server that is away (default 30)."""
    kwargs: dict[str, Any]
    """More arguments for `psycopg.connect`, such as `{"application_name": "chat"}`."""


class ANNIndexConfig(TypedDict, total=False):
    """How vectors are indexed."""

    kind: Literal["hnsw", "ivfflat", "flat"]
    """"hnsw" (default) and "ivfflat" find the closest approximately, in an index; "flat" exactly, without one."""
    vector_type: Literal["vector", "halfvec"]
    """Single (default) or half precision, which takes half the room."""


class HNSWConfig(ANNIndexConfig, total=False):
    """An HNSW graph."""

    m: int
    """Neighbours per node and layer (the server's default: 16)."""
    ef_construction: int
    """Candidates looked at while building (the server's default: 64)."""


class IVFFlatConfig(ANNIndexConfig, total=False):
    """Inverted lists. Worth building only where there are vectors already: it learns its lists from them."""

    nlist: int
    """How many lists (the server's default: 100); about a thousandth of the number of vectors is a good start."""


class PostgresIndexConfig(IndexConfig, total=False):
    """`IndexConfig`, and how pgvector indexes the vectors."""

    ann_index_config: ANNIndexConfig | HNSWConfig | IVFFlatConfig
    """The index (default: HNSW on single precision)."""


class StoreOptions(TypedDict, total=False):
    """What a PostgreSQL store can be told."""

    index: PostgresIndexConfig | None
    """How items are embedded for search by meaning; None: they are not."""
    ttl: TTLConfig | None
    """How long items live."""
    schema: str | None
    """The schema that the tables are in, made if it is missing; None: the first of the connection's search path."""
    tenant: str
    """Whose items these are; no tenant sees another's (default "")."""
    prepare: bool
    """Whether statements are prepared on the server (default). Say False behind a pooler that gives each transaction
    another server connection and does not follow prepared statements."""
    row_security: bool
    """Whether `setup` also makes policies by which the server itself keeps tenants apart (default False)."""
    serde: Codec | JsonPlusSerializer | EncryptedSerializer | None
    """What encodes values, and with an `EncryptedSerializer` encrypts them, each for its own item."""
    clock: Callable[[], float] | None
    """Gives seconds since 1970 in place of the database's clock; for tests."""
    pipe: None
    """LangGraph's name; a batch is one round trip in any case, and an open pipeline is refused."""
    deserializer: None
    """LangGraph's name; values come back as they were put, and a function is refused."""


class PoolOptions(StoreOptions, total=False):
    """`StoreOptions`, and how many connections a store that opens its own has."""

    min_size: int
    max_size: int | None
    timeout: float
    pool_config: PoolConfig | None
    pipeline: bool
    """LangGraph's name; it makes no difference here."""


def check_options(options: StoreOptions, store: str) -> None:
    """Refuse options that a store does not have.

    Raises:
        TypeError: There is no such option.
        StorageError: An option of LangGraph's store asks for what this one does not do.
    """
    for name in options:
        if name not in StoreOptions.__annotations__:
            raise TypeError(f"{store} got an unexpected keyword argument {name!r}")
    refuse_pipe(options.get("pipe"), "store")
    if options.get("deserializer") is not None:
        raise StorageError(
            "a store's values are not JSON that a `deserializer` could read",
            hint="leave it out: values come back as they were put; `serde` changes how they are stored",
        )


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """The checked half of an index configuration that is the server's business."""

    kind: str
    vector_type: str
    metric: Metric
    dims: int
    parameters: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """The name of the index: another configuration has another."""
        told = repr((self.kind, self.vector_type, self.metric, self.dims, self.parameters)).encode()
        digest = hashlib.blake2b(told, digest_size=4).hexdigest()
        return f"clew_store_{self.kind}_{self.vector_type}_{self.dims}_{self.metric}_{digest}"


def vector_index(config: PostgresIndexConfig, index: Index) -> VectorIndex:
    """Check the part of the configuration that says how vectors are indexed.

    Raises:
        StoreConfigError: A kind, type or parameter is unknown, or the vectors are too long to be indexed.
    """
    given: dict[str, Any] = dict(config.get("ann_index_config") or {})
    kind, vector_type = given.pop("kind", "hnsw"), given.pop("vector_type", "vector")
    if kind not in _KINDS:
        raise StoreConfigError(f"the index has the unknown kind {kind!r}", hint=f"the kinds are {', '.join(_KINDS)}")
    if vector_type not in _MOST_DIMS:
        raise StoreConfigError(
            f"the index has the unknown vector_type {vector_type!r}", hint="the types are vector, halfvec"
        )
    if kind != "flat" and index.dims > _MOST_DIMS[vector_type]:
        raise StoreConfigError(
            f"pgvector can index a {vector_type} of at most {_MOST_DIMS[vector_type]} dimensions, not {index.dims}",
            hint="set 'kind' to 'flat' in ann_index_config, or 'vector_type' to 'halfvec' (up to 4000)",
        )
    parameters = tuple(sorted(_parameter(kind, name, value) for name, value in given.items()))
    return VectorIndex(kind, vector_type, index.metric, index.dims, parameters)


def _parameter(kind: str, name: str, value: object) -> tuple[str, int]:
    known = _PARAMETERS[kind]
    if name not in known:
        raise StoreConfigError(
            f"a {kind} index has no parameter {name!r}", hint=f"its parameters are {', '.join(known) or 'none'}"
        )
    if type(value) is not int or value < 1:
        raise StoreConfigError(f"the parameter {name!r} of the index is {value!r}", hint="give a whole number above 0")
    return known[name], value


def quoted_schema(schema: str | None) -> str:
    """A schema's name as it stands before a table's: quoted, with its period; empty for None.

    Raises:
        StorageError: It cannot be a name.
    """
    if schema is None:
        return ""
    if not isinstance(cast("object", schema), str) or not schema or "\x00" in schema:
        raise StorageError(f"the schema {schema!r} cannot be a name", hint="give a non-empty string")
    try:
        length = len(schema.encode())
    except UnicodeEncodeError:
        length = _LONGEST_NAME + 1
    if length > _LONGEST_NAME:
        raise StorageError(
            f"the schema {schema!r} cannot be a name", hint=f"a name has at most {_LONGEST_NAME} bytes of UTF-8"
        )
    return '"' + schema.replace('"', '""') + '".'
