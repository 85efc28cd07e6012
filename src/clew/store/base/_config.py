"""What a store can be configured with: times to live and an index for search by meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypedDict

if TYPE_CHECKING:
    from clew.store.base.embed import AEmbeddingsFunc, Embeddings, EmbeddingsFunc


class NotProvided:
    """The type of `NOT_PROVIDED`, which tells "nothing was given" from None."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOT_PROVIDED"


NOT_PROVIDED: Final = NotProvided()
"""In place of a time to live: the store's own."""


class TTLConfig(TypedDict, total=False):
    """How long items live."""

    refresh_on_read: bool
    """Whether reading or finding an item starts its time to live anew (default True)."""
    omit_expired: bool
    """Whether an expired item is invisible before a sweep deletes it (default False)."""
    default_ttl: float | None
    """Minutes an item lives when `put` does not say (default None: forever)."""
    sweep_interval_minutes: int | None
    """Minutes between the sweeps of `start_ttl_sweeper` (default 5)."""


class IndexConfig(TypedDict, total=False):
    """How items are embedded, so that `search(query=...)` can rank them by meaning."""

    dims: int
    """The length of the vectors."""
    embed: Embeddings | EmbeddingsFunc | AEmbeddingsFunc | str
    """A function from texts to vectors (plain or async), an object with `embed_documents` and `embed_query`, or the
    name of a LangChain embedding model such as "openai:text-embedding-3-small"."""
    fields: list[str] | None
    """Paths of the texts to embed, each as its own vector; "$" is the whole value (default ["$"])."""
    clear_fields: list[str] | None
    """Where values are encrypted: those of the paths to embed whose vectors may be stored all the same. Vectors are not
    encrypted, and tell roughly what a text says (default none)."""
    distance_type: Literal["cosine", "l2", "inner_product", "ip"]
    """How vectors are compared (default "cosine"). Scores are the cosine, the negative L2 distance or the dot
    product, so that higher is always closer."""
