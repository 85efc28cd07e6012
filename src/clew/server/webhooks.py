"""Where webhooks may go, and how they are signed.

A URL comes from whoever makes a run: it must not reach what only this service's network can reach. So its host is
looked up once, every address that it has must be a public one, and the connection goes to the address that was checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from clew.errors import ClewError
from clew.server.errors import ApiError

Address = IPv4Address | IPv6Address
SECRET = "CLEW_WEBHOOK_SECRET"  # the variable
_VARIABLE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_PORTS = {"http": 80, "https": 443}
_EMBEDDED = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))  # the last four bytes are an address of IPv4
_PROTOCOLS = IPv4Network("192.0.0.0/24")  # of which older Pythons know a part only
_NOT_PUBLIC = tuple(map(IPv6Network, ("64:ff9b:1::/48", "2001::/23", "fec0::/10", "100::/64", "5f00::/16")))


class RefusedError(ClewError):
    """A webhook may not go where its URL says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where webhooks may go, and how they are delivered.

    - `secret`: signs them, as in Standard Webhooks: `whsec_` and base64, or any text; several, separated by spaces,
      while one is replaced by another. None: that of the environment's `CLEW_WEBHOOK_SECRET`; without one they are not
      signed.
    - `allow`: hosts (`*.example.com` is all below it) and networks that may be reached although they are not public.
    - `allowed_domains`, `allowed_ports`: hosts and ports that alone may be reached; None: all.
    - `require_https`: `http` is refused. `max_url_length` is in characters.
    - `headers`: sent with each.
    - `attempts`: how often a delivery is tried before it is given up, in about nine hours by default; `timeout` is how
      long one attempt may take, `first_pause` how long the second waits; each later one waits three times as long, up
      to four hours.
    - `ssl_context`: for receivers whose certificates are not signed by a public authority.
    """

    secret: str | None = None
    allow: Sequence[str] = ()
    allowed_domains: Sequence[str] | None = None
    allowed_ports: Sequence[int] | None = None
    require_https: bool = False
    max_url_length: int = 2000
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    attempts: int = 10
    timeout: timedelta = timedelta(seconds=15)
    first_pause: timedelta = timedelta(seconds=5)
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.max_url_length < 1:
            raise ValueError("webhooks are tried at least once, and a URL has at least one character")
        if self.timeout <= timedelta(0) or self.first_pause < timedelta(0):
            raise ValueError(f"timeout {self.timeout} and first_pause {self.first_pause} are not durations")
        for name in self.allow:
            if "/" in name:
                ip_network(name)
        keys_of(self.secret)

    @property
    def keys(self) -> list[bytes]:
        """The keys that sign, the newest first."""
        return keys_of(os.environ.get(SECRET) if self.secret is None else self.secret)


def with_variables(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Headers in which `${{ env.NAME }}` is replaced by a variable of the environment, whose name begins with `prefix`;
    raises ValueError for others, and for one that is not set."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not name.startswith(prefix):
            raise ValueError(f"a header of webhooks names the variable {name}, which does not begin with {prefix}")
        if name not in os.environ:
            raise ValueError(f"a header of webhooks names the variable {name}, which is not set")
        return os.environ[name]

    return {name: _VARIABLE.sub(value, text) for name, text in headers.items()}


# Where


def check_url(url: str, settings: WebhookSettings) -> SplitResult:
    """The parts of a URL that may be tried; raises `ApiError` 422 for one that is refused as it stands."""
    try:
        return _parts(url, settings)
    except RefusedError as error:
        raise ApiError(422, f"webhook: {error}", hint=error.hint) from None


async def resolve(url: str, settings: WebhookSettings) -> tuple[SplitResult, list[str]]:
    """The parts of a URL, and the addresses of its host, all of which may be reached; raises `RefusedError`, and
    OSError for a host that is not found."""
    import asyncio  # late, for start-up time

    parts = _parts(url, settings)
    host = parts.hostname or ""
    found = await asyncio.get_running_loop().getaddrinfo(host, port_of(parts), type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
    if not addresses:
        raise OSError(f"host {host!r} has no address")
    for address in addresses:
        _check_address(host, ip_address(address), settings)
    return parts, addresses


def port_of(parts: SplitResult) -> int:
    """The port that a URL means."""
    return parts.port or _PORTS[parts.scheme]


def is_public(address: Address) -> bool:
    """Whether an address can be anybody's: not this machine's, a private network's, or one with a special meaning."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in network for network in _EMBEDDED):
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner) and address not in _EMBEDDED[1]
        if any(address in network for network in _NOT_PUBLIC):
            return False
    return (
        address.is_global
        and address not in _PROTOCOLS
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_private
        and not address.is_link_local
    )


def _parts(url: str, settings: WebhookSettings) -> SplitResult:
    if len(url) > settings.max_url_length:
        raise RefusedError(f"its URL is longer than {settings.max_url_length} characters")
    if not url.isascii() or any(character <= " " or character in '\\"<>^`{|}\x7f' for character in url):
        raise RefusedError("its URL holds a character that URLs do not", hint="encode it: %20, xn--...")
    try:
        parts = urlsplit(url)
        port = port_of(parts) if parts.scheme in _PORTS else 0
    except ValueError as error:
        raise RefusedError(f"{url!r} is not a URL: {error}") from None
    if not parts.scheme and not parts.netloc:
        raise RefusedError("a relative URL means an application of the platform's own", hint="send the whole URL")
    if parts.scheme not in _PORTS:
        raise RefusedError(f"its URL does not begin with http:// or https://, but with {parts.scheme!r}")
    if settings.require_https and parts.scheme != "https":
        raise RefusedError("its URL does not begin with https://")
    host = parts.hostname
    if not host or parts.username is not None or parts.password is not None:
        raise RefusedError("its URL names no host, or a user", hint="put credentials into headers of your own")
    if settings.allowed_ports is not None and port not in settings.allowed_ports:
        raise RefusedError(f"port {port} is not one of those that webhooks may go to")
    if settings.allowed_domains is not None and not _is_named(host, settings.allowed_domains):
        raise RefusedError(f"host {host!r} is not one of those that webhooks may go to")
    literal = _literal(host)
    if literal is not None:
        _check_address(host, literal, settings)
    elif _is_named(host, ("localhost", "*.localhost")) and not _is_named(host, settings.allow):
        raise _not_public(host)
    return parts


def _check_address(host: str, address: Address, settings: WebhookSettings) -> None:
    if is_public(address) or _is_named(host, settings.allow):
        return
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    for name in settings.allow:
        if "/" in name and any(each in ip_network(name) for each in (address, inner) if each is not None):
            return
    raise _not_public(host)


def _not_public(host: str) -> RefusedError:
    return RefusedError(
        f"host {host!r} is not a public one", hint="the service's settings say which others it may reach"
    )


def _is_named(host: str, names: Sequence[str]) -> bool:
    host = host.rstrip(".").lower()
    for name in names:
        name = name.lower()
        if host == name or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def _literal(host: str) -> Address | None:
    """The address that a host is, in every way in which one can be written: 127.1 and 0x7f000001 are such ways."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


# Whose


def keys_of(secret: str | None) -> list[bytes]:
    """The keys in a secret, which may be several."""
    keys: list[bytes] = []
    for each in (secret or "").split():
        if not each.startswith("whsec_"):
            keys.append(each.encode())
            continue
        try:
            keys.append(base64.b64decode(each.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            raise ValueError("a webhook secret that begins with whsec_ goes on in base64") from None
    return keys


def signed(id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of Standard Webhooks for a body; `timestamp` in seconds since 1970. Without keys, unsigned ones."""
    headers = {"webhook-id": id, "webhook-timestamp": str(timestamp)}
    said = f"{id}.{timestamp}.".encode() + body
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()}" for key in keys]
    return {**headers, "webhook-signature": " ".join(signatures)} if signatures else headers
