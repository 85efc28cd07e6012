"""What both faces of the PostgreSQL store do: run a checked batch on the server."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self, Unpack

from clew.errors import StorageError
from clew.ids import tenant_name
from clew.storage.postgres.wire import Call
from clew.store._values import Values
from clew.store.base import BaseStore, Op, Result
from clew.store.base._index import NO_VECTORS, Index, Vectors
from clew.store.base._plan import Plan, plan_batch
from clew.store.postgres import _sql
from clew.store.postgres._batch import Batch
from clew.store.postgres._config import StoreOptions, check_options, quoted_schema, vector_index
from clew.store.postgres._database import Database
from clew.store.postgres._schema import Facts, Wanted, setting_up, vector_statements
from clew.store.postgres._script import Flush, Script
from clew.store.postgres._writes import encode_put

REENCRYPTED_ROWS = 256  # per transaction
SWEEP_ROWS = 1000  # per transaction, so that other writers get their turn


class _Ready:
    """What is known of a database; a store and its clones for other tenants share it."""

    facts: Facts | None = None


class PostgresEngine(BaseStore):
    """Batches on one PostgreSQL database; `clew.store.postgres` has the classes to use."""

    supports_ttl = True

    def __init__(self, conn: Any, **options: Unpack[StoreOptions]) -> None:
        super().__init__()
        check_options(options, type(self).__name__)
        self.conn = conn
        self.index_config = options.get("index")
        self.ttl_config = options.get("ttl")
        self.tenant: str = tenant_name(options.get("tenant", ""))
        self._values = Values(options.get("serde"))
        self._index = Index(self.index_config, self._values.keys) if self.index_config else None
        self._clock = options.get("clock")
        self._statements = _sql.Statements(
            quoted_schema(options.get("schema")), bool((self.ttl_config or {}).get("omit_expired", False))
        )
        self._wanted = Wanted(
            self._statements,
            options.get("schema"),
            vector_index(self.index_config, self._index) if self.index_config and self._index else None,
            options.get("row_security", False),
        )
        self._ready = _Ready()
        self._is_clone = False

    def with_tenant(self, tenant: str) -> Self:
        """This store for another tenant, on the same connections; it need not be closed."""
        clone = copy.copy(self)
        clone.tenant = tenant_name(tenant)
        clone._is_clone = True
        clone._part()
        return clone

    def _part(self) -> None:
        """Give a clone what it cannot share."""

    def _prepare(self, plan: Plan, vectors: Vectors) -> Callable[[Facts], Batch]:
        """All of the batch that is not the database's; nothing in it belongs to the caller any more."""
        now = self._clock() if self._clock is not None else None
        values = self._values.of_tenant(self.tenant)
        writes = [encode_put(put, vectors, values) for put in plan.puts.values()]

        def batch(facts: Facts) -> Batch:
            statements = vector_statements(facts, self._wanted)
            return Batch(plan, writes, vectors, self.tenant, values, now, self._statements, statements, facts)

        return batch

    def _settings(self, facts: Facts) -> list[Call]:
        return [Call(_sql.SET_TENANT, (self.tenant,))] if facts.has_row_security else []

    def _reencrypt_script(self, after: tuple[bytes, bytes]) -> Script[tuple[int, tuple[bytes, bytes] | None]]:
        """One page of values brought to the current key: how many changed, and where the next page begins."""
        values = self._values.of_tenant(self.tenant)
        page = Call(self._statements.text(_sql.VALUES), (self.tenant, *after, REENCRYPTED_ROWS))
        [rows] = yield Flush([page], is_last=False)
        calls: list[Call] = []
        for ns, key, stored in rows:
            new = values.rekeyed(ns, key, stored)
            if new is not None:
                calls.append(Call(self._statements.text(_sql.REPLACE_VALUE), (self.tenant, ns, key, new, stored)))
        yield Flush(calls)
        return len(calls), (rows[-1][0], rows[-1][1]) if len(rows) == REENCRYPTED_ROWS else None

    def _sweep_script(self) -> Script[int]:
        now = self._clock() if self._clock is not None else None
        call = Call(self._statements.text(_sql.SWEEP), (self.tenant, now, SWEEP_ROWS))
        [[(count,)]] = yield Flush([call])
        return count


class ThreadedEngine(PostgresEngine):
    """On connections that any thread may use; async calls work in threads of the store's own."""

    _database: Database

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction; see `BaseStore.batch`."""
        plan = plan_batch(ops, self._index)
        vectors = self._index.embed(plan.texts()) if self._index else NO_VECTORS
        return self._run(self._prepare(plan, vectors))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in one transaction, in a thread of the store's own."""
        plan = plan_batch(ops, self._index)
        vectors = await self._index.aembed(plan.texts()) if self._index else NO_VECTORS
        return await self._database.run_in_thread(self._run, self._prepare(plan, vectors))

    def _run(self, prepared: Callable[[Facts], Batch]) -> list[Result]:
        facts = self._facts()
        batch, settings = prepared(facts), self._settings(facts)
        results = self._database.run(lambda: batch.run(in_transaction=False), settings)
        if results is None:
            results = self._database.run(lambda: batch.run(in_transaction=True), settings)
        assert results is not None, "a transaction answers every batch"
        return results

    def _facts(self) -> Facts:
        return self._ready.facts or self._setup()

    def _setup(self) -> Facts:
        steps = setting_up(self._wanted)
        try:
            script = next(steps)
            while True:
                try:
                    result = self._database.run(script)
                except StorageError as error:
                    script = steps.throw(error)
                else:
                    script = steps.send(result)
        except StopIteration as stop:
            facts = self._ready.facts = stop.value
            return facts

    def _sweep(self) -> int:
        settings, deleted = self._settings(self._facts()), 0
        while True:
            count = self._database.run(self._sweep_script, settings)
            deleted += count
            if count < SWEEP_ROWS:
                return deleted

    def _reencrypt(self) -> int:
        settings, changed, after = self._settings(self._facts()), 0, (b"", b"")
        while after is not None:
            count, after = self._database.run(partial(self._reencrypt_script, after), settings)
            changed += count
        return changed

    def _close(self) -> None:
        if not self._is_clone:
            self._database.close()
