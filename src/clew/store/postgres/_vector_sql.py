"""The statements for vectors, which name pgvector's types and operators by the schema that the extension is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from clew.storage.postgres.wire import Call
from clew.store.postgres._config import VectorIndex
from clew.store.postgres._sql import COLUMNS, OPCLASSES, OPERATORS, Statements

_FEWEST_CANDIDATES = 40  # the server's default
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

    def nearest(self, condition: str) -> str:
        """tenant, now, low, high, limit, vector, and the parameters of `condition`.

        The closest vectors first, found by the index where there is one and the server thinks it pays. A vector whose
        item does not meet the condition gives a row too, without the item; the last column says how many vectors there
        are, counted up to the limit, and is there even if no vector is.
        """
        return self.statements.text(f"""
            select {COLUMNS}, near.distance, vectors.count
            from (select count(*) from (select from {{vector}} as v where {self._place} limit $5::bigint) as first)
                as vectors
            left join (
                select v.ns, v.key, v.version, {self._distance} as distance
                from {{vector}} as v
                where {self._place}
                order by {self._distance}
                limit $5::bigint
            ) as near on true
            left join {{item}} as i on i.tenant = $1::text and i.ns = near.ns and i.key = near.key
                and i.version = near.version {{alive}} and {condition} {self.statements.uses_now()}
            order by near.distance, near.ns, near.key
        """)

    def search(self, condition: str) -> str:
        """tenant, now, low, high, limit, vector, and the parameters of `condition`.

        The closest vectors of the items that meet the condition, all of which are looked at: no index can give the
        order of a sum.
        """
        return self.statements.text(f"""
            select {COLUMNS}, i.distance
            from (
                select i.*, {self._distance} as distance
                from {{vector}} as v
                join {{item}} as i on i.tenant = v.tenant and i.ns = v.ns and i.key = v.key and i.version = v.version
                where {self._place} {{alive}} and {condition} {self.statements.uses_now()}
                order by ({self._distance}) + 0.0, v.ns, v.key
                limit $5::bigint
            ) as i
        """)

    @property
    def _place(self) -> str:
        return f"v.tenant = $1::text and v.ns >= $3::bytea and v.ns < $4::bytea and v.dims = {self.index.dims}"

    @property
    def _distance(self) -> str:
        operator = f"operator({self.extension}.{OPERATORS[self.index.metric]})"
        return f"(v.{self._indexed}) {operator} $6::text::{self._type}({self.index.dims})"

    def settings(self, count: int) -> list[Call]:
        """What is set for the transaction of a search for `count` vectors.

        A plan that is made once for all searches cannot know how many vectors there are in a namespace.
        """
        told = [("plan_cache_mode", "force_custom_plan")]
        if self.scans_on and self.index.kind == "ivfflat":
            told.append(("ivfflat.iterative_scan", "relaxed_order"))
        elif self.scans_on and self.index.kind == "hnsw":
            candidates = str(max(_FEWEST_CANDIDATES, min(count, _MOST_CANDIDATES)))
            told += [("hnsw.iterative_scan", "strict_order"), ("hnsw.ef_search", candidates)]
        parts = ", ".join(f"set_config('{name}', ${place}::text, true)" for place, (name, _) in enumerate(told, 1))
        return [Call(f"select {parts}", tuple(value for _, value in told))]
