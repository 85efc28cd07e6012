"""Lists of threads: which of them, in which order, and how they are found without reading all. No I/O.

Each order has an index, so that a page of it is read and nothing else. What a filter leaves out is read, too: so first
among the newest `WINDOW` threads only; if those are not enough, what the filters' own indexes find is looked at, where
that is little; and only then every thread. The last is for filters that fit many threads, none of them near the top.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from clew.storage.log import Place
from clew.storage.query import Query, Row, Steps, ask
from clew.storage.threads import Only, ThreadRow, read_row

WINDOW = 2000  # threads that are looked through, in order
FEW = 1000  # threads that are looked up one by one
PAGE, LATER_PAGE = 50, 2000  # rows that are looked through at a time where the database cannot decide alone
_EXACT = 2**53  # below it every database keeps numbers alike
_COLUMN = {"thread_id": (0,), "status": (2, 6, 0), "created_at": (4, 0), "updated_at": (5, 0)}
_RECENT = (6, 0)


class Sought(NamedTuple):
    """Which threads a search asks for. `user_id` None is everyone's, `archived` None both; `text` is looked for in
    titles, whatever their case; `ids` are those to choose from.

    `sort_by` is thread_id, status, created_at, updated_at or state_updated_at (None: the same). `before` is where the
    page before ended, of a list that begins with the recently active ones.
    """

    user_id: str | None
    archived: bool | None = False
    status: str | None = None
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    ids: Sequence[str] | None = None
    sort_by: str | None = None
    is_descending: bool = True
    limit: int = 20
    offset: int = 0
    before: tuple[int, str] | None = None
    only: Only | None = None


class _Asked(NamedTuple):
    """What of a search is asked of the database. `kind` names the order, and what it leaves out by itself."""

    tenant: str
    user_id: str | None
    status: str | None
    text: str | None
    metadata: str | None
    kind: str
    before: tuple[int, str] | tuple[()]

    @property
    def whose(self) -> str:
        return "everyones" if self.user_id is None else "mine"

    @property
    def is_filtered(self) -> bool:
        """Whether threads are left out that are in the index that gives the order."""
        is_of_status = self.status is None or "of_status" in self.kind
        return not is_of_status or self.text is not None or self.metadata is not None

    def query(self, form: str, archived: bool | None, limit: int, offset: int, more: Any = None) -> Query:
        """A page: of all ("page"), of the first `more` ("window"), or of those with the ids `more` ("chosen")."""
        name = f"thread_chosen_{self.kind}" if form == "chosen" else f"thread_{form}_{self.whose}_{self.kind}"
        both = None if archived is None else int(archived)
        filters = (self.status, self.text, self.metadata)
        return Query(name, (self.tenant, self.user_id, both, *filters, limit, offset, more, *self.before))

    def number(self, archived: bool | None, ids: str | None = None) -> Query:
        """How many there are, of all or of those with these ids."""
        params = (self.tenant, self.user_id, None if archived is None else int(archived), self.status)
        filters = (self.text, self.metadata)
        if ids is not None:
            return Query("thread_count_chosen", (*params, *filters, ids))
        if filters != (None, None):
            return Query(f"thread_count_filtered_{self.whose}", (*params, *filters))
        if self.status is not None:
            return Query(f"thread_count_of_status_{self.whose}", params)
        return Query(f"thread_count_{self.whose}", params[:3])


def search_threads(root: Place, sought: Sought) -> Steps[list[ThreadRow]]:
    """The threads that a search asks for."""
    asked = _asked(root, sought)
    if _is_checked(root, sought):
        return (yield from _looked_through(root, sought, asked))
    if sought.ids is not None:
        chosen = asked.query("chosen", sought.archived, sought.limit, sought.offset, json.dumps(list(sought.ids)))
        rows = yield from _last(chosen)
    elif sought.archived is not None and not asked.is_filtered:
        rows = yield from _last(asked.query("page", sought.archived, sought.limit, sought.offset))
    elif sought.archived is not None:
        rows = yield from _page(asked, sought.archived, sought.limit, sought.offset)
    else:
        end = sought.offset + sought.limit
        both = [*(yield from _page(asked, False, end, 0)), *(yield from _page(asked, True, end, 0))]
        rows = _in_order(both, sought)[sought.offset : end]
    return [read_row(root.of(fields[0]), fields) for fields in rows]


def _last(query: Query) -> Steps[list[Row]]:
    """A query after which nothing is asked: that needs no round trip of its own to end the transaction."""
    return (yield from ask(query, is_last=True))[0]


def count_sought(root: Place, sought: Sought) -> Steps[int]:
    """How many threads a search would find."""
    asked = _asked(root, sought)
    if _is_checked(root, sought):
        everything = sought._replace(limit=2**31, offset=0)
        return len((yield from _looked_through(root, everything, asked)))
    if sought.ids is not None:
        return (yield asked.number(sought.archived, json.dumps(list(sought.ids))))[0][0]
    if asked.text is not None or asked.metadata is not None:
        few = yield from _few(asked._replace(status=None))
        if few is not None:
            return (yield asked.number(sought.archived, json.dumps(few)))[0][0]
    both = (False, True) if sought.archived is None else (sought.archived,)
    counted = yield from ask(*map(asked.number, both), is_last=True)
    return sum(rows[0][0] for rows in counted)


def contains(held: Any, wanted: Any) -> bool:
    """Whether JSON data has what is wanted: of an object each key, recursively; of everything else the same value."""
    if isinstance(wanted, dict):
        parts = cast("dict[str, Any]", wanted)
        return isinstance(held, dict) and all(key in held and contains(held[key], parts[key]) for key in parts)
    if isinstance(wanted, bool) or isinstance(held, bool):
        return wanted is held
    return held == wanted


def _page(asked: _Asked, archived: bool, limit: int, offset: int) -> Steps[list[Row]]:
    """A page in order, by the shortest way that finds it."""
    if not asked.is_filtered:
        return (yield asked.query("page", archived, limit, offset))
    end = offset + limit
    near = yield asked.query("window", archived, end, 0, max(WINDOW, end))
    if len(near) == end:
        return near[offset:]
    few = yield from _few(asked)
    if few is None:
        return (yield asked.query("page", archived, limit, offset))
    return (yield asked.query("chosen", archived, limit, offset, json.dumps(few))) if few else []


def _few(asked: _Asked) -> Steps[list[str] | None]:
    """The threads that one of the filters leaves, if those are few; among them are all that are sought."""
    at_most = FEW + 1
    queries: list[Query] = []
    labels = None if asked.metadata is None else _plain(json.loads(asked.metadata))
    if labels:
        queries.append(Query("thread_labelled", (asked.tenant, json.dumps(labels), at_most)))
    if asked.text is not None:
        queries.append(Query(f"thread_titled_{asked.whose}", (asked.tenant, asked.user_id, asked.text, at_most)))
    if asked.status is not None and "of_status" not in asked.kind:
        queries.append(Query(f"thread_of_status_{asked.whose}", (asked.tenant, asked.user_id, asked.status, at_most)))
    for query in queries:
        rows = yield query
        if len(rows) < at_most:
            return [row[0] for row in rows]
    return None


def _looked_through(root: Place, sought: Sought, asked: _Asked) -> Steps[list[ThreadRow]]:
    """The same where the database cannot decide alone: what it leaves is read and looked at."""
    found: list[ThreadRow] = []
    end = sought.offset + sought.limit
    begin, size = 0, min(max(end, PAGE), LATER_PAGE)
    ids = sought.ids if sought.ids is not None or not asked.is_filtered else (yield from _few(asked))
    chosen = None if ids is None else json.dumps(list(ids))
    while len(found) < end:
        if chosen is not None:
            rows = yield asked.query("chosen", sought.archived, size, begin, chosen)
        elif sought.archived is not None:
            rows = yield asked.query("page", sought.archived, size, begin)
        else:
            rows = yield from _both(asked, sought, size, begin)
        found += _fitting(root, rows, sought)
        if len(rows) < size:
            break
        begin, size = begin + size, LATER_PAGE
        if asked.kind.startswith("recent") and chosen is None and sought.archived is not None:
            begin, asked = 0, _after(asked, rows[-1])
    return found[sought.offset : end]


def _both(asked: _Asked, sought: Sought, size: int, begin: int) -> Steps[list[Row]]:
    end = begin + size
    rows = [*(yield asked.query("page", False, end, 0)), *(yield asked.query("page", True, end, 0))]
    return _in_order(rows, sought)[begin:end]


def _after(asked: _Asked, last: Row) -> _Asked:
    """What is asked for the page that follows."""
    kind = asked.kind if asked.before else f"{asked.kind}_before"
    return asked._replace(kind=kind, before=(last[6], last[0]))


def _in_order(rows: Sequence[Row], sought: Sought) -> list[Row]:
    columns = _COLUMN.get(sought.sort_by or "", _RECENT)
    return sorted(rows, key=lambda row: [row[column] for column in columns], reverse=sought.is_descending)


def _asked(root: Place, sought: Sought) -> _Asked:
    """What of a search can be asked of the database."""
    is_sealed = root.vault.keys is not None
    text = None if is_sealed or not sought.text else sought.text.casefold()
    asked = {**(sought.metadata or {}), **({} if sought.only is None else sought.only.asked)}
    metadata = {} if is_sealed else _plain(asked)
    said = json.dumps(metadata) if metadata else None
    return _Asked(root.tenant, sought.user_id, sought.status, text, said, _kind(sought), sought.before or ())


def _kind(sought: Sought) -> str:
    """The name of an order; those of one status are in the order of their activity."""
    of_status = "_of_status" if sought.status is not None else ""
    by = sought.sort_by or "state_updated_at"
    if by == "state_updated_at" or (by == "status" and of_status):
        if not sought.is_descending:
            return f"oldest{of_status}"
        return f"recent{of_status}{'_before' if sought.before else ''}"
    return f"{by}_{'down' if sought.is_descending else 'up'}"


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a filter on metadata that every database understands alike."""
    return {key: value for key, value in metadata.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, int | float):
        return abs(value) < _EXACT
    return value is None or isinstance(value, str)


def _is_checked(root: Place, sought: Sought) -> bool:
    """Whether the database cannot decide alone what a search finds."""
    if sought.only is not None:
        return True
    if root.vault.keys is not None:
        return bool(sought.text) or bool(sought.metadata)
    return not all(map(_is_plain, (sought.metadata or {}).values()))


def _fitting(root: Place, rows: Sequence[Row], sought: Sought) -> Iterator[ThreadRow]:
    for fields in rows:
        row = read_row(root.of(fields[0]), fields)
        if sought.text and sought.text.casefold() not in (row.title or "").casefold():
            continue
        if sought.only is not None and not sought.only.fits(row.metadata):
            continue
        if contains(row.metadata, sought.metadata or {}):
            yield row
