"""One POST to a server out there, which may be hostile: only to public addresses, bounded in time and size.

The name is looked up once and the connection goes to the very address that was checked, so that a name which changes
its answer between look and connection gains nothing. Whatever the spelling of an address, what is looked at last is
what the socket is opened for. The name itself stays in Host and in the TLS handshake. No
redirect is followed, no proxy of the environment is used, no cookie is kept and the answer's body is not read.
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
# Beyond what the standard library calls not global: protocol assignments, the relay anycast, a cloud's inner server.
_REFUSED_V4 = tuple(ip_network(net) for net in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))
# Global unicast is 2000::/3; tunnels within it carry IPv4 addresses of anybody's choice.
_UNICAST_V6 = ip_network("2000::/3")
_REFUSED_V6 = tuple(ip_network(net) for net in ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"))


NOT_PUBLIC = "the receiver's address is not public"


class AddressRefused(OSError):
    """The receiver's name leads to an address that nothing is sent to."""


def is_allowed(address: str, *, loopback: bool = False) -> bool:
    """Whether anything may be sent there: public unicast addresses, and this machine itself if `loopback`."""
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
    """The addresses of a name. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in found]


class _CheckedResolver(AbstractResolver):
    """Gives out only addresses that were checked; one that is refused spoils the whole answer."""

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
    """An async context manager that posts to one URL; the name is looked up once while it is open."""

    def __init__(
        self, url: str, *, loopback: bool = False, seconds_max: float = SECONDS_MAX, lookup: Lookup = resolve_host
    ) -> None:
        self._said, self._loopback, self._seconds_max, self._lookup = url, loopback, seconds_max, lookup

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
        """None if the receiver took it (2xx), else in few words why not; never raises for what the receiver does."""
        try:
            self._url = URL(self._said)
            self._check_literal()
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                answer.close()
                return None if 200 <= answer.status < 300 else f"answered {answer.status}"
        except TimeoutError:
            return f"no answer within {self._seconds_max:g} s"
        except AddressRefused as error:
            return str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their texts hold the address, and with it what the URL has to hide.
            cause = error.__cause__ or error
            return str(cause) if isinstance(cause, AddressRefused) else f"not reached ({type(error).__name__})"

    def _check_literal(self) -> None:
        """An address written in the URL passes no resolver; read as the library reads it, in whatever spelling."""
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise AddressRefused("the receiver's URL is neither http:// nor https://")
        try:
            ip_address(self._url.host)
        except ValueError:
            return
        if not is_allowed(self._url.host, loopback=self._loopback):
            raise AddressRefused(NOT_PUBLIC)

    def _checked_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address, the very one that is connected to next: no way leads past this look."""
        family, kind, protocol, _, (address, *_) = info
        if not is_allowed(str(address), loopback=self._loopback):
            raise AddressRefused(NOT_PUBLIC)
        return socket.socket(family, kind, protocol)
