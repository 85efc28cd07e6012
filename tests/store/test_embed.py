"""Paths into values, and what may serve as an embedding model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.store.base import get_text_at_path as reference_texts
from langgraph.store.base import tokenize_path as reference_tokens

from clew.store.base import StoreConfigError, ensure_embeddings, get_text_at_path, tokenize_path

VALUE = {
    "title": "T",
    "n": 3,
    "yes": True,
    "none": None,
    "meta": {"author": "A", "tags": ["x", "y"]},
    "parts": [{"text": "p0"}, {"text": "p1", "more": [{"t": 1}]}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("path", "tokens", "texts"),
    [
        ("title", ["title"], ["T"]),
        ("n", ["n"], ["3"]),
        ("yes", ["yes"], ["True"]),
        ("none", ["none"], []),
        ("missing.deep", ["missing", "deep"], []),
        ("meta.author", ["meta", "author"], ["A"]),
        ("meta.tags", ["meta", "tags"], ['["x", "y"]']),
        ("meta.tags[*]", ["meta", "tags", "[*]"], ["x", "y"]),
        ("meta.tags[-1]", ["meta", "tags", "[-1]"], ["y"]),
        ("meta.tags[5]", ["meta", "tags", "[5]"], []),
        ("meta.tags[-5]", ["meta", "tags", "[-5]"], []),
        ("meta.tags[x]", ["meta", "tags", "[x]"], []),
        ("parts[*].text", ["parts", "[*]", "text"], ["p0", "p1"]),
        ("parts[1].more[0].t", ["parts", "[1]", "more", "[0]", "t"], ["1"]),
        ("meta.*", ["meta", "*"], ["A", '["x", "y"]']),
        ("{title,meta.author,none}", ["{title,meta.author,none}"], ["T", "A"]),
    ],
)
def test_path_leads_to_texts(path: str, tokens: list[str], texts: list[str]) -> None:
    assert tokenize_path(path) == tokens
    assert get_text_at_path(VALUE, path) == texts
    assert get_text_at_path(MappingProxyType(VALUE), tokens) == texts


def test_whole_value_is_json_with_sorted_keys() -> None:
    assert get_text_at_path({"b": "é", "a": [1]}, "$") == ['{"a": [1], "b": "é"}']
    assert get_text_at_path({"b": 1}, "") == ['{"b": 1}']


@given(JSON, st.text("ab.[]{}*,0-1$", max_size=8))
def test_texts_are_those_that_langgraph_finds(value: Any, path: str) -> None:
    assert tokenize_path(path) == reference_tokens(path)
    assert get_text_at_path(value, path) == reference_texts(value, path)


def vectors(texts: Sequence[str]) -> list[list[float]]:
    return [[float(len(text))] for text in texts]


async def async_vectors(texts: Sequence[str]) -> list[list[float]]:
    return vectors(texts)


class AsyncModel:
    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        return vectors(texts)


class SyncMethods:
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return vectors(texts)

    def embed_query(self, text: str) -> list[float]:
        return [-1.0]


@pytest.mark.parametrize("embed", [vectors, async_vectors, AsyncModel()])
def test_any_function_serves_async_calls(embed: Any) -> None:
    embeddings = ensure_embeddings(embed)

    assert asyncio.run(embeddings.aembed_documents(["a", "bb"])) == [[1.0], [2.0]]
    assert asyncio.run(embeddings.aembed_query("ccc")) == [3.0]


def test_plain_function_serves_sync_calls_and_an_async_one_says_it_cannot() -> None:
    assert ensure_embeddings(vectors).embed_query("ccc") == [3.0]

    with pytest.raises(StoreConfigError, match="the embedding function is async and cannot serve a sync call") as info:
        ensure_embeddings(async_vectors).embed_documents(["a"])
    assert info.value.hint == "use aput, asearch and abatch, or give the store a plain function"
    assert isinstance(info.value, ValueError)


def test_object_with_the_sync_methods_only_serves_both() -> None:
    embeddings = ensure_embeddings(SyncMethods())  # pyright: ignore[reportArgumentType]

    assert embeddings.embed_query("a") == [-1.0]
    assert asyncio.run(embeddings.aembed_query("a")) == [-1.0]
    assert asyncio.run(embeddings.aembed_documents(["a"])) == [[1.0]]


def test_langchain_embeddings_are_taken_as_they_are() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    model = DeterministicFakeEmbedding(size=3)

    assert ensure_embeddings(model) is model


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        (None, "an index has no embedding function"),
        (3, "an embedding function is of type int"),
        ("no-provider:x", "the embedding model 'no-provider:x' is given by name, and langchain is not installed"),
    ],
)
def test_unusable_model_is_refused(embed: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "langchain.embeddings", None)

    with pytest.raises(StoreConfigError) as info:
        ensure_embeddings(embed)

    assert str(info.value) == message
    assert info.value.hint


def test_mapping_that_is_not_a_dict_is_read_as_one() -> None:
    value: Mapping[str, Any] = MappingProxyType({"a": "x"})

    assert get_text_at_path(value, "a") == ["x"]
