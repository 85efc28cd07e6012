"""A store in which one owner's items are all there is: for requests, and for the graphs that run for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from clew.store.base import BaseStore, GetOp, Item, ListNamespacesOp, MatchCondition, Op, PutOp, Result, SearchOp


class OwnedStore(BaseStore):
    """`inner`, with every namespace under the owner's own, which is not shown."""

    __slots__ = ("_inner", "_root", "supports_ttl", "ttl_config")

    def __init__(self, inner: BaseStore, root: tuple[str, ...]) -> None:
        self._inner = inner
        self._root = root
        self.supports_ttl = inner.supports_ttl
        self.ttl_config = inner.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As the store's."""
        return [self._shown(result) for result in self._inner.batch([self._placed(op) for op in ops])]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As the store's."""
        return [self._shown(result) for result in await self._inner.abatch([self._placed(op) for op in ops])]

    def _placed(self, op: Op) -> Op:
        match op:
            case GetOp() | PutOp():
                return op._replace(namespace=(*self._root, *op.namespace))
            case SearchOp():
                return op._replace(namespace_prefix=(*self._root, *op.namespace_prefix))
            case ListNamespacesOp():
                return self._listed(op)

    def _listed(self, op: ListNamespacesOp) -> ListNamespacesOp:
        conditions = [each for each in op.match_conditions or () if each.match_type == "suffix"]
        prefixes = [each.path for each in op.match_conditions or () if each.match_type == "prefix"]
        for path in prefixes or [()]:
            conditions.append(MatchCondition("prefix", (*self._root, *path)))
        longest = max((len(each.path) for each in conditions if each.match_type == "suffix"), default=0)
        if longest:  # the owner's own namespace is no part of what ends like this
            conditions.append(MatchCondition("prefix", (*self._root, *("*",) * longest)))
        depth = None if op.max_depth is None else op.max_depth + len(self._root)
        return op._replace(match_conditions=tuple(conditions), max_depth=depth)

    def _shown(self, result: Result) -> Result:
        if isinstance(result, Item):
            result.namespace = result.namespace[len(self._root) :]
            return result
        if isinstance(result, list):
            return cast("Result", [self._shown_part(part) for part in cast("Sequence[Any]", result)])
        return result

    def _shown_part(self, part: Any) -> Any:
        return self._shown(part) if isinstance(part, Item) else part[len(self._root) :]


def owned(store: BaseStore, root: tuple[str, ...]) -> BaseStore:
    """The store as an owner sees it whose items are under `root`."""
    return OwnedStore(store, root) if root else store
