"""One POST to an external, possibly hostile server: only to public addresses, limited in time and size.

The name is resolved once, and the connection goes to exactly the address that was checked. So a name that changes
its address between check and connection gains nothing. However the address is written, the last check is on the
address of the socket. The name itself stays in Host and in the TLS handshake. Redirects, proxies of the environment
and cookies are not used, and the response body is not read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Awaitable[list[str]]]

SECONDS_MAX = 10.0
CONNECTIONS_MAX = 10
# Additions to the standard library's non-global addresses: protocol assignments, the relay anycast, a cloud's inner
# server.
_REFUSED_V4 = tuple(ip_network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))
# Global unicast is 2000::/3; tunnels within it can carry any IPv4 address.
_UNICAST_V6 = ip_network("2000::/3")
_REFUSED_V6 = tuple(ip_network(net) for net in ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"))


NOT_PUBLIC = "the receiver's address is not public"


class AddressRefused(OSError):
    """The receiver's name resolves to an address that is not allowed."""


def is_allowed(address: str, *, loopback: bool = False) -> bool:
    """Return True if the address is allowed: public unicast addresses, and this machine itself if `loopback`."""
    try:
        ip: Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return loopback
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_unspecified:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in net for net in _REFUSED_V4)
    return ip in _UNICAST_V6 and not any(ip in net for net in _REFUSED_V6)


async def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a name. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class _CheckedResolver(AbstractResolver):
    """Resolver that returns only checked addresses; one refused address rejects the whole answer."""

    def __init__(self, lookup: Lookup, *, loopback: bool) -> None:
        self._lookup, self._loopback = lookup, loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = list(dict.fromkeys(await self._lookup(host, port)))
        if not addresses or not all(is_allowed(address, loopback=self._loopback) for address in addresses):
            raise AddressRefused("the receiver's name leads to an address that is not public")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        return None


class Poster:
    """An async context manager that posts to one URL; the name is resolved once while it is open."""

    def __init__(
        self, url: str, *, loopback: bool = False, seconds_max: float = SECONDS_MAX, lookup: Lookup = resolve_host
    ) -> None:
        self._url_text, self._loopback, self._seconds_max, self._lookup = url, loopback, seconds_max, lookup

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._lookup, loopback=self._loopback),
            socket_factory=self._checked_socket,
            ttl_dns_cache=None,
            limit=CONNECTIONS_MAX,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._seconds_max),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Post the body; return None if the receiver accepted it (2xx), else a short reason.

        A failure of the receiver never raises.
        """
        try:
            self._url = URL(self._url_text)
            self._check_literal()
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                answer.close()
                return None if 200 <= answer.status < 300 else f"answered {answer.status}"
        except TimeoutError:
            return f"no answer within {self._seconds_max:g} s"
        except AddressRefused as error:
            return str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Error texts contain the address, and with it the secret parts of the URL.
            cause = error.__cause__ or error
            return str(cause) if isinstance(cause, AddressRefused) else f"not reached ({type(error).__name__})"

    def _check_literal(self) -> None:
        """Check an address that is written in the URL: no resolver sees it. The library parses it, in any spelling."""
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise AddressRefused("the receiver's URL is neither http:// nor https://")
        try:
            ip_address(self._url.host)
        except ValueError:
            return
        if not is_allowed(self._url.host, loopback=self._loopback):
            raise AddressRefused(NOT_PUBLIC)

    def _checked_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for one address, the one that is connected to next: this check cannot be bypassed."""
        family, kind, protocol, _, (address, *_) = info
        if not is_allowed(str(address), loopback=self._loopback):
            raise AddressRefused(NOT_PUBLIC)
        return socket.socket(family, kind, protocol)
