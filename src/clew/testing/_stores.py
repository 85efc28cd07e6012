"""The checks of stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from clew.errors import SerializationError
from clew.store.base import GetOp, InvalidNamespaceError, InvalidOpError, PutOp, SearchOp
from clew.testing._kit import Conformance, equal, holds, needs, refused
from clew.testing._values import STANDARD, Unknown, differing, is_same

_SENSELESS: tuple[Any, ...] = (
    {"n": {"$regex": "x"}},
    {"$where": "1"},
    {"n": {"$gt": 1, "m": 2}},
    {"$or": []},
    {"n": {"$in": 1}},
    {1: 1},
)


class AsyncFace:
    """The blocking names of a store's methods, answered by their async twins, each on an event loop of its own."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, f"a{name}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))


class StoreConformance(Conformance):
    """What a store promises: `clew.store.base.BaseStore`.

    Implement `opener` (or `open`), and say what the store cannot do. Every check has a storage of its own.
    """

    refuses_unknown_types = True
    """Whether a put of a value that has a part of a type nobody registered is refused."""

    def faces(self) -> list[Any]:
        """Both ways to call the store; each check uses a namespace of its own for each."""
        return [self.subject, AsyncFace(self.subject)]

    def test_items_are_put_got_replaced_and_deleted(self) -> None:
        for number, store in enumerate(self.faces()):
            place = (f"face {number}", "a")
            equal(store.get(place, "k"), None, "an item that there is not")
            store.put(place, "k", {"n": 1})
            first = store.get(place, "k")
            equal((first.namespace, first.key, first.value), (place, "k", {"n": 1}), "what was put")
            store.put(place, "k", {"m": 2})
            second = store.get(place, "k")
            equal(second.value, {"m": 2}, "a put replaces the whole value")
            equal(second.created_at, first.created_at, "created_at stays")
            holds(second.updated_at >= first.updated_at, "updated_at moves on")
            store.put(place, "other", {})
            store.delete(place, "k")
            store.delete(place, "k")
            equal(store.get(place, "k"), None, "a deleted item")
            equal([item.key for item in store.search(place)], ["other"], "and its neighbour")
            store.put(place, "k", {"again": 1})
            equal(store.get(place, "k").value, {"again": 1}, "an item that is put again")

    def test_standard_values_come_back_exactly(self) -> None:
        for number, store in enumerate(self.faces()):
            store.put((f"face {number}",), "k", dict(STANDARD))
            equal(differing(store.get((f"face {number}",), "k").value, STANDARD), [], "values that changed")
            equal(differing(store.search((f"face {number}",))[0].value, STANDARD), [], "values that a search changed")

    def test_what_a_caller_holds_is_its_own(self) -> None:
        for number, store in enumerate(self.faces()):
            place, value = (f"face {number}",), {"deep": [1]}
            store.put(place, "k", value)
            value["deep"].append(2)
            store.get(place, "k").value["deep"].append(3)
            store.search(place)[0].value["deep"].append(4)
            equal(store.get(place, "k").value, {"deep": [1]}, "the stored value")

    @needs("refuses_unknown_types")
    def test_values_of_unknown_types_are_refused_and_what_was_there_stays(self) -> None:
        for number, store in enumerate(self.faces()):
            place = (f"face {number}",)
            store.put(place, "k", {"n": 1})
            with refused(SerializationError, "a put of a value of an unknown type"):
                store.batch([PutOp(place, "other", {"n": 2}), PutOp(place, "k", {"thing": [Unknown()]})])
            equal([(item.key, item.value) for item in store.search(place)], [("k", {"n": 1})], "the stored items")

    def test_namespaces_are_segments(self) -> None:
        inside = [("acme",), ("acme", "east"), ("acme", "east", "1")]
        outside = [
            ("acme-corp",),
            ("acm",),
            ("ACME",),
            ("acme ",),
            ("other", "acme"),
            ("acm%",),
            ("acm_",),
            ("acm\u00e9",),
        ]
        for store in self.faces():
            for place in (*inside, *outside):
                store.put(place, "k", {"place": list(place)})
            found = sorted(item.namespace for item in store.search(("acme",), limit=100))
            equal(found, inside, "a namespace and what lies below it")
            equal(store.list_namespaces(prefix=("acme",)), inside, "its list")
            for wild in ("%", "_", "acm%", "acm_", "*", "?", "acme%", "[a-z]"):
                below = [item.namespace[0] for item in store.search((wild,), limit=100)]
                equal(below, [wild] * len(below), f"what {wild!r} finds stands below it: it is no pattern")
            for place in (*inside, *outside):
                equal(store.get(place, "k").value, {"place": list(place)}, "each item under its own namespace")

    def test_labels_are_never_joined(self) -> None:
        places = [
            ("ab", "c"),
            ("a", "bc"),
            ("abc",),
            ("a", "b", "c"),
            ("a,b", "c"),
            ("a", "b,c"),
            ("a/b",),
            ("a:b", "c"),
        ]
        places += [("\u00e9",), ("e\u0301",), ("'; drop table x --",), ('"',), ("\\", "x"), ("{a}",), ("NULL",)]
        for store in self.faces():
            for number, place in enumerate(places):
                store.put(place, "k", {"n": number})
            found = [store.get(place, "k").value["n"] for place in places]
            equal(found, list(range(len(places))), "every namespace has an item of its own")
            equal(store.list_namespaces(limit=100), sorted(places), "and all are listed, sorted")

    def test_bad_namespaces_are_refused_by_name(self) -> None:
        for store in self.faces():
            for bad in ((), ("a.b", "c"), ("a", ""), ("a", "b\x00c"), ("a", 1), "users", ("langgraph",), ("clew", "x")):
                with refused(InvalidNamespaceError, f"a put into namespace {bad!r}"):
                    store.put(bad, "k", {})
            equal(store.list_namespaces(), [], "nothing was stored")

    def test_keys_are_only_data(self) -> None:
        keys = ["", " ", "a\x00b", "\ud800", "\u00e9", "e\u0301", "K", "k", "'; drop table x --", "%", "x" * 10_000]
        for number, store in enumerate(self.faces()):
            place = (f"face {number}",)
            for index, key in enumerate(keys):
                store.put(place, key, {"n": index})
            equal([store.get(place, key).value["n"] for key in keys], list(range(len(keys))), "an item for every key")
            equal(sorted(item.key for item in store.search(place, limit=100)), sorted(keys), "and all are found")

    def test_filters_compare_as_they_say(self) -> None:
        items: dict[str, dict[str, Any]] = {
            "a": {"n": 1, "s": "x", "deep": {"m": 1}},
            "b": {"n": 2, "s": "y", "deep": {"m": 2}},
            "c": {"n": 3, "tags": ["x"]},
            "d": {"other": None, "a.b": 1, "$x": 1, "n') or 1=1 --": 1},
        }
        cases: list[tuple[dict[str, Any], str]] = [
            ({"n": 2}, "b"),
            ({"n": {"$eq": 2}}, "b"),
            ({"n": {"$ne": 2}}, "ac"),
            ({"n": {"$gt": 1, "$lte": 3}}, "bc"),
            ({"n": {"$gte": 2}}, "bc"),
            ({"n": {"$lt": 2}}, "a"),
            ({"n": {"$in": [1, 3]}}, "ac"),
            ({"n": {"$exists": False}}, "d"),
            ({"s": "x", "n": 1}, "a"),
            ({"s": "x", "n": 2}, ""),
            ({"deep": {"m": 2}}, "b"),
            ({"$or": [{"n": 1}, {"s": "y"}]}, "ab"),
            ({"$not": {"n": 1}}, "bcd"),
            ({"n') or 1=1 --": 2}, ""),
            ({"n": "' or '1'='1"}, ""),
            ({"n": True}, ""),
        ]
        for number, store in enumerate(self.faces()):
            place = (f"face {number}",)
            for key, value in items.items():
                store.put(place, key, value)
            for filter, expected in cases:
                keys = "".join(sorted(item.key for item in store.search(place, filter=filter, limit=100)))
                equal(keys, expected, f"what the filter {filter} finds")

    def test_operations_that_make_no_sense_are_refused(self) -> None:
        for store in self.faces():
            for filter in _SENSELESS:
                with refused(InvalidOpError, f"the filter {filter}"):
                    store.search(("a",), filter=filter)
            for count in ("1; drop table x", "5", 1.5, -1, True, None, 2**63):
                with refused(InvalidOpError, f"the limit {count!r}"):
                    store.search(("a",), limit=count)
                with refused(InvalidOpError, f"the offset {count!r}"):
                    store.list_namespaces(offset=count)

    def test_pages_fit_together(self) -> None:
        for number, store in enumerate(self.faces()):
            for index in range(30):
                store.put((f"face {number}", str(index % 3)), f"{index:02}", {"n": index})
            place, filter = (f"face {number}",), {"n": {"$gte": 10}}
            whole = [item.key for item in store.search(place, filter=filter, limit=100)]
            pages = [store.search(place, filter=filter, limit=4, offset=offset) for offset in range(0, 24, 4)]
            equal(len(whole), 20, "items that the filter accepts")
            equal([item.key for page in pages for item in page], whole, "the pages, one after another")
            equal(store.search(place, limit=0), [], "at most none")
            spaces = store.list_namespaces(prefix=place)
            equal(store.list_namespaces(prefix=place, limit=2, offset=1), spaces[1:3], "pages of namespaces")
            equal(store.list_namespaces(prefix=place, max_depth=1), [place], "namespaces cut to a depth")

    def test_reads_of_a_batch_see_what_was_before_and_the_last_put_wins(self) -> None:
        for number, store in enumerate(self.faces()):
            place = (f"face {number}",)
            store.put(place, "k", {"n": 0})
            ops = [
                PutOp(place, "k", {"n": 1}),
                GetOp(place, "k"),
                PutOp(place, "k", {"n": 2}),
                SearchOp(place),
                PutOp(place, "new", {}),
            ]
            _, got, _, found, _ = store.batch(ops)
            equal((got.value, [item.value for item in found]), ({"n": 0}, [{"n": 0}]), "reads of a batch")
            equal(store.get(place, "k").value, {"n": 2}, "the last put of an item")
            with refused(InvalidNamespaceError, "a batch with an operation that is refused"):
                store.batch([PutOp(place, "k", {"n": 9}), PutOp(("a.b",), "k", {})])
            equal(store.get(place, "k").value, {"n": 2}, "nothing of a refused batch is done")

    def test_callers_at_once_lose_nothing(self) -> None:
        store, callers = self.subject, 6
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for index in range(20):
                    store.put(("all", str(number)), str(index), {"n": index})
                    store.put(("all",), "same", {"who": number, "again": number})
                    same = store.get(("all",), "same").value
                    equal(same["who"], same["again"], "an item is never half of two puts")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)

        for error in errors:
            raise error
        equal(len(store.search(("all",), limit=1000)), callers * 20 + 1, "items of all callers")

        async def many() -> None:
            await asyncio.gather(*(store.aput(("loop",), str(index), {"n": index}) for index in range(50)))

        for _ in range(2):  # each time a new event loop
            asyncio.run(many())
        equal(len(store.search(("loop",), limit=1000)), 50, "items put by tasks of event loops")

    @needs("is_durable")
    def test_items_are_there_when_it_is_opened_again(self) -> None:
        with self.open() as store:
            store.put(("a",), "k", dict(STANDARD))
        with self.open() as store:
            item = store.get(("a",), "k")
            holds(item is not None and is_same(item.value, STANDARD), "the value that was put before it was closed")

    @needs("is_durable")
    def test_puts_that_returned_survive_a_kill(self) -> None:
        with self.open() as store:
            store.list_namespaces()  # sets the storage up
        child = self.child("put")
        assert child.stdout is not None
        with child:
            said = [child.stdout.readline() for _ in range(20)]
            child.kill()
            said += child.stdout.readlines()
        acknowledged = max(int(line.split()[1]) for line in said if line.endswith("\n"))

        with self.open() as store:
            keys = sorted(item.key for item in store.search(("a",), limit=1_000_000))
        holds(len(keys) in (acknowledged + 1, acknowledged + 2), f"{len(keys)} items, {acknowledged + 1} acknowledged")
        equal(keys, [f"{number:06}" for number in range(len(keys))], "a prefix without a hole")
