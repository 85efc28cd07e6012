"""The tables and statements of the SQLite store.

`ns` is an encoded namespace (see `clew.store.base._namespace`), so that everything under a prefix is one range of it.
`key` is UTF-8 in a blob, as text in SQLite ends at a NUL. Times are seconds since 1970; `ttl` is minutes.
"""

from __future__ import annotations

from typing import Final

from clew.store._sqlite import Schema

SCHEMA: Final = Schema(
    begin="create table if not exists store_schema (version integer not null)",
    version="select max(version) from store_schema",
    record="insert into store_schema (version) values (?)",
    steps=(
        (
            """
            create table store_item (
                id          integer primary key,
                ns          blob not null,
                key         blob not null,
                value       blob not null,
                created_at  real not null,
                updated_at  real not null,
                ttl         real,
                expires_at  real,
                unique (ns, key)
            )
            """,
            "create index store_item_recent on store_item (ns, updated_at, expires_at)",
            "create index store_item_expiry on store_item (expires_at) where expires_at is not null",
            """
            create table store_vector (
                id      integer primary key,
                item    integer not null,
                vector  blob not null
            )
            """,
            "create index store_vector_item on store_vector (item)",
            # A vector never outlives the value it was made from, whichever program writes the value.
            """
            create trigger store_item_rewritten after update of value on store_item
            begin delete from store_vector where item = old.id; end
            """,
            """
            create trigger store_item_deleted after delete on store_item
            begin delete from store_vector where item = old.id; end
            """,
        ),
    ),
)

GET: Final = """
    select ns, key, value, created_at, updated_at, ttl
    from store_item
    where ns = ? and key = ? and (expires_at is null or expires_at > ?)
"""

GET_BY_ID: Final = """
    select ns, key, value, created_at, updated_at, ttl
    from store_item
    where id = ?
"""

PUT: Final = """
    insert into store_item (ns, key, value, created_at, updated_at, ttl, expires_at)
    values (?, ?, ?, ?, ?, ?, ?)
    on conflict (ns, key) do update set
        value = excluded.value, updated_at = excluded.updated_at, ttl = excluded.ttl, expires_at = excluded.expires_at
"""

PUT_WITH_VECTORS: Final = PUT + " returning id"

PUT_VECTOR: Final = "insert into store_vector (item, vector) values (?, ?)"

DELETE: Final = "delete from store_item where ns = ? and key = ?"

REFRESH: Final = "update store_item set expires_at = ? + ttl * 60 where ns = ? and key = ? and ttl is not null"

SWEEP: Final = """
    delete from store_item
    where id in (select id from store_item where expires_at <= ? limit ?)
"""

VALUES: Final = "select id, ns, key, value from store_item where id > ? order by id limit ?"

# Takes the item's vectors away, as every other value does.
REPLACE_VALUE: Final = "update store_item set value = ? where id = ?"

ALL_VECTORS_OF_ITEM: Final = "select vector from store_vector where item = ? order by id"

CHANGES: Final = "select changes()"

# The newest of a range come first; the inner query finds them in the index alone, without reading values.
RECENT: Final = """
    select ns, key, value, created_at, updated_at, ttl
    from store_item
    where id in (
        select id
        from store_item
        where ns >= :low and ns < :high and (expires_at is null or expires_at > :alive)
        order by updated_at desc, id desc
        limit :limit offset :offset
    )
    order by updated_at desc, id desc
"""

# One page of values to filter, the newest first, after the last row of the page before.
RECENT_VALUES: Final = """
    select id, ns, key, value, updated_at
    from store_item
    where id in (
        select id
        from store_item
        where ns >= :low and ns < :high
            and (expires_at is null or expires_at > :alive)
            and (updated_at, id) < (:updated_at, :id)
        order by updated_at desc, id desc
        limit :limit
    )
    order by updated_at desc, id desc
"""

VECTORS: Final = """
    select vector.item, vector.vector
    from store_item as item
    cross join store_vector as vector on vector.item = item.id
    where item.ns >= :low and item.ns < :high
        and (item.expires_at is null or item.expires_at > :alive)
        and length(vector.vector) = :size
"""

VECTORS_OF_ITEM: Final = "select vector from store_vector where item = ? and length(vector) = ?"

COSINE_SCORES: Final = """
    select vector.item, max(1 - vec_distance_cosine(vector.vector, :query)) as score
    from store_item as item
    cross join store_vector as vector on vector.item = item.id
    where item.ns >= :low and item.ns < :high
        and (item.expires_at is null or item.expires_at > :alive)
        and length(vector.vector) = :size
    group by vector.item
"""

L2_SCORES: Final = """
    select vector.item, max(-vec_distance_l2(vector.vector, :query)) as score
    from store_item as item
    cross join store_vector as vector on vector.item = item.id
    where item.ns >= :low and item.ns < :high
        and (item.expires_at is null or item.expires_at > :alive)
        and length(vector.vector) = :size
    group by vector.item
"""

# Goes from one namespace straight to the next in the index, however many items each holds.
NAMESPACES: Final = """
    with recursive namespace (ns) as (
        select min(ns) from store_item where ns >= :low and ns < :high
        union all
        select (select min(ns) from store_item where ns > namespace.ns and ns < :high)
        from namespace
        where namespace.ns is not null
    )
    select ns
    from namespace
    where ns is not null
        and exists (
            select 1
            from store_item
            where store_item.ns = namespace.ns and (expires_at is null or expires_at > :alive)
        )
"""
