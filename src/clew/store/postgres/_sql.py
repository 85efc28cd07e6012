"""The tables and statements of the PostgreSQL store.

`ns` is an encoded namespace (see `clew.store.base._namespace`): every label ends with NUL, which no label holds, so
that labels are never joined and everything under a prefix is one range of the primary key. `key` is UTF-8 in bytes, as
texts on the server hold neither NUL nor lone surrogates. `ttl` is minutes. `fields` is what the server may see of
`value`; it is null where it may see nothing. `version` is drawn anew by every put: a vector counts for the value of its
version.

`{now}` in a statement is the database's clock, unless the store was given another one: then the parameter says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from clew.store.base._vector import Metric

NOW: Final = "coalesce(to_timestamp($2::float8), now())"
OPERATORS: Final[dict[Metric, str]] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
OPCLASSES: Final[dict[Metric, str]] = {"cosine": "cosine_ops", "l2": "l2_ops", "inner_product": "ip_ops"}

COLUMNS: Final = """i.ns, i.key, i.value, extract(epoch from i.created_at)::float8,
        extract(epoch from i.updated_at)::float8, i.ttl"""
_EXPIRY: Final = "{now} + least(ttl, 1e10) * interval '1 minute'"  # no further than the server's calendar goes

ITEM_TABLE: Final = (
    """
    create table {item} (
        tenant      text collate "C" not null,
        ns          bytea not null,
        key         bytea not null,
        value       bytea not null,
        fields      jsonb,
        version     bigint not null,
        created_at  timestamptz not null,
        updated_at  timestamptz not null,
        ttl         float8,
        expires_at  timestamptz,
        primary key (tenant, ns, key)
    )
    """,
    "alter table {item} alter column value set storage external",  # compressed by the client
    "create index clew_store_item_expiry on {item} (tenant, expires_at) where expires_at is not null",
    "create index clew_store_item_recent on {item} (tenant, ns, updated_at, key)",
)

VECTOR_TABLE: Final = (
    """
    create table {vector} (
        tenant   text collate "C" not null,
        ns       bytea not null,
        key      bytea not null,
        field    bytea not null,
        version  bigint not null,
        dims     integer not null,
        single   {extension}.vector,
        half     {half_type},
        primary key (tenant, ns, key, field),
        foreign key (tenant, ns, key) references {item} (tenant, ns, key) on delete cascade
    )
    """,
)

SCHEMA_TABLE: Final = """
    create table if not exists {versions} (
        part     text not null,
        version  integer not null,
        phase    text not null,
        done_at  timestamptz not null default now(),
        primary key (part, version)
    )
"""

# One policy per table: a row is there for the tenant that its transaction has named, and for nobody else.
ROW_SECURITY: Final = (
    "alter table {table} enable row level security",
    "alter table {table} force row level security",
    "drop policy if exists clew_tenant on {table}",
    """
    create policy clew_tenant on {table}
        using (tenant = current_setting('clew.tenant', true))
        with check (tenant = current_setting('clew.tenant', true))
    """,
)

LOCK: Final = "select pg_advisory_xact_lock($1::bigint)"
SET_TENANT: Final = "select set_config('clew.tenant', $1::text, true)"

FACTS: Final = """
    select
        to_regclass($1::text) is not null,
        current_setting('server_encoding') = 'UTF8',
        coalesce((select relrowsecurity from pg_class where oid = to_regclass($2::text)), false),
        to_regclass($3::text) is not null,
        to_regclass($4::text) is not null,
        (select extversion from pg_extension where extname = 'vector'),
        (select quote_ident(nspname)
            from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
            where extname = 'vector'),
        exists (select 1 from pg_available_extensions where name = 'vector'),
        exists (select 1 from pg_namespace where nspname = $5::text)
"""
VERSIONS: Final = "select part, version, phase from {versions}"
RECORD: Final = """
    insert into {versions} (part, version, phase) values ($1::text, $2::integer, $3::text)
    on conflict (part, version) do nothing
"""


# tenant, now, rows. Rows that another replica is sweeping, or that are just being used, are left alone.
VALUES: Final = """
    select ns, key, value from {item} where tenant = $1 and (ns, key) > ($2::bytea, $3::bytea) order by ns, key limit $4
"""

# What the server could see of a value goes, too. The version stays: the vectors are still those of the value.
REPLACE_VALUE: Final = """
    update {item} set value = $4, fields = null where tenant = $1 and ns = $2 and key = $3 and value = $5
"""

SWEEP: Final = """
    with expired as (
        select ns, key from {item}
        where tenant = $1::text and expires_at <= {now}
        order by expires_at limit $3::bigint
        for update skip locked
    ), gone as (
        delete from {item} as i using expired
        where i.tenant = $1::text and i.ns = expired.ns and i.key = expired.key
        returning 1
    )
    select count(*) from gone
"""


@dataclass(frozen=True)
class Statements:
    """The statements of a store on the tables of one schema; `schema` is a quoted name and a period, or empty."""

    schema: str
    omits_expired: bool

    def text(self, sql: str) -> str:
        """A statement with its tables named. Only names that were made and quoted here are put into it."""
        alive = "and (i.expires_at is null or i.expires_at > {now})" if self.omits_expired else ""
        return (
            sql.replace("{alive}", alive)
            .replace("{now}", NOW)
            .replace("{item}", f"{self.schema}clew_store_item")
            .replace("{vector}", f"{self.schema}clew_store_vector")
            .replace("{versions}", f"{self.schema}clew_store_schema")
        )

    @cached_property
    def get(self) -> str:
        """tenant, now, ns, key."""
        return self.text(
            f"select {COLUMNS} from {{item}} as i"
            " where i.tenant = $1::text and i.ns = $3::bytea and i.key = $4::bytea {alive}" + self.uses_now()
        )

    @cached_property
    def get_many(self) -> str:
        """tenant, now, [ns], [key]."""
        return self.text(
            f"select {COLUMNS} from unnest($3::bytea[], $4::bytea[]) as place (ns, key)"
            " join {item} as i on i.tenant = $1::text and i.ns = place.ns and i.key = place.key"
            " where true {alive}" + self.uses_now()
        )

    @cached_property
    def put(self) -> str:
        """tenant, now, [ns], [key], [value], [fields], [version], [ttl]; the lists of numbers as array literals."""
        return self.text(f"""
            insert into {{item}} (tenant, ns, key, value, fields, version, created_at, updated_at, ttl, expires_at)
            select $1::text, ns, key, value, convert_from(nullif(fields, ''::bytea), 'UTF8')::jsonb, version,
                {{now}}, {{now}}, ttl, {_EXPIRY}
            from unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text::bigint[], $8::text::float8[])
                as put (ns, key, value, fields, version, ttl)
            on conflict (tenant, ns, key) do update set
                value = excluded.value, fields = excluded.fields, version = excluded.version,
                updated_at = excluded.updated_at, ttl = excluded.ttl, expires_at = excluded.expires_at
        """)

    @cached_property
    def delete(self) -> str:
        """tenant, [ns], [key]."""
        return self.text("""
            delete from {item} as i using unnest($2::bytea[], $3::bytea[]) as place (ns, key)
            where i.tenant = $1::text and i.ns = place.ns and i.key = place.key
        """)

    @cached_property
    def delete_vectors(self) -> str:
        """tenant, [ns], [key]."""
        return self.text("""
            delete from {vector} as v using unnest($2::bytea[], $3::bytea[]) as place (ns, key)
            where v.tenant = $1::text and v.ns = place.ns and v.key = place.key
        """)

    @cached_property
    def refresh(self) -> str:
        """tenant, now, [ns], [key]. A row that somebody else is just writing is left alone: it will be newer anyway."""
        return self.text(f"""
            update {{item}} as i set expires_at = {_EXPIRY}
            from (
                select i.ns, i.key from unnest($3::bytea[], $4::bytea[]) as place (ns, key)
                join {{item}} as i on i.tenant = $1::text and i.ns = place.ns and i.key = place.key
                where i.ttl is not null {{alive}}
                for update of i skip locked
            ) as found
            where i.tenant = $1::text and i.ns = found.ns and i.key = found.key
        """)

    def recent(self, condition: str) -> str:
        """tenant, now, low, high, limit, offset, their sum, and the parameters of `condition`.

        The items of the namespace itself come in the order of an index, so that those that are wanted are enough; those
        of the namespaces under it are sorted. What is given of a row is worked out at the end only.
        """
        return self.text(f"""
            select {COLUMNS}
            from (
                select * from (
                    (
                        select i.ns, i.key, i.value, i.created_at, i.updated_at, i.ttl from {{item}} as i
                        where i.tenant = $1::text and i.ns = $3::bytea {{alive}} and {condition} {self.uses_now()}
                        order by i.updated_at desc, i.key desc
                        limit $7::bigint
                    )
                    union all
                    (
                        select i.ns, i.key, i.value, i.created_at, i.updated_at, i.ttl from {{item}} as i
                        where i.tenant = $1::text and i.ns > $3::bytea and i.ns < $4::bytea {{alive}} and {condition}
                        order by i.updated_at desc, i.ns desc, i.key desc
                        limit $7::bigint
                    )
                ) as i
                order by i.updated_at desc, i.ns desc, i.key desc
                limit $5::bigint offset $6::bigint
            ) as i
        """)

    @cached_property
    def namespaces(self) -> str:
        """tenant, now, low, high. Goes from one namespace straight to the next in the index."""
        some_alive = """
            and exists (select 1 from {item} as i where i.tenant = $1::text and i.ns = namespace.ns {alive})
        """
        return self.text(f"""
            with recursive namespace (ns) as (
                (
                    select ns from {{item}}
                    where tenant = $1::text and ns >= $3::bytea and ns < $4::bytea
                    order by ns limit 1
                )
                union all
                select (
                    select i.ns from {{item}} as i
                    where i.tenant = $1::text and i.ns > namespace.ns and i.ns < $4::bytea
                    order by i.ns limit 1
                )
                from namespace where namespace.ns is not null
            )
            select ns from namespace
            where ns is not null {some_alive if self.omits_expired else self.uses_now()}
        """)

    def uses_now(self) -> str:
        """Names the parameter of the clock where nothing else does: a parameter that is not named has no type."""
        return "" if self.omits_expired else " and ($2::float8 is null or true)"
