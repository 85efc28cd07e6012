"""Where webhooks may go: what a URL says already, and what its host turns out to be."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from clew.server.errors import ApiError
from clew.server.webhooks import RefusedError, WebhookSettings, check_url, resolve, with_variables

DEFAULT = WebhookSettings()


@pytest.mark.parametrize(
    "url",
    ["https://example.com/hook?x=1", "http://example.com:8080", "https://8.8.8.8/", "https://[2606:4700::1111]/",
     "https://[64:ff9b::808:808]/"],
)  # fmt: skip
def test_public_ones_are_let_pass(url: str) -> None:
    assert check_url(url, DEFAULT).scheme in ("http", "https")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "LOCALHOST.", "api.localhost",
     "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1",
     "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fe80::1%25eth0]",
     "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[fec0::1]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]",
     "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::8.8.8.8]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]",
     "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
     "[2001:db8::1]", "[100::1]"],
)  # fmt: skip
def test_what_is_not_public_is_refused_when_a_run_is_made(host: str) -> None:
    with pytest.raises(ApiError, match=r"webhook: host .* is not a public one") as caught:
        check_url(f"http://{host}/latest/meta-data", DEFAULT)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("/hook", "a relative URL"),
        ("ftp://example.com", "does not begin with http"),
        ("file:///etc/passwd", "does not begin with http"),
        ("gopher://example.com", "does not begin with http"),
        ("//example.com/x", "does not begin with http"),
        ("https:///x", "names no host"),
        ("https://user:word@example.com/", "or a user"),
        ("https://user@example.com/", "or a user"),
        ("https://example.com:x/", "is not a URL"),
        ("https://example.com:99999/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://example.com\\@127.0.0.1/", "a character that URLs do not"),
        ("https://exa mple.com/", "a character that URLs do not"),
        ("https://example.com/\r\nx: y", "a character that URLs do not"),
        ("https://exämple.com/", "a character that URLs do not"),
        ("https://example.com/" + "x" * 2000, "longer than 2000 characters"),
    ],
)
def test_what_is_no_url_to_go_to_is_refused(url: str, why: str) -> None:
    with pytest.raises(ApiError, match=why) as caught:
        check_url(url, DEFAULT)
    assert caught.value.status == 422


def test_settings_say_where_else_and_where_only() -> None:
    allowed = WebhookSettings(allow=["10.0.0.0/8", "hooks.internal", "*.test", "::1/128", "localhost"])
    for host in ("10.1.2.3", "[::ffff:10.1.2.3]", "[::1]", "localhost", "hooks.internal", "a.test"):
        assert check_url(f"http://{host}/", allowed)
    with pytest.raises(ApiError):
        check_url("http://11.test.localhost/", allowed)
    with pytest.raises(ApiError):
        check_url("http://192.168.0.1/", allowed)

    only = WebhookSettings(allowed_domains=["*.example.com"], allowed_ports=[443], require_https=True)
    assert check_url("https://api.example.com/", only)
    for url in ("https://example.com/", "https://api.example.com:444/", "http://api.example.com:443/",
                "https://api.example.com.evil.test/", "https://evilexample.com/"):  # fmt: skip
        with pytest.raises(ApiError):
            check_url(url, only)


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses."""

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_host_is_looked_up_once_and_all_its_addresses_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "8.8.8.8", "2606:4700::1111")
    parts, addresses = asyncio.run(resolve("https://example.com/", DEFAULT))
    assert (parts.hostname, addresses) == ("example.com", ["8.8.8.8", "2606:4700::1111"])

    for private in ("127.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"):
        answering(monkeypatch, "8.8.8.8", private)
        with pytest.raises(RefusedError, match="is not a public one"):
            asyncio.run(resolve("https://rebound.example.com/", DEFAULT))

    answering(monkeypatch)
    with pytest.raises(OSError, match="has no address"):
        asyncio.run(resolve("https://example.com/", DEFAULT))


def test_headers_name_variables_with_the_prefix_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", "t0k")
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    headers = {"authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "x-a": "plain"}
    assert with_variables(headers, "LG_WEBHOOK_") == {"authorization": "Bearer t0k", "x-a": "plain"}
    with pytest.raises(ValueError, match="does not begin with LG_WEBHOOK_"):
        with_variables({"x": "${{env.DATABASE_PASSWORD}}"}, "LG_WEBHOOK_")
    with pytest.raises(ValueError, match="which is not set"):
        with_variables({"x": "${{ env.LG_WEBHOOK_OTHER }}"}, "LG_WEBHOOK_")


@pytest.mark.parametrize(
    "settings",
    [{"attempts": 0}, {"max_url_length": 0}, {"allow": ["10.0.0.0/99"]}, {"secret": "whsec_***"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        WebhookSettings(**settings)
