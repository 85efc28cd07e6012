"""The statements for vectors, which name pgvector's types and operators by the schema that the extension is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from clew.storage.postgres.wire import Call
from clew.store.postgres._config import VectorIndex
from clew.store.postgres._sql import COLUMNS, OPCLASSES, OPERATORS, Statements

_MOST_CANDIDATES = 1000  # that pgvector keeps in mind for one scan of a graph


@dataclass(frozen=True)
class VectorStatements:
    """The statements of one index; `extension` is the quoted schema of pgvector."""

    statements: Statements
    index: VectorIndex
    extension: str
    scans_on: bool
    """Whether this pgvector (0.8 or later) goes on scanning an index until enough rows have passed the conditions."""

    @property
    def _type(self) -> str:
        return f"{self.extension}.{self.index.vector_type}"

    @property
    def _column(self) -> str:
        return "half" if self.index.vector_type == "halfvec" else "single"

    @property
    def _indexed(self) -> str:
        return f"{self._column}::{self._type}({self.index.dims})"

    @cached_property
    def create_index(self) -> str:
        """Makes the index, which holds the vectors of its own length only."""
        index = self.index
        settings = ", ".join(f"{name} = {value}" for name, value in index.parameters)
        return self.statements.text(f"""
            create index if not exists {index.name} on {{vector}}
            using {index.kind} (({self._indexed}) {self.extension}.{index.vector_type}_{OPCLASSES[index.metric]})
            {f"with ({settings})" if settings else ""} where dims = {index.dims}
        """)

    @cached_property
    def put(self) -> str:
        """tenant, [ns], [key], [field], [version], [vector]; the versions as one array literal, vectors as ASCII."""
        return self.statements.text(f"""
            insert into {{vector}} (tenant, ns, key, field, version, dims, {self._column})
            select $1::text, ns, key, field, version, {self.index.dims}, convert_from(vector, 'UTF8')::{self._type}
            from unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::text::bigint[], $6::bytea[])
                as put (ns, key, field, version, vector)
        """)

    def search(self, condition: str) -> str:
        """tenant, now, low, high, limit, vector, and the parameters of `condition`.

        The order is by the operator on the indexed expression, so that an index can give it.
        """
        operator = f"operator({self.extension}.{OPERATORS[self.index.metric]})"
        distance = f"(v.{self._indexed}) {operator} $6::text::{self._type}({self.index.dims})"
        return self.statements.text(f"""
            select {COLUMNS}, {distance}
            from {{vector}} as v
            join {{item}} as i on i.tenant = v.tenant and i.ns = v.ns and i.key = v.key and i.version = v.version
            where v.tenant = $1::text and v.ns >= $3::bytea and v.ns < $4::bytea and v.dims = {self.index.dims}
                {{alive}} and {condition} {self.statements.uses_now()}
            order by {distance}, v.ns, v.key
            limit $5::bigint
        """)

    def settings(self, count: int) -> list[Call]:
        """What is set for the transaction of a search for `count` vectors."""
        if not self.scans_on or self.index.kind == "flat":
            return []
        if self.index.kind == "ivfflat":
            return [Call("select set_config('ivfflat.iterative_scan', 'relaxed_order', true)")]
        candidates = str(max(40, min(count, _MOST_CANDIDATES)))
        return [
            Call(
                "select set_config('hnsw.iterative_scan', 'strict_order', true),"
                " set_config('hnsw.ef_search', $1::text, true)",
                (candidates,),
            )
        ]
