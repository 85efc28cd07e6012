"""Where a service may listen, and the keys that an environment holds."""

from __future__ import annotations

import pytest

from clew.errors import UnsafeBindError
from clew.server.auth import api_keys_from_env, check_bindable


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_without_authentication_loopback_it_is(host: str) -> None:
    assert check_bindable(host, None) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.0.7", "example.org", "localhost.example.org", "127.0.0.1x"]
)
def test_without_authentication_nothing_else(host: str) -> None:
    assert check_bindable(host, {"key": "ada"}) is None
    with pytest.raises(UnsafeBindError, match="whoever reaches it owns everything") as caught:
        check_bindable(host, None)

    assert "CLEW_API_KEYS" in str(caught.value.hint)


def test_keys_of_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLEW_API_KEYS", raising=False)
    assert api_keys_from_env() is None

    monkeypatch.setenv("CLEW_API_KEYS", " k1:ada, k2:bob:with:colons ")
    assert api_keys_from_env() == {"k1": "ada", "k2": "bob:with:colons"}


@pytest.mark.parametrize("text", ["secret", "secret:", ":ada", "k:ada,,", "secret:ada,secret:bob"])
def test_keys_that_are_none_are_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CLEW_API_KEYS", text)

    with pytest.raises(ValueError) as caught:
        api_keys_from_env()

    assert "CLEW_API_KEYS" in str(caught.value)
    assert "secret" not in str(caught.value)
