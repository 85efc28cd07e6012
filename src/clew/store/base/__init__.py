"""The interface of every store, and the operations it is written in.

`clew.store.base.batch` has a base class for stores whose async operations travel together, `clew.store.base.embed` what
turns values into vectors.
"""

from clew.store.base._config import NOT_PROVIDED, IndexConfig, NotProvided, TTLConfig
from clew.store.base._item import Item, SearchItem
from clew.store.base._namespace import (
    InvalidNamespaceError,
    MatchCondition,
    NamespaceMatchType,
    NamespacePath,
)
from clew.store.base._op import GetOp, InvalidOpError, ListNamespacesOp, Op, PutOp, Result, SearchOp
from clew.store.base._plan import validate_op_namespace
from clew.store.base._store import BaseStore, TTLNotSupportedError
from clew.store.base.embed import (
    AEmbeddingsFunc,
    Embeddings,
    EmbeddingsFunc,
    StoreConfigError,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
)

__all__ = (
    "NOT_PROVIDED",
    "AEmbeddingsFunc",
    "BaseStore",
    "Embeddings",
    "EmbeddingsFunc",
    "GetOp",
    "IndexConfig",
    "InvalidNamespaceError",
    "InvalidOpError",
    "Item",
    "ListNamespacesOp",
    "MatchCondition",
    "NamespaceMatchType",
    "NamespacePath",
    "NotProvided",
    "Op",
    "PutOp",
    "Result",
    "SearchItem",
    "SearchOp",
    "StoreConfigError",
    "TTLConfig",
    "TTLNotSupportedError",
    "ensure_embeddings",
    "get_text_at_path",
    "tokenize_path",
    "validate_op_namespace",
)
