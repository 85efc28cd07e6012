"""A batch on the server: what travels in one round trip, and what needs a second.

One flush does for a batch of reads, and for one of writes. A second one starts the time to live of what was read anew,
if it has one. Reads beside writes, and filters that the server can judge only roughly, may take a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clew.storage.postgres.wire import Call
from clew.store._rows import encode_key
from clew.store._values import Values
from clew.store.base import Result
from clew.store.base._index import Vectors
from clew.store.base._namespace import encode_namespace
from clew.store.base._plan import Plan, Results
from clew.store.postgres._reads import Read, Reads
from clew.store.postgres._schema import Facts
from clew.store.postgres._script import Flush, Script
from clew.store.postgres._sql import Statements
from clew.store.postgres._vector_sql import VectorStatements
from clew.store.postgres._writes import Write, refresh_call, vector_text, write_calls


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch ready to run: nothing in it belongs to the caller any more. `now` is None for the database's clock."""

    plan: Plan
    writes: Sequence[Write]
    vectors: Vectors
    tenant: str
    values: Values
    now: float | None
    statements: Statements
    vector_statements: VectorStatements | None
    facts: Facts

    def run(self, *, in_transaction: bool) -> Script[list[Result] | None]:
        """The script of the batch, which gives None if it can be answered only in a transaction."""
        results = Results(self.plan.size)
        writes = self._write_calls()
        reads = self._reads()
        pending = reads.all(self.plan, results)
        if not pending:
            if writes:
                yield Flush(writes)
            return results.all()
        first = [next(read) for read in pending]
        settings = reads.settings(self.plan)
        if not in_transaction and (not writes or self._reads_are_simple()):
            refreshing = self._refreshing() if writes else []
            flush = Flush([*settings, *first, *refreshing, *writes], is_snapshot=len(first) > 1)
            rows = yield flush
            asked = _send(pending, rows[len(settings) : len(settings) + len(first)])
            if asked:
                return None
            if reads.to_refresh and not writes:
                yield Flush([refresh_call(reads.to_refresh, self.tenant, self.now, self.statements)])
            return results.all()
        if not in_transaction:
            return None
        rows = yield Flush([*settings, *first], is_last=False, is_snapshot=len(first) > 1 or self._may_ask_again())
        asked = _send(pending, rows[len(settings) :])
        while asked:
            rows = yield Flush([call for _, call in asked], is_last=False)
            asked = _send([read for read, _ in asked], rows)
        if writes and reads.to_refresh:
            writes = [refresh_call(reads.to_refresh, self.tenant, self.now, self.statements), *writes]
        yield Flush(writes)
        if reads.to_refresh and not writes:
            yield Flush([refresh_call(reads.to_refresh, self.tenant, self.now, self.statements)])
        return results.all()

    def _reads(self) -> Reads:
        queries = {text: vector_text(packed) for text, packed in self.vectors.queries.items()}
        return Reads(self.statements, self.vector_statements, self.tenant, self.values, self.now, queries)

    def _reads_are_simple(self) -> bool:
        """Whether reads need no second statement, so that writes can follow them at once."""
        return all(
            search.accepts is None and search.query is None and not search.op.refresh_ttl
            for search, _ in self.plan.searches
        )

    def _may_ask_again(self) -> bool:
        return bool(self.plan.searches)

    def _refreshing(self) -> list[Call]:
        """Starts the time to live of what is read by key anew, whether it has one or not."""
        places = [(encode_namespace(op.namespace), encode_key(op.key)) for op, _ in self.plan.gets if op.refresh_ttl]
        return [refresh_call(places, self.tenant, self.now, self.statements)] if places else []

    def _write_calls(self) -> list[Call]:
        return write_calls(
            self.writes,
            self.tenant,
            self.now,
            self.statements,
            self.vector_statements,
            has_vectors=self.facts.has_vectors,
            has_json=self.facts.has_json,
        )


def _send(reads: Sequence[Read[None]], rows: Sequence[list[tuple[object, ...]]]) -> list[tuple[Read[None], Call]]:
    """Give each read its rows; those that want more, and what."""
    asked: list[tuple[Read[None], Call]] = []
    for read, found in zip(reads, rows, strict=True):
        try:
            asked.append((read, read.send(found)))
        except StopIteration:
            pass
    return asked
