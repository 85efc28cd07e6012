"""The index of a store: which texts are embedded, and with what.

Embedding is the one thing in a batch that waits on something other than storage, so it is done before storage is
touched, once per text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from clew.store.base._config import IndexConfig
from clew.store.base._op import InvalidOpError, PutOp
from clew.store.base._vector import Metric, pack_vector
from clew.store.base.embed import Embeddings, StoreConfigError, ensure_embeddings, get_text_at_path, tokenize_path

if TYPE_CHECKING:
    from clew.serde.keys import KeyRing

_METRICS: Final[Mapping[str, Metric]] = {
    "cosine": "cosine",
    "l2": "l2",
    "inner_product": "inner_product",
    "ip": "inner_product",
}


@dataclass(frozen=True, slots=True)
class Texts:
    """What a batch needs embedded."""

    documents: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """The packed vectors of a batch's texts."""

    documents: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    queries: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


NO_VECTORS: Final = Vectors()


class Index:
    """A checked `IndexConfig`, ready to embed."""

    def __init__(self, config: IndexConfig, keys: KeyRing | None = None) -> None:
        """With `keys`, only the paths in the configuration's `clear_fields` are embedded, and others refused."""
        dims = config.get("dims")
        if not isinstance(dims, int) or dims < 1:
            raise StoreConfigError(
                f"the index has dims={dims!r}", hint="set 'dims' to the length of the embedding model's vectors"
            )
        metric = _METRICS.get(config.get("distance_type", "cosine"))
        if metric is None:
            raise StoreConfigError(
                f"the index has the unknown distance_type {config.get('distance_type')!r}",
                hint=f"the distance types are {', '.join(_METRICS)}",
            )
        self.dims: int = dims
        self.metric: Metric = metric
        self.embeddings: Embeddings = ensure_embeddings(config.get("embed"))
        self._fields = _tokenized(_configured_fields(config))
        self._clear = None if keys is None else frozenset(config.get("clear_fields") or ())
        hidden = self._hidden(self._fields)
        if hidden:
            raise StoreConfigError(
                f"the store encrypts its values, and the index would keep vectors of {', '.join(map(repr, hidden))},"
                " which are not encrypted",
                hint="search without an index, or list the paths whose vectors may be stored in the index's"
                " 'clear_fields'",
            )

    def texts(self, op: PutOp) -> list[tuple[str, str]]:
        """The texts of an item to embed, with the path of each (unique within the item)."""
        if op.value is None or op.index is False:
            return []
        fields = self._fields if op.index is None else _tokenized(op.index)
        hidden = self._hidden(fields)
        if hidden:
            raise InvalidOpError(
                f"the vectors of {', '.join(map(repr, hidden))} of item {op.key!r} in {op.namespace!r} would not be"
                " encrypted",
                hint="leave them out of `index`, or list them in the index's 'clear_fields'",
            )
        found: dict[str, str] = {}
        for path, tokens in fields:
            texts = get_text_at_path(op.value, tokens)
            for position, text in enumerate(texts):
                found[path if len(texts) == 1 else f"{path}.{position}"] = text
        return list(found.items())

    def _hidden(self, fields: Iterable[tuple[str, list[str]]]) -> list[str]:
        """The paths among `fields` whose vectors must not be stored."""
        return [] if self._clear is None else [path for path, _ in fields if path not in self._clear]

    def embed(self, texts: Texts) -> Vectors:
        """Embed the texts of a batch; each distinct text once."""
        documents = self.embeddings.embed_documents(list(texts.documents)) if texts.documents else []
        queries = [self.embeddings.embed_query(query) for query in texts.queries]
        return self._vectors(texts, documents, queries)

    async def aembed(self, texts: Texts) -> Vectors:
        """As `embed`, without blocking the event loop."""
        documents = await self.embeddings.aembed_documents(list(texts.documents)) if texts.documents else []
        queries = [await self.embeddings.aembed_query(query) for query in texts.queries]
        return self._vectors(texts, documents, queries)

    def _vectors(
        self, texts: Texts, documents: Sequence[Sequence[float]], queries: Sequence[Sequence[float]]
    ) -> Vectors:
        if len(documents) != len(texts.documents):
            raise StoreConfigError(
                f"the embedding function gave {len(documents)} vectors for {len(texts.documents)} texts",
                hint="it must give one vector per text, in order",
            )
        return Vectors(self._packed(texts.documents, documents), self._packed(texts.queries, queries))

    def _packed(self, texts: Iterable[str], vectors: Iterable[Sequence[float]]) -> dict[str, bytes]:
        return {text: pack_vector(vector, self.dims) for text, vector in zip(texts, vectors, strict=True)}


def _configured_fields(config: IndexConfig) -> list[str]:
    # "text_fields" is the name that LangGraph's SQLite store reads.
    fields = config.get("fields") or cast("Mapping[str, Any]", config).get("text_fields") or ["$"]
    return [fields] if isinstance(fields, str) else list(fields)


def _tokenized(paths: Iterable[str]) -> list[tuple[str, list[str]]]:
    return [(path, [] if path == "$" else tokenize_path(path)) for path in paths]
